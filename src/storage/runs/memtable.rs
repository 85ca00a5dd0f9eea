//! Entries that are not yet in a run: found at once, kept durably later. It never outlives the process; a start fills it again from the log.

use std::collections::hash_map::Entry as Slot;

use super::part::Entry;
use crate::domain::{
    Sequence,
    term::{TermHash, TermMap},
};

/// The places of a term: most terms of a stretch of the log have one, which costs no allocation.
#[derive(Debug)]
struct Places {
    first: Sequence,
    others: Vec<Sequence>,
}

impl Places {
    fn last(&self) -> Sequence {
        self.others.last().copied().unwrap_or(self.first)
    }

    fn iter(&self) -> impl Iterator<Item = Sequence> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }
}

/// Entries by term.
#[derive(Debug, Default)]
pub struct Memtable {
    places: TermMap<Places>,
    entries: usize,
    /// The last place of the log that it knows of.
    pub through: Sequence,
}

impl Memtable {
    /// An empty table that knows of the log up to a place.
    #[must_use]
    pub fn after(through: Sequence) -> Self {
        Self { through, ..Self::default() }
    }

    /// Adds entries of places that no earlier call named.
    pub fn add(&mut self, entries: &[Entry], through: Sequence) {
        for (term, sequence) in entries {
            match self.places.entry(*term) {
                Slot::Vacant(slot) => {
                    slot.insert(Places { first: *sequence, others: Vec::new() });
                    self.entries += 1;
                }
                Slot::Occupied(mut slot) => {
                    // One event may name a term twice.
                    if slot.get().last() < *sequence {
                        slot.get_mut().others.push(*sequence);
                        self.entries += 1;
                    }
                }
            }
        }
        self.through = self.through.max(through);
    }

    /// How many entries it has.
    #[must_use]
    pub const fn entries(&self) -> usize {
        self.entries
    }

    /// The places of a term, ascending.
    pub fn places(&self, term: TermHash) -> impl Iterator<Item = Sequence> {
        self.places.get(&term).into_iter().flat_map(Places::iter)
    }

    /// How many places a term has.
    #[must_use]
    pub fn count(&self, term: TermHash) -> usize {
        self.places.get(&term).map_or(0, |places| 1 + places.others.len())
    }

    /// Every entry, ascending.
    #[must_use]
    pub fn sorted(&self) -> Vec<Entry> {
        let mut terms: Vec<_> = self.places.iter().collect();
        terms.sort_unstable_by_key(|(term, _)| **term);
        terms.iter().flat_map(|(term, places)| places.iter().map(|sequence| (**term, sequence))).collect()
    }
}
