//! What consumers say of their events, and what time says. It believes a consumer only of events that are on their way to it, and it never
//! settles an event that nobody settled.

use super::{ConsumerId, Machine, deliver::nanoseconds};
use crate::{
    domain::Sequence,
    subscribe::durable::{
        cursor::DeadLetter,
        settings::{DELAY_MAX, LEASE_LIMITS, Mode, REASON_BYTES_MAX},
    },
};

/// What a consumer says of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// It is done; in an ordered subscription everything before it too.
    Acknowledge,
    /// It failed, and shall come again, not before this delay (nanoseconds) and the subscription's backoff.
    Reject {
        /// Zero: the backoff alone.
        delay_ns: i64,
        /// Why.
        reason: String,
    },
    /// It cannot be processed at all: a dead letter at once.
    Park {
        /// Why.
        reason: String,
    },
    /// It takes longer: the lease is to end so long (nanoseconds) from now. In an ordered subscription the leases of all that the consumer
    /// has.
    Extend {
        /// Zero: the subscription's lease.
        lease_ns: i64,
    },
    /// What widened the owner's view up to this place is dealt with.
    AcknowledgeWidening,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is as the consumer said.
    Done,
    /// It is settled already.
    AlreadySettled,
    /// Its lease has ended, or another attempt is on its way: it went back, and comes again.
    LeaseEnded,
    /// Another consumer is active in this one's place.
    TakenOver,
    /// It was never delivered.
    NotDelivered,
    /// There is no room for another dead letter; the event is where it was.
    DeadLettersFull,
}

impl Verb {
    /// What it is called in metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Reject { .. } => "reject",
            Self::Park { .. } => "park",
            Self::Extend { .. } => "extend",
            Self::AcknowledgeWidening => "acknowledge_widening",
        }
    }
}

impl Outcome {
    /// What it is called in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::AlreadySettled => "already_settled",
            Self::LeaseEnded => "lease_ended",
            Self::TakenOver => "taken_over",
            Self::NotDelivered => "not_delivered",
            Self::DeadLettersFull => "dead_letters_full",
        }
    }
}

impl Machine {
    /// A consumer says something of an event. `attempt` zero: of whichever attempt is on its way to it.
    pub fn settle(
        &mut self,
        consumer: ConsumerId,
        sequence: Sequence,
        attempt: u32,
        verb: &Verb,
        now_ns: i64,
    ) -> Outcome {
        self.expire(now_ns);
        if *verb != Verb::AcknowledgeWidening
            && let Some(refused) = self.not_with(consumer, sequence, attempt)
        {
            return refused;
        }
        match verb {
            Verb::AcknowledgeWidening => return self.handle_widenings(consumer, sequence),
            Verb::Acknowledge if self.is_ordered() => self.acknowledge_through(consumer, sequence),
            Verb::Acknowledge => self.acknowledge(sequence),
            Verb::Reject { delay_ns, reason } => self.reject(consumer, sequence, *delay_ns, reason, now_ns),
            Verb::Park { reason } => return self.bury(sequence, true, reason, now_ns),
            Verb::Extend { lease_ns } => self.extend(consumer, sequence, *lease_ns, now_ns),
        }
        Outcome::Done
    }

    /// Why nothing that a consumer says of an event counts; none where this attempt is on its way to it.
    fn not_with(&self, consumer: ConsumerId, sequence: Sequence, attempt: u32) -> Option<Outcome> {
        if self.is_ordered() && self.active != Some(consumer) {
            return Some(Outcome::TakenOver);
        }
        let Some(open) = self.known(sequence) else { return Some(self.outcome_of_closed(sequence)) };
        let is_its = open.lease.is_some_and(|lease| lease.consumer == consumer);
        let is_this = attempt == 0 || attempt == open.tried.attempts + 1;
        (!is_its || !is_this).then_some(Outcome::LeaseEnded)
    }

    /// Ends the leases that are over; true where there were any. In an ordered subscription the first of them ends them all, and a standby
    /// takes over.
    pub fn expire(&mut self, now_ns: i64) -> bool {
        let mut any = false;
        while let Some((until_ns, sequence)) = self.leases.first().copied()
            && until_ns <= now_ns
        {
            any = true;
            if !self.is_ordered() {
                self.count_attempt(sequence, "the lease ended", 0, now_ns);
                continue;
            }
            let outstanding: Vec<Sequence> = self.leases.iter().map(|(_, sequence)| *sequence).collect();
            let first = outstanding.iter().copied().min();
            for sequence in outstanding.into_iter().rev().filter(|sequence| Some(*sequence) != first) {
                self.release(sequence, now_ns);
            }
            if let Some(first) = first {
                self.count_attempt(first, "the lease ended", 0, now_ns);
            }
            self.take_over();
        }
        any
    }

    fn outcome_of_closed(&self, sequence: Sequence) -> Outcome {
        let is_settled = sequence <= self.low_water || self.settled.contains(&sequence);
        match (is_settled, sequence <= self.examined || self.tried.contains_key(&sequence)) {
            (true, _) => Outcome::AlreadySettled,
            (false, true) => Outcome::LeaseEnded,
            (false, false) => Outcome::NotDelivered,
        }
    }

    fn acknowledge(&mut self, sequence: Sequence) {
        let replayed = self.replays.contains_key(&sequence);
        self.remove(sequence);
        self.changed.promised = true;
        // What was processed after all is no dead letter any more, wherever it was delivered.
        if self.letters.remove(&sequence).is_some() {
            self.changed.letters.insert(sequence);
        }
        if replayed {
            self.open_replays();
        } else {
            self.settled.insert(sequence);
            self.advance();
        }
    }

    /// Everything that the consumer has up to this one. The line and the replays are never on their way together.
    fn acknowledge_through(&mut self, consumer: ConsumerId, through: Sequence) {
        let Some(known) = self.consumers.get(&consumer) else { return };
        let done: Vec<Sequence> = known.outstanding.range(..=through).copied().collect();
        for sequence in done {
            self.acknowledge(sequence);
        }
    }

    fn reject(&mut self, consumer: ConsumerId, sequence: Sequence, delay_ns: i64, reason: &str, now_ns: i64) {
        if self.is_ordered()
            && let Some(known) = self.consumers.get(&consumer)
        {
            // What follows it must not overtake it.
            let following: Vec<Sequence> = known.outstanding.range(sequence.next()..).copied().collect();
            for following in following.into_iter().rev() {
                self.release(following, now_ns);
            }
        }
        self.count_attempt(sequence, reason, delay_ns, now_ns);
    }

    fn extend(&mut self, consumer: ConsumerId, sequence: Sequence, lease_ns: i64, now_ns: i64) {
        let lease_ns = if lease_ns == 0 { nanoseconds(self.settings.lease) } else { lease_ns };
        let [least, most] = LEASE_LIMITS.map(nanoseconds);
        let until_ns = now_ns.saturating_add(lease_ns.clamp(least, most));
        let Some(known) = self.consumers.get(&consumer) else { return };
        let extended: Vec<Sequence> =
            if self.is_ordered() { known.outstanding.iter().copied().collect() } else { vec![sequence] };
        for sequence in extended {
            if let Some(lease) = self.known_mut(sequence).and_then(|open| open.lease.as_mut()) {
                let before_ns = std::mem::replace(&mut lease.until_ns, until_ns);
                self.leases.remove(&(before_ns, sequence));
                self.leases.insert((until_ns, sequence));
            }
        }
    }

    /// Gives an event back without counting an attempt.
    pub(super) fn release(&mut self, sequence: Sequence, now_ns: i64) {
        let Some(open) = self.known_mut(sequence) else { return };
        let (lease, stale, keys) = (open.lease.take(), open.stale, open.keys.clone());
        self.end_lease(sequence, lease);
        // Whoever had it may still say something of it, and of what she had behind it: see where the next in order is chosen.
        if self.settings.mode == Mode::Ordered
            && let Some(consumer) = lease.and_then(|lease| self.consumers.get_mut(&lease.consumer))
        {
            consumer.one_by_one_through = consumer.had_through;
        }
        for key in &keys {
            let Some(keyed) = self.by_key.get_mut(key) else { continue };
            keyed.on_its_way.take_if(|out| *out == sequence);
            // An earlier one that was looked at again waited for this one.
            let first = keyed.open.first().copied().filter(|first| *first != sequence);
            if let Some(first) = first {
                self.consider_again(first);
            }
        }
        if stale {
            self.shelve(sequence);
        } else {
            self.consider(sequence, now_ns);
        }
    }

    /// Counts an attempt that ended. The event waits, or its attempts are used up and it becomes a dead letter; while there is no room for
    /// one it goes on waiting, as long as a wait may be.
    pub(super) fn count_attempt(&mut self, sequence: Sequence, reason: &str, delay_ns: i64, now_ns: i64) {
        let settings = self.settings.clone();
        let Some(open) = self.known_mut(sequence) else { return };
        open.tried.attempts = open.tried.attempts.saturating_add(1);
        open.tried.reason = cut(reason);
        let backoff_ns = nanoseconds(settings.backoff(open.tried.attempts));
        let wait_ns = backoff_ns.max(delay_ns.clamp(0, nanoseconds(DELAY_MAX)));
        open.tried.not_before_ns = now_ns.saturating_add(wait_ns);
        let (attempts, replayed) = (open.tried.attempts, self.replays.contains_key(&sequence));
        self.changed.promised = true;
        if attempts >= settings.attempts_max && self.bury(sequence, false, reason, now_ns) == Outcome::Done {
            return;
        }
        // No room for it: it goes on waiting.
        if attempts >= settings.attempts_max
            && let Some(open) = self.open.get_mut(&sequence)
        {
            open.tried.not_before_ns = now_ns.saturating_add(nanoseconds(settings.backoff_max));
        }
        if replayed
            && let Some(letter) = self.letters.get_mut(&sequence)
            && let Some(open) = self.replays.get(&sequence)
        {
            letter.replay = Some(open.tried.clone());
            self.changed.letters.insert(sequence);
        }
        self.release(sequence, now_ns);
    }

    /// Makes an event a dead letter.
    fn bury(&mut self, sequence: Sequence, parked: bool, reason: &str, now_ns: i64) -> Outcome {
        let replayed = self.replays.contains_key(&sequence);
        let is_new = !self.letters.contains_key(&sequence);
        if is_new && self.letters.len() >= self.settings.dead_letters_max as usize {
            return Outcome::DeadLettersFull;
        }
        let Some(open) = self.remove(sequence) else { return Outcome::NotDelivered };
        // A park is an attempt too, and none that was counted yet.
        let before = self.letters.get(&sequence).filter(|_| replayed).map_or(0, |letter| letter.attempts);
        let attempts = before.saturating_add(open.tried.attempts).saturating_add(u32::from(parked));
        let letter = DeadLetter { attempts, parked, time_ns: now_ns, reason: cut(reason), replay: None };
        self.letters.insert(sequence, letter);
        self.changed.letters.insert(sequence);
        self.changed.promised = true;
        if replayed {
            self.open_replays();
        } else {
            self.settled.insert(sequence);
            self.advance();
        }
        Outcome::Done
    }
}

fn cut(reason: &str) -> String {
    let end = (0..=REASON_BYTES_MAX.min(reason.len())).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
    reason[..end].to_owned()
}
