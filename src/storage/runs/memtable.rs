//! Entries that are not yet in a run: found at once, kept durably later. It never outlives the process; a start fills it again from the log.
//!
//! They stand in buckets by the leading bits of their terms, in each as they came: an entry costs one write at a bucket's end, a look-up
//! reads one bucket, and what becomes a run is sorted a bucket at a time.

use super::part::Entry;
use crate::domain::{Sequence, term::TermHash};

/// A term's leading bits choose its bucket. A full table has some sixty entries in each, which are read faster than a hash table of them
/// all would be kept.
const BUCKET_BITS: u32 = 12;

/// Entries by the leading bits of their terms.
#[derive(Debug, Default)]
pub struct Memtable {
    /// None before the first entry.
    buckets: Vec<Vec<Entry>>,
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

    /// Adds entries of places that no earlier call named, in the order of the places. One place may name a term twice: it is added once.
    pub fn add(&mut self, entries: &[Entry], through: Sequence) {
        assert!(entries.is_sorted_by_key(|(_, sequence)| sequence), "a table's places ascend");
        self.buckets.resize_with(1 << BUCKET_BITS, Vec::new);
        for (term, sequence) in entries {
            let bucket = &mut self.buckets[bucket_of(*term)];
            // Nearly always the bucket has nothing of this place yet.
            let is_known = bucket.last().is_some_and(|(_, last)| last == sequence)
                && bucket.iter().rev().take_while(|(_, last)| last == sequence).any(|(known, _)| known == term);
            if !is_known {
                bucket.push((*term, *sequence));
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
    pub fn places(&self, term: TermHash) -> impl Iterator<Item = Sequence> {
        let bucket = self.buckets.get(bucket_of(term)).into_iter().flatten();
        bucket.filter(move |(known, _)| *known == term).map(|(_, sequence)| *sequence)
    }

    /// The entries of one bucket, ascending, as the buckets do by their number; none beyond the last.
    #[must_use]
    pub fn sorted_bucket(&self, number: u32) -> Option<Vec<Entry>> {
        let mut entries = self.buckets.get(number as usize)?.clone();
        // The places of a term ascend already.
        entries.sort_by_key(|(term, _)| *term);
        Some(entries)
    }
}

const fn bucket_of(term: TermHash) -> usize {
    (term.0 >> (u64::BITS - BUCKET_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    proptest::proptest! {
        #[test]
        fn entries_are_found_at_once_and_come_out_sorted(mut added: Vec<(u8, u8)>) {
            added.sort_by_key(|(_, place)| *place);
            // Four buckets of four terms each.
            let entry = |(number, place): &(u8, u8)| {
                let number = u64::from(*number % 16);
                (TermHash(((number / 4) << 56) | (number % 4)), Sequence(u64::from(*place)))
            };
            let entries: Vec<Entry> = added.iter().map(entry).collect();
            let model: BTreeSet<Entry> = entries.iter().copied().collect();
            let mut table = Memtable::after(Sequence::ZERO);
            table.add(&entries, Sequence(255));
            proptest::prop_assert_eq!(table.entries(), model.len());
            for (term, _) in &entries {
                let places: Vec<Sequence> = model.iter().filter(|(of, _)| of == term).map(|(_, place)| *place).collect();
                proptest::prop_assert_eq!(table.places(*term).collect::<Vec<_>>(), places);
            }
            let sorted: Vec<Entry> = (0..).map_while(|number| table.sorted_bucket(number)).flatten().collect();
            proptest::prop_assert_eq!(sorted, model.into_iter().collect::<Vec<_>>());
        }
    }
}
