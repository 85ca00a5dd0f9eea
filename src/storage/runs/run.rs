//! An immutable run: parts in sled, and in memory where each part begins and a Bloom filter of its terms. It never changes once it stands
//! in a manifest.
//!
//! ```text
//! meta: crc u32 of what follows | parts u32 | entries u64 | through u64 | bloom bytes u32 | bloom | parts x (term u64, sequence u64)
//! ```
//! Meta is cut into pieces that stand as parts of their own, numbered from [`META_PARTS`].

use super::part::{self, Entry, PartBuilder};
use crate::{
    domain::{Sequence, term::TermHash},
    storage::{
        StorageError,
        bloom::{Bloom, BloomBuilder},
        bytes::{Malformed, Reader},
        durable::SyncReason,
        keys,
        slots::{SLOTS_AHEAD, Slots},
        store::{Store, Writer},
        value::StoredValue,
    },
};

/// Where the numbers of meta's pieces begin.
pub const META_PARTS: u32 = 0x8000_0000;
const META_PIECE_BYTES: usize = 48 * 1024;
const BLOOM_BYTES: (usize, usize) = (1024, 2 * 1024 * 1024);

/// A run, ready to be searched.
#[derive(Debug)]
pub struct Run {
    /// Its number in its family.
    pub number: u64,
    /// How often its entries were merged: runs of one level are merged with each other.
    pub level: u8,
    /// How many entries it has.
    pub entries: u64,
    /// The last place of the log that it knows of.
    pub through: Sequence,
    /// How many pieces its meta takes.
    pub meta_pieces: u32,
    firsts: Vec<Entry>,
    bloom: Bloom,
}

/// Writes a run's entries in ascending order, a part at a time.
#[derive(Debug)]
pub struct RunWriter {
    family: u32,
    number: u64,
    level: u8,
    through: Sequence,
    builder: PartBuilder,
    slots: Slots,
    firsts: Vec<Entry>,
    entries: u64,
    bloom: BloomBuilder,
    last_term: Option<TermHash>,
}

impl RunWriter {
    /// Begins a run.
    #[must_use]
    pub fn new(family: u32, number: u64, level: u8, through: Sequence) -> Self {
        // Sized for the terms, once they are known, and not for the entries: most terms have many.
        let bloom = BloomBuilder::new(BLOOM_BYTES.0, BLOOM_BYTES.1);
        let (builder, slots, firsts) = (PartBuilder::default(), Slots::from(0), Vec::new());
        Self { family, number, level, through, builder, slots, firsts, entries: 0, bloom, last_term: None }
    }

    /// Adds the next entry, and writes a part where one is full.
    ///
    /// # Errors
    /// sled refused: the process must end.
    pub fn add(&mut self, entry: Entry, writer: &mut Writer) -> Result<(), StorageError> {
        if self.last_term != Some(entry.0) {
            self.bloom.add(entry.0.0);
            self.last_term = Some(entry.0);
        }
        self.builder.add(entry);
        if self.builder.is_full() { self.write_part(writer) } else { Ok(()) }
    }

    /// Writes the rest and the meta, in slices: a large run's filter alone takes more than one; whoever calls syncs the last. The run counts
    /// once a manifest names it.
    ///
    /// # Errors
    /// sled refused: the process must end.
    pub fn finish(mut self, writer: &mut Writer) -> Result<Run, StorageError> {
        self.write_part(writer)?;
        let bloom = self.bloom.finish();
        let mut meta = vec![0; 4];
        meta.extend((self.firsts.len() as u32).to_le_bytes());
        meta.extend(self.entries.to_le_bytes());
        meta.extend(self.through.get().to_le_bytes());
        meta.extend((bloom.as_bytes().len() as u32).to_le_bytes());
        meta.extend(bloom.as_bytes());
        for (term, sequence) in &self.firsts {
            meta.extend(term.0.to_le_bytes());
            meta.extend(sequence.get().to_le_bytes());
        }
        let crc = crc32fast::hash(&meta[4..]);
        meta[..4].copy_from_slice(&crc.to_le_bytes());
        let mut meta_pieces = 0;
        self.slots = Slots::from(META_PARTS);
        for piece in meta.chunks(META_PIECE_BYTES) {
            if writer.slice_is_full() {
                writer.sync(SyncReason::Runs)?;
            }
            self.put(META_PARTS + meta_pieces, piece, writer)?;
            meta_pieces += 1;
        }
        Ok(Run {
            number: self.number,
            level: self.level,
            entries: self.entries,
            through: self.through,
            meta_pieces,
            firsts: self.firsts,
            bloom,
        })
    }

    fn write_part(&mut self, writer: &mut Writer) -> Result<(), StorageError> {
        if let Some((first, entries, bytes)) = self.builder.finish() {
            self.put(self.firsts.len() as u32, &bytes, writer)?;
            self.firsts.push(first);
            self.entries += u64::from(entries);
        }
        Ok(())
    }

    fn put(&mut self, part: u32, bytes: &[u8], writer: &mut Writer) -> Result<(), StorageError> {
        let (family, number) = (self.family, self.number);
        self.slots.reach(part, |part| keys::run_part_with_fillers(family, number, part), writer)?;
        writer.put(&keys::run_part(family, number, part), bytes)
    }
}

/// The numbers of all keys that were made for a run of so many parts and pieces of meta.
pub fn made(parts: u32, meta_pieces: u32) -> impl Iterator<Item = u32> {
    (0..parts + SLOTS_AHEAD).chain(META_PARTS..META_PARTS + meta_pieces + SLOTS_AHEAD)
}

impl Run {
    /// Reads a run's meta, as the manifest names it.
    ///
    /// # Errors
    /// A piece is missing or altered.
    pub fn open(store: &Store, family: u32, number: u64, level: u8, meta_pieces: u32) -> Result<Self, StorageError> {
        let mut meta = Vec::new();
        for piece in 0..meta_pieces {
            let key = keys::run_part(family, number, META_PARTS + piece);
            meta.extend_from_slice(
                &store.get(&key)?.ok_or_else(|| damaged(family, number, "has lost its description"))?,
            );
        }
        read_meta(&meta)
            .map(|(entries, through, bloom, firsts)| Self {
                number,
                level,
                entries,
                through,
                meta_pieces,
                firsts,
                bloom,
            })
            .map_err(|_| damaged(family, number, "has an altered description"))
    }

    /// How large its filter is, in memory as on the disk.
    #[cfg(test)]
    pub fn filter_bytes(&self) -> usize {
        self.bloom.as_bytes().len()
    }

    /// How many parts it has.
    #[must_use]
    pub const fn parts(&self) -> u32 {
        self.firsts.len() as u32
    }

    /// The entries of one part.
    ///
    /// # Errors
    /// The part is missing or altered.
    pub fn part(&self, store: &Store, family: u32, index: u32) -> Result<Vec<Entry>, StorageError> {
        let bytes = self.stored_part(store, family, index)?;
        part::read(&bytes).map_err(|_| damaged(family, self.number, "has an altered part"))
    }

    /// The places of a term within `(after, before)` that stand in one part, ascending.
    ///
    /// # Errors
    /// The part is missing or altered.
    pub fn places(
        &self,
        store: &Store,
        family: u32,
        index: u32,
        term: TermHash,
        (after, before): (Sequence, Sequence),
    ) -> Result<Vec<Sequence>, StorageError> {
        let bytes = self.stored_part(store, family, index)?;
        part::places(&bytes, term, after, before).map_err(|_| damaged(family, self.number, "has an altered part"))
    }

    /// Checks one part without reading all its entries, and answers how many they are.
    ///
    /// # Errors
    /// The part is missing, altered, or not the one that stood there.
    pub fn check_part(&self, store: &Store, family: u32, index: u32) -> Result<u32, StorageError> {
        let bytes = self.stored_part(store, family, index)?;
        match part::check(&bytes) {
            Ok((first, entries)) if first == self.firsts[index as usize] => Ok(entries),
            Ok(_) => Err(damaged(family, self.number, "has a part in another's place")),
            Err(_) => Err(damaged(family, self.number, "has an altered part")),
        }
    }

    /// Writes the run to another database, in slices; whoever calls syncs the last.
    ///
    /// # Errors
    /// A part or a piece of the meta cannot be read, or sled refused.
    pub fn copy(&self, from: &Store, family: u32, into: &mut Writer) -> Result<(), StorageError> {
        let number = self.number;
        for (first, count) in [(0, self.parts()), (META_PARTS, self.meta_pieces)] {
            let mut slots = Slots::from(first);
            for part in first..first + count {
                let key = keys::run_part(family, number, part);
                let value = from.get(&key)?.ok_or_else(|| damaged(family, number, "has lost a part"))?;
                slots.reach(part, |part| keys::run_part_with_fillers(family, number, part), into)?;
                into.put(&key, &value)?;
                if into.slice_is_full() {
                    into.sync(SyncReason::Runs)?;
                }
            }
        }
        Ok(())
    }

    fn stored_part(&self, store: &Store, family: u32, index: u32) -> Result<StoredValue, StorageError> {
        let key = keys::run_part(family, self.number, index);
        store.get(&key)?.ok_or_else(|| damaged(family, self.number, "has lost a part"))
    }

    /// The parts in which places of a term within `(after, before)` may stand.
    #[must_use]
    pub fn parts_of(&self, term: TermHash, after: Sequence, before: Sequence) -> std::ops::Range<u32> {
        if !self.bloom.may_contain(term.0) {
            return 0..0;
        }
        let from = self.firsts.partition_point(|first| *first <= (term, after.next())).saturating_sub(1);
        let to = self.firsts.partition_point(|first| *first < (term, before));
        from as u32..(to as u32).max(from as u32)
    }

    /// About how much it takes on the disk, in bytes, with the room that sled leaves between what is alive.
    #[must_use]
    pub const fn bytes_about(&self) -> u64 {
        let (part_bytes, meta_bytes) = (part::PART_BYTES_TARGET as u64, META_PIECE_BYTES as u64);
        (self.firsts.len() as u64 * part_bytes + self.meta_pieces as u64 * meta_bytes) * 3 / 2
    }

    /// About how many places of a term it has.
    #[must_use]
    pub fn estimate(&self, term: TermHash) -> u64 {
        let parts = self.parts_of(term, Sequence::ZERO, Sequence(u64::MAX));
        let a_part = self.entries / u64::from(self.parts().max(1));
        match parts.len() as u64 {
            0 => 0,
            // Most terms of a part that holds several are short.
            1 => a_part.div_ceil(64),
            more => (more - 1) * a_part,
        }
    }
}

type Meta = (u64, Sequence, Bloom, Vec<Entry>);

fn read_meta(meta: &[u8]) -> Result<Meta, Malformed> {
    let mut reader = Reader::new(meta);
    if reader.u32()? != crc32fast::hash(meta.get(4..).unwrap_or_default()) {
        return Err(reader.malformed());
    }
    let parts = reader.u32()?;
    let entries = reader.u64()?;
    let through = Sequence(reader.u64()?);
    let bloom_bytes = reader.u32()? as usize;
    let bloom = Bloom::from_bytes(reader.take(bloom_bytes)?.to_vec()).ok_or(reader.malformed())?;
    let firsts =
        (0..parts).map(|_| Ok((TermHash(reader.u64()?), Sequence(reader.u64()?)))).collect::<Result<_, _>>()?;
    Ok((entries, through, bloom, firsts))
}

fn damaged(family: u32, number: u64, what: &str) -> StorageError {
    StorageError::Damaged(format!("run {number} of index {family} {what}"))
}
