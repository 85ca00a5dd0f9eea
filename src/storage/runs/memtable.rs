//! Entries that are not yet in a run: found at once, kept durably later. It never outlives the process; a start fills it again from the log.

use std::collections::HashMap;

use super::part::Entry;
use crate::domain::{Sequence, term::TermHash};

/// Entries by term.
#[derive(Debug, Default)]
pub struct Memtable {
    places: HashMap<TermHash, Vec<Sequence>>,
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
            let places = self.places.entry(*term).or_default();
            // One event may name a term twice.
            if places.last().is_none_or(|last| last < sequence) {
                places.push(*sequence);
                self.entries += 1;
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
    #[must_use]
    pub fn places(&self, term: TermHash) -> &[Sequence] {
        self.places.get(&term).map(Vec::as_slice).unwrap_or_default()
    }

    /// Every entry, ascending.
    #[must_use]
    pub fn sorted(&self) -> Vec<Entry> {
        let mut terms: Vec<_> = self.places.iter().collect();
        terms.sort_unstable_by_key(|(term, _)| **term);
        terms.iter().flat_map(|(term, places)| places.iter().map(|sequence| (**term, *sequence))).collect()
    }
}
