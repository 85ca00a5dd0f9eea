//! The service over a log and a store in memory: what is answered is durable, what is not comes again, and whatever cannot be stored is as if
//! it had not been said.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;

use super::{registry::DurableSubscriptions, *};
use crate::{
    clock::TestClock,
    domain::{Epoch, Position, Sequence, bindings::BindingsFeed},
    identity::Access,
    log::{Lookout, MemoryLog},
    store::{MemoryStore, StateStore, Table, WriteError},
    subscribe::{
        Start,
        tests::{ALL, CUSTOMS, NODE, START_NS, TestBindings, append, event, id, in_country, policy},
    },
    tasks::Tasks,
};

mod crashes;
mod resting;
mod widening;

/// Durable subscriptions and what they stand on.
struct Room {
    log: Arc<MemoryLog>,
    clock: Arc<TestClock>,
    store: Arc<MemoryStore>,
    bindings: Arc<TestBindings>,
    durable: DurableSubscriptions,
}

impl Room {
    fn new() -> Self {
        let clock = Arc::new(TestClock::at_ns(START_NS));
        let log = Arc::new(MemoryLog::new(Arc::clone(&clock), |a, b| a == b));
        Self::over(log, clock, Arc::default())
    }

    /// A start over what is stored.
    fn over(log: Arc<MemoryLog>, clock: Arc<TestClock>, store: Arc<MemoryStore>) -> Self {
        Self::under(ALL, (log, clock, store), Arc::default())
    }

    /// The same under another policy, with associations.
    fn under(
        policy_text: &str,
        (log, clock, store): (Arc<MemoryLog>, Arc<TestClock>, Arc<MemoryStore>),
        bindings: Arc<TestBindings>,
    ) -> Self {
        let access = Arc::new(Access::new(policy(policy_text)));
        let durable = DurableSubscriptions::open(DurableParts {
            log: Arc::clone(&log) as _,
            lookout: Lookout::new(Arc::clone(&log) as _, Tasks::new()),
            store: Arc::clone(&store) as _,
            access,
            bindings: Arc::clone(&bindings) as Arc<dyn BindingsFeed>,
            clock: Arc::clone(&clock) as _,
            node: id(NODE),
            tasks: Tasks::new(),
            draining: CancellationToken::new(),
            limits: DurableLimits::default(),
        });
        Self { log, clock, store, bindings, durable: durable.expect("readable") }
    }

    async fn create(&self, name: &str, settings: Settings) {
        let defined = (vec![in_country("PK")], settings);
        self.durable.create(&id(CUSTOMS), name, defined, Start::Earliest).await.expect("created");
    }

    async fn publish(&self, country: &str, numbers: std::ops::RangeInclusive<u32>) {
        append(&self.log, numbers.map(|number| event(country, number)).collect()).await;
    }

    fn consume(&self, name: &str, credit: u32) -> Consumer {
        let (consumption, stream) = self.durable.consume(&id(CUSTOMS), name, credit).expect("a consumer");
        Consumer { consumption, stream, end: None, epoch: self.facts(name).acknowledged.epoch }
    }

    fn facts(&self, name: &str) -> SubscriptionFacts {
        self.durable.get(&id(CUSTOMS), name).expect("there is one")
    }

    fn low_water(&self, name: &str) -> u64 {
        self.facts(name).acknowledged.sequence.get()
    }
}

/// A consumer that is driven by hand.
struct Consumer {
    consumption: Consumption,
    stream: ConsumeStream,
    end: Option<ConsumeEnd>,
    epoch: Epoch,
}

impl Consumer {
    /// Everything that there is to hear now.
    async fn hear(&mut self) -> Vec<ConsumeMessage> {
        // Paused time moves only when nobody has anything to do: longer than whatever gathers commits.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut heard = Vec::new();
        while self.end.is_none()
            && let Some(Some(message)) = self.stream.next().now_or_never()
        {
            match message {
                Ok(message) => heard.push(message),
                Err(end) => self.end = Some(end),
            }
        }
        heard
    }

    async fn deliveries(&mut self) -> Vec<Delivered> {
        let heard = self.hear().await.into_iter();
        let batches = heard.filter_map(|message| match message {
            ConsumeMessage::Deliveries(deliveries) => Some(deliveries),
            _ => None,
        });
        batches.flatten().collect()
    }

    async fn settle(&mut self, delivered: &Delivered, verb: &Verb) -> Result<Outcome, ConsumeEnd> {
        let position = self.position(delivered);
        let settling = self.consumption.settle(1, &[(position, delivered.attempt)], verb)?;
        settling.answered().await?;
        let answer = self.hear().await.into_iter().find_map(|message| match message {
            ConsumeMessage::Settled { outcomes, .. } => outcomes.first().copied(),
            _ => None,
        });
        answer.ok_or_else(|| self.end.clone().unwrap_or(ConsumeEnd::Broken))
    }

    fn position(&self, delivered: &Delivered) -> Position {
        Position { epoch: self.epoch, sequence: delivered.record.sequence }
    }
}

fn shared() -> Settings {
    Settings { mode: Mode::Shared, backoff_min: Duration::ZERO, ..Settings::default() }
}

fn places(deliveries: &[Delivered]) -> Vec<u64> {
    deliveries.iter().map(|delivered| delivered.record.sequence.get()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_its_write_and_those_that_come_meanwhile_share_the_next() {
    let room = Room::new();
    room.create("work", shared()).await;
    room.publish("PK", 1..=20).await;
    let mut consumer = room.consume("work", 100);
    let deliveries = consumer.deliveries().await;
    assert_eq!(places(&deliveries), (1..=20).collect::<Vec<_>>());
    room.store.hold();
    let before = room.store.writes();
    let mut waiting = Vec::new();
    for delivered in &deliveries {
        let named = [(consumer.position(delivered), delivered.attempt)];
        let settling = consumer.consumption.settle(1, &named, &Verb::Acknowledge).expect("connected");
        waiting.push(tokio::spawn(settling.answered()));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // One that says nothing new waits for what it was settled by before.
    let named = [(consumer.position(&deliveries[0]), 1)];
    let again = consumer.consumption.settle(2, &named, &Verb::Acknowledge).expect("connected");
    waiting.push(tokio::spawn(again.answered()));
    assert!(!consumer.hear().await.iter().any(|message| matches!(message, ConsumeMessage::Settled { .. })));
    assert_eq!(room.low_water("work"), 0, "what is told is durable");
    room.store.release();
    while room.low_water("work") < 20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        room.store.release();
    }
    let mut answered = 0;
    while answered < 21 {
        answered +=
            consumer.hear().await.iter().filter(|message| matches!(message, ConsumeMessage::Settled { .. })).count();
    }
    for waiting in waiting {
        assert_eq!(waiting.await.expect("no panic"), Ok(()));
    }
    assert_eq!(room.store.writes() - before, 2, "the first alone, all others together");
}

#[tokio::test(start_paused = true)]
async fn nothing_comes_between_a_rejection_in_order_and_its_answer() {
    let room = Room::new();
    // Behind an event that was tried before nothing is on its way, and rejected once more it is a dead letter: what follows it is due then.
    room.create("work", Settings { attempts_max: 2, backoff_min: Duration::ZERO, ..Settings::default() }).await;
    room.publish("PK", 1..=3).await;
    let mut consumer = room.consume("work", 100);
    let reject = Verb::Reject { delay_ns: 0, reason: "unreadable".into() };
    for attempt in 1..=2 {
        let deliveries = consumer.deliveries().await;
        assert_eq!(places(&deliveries), [1, 2, 3][..if attempt == 1 { 3 } else { 1 }]);
        room.store.hold();
        let named = [(consumer.position(&deliveries[0]), attempt)];
        let settling = consumer.consumption.settle(7, &named, &reject).expect("connected");
        let answering = tokio::spawn(settling.answered());
        let heard = consumer.deliveries().await;
        assert!(heard.is_empty(), "the answer waits for its write, and the events for the answer: {heard:?}");
        room.store.release();
        assert_eq!(answering.await.expect("no panic"), Ok(()));
        let mut heard = Vec::new();
        while !matches!(heard.last(), Some(ConsumeMessage::Settled { correlation_id: 7, .. })) {
            heard.push(consumer.stream.next().await.expect("an answer").expect("connected"));
        }
        assert!(!heard.iter().any(|message| matches!(message, ConsumeMessage::Deliveries(_))), "{heard:?}");
    }
    assert_eq!(places(&consumer.deliveries().await), [2]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_stored_was_not_said() {
    let room = Room::new();
    room.create("work", Settings { attempts_max: 1, ..shared() }).await;
    room.publish("PK", 1..=3).await;
    let mut consumer = room.consume("work", 100);
    let deliveries = consumer.deliveries().await;
    room.store.fail_with(Some(WriteError::Overloaded));
    // The dead letter is not stored, so neither may be that its event is settled, by this write or a later one.
    let parked = consumer.settle(&deliveries[0], &Verb::Park { reason: "unreadable".into() }).await;
    assert_eq!(parked, Err(ConsumeEnd::NotStored));
    room.store.fail_with(None);
    consumer.hear().await;
    assert_eq!(consumer.end, Some(ConsumeEnd::NotStored), "whoever consumed is told");
    let named = [(consumer.position(&deliveries[1]), 1)];
    let late = consumer.consumption.settle(2, &named, &Verb::Acknowledge).map(|_| "an answer");
    assert_eq!(late, Err(ConsumeEnd::Broken), "what is said over a stream that has ended counts for nothing");
    let mut consumer = room.consume("work", 100);
    let again = consumer.deliveries().await;
    assert_eq!(places(&again), [1, 2, 3]);
    assert_eq!(room.facts("work").dead_letters, 0);
    for delivered in &again {
        assert_eq!(consumer.settle(delivered, &Verb::Acknowledge).await, Ok(Outcome::Done));
    }
    assert_eq!(room.low_water("work"), 3);

    room.store.fail_with(Some(WriteError::DiskFull));
    let deleted = room.durable.delete(&id(CUSTOMS), "work").await;
    assert_eq!(deleted, Err(DurableError::NoRoom));
    let created = room.durable.create(&id(CUSTOMS), "new", (Vec::new(), shared()), Start::Earliest).await;
    assert_eq!(created, Err(DurableError::NoRoom));
    assert_eq!(room.durable.get(&id(CUSTOMS), "new"), Err(DurableError::NotFound));
    room.store.fail_with(None);
    assert_eq!(room.low_water("work"), 3, "what could not be deleted is there");
    room.create("new", shared()).await;
}

#[tokio::test(start_paused = true)]
async fn many_dead_letters_are_stored_in_several_writes_and_none_is_lost_between() {
    let room = Room::new();
    let settings = Settings { outstanding_max: 5_000, dead_letters_max: 5_000, ..shared() };
    room.create("work", settings).await;
    room.publish("PK", 1..=3_000).await;
    let mut consumer = room.consume("work", 5_000);
    let mut deliveries = Vec::new();
    while deliveries.len() < 3_000 {
        deliveries.extend(consumer.deliveries().await);
    }
    let named: Vec<_> = deliveries.iter().map(|delivered| (consumer.position(delivered), delivered.attempt)).collect();
    let verb = Verb::Park { reason: "x".repeat(200) };
    let settling = consumer.consumption.settle(1, &named, &verb).expect("connected");
    settling.answered().await.expect("stored");
    let all = room.durable.letters(&id(CUSTOMS), "work", Sequence::ZERO, 10_000).await.expect("read");
    assert_eq!(all.len(), 3_000);
    assert!(all.iter().all(|letter| letter.event.is_some()));
    drop(consumer);
    let again = Room::over(Arc::clone(&room.log), Arc::clone(&room.clock), Arc::new(room.store.crashed(0)));
    assert_eq!((again.low_water("work"), again.facts("work").dead_letters), (3_000, 3_000));
    // Bounded by what was there when it was asked, and more than one write's worth.
    assert_eq!(again.durable.replay(&id(CUSTOMS), "work", None).await, Ok(3_000));
    let some: BTreeSet<Sequence> = (1..=1_500).map(Sequence).collect();
    assert_eq!(again.durable.drop_letters(&id(CUSTOMS), "work", Some(some)).await, Ok(1_500));
    // A seek takes every replay back: more letters than fit into one write.
    again.durable.seek(&id(CUSTOMS), "work", Start::Latest).await.expect("moved");
    let last = Room::over(Arc::clone(&room.log), Arc::clone(&room.clock), Arc::new(again.store.crashed(0)));
    let left = last.durable.letters(&id(CUSTOMS), "work", Sequence::ZERO, 10_000).await.expect("read");
    assert_eq!(left.len(), 1_500);
    assert!(left.iter().all(|letter| letter.letter.replay.is_none()));
    last.durable.delete(&id(CUSTOMS), "work").await.expect("deleted");
    for table in [Table::Subscriptions, Table::Cursors, Table::DeadLetters] {
        assert_eq!(last.store.load(table, b""), [], "a deleted subscription leaves nothing behind");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_ended_and_its_events_go_to_others() {
    let room = Room::new();
    room.create("line", Settings { lease: Duration::from_secs(600), ..Settings::default() }).await;
    room.publish("PK", 1..=3).await;
    let lazy = room.consume("line", 10);
    let mut standby = room.consume("line", 10);
    // Progress fills its window; what a test clock says does not matter.
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        standby.hear().await;
    }
    let ended = tokio::time::timeout(Duration::from_secs(120), lazy.consumption.ended()).await;
    assert!(ended.is_ok(), "whoever takes nothing is still connected");
    assert_eq!(room.facts("line").consumers, 1);
    let mut stream = lazy.stream;
    let mut last = None;
    while let Some(message) = stream.next().await {
        last = Some(message);
    }
    assert!(matches!(last, Some(Err(ConsumeEnd::Stalled))), "{last:?}");
}
