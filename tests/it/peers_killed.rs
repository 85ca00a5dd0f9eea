//! Two nodes as processes that are killed at random, again and again, while a terminal publishes: at the end both hold every event that was
//! acknowledged, once, in the order of the source, with the bytes that were sent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tradelane::{
    clock::{Clock, SystemClock},
    testing::nodes::{self, Site},
    wire::{
        PublishRequest,
        proto::{Event, event_service_client::EventServiceClient},
    },
};

use crate::{
    peers::{bytes_of, channel, discharged, holds},
    process::Process,
};

/// Kills of a run: bounded, since each costs a start.
const KILLS: u32 = 8;
/// A run ends by itself after so many events.
const EVENTS_MAX: u32 = 20_000;

/// Publishes until told to end; each batch again and again until it is acknowledged. Answers what was acknowledged, in order.
async fn publish_on(site: Site, end: Arc<AtomicBool>) -> Vec<Event> {
    let mut acknowledged = Vec::new();
    let mut client = EventServiceClient::new(channel(&site, &site.terminal).await);
    for start in (0..EVENTS_MAX).step_by(5) {
        let events: Vec<Event> = (start..start + 5).map(|n| discharged('a', n)).collect();
        let request = PublishRequest { events: events.iter().map(Event::unsigned).collect(), on_invalid: 0 };
        // Whether a batch that failed was stored is not known: publishing is idempotent, so it is sent again.
        while client.publish(request.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        acknowledged.extend(events);
        if end.load(Ordering::SeqCst) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr, reason = "a failing run is a number, and the slot for it is TRADELANE_PEERS_SEED")]
async fn either_side_may_be_killed_at_any_moment() {
    let seed = std::env::var("TRADELANE_PEERS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("TRADELANE_PEERS_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let sites = nodes::create(folder.path(), &['a', 'b'], SystemClock.now_ns());
    let (a, b) = (&sites[&'a'], &sites[&'b']);
    let mut running = [Some(Process::start(a)), Some(Process::start(b))];
    let end = Arc::new(AtomicBool::new(false));
    let publishing = tokio::spawn(publish_on(a.clone(), end.clone()));
    let mut kills = [0; 2];
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(random.u64(100..1_200))).await;
        let side = random.usize(0..2);
        running[side].take().expect("it runs").kill();
        kills[side] += 1;
        tokio::time::sleep(Duration::from_millis(random.u64(0..300))).await;
        running[side] = Some(Process::start(if side == 0 { a } else { b }));
    }
    end.store(true, Ordering::SeqCst);
    let acknowledged = publishing.await.expect("no panic");
    assert!(!acknowledged.is_empty());
    let there = holds(b, acknowledged.len()).await;
    let here = holds(a, acknowledged.len()).await;
    eprintln!(
        "{} events acknowledged over {} kills of the source and {} of the receiver",
        here.len(),
        kills[0],
        kills[1]
    );
    let expected: Vec<Vec<u8>> = acknowledged.iter().map(prost::Message::encode_to_vec).collect();
    assert_eq!(bytes_of(&here), expected, "the source holds what it acknowledged, once");
    assert_eq!(bytes_of(&there), expected, "and so does the receiver, in the same order");
    for (record, place) in there.iter().zip(1..) {
        let origin = record.origin.as_ref().expect("always said");
        assert_eq!((origin.node.as_str(), origin.sequence), (a.node.as_str(), place));
    }
}
