//! The lives of a log and what each handed on to the next. It never opens one.

use crate::{
    domain::{Epoch, Sequence},
    log::contract::EpochFacts,
};

/// The last place of an earlier life that a log still holds: each life after it may have begun from an older backup.
#[must_use]
pub fn kept(epochs: &[EpochFacts], at: usize) -> Sequence {
    epochs[..at].iter().map(|life| life.fork).min().unwrap_or(Sequence(u64::MAX))
}

/// The life in which a place was written: what stands up to a fork was taken over from the life before.
#[must_use]
pub fn life_of(epochs: &[EpochFacts], sequence: Sequence) -> Epoch {
    let written_in = epochs.iter().find(|life| life.fork < sequence || life.parent.is_none());
    written_in.or(epochs.last()).expect("a log has at least its present epoch").epoch
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_earlier_life_is_kept_up_to_the_oldest_backup_since() {
        let life = |number, parent: Option<u128>, fork| EpochFacts {
            epoch: Epoch(Uuid::from_u128(number)),
            parent: parent.map(|number| Epoch(Uuid::from_u128(number))),
            fork: Sequence(fork),
            open_time_ns: 0,
        };
        let lives = [life(3, Some(2), 5), life(2, Some(1), 10), life(1, None, 0)];
        assert_eq!((kept(&lives, 1), kept(&lives, 2)), (Sequence(5), Sequence(5)));
        assert_eq!(kept(&lives[1..], 1), Sequence(10));
        assert_eq!(life_of(&lives, Sequence(6)), lives[0].epoch);
        assert_eq!(life_of(&lives, Sequence(5)), lives[2].epoch);
    }
}
