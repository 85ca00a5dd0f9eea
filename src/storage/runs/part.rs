//! A part of a run: sorted (term, sequence) entries, grouped by term, sequences as differences. It never spans runs.
//!
//! ```text
//! 0 version u8 = 1, zero [3] | 4 crc u32 of what follows | 8 entries u32
//! then groups: term u64 | sequences varint n | first sequence varint | n - 1 differences varint
//! ```

use crate::{
    domain::{Sequence, term::TermHash},
    storage::bytes::{Malformed, Reader, put_varint},
};

/// A part is closed once it has so many bytes.
pub const PART_BYTES_TARGET: usize = 16 * 1024;
const VERSION: u8 = 1;

/// One term and one place.
pub type Entry = (TermHash, Sequence);

/// Gathers entries in ascending order.
#[derive(Debug, Default)]
pub struct PartBuilder {
    body: Vec<u8>,
    entries: u32,
    first: Option<Entry>,
    /// The term whose places are still coming, and those so far.
    open_term: Option<TermHash>,
    open_places: Vec<Sequence>,
    group_bytes: usize,
}

impl PartBuilder {
    /// Adds the next entry.
    pub fn add(&mut self, (term, sequence): Entry) {
        self.first.get_or_insert((term, sequence));
        self.entries += 1;
        self.group_bytes += 3;
        if self.open_term != Some(term) {
            self.close_group();
            self.group_bytes = 16;
            self.open_term = Some(term);
        }
        self.open_places.push(sequence);
    }

    /// True once the part should be closed.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.body.len() + self.group_bytes >= PART_BYTES_TARGET
    }

    /// The first entry, the number of entries and the stored form; none where nothing was added. Leaves the builder empty.
    pub fn finish(&mut self) -> Option<(Entry, u32, Vec<u8>)> {
        self.close_group();
        let first = self.first.take()?;
        let mut bytes = vec![VERSION, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend(self.entries.to_le_bytes());
        bytes.append(&mut self.body);
        let crc = crc32fast::hash(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        let entries = std::mem::take(&mut self.entries);
        self.group_bytes = 0;
        Some((first, entries, bytes))
    }

    fn close_group(&mut self) {
        let Some(term) = self.open_term.take() else { return };
        self.body.extend(term.0.to_le_bytes());
        put_varint(&mut self.body, self.open_places.len() as u64);
        let mut before = Sequence::ZERO;
        for sequence in self.open_places.drain(..) {
            assert!(sequence > before, "a term's places ascend");
            put_varint(&mut self.body, sequence.get() - before.get());
            before = sequence;
        }
    }
}

/// Checks a part as a whole, and answers its first entry and how many it has.
///
/// # Errors
/// It is altered.
pub fn check(bytes: &[u8]) -> Result<(Entry, u32), Malformed> {
    let (mut reader, entries) = open(bytes)?;
    let term = TermHash(reader.u64()?);
    reader.varint()?;
    Ok(((term, Sequence(reader.varint()?)), entries))
}

fn open(bytes: &[u8]) -> Result<(Reader<'_>, u32), Malformed> {
    let mut reader = Reader::new(bytes);
    let version = reader.array::<4>()?;
    let crc = reader.u32()?;
    if version != [VERSION, 0, 0, 0] || crc != crc32fast::hash(bytes.get(8..).unwrap_or_default()) {
        return Err(reader.malformed());
    }
    let entries = reader.u32()?;
    Ok((reader, entries))
}

/// Reads a part's entries.
///
/// # Errors
/// It is altered.
pub fn read(bytes: &[u8]) -> Result<Vec<Entry>, Malformed> {
    let (mut reader, entries) = open(bytes)?;
    let entries = entries as usize;
    let mut read = Vec::with_capacity(entries.min(PART_BYTES_TARGET * 2));
    while read.len() < entries {
        let term = TermHash(reader.u64()?);
        let mut sequence = 0_u64;
        for _ in 0..reader.varint()? {
            sequence = sequence.checked_add(reader.varint()?).ok_or(reader.malformed())?;
            read.push((term, Sequence(sequence)));
        }
    }
    if read.len() > entries || reader.remaining() > 0 { Err(reader.malformed()) } else { Ok(read) }
}

/// Reads the places of one term within `(after, before)`, ascending. What stands before it is passed over and not read.
///
/// # Errors
/// It is altered.
pub fn places(bytes: &[u8], term: TermHash, after: Sequence, before: Sequence) -> Result<Vec<Sequence>, Malformed> {
    let (mut reader, _) = open(bytes)?;
    while reader.remaining() > 0 {
        let (group, count) = (TermHash(reader.u64()?), reader.varint()?);
        if group > term {
            break;
        }
        if group < term {
            reader.skip_varints(count)?;
            continue;
        }
        // Each place takes a byte at least: a count that no writer writes reserves no more.
        let mut places = Vec::with_capacity((count as usize).min(reader.remaining()));
        let mut sequence = 0_u64;
        for _ in 0..count {
            sequence = sequence.checked_add(reader.varint()?).ok_or(reader.malformed())?;
            if sequence >= before.get() {
                break;
            }
            if sequence > after.get() {
                places.push(Sequence(sequence));
            }
        }
        return Ok(places);
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn entries_come_back(mut numbers: std::collections::BTreeSet<(u8, u32)>) {
            numbers.insert((0, 1));
            let entries: Vec<Entry> =
                numbers.iter().map(|(term, place)| (TermHash(u64::from(*term)), Sequence(u64::from(*place) + 1))).collect();
            let mut builder = PartBuilder::default();
            for entry in &entries {
                builder.add(*entry);
            }
            let (first, count, bytes) = builder.finish().expect("something was added");
            proptest::prop_assert_eq!((first, count as usize), (entries[0], entries.len()));
            proptest::prop_assert_eq!(check(&bytes), Ok((first, count)));
            for term in 0..=u8::MAX {
                let term = TermHash(u64::from(term));
                for (after, before) in [(0, u64::MAX), (1 << 30, 3 << 30)] {
                    let within = entries.iter().filter(|entry| entry.0 == term && (after + 1..before).contains(&entry.1.get()));
                    let expected: Vec<Sequence> = within.map(|entry| entry.1).collect();
                    proptest::prop_assert_eq!(places(&bytes, term, Sequence(after), Sequence(before)), Ok(expected));
                }
            }
            proptest::prop_assert_eq!(read(&bytes), Ok(entries));
            for at in 0..bytes.len() {
                let mut altered = bytes.clone();
                altered[at] ^= 4;
                proptest::prop_assert!(read(&altered).is_err() && check(&altered).is_err(), "byte {}", at);
                let looked = places(&altered, TermHash(0), Sequence::ZERO, Sequence(u64::MAX));
                proptest::prop_assert!(looked.is_err(), "byte {}", at);
            }
        }
    }
}
