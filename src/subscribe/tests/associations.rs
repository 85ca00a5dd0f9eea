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

    room.bindings.bound.lock().expect("no panic").push(NewBinding { sequence: Sequence(1), subject: consignment() });
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
