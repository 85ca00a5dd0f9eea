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
    let Ok(SessionMessage::VisibilityWidened { subject, position }) = next(&mut stream).await else {
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
