//! Random sequences of everything that can happen to a subscription, against a model that knows each event by itself. A failing seed is
//! printed; `TRADELANE_SUBSCRIPTION_SEED` runs that one alone.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::Write,
    time::Duration,
};

use uuid::Uuid;

use super::{consumers::Leaving, *};
use crate::subscribe::durable::settings::OrderingKey;

mod naive;
mod turns;

const SECOND: i64 = 1_000_000_000;
const SEQUENCES: u64 = 1_500;
const STEPS: usize = 120;

/// What the model knows of one event that was tried.
#[derive(Debug, Clone, Default, PartialEq)]
struct Known {
    acknowledged: bool,
    /// A dead letter, and whether it is asked for again.
    letter: Option<bool>,
    attempts: u32,
    not_before_ns: i64,
    held: Option<(ConsumerId, i64)>,
}

#[derive(Debug, Clone)]
struct Model {
    events: Vec<Known>,
    /// Only what stands after this place is promised: what came before was passed under another filter, or sought past.
    base: u64,
}

struct Run {
    random: fastrand::Rng,
    machine: Machine,
    settings: Settings,
    model: Model,
    /// Which filter each event matches, and its key.
    log: Vec<([bool; 2], u64)>,
    filter: usize,
    now_ns: i64,
    next_consumer: u64,
    /// Writes that are not durable yet, each with the model as it is once it is.
    writes: VecDeque<(Changes, Model)>,
    durable: (Cursor, BTreeMap<Sequence, DeadLetter>, Model),
    paused: bool,
}

fn settings(random: &mut fastrand::Rng) -> Settings {
    let mode = if random.bool() { Mode::Ordered } else { Mode::Shared };
    Settings {
        mode,
        ordering_key: (mode == Mode::Shared && random.bool()).then_some(OrderingKey::Container),
        lease: Duration::from_secs(10),
        outstanding_max: random.u32(1..12),
        attempts_max: random.u32(1..4),
        backoff_min: Duration::from_secs(random.u64(0..3)),
        backoff_max: Duration::from_secs(5),
        dead_letters_max: random.u32(1..6),
    }
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let settings = settings(&mut random);
        let cursor = Cursor {
            epoch: Epoch(Uuid::from_u128(1)),
            low_water: Sequence::ZERO,
            widenings_handled: Sequence::ZERO,
            settled: BTreeSet::new(),
            tried: BTreeMap::new(),
        };
        let model = Model { events: vec![Known::default()], base: 0 };
        let durable = (cursor.clone(), BTreeMap::new(), model.clone());
        let machine = Machine::restore(settings.clone(), cursor, BTreeMap::new());
        let log = vec![([false; 2], 0)];
        Self {
            random,
            machine,
            settings,
            model,
            log,
            filter: 0,
            now_ns: SECOND,
            next_consumer: 1,
            writes: VecDeque::new(),
            durable,
            paused: false,
        }
    }

    fn step(&mut self) {
        match self.random.u32(0..100) {
            0..18 => self.publish(),
            18..38 => self.feed(),
            38..58 => self.deliver(),
            58..76 => self.settle(),
            76..80 => self.join(),
            80..83 => self.leave(),
            83..89 => self.pass_time(),
            89..91 => self.crash(),
            91..93 => self.seek(),
            93..94 => self.update(),
            94..96 => self.set_paused(!self.paused),
            96..97 => self.replay(),
            97..98 => self.drop_letters(),
            _ => self.sync(),
        }
        self.store();
        self.check();
    }

    fn publish(&mut self) {
        for _ in 0..self.random.usize(1..6) {
            self.log.push(([self.random.u8(0..4) > 0, self.random.u8(0..4) > 0], self.random.u64(1..4)));
            self.model.events.push(Known::default());
            self.durable.2.events.push(Known::default());
            for (_, model) in &mut self.writes {
                model.events.push(Known::default());
            }
        }
    }

    /// Reads the log as a driver does: in order, from where the machine says, as far as there is room.
    fn feed(&mut self) {
        for place in self.machine.examined().get() + 1..self.log.len() as u64 {
            let (matches, key) = self.log[place as usize];
            if matches[self.filter] {
                let keys: Keys = if self.settings.ordering_key.is_some() { Box::new([key]) } else { Box::default() };
                if !self.machine.offer(Sequence(place), keys, self.now_ns) {
                    break;
                }
            } else {
                self.machine.examined_through(Sequence(place));
                // What does not match is forgotten when the reader passes it, and not before: its filter may come back.
                let known = &mut self.model.events[place as usize];
                if known.held.is_none() && known.letter.is_none() && !known.acknowledged {
                    *known = Known::default();
                }
            }
        }
    }

    fn deliver(&mut self) {
        for _ in 0..self.random.usize(1..6) {
            self.expire();
            let Some(delivery) = self.machine.deliver(self.now_ns, |_| true) else { return };
            self.check_delivery(&delivery);
            let known = &mut self.model.events[delivery.sequence.get() as usize];
            known.held = Some((delivery.consumer, delivery.lease_until_ns));
        }
    }

    fn check_delivery(&self, delivery: &Delivery) {
        let place = delivery.sequence.get() as usize;
        let known = &self.model.events[place];
        assert!(!self.paused, "delivered while paused");
        assert_eq!(known.held, None, "{place} went to two consumers");
        assert_eq!(delivery.attempt, known.attempts + 1);
        assert!(known.not_before_ns <= self.now_ns, "{place} came before its wait was over");
        if delivery.replayed {
            assert_eq!(known.letter, Some(true), "{place} was not asked for again");
        } else {
            assert!(self.log[place].0[self.filter], "{place} does not match");
            assert!(!self.is_done(place), "{place} is settled");
        }
        let of_line = |other: &usize| !self.is_done(*other) && self.log[*other].0[self.filter];
        let in_scope = || (self.machine.low_water().get() as usize + 1..place).filter(of_line);
        if self.settings.mode == Mode::Ordered && !delivery.replayed {
            assert_eq!(Some(delivery.consumer), self.machine.active());
            let overtaken = in_scope().find(|other| self.model.events[*other].held.is_none());
            assert_eq!(overtaken, None, "{place} overtook another");
        }
        if self.settings.ordering_key.is_some() && !delivery.replayed {
            let same_key = |other: &usize| self.log[*other].1 == self.log[place].1;
            assert_eq!(in_scope().find(same_key), None, "{place} overtook another of its key");
            let held =
                |other: &usize| self.model.events[*other].held.is_some() && self.model.events[*other].letter.is_none();
            let together = (1..self.log.len()).filter(held).find(same_key);
            assert_eq!(together, None, "{place} and another of its key are on their way together");
        }
    }

    fn is_done(&self, place: usize) -> bool {
        let known = &self.model.events[place];
        known.acknowledged || known.letter.is_some()
    }

    fn settle(&mut self) {
        let held: Vec<usize> = (1..self.log.len()).filter(|place| self.model.events[*place].held.is_some()).collect();
        let some_place = if held.is_empty() || self.random.u8(0..6) == 0 {
            self.random.usize(1..self.log.len() + 2)
        } else {
            held[self.random.usize(0..held.len())]
        };
        let holder = self.model.events.get(some_place).and_then(|known| known.held).map(|(consumer, _)| consumer);
        let consumer = match holder.filter(|_| self.random.u8(0..8) > 0) {
            Some(holder) => holder,
            None => ConsumerId(self.random.u64(1..=self.next_consumer)),
        };
        let verb = match self.random.u8(0..10) {
            0..6 => Verb::Acknowledge,
            6..8 => Verb::Reject { delay_ns: self.random.i64(0..4) * SECOND, reason: "no such bill".to_owned() },
            8 => Verb::Park { reason: "unreadable".to_owned() },
            _ => Verb::Extend { lease_ns: self.random.i64(0..3) * 10 * SECOND },
        };
        let attempts = self.model.events.get(some_place).map_or(0, |known| known.attempts);
        let attempt = if self.random.u8(0..8) == 0 { self.random.u32(0..4) } else { attempts + 1 };
        self.expire();
        let active = self.machine.active();
        let outcome = self.machine.settle(consumer, Sequence(some_place as u64), attempt, &verb, self.now_ns);
        let ordered = self.settings.mode == Mode::Ordered;
        let known = self.model.events.get(some_place).cloned().unwrap_or_default();
        let is_its =
            known.held.is_some_and(|(holder, _)| holder == consumer) && (attempt == 0 || attempt == known.attempts + 1);
        if ordered && active != Some(consumer) {
            assert_eq!(outcome, Outcome::TakenOver);
        } else if !is_its {
            let refused = [Outcome::LeaseEnded, Outcome::AlreadySettled, Outcome::NotDelivered];
            assert!(refused.contains(&outcome), "{some_place} is not with {consumer:?}, and was answered {outcome:?}");
        } else {
            self.apply(some_place, consumer, &verb, outcome);
        }
    }

    fn apply(&mut self, place: usize, consumer: ConsumerId, verb: &Verb, outcome: Outcome) {
        let ordered = self.settings.mode == Mode::Ordered;
        if matches!(verb, Verb::Park { .. }) && outcome == Outcome::DeadLettersFull {
            assert!(self.letters() >= self.settings.dead_letters_max as usize);
            return;
        }
        assert_eq!(outcome, Outcome::Done, "{place} is with {consumer:?}");
        let of_consumer = |known: &Known| known.held.is_some_and(|(holder, _)| holder == consumer);
        let its: Vec<usize> = (1..self.log.len()).filter(|other| of_consumer(&self.model.events[*other])).collect();
        match verb {
            Verb::Acknowledge => {
                let done = its.into_iter().filter(|other| *other == place || (ordered && *other < place));
                for other in done {
                    self.model.events[other] = Known { acknowledged: true, ..Known::default() };
                }
            }
            Verb::Reject { delay_ns, .. } => {
                for other in its.into_iter().filter(|other| ordered && *other > place) {
                    self.model.events[other].held = None;
                }
                self.count(place, *delay_ns);
            }
            Verb::AcknowledgeWidening => unreachable!("it is said of no event"),
            Verb::Park { .. } => self.model.events[place] = Known { letter: Some(false), ..Known::default() },
            Verb::Extend { lease_ns } => {
                let lease_ns = if *lease_ns == 0 { 10 * SECOND } else { *lease_ns };
                for other in its.into_iter().filter(|other| ordered || *other == place) {
                    self.model.events[other].held = Some((consumer, self.now_ns + lease_ns));
                }
            }
        }
    }

    fn letters(&self) -> usize {
        self.model.events.iter().filter(|known| known.letter.is_some()).count()
    }

    fn count(&mut self, place: usize, delay_ns: i64) {
        let room = self.letters() < self.settings.dead_letters_max as usize;
        let known = &mut self.model.events[place];
        known.held = None;
        known.attempts += 1;
        let backoff_ns = self.settings.backoff(known.attempts).as_nanos() as i64;
        known.not_before_ns = self.now_ns + backoff_ns.max(delay_ns);
        if known.attempts >= self.settings.attempts_max {
            if room || known.letter.is_some() {
                *known = Known { letter: Some(false), ..Known::default() };
            } else {
                known.not_before_ns = self.now_ns + 5 * SECOND;
            }
        }
    }

    fn release(&mut self, place: usize) {
        self.model.events[place].held = None;
    }

    /// The model's leases end; the machine's do by its next call.
    fn expire(&mut self) {
        loop {
            let over = |known: &Known| known.held.is_some_and(|(_, until_ns)| until_ns <= self.now_ns);
            let Some(_) = self.model.events.iter().find(|known| over(known)) else { break };
            if self.settings.mode == Mode::Ordered {
                let held: Vec<usize> =
                    (1..self.log.len()).filter(|place| self.model.events[*place].held.is_some()).collect();
                for place in held.iter().skip(1) {
                    self.release(*place);
                }
                self.count(held[0], 0);
            } else {
                let until = |known: &Known| known.held.map_or(i64::MAX, |(_, until_ns)| until_ns);
                let first =
                    (1..self.log.len()).min_by_key(|place| (until(&self.model.events[*place]), *place)).unwrap();
                self.count(first, 0);
            }
        }
        self.machine.expire(self.now_ns);
    }

    fn join(&mut self) {
        if self.machine.consumers().count() < 4 {
            self.machine.join(ConsumerId(self.next_consumer), self.random.u32(0..6));
            self.next_consumer += 1;
        }
    }

    fn leave(&mut self) {
        let consumers: Vec<ConsumerId> = self.machine.consumers().collect();
        let Some(consumer) = (!consumers.is_empty()).then(|| consumers[self.random.usize(0..consumers.len())]) else {
            return;
        };
        let leaving = if self.random.bool() { Leaving::Broken } else { Leaving::InOrder };
        self.expire();
        self.leave_as(consumer, leaving);
    }

    fn leave_as(&mut self, consumer: ConsumerId, leaving: Leaving) {
        self.machine.leave(consumer, leaving, self.now_ns);
        let of_consumer = |known: &Known| known.held.is_some_and(|(holder, _)| holder == consumer);
        let its: Vec<usize> = (1..self.log.len()).filter(|place| of_consumer(&self.model.events[*place])).collect();
        let ordered = self.settings.mode == Mode::Ordered;
        for (index, place) in its.into_iter().enumerate().rev() {
            if leaving == Leaving::Broken && (index == 0 || !ordered) {
                self.count(place, 0);
            } else {
                self.release(place);
            }
        }
    }

    fn pass_time(&mut self) {
        self.now_ns += self.random.i64(1..15) * SECOND / 2;
        self.expire();
    }

    /// Everything that waits to be written becomes durable.
    fn sync(&mut self) {
        self.store();
        while self.make_durable() {}
    }

    fn make_durable(&mut self) -> bool {
        let Some((changes, model)) = self.writes.pop_front() else { return false };
        for (sequence, letter) in changes.letters {
            match letter {
                Some(letter) => self.durable.1.insert(sequence, DeadLetter::decode(&letter.encode()).unwrap()),
                None => self.durable.1.remove(&sequence),
            };
        }
        self.durable.0 = Cursor::decode(&changes.cursor.encode()).unwrap();
        self.durable.2 = model;
        true
    }

    fn store(&mut self) {
        let changes =
            if self.random.u8(0..5) == 0 { self.machine.take_progress() } else { self.machine.take_promised() };
        if let Some(changes) = changes {
            self.writes.push_back((changes, self.model.clone()));
        }
    }

    /// The process dies: what was durable is left, and some of the writes that were on their way.
    fn crash(&mut self) {
        for _ in 0..self.random.usize(0..=self.writes.len()) {
            self.make_durable();
        }
        self.writes.clear();
        let (cursor, letters, model) = self.durable.clone();
        self.model = model;
        self.model.base = self.model.base.min(cursor.low_water.get());
        for known in &mut self.model.events {
            known.held = None;
        }
        self.machine = Machine::restore(self.settings.clone(), cursor, letters);
        self.machine.set_paused(self.paused);
    }

    fn everybody_leaves(&mut self) {
        self.expire();
        for consumer in self.machine.consumers().collect::<Vec<_>>() {
            self.leave_as(consumer, Leaving::InOrder);
        }
    }

    fn seek(&mut self) {
        self.everybody_leaves();
        let to = self.random.usize(0..self.log.len());
        self.machine.seek(Epoch(Uuid::from_u128(1)), Sequence(to as u64));
        for (place, known) in self.model.events.iter_mut().enumerate() {
            let letter = known.letter.map(|_| false);
            *known = Known { acknowledged: place <= to, letter, ..Known::default() };
            if place > to && letter.is_some() {
                // A dead letter that stands in the line again is delivered there; it stays one until it is acknowledged.
                *known = Known { letter: None, ..Known::default() };
            }
        }
        self.model.base = to as u64;
        // The letters' entries of the model are told from the machine's, which keeps them over a seek.
        self.machine.drop_letters(None);
        for known in &mut self.model.events {
            known.acknowledged |= known.letter.take().is_some();
        }
        self.sync();
    }

    fn update(&mut self) {
        self.expire();
        self.filter = 1 - self.filter;
        self.machine.update(self.settings.clone(), true);
        if self.settings.mode == Mode::Ordered {
            for place in 1..self.log.len() {
                if self.model.events[place].letter.is_none() {
                    self.release(place);
                }
            }
        }
        self.model.base = self.machine.low_water().get();
        self.sync();
        // Stored with the definition: what is durable knows the new filter too.
        self.durable = (self.machine.cursor(), self.machine.letters().clone(), self.model.clone());
    }

    fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
        self.machine.set_paused(paused);
    }

    fn replay(&mut self) {
        let asked = self.machine.replay(None, self.now_ns);
        let mut expected = 0;
        for known in &mut self.model.events {
            if known.letter == Some(false) {
                *known = Known { letter: Some(true), not_before_ns: self.now_ns, ..Known::default() };
                expected += 1;
            }
        }
        assert_eq!(asked, expected);
    }

    fn drop_letters(&mut self) {
        let dropped = self.machine.drop_letters(None);
        let mut expected = 0;
        for known in &mut self.model.events {
            if known.letter.is_some() && known.held.is_none() {
                *known = Known { acknowledged: true, ..Known::default() };
                expected += 1;
            }
        }
        assert_eq!(dropped, expected);
    }

    fn check(&self) {
        let low_water = self.machine.low_water().get();
        for place in self.model.base + 1..=low_water.min(self.log.len() as u64 - 1) {
            let place = place as usize;
            let passed = !self.log[place].0[self.filter] && self.model.events[place].held.is_none();
            assert!(passed || self.is_done(place), "the low water {low_water} passed {place}, which nobody settled");
        }
        let held = self.model.events.iter().filter(|known| known.held.is_some()).count();
        assert_eq!(self.machine.outstanding(), held);
        let letters: Vec<u64> = self.machine.letters().keys().map(|place| place.get()).collect();
        let expected = (1..self.log.len()).filter(|place| self.model.events[*place].letter.is_some());
        assert_eq!(letters, expected.map(|place| place as u64).collect::<Vec<_>>());
        let cursor = self.machine.cursor();
        let kept = cursor.settled.len() + self.machine.open.len();
        assert!(kept <= self.settings.outstanding_max as usize, "{kept} events are kept above the low water");
    }

    /// In the end nothing is lost: one good consumer brings everything to its end.
    fn drain(&mut self) {
        self.set_paused(false);
        self.everybody_leaves();
        let consumer = ConsumerId(self.next_consumer);
        self.machine.join(consumer, 100);
        for _ in 0..10_000 {
            self.feed();
            self.expire();
            if let Some(delivery) = self.machine.deliver(self.now_ns, |_| true) {
                self.check_delivery(&delivery);
                let place = delivery.sequence.get() as usize;
                self.model.events[place].held = Some((consumer, delivery.lease_until_ns));
                let outcome =
                    self.machine.settle(consumer, delivery.sequence, delivery.attempt, &Verb::Acknowledge, self.now_ns);
                self.apply(place, consumer, &Verb::Acknowledge, outcome);
            } else if let Some(due_ns) = self.machine.next_due_ns() {
                self.now_ns = self.now_ns.max(due_ns);
            } else if self.machine.examined().get() + 1 == self.log.len() as u64 {
                break;
            }
        }
        self.check();
        assert_eq!(self.machine.low_water().get() + 1, self.log.len() as u64, "the position came not to the end");
    }
}

/// Runs so many seeds, or the one that the slot names.
fn run_seeds(count: u64, run: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let slot = std::env::var("TRADELANE_SUBSCRIPTION_SEED").ok().and_then(|text| text.parse::<u64>().ok());
    let first = slot.unwrap_or_else(|| fastrand::u64(..u64::MAX / 2));
    let count = if slot.is_some() { 1 } else { count };
    let said = writeln!(std::io::stderr(), "seeds {first} to {}", first + count - 1);
    assert!(said.is_ok());
    for seed in first..first + count {
        let sequence = std::panic::catch_unwind(|| run(seed));
        assert!(sequence.is_ok(), "seed {seed} failed: set TRADELANE_SUBSCRIPTION_SEED={seed} to run it alone");
    }
}

#[test]
fn whatever_happens_nothing_is_lost_overtaken_or_given_twice() {
    run_seeds(SEQUENCES, |seed| {
        let mut run = Run::new(seed);
        for _ in 0..STEPS {
            run.step();
        }
        run.drain();
    });
}

#[test]
fn what_follows_an_event_that_is_looked_at_again_waits_for_it() {
    let settings = Settings {
        mode: Mode::Shared,
        ordering_key: Some(OrderingKey::Container),
        backoff_min: Duration::ZERO,
        ..Settings::default()
    };
    let cursor = Cursor {
        epoch: Epoch(Uuid::from_u128(1)),
        low_water: Sequence::ZERO,
        widenings_handled: Sequence::ZERO,
        settled: BTreeSet::new(),
        tried: BTreeMap::new(),
    };
    let mut machine = Machine::restore(settings.clone(), cursor, BTreeMap::new());
    let look = |machine: &mut Machine| {
        for place in [1, 2] {
            assert!(machine.offer(Sequence(place), Box::new([7]), SECOND));
        }
    };
    let next = |machine: &mut Machine| {
        machine.deliver(SECOND, |_| true).map(|delivery| (delivery.sequence.get(), delivery.attempt))
    };
    let consumer = ConsumerId(1);
    machine.join(consumer, 10);
    look(&mut machine);
    assert_eq!(next(&mut machine), Some((1, 1)));
    machine.update(settings, true);
    look(&mut machine);
    assert_eq!(next(&mut machine), None, "the first of its key is on its way");
    let reject = Verb::Reject { delay_ns: 0, reason: "busy".to_owned() };
    assert_eq!(machine.settle(consumer, Sequence(1), 1, &reject, SECOND), Outcome::Done);
    assert_eq!(next(&mut machine), None, "whether the first matches the new filter is not known yet");
    look(&mut machine);
    assert_eq!(next(&mut machine), Some((1, 2)));
    assert_eq!(machine.settle(consumer, Sequence(1), 2, &Verb::Acknowledge, SECOND), Outcome::Done);
    assert_eq!(next(&mut machine), Some((2, 1)));
}

#[test]
fn what_an_owner_may_not_see_any_more_is_passed_over_and_a_dead_letter_stays_one() {
    let cursor = Cursor {
        epoch: Epoch(Uuid::from_u128(1)),
        low_water: Sequence::ZERO,
        widenings_handled: Sequence::ZERO,
        settled: BTreeSet::new(),
        tried: BTreeMap::new(),
    };
    let settings = Settings { mode: Mode::Shared, ..Settings::default() };
    let mut machine = Machine::restore(settings, cursor, BTreeMap::new());
    let consumer = ConsumerId(1);
    machine.join(consumer, 10);
    for place in 1..=2 {
        assert!(machine.offer(Sequence(place), Keys::default(), SECOND));
    }
    let first = machine.deliver(SECOND, |_| true).expect("one");
    let second = machine.deliver(SECOND, |_| true).expect("another");
    assert!(machine.is_on_its_way(&first));
    machine.pass_over(first.sequence);
    assert!(!machine.is_on_its_way(&first));
    assert_eq!((machine.low_water(), machine.outstanding()), (Sequence(1), 1));
    let late = machine.settle(consumer, first.sequence, 1, &Verb::Acknowledge, SECOND);
    assert_eq!(late, Outcome::AlreadySettled);
    let park = Verb::Park { reason: "unreadable".to_owned() };
    assert_eq!(machine.settle(consumer, second.sequence, 1, &park, SECOND), Outcome::Done);
    assert_eq!(machine.replay(None, SECOND), 1);
    let again = machine.deliver(SECOND, |_| true).expect("the dead letter");
    machine.pass_over(again.sequence);
    assert_eq!((machine.letters().len(), machine.outstanding()), (1, 0));
    assert_eq!(machine.deliver(SECOND, |_| true), None);
}
