//! Consumers of an ordered subscription that do not heed what went back: they handle and settle whatever they have received, in its order,
//! also what stands behind an event that they have just rejected. It shows that nothing is ever settled that no consumer has done.

use std::collections::{BTreeSet, VecDeque};

use super::*;

const NAIVE_SEQUENCES: u64 = 1_500;
const NAIVE_STEPS: usize = 150;

struct Naive {
    random: fastrand::Rng,
    machine: Machine,
    settings: Settings,
    /// Which filter each event matches.
    log: Vec<[bool; 2]>,
    filter: usize,
    now_ns: i64,
    /// What each consumer has received and not handled.
    received: BTreeMap<ConsumerId, VecDeque<Delivery>>,
    next_consumer: u64,
    /// What some consumer has done.
    done: BTreeSet<Sequence>,
}

fn first_settings() -> Settings {
    Settings {
        mode: Mode::Ordered,
        lease: Duration::from_secs(10),
        attempts_max: 4,
        backoff_min: Duration::ZERO,
        backoff_max: Duration::ZERO,
        ..Settings::default()
    }
}

impl Naive {
    fn new(seed: u64) -> Self {
        let settings = first_settings();
        let cursor = Cursor {
            epoch: Epoch(Uuid::from_u128(1)),
            low_water: Sequence::ZERO,
            widenings_handled: Sequence::ZERO,
            settled: BTreeSet::new(),
            tried: BTreeMap::new(),
        };
        Self {
            random: fastrand::Rng::with_seed(seed),
            machine: Machine::restore(settings.clone(), cursor, BTreeMap::new()),
            settings,
            log: vec![[false; 2]],
            filter: 0,
            now_ns: SECOND,
            received: BTreeMap::new(),
            next_consumer: 1,
            done: BTreeSet::new(),
        }
    }

    /// One consumer with room, and so many events that always match.
    fn at_work(events: usize) -> Self {
        let mut run = Self::new(0);
        run.join();
        run.machine.set_credit(ConsumerId(1), 10);
        run.log.extend(vec![[true; 2]; events]);
        run.feed();
        run
    }

    fn step(&mut self) {
        match self.random.u32(0..100) {
            0..15 => self.publish(),
            15..50 => self.deliver(),
            50..85 => self.handle(),
            85..88 => self.join(),
            88..90 => self.leave(),
            90..93 => self.now_ns += self.random.i64(0..12) * SECOND,
            93..96 => {
                self.filter = 1 - self.filter;
                self.machine.update(self.settings.clone(), true);
            }
            _ => self.replay_one(),
        }
    }

    fn publish(&mut self) {
        for _ in 0..self.random.usize(1..4) {
            self.log.push([self.random.u8(0..4) > 0, self.random.u8(0..4) > 0]);
        }
    }

    fn feed(&mut self) {
        for place in self.machine.examined().get() + 1..self.log.len() as u64 {
            if !self.log[place as usize][self.filter] {
                self.machine.examined_through(Sequence(place));
            } else if !self.machine.offer(Sequence(place), Keys::default(), self.now_ns) {
                break;
            }
        }
    }

    fn deliver(&mut self) {
        self.machine.expire(self.now_ns);
        self.feed();
        for _ in 0..self.random.usize(1..6) {
            let Some(delivery) = self.machine.deliver(self.now_ns, |_| true) else { return };
            self.received.get_mut(&delivery.consumer).expect("it is there").push_back(delivery);
        }
    }

    /// One consumer handles the next that it has received, and says what came of it.
    fn handle(&mut self) {
        let consumers: Vec<ConsumerId> = self.received.keys().copied().collect();
        let Some(consumer) = (!consumers.is_empty()).then(|| consumers[self.random.usize(0..consumers.len())]) else {
            return;
        };
        let Some(delivery) = self.received.get_mut(&consumer).and_then(VecDeque::pop_front) else { return };
        let verb = match self.random.u8(0..10) {
            0..3 => Verb::Reject { delay_ns: 0, reason: "no such bill".to_owned() },
            3 => Verb::Park { reason: "unreadable".to_owned() },
            _ => Verb::Acknowledge,
        };
        if verb == Verb::Acknowledge {
            self.done.insert(delivery.sequence);
        }
        self.machine.expire(self.now_ns);
        let before = self.unsettled();
        let attempt = if self.random.bool() { delivery.attempt } else { 0 };
        self.machine.settle(consumer, delivery.sequence, attempt, &verb, self.now_ns);
        let kept = self.unsettled();
        for settled in before.difference(&kept) {
            assert!(self.done.contains(settled), "{settled} was settled by {delivery:?}, and nobody has done it");
        }
    }

    /// Everything that is delivered again one day, or is a dead letter.
    fn unsettled(&self) -> BTreeSet<Sequence> {
        self.machine.open.keys().chain(self.machine.letters().keys()).copied().collect()
    }

    fn join(&mut self) {
        if self.received.len() < 3 {
            let consumer = ConsumerId(self.next_consumer);
            self.next_consumer += 1;
            self.machine.join(consumer, self.random.u32(1..8));
            self.received.insert(consumer, VecDeque::new());
        }
    }

    fn leave(&mut self) {
        let consumer = self.received.keys().next().copied();
        if let Some(consumer) = consumer {
            self.received.remove(&consumer);
            let leaving = if self.random.bool() { Leaving::Broken } else { Leaving::InOrder };
            self.machine.leave(consumer, leaving, self.now_ns);
        }
    }

    /// One dead letter after the other, so that an earlier one may be asked for while a later one is on its way.
    fn replay_one(&mut self) {
        let letters: Vec<Sequence> = self.machine.letters().keys().copied().collect();
        if !letters.is_empty() {
            let one = letters[self.random.usize(0..letters.len())];
            self.machine.replay(Some(&BTreeSet::from([one])), self.now_ns);
        }
    }
}

#[test]
fn a_naive_consumer_settles_nothing_that_nobody_has_done() {
    run_seeds(NAIVE_SEQUENCES, |seed| {
        let mut run = Naive::new(seed);
        for _ in 0..NAIVE_STEPS {
            run.step();
        }
    });
}

/// The shortest way there: what was handled behind a rejected event is acknowledged when both have come again.
#[test]
fn what_stood_behind_a_rejected_event_does_not_settle_it() {
    let mut run = Naive::at_work(3);
    let next = |machine: &mut Machine| machine.deliver(SECOND, |_| true).map(|one| (one.sequence.get(), one.attempt));
    assert_eq!([next(&mut run.machine), next(&mut run.machine)], [Some((1, 1)), Some((2, 1))]);
    let consumer = ConsumerId(1);
    let reject = Verb::Reject { delay_ns: 0, reason: "busy".to_owned() };
    assert_eq!(run.machine.settle(consumer, Sequence(1), 1, &reject, SECOND), Outcome::Done);
    assert_eq!(next(&mut run.machine), Some((1, 2)));
    assert_eq!(next(&mut run.machine), None, "nothing goes out behind an event that was tried before");
    let late = run.machine.settle(consumer, Sequence(2), 1, &Verb::Acknowledge, SECOND);
    assert_eq!((late, run.machine.low_water()), (Outcome::LeaseEnded, Sequence::ZERO));
    assert_eq!(run.machine.settle(consumer, Sequence(1), 2, &Verb::Acknowledge, SECOND), Outcome::Done);
    assert_eq!([next(&mut run.machine), next(&mut run.machine)], [Some((2, 1)), Some((3, 1))]);
}

#[test]
fn a_dead_letter_that_is_asked_for_while_a_later_one_is_on_its_way_waits_for_it() {
    let mut run = Naive::at_work(2);
    let park = Verb::Park { reason: "unreadable".to_owned() };
    for place in [1, 2] {
        assert!(run.machine.deliver(SECOND, |_| true).is_some());
        assert_eq!(run.machine.settle(ConsumerId(1), Sequence(place), 1, &park, SECOND), Outcome::Done);
    }
    for place in [2, 1] {
        assert_eq!(run.machine.replay(Some(&BTreeSet::from([Sequence(place)])), SECOND), 1);
        let delivered = run.machine.deliver(SECOND, |_| true).map(|one| one.sequence.get());
        assert_eq!(delivered, (place == 2).then_some(2));
    }
    assert_eq!(run.machine.settle(ConsumerId(1), Sequence(2), 1, &Verb::Acknowledge, SECOND), Outcome::Done);
    assert_eq!(run.machine.letters().keys().copied().collect::<Vec<_>>(), [Sequence(1)]);
}

/// What was delivered twice and is a dead letter now may be acknowledged by its older delivery, which stands for it alone.
#[test]
fn dead_letters_that_went_back_before_go_out_one_by_one() {
    let mut run = Naive::at_work(2);
    let next = |machine: &mut Machine| machine.deliver(SECOND, |_| true).map(|one| one.sequence.get());
    assert_eq!([next(&mut run.machine), next(&mut run.machine)], [Some(1), Some(2)]);
    let park = Verb::Park { reason: "unreadable".to_owned() };
    assert_eq!(run.machine.settle(ConsumerId(1), Sequence(1), 1, &park, SECOND), Outcome::Done);
    run.machine.update(run.settings.clone(), true);
    run.feed();
    assert_eq!(next(&mut run.machine), Some(2));
    assert_eq!(run.machine.settle(ConsumerId(1), Sequence(2), 1, &park, SECOND), Outcome::Done);
    assert_eq!(run.machine.replay(None, SECOND), 2);
    assert_eq!([next(&mut run.machine), next(&mut run.machine)], [Some(1), None]);
    let late = run.machine.settle(ConsumerId(1), Sequence(2), 0, &Verb::Acknowledge, SECOND);
    assert_eq!((late, run.machine.letters().len()), (Outcome::LeaseEnded, 2));
}
