//! What is told of an event's part in clearances: each part, and that nothing is told of what the caller may not read.

use super::*;
use crate::{
    api::queries::tests::{OPERATOR, caller, private, queries},
    domain::Sequence,
    testing::events::{CARRIER, CUSTOMS, TERMINAL, Voyage},
    views::test_node::{NOW_NS, TestNode},
    wire::proto::{ClearancePart, Event},
};

/// By the number of the goods: the part of an event in their clearance, and why.
async fn parts(queries: &Queries, who: &str, event: &Event) -> Vec<(String, ClearancePart, String)> {
    let ask = ExplainEventRequest { event_id: event.event_id.clone(), publisher: event.publisher.clone() };
    let answer = queries.explain_event(&caller(who), ask).await.expect("an explanation");
    assert_eq!((answer.clearances_omitted, answer.clearances_withheld), (0, false));
    let told = answer.clearances.into_iter().map(|one| {
        let part = one.part();
        (one.subject.expect("said").value, part, one.reason)
    });
    told.collect()
}

#[tokio::test]
async fn the_part_of_an_event_in_clearances_is_told_to_who_may_read_it() {
    let node = TestNode::start();
    let queries = queries(&node);
    let voyage = Voyage::new(1, NOW_NS);
    node.store(&voyage.events()[..5]).await;
    let (container, declaration) = (&*voyage.container, &*voyage.declaration);
    let lifecycle = |step: u32, what: &str| format!("step {step} of the lifecycle of {declaration}: {what}");
    let hold = |is: &str| format!("the hold H-{declaration} of customs.gov.pk is {is}");
    let both = async |who: &str, event: &Event, part: ClearancePart, reason: &str| {
        let mut told = parts(&queries, who, event).await;
        told.sort_by(|left, right| right.0.cmp(&left.0));
        let expected = [container, declaration].map(|goods| (goods.to_owned(), part, reason.to_owned()));
        assert_eq!(told, expected);
    };
    both(CUSTOMS, &voyage.lodged(), ClearancePart::Step, &lifecycle(1, "it sets the state")).await;
    both(CUSTOMS, &voyage.held(), ClearancePart::OpenHold, &hold("open")).await;
    let told = parts(&queries, TERMINAL, &voyage.discharged()).await;
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|(_, part, _)| *part == ClearancePart::None), "{told:?}");
    assert_eq!(parts(&queries, TERMINAL, &voyage.vessel_arrived()).await, [], "no goods are cleared by it");
    let told = parts(&queries, CARRIER, &voyage.attached()).await;
    assert_eq!(told.len(), 3);
    for (goods, part, reason) in told {
        assert_eq!(part, ClearancePart::Association);
        // A declaration covers itself: nobody needs to say so.
        assert_eq!(reason.starts_with("with it all"), goods != declaration, "{goods}: {reason}");
    }

    // The goods go on, and a step is taken back that never should have followed.
    let impossible = voyage.lodged().corrected(|event| event.revision = None);
    node.store(&[voyage.lifted(), voyage.released()]).await;
    both(CUSTOMS, &voyage.lodged(), ClearancePart::Step, &lifecycle(1, "another step sets the state")).await;
    both(CUSTOMS, &voyage.held(), ClearancePart::EndedHold, &hold("not open")).await;
    both(CUSTOMS, &voyage.lifted(), ClearancePart::EndedHold, &hold("not open")).await;
    let later = Event { event_time: voyage.gated_out().event_time, ..impossible }.with_id();
    node.store(&[later.clone(), voyage.held().retracted()]).await;
    let odd = lifecycle(3, "it sets the state; the state before does not allow the move");
    both(CUSTOMS, &later, ClearancePart::Step, &odd).await;
    let by = format!("{} took its place", voyage.held().retracted().event_id);
    both(CUSTOMS, &voyage.held(), ClearancePart::Revised, &by).await;
    let back = format!("it takes back {}", voyage.held().event_id);
    both(CUSTOMS, &voyage.held().retracted(), ClearancePart::Retraction, &back).await;
}

#[tokio::test]
async fn who_operates_the_node_and_may_not_read_the_event_is_told_nothing_of_its_goods() {
    let node = TestNode::start();
    let queries = queries(&node);
    let voyage = Voyage::new(1, NOW_NS);
    let (held, open) = (private(voyage.held()), voyage.lodged());
    node.store(&[held.clone(), open.clone()]).await;
    for event in [&held, &open] {
        let ask = ExplainEventRequest { event_id: event.event_id.clone(), publisher: CUSTOMS.into() };
        let answer = queries.explain_event(&caller(OPERATOR), ask).await.expect("an explanation");
        assert_eq!((answer.clearances.len(), answer.clearances_withheld), (0, true));
    }
    assert_eq!(parts(&queries, CUSTOMS, &held).await.len(), 2, "its publisher reads her own");
}

#[tokio::test]
async fn goods_beyond_the_limit_are_counted_and_an_event_that_no_view_has_is_not_judged() {
    let node = TestNode::start();
    let queries = queries(&node);
    let mut held = Voyage::new(0, NOW_NS).held();
    held.subjects.extend((1..20).map(|n| Voyage::new(n, NOW_NS).container_subject()));
    let held = held.with_id();
    let places = node.store(std::slice::from_ref(&held)).await;
    let ask = ExplainEventRequest { event_id: held.event_id.clone(), publisher: CUSTOMS.into() };
    let answer = queries.explain_event(&caller(CUSTOMS), ask).await.expect("an explanation");
    assert_eq!((answer.clearances.len(), answer.clearances_omitted), (16, 5));
    assert!(answer.clearances.iter().all(|one| one.part() == ClearancePart::OpenHold));

    let rights = queries.rights(&caller(CUSTOMS));
    let found =
        queries.parts.log.find(caller(CUSTOMS).id, crate::domain::EventId::parse(&held.event_id).expect("an id"));
    let mut record = found.await.expect("readable").expect("stored");
    record.sequence = Sequence(places[0].get() + 1);
    let (told, ..) = queries.clearance_reach(&rights, &record, None, NOW_NS).await.expect("told");
    assert!(told.iter().all(|one| one.part() == ClearancePart::NotYet), "{told:?}");
}
