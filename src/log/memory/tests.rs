//! What the suite over every log doesn't look at: the levers that only the log in memory has, and the fates that tests rely on.

use super::*;
use crate::{
    clock::TestClock,
    domain::{RoutingHeader, header::PlaceTerm, term::TermKind},
    log::contract::NewEvent,
};

fn same_but_for_stamp(a: &[u8], b: &[u8]) -> bool {
    a.split(|byte| *byte == b'|').next() == b.split(|byte| *byte == b'|').next()
}

fn log() -> MemoryLog {
    MemoryLog::new(Arc::new(TestClock::at_ns(1_000)), same_but_for_stamp)
}

fn publisher() -> SpiffeId {
    SpiffeId::parse("spiffe://port.example/terminal/a").expect("a good name")
}

fn id(number: u8) -> EventId {
    EventId::from_bytes([number; 16])
}

fn header(number: u8) -> RoutingHeader {
    RoutingHeader {
        places: vec![PlaceTerm::port(&format!("PKK{number:02}"), "PK")],
        ..RoutingHeader::bare(publisher(), id(number))
    }
}

fn event_of(header: &RoutingHeader, content: &str) -> NewEvent {
    NewEvent {
        publisher: header.publisher.clone(),
        event_id: header.event_id,
        header: header.encode().into(),
        signed: content.to_owned().into(),
        origin: None,
    }
}

fn event(number: u8) -> NewEvent {
    event_of(&header(number), &format!("content {number}"))
}

fn batch(mode: AppendMode, events: Vec<NewEvent>) -> AppendBatch {
    AppendBatch { events, mode }
}

fn places(verdicts: &[Verdict]) -> Vec<Option<(u64, bool)>> {
    verdicts
        .iter()
        .map(|verdict| stored(verdict).map(|appended| (appended.sequence.get(), appended.duplicate)))
        .collect()
}

#[tokio::test]
async fn what_is_held_is_neither_acknowledged_nor_shown_and_a_dropped_append_goes_through() {
    let log = log();
    log.hold();
    let append = log.append(batch(AppendMode::Each, vec![event(1)]));
    let mut duplicate = log.append(batch(AppendMode::Each, vec![event(1)]));
    drop(append);
    assert!((&mut duplicate).now_or_never().is_none(), "a duplicate of an event in flight waits for its durability");
    assert!(log.read(Sequence::ZERO, 1_000, None).await.expect("readable").is_none());
    log.release();
    assert_eq!(places(&duplicate.await.expect("durable")), [Some((1, true))]);
    assert_eq!(log.read(Sequence::ZERO, 1_000, None).await.expect("readable").expect("one").records.len(), 1);
}

#[tokio::test]
async fn terms_skip_blocks_and_never_a_match() {
    let log = log();
    log.append(batch(AppendMode::Each, (1..=20).map(event).collect())).await.expect("taken");
    let term = TermHash::of(TermKind::Locode, &[b"PKK18"]);
    let plan = Arc::new(vec![vec![vec![term]]]);
    let chunk = log.read(Sequence::ZERO, 100_000, Some(Arc::clone(&plan))).await.expect("readable").expect("a stretch");
    assert_eq!(chunk.through, Sequence(20));
    assert!(chunk.records.iter().any(|record| record.sequence == Sequence(18)));
    assert!(chunk.records.len() <= BLOCK_SEQUENCES as usize, "other blocks were not skipped");
    log.honour_terms(false);
    let chunk = log.read(Sequence::ZERO, 100_000, Some(plan)).await.expect("readable").expect("a stretch");
    assert_eq!(chunk.records.len(), 20);
}

#[tokio::test]
async fn history_can_be_dropped_and_sequences_can_have_holes() {
    let log = log();
    log.append(batch(AppendMode::Each, vec![event(1), event(2)])).await.expect("taken");
    log.skip_sequences(5);
    let verdicts = log.append(batch(AppendMode::Each, vec![event(3)])).await.expect("taken");
    assert_eq!(places(&verdicts), [Some((8, false))]);
    log.drop_before(Sequence(2));
    let refused = log.read(Sequence::ZERO, 1_000, None).await;
    assert_eq!(refused.err(), Some(LogError::BeforeFirst { asked: Sequence(1), first: Sequence(2) }));
    assert!(log.find(publisher(), id(1)).await.expect("readable").is_none());
    let verdicts = log.append(batch(AppendMode::Each, vec![event(1)])).await.expect("taken");
    assert_eq!(places(&verdicts), [Some((1, true))], "an identity is known beyond retention");
}

#[tokio::test]
async fn a_log_that_is_opened_again_has_what_was_durable_and_goes_on_from_there() {
    let log = log();
    log.append(batch(AppendMode::Each, vec![event(1), event(2), event(3)])).await.expect("taken");
    log.hold();
    drop(log.append(batch(AppendMode::Each, vec![event(4)])));
    let epochs = log.epochs().to_vec();
    let again = log.reopened(Arc::new(TestClock::at_ns(2_000)), Sequence(u64::MAX), epochs.clone());
    assert_eq!((*again.tail().borrow(), again.epochs().to_vec()), (Sequence(3), epochs.clone()));
    assert_eq!(again.chain_at(Sequence(3)).await, log.chain_at(Sequence(3)).await);
    assert!(again.find(publisher(), id(4)).await.expect("readable").is_none(), "what was not durable is gone");
    let verdicts = again.append(batch(AppendMode::Each, vec![event(2), event(5)])).await.expect("taken");
    assert_eq!(places(&verdicts), [Some((2, true)), Some((4, false))]);
    // A backup ends earlier.
    let backup = log.reopened(Arc::new(TestClock::at_ns(2_000)), Sequence(1), epochs);
    let verdicts = backup.append(batch(AppendMode::Each, vec![event(3)])).await.expect("taken");
    assert_eq!(places(&verdicts), [Some((2, false))]);
}
