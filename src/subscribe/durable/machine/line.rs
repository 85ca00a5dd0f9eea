//! The open events: which of them are ready, which wait for a time, and which wait behind another of their keys. It never decides what
//! becomes of one.

use super::{Lease, Machine, Open, REPLAYS_MAX};
use crate::{domain::Sequence, subscribe::durable::cursor::Tried};

impl Machine {
    /// An open event, of the line or beside it.
    pub(super) fn known(&self, sequence: Sequence) -> Option<&Open> {
        self.open.get(&sequence).or_else(|| self.replays.get(&sequence))
    }

    /// As [`Self::known`], to be changed.
    pub(super) fn known_mut(&mut self, sequence: Sequence) -> Option<&mut Open> {
        self.open.get_mut(&sequence).or_else(|| self.replays.get_mut(&sequence))
    }

    pub(super) fn close_replay(&mut self, sequence: Sequence) {
        // After a seek a dead letter may stand in the line as well: that one stays.
        if self.replays.contains_key(&sequence) {
            self.remove(sequence);
            self.open_replays();
        }
    }

    pub(super) fn open_replays(&mut self) {
        let asked: Vec<(Sequence, Tried)> = self
            .letters
            .iter()
            .filter(|(sequence, _)| !self.replays.contains_key(sequence))
            .filter_map(|(sequence, letter)| Some((*sequence, letter.replay.clone()?)))
            .take(REPLAYS_MAX.saturating_sub(self.replays.len()))
            .collect();
        for (sequence, tried) in asked {
            let not_before_ns = tried.not_before_ns;
            self.replays.insert(sequence, Open { keys: Box::default(), tried, lease: None, stale: false });
            self.later.insert((not_before_ns, sequence));
        }
    }

    pub(super) fn insert(&mut self, sequence: Sequence, open: Open, now_ns: i64) {
        for key in &open.keys {
            let keyed = self.by_key.entry(*key).or_default();
            keyed.open.insert(sequence);
            // One behind it that was first until now waits for it.
            if let Some(behind) = keyed.open.range(sequence.next()..).next().copied()
                && let Some(other) = self.open.get(&behind)
            {
                self.ready.remove(&behind);
                self.later.remove(&(other.tried.not_before_ns, behind));
            }
        }
        self.open.insert(sequence, open);
        self.consider(sequence, now_ns);
    }

    /// Puts a waiting event where it belongs: among those ready, those for later, or (behind another of its keys) nowhere.
    pub(super) fn consider(&mut self, sequence: Sequence, now_ns: i64) {
        let Some(open) = self.known(sequence) else { return };
        if open.lease.is_some() {
            return;
        }
        let is_next = |key: &u64| {
            let keyed = self.by_key.get(key);
            keyed.is_some_and(|keyed| keyed.on_its_way.is_none() && keyed.open.first() == Some(&sequence))
        };
        if !open.keys.iter().all(is_next) {
            return;
        }
        if open.tried.not_before_ns <= now_ns {
            self.ready.insert(sequence);
        } else {
            self.later.insert((open.tried.not_before_ns, sequence));
        }
    }

    /// Takes an event out of the line or from beside it; those behind it may follow.
    pub(super) fn remove(&mut self, sequence: Sequence) -> Option<Open> {
        let open = self.open.remove(&sequence).or_else(|| self.replays.remove(&sequence))?;
        self.ready.remove(&sequence);
        self.later.remove(&(open.tried.not_before_ns, sequence));
        self.end_lease(sequence, open.lease);
        for key in &open.keys {
            let Some(keyed) = self.by_key.get_mut(key) else { continue };
            let was_first = keyed.open.first() == Some(&sequence);
            let was_out = keyed.on_its_way.take_if(|out| *out == sequence).is_some();
            keyed.open.remove(&sequence);
            let first = keyed.open.first().copied();
            if keyed.open.is_empty() {
                self.by_key.remove(key);
            }
            if let Some(first) = first.filter(|_| was_first || was_out) {
                self.consider_again(first);
            }
        }
        Some(open)
    }

    /// As [`Self::consider`], for one that may have been ready already, or waited behind another.
    pub(super) fn consider_again(&mut self, sequence: Sequence) {
        let due_ns = self.open.get(&sequence).map(|open| open.tried.not_before_ns);
        if let Some(due_ns) =
            due_ns.filter(|due_ns| !self.ready.contains(&sequence) && !self.later.contains(&(*due_ns, sequence)))
        {
            // Whether it is due, the next delivery looks.
            self.consider(sequence, due_ns.saturating_sub(1));
        }
    }

    /// Takes a waiting event out of the line, to be looked at again.
    pub(super) fn shelve(&mut self, sequence: Sequence) {
        if let Some(open) = self.remove(sequence)
            && open.tried.attempts > 0
        {
            self.tried.insert(sequence, open.tried);
        }
        self.examined = self.examined.min(Sequence(sequence.get() - 1));
    }

    pub(super) fn end_lease(&mut self, sequence: Sequence, lease: Option<Lease>) {
        let Some(Lease { consumer, until_ns }) = lease else { return };
        self.leases.remove(&(until_ns, sequence));
        if let Some(consumer) = self.consumers.get_mut(&consumer) {
            consumer.outstanding.remove(&sequence);
        }
    }
}
