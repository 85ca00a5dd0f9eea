//! One consumer's connection to a subscription: what she says is done here, each answer after it is durable. It never decides who gets an
//! event.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};

use super::{
    ConsumeEnd, ConsumeMessage, ConsumeStream, ConsumerId, DurableError, DurableParts, Leaving, Outcome, Verb, pump,
    slot::{Life, Member, Slot},
    writing::Ticket,
};
use crate::{
    domain::{Position, Sequence},
    subscribe::start::current,
    telemetry,
};

/// So many messages wait for a consumer: a few batches, and room for answers.
pub(super) const WINDOW_MESSAGES: usize = 16;

/// A consumer. Dropped without [`Consumption::leave`] it counts as one whose connection broke.
#[derive(Debug)]
pub struct Consumption {
    slot: Arc<Slot>,
    parts: Arc<DurableParts>,
    consumer: ConsumerId,
    member: Member,
    left: bool,
    /// Counts among the node's consumers while it lasts.
    _place: OwnedSemaphorePermit,
}

pub(super) fn join(
    slot: &Arc<Slot>,
    parts: &Arc<DurableParts>,
    place: OwnedSemaphorePermit,
    credit: u32,
) -> Result<(Consumption, ConsumeStream), DurableError> {
    let now_ns = parts.clock.now_ns();
    let rights = parts.access.policy().rights(&slot.owner);
    let (messages, received) = mpsc::channel(WINDOW_MESSAGES);
    let member = Member::new(messages);
    let mut inner = slot.inner();
    if inner.life != Life::Kept {
        return Err(DurableError::NotFound);
    }
    if let Some(lost) = &inner.lost {
        return Err(lost.clone().into());
    }
    let acknowledged = Position { epoch: parts.epoch(), sequence: inner.durable_low_water };
    if inner.definition.stopped {
        return Err(DurableError::Stopped { position: acknowledged });
    }
    let consumer = ConsumerId(inner.last_consumer.0 + 1);
    inner.last_consumer = consumer;
    inner.machine.join(consumer, credit);
    let started = ConsumeMessage::Started {
        acknowledged,
        paused: inner.definition.paused,
        active: inner.machine.active().is_none_or(|active| active == consumer),
        narrowing: rights.narrowing(&inner.filters, now_ns),
    };
    member.messages.try_send(started).expect("the window is new and empty");
    inner.members.insert(consumer, member.clone());
    if !inner.pumping {
        inner.pumping = true;
        pump::start(Arc::clone(slot), Arc::clone(parts));
    }
    drop(inner);
    slot.wake.notify_one();
    let stream = ConsumeStream {
        messages: received,
        end: Arc::clone(&member.end),
        wake: Arc::clone(&slot.wake),
        finished: false,
    };
    let consumption =
        Consumption { slot: Arc::clone(slot), parts: Arc::clone(parts), consumer, member, left: false, _place: place };
    Ok((consumption, stream))
}

/// Where a durable subscription stands, for whoever shows it.
#[derive(Debug)]
pub struct Standpoint(Arc<Slot>);

impl Standpoint {
    /// Up to here it has looked at the log.
    #[must_use]
    pub fn examined(&self) -> Sequence {
        self.0.inner().machine.examined()
    }
}

impl Consumption {
    /// Where its subscription stands, now and later.
    #[must_use]
    pub fn standpoint(&self) -> Standpoint {
        Standpoint(Arc::clone(&self.slot))
    }

    /// Resolves when the node has ended the stream.
    pub async fn ended(&self) {
        self.member.ended.cancelled().await;
    }

    /// Resolves when whoever reads the stream has gone.
    pub async fn reader_gone(&self) {
        self.member.messages.closed().await;
    }

    /// Says how many events it may have at once.
    pub fn set_credit(&self, credit: u32) {
        self.slot.inner().machine.set_credit(self.consumer, credit);
        self.slot.wake.notify_one();
    }

    /// Settles deliveries at once; the answer goes into the stream when whoever called has waited for it.
    ///
    /// # Errors
    /// The stream has ended, and its end says why.
    pub fn settle(
        &self,
        correlation_id: u64,
        deliveries: &[(Position, u32)],
        verb: &Verb,
    ) -> Result<Settling, ConsumeEnd> {
        let now_ns = self.parts.clock.now_ns();
        let epoch = current(&self.parts.log.epochs());
        let (outcomes, ticket) = self.slot.change(&self.parts, |inner| {
            if !inner.members.contains_key(&self.consumer) {
                return None;
            }
            let settle = |(position, attempt): &(Position, u32)| {
                if position.epoch != epoch || position.sequence == Sequence::ZERO {
                    return Outcome::NotDelivered;
                }
                inner.machine.settle(self.consumer, position.sequence, *attempt, verb, now_ns)
            };
            let outcomes = deliveries.iter().map(settle).collect::<Vec<_>>();
            let comes_again = inner.machine.is_ordered() && matches!(verb, Verb::Reject { .. });
            Some((outcomes, comes_again.then(|| Rejecting::begin(&self.member, &self.slot))))
        });
        let (outcomes, rejecting) = outcomes.ok_or(ConsumeEnd::Broken)?;
        for outcome in &outcomes {
            let (verb, outcome) = (verb.word(), outcome.word());
            metrics::counter!(telemetry::SETTLEMENTS_TOTAL, "verb" => verb, "outcome" => outcome).increment(1);
        }
        Ok(Settling {
            ticket,
            message: ConsumeMessage::Settled { correlation_id, outcomes },
            messages: self.member.messages.clone(),
            stalled_max: self.parts.limits.stalled_max,
            _rejecting: rejecting,
        })
    }

    /// Leaves. Where the stream has not ended yet, it ends for the reason given.
    pub async fn leave(mut self, leaving: Leaving, reason: ConsumeEnd) {
        self.left = true;
        let now_ns = self.parts.clock.now_ns();
        let ((), ticket) = self.slot.change(&self.parts, |inner| {
            if inner.members.remove(&self.consumer).is_some() {
                inner.machine.leave(self.consumer, leaving, now_ns);
            }
        });
        self.member.end(reason);
        if let Err(error) = ticket.durable().await {
            tracing::warn!(%error, "the attempts of a consumer that left could not be stored; its events come again uncounted");
        }
    }
}

/// A settlement that is done and not yet answered.
#[derive(Debug)]
pub struct Settling {
    ticket: Ticket,
    message: ConsumeMessage,
    messages: mpsc::Sender<ConsumeMessage>,
    stalled_max: Duration,
    _rejecting: Option<Rejecting>,
}

/// A rejection in an ordered subscription; while it is not answered its consumer gets no events.
#[derive(Debug)]
struct Rejecting {
    count: Arc<AtomicUsize>,
    wake: Arc<Notify>,
}

impl Rejecting {
    fn begin(member: &Member, slot: &Slot) -> Self {
        member.rejecting.fetch_add(1, Ordering::AcqRel);
        Self { count: Arc::clone(&member.rejecting), wake: Arc::clone(&slot.wake) }
    }
}

impl Drop for Rejecting {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
        self.wake.notify_one();
    }
}

impl Settling {
    /// Answers as soon as the settlement is durable; also where nothing changed, since what it was settled by before may still be on its way
    /// to the disk.
    ///
    /// # Errors
    /// The stream is to end, for the reason given.
    pub async fn answered(self) -> Result<(), ConsumeEnd> {
        self.ticket.durable().await.map_err(|_| ConsumeEnd::NotStored)?;
        match tokio::time::timeout(self.stalled_max, self.messages.send(self.message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(ConsumeEnd::Broken),
            Err(_) => Err(ConsumeEnd::Stalled),
        }
    }
}

impl Drop for Consumption {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let now_ns = self.parts.clock.now_ns();
        let ((), _made_all_the_same) = self.slot.change(&self.parts, |inner| {
            if inner.members.remove(&self.consumer).is_some() {
                inner.machine.leave(self.consumer, Leaving::Broken, now_ns);
            }
        });
        self.member.end(ConsumeEnd::Broken);
    }
}
