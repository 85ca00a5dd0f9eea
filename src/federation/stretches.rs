//! Places of the log as the stretches that they make: which of this node's own events a peer has handed back. It never grows beyond a limit,
//! beyond which it holds more than was put in, and never less.

use serde::{Deserialize, Serialize};

use crate::domain::Sequence;

/// At most so many stretches are kept of one peer, which takes some 20 KiB of the file: of more, the two that lie closest become one, with
/// what lies between them.
const STRETCHES_MAX: usize = 1_024;

/// Stretches of places, both ends included, in order and apart from each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stretches(Vec<(u64, u64)>);

impl Stretches {
    /// Whether nothing was put in.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts a place in.
    pub fn insert(&mut self, place: Sequence) {
        let place = place.get();
        let next = self.0.partition_point(|(_, last)| *last < place);
        if self.0.get(next).is_some_and(|(first, _)| *first <= place) {
            return;
        }
        let after = next.checked_sub(1).filter(|before| self.0[*before].1 + 1 == place);
        let before = self.0.get(next).is_some_and(|(first, _)| *first == place + 1);
        match (after, before) {
            (Some(after), true) => {
                self.0[after].1 = self.0[next].1;
                self.0.remove(next);
            }
            (Some(after), false) => self.0[after].1 = place,
            (None, true) => self.0[next].0 = place,
            (None, false) => self.0.insert(next, (place, place)),
        }
        if STRETCHES_MAX < self.0.len() {
            self.join_closest();
        }
    }

    /// Whether a place was put in, or lies between stretches that became one.
    #[must_use]
    pub fn contains(&self, place: Sequence) -> bool {
        let place = place.get();
        let at = self.0.partition_point(|(_, last)| *last < place);
        self.0.get(at).is_some_and(|(first, _)| *first <= place)
    }

    fn join_closest(&mut self) {
        let gap = |at: &usize| self.0[*at + 1].0 - self.0[*at].1;
        if let Some(at) = (0..self.0.len() - 1).min_by_key(gap) {
            self.0[at].1 = self.0[at + 1].1;
            self.0.remove(at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn below_the_limit_exactly_what_was_put_in_is_there(places in prop::collection::vec(1_u64..400, 0..300)) {
            let mut stretches = Stretches::default();
            for place in &places {
                stretches.insert(Sequence(*place));
            }
            let wanted: BTreeSet<u64> = places.into_iter().collect();
            let there: BTreeSet<u64> = (0..=400).filter(|place| stretches.contains(Sequence(*place))).collect();
            prop_assert_eq!(there, wanted);
            prop_assert!(stretches.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", stretches);
        }
    }

    #[test]
    fn beyond_the_limit_nothing_is_lost_and_little_is_added() {
        let mut stretches = Stretches::default();
        let places = (0..STRETCHES_MAX as u64 * 2).map(|at| at * 10);
        for place in places.clone() {
            stretches.insert(Sequence(place));
        }
        assert_eq!(stretches.0.len(), STRETCHES_MAX);
        assert!(places.clone().all(|place| stretches.contains(Sequence(place))));
        // What lies far from everything is not taken in.
        stretches.insert(Sequence(1_000_000));
        assert!(!stretches.contains(Sequence(900_000)) && stretches.contains(Sequence(1_000_000)));
    }
}
