//! A follower misses nothing and repeats nothing, however its waits are cut off.

use futures::FutureExt;

use super::*;
use crate::{
    clock::TestClock,
    domain::{
        EventId, RoutingHeader, SpiffeId,
        term::{TermHash, TermKind},
    },
    log::{
        MemoryLog,
        contract::{AppendBatch, AppendMode, NewEvent},
    },
};

fn log() -> Arc<MemoryLog> {
    Arc::new(MemoryLog::new(Arc::new(TestClock::at_ns(1)), |a, b| a == b))
}

fn follow(log: &Arc<MemoryLog>, bytes_max: usize, terms: Option<Arc<TermPlan>>) -> Follower {
    Follower::new(Arc::clone(log) as Arc<dyn EventLog>, Sequence::ZERO, bytes_max, terms)
}

async fn append(log: &MemoryLog, numbers: std::ops::Range<u32>) {
    let publisher = SpiffeId::parse("spiffe://port.example/terminal/a").expect("a good name");
    let events = numbers.map(|number| {
        let event_id = EventId::from_bytes((u128::from(number) + 1).to_be_bytes());
        let header = RoutingHeader::bare(publisher.clone(), event_id);
        let (header, signed) = (header.encode().into(), number.to_string().into());
        NewEvent { publisher: publisher.clone(), event_id, header, signed, origin: None }
    });
    let batch = AppendBatch { events: events.collect(), mode: AppendMode::AllOrNothing };
    log.append(batch).await.expect("the log takes it");
}

fn numbers(chunk: &Chunk) -> Vec<u64> {
    chunk.records.iter().map(|record| record.sequence.get()).collect()
}

#[tokio::test]
async fn old_and_new_events_take_the_same_path() {
    let log = log();
    append(&log, 0..3).await;
    let mut follower = follow(&log, 1 << 20, None);
    assert_eq!(numbers(&follower.next().await.expect("a chunk")), [1, 2, 3]);
    assert!(follower.next().now_or_never().is_none(), "nothing is after the tail");
    append(&log, 3..4).await;
    assert_eq!(numbers(&follower.next().await.expect("a chunk")), [4]);
    assert_eq!(follower.cursor(), Sequence(4));
}

#[tokio::test]
async fn a_wait_that_is_cut_off_loses_nothing() {
    let log = log();
    let mut follower = follow(&log, 1, None);
    let mut seen = Vec::new();
    for round in 0..50 {
        assert!(follower.next().now_or_never().is_none());
        append(&log, round..round + 1).await;
        seen.extend(numbers(&follower.next().await.expect("a chunk")));
    }
    assert_eq!(seen, (1..=50).collect::<Vec<u64>>());
}

#[tokio::test]
async fn what_is_not_durable_is_not_seen() {
    let log = log();
    append(&log, 0..1).await;
    log.hold();
    let pending = tokio::spawn({
        let log = Arc::clone(&log);
        async move { append(&log, 1..2).await }
    });
    while log.append_calls() < 2 {
        tokio::task::yield_now().await;
    }
    let mut follower = follow(&log, 1 << 20, None);
    assert_eq!(numbers(&follower.next().await.expect("a chunk")), [1]);
    assert!(follower.next().now_or_never().is_none());
    log.release();
    pending.await.expect("appended");
    assert_eq!(numbers(&follower.next().await.expect("a chunk")), [2]);
}

#[tokio::test]
async fn stretches_ruled_out_by_terms_move_the_cursor() {
    let log = log();
    append(&log, 0..40).await;
    let nothing = Arc::new(vec![vec![vec![TermHash::of(TermKind::Locode, &[b"XXXXX"])]]]);
    let mut follower = follow(&log, 1 << 20, Some(nothing));
    let chunk = follower.next().await.expect("a chunk");
    assert!(chunk.records.is_empty());
    assert_eq!(follower.cursor(), Sequence(40));
}

#[tokio::test(start_paused = true)]
async fn a_quiet_follower_is_woken_once_for_many_commits() {
    let log = log();
    let mut follower = follow(&log, 1 << 20, None);
    follower.set_quiet(true);
    let waiting = tokio::spawn(async move { numbers(&follower.next().await.expect("a chunk")) });
    tokio::task::yield_now().await;
    for round in 0..5 {
        append(&log, round..round + 1).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(waiting.await.expect("no panic"), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn dropped_history_is_an_error() {
    let log = log();
    append(&log, 0..3).await;
    log.drop_before(Sequence(3));
    let mut follower = follow(&log, 1 << 20, None);
    let refused = follower.next().await.err();
    assert_eq!(refused, Some(FollowError::Log(LogError::BeforeFirst { asked: Sequence(1), first: Sequence(3) })));
    assert_eq!(follower.cursor(), Sequence::ZERO);
}
