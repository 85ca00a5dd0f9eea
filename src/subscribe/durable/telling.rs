//! What consumers hear beside their events: how far the subscription is, that it has caught up or fell behind, that the owner sees more than
//! before; and that one who takes nothing is ended. It never waits for anybody.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::{sync::mpsc::error::TrySendError, time::Instant};

use super::{
    ConsumeEnd, ConsumeMessage, ConsumerId, DurableParts, Leaving,
    slot::{Inner, Slot},
};
use crate::{domain::Position, subscribe::sight::Sight};

/// So many subjects are named together; of more, the first are not, and this is said.
const WIDENINGS_TOLD_MAX: usize = 256;
/// A subscription that had caught up and is then so many places behind is told so.
const FELL_BEHIND_EVENTS: u64 = 10_000;

/// What was told, and when to tell more.
pub(super) struct Telling {
    interval: Duration,
    progress_due: Instant,
    active: Option<ConsumerId>,
    caught_up: BTreeSet<ConsumerId>,
    /// Consumers whose window has been full since.
    full_since: BTreeMap<ConsumerId, Instant>,
}

impl Telling {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            progress_due: Instant::now(),
            active: None,
            caught_up: BTreeSet::new(),
            full_since: BTreeMap::new(),
        }
    }

    /// When there is something to tell by time alone.
    pub(super) const fn due(&self) -> Instant {
        self.progress_due
    }

    /// Whether nobody waits to hear that everything was looked at.
    pub(super) fn all_have_caught_up(&self, inner: &Inner) -> bool {
        inner.members.keys().all(|consumer| self.caught_up.contains(consumer))
    }

    /// Tells what is to be told now.
    pub(super) fn tell(&mut self, slot: &Slot, parts: &DurableParts, sight: &Sight, now_ns: i64) {
        let tail = *parts.log.tail().borrow();
        let mut inner = slot.inner();
        tell_widenings(&mut inner, parts, sight);
        let lag_events = tail.get().saturating_sub(inner.machine.examined().get());
        let position = Position { epoch: parts.epoch(), sequence: inner.machine.examined() };
        self.tell_distance(&inner, position, lag_events);
        if inner.machine.active() != self.active {
            self.active = inner.machine.active();
            self.progress_due = Instant::now();
        }
        if Instant::now() < self.progress_due {
            return;
        }
        self.progress_due = Instant::now() + self.interval;
        self.full_since.retain(|consumer, _| inner.members.contains_key(consumer));
        let acknowledged = Position { sequence: inner.durable_low_water, ..position };
        let mut stalled = Vec::new();
        for (consumer, member) in &inner.members {
            let progress = ConsumeMessage::Progress {
                acknowledged,
                lag_events,
                active: self.active.is_none_or(|active| active == *consumer),
                paused: inner.definition.paused,
                time_ns: now_ns,
            };
            match member.messages.try_send(progress) {
                Err(TrySendError::Full(_)) => {
                    let since = self.full_since.entry(*consumer).or_insert_with(Instant::now);
                    if parts.limits.stalled_max <= since.elapsed() {
                        stalled.push(*consumer);
                    }
                }
                // Who has gone is noticed where she is heard.
                Ok(()) | Err(TrySendError::Closed(_)) => drop(self.full_since.remove(consumer)),
            }
        }
        for consumer in stalled {
            if let Some(member) = inner.members.remove(&consumer) {
                member.end(ConsumeEnd::Stalled);
                inner.machine.leave(consumer, Leaving::Broken, now_ns);
            }
        }
    }

    fn tell_distance(&mut self, inner: &Inner, position: Position, lag_events: u64) {
        self.caught_up.retain(|consumer| inner.members.contains_key(consumer));
        if lag_events == 0 && !inner.machine.has_ready() {
            for (consumer, member) in &inner.members {
                let untold = !self.caught_up.contains(consumer);
                if untold && member.messages.try_send(ConsumeMessage::CaughtUp { position }).is_ok() {
                    self.caught_up.insert(*consumer);
                }
            }
        } else if FELL_BEHIND_EVENTS < lag_events {
            self.caught_up.retain(|consumer| {
                let told = inner.members.get(consumer).map(|member| {
                    member.messages.try_send(ConsumeMessage::FellBehind { position, lag_events }).is_ok()
                });
                told == Some(false)
            });
        }
    }
}

/// Tells one consumer what the owner became a party of. Whole stretches are told, each up to where associations are applied: read back after a
/// restart they may seem to stand elsewhere, but never behind such a place where they stood before it.
fn tell_widenings(inner: &mut Inner, parts: &DurableParts, sight: &Sight) {
    if !sight.needs_bindings() {
        return;
    }
    let Some((consumer, after)) = inner.machine.widening_listener() else { return };
    let through = *parts.bindings.progress().borrow();
    if through <= after {
        return;
    }
    let mut widened = sight.newly_bound(after, through);
    let has_forgotten = sight.has_forgotten_bindings(after);
    if widened.is_empty() && has_forgotten {
        // So many came since then that what is still named stands beyond it. That it is not all is said with these.
        return;
    }
    if let Some(member) = inner.members.get(&consumer)
        && !widened.is_empty()
    {
        let beyond = widened.len().saturating_sub(WIDENINGS_TOLD_MAX);
        widened.drain(..beyond);
        let incomplete = beyond > 0 || has_forgotten;
        let through = Position { epoch: parts.epoch(), sequence: through };
        // Where there is no room it is told later; who has gone is noticed where she is heard.
        if member.messages.try_send(ConsumeMessage::Widened { widened, through, incomplete }).is_err() {
            return;
        }
    }
    inner.machine.told_widenings(consumer, through);
}
