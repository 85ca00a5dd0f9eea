//! What one subscription knows of its events and consumers, and what may happen next. Pure: it is told the time, reads nothing and sends
//! nothing. It never lets the acknowledged position pass an event that is not settled, and never holds more events than the settings say.
//!
//! ```text
//!            low water            settled ones, open ones            examined
//! ──────────────┼──────────────────────────────────────────────────────┼─────────────▶ log
//!   settled or  │  open: waiting (due, later, or behind its key)        │  not yet looked at
//!   no match    │        or on its way to one consumer, under a lease   │
//! ```
//! Dead letters stand beside: settled for the position, and kept. Those that are asked for again are opened beside the line ("replays").

mod consumers;
mod deliver;
mod line;
mod settle;
mod standing;
#[cfg(test)]
mod tests;
mod widening;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    cursor::{Cursor, DeadLetter, Tried},
    settings::{Mode, Settings},
};
use crate::domain::{Epoch, Sequence};

pub use consumers::Leaving;
pub use deliver::Delivery;
pub(super) use deliver::TURN_EVENTS_MAX;
pub use settle::{Outcome, Verb};
pub use standing::Standing;

/// So many dead letters are opened at once where many are asked for again: they leave room for new events.
const REPLAYS_MAX: usize = 100;

/// One consumer's session. A number is never used twice within a process, so that it is the fence as well: what bears another's number is
/// not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerId(pub u64);

/// What orders an event among others of the same subject: hashes of the subjects' names.
pub type Keys = Box<[u64]>;

/// One subscription.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    epoch: Epoch,
    low_water: Sequence,
    examined: Sequence,
    settled: BTreeSet<Sequence>,
    /// Tried and not open: seen before a restart or under another filter, and not yet looked at again.
    tried: BTreeMap<Sequence, Tried>,
    /// Open events of the line, and those opened again beside it.
    open: BTreeMap<Sequence, Open>,
    replays: BTreeMap<Sequence, Open>,
    letters: BTreeMap<Sequence, DeadLetter>,
    /// Open events by what orders them.
    by_key: HashMap<u64, Keyed>,
    /// Waiting, due and first of each of their keys.
    ready: BTreeSet<Sequence>,
    /// Waiting until a time, and first of each of their keys.
    later: BTreeSet<(i64, Sequence)>,
    leases: BTreeSet<(i64, Sequence)>,
    consumers: BTreeMap<ConsumerId, Consumer>,
    active: Option<ConsumerId>,
    /// Whom an event was offered to last, so that consumers take turns.
    last_served: ConsumerId,
    /// How many events more it gets before another's turn.
    turn_left: usize,
    widenings_handled: Sequence,
    paused: bool,
    changed: Changed,
}

/// One open event.
#[derive(Debug)]
struct Open {
    keys: Keys,
    tried: Tried,
    lease: Option<Lease>,
    /// Its filter was replaced while it was on its way.
    stale: bool,
}

/// The open events of one key: one of them may be on its way, and it is the first of them but where an earlier one was looked at again.
#[derive(Debug, Default)]
struct Keyed {
    open: BTreeSet<Sequence>,
    on_its_way: Option<Sequence>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    consumer: ConsumerId,
    until_ns: i64,
}

#[derive(Debug, Default)]
struct Consumer {
    credit: u32,
    outstanding: BTreeSet<Sequence>,
    /// The last event that it ever had.
    had_through: Sequence,
    /// In an ordered subscription it gets events up to here one by one.
    one_by_one_through: Sequence,
    /// What widened the owner's view up to here, it was told.
    widenings_told: Sequence,
}

/// What is to be stored.
#[derive(Debug, Default)]
struct Changed {
    promised: bool,
    progress: bool,
    letters: BTreeSet<Sequence>,
}

/// What is to be stored together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// How far the subscription is.
    pub cursor: Cursor,
    /// Dead letters that came, changed or went.
    pub letters: Vec<(Sequence, Option<DeadLetter>)>,
}

impl Machine {
    /// Goes on from what was stored.
    #[must_use]
    pub fn restore(settings: Settings, cursor: Cursor, letters: BTreeMap<Sequence, DeadLetter>) -> Self {
        let Cursor { epoch, low_water, widenings_handled, settled, tried } = cursor;
        let mut machine = Self {
            settings,
            epoch,
            low_water,
            examined: low_water,
            settled,
            tried,
            open: BTreeMap::new(),
            replays: BTreeMap::new(),
            letters,
            by_key: HashMap::new(),
            ready: BTreeSet::new(),
            later: BTreeSet::new(),
            leases: BTreeSet::new(),
            consumers: BTreeMap::new(),
            active: None,
            last_served: ConsumerId(0),
            turn_left: 0,
            widenings_handled,
            paused: false,
            changed: Changed::default(),
        };
        machine.open_replays();
        machine
    }

    /// Everything up to here is settled or did not match.
    #[must_use]
    pub const fn low_water(&self) -> Sequence {
        self.low_water
    }

    /// Up to here the log was looked at. It moves back where events must be looked at again.
    #[must_use]
    pub const fn examined(&self) -> Sequence {
        self.examined
    }

    /// How many events are on their way to consumers.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.leases.len()
    }

    /// The dead letters.
    #[must_use]
    pub const fn letters(&self) -> &BTreeMap<Sequence, DeadLetter> {
        &self.letters
    }

    /// How many more events it takes.
    #[must_use]
    pub fn room(&self) -> usize {
        (self.settings.outstanding_max as usize).saturating_sub(self.open.len() + self.settled.len())
    }

    /// Stops or starts deliveries; what is on its way can be settled all the same.
    pub const fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Offers the next matching event of the log; false where there is no room for it now. One that is settled or known already is passed
    /// over.
    pub fn offer(&mut self, sequence: Sequence, keys: Keys, now_ns: i64) -> bool {
        assert!(sequence > self.low_water, "what was acknowledged is not offered again");
        if !self.settled.contains(&sequence) && !self.open.contains_key(&sequence) {
            if self.room() == 0 {
                return false;
            }
            let tried = self.tried.remove(&sequence).unwrap_or_default();
            self.insert(sequence, Open { keys, tried, lease: None, stale: false }, now_ns);
        }
        self.examined_through(sequence);
        true
    }

    /// Everything up to a place was offered or does not match.
    pub fn examined_through(&mut self, through: Sequence) {
        if through <= self.examined {
            return;
        }
        self.examined = through;
        // What was tried and is not open by now does not match any more.
        while let Some(entry) = self.tried.first_entry()
            && *entry.key() <= through
        {
            entry.remove();
        }
        self.advance();
    }

    /// Begins anew after a place. Consumers have nothing any more; dead letters stay.
    pub fn seek(&mut self, epoch: Epoch, to: Sequence) {
        assert!(self.consumers.is_empty(), "consumers leave before a seek");
        if self.epoch != epoch {
            // What the other life of the log had there says nothing of this one.
            self.widenings_handled = Sequence::ZERO;
        }
        (self.epoch, self.low_water, self.examined) = (epoch, to, to);
        self.settled.clear();
        self.tried.clear();
        self.open.clear();
        self.replays.clear();
        self.by_key.clear();
        self.ready.clear();
        self.later.clear();
        for (sequence, letter) in &mut self.letters {
            if letter.replay.take().is_some() {
                self.changed.letters.insert(*sequence);
            }
        }
        self.changed.promised = true;
    }

    /// Takes other settings, and where the filter is another too, looks again at everything after the acknowledged position that is neither
    /// settled nor (in a shared subscription) on its way.
    pub fn update(&mut self, settings: Settings, other_filter: bool) {
        assert_eq!(settings.mode, self.settings.mode, "a subscription keeps its mode");
        self.settings = settings;
        if !other_filter {
            return;
        }
        if self.is_ordered() {
            // An event that matches only now must not come behind one that is on its way: all of them go back and are looked at again.
            let outstanding: Vec<Sequence> =
                self.open.iter().filter(|(_, open)| open.lease.is_some()).map(|(sequence, _)| *sequence).collect();
            for sequence in outstanding.into_iter().rev() {
                self.release(sequence, i64::MIN);
            }
            // Also where nothing is on its way now: what a consumer had before she may still acknowledge.
            for consumer in self.consumers.values_mut() {
                consumer.one_by_one_through = consumer.had_through;
            }
        }
        let waiting: Vec<Sequence> =
            self.open.iter().filter(|(_, open)| open.lease.is_none()).map(|(sequence, _)| *sequence).collect();
        for sequence in waiting {
            self.shelve(sequence);
        }
        for open in self.open.values_mut() {
            open.stale = true;
        }
        self.examined = self.low_water;
    }

    /// Asks for dead letters again: all that there are now, or these. Answers how many.
    pub fn replay(&mut self, which: Option<&BTreeSet<Sequence>>, now_ns: i64) -> usize {
        let asked: Vec<Sequence> = self
            .letters
            .iter()
            .filter(|(sequence, letter)| {
                // After a seek a dead letter may stand in the line again, and is delivered there.
                let in_line = self.low_water < **sequence && !self.settled.contains(sequence);
                which.is_none_or(|which| which.contains(sequence)) && letter.replay.is_none() && !in_line
            })
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in &asked {
            if let Some(letter) = self.letters.get_mut(sequence) {
                letter.replay = Some(Tried { not_before_ns: now_ns, ..Tried::default() });
            }
            self.changed.letters.insert(*sequence);
        }
        self.open_replays();
        asked.len()
    }

    /// Forgets dead letters: all that there are, or these; one that is on its way stays. Answers how many.
    pub fn drop_letters(&mut self, which: Option<&BTreeSet<Sequence>>) -> usize {
        let on_their_way = |sequence: &Sequence| self.replays.get(sequence).is_some_and(|open| open.lease.is_some());
        let dropped: Vec<Sequence> = self
            .letters
            .keys()
            .filter(|sequence| which.is_none_or(|which| which.contains(sequence)) && !on_their_way(sequence))
            .copied()
            .collect();
        for sequence in &dropped {
            self.letters.remove(sequence);
            self.close_replay(*sequence);
            self.changed.letters.insert(*sequence);
        }
        dropped.len()
    }

    /// The event is not delivered, since its owner may not see it any more: it is passed over as one that does not match, and a dead letter
    /// stays one.
    pub fn pass_over(&mut self, sequence: Sequence) {
        if self.replays.contains_key(&sequence) {
            if let Some(letter) = self.letters.get_mut(&sequence) {
                letter.replay = None;
                self.changed.letters.insert(sequence);
            }
            self.close_replay(sequence);
        } else if self.remove(sequence).is_some() {
            self.advance();
        }
    }

    /// Whether a delivery is still on its way as it was given out.
    #[must_use]
    pub fn is_on_its_way(&self, delivery: &Delivery) -> bool {
        let lease = self.known(delivery.sequence).and_then(|open| open.lease);
        lease.is_some_and(|lease| lease.consumer == delivery.consumer && lease.until_ns == delivery.lease_until_ns)
    }

    /// Whether an event could go out now, had a consumer room for it.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// What has to be stored before any answer is given; none where nothing was promised since.
    pub fn take_promised(&mut self) -> Option<Changes> {
        self.has_promises().then(|| self.take_changes())
    }

    /// What has changed, the position that moved by itself included; none where nothing has.
    pub fn take_progress(&mut self) -> Option<Changes> {
        self.has_progress().then(|| self.take_changes())
    }

    /// Whether anything has changed that is not stored.
    #[must_use]
    pub fn has_progress(&self) -> bool {
        self.changed.progress || self.has_promises()
    }

    /// Whether something was promised that is not stored.
    #[must_use]
    pub fn has_promises(&self) -> bool {
        self.changed.promised || !self.changed.letters.is_empty()
    }

    /// A delivery could not be handed out: it comes again, and no attempt is counted.
    pub fn give_back(&mut self, sequence: Sequence, now_ns: i64) {
        self.release(sequence, now_ns);
    }

    /// How far it is, to be stored.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        let open = self.open.iter().filter(|(_, open)| open.tried.attempts > 0);
        let tried = open.map(|(sequence, open)| (*sequence, open.tried.clone())).chain(self.tried.clone()).collect();
        Cursor {
            epoch: self.epoch,
            low_water: self.low_water,
            widenings_handled: self.widenings_handled,
            settled: self.settled.clone(),
            tried,
        }
    }

    fn take_changes(&mut self) -> Changes {
        let changed = std::mem::take(&mut self.changed);
        let letters = changed.letters.into_iter().map(|sequence| (sequence, self.letters.get(&sequence).cloned()));
        Changes { letters: letters.collect(), cursor: self.cursor() }
    }

    /// Moves the low water to before the first open event of the line, or to where the log was looked at.
    fn advance(&mut self) {
        let first_open = self.open.first_key_value().map(|(sequence, _)| Sequence(sequence.get() - 1));
        let low_water = first_open.map_or(self.examined, |before| before.min(self.examined));
        if self.low_water < low_water {
            self.low_water = low_water;
            self.settled = self.settled.split_off(&low_water.next());
            self.changed.progress = true;
        }
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.settings.mode == Mode::Ordered
    }
}
