//! Which event goes to which consumer next. It never gives an event to two, nor one of a key while another of it is on its way, nor in an
//! ordered subscription anything out of order.

use std::time::Duration;

use super::{ConsumerId, Lease, Machine};
use crate::domain::Sequence;

/// An event on its way to a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// To whom.
    pub consumer: ConsumerId,
    /// Which.
    pub sequence: Sequence,
    /// Which attempt this is: 1 for the first.
    pub attempt: u32,
    /// When its lease ends, nanoseconds since 1970.
    pub lease_until_ns: i64,
    /// True for a dead letter that was asked for again.
    pub replayed: bool,
}

impl Machine {
    /// The next event for a consumer, put under a lease; none where nothing is due, or nobody has credit and is `reachable`.
    pub fn deliver(&mut self, now_ns: i64, reachable: impl Fn(ConsumerId) -> bool) -> Option<Delivery> {
        if self.paused {
            return None;
        }
        while let Some((due_ns, sequence)) = self.later.first().copied()
            && due_ns <= now_ns
        {
            self.later.pop_first();
            self.ready.insert(sequence);
        }
        let has_room = |consumer: ConsumerId| {
            let known = self.consumers.get(&consumer);
            known.is_some_and(|known| known.outstanding.len() < known.credit as usize) && reachable(consumer)
        };
        let (consumer, sequence) = if self.is_ordered() {
            (self.active.filter(|active| has_room(*active))?, self.next_in_order(now_ns)?)
        } else {
            let after = self.consumers.range(ConsumerId(self.last_served.0 + 1)..);
            let turn = after.chain(self.consumers.range(..=self.last_served)).map(|(consumer, _)| *consumer);
            let consumer = turn.into_iter().find(|consumer| has_room(*consumer))?;
            let next = *self.ready.first()?;
            // Where events before it are looked at again, it waits for them.
            (consumer, Some(next).filter(|next| *next <= self.examined || self.replays.contains_key(next))?)
        };
        self.last_served = consumer;
        self.ready.remove(&sequence);
        let lease_until_ns = now_ns.saturating_add(nanoseconds(self.settings.lease));
        let replayed = self.replays.contains_key(&sequence);
        let open = self.open.get_mut(&sequence).or_else(|| self.replays.get_mut(&sequence))?;
        open.lease = Some(Lease { consumer, until_ns: lease_until_ns });
        let attempt = open.tried.attempts + 1;
        for key in &open.keys {
            if let Some(keyed) = self.by_key.get_mut(key) {
                keyed.on_its_way = Some(sequence);
            }
        }
        self.leases.insert((lease_until_ns, sequence));
        if let Some(consumer) = self.consumers.get_mut(&consumer) {
            consumer.outstanding.insert(sequence);
        }
        Some(Delivery { consumer, sequence, attempt, lease_until_ns, replayed })
    }

    /// When something happens by time alone: a lease ends or a wait is over. Nanoseconds since 1970.
    #[must_use]
    pub fn next_due_ns(&self) -> Option<i64> {
        let lease = self.leases.first().map(|(until_ns, _)| *until_ns);
        // While nothing is delivered, the end of a wait changes nothing.
        let later = self.later.first().filter(|_| !self.paused).map(|(due_ns, _)| *due_ns);
        lease.into_iter().chain(later).min()
    }

    /// In an ordered subscription the next event is the first that waits, and it holds up all behind it. Dead letters that were asked for
    /// again go while nothing of the line is on its way, and hold up the line while they are: what is acknowledged up to an event is then
    /// always of one of the two.
    fn next_in_order(&self, now_ns: i64) -> Option<Sequence> {
        let replay_is_out = self.replays.values().any(|open| open.lease.is_some());
        let line_is_out = !replay_is_out && !self.leases.is_empty();
        let is_due = |sequence: &Sequence| {
            let open = self.open.get(sequence).or_else(|| self.replays.get(sequence));
            open.is_some_and(|open| open.tried.not_before_ns <= now_ns)
        };
        let replay = self.replays.iter().find(|(_, open)| open.lease.is_none()).map(|(sequence, _)| *sequence);
        if !line_is_out && let Some(replay) = replay.filter(is_due) {
            return Some(replay);
        }
        if replay_is_out {
            return None;
        }
        // What is on its way is the beginning of the line, since it goes out in order and comes back from its end; and all that is open was
        // looked at, since a replaced filter puts the whole line back.
        let active = self.active.and_then(|active| self.consumers.get(&active));
        let last_out = active.and_then(|active| active.outstanding.last().copied()).unwrap_or(self.low_water);
        self.open.range(last_out.next()..).next().map(|(sequence, _)| *sequence).filter(is_due)
    }
}

pub(super) fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
