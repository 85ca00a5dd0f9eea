//! Rights that associations decide: an event waits until the associations before it are applied, and a wider view is announced.

use super::*;
use crate::domain::header::SubjectTerm;

const NAMED: &str = r#"
    [[grant]]
    id = "where-i-am-named"
    who = ["spiffe://customs.gov.pk/*"]
    actions = ["read"]
    filters = [{ parties = [{ participant = "$caller" }] }]
"#;

fn consignment() -> SubjectTerm {
    SubjectTerm { kind: 20, role: 1, value: "UCR-1".into(), issuer: String::new(), date: String::new() }
}

fn about_consignment(number: u32) -> NewEvent {
    event_of(&RoutingHeader { subjects: vec![consignment()], ..header("PK", number) })
}

fn bind(room: &Room, who: &'static str, sequence: u64) {
    let binding = NewBinding { sequence: Sequence(sequence), subject: consignment() };
    room.bindings.bound.lock().expect("no panic").push((who, binding));
}

#[tokio::test]
async fn an_event_is_judged_only_with_the_associations_before_it_applied() {
    let room = Room::new(NAMED);
    let mut stream = room.open(Start::Earliest).await;
    assert!(matches!(next(&mut stream).await, Ok(SessionMessage::Started { .. })));
    assert!(matches!(next(&mut stream).await, Ok(SessionMessage::CaughtUp { .. })));
    // The association stands at 1; the event that it opens to the reader follows at once, before the view has seen either.
    room.publish("PK", 1..=1).await;
    room.append(vec![about_consignment(2)]).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(next(&mut stream).now_or_never().is_none(), "judged before the associations were applied");

    bind(&room, CUSTOMS, 1);
    room.bindings.progress.send_replace(Sequence(2));
    let Ok(SessionMessage::VisibilityWidened { subject, position, incomplete: false }) = next(&mut stream).await else {
        panic!("the wider view is announced")
    };
    assert_eq!((subject, position.sequence), (consignment(), Sequence(1)));
    assert_eq!(events(&mut stream, 1).await, [2]);
}

#[tokio::test]
async fn rights_without_parties_wait_for_no_associations() {
    let room = Room::new(ALL);
    room.publish("PK", 1..=1).await;
    let mut stream = room.open(Start::Earliest).await;
    assert_eq!(events(&mut stream, 1).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_who_waits_for_associations_still_hears_from_the_node() {
    let room = Room::new(NAMED);
    room.append(vec![about_consignment(1)]).await;
    let mut stream = room.open(Start::Earliest).await;
    assert!(matches!(next(&mut stream).await, Ok(SessionMessage::Started { .. })));
    let Ok(SessionMessage::Progress { position, .. }) = next(&mut stream).await else { panic!("progress") };
    assert_eq!(position.sequence, Sequence::ZERO, "what was not judged is not examined");
}

#[tokio::test]
async fn what_a_former_name_is_bound_to_is_announced_too_in_order_and_once() {
    let former = "spiffe://customs.gov.pk/agency/old";
    let room = Room::new(NAMED);
    let successors = Successors::new(&[(id(CUSTOMS), id(former))]);
    room.access.replace(file::parse(NAMED, Path::new("policy.toml"), &successors).expect("a good policy"));
    let mut stream = room.open(Start::Earliest).await;
    assert!(matches!(next(&mut stream).await, Ok(SessionMessage::Started { .. })));
    assert!(matches!(next(&mut stream).await, Ok(SessionMessage::CaughtUp { .. })));
    for (who, sequence) in [(former, 1), (CUSTOMS, 2), (former, 2), ("spiffe://customs.gov.pk/agency/other", 2)] {
        bind(&room, who, sequence);
    }
    room.bindings.progress.send_replace(Sequence(3));
    room.publish("PK", 1..=2).await;
    room.append(vec![about_consignment(3)]).await;
    for expected in [1, 2] {
        let Ok(SessionMessage::VisibilityWidened { position, .. }) = next(&mut stream).await else {
            panic!("the wider view at {expected} is announced")
        };
        assert_eq!(position.sequence, Sequence(expected));
    }
    assert_eq!(events(&mut stream, 1).await, [3]);
}

/// The places of the associations announced next, and whether it is said that there were more; until something else is said.
async fn announced(stream: &mut SessionStream) -> (Vec<u64>, bool) {
    let (mut places, mut more) = (Vec::new(), false);
    loop {
        match next(stream).await.expect("the session goes on") {
            SessionMessage::VisibilityWidened { position, incomplete, .. } => {
                assert!(!incomplete || places.is_empty(), "said with the first");
                places.push(position.sequence.get());
                more |= incomplete;
            }
            SessionMessage::Started { .. } => {}
            _ => return (places, more),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn associations_between_the_views_place_and_the_start_are_announced_though_nothing_more_is_published() {
    let room = Room::new(NAMED);
    room.publish("PK", 1..=4).await;
    // What is applied was in force before the stream; the association at 3 comes into force after it has begun.
    bind(&room, CUSTOMS, 1);
    room.bindings.progress.send_replace(Sequence(2));
    let mut stream = room.open(Start::Latest).await;
    assert_eq!(announced(&mut stream).await, (vec![], false));
    bind(&room, CUSTOMS, 3);
    room.bindings.progress.send_replace(Sequence(3));
    assert_eq!(announced(&mut stream).await, (vec![3], false));
    room.bindings.progress.send_replace(Sequence(4));
    assert_eq!(announced(&mut stream).await, (vec![], false), "once");
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_is_told_what_was_opened_to_her_meanwhile_and_who_begins_is_not() {
    let room = Room::new(NAMED);
    room.publish("PK", 1..=4).await;
    room.append(vec![about_consignment(5)]).await;
    for place in [2, 4] {
        bind(&room, CUSTOMS, place);
    }
    room.bindings.progress.send_replace(Sequence(5));
    let Ok(SessionMessage::Started { after, .. }) = next(&mut room.open(Start::Latest).await).await else {
        panic!("started")
    };
    let at = |sequence| Start::After(Position { sequence: Sequence(sequence), ..after });
    for (start, expected) in [
        (at(1), vec![2, 4]),
        (at(3), vec![4]),
        (at(4), vec![]),
        (at(0), vec![]),
        (Start::Earliest, vec![]),
        (Start::Since(START_NS), vec![]),
        (Start::Latest, vec![]),
    ] {
        assert_eq!(announced(&mut room.open(start).await).await, (expected, false), "{start:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_view_is_behind_her_position_she_is_not_told_again_of_what_stands_before_it() {
    let room = Room::new(NAMED);
    room.publish("PK", 1..=4).await;
    let Ok(SessionMessage::Started { after, .. }) = next(&mut room.open(Start::Latest).await).await else {
        panic!("started")
    };
    // The node has started anew, and reads back what is bound.
    let mut stream = room.open(Start::After(Position { sequence: Sequence(3), ..after })).await;
    assert_eq!(announced(&mut stream).await, (vec![], false));
    for place in [1, 4] {
        bind(&room, CUSTOMS, place);
    }
    room.bindings.progress.send_replace(Sequence(4));
    assert_eq!(announced(&mut stream).await, (vec![4], false));
}

#[tokio::test(start_paused = true)]
async fn that_more_was_opened_than_is_named_is_said_once_and_never_lost() {
    let room = Room::new(NAMED);
    room.publish("PK", 1..=400).await;
    room.bindings.progress.send_replace(Sequence(1));
    let mut stream = room.open(Start::Latest).await;
    assert_eq!(announced(&mut stream).await, (vec![], false));
    // All that is named still stands beyond what is applied so far.
    for place in 301..=400 {
        bind(&room, CUSTOMS, place);
    }
    *room.bindings.forgotten_through.lock().expect("no panic") = Sequence(150);
    room.bindings.progress.send_replace(Sequence(200));
    assert_eq!(announced(&mut stream).await, (vec![], false));
    room.bindings.progress.send_replace(Sequence(400));
    assert_eq!(announced(&mut stream).await, ((301..=400).collect(), true));
}
