//! All places of terms that have few, kept from one look-up to the next: whoever folds a clearance or follows a watch asks for the same
//! subjects again and again, and each answer costs a part of every run that has the term. It never answers for a stretch of the log that
//! was not looked at: what comes later is looked up when it is asked for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::RunFamily;
use crate::{
    domain::{Sequence, term::TermHash},
    storage::{StorageError, lru::Lru},
};

/// So much is kept: some twenty thousand subjects with ten places each, which is more than a watch of everything has under way at a time.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a term takes beside its places.
const TERM_BYTES: usize = 160;

/// Every place of a term up to one, and no others.
#[derive(Debug, Clone)]
pub struct Known {
    /// Ascending.
    pub places: Arc<[Sequence]>,
    /// Up to where these are all.
    pub through: Sequence,
}

/// What is known of terms.
#[derive(Debug)]
pub struct KnownPlaces(Mutex<Held>);

#[derive(Debug)]
struct Held {
    known: Lru<TermHash, Known>,
    /// Grows whenever the index is emptied: what was looked up before is not taken in after.
    emptied: u64,
}

impl RunFamily {
    /// All places of a term before one, ascending; none where they are more than `count_max`. Cheap where the term was asked for before.
    /// Blocking.
    ///
    /// # Errors
    /// A run is damaged, or sled cannot read.
    pub fn all_places(
        &self,
        term: TermHash,
        before: Sequence,
        count_max: usize,
    ) -> Result<Option<Vec<Sequence>>, StorageError> {
        let (mut known, emptied) = self.known.get(term);
        if before > known.through.next() && known.places.len() <= count_max {
            // What is added meanwhile may be found or not: it is not known of.
            let complete = self.complete_through();
            let room = count_max.saturating_add(1) - known.places.len();
            let fresh = self.lookup(term, known.through, complete.next(), false, room)?;
            // Beyond the last of as many as were asked for there may be more.
            let through = if fresh.len() < room { complete } else { *fresh.last().expect("there is room for one") };
            if !fresh.is_empty() {
                known.places = known.places.iter().copied().chain(fresh).collect();
            }
            known.through = known.through.max(through);
            self.known.put(term, known.clone(), emptied);
        }
        let within = &known.places[..known.places.partition_point(|place| *place < before)];
        let is_all = within.len() <= count_max && (before <= known.through.next() || known.places.len() <= count_max);
        Ok(is_all.then(|| within.to_vec()))
    }
}

impl Default for KnownPlaces {
    fn default() -> Self {
        Self(Mutex::new(Held { known: Lru::new(BYTES_MAX), emptied: 0 }))
    }
}

impl KnownPlaces {
    /// What is known of a term, and how often the index had been emptied then.
    pub fn get(&self, term: TermHash) -> (Known, u64) {
        let mut held = self.held();
        let known = held.known.get(term);
        (known.unwrap_or_else(|| Known { places: Arc::default(), through: Sequence::ZERO }), held.emptied)
    }

    /// Keeps what was looked up since the index had been emptied so often.
    pub fn put(&self, term: TermHash, known: Known, emptied: u64) {
        let mut held = self.held();
        if held.emptied == emptied {
            let bytes = TERM_BYTES + known.places.len() * size_of::<Sequence>();
            held.known.put(term, known, bytes);
        }
    }

    /// Forgets everything: the index was emptied.
    pub fn clear(&self) {
        let mut held = self.held();
        held.known.clear();
        held.emptied += 1;
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_looked_up_before_the_index_was_emptied_is_not_taken_in_after() {
        let (known, term) = (KnownPlaces::default(), TermHash(1));
        let found = |through| Known { places: [Sequence(1)].into(), through: Sequence(through) };
        let (_, emptied) = known.get(term);
        known.put(term, found(5), emptied);
        assert_eq!(known.get(term).0.through, Sequence(5));
        known.clear();
        known.put(term, found(6), emptied);
        assert_eq!(known.get(term).0.through, Sequence::ZERO, "it was looked up in what is no more");
    }
}
