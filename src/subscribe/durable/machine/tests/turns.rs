//! Competing consumers get as many events in a row as one message holds, and whoever has nothing comes first.

use super::*;
use crate::subscribe::durable::machine::TURN_EVENTS_MAX;

/// A shared subscription with so many consumers and so many events to give out.
fn shared(consumers: u64, events: u64) -> Machine {
    let settings = Settings { mode: Mode::Shared, ..Settings::default() };
    let cursor = Cursor {
        epoch: Epoch(Uuid::from_u128(1)),
        low_water: Sequence::ZERO,
        widenings_handled: Sequence::ZERO,
        settled: BTreeSet::new(),
        tried: BTreeMap::new(),
    };
    let mut machine = Machine::restore(settings, cursor, BTreeMap::new());
    for number in 1..=consumers {
        machine.join(ConsumerId(number), 1_000);
    }
    for place in 1..=events {
        assert!(machine.offer(Sequence(place), Keys::default(), SECOND));
    }
    machine
}

/// Who gets the next events, and how many in a row each.
fn turns(machine: &mut Machine, events: usize) -> Vec<(u64, usize)> {
    let mut turns: Vec<(u64, usize)> = Vec::new();
    for _ in 0..events {
        let Some(delivery) = machine.deliver(SECOND, |_| true) else { break };
        match turns.last_mut().filter(|(consumer, _)| *consumer == delivery.consumer.0) {
            Some((_, count)) => *count += 1,
            None => turns.push((delivery.consumer.0, 1)),
        }
    }
    turns
}

#[test]
fn consumers_who_have_nothing_share_what_there_is() {
    assert_eq!(turns(&mut shared(4, 4), 9), [(1, 1), (2, 1), (3, 1), (4, 1)]);
    assert_eq!(turns(&mut shared(4, 40), 40), [(1, 10), (2, 10), (3, 10), (4, 10)]);
    assert_eq!(turns(&mut shared(3, 2), 9), [(1, 1), (2, 1)]);
}

#[test]
fn where_all_have_something_each_gets_a_whole_message() {
    let whole = TURN_EVENTS_MAX;
    let mut machine = shared(2, 200);
    assert_eq!(turns(&mut machine, 4 * whole), [(1, whole), (2, whole), (1, whole), (2, whole)]);
}

#[test]
fn who_has_nothing_comes_before_who_has_something() {
    let mut machine = shared(2, 4);
    assert_eq!(turns(&mut machine, 9), [(1, 2), (2, 2)]);
    machine.offer(Sequence(5), Keys::default(), SECOND);
    machine.join(ConsumerId(3), 10);
    assert_eq!(turns(&mut machine, 9), [(3, 1)]);

    // Also where another's turn was not over when there was nothing more to give out.
    let whole = TURN_EVENTS_MAX;
    let mut machine = shared(2, 2 * whole as u64 + 1);
    assert_eq!(turns(&mut machine, 3 * whole), [(1, whole), (2, whole), (1, 1)]);
    for place in whole as u64 + 1..=2 * whole as u64 {
        machine.settle(ConsumerId(2), Sequence(place), 0, &Verb::Acknowledge, SECOND);
    }
    machine.offer(Sequence(2 * whole as u64 + 2), Keys::default(), SECOND);
    assert_eq!(turns(&mut machine, 9), [(2, 1)]);
}
