//! Who consumes: consumers come and leave, and in an ordered subscription one of them is active. It never leaves an event with a consumer
//! that is gone.

use super::{Consumer, ConsumerId, Machine};
use crate::domain::Sequence;

/// How a consumer left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// It said so, or the node sent it away: what it had is given to others, and no attempt is counted.
    InOrder,
    /// Its connection broke, or it fell silent: what it had may be why.
    Broken,
}

impl Machine {
    /// A consumer comes; its number is higher than any before.
    pub fn join(&mut self, consumer: ConsumerId, credit: u32) {
        assert!(self.consumers.keys().next_back().is_none_or(|last| *last < consumer), "numbers are given in order");
        self.consumers.insert(consumer, Consumer { credit, ..Consumer::default() });
        self.choose_active();
    }

    /// A consumer says how many events it may have at once.
    pub fn set_credit(&mut self, consumer: ConsumerId, credit: u32) {
        if let Some(consumer) = self.consumers.get_mut(&consumer) {
            consumer.credit = credit;
        }
    }

    /// A consumer leaves.
    pub fn leave(&mut self, consumer: ConsumerId, leaving: Leaving, now_ns: i64) {
        let Some(Consumer { outstanding, .. }) = self.consumers.get(&consumer) else { return };
        let outstanding: Vec<Sequence> = outstanding.iter().copied().collect();
        let counted = match (leaving, self.is_ordered()) {
            (Leaving::InOrder, _) => 0,
            // It takes events in order: only the first of them can be why it broke.
            (Leaving::Broken, true) => 1,
            (Leaving::Broken, false) => outstanding.len(),
        };
        // From the last to the first, so that an ordered line is whole again before its first event is judged.
        for (index, sequence) in outstanding.into_iter().enumerate().rev() {
            if index < counted {
                self.count_attempt(sequence, "the consumer's connection broke", 0, now_ns);
            } else {
                self.release(sequence, now_ns);
            }
        }
        self.consumers.remove(&consumer);
        if self.active == Some(consumer) {
            self.active = None;
            self.choose_active();
        }
    }

    /// The active consumer of an ordered subscription.
    #[must_use]
    pub const fn active(&self) -> Option<ConsumerId> {
        self.active
    }

    /// Whoever consumes now, the first that came first.
    pub fn consumers(&self) -> impl Iterator<Item = ConsumerId> + '_ {
        self.consumers.keys().copied()
    }

    /// Whether somebody may have more events than she has.
    #[must_use]
    pub fn wants_events(&self) -> bool {
        let has_credit = |consumer: &Consumer| consumer.outstanding.len() < consumer.credit as usize;
        !self.paused
            && match self.active {
                Some(active) => self.consumers.get(&active).is_some_and(has_credit),
                None => !self.is_ordered() && self.consumers.values().any(has_credit),
            }
    }

    /// A lease of the active consumer ended: whoever stood by the longest is next; where nobody does, it stays.
    pub(super) fn take_over(&mut self) {
        let Some(active) = self.active else { return };
        let next = self.consumers.keys().find(|consumer| **consumer > active).or_else(|| self.consumers.keys().next());
        self.active = next.copied();
    }

    fn choose_active(&mut self) {
        if self.is_ordered() && self.active.is_none() {
            self.active = self.consumers.keys().next().copied();
        }
    }
}
