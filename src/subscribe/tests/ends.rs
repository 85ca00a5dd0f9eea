//! How sessions end: with the reason, and with the place to go on from, after which nothing was handed out.

use super::*;

const AT_HOME: &str = r#"
    [[grant]]
    id = "all"
    who = ["spiffe://customs.gov.pk/*"]
    actions = ["read"]
    filters = [{ places = [{ country_code = "PK" }] }]
"#;

#[tokio::test]
async fn without_a_grant_there_is_no_session() {
    let room = Room::new("");
    let refused = room.open_with(Start::Earliest, Vec::new()).await.err();
    assert_eq!(refused, Some(SubscribeError::NoReadGrant));
}

#[tokio::test]
async fn a_changed_policy_ends_the_stream_with_its_position() {
    let room = Room::new(ALL);
    room.publish("PK", 1..=3).await;
    let mut stream = room.open(Start::Earliest).await;
    events(&mut stream, 3).await;
    room.access.replace(policy(AT_HOME));
    room.publish("CL", 4..=4).await;
    let (end, seen) = end(&mut stream).await;
    assert_eq!(seen, Vec::<u64>::new(), "nothing is handed out under the old rights");
    assert_eq!((end.reason, end.resume.sequence), (EndReason::RightsChanged, Sequence(3)));
}

#[tokio::test]
async fn withdrawn_rights_hide_even_what_was_prepared_for_the_reader() {
    let room = Room::new(ALL);
    room.publish("PK", 1..=2_000).await;
    let mut stream = room.open(Start::Earliest).await;
    let first = events(&mut stream, 1).await;
    // The session fills the window now, which the reader does not take.
    let info = Arc::clone(&room.subscriptions.sessions().list()[0]);
    while info.reached().get() < 4 * 256 {
        tokio::task::yield_now().await;
    }
    room.access.replace(policy(""));
    while room.subscriptions.sessions().count() != 0 {
        tokio::task::yield_now().await;
    }
    let (end, seen) = end(&mut stream).await;
    assert_eq!(seen, Vec::<u64>::new());
    assert_eq!(end.reason, EndReason::RightsWithdrawn);
    assert_eq!(Some(&end.resume.sequence.get()), first.last(), "she goes on after what she has");
}

#[tokio::test]
async fn a_reload_that_leaves_the_reader_her_rights_ends_nothing() {
    let room = Room::new(ALL);
    let mut stream = room.open(Start::Earliest).await;
    let others = r#"
        [[grant]]
        id = "others"
        who = ["spiffe://port.gov.pk/*"]
        actions = ["read", "publish"]
        filters = [{ all = true }]
    "#;
    room.access.replace(policy(&format!("{others}{ALL}")));
    room.publish("PK", 1..=1).await;
    assert_eq!(events(&mut stream, 1).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_expires_ends_the_stream_and_shows_nothing_more() {
    let expires = format!("{ALL}\nexpires_time = 2026-09-21T14:14:00Z\n");
    let room = Room::new(&expires);
    room.publish("PK", 1..=1).await;
    let mut stream = room.open(Start::Earliest).await;
    assert_eq!(events(&mut stream, 1).await, [1]);
    room.clock.advance_ns(1_000_000_000 * 3_000);
    room.publish("PK", 2..=2).await;
    let (end, seen) = end(&mut stream).await;
    assert_eq!((end.reason, end.resume.sequence, seen), (EndReason::RightsWithdrawn, Sequence(1), vec![]));
}

#[tokio::test(start_paused = true)]
async fn the_certificates_end_is_the_streams_end() {
    let room = Room::new(ALL);
    let mut stream = room.open(Start::Earliest).await;
    assert!(matches!(next(&mut stream).await, Ok(SessionMessage::Started { .. })));
    room.clock.advance_ns(3_600_000_000_000);
    let (end, _) = end(&mut stream).await;
    assert_eq!(end.reason, EndReason::CertificateEnded);
}

#[tokio::test]
async fn a_closing_connection_and_a_stopping_node_say_so() {
    let room = Room::new(ALL);
    room.publish("PK", 1..=2).await;
    let caller = caller();
    let asked = || Asked { start: Start::Earliest, filters: Vec::new() };
    let mut stream = room.subscriptions.open(caller.clone(), asked()).await.expect("a session");
    events(&mut stream, 2).await;
    caller.closing_reason.set("the certificate was revoked".into()).expect("set once");
    caller.closing.cancel();
    let (closed, _) = end(&mut stream).await;
    assert_eq!(closed.reason, EndReason::ConnectionClosing("the certificate was revoked".into()));

    let mut stream = room.open(Start::Earliest).await;
    events(&mut stream, 2).await;
    room.draining.cancel();
    let (stopped, _) = end(&mut stream).await;
    assert_eq!((stopped.reason, stopped.resume.sequence), (EndReason::Draining, Sequence(2)));
    let refused = room.open_with(Start::Earliest, Vec::new()).await.err();
    assert_eq!(refused, Some(SubscribeError::Draining));
}

#[tokio::test(start_paused = true)]
async fn a_stalled_reader_costs_its_window_and_is_ended_with_its_resume_point() {
    let room = Room::new(ALL);
    for block in 0..20 {
        room.publish("PK", block * 500 + 1..=(block + 1) * 500).await;
    }
    let mut stream = room.open(Start::Earliest).await;
    let first = events(&mut stream, 1).await;
    let info = Arc::clone(&room.subscriptions.sessions().list()[0]);
    while room.subscriptions.sessions().count() != 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let window = (SessionLimits::default().window_messages_max as u64 + 1) * 256;
    assert!(info.reached().get() <= window, "{} events were prepared", info.reached());
    let (end, seen) = end(&mut stream).await;
    assert_eq!(end.reason, EndReason::ReaderStalled { stalled_max: Duration::from_secs(60) });
    let last = seen.last().or(first.last()).copied();
    assert_eq!(Some(end.resume.sequence.get()), last, "the resume point is after what she has");
}

#[tokio::test]
async fn history_that_is_dropped_under_a_reader_ends_the_stream() {
    let room = Room::new(ALL);
    room.publish("PK", 1..=9).await;
    let refused = {
        room.log.drop_before(Sequence(5));
        let epoch = room.log.epochs()[0].epoch;
        room.open_with(Start::After(Position { epoch, sequence: Sequence(3) }), Vec::new()).await.err()
    };
    assert!(matches!(refused, Some(SubscribeError::Start(StartError::NotRetained { .. }))), "{refused:?}");
}

#[test]
fn a_header_that_cannot_be_read_is_never_passed_over() {
    let rights = policy(ALL).rights(&id(CUSTOMS));
    let bindings = Arc::new(TestBindings::default());
    let sight = sight::Sight::new(rights, Arc::default(), bindings, id(NODE), START_NS);
    let NewEvent { header, signed, .. } = event("PK", 1);
    let whole = Record { sequence: Sequence(1), accepted_time_ns: START_NS, origin: None, header, signed };
    assert_eq!(sight.admits(&whole, START_NS), Ok(true));
    let cut = Record { header: whole.header.slice(..whole.header.len() - 1), ..whole };
    assert!(matches!(sight.admits(&cut, START_NS), Err(LogError::Damaged(_))));
}

#[tokio::test]
async fn there_is_a_limit_of_sessions() {
    let room = Room::with_limits(ALL, SessionLimits { sessions_max: 1, ..SessionLimits::default() });
    let first = room.open(Start::Latest).await;
    let refused = room.open_with(Start::Latest, Vec::new()).await.err();
    assert_eq!(refused, Some(SubscribeError::TooManySessions { sessions_max: 1 }));
    drop(first);
    while room.subscriptions.sessions().count() != 0 {
        tokio::task::yield_now().await;
    }
    assert!(room.open_with(Start::Latest, Vec::new()).now_or_never().is_some_and(|opened| opened.is_ok()));
}
