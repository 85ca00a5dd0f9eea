//! The last place acknowledged to each participant, so that who published and then asks finds what she published. It never outlives the
//! process: after a restart views catch up before they answer.

use std::{collections::HashMap, sync::Mutex};

use crate::domain::{Sequence, SpiffeId};

/// At most so many participants are remembered. Beyond, those that acknowledged least recently by place are forgotten: views have long
/// passed those places.
pub const PARTICIPANTS_MAX: usize = 16_384;

/// Which place was last acknowledged to whom. The publish door writes it before it answers, queries read it.
#[derive(Debug, Default)]
pub struct LastAcknowledged {
    by_participant: Mutex<HashMap<SpiffeId, Sequence>>,
}

impl LastAcknowledged {
    /// Notes that the participant is about to be told that everything of hers up to this place is durable.
    pub fn note(&self, participant: &SpiffeId, sequence: Sequence) {
        let mut known = self.by_participant.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(last) = known.get_mut(participant) {
            *last = sequence.max(*last);
            return;
        }
        if known.len() >= PARTICIPANTS_MAX {
            forget_older_half(&mut known);
        }
        known.insert(participant.clone(), sequence);
    }

    /// The last place acknowledged to the participant; zero where none is known.
    #[must_use]
    pub fn of(&self, participant: &SpiffeId) -> Sequence {
        let known = self.by_participant.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.get(participant).copied().unwrap_or(Sequence::ZERO)
    }
}

fn forget_older_half(known: &mut HashMap<SpiffeId, Sequence>) {
    let mut places: Vec<Sequence> = known.values().copied().collect();
    let middle = places.len() / 2;
    let (_, pivot, _) = places.select_nth_unstable(middle);
    let pivot = *pivot;
    known.retain(|_, sequence| *sequence > pivot);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn participant(number: usize) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://port.example/participant/{number}")).expect("a good name")
    }

    #[test]
    fn the_highest_place_is_kept() {
        let acknowledged = LastAcknowledged::default();
        assert_eq!(acknowledged.of(&participant(1)), Sequence::ZERO);
        acknowledged.note(&participant(1), Sequence(7));
        acknowledged.note(&participant(1), Sequence(3));
        assert_eq!(acknowledged.of(&participant(1)), Sequence(7));
    }

    #[test]
    fn memory_is_bounded_and_the_latest_are_kept() {
        let acknowledged = LastAcknowledged::default();
        for number in 0..=PARTICIPANTS_MAX {
            acknowledged.note(&participant(number), Sequence(number as u64 + 1));
        }
        assert_eq!(acknowledged.of(&participant(0)), Sequence::ZERO);
        assert_eq!(acknowledged.of(&participant(PARTICIPANTS_MAX)), Sequence(PARTICIPANTS_MAX as u64 + 1));
    }
}
