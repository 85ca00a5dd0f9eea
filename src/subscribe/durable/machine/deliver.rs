//! Which event goes to which consumer next. It never gives an event to two, nor one of a key while another of it is on its way, nor in an
//! ordered subscription anything out of order.

use std::time::Duration;

use super::{ConsumerId, Lease, Machine};
use crate::domain::Sequence;

/// One consumer of a shared subscription gets at most so many events in a row: they are one message.
pub(in crate::subscribe::durable) const TURN_EVENTS_MAX: usize = 32;

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
            let next = *self.ready.first()?;
            // Where events before it are looked at again, it waits for them.
            let next = Some(next).filter(|next| *next <= self.examined || self.replays.contains_key(next))?;
            let goes_on = self.turn_left > 0 && has_room(self.last_served);
            let (consumer, turn) = if goes_on { (self.last_served, self.turn_left) } else { self.next_turn(has_room)? };
            self.turn_left = turn - 1;
            (consumer, next)
        };
        self.last_served = consumer;
        self.ready.remove(&sequence);
        // A turn ends with what there is: what comes later goes to whoever has nothing then.
        if self.ready.is_empty() {
            self.turn_left = 0;
        }
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
            consumer.had_through = consumer.had_through.max(sequence);
        }
        Some(Delivery { consumer, sequence, attempt, lease_until_ns, replayed })
    }

    /// Whose turn it is in a shared subscription, and for how many events: as many as go together, so that each message and each answer is
    /// worth its cost, but whoever has nothing comes first, and no more than her share while there are others like her.
    fn next_turn(&self, has_room: impl Fn(ConsumerId) -> bool) -> Option<(ConsumerId, usize)> {
        let after = self.consumers.range(ConsumerId(self.last_served.0 + 1)..);
        let in_turn =
            || after.clone().chain(self.consumers.range(..=self.last_served)).filter(|(id, _)| has_room(**id));
        let mut idle = in_turn().filter(|(_, known)| known.outstanding.is_empty()).map(|(id, _)| *id);
        match idle.next() {
            Some(first) => Some((first, (self.ready.len() / (1 + idle.count())).clamp(1, TURN_EVENTS_MAX))),
            None => in_turn().next().map(|(id, _)| (*id, TURN_EVENTS_MAX)),
        }
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
        let is_due = |sequence: &Sequence| self.known(*sequence).is_some_and(|open| open.tried.not_before_ns <= now_ns);
        let active = self.active.and_then(|active| self.consumers.get(&active))?;
        // What is on its way goes out in order and comes back from its end: what comes next stands behind all of it.
        let last_out = active.outstanding.last().copied();
        let after = last_out.unwrap_or(Sequence::ZERO).next();
        // A consumer may have handled, before it heard that they went back, the events behind one that failed. It acknowledges them when
        // they have come again, and would settle with them the one that failed: so nothing goes out behind that one until it is settled.
        if last_out.is_some_and(|last| self.known(last).is_some_and(|open| open.tried.attempts > 0)) {
            return None;
        }
        // What went back from the consumer, or what it had when the filter was replaced, it may still acknowledge, and with it what it
        // failed in or never had: so that each of them stands for itself alone, they go out one by one, and again as dead letters too.
        let goes_alone = |next: &Sequence| *next <= active.one_by_one_through && last_out.is_some();
        let replay_is_out = last_out.is_some_and(|last| self.replays.contains_key(&last));
        if replay_is_out || last_out.is_none() {
            let replay = self.replays.range(after..).next().map(|(sequence, _)| *sequence).filter(is_due);
            if replay_is_out || replay.is_some() {
                return replay.filter(|next| !goes_alone(next));
            }
        }
        // All that is open was looked at, since a replaced filter puts the whole line back.
        let next = self.open.range(after.max(self.low_water.next())..).next().map(|(sequence, _)| *sequence)?;
        Some(next).filter(|next| !goes_alone(next) && is_due(next))
    }
}

pub(super) fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
