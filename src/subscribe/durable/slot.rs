//! One durable subscription in the memory of the node: its definition, its machine, its consumers. Whatever changes it goes through here, so
//! that all of it is stored in order. It never decides what happens to an event.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    ConsumeEnd, ConsumeMessage, DurableParts,
    definition::Definition,
    machine::{ConsumerId, Leaving, Machine},
    parts::State,
    writing::{Ticket, Writes},
};
use crate::{
    domain::{Filter, Sequence, SpiffeId},
    subscribe::StartError,
};

/// A consumer with less room than this in its window gets no events now: the rest is for answers and progress.
const WINDOW_ROOM_MIN: usize = 12;

/// One subscription.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: Uuid,
    pub(super) owner: SpiffeId,
    inner: Mutex<Inner>,
    /// Whoever delivers looks again.
    pub(super) wake: Arc<Notify>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) definition: Definition,
    pub(super) filters: Arc<[Filter]>,
    pub(super) machine: Machine,
    pub(super) members: BTreeMap<ConsumerId, Member>,
    /// The last consumer's number; none is used twice.
    pub(super) last_consumer: ConsumerId,
    /// A task delivers.
    pub(super) pumping: bool,
    pub(super) life: Life,
    /// The stored position belongs to no place of this log; a seek mends it.
    pub(super) lost: Option<StartError>,
    /// The position as it is durable.
    pub(super) durable_low_water: Sequence,
    pub(super) writes: Writes,
}

/// Whether a subscription is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It is.
    Kept,
    /// Its deletion is on its way to the disk.
    Deleting,
    /// It is not any more, whoever still holds it.
    Gone,
}

/// A consumer that is connected.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) messages: mpsc::Sender<ConsumeMessage>,
    pub(super) end: Arc<OnceLock<ConsumeEnd>>,
    pub(super) ended: CancellationToken,
    /// Rejections of an ordered subscription that are not answered yet.
    pub(super) rejecting: Arc<AtomicUsize>,
}

impl Member {
    pub(super) fn new(messages: mpsc::Sender<ConsumeMessage>) -> Self {
        Self { messages, end: Arc::default(), ended: CancellationToken::new(), rejecting: Arc::default() }
    }

    /// Whether deliveries may go to it. Whoever rejects in an ordered subscription must tell what was on its way then, and comes again, from
    /// what comes in order behind it: the answer stands between the two.
    pub(super) fn takes_deliveries(&self) -> bool {
        self.messages.capacity() >= WINDOW_ROOM_MIN && self.rejecting.load(Ordering::Acquire) == 0
    }

    pub(super) fn end(&self, reason: ConsumeEnd) {
        // The first reason counts.
        let _ = self.end.set(reason);
        self.ended.cancel();
    }
}

impl Slot {
    pub(super) fn new(
        id: Uuid,
        owner: SpiffeId,
        (definition, filters): (Definition, Vec<Filter>),
        mut machine: Machine,
        lost: Option<StartError>,
    ) -> Arc<Self> {
        machine.set_paused(definition.paused || definition.stopped);
        let durable_low_water = machine.low_water();
        let inner = Inner {
            definition,
            filters: filters.into(),
            machine,
            members: BTreeMap::new(),
            last_consumer: ConsumerId(0),
            pumping: false,
            life: Life::Kept,
            lost,
            durable_low_water,
            writes: Writes::default(),
        };
        Arc::new(Self { id, owner, inner: Mutex::new(inner), wake: Arc::default() })
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        // The machine's panics are failed assertions: the task that writes stops the node then, and the next start reads what is stored.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the subscription. What was promised by it is on its way to the disk when this returns: wait for the [`Ticket`] before
    /// anything is answered.
    pub(super) fn change<T>(
        self: &Arc<Self>,
        parts: &Arc<DurableParts>,
        change: impl FnOnce(&mut Inner) -> T,
    ) -> (T, Ticket) {
        let mut inner = self.inner();
        let changed = change(&mut inner);
        let due = inner.machine.has_promises();
        let ticket = self.write(&mut inner, parts, due);
        drop(inner);
        self.wake.notify_one();
        (changed, ticket)
    }

    /// Puts everything that has changed on its way, the position that moved by itself included.
    pub(super) fn store_progress(self: &Arc<Self>, parts: &Arc<DurableParts>) -> Ticket {
        let mut inner = self.inner();
        let due = inner.machine.has_progress();
        self.write(&mut inner, parts, due)
    }

    /// Ends every consumer; what they had goes back.
    pub(super) fn end_all(&self, reason: &ConsumeEnd, now_ns: i64) {
        self.inner().end_all(reason, now_ns);
        self.wake.notify_one();
    }
}

impl Inner {
    pub(super) fn end_all(&mut self, reason: &ConsumeEnd, now_ns: i64) {
        for (consumer, member) in std::mem::take(&mut self.members) {
            member.end(reason.clone());
            self.machine.leave(consumer, Leaving::InOrder, now_ns);
        }
    }

    /// The subscription's definition is another from now on.
    pub(super) fn redefine(&mut self, change: impl FnOnce(&mut Definition)) {
        change(&mut self.definition);
        self.definition.revision += 1;
        self.machine.set_paused(self.definition.paused || self.definition.stopped);
        self.writes.note_definition();
    }

    pub(super) const fn state(&self) -> State {
        match (&self.lost, self.definition.stopped, self.definition.paused) {
            (Some(_), _, _) => State::Lost,
            (None, true, _) => State::Stopped,
            (None, false, true) => State::Paused,
            (None, false, false) => State::Active,
        }
    }
}
