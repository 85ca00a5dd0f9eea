//! Arrival does not matter: a story comes to the same in whatever order its events are stored, sent twice, corrected before the original,
//! or read back after the views are lost.

use super::*;
use crate::{
    log::{AppendBatch, AppendMode, EventLog},
    views::test_node::from_elsewhere,
    wire::proto::TimePrecision,
};

/// A story with everything in it: two declarations, two authorities' holds, items, a revocation, coarse times, revisions.
fn story() -> Vec<Event> {
    let (first, second) = (declaration("D-1"), declaration("D-2"));
    let about_first = [first.clone(), container(1)];
    let about_second = [second.clone(), container(2)];
    let wrong = step(CUSTOMS, 30, ClearanceStep::Refused, &about_first);
    let mistaken = hold(CUSTOMS, 31, HoldStep::Placed, "H-9", &about_first);
    let late = step(CUSTOMS, 90, ClearanceStep::Released, &about_second);
    let void = declaration("D-3");
    let detached = tied(8, AssociationStep::Detached, &container(2), std::slice::from_ref(&void), false);
    let mut day = step(CUSTOMS, 2, ClearanceStep::Cleared, &about_second);
    day.time_precision = TimePrecision::Day.into();
    vec![
        attached(0, &bill("B-1"), &[container(1), container(2), first.clone(), second.clone()], true),
        step(CUSTOMS, 1, ClearanceStep::Lodged, &about_first),
        step(CUSTOMS, 2, ClearanceStep::Accepted, &about_first),
        step(CUSTOMS, 2, ClearanceStep::Assessed, &about_first),
        hold(PLANTS, 3, HoldStep::Placed, "P-1", &about_first),
        hold(CUSTOMS, 4, HoldStep::Placed, "H-1", &about_first),
        hold(CUSTOMS, 10, HoldStep::Lifted, "H-1", &about_first),
        items(CUSTOMS, 20, ClearanceStep::Released, &[first], &[1]),
        wrong.clone(),
        wrong.corrected(|event| {
            let released = proto::Clearance { step: ClearanceStep::Released.into(), ..proto::Clearance::default() };
            event.body = Some(Body::Clearance(released));
        }),
        mistaken.clone(),
        mistaken.retracted(),
        // Its lift names nothing of the goods.
        hold(PLANTS, 3, HoldStep::Placed, "P-2", &about_second),
        hold(PLANTS, 9, HoldStep::Lifted, "P-2", &[subject(IdentifierKind::Seal, "S-2", "")]),
        step(KABUL, 1, ClearanceStep::Accepted, &about_second),
        late.clone(),
        late.corrected(|event| event.event_time = Some(events::timestamp(at(5)))),
        step(CUSTOMS, 6, ClearanceStep::ReleaseRevoked, &about_second),
        step(CUSTOMS, 7, ClearanceStep::Released, &about_second),
        day.with_id(),
        // A third declaration named the second container, was voided, and is that container's no more: whenever that comes.
        step(CUSTOMS, 1, ClearanceStep::Lodged, &[void.clone(), container(2)]),
        step(CUSTOMS, 3, ClearanceStep::Invalidated, std::slice::from_ref(&void)),
        Event { publisher: CUSTOMS.into(), ..detached }.with_id(),
    ]
}

fn asked() -> [proto::Subject; 5] {
    [declaration("D-1"), declaration("D-2"), bill("B-1"), container(1), container(2)]
}

async fn answers(node: &TestNode) -> Vec<String> {
    let mut answers = Vec::new();
    for subject in asked() {
        answers.push(all(node, &subject).await);
    }
    answers
}

#[tokio::test]
async fn any_order_of_arrival_and_any_repetition_come_to_the_same() {
    let seed = std::env::var("TRADELANE_CLEARANCE_SEED").ok().and_then(|text| text.parse().ok());
    let seeds: Vec<u64> = seed.map_or_else(|| (1..=60).collect(), |seed| vec![seed]);
    let in_order = TestNode::start();
    for event in story() {
        in_order.append(vec![from_elsewhere(&event)]).await;
    }
    let expected = answers(&in_order).await;
    assert_eq!(
        expected,
        [
            "D-1=released 1:released; held plants.gov.pk/P-1; Complete -> [HoldOpen]",
            "D-2=cleared; Complete -> may leave",
            "D-1=released 1:released; D-2=cleared; held plants.gov.pk/P-1; Complete -> [HoldOpen]",
            "D-1=released 1:released; held plants.gov.pk/P-1; Complete -> [HoldOpen]",
            "D-2=cleared; Complete -> may leave",
        ]
    );
    for seed in seeds {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut events = story();
        let again: Vec<Event> = events.iter().filter(|_| random.u8(..4) == 0).cloned().collect();
        events.extend(again);
        random.shuffle(&mut events);
        let node = TestNode::start();
        for event in &events {
            let batch = AppendBatch { events: vec![from_elsewhere(event)], mode: AppendMode::AllOrNothing };
            node.log.append(batch).await.expect("taken");
        }
        node.caught_up().await;
        assert_eq!(answers(&node).await, expected, "TRADELANE_CLEARANCE_SEED={seed}");
    }
}

#[tokio::test]
async fn what_was_revised_is_told_with_what_revised_it() {
    let node = TestNode::start();
    node.store(&story()).await;
    let found = found(&node, &reads_all(CUSTOMS), &container(1)).await.clearance.expect("an answer");
    let revised: Vec<String> =
        found.revised.iter().map(|(filed, by)| format!("{} {by}", filed.decoded.event_id)).collect();
    let story = story();
    let pair = |index: usize| format!("{} {}", story[index].event_id, story[index + 1].event_id);
    assert_eq!(revised, [pair(8), pair(10)]);
}

#[tokio::test]
async fn what_makes_a_coverage_complete_is_told_in_the_order_of_statements() {
    let (d, boxed) = (declaration("D-1"), container(1));
    let by_two = |first: &str, minutes| attached(minutes, &bill(first), &[boxed.clone(), d.clone()], true);
    // The second bill was stated first.
    let stated = [by_two("B-1", 9), by_two("B-2", 1)];
    for order in [[0, 1], [1, 0]] {
        let node = TestNode::start();
        for index in order {
            node.store(&[stated[index].clone()]).await;
        }
        let found = found(&node, &reads_all(CUSTOMS), &boxed).await.clearance.expect("an answer");
        let said_by: Vec<String> = found.coverage_by.iter().map(|filed| filed.decoded.event_id.to_string()).collect();
        assert_eq!(said_by, [&*stated[1].event_id, &*stated[0].event_id]);
    }
}

#[tokio::test]
async fn a_correction_moves_a_step_to_another_declaration() {
    let node = TestNode::start();
    let wrong = step(CUSTOMS, 1, ClearanceStep::Released, &[declaration("D-1")]);
    node.store(&[step(CUSTOMS, 0, ClearanceStep::Accepted, &[declaration("D-1")]), wrong.clone()]).await;
    assert_eq!(all(&node, &declaration("D-1")).await, "D-1=released; Complete -> may leave");
    let right = wrong.corrected(|event| event.subjects = vec![declaration("D-2")]);
    node.store(std::slice::from_ref(&right)).await;
    assert_eq!(all(&node, &declaration("D-1")).await, "D-1=accepted; Complete -> [NotReleased]");
    assert_eq!(all(&node, &declaration("D-2")).await, "D-2=released incomplete; Complete -> may leave");
    node.store(&[right.retracted()]).await;
    assert_eq!(all(&node, &declaration("D-2")).await, "Complete -> [NotReleased]");
}

#[tokio::test]
async fn views_that_are_lost_or_rebuilt_come_to_the_same() {
    let node = TestNode::start();
    node.store(&story()).await;
    let before = answers(&node).await;
    for view in [&node.search_view, &node.associations_view] {
        let mut rebuild = view.rebuild().expect("begun");
        rebuild.wait_for(|progress| progress.done).await.expect("it ends");
        assert_eq!(answers(&node).await, before);
    }
    let again = TestNode::start_over(Arc::clone(&node.log));
    again.caught_up().await;
    assert_eq!(answers(&again).await, before);
}
