//! A node that is killed again and again while consumers work, break off and come back: nothing is lost, what was answered holds, order is
//! kept, and attempts are counted over every start.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tradelane::{
    clock::{Clock, SystemClock},
    testing::{
        events::{HOUR_NS, MINUTE_NS, Voyage},
        nodes::{self, Site},
    },
    wire::{
        PublishRequest,
        proto::{
            self, Event, OrderingKey, SettlementOutcome, SubscriptionDefinition, SubscriptionMode,
            create_subscription_request::Start, event_service_client::EventServiceClient,
            subscription_service_client::SubscriptionServiceClient,
        },
    },
};

use crate::{
    consumer::{Consumer, acknowledge, reject, sequence},
    harness::PATIENCE,
    peers::channel,
    process::Process,
};

/// Kills of a run: bounded, since each costs a start.
const KILLS: u32 = 6;
/// A run ends by itself after so many events.
const EVENTS_MAX: u64 = 6_000;
/// Events are about so many containers.
const CONTAINERS: u64 = 7;
const ORDERED: &str = "line";
const SHARED: &str = "work";

/// The event at a sequence: there is one publisher, and it goes on only when the one before is acknowledged.
fn event(sequence: u64, start_ns: i64) -> Event {
    let voyage = Voyage::new((sequence % CONTAINERS) as u32, start_ns + sequence as i64 * MINUTE_NS / 1_000);
    Event { publisher: "spiffe://a.example/terminal/1".to_owned(), ..voyage.discharged() }.with_id()
}

/// What the consumers of one subscription know together.
#[derive(Default)]
struct Ledger {
    /// Somebody said that it is done, and was answered so.
    answered: BTreeSet<u64>,
    /// Somebody said that it is done.
    said: BTreeSet<u64>,
    /// The last attempt of which somebody was answered that it failed.
    failed: BTreeMap<u64, u32>,
    deliveries: u64,
    again: u64,
}

impl Ledger {
    fn delivered(&mut self, ordered: bool, place: u64, attempt: u32, session_last: u64) {
        assert!(!self.answered.contains(&place), "{place} was answered as done, and came again");
        let failed = self.failed.get(&place).copied().unwrap_or(0);
        assert!(failed < attempt, "{place}: attempt {attempt} after {failed} had failed");
        let is_known = |other: &u64| self.said.contains(other);
        let overtaken = if ordered {
            (1..place).find(|other| *other > session_last && !is_known(other))
        } else {
            (1..place).filter(|other| other % CONTAINERS == place % CONTAINERS).find(|other| !is_known(other))
        };
        assert_eq!(overtaken, None, "{place} overtook another");
        self.deliveries += 1;
        self.again += u64::from(attempt > 1);
    }
}

/// Consumes until told to end, breaking off and failing at random.
async fn consume(site: Site, name: &'static str, ledger: Arc<Mutex<Ledger>>, seed: u64, end: CancellationToken) {
    let mut random = fastrand::Rng::with_seed(seed);
    while !end.is_cancelled() {
        let connection = channel(&site, &site.terminal).await;
        // The node is being killed: another connection finds the next one.
        let Ok(mut consumer) = Consumer::start(connection, name, random.u32(1..20)).await else { continue };
        let mut session_last = 0;
        // In an ordered subscription what follows a rejected event is not processed until that comes again.
        let mut rejected: Option<(u64, u32)> = None;
        loop {
            let heard = tokio::select! {
                () = end.cancelled() => return,
                heard = consumer.delivery_or_word() => heard,
            };
            let delivery = match heard {
                Err(_) => break,
                Ok(None) => continue,
                Ok(Some(delivery)) => delivery,
            };
            let (place, attempt) = (sequence(&delivery), delivery.delivery_attempt);
            let ordered = name == ORDERED;
            match rejected {
                Some((again, failed)) if place != again || attempt <= failed => continue,
                Some(_) | None => rejected = None,
            }
            ledger.lock().expect("no panic").delivered(ordered, place, attempt, session_last);
            session_last = place;
            let done: Vec<u64> = if ordered { (1..=place).collect() } else { vec![place] };
            match random.u8(0..100) {
                // It dies with whatever it has.
                0..3 => break,
                3..12 => {
                    let outcome = consumer.settle(&[delivery], reject("busy")).await;
                    if !outcome.is_ok_and(|outcomes| outcomes == [SettlementOutcome::Done]) {
                        break;
                    }
                    ledger.lock().expect("no panic").failed.insert(place, attempt);
                    if ordered {
                        (session_last, rejected) = (place - 1, Some((place, attempt)));
                    }
                }
                _ => {
                    ledger.lock().expect("no panic").said.extend(done.iter().copied());
                    let outcome = consumer.settle(&[delivery], acknowledge()).await;
                    if outcome.is_ok_and(|outcomes| outcomes == [SettlementOutcome::Done]) {
                        ledger.lock().expect("no panic").answered.extend(done);
                    }
                }
            }
        }
    }
}

/// Publishes until told to end; answers how many events there are.
async fn publish_on(site: Site, start_ns: i64, end: CancellationToken) -> u64 {
    let mut client = EventServiceClient::new(channel(&site, &site.terminal).await);
    for first in (1..EVENTS_MAX).step_by(5) {
        let events = (first..first + 5).map(|place| event(place, start_ns).unsigned()).collect();
        let request = PublishRequest { events, on_invalid: 0 };
        // Whether a batch that failed was stored is not known: publishing is idempotent, so it is sent again.
        while client.publish(request.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if end.is_cancelled() {
            return first + 4;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    EVENTS_MAX - 1
}

async fn create(site: &Site) {
    let mut client = SubscriptionServiceClient::new(channel(site, &site.terminal).await);
    let backoff = Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 });
    for (name, mode, ordering_key) in [
        (ORDERED, SubscriptionMode::Ordered, OrderingKey::Unspecified),
        (SHARED, SubscriptionMode::Shared, OrderingKey::Container),
    ] {
        let definition = SubscriptionDefinition {
            mode: mode.into(),
            ordering_key: ordering_key.into(),
            attempts_max: 100,
            backoff_min: backoff,
            backoff_max: backoff,
            ..SubscriptionDefinition::default()
        };
        let request = proto::CreateSubscriptionRequest {
            name: name.to_owned(),
            definition: Some(definition),
            start: Some(Start::StartAt(proto::StartAt::Earliest.into())),
        };
        client.create_subscription(request).await.expect("created");
    }
}

/// Waits until everything is settled.
async fn settled(site: &Site, name: &str) -> proto::Subscription {
    let mut client = SubscriptionServiceClient::new(channel(site, &site.terminal).await);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let request = proto::GetSubscriptionRequest { name: name.to_owned(), owner: String::new() };
        let told = client.get_subscription(request).await.expect("there").into_inner().subscription.expect("told");
        if told.lag_events == 0 {
            return told;
        }
        assert!(tokio::time::Instant::now() < deadline, "it does not come to its end: {told:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr, reason = "a failing run is a number, and the slot for it is TRADELANE_CONSUMERS_SEED")]
async fn nothing_is_lost_or_overtaken_however_often_the_node_and_its_consumers_die() {
    let seed = std::env::var("TRADELANE_CONSUMERS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("TRADELANE_CONSUMERS_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let start_ns = SystemClock.now_ns() / HOUR_NS * HOUR_NS - 80 * HOUR_NS;
    let site = nodes::create(folder.path(), &['a'], SystemClock.now_ns()).remove(&'a').expect("its files");
    let mut running = Some(Process::start(&site));
    create(&site).await;
    let (end, published) = (CancellationToken::new(), CancellationToken::new());
    let publishing = tokio::spawn(publish_on(site.clone(), start_ns, published.clone()));
    let ledgers: BTreeMap<&str, Arc<Mutex<Ledger>>> =
        [ORDERED, SHARED].into_iter().map(|name| (name, Arc::default())).collect();
    let consumers: Vec<_> = [ORDERED, ORDERED, SHARED, SHARED, SHARED]
        .into_iter()
        .map(|name| {
            let ledger = Arc::clone(&ledgers[name]);
            tokio::spawn(consume(site.clone(), name, ledger, random.u64(..), end.clone()))
        })
        .collect();
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(random.u64(200..1_500))).await;
        running.take().expect("it runs").kill();
        running = Some(Process::start(&site));
    }
    published.cancel();
    let last = publishing.await.expect("no panic");
    for name in [ORDERED, SHARED] {
        let told = settled(&site, name).await;
        assert_eq!(told.dead_letters, 0, "{told:?}");
    }
    end.cancel();
    for consumer in consumers {
        consumer.await.expect("no consumer saw a promise broken");
    }
    for (name, ledger) in ledgers {
        let ledger = ledger.lock().expect("no panic");
        let lost: Vec<u64> = (1..=last).filter(|place| !ledger.said.contains(place)).collect();
        assert_eq!(lost, Vec::<u64>::new(), "{name}: passed, and nobody said that they are done");
        eprintln!(
            "{name}: {last} events, {} deliveries, {} of them again, {KILLS} kills",
            ledger.deliveries, ledger.again
        );
    }
}
