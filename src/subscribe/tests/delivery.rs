//! What is delivered: all of it, once, in order, and nothing that filters or grants leave out.

use super::*;

#[tokio::test]
async fn stored_events_come_first_and_live_ones_follow() {
    let room = Room::new(ALL);
    room.publish("PK", 1..=3).await;
    let mut stream = room.open(Start::Earliest).await;
    let Ok(SessionMessage::Started { after, narrowing }) = next(&mut stream).await else { panic!("first of all") };
    assert_eq!(after.sequence, Sequence::ZERO);
    assert_eq!(narrowing.grant_ids, ["all"]);
    assert_eq!(events(&mut stream, 3).await, [1, 2, 3]);
    let Ok(SessionMessage::CaughtUp { position }) = next(&mut stream).await else { panic!("caught up") };
    assert_eq!(position.sequence, Sequence(3));
    room.publish("PK", 4..=4).await;
    assert_eq!(events(&mut stream, 1).await, [4]);
}

#[tokio::test]
async fn full_batches_are_bounded_and_lose_nothing() {
    let room = Room::new(ALL);
    room.publish("PK", 1..=1_000).await;
    let mut stream = room.open(Start::Earliest).await;
    let mut seen = Vec::new();
    while seen.len() < 1_000 {
        if let SessionMessage::Events(records) = next(&mut stream).await.expect("going on") {
            assert!((1..=256).contains(&records.len()));
            seen.extend(records.iter().map(|record| record.sequence.get()));
        }
    }
    assert_eq!(seen, (1..=1_000).collect::<Vec<u64>>());
}

#[tokio::test]
async fn latest_begins_at_the_end_and_since_at_a_time() {
    let room = Room::new(ALL);
    room.publish("PK", 1..=2).await;
    room.clock.advance_ns(1_000);
    room.publish("PK", 3..=3).await;
    let mut latest = room.open(Start::Latest).await;
    let mut since = room.open(Start::Since(START_NS + 500)).await;
    room.publish("PK", 4..=4).await;
    assert_eq!(events(&mut latest, 1).await, [4]);
    assert_eq!(events(&mut since, 2).await, [3, 4]);
}

#[tokio::test]
async fn filters_and_grants_both_must_admit() {
    let room = Room::new(
        r#"
        [[grant]]
        id = "at-home"
        who = ["spiffe://customs.gov.pk/*"]
        actions = ["read"]
        filters = [{ places = [{ country_code = "PK" }] }]
        "#,
    );
    for (number, country) in (1..=4).zip(["PK", "CL", "CN", "PK"]) {
        room.publish(country, number..=number).await;
    }
    let hidden = RoutingHeader { audience: AudienceTerm::Private, ..header("PK", 5) };
    room.append(vec![event_of(&hidden)]).await;
    room.publish("PK", 6..=6).await;

    let mut unfiltered = room.open(Start::Earliest).await;
    assert_eq!(events(&mut unfiltered, 3).await, [1, 4, 6]);
    let wide = vec![in_country("PK"), in_country("CL")];
    let mut filtered = room.open_with(Start::Earliest, wide).await.expect("a session");
    let Ok(SessionMessage::Started { narrowing, .. }) = next(&mut filtered).await else { panic!("first of all") };
    assert!(narrowing.narrowed);
    assert_eq!(narrowing.narrowed_filters, [1]);
    assert_eq!(events(&mut filtered, 3).await, [1, 4, 6]);
    let mut none = room.open_with(Start::Earliest, vec![in_country("CL")]).await.expect("a session");
    assert!(matches!(next(&mut none).await, Ok(SessionMessage::Started { .. })));
    assert!(
        matches!(next(&mut none).await, Ok(SessionMessage::CaughtUp { position }) if position.sequence == Sequence(6))
    );
}

#[tokio::test]
async fn who_may_only_publish_reads_her_own_events() {
    let publishing = ALL.replace("\"read\"", "\"publish\"");
    let room = Room::new(&publishing);
    room.publish("PK", 1..=2).await;
    room.append(vec![event_of(&RoutingHeader { publisher: id(CUSTOMS), ..header("PK", 3) })]).await;
    let mut stream = room.open(Start::Earliest).await;
    let Ok(SessionMessage::Started { narrowing, .. }) = next(&mut stream).await else { panic!("first of all") };
    assert!(narrowing.narrowed);
    assert_eq!(events(&mut stream, 1).await, [3]);
}

#[tokio::test]
async fn whether_the_log_skips_blocks_changes_nothing_that_is_seen() {
    let room = Room::new(ALL);
    for number in 1..=60 {
        room.publish(if number % 7 == 0 { "CL" } else { "PK" }, number..=number).await;
    }
    for honours in [true, false] {
        room.log.honour_terms(honours);
        let mut stream = room.open_with(Start::Earliest, vec![in_country("CL")]).await.expect("a session");
        assert_eq!(events(&mut stream, 8).await, [7, 14, 21, 28, 35, 42, 49, 56]);
    }
}

#[tokio::test(start_paused = true)]
async fn while_nothing_matches_the_reader_learns_how_far_the_node_has_looked() {
    let room = Room::new(ALL);
    let mut stream = room.open_with(Start::Earliest, vec![in_country("CL")]).await.expect("a session");
    assert!(matches!(next(&mut stream).await, Ok(SessionMessage::Started { .. })));
    assert!(matches!(next(&mut stream).await, Ok(SessionMessage::CaughtUp { .. })));
    room.publish("PK", 1..=5).await;
    let before = tokio::time::Instant::now();
    let Ok(SessionMessage::Progress { position, time_ns }) = next(&mut stream).await else { panic!("progress") };
    assert!(before.elapsed() <= Duration::from_secs(10), "promised every 10 s at least");
    assert_eq!((position.sequence, time_ns), (Sequence(5), START_NS));
}

#[tokio::test]
async fn a_reader_that_resumes_gets_each_event_exactly_once() {
    let room = Room::new(ALL);
    room.publish("PK", 1..=700).await;
    let mut seen: Vec<u64> = Vec::new();
    let mut start = Start::Earliest;
    while seen.len() < 700 {
        let mut stream = room.open(start).await;
        // The connection breaks after one batch.
        let got = events(&mut stream, 1).await;
        let epoch = room.log.epochs()[0].epoch;
        let last = *got.last().expect("at least one");
        seen.extend(got);
        start = Start::After(Position { epoch, sequence: Sequence(last) });
    }
    assert_eq!(seen, (1..=700).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_reader_who_lags_is_told_and_told_again_when_she_has_caught_up() {
    let room = Room::new(ALL);
    let mut stream = room.open(Start::Earliest).await;
    assert!(matches!(next(&mut stream).await, Ok(SessionMessage::Started { .. })));
    assert!(matches!(next(&mut stream).await, Ok(SessionMessage::CaughtUp { .. })));
    for block in 0..15 {
        room.publish("PK", block * 1_000 + 1..=(block + 1) * 1_000).await;
    }
    let (mut fell_behind, mut events) = (false, 0);
    loop {
        match next(&mut stream).await.expect("going on") {
            SessionMessage::Events(records) => events += records.len(),
            SessionMessage::FellBehind { lag_events, position } => {
                assert_eq!(lag_events, 15_000 - position.sequence.get());
                fell_behind = true;
            }
            SessionMessage::CaughtUp { position } => {
                assert_eq!((position.sequence, events), (Sequence(15_000), 15_000));
                break;
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert!(fell_behind);
}

#[tokio::test]
async fn live_sessions_are_listed_and_leave_the_list() {
    let room = Room::new(ALL);
    room.publish("PK", 1..=3).await;
    let mut stream = room.open(Start::Earliest).await;
    events(&mut stream, 3).await;
    let sessions = room.subscriptions.sessions();
    let listed = sessions.list();
    assert_eq!((listed.len(), listed[0].participant.as_str(), listed[0].connection_id), (1, CUSTOMS, 7));
    assert_eq!((listed[0].reached(), listed[0].delivered_events()), (Sequence(3), 3));
    drop(stream);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while sessions.count() != 0 {
        assert!(tokio::time::Instant::now() < deadline, "a reader who hung up leaves a session behind");
        tokio::task::yield_now().await;
    }
}
