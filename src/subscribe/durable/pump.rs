//! The task that delivers one subscription's events while somebody consumes: it has the log looked at as far as there is room, gives events
//! to consumers, ends leases, and stops everything in the moment in which the owner's rights change. It never delivers what they do not
//! admit.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    ConsumeEnd, ConsumeMessage, ConsumerId, Delivered, Delivery, DurableParts,
    definition::fingerprint,
    feed::{Feed, Seen},
    machine::TURN_EVENTS_MAX,
    slot::{Inner, Member, Slot},
    telling::Telling,
};
use crate::{
    domain::{Position, Sequence},
    log::{Chunk, FollowError, LogError, Record},
    subscribe::sight::Sight,
    tasks::OnFailure,
    telemetry,
};

/// Events go out in batches of at most so many: with the largest events a message stays below what clients take by default, and one turn of
/// a shared subscription's consumer fills it.
const BATCH_EVENTS_MAX: usize = TURN_EVENTS_MAX;
/// The position that moves without acknowledgements is stored so often.
const STORE_INTERVAL: Duration = Duration::from_secs(10);

pub(super) fn start(slot: Arc<Slot>, parts: Arc<DurableParts>) {
    let tasks = parts.tasks.clone();
    tasks.spawn("durable subscription", OnFailure::Log, async move {
        Pump::new(slot, parts).run().await;
        Ok::<(), Infallible>(())
    });
}

struct Pump {
    slot: Arc<Slot>,
    parts: Arc<DurableParts>,
    generation: tokio::sync::watch::Receiver<u64>,
    seen: Option<Seen>,
    feed: Feed,
    telling: Telling,
    store_due: Instant,
    retired: bool,
}

impl Pump {
    fn new(slot: Arc<Slot>, parts: Arc<DurableParts>) -> Self {
        let generation = parts.access.generation();
        let telling = Telling::new(parts.limits.progress_interval);
        let store_due = Instant::now() + STORE_INTERVAL;
        Self { slot, parts, generation, seen: None, feed: Feed::default(), telling, store_due, retired: false }
    }

    async fn run(mut self) {
        while !self.retire().await {
            if self.parts.draining.is_cancelled() {
                self.slot.end_all(&ConsumeEnd::Draining, self.parts.clock.now_ns());
            } else if self.check_rights().await
                && let Err(error) = self.step().await
            {
                self.slot.end_all(&ConsumeEnd::Log(error), self.parts.clock.now_ns());
            }
        }
    }

    /// Ends where nobody consumes any more.
    async fn retire(&mut self) -> bool {
        if !self.slot.inner().members.is_empty() {
            return false;
        }
        self.store().await;
        let mut inner = self.slot.inner();
        self.retired = inner.members.is_empty();
        inner.pumping = !self.retired;
        self.retired
    }

    async fn store(&mut self) {
        self.store_due = Instant::now() + STORE_INTERVAL;
        // A failure is told where it happens, and has ended the consumers.
        let _ = self.slot.store_progress(&self.parts).durable().await;
    }

    /// False where the owner's rights have changed: everything is stopped then.
    async fn check_rights(&mut self) -> bool {
        let now_ns = self.parts.clock.now_ns();
        let (agreed, revision, filters) = {
            let inner = self.slot.inner();
            (inner.definition.rights, inner.definition.revision, Arc::clone(&inner.filters))
        };
        if self.still_holds(now_ns) && self.seen.as_ref().is_some_and(|seen| seen.revision == revision) {
            return true;
        }
        // Marked as seen before the policy is read: a reload in between is noticed at the next check.
        self.generation.mark_unchanged();
        let rights = self.parts.access.policy().rights(&self.slot.owner);
        if fingerprint(&rights, now_ns) != agreed {
            self.stop().await;
            return false;
        }
        let until_ns = rights.next_change_ns(now_ns).unwrap_or(i64::MAX);
        let (bindings, node) = (Arc::clone(&self.parts.bindings), self.parts.node.clone());
        let sight = Sight::new(rights, filters, bindings, node, now_ns);
        self.feed.restart();
        self.seen = Some(Seen { sight, revision, until_ns });
        true
    }

    /// Whether the rights are those of the last check.
    fn still_holds(&self, now_ns: i64) -> bool {
        let replaced = self.generation.has_changed().unwrap_or(true);
        !replaced && self.seen.as_ref().is_some_and(|seen| now_ns < seen.until_ns)
    }

    async fn stop(&mut self) {
        let now_ns = self.parts.clock.now_ns();
        let epoch = self.parts.epoch();
        let (position, ticket) = self.slot.change(&self.parts, |inner| {
            inner.redefine(|definition| definition.stopped = true);
            let position = Position { epoch, sequence: inner.durable_low_water };
            inner.end_all(&ConsumeEnd::Stopped { position }, now_ns);
            position
        });
        let owner = &self.slot.owner;
        tracing::info!(participant = %owner, %position, "a durable subscription was stopped: its owner's grants have changed");
        if let Err(error) = ticket.durable().await {
            tracing::warn!(%error, "a subscription's stop could not be stored; its next consumer stops it again");
        }
    }

    async fn step(&mut self) -> Result<(), LogError> {
        let now_ns = self.parts.clock.now_ns();
        self.pass_over();
        let (expired, batch) = {
            let mut inner = self.slot.inner();
            (inner.machine.expire(now_ns), take_batch(&mut inner, now_ns))
        };
        // Attempts that ended are durable before their events are given out again.
        if expired || batch.iter().any(|delivery| delivery.attempt > 1) {
            self.store().await;
        }
        if let Some(seen) = &self.seen {
            self.telling.tell(&self.slot, &self.parts, &seen.sight, now_ns);
        }
        if batch.is_empty() {
            if self.store_due <= Instant::now() {
                self.store().await;
            }
            return self.wait().await;
        }
        let mut places: Vec<Sequence> = batch.iter().map(|delivery| delivery.sequence).collect();
        places.sort_unstable();
        let records = self.parts.log.get(places).await?;
        let records: BTreeMap<Sequence, Record> = records.into_iter().map(|record| (record.sequence, record)).collect();
        // The rights of the moment before the wait are not those of after it.
        if self.still_holds(self.parts.clock.now_ns()) || self.check_rights().await {
            self.hand_out(batch, &records, now_ns)?;
        }
        Ok(())
    }

    /// What the feed passed over at rest counts as looked at.
    fn pass_over(&mut self) {
        let Some(seen) = &self.seen else { return };
        let (generation, clock) = (&self.generation, &self.parts.clock);
        let still = || !generation.has_changed().unwrap_or(true) && clock.now_ns() < seen.until_ns;
        self.feed.pass_over(&self.slot, seen.revision, still);
    }

    fn hand_out(
        &self,
        batch: Vec<Delivery>,
        records: &BTreeMap<Sequence, Record>,
        now_ns: i64,
    ) -> Result<(), LogError> {
        let Some(Seen { sight, .. }) = &self.seen else { return Ok(()) };
        let mut messages: BTreeMap<ConsumerId, Vec<Delivered>> = BTreeMap::new();
        let mut inner = self.slot.inner();
        for delivery in batch {
            // It went back meanwhile, and comes again.
            if !inner.machine.is_on_its_way(&delivery) {
                continue;
            }
            let record = records.get(&delivery.sequence).ok_or_else(|| {
                LogError::Damaged(format!("sequence {} was matched, and cannot be read", delivery.sequence))
            })?;
            // It may have matched long ago, when other associations were in force.
            if !sight.admits_whatever_was_asked(record, now_ns)? {
                inner.machine.pass_over(delivery.sequence);
                continue;
            }
            let Delivery { attempt, lease_until_ns, replayed, .. } = delivery;
            let delivered = Delivered { record: record.clone(), attempt, lease_until_ns, replayed };
            messages.entry(delivery.consumer).or_default().push(delivered);
        }
        for (consumer, deliveries) in messages {
            let Some(member) = inner.members.get(&consumer).cloned() else { continue };
            let places: Vec<Sequence> = deliveries.iter().map(|delivered| delivered.record.sequence).collect();
            let again = deliveries.iter().filter(|delivered| delivered.attempt > 1).count();
            // Answers may have taken the room that there was.
            if member.messages.try_send(ConsumeMessage::Deliveries(deliveries)).is_ok() {
                metrics::counter!(telemetry::EVENTS_DELIVERED_TOTAL).increment(places.len() as u64);
                metrics::counter!(telemetry::EVENTS_REDELIVERED_TOTAL).increment(again as u64);
            } else {
                for sequence in places.into_iter().rev() {
                    inner.machine.give_back(sequence, now_ns);
                }
            }
        }
        Ok(())
    }

    /// Waits for whatever comes first: new events where there is room for them, a change, a time.
    async fn wait(&mut self) -> Result<(), LogError> {
        let (wants, may_rest, examined, due_ns) = {
            let inner = self.slot.inner();
            let may_rest = self.telling.all_have_caught_up(&inner);
            (inner.wants_more(), may_rest, inner.machine.examined(), inner.machine.next_due_ns())
        };
        let Some(seen) = &self.seen else { return Ok(()) };
        let change_ns = due_ns.unwrap_or(i64::MAX).min(seen.until_ns).saturating_sub(self.parts.clock.now_ns());
        let until_change = Duration::from_nanos(u64::try_from(change_ns).unwrap_or(0)).max(Duration::from_millis(1));
        // The clock may be set while the task sleeps: telling makes it look again every few seconds.
        let wake_at = (Instant::now() + until_change.min(STORE_INTERVAL)).min(self.telling.due());
        let chunk: Result<Chunk, FollowError> = tokio::select! {
            () = self.slot.wake.notified() => return Ok(()),
            () = self.parts.draining.cancelled() => return Ok(()),
            changed = self.generation.changed() => {
                changed.expect("the pump holds the policy's owner, which holds the sender");
                self.generation.mark_changed();
                return Ok(());
            }
            () = tokio::time::sleep_until(wake_at) => return Ok(()),
            chunk = self.feed.next(&self.parts, seen, examined, may_rest), if wants => chunk,
        };
        match chunk {
            Ok(chunk) => {
                let (generation, clock) = (&self.generation, &self.parts.clock);
                let still = || !generation.has_changed().unwrap_or(true) && clock.now_ns() < seen.until_ns;
                self.feed.offer(&self.slot, &self.parts, seen, (&chunk, examined), still).await
            }
            Err(FollowError::Closed) => {
                self.slot.end_all(&ConsumeEnd::Draining, self.parts.clock.now_ns());
                Ok(())
            }
            Err(FollowError::Log(error)) => Err(error),
        }
    }
}

impl Drop for Pump {
    /// A pump that broke off leaves nobody waiting for it.
    fn drop(&mut self) {
        if !self.retired {
            let mut inner = self.slot.inner();
            inner.pumping = false;
            inner.end_all(&ConsumeEnd::Broken, self.parts.clock.now_ns());
        }
    }
}

fn take_batch(inner: &mut Inner, now_ns: i64) -> Vec<Delivery> {
    let mut batch = Vec::new();
    let Inner { machine, members, .. } = inner;
    let reachable = |consumer: ConsumerId| members.get(&consumer).is_some_and(Member::takes_deliveries);
    while batch.len() < BATCH_EVENTS_MAX
        && let Some(delivery) = machine.deliver(now_ns, reachable)
    {
        batch.push(delivery);
    }
    batch
}
