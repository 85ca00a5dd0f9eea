//! A block of events as sled holds it. It never spans a gap: its places are consecutive, and its chain begins where the block before ends.
//!
//! ```text
//!  0 version u8 = 2, zero [3]      4 crc u32 of bytes 8.. to the end
//!  8 first sequence u64           16 count u32          20 raw bytes u32
//! 24 chain hash before [32]       56 chain hash after [32]
//! 88 last accepted time i64       96 fingerprint bytes u32
//! 100 fingerprint: a Bloom filter of the terms of all its events, then the records (folded.rs), lz4
//! ```
//! Blocks of version 1, which earlier programs wrote, are read: their records stand as in the journal (codec.rs).

use bytes::Bytes;

use super::{codec, folded};
use crate::{
    domain::{HeaderRef, Sequence, filter::TermPlan},
    log::contract::Record,
    storage::{
        ChainHash, StorageError,
        bloom::{self, Bloom},
        bytes::{Malformed, Reader},
    },
};

/// Records are gathered until a block holds so many bytes of them: small enough that a point read decompresses little, large enough that
/// lz4 finds what events have in common.
pub const RAW_BYTES_TARGET: usize = 16 * 1024;
/// No block takes more raw bytes: the target and one record of the largest size.
pub const RAW_BYTES_MAX: usize = RAW_BYTES_TARGET + super::RECORD_BYTES_MAX;
const VERSION: u8 = 2;
const FORMER_VERSION: u8 = 1;
const HEADER_BYTES: usize = 100;
const FINGERPRINT_BYTES: (usize, usize) = (64, 1024);

/// What a block says before it is decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockFacts {
    /// Its first place.
    pub first: Sequence,
    /// How many events.
    pub count: u32,
    /// The chain hash before its first event.
    pub chain_before: ChainHash,
    /// The chain hash after its last.
    pub chain_after: ChainHash,
    /// The accepted time of its last event, nanoseconds since 1970.
    pub last_accepted_ns: i64,
}

impl BlockFacts {
    /// Its last place.
    #[must_use]
    pub const fn last(&self) -> Sequence {
        Sequence(self.first.0 + self.count as u64 - 1)
    }
}

/// Packs consecutive records, with the chain's hash before the first of them and after the last.
#[must_use]
pub fn encode(records: &[Record], chain_before: ChainHash, chain_after: ChainHash) -> (BlockFacts, Vec<u8>) {
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        unreachable!("a block holds at least one event");
    };
    debug_assert_eq!(codec::chain_over(chain_before, records), chain_after, "a block's chain is that of its records");
    for (index, record) in records.iter().enumerate() {
        assert_eq!(record.sequence.get(), first.sequence.get() + index as u64, "a block's places are consecutive");
    }
    let mut raw = Vec::with_capacity(RAW_BYTES_TARGET * 2);
    folded::put_records(&mut raw, records);
    assert!(raw.len() <= RAW_BYTES_MAX, "a block of {} bytes would become a blob", raw.len());
    let facts = BlockFacts {
        first: first.sequence,
        count: records.len() as u32,
        chain_before,
        chain_after,
        last_accepted_ns: last.accepted_time_ns,
    };
    let bytes = sealed(VERSION, &facts, &fingerprint(records), &raw);
    (facts, bytes)
}

/// A block as an earlier program wrote it.
#[cfg(test)]
pub(super) fn encode_former(records: &[Record], chain_before: ChainHash, chain_after: ChainHash) -> Vec<u8> {
    let mut raw = Vec::new();
    for record in records {
        codec::put_record(&mut raw, record);
    }
    let (facts, _) = encode(records, chain_before, chain_after);
    let mut bloom = Bloom::for_entries(300, FINGERPRINT_BYTES.0, FINGERPRINT_BYTES.1);
    for term in fingerprint_terms(records).into_iter().flatten() {
        bloom.add(term);
    }
    sealed(FORMER_VERSION, &facts, &bloom, &raw)
}

fn sealed(version: u8, facts: &BlockFacts, fingerprint: &Bloom, raw: &[u8]) -> Vec<u8> {
    let mut bytes = vec![version, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(facts.first.get().to_le_bytes());
    bytes.extend(facts.count.to_le_bytes());
    bytes.extend((raw.len() as u32).to_le_bytes());
    bytes.extend(facts.chain_before);
    bytes.extend(facts.chain_after);
    bytes.extend(facts.last_accepted_ns.to_le_bytes());
    bytes.extend((fingerprint.as_bytes().len() as u32).to_le_bytes());
    debug_assert_eq!(bytes.len(), HEADER_BYTES, "the layout above is what is written");
    bytes.extend(fingerprint.as_bytes());
    bytes.extend(lz4_flex::block::compress(raw));
    let crc = crc32fast::hash(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// A block's bytes, checked as a whole.
#[derive(Debug)]
pub struct OpenBlock<'a> {
    /// What it says of itself.
    pub facts: BlockFacts,
    version: u8,
    fingerprint: &'a [u8],
    raw_bytes: usize,
    compressed: &'a [u8],
}

impl<'a> OpenBlock<'a> {
    /// Checks the version and the checksum of a block that is expected at a place.
    ///
    /// # Errors
    /// It is altered, or not the block of that place.
    pub fn check(bytes: &'a [u8], first: Sequence) -> Result<Self, StorageError> {
        let block = Self::read(bytes).map_err(|fault| {
            StorageError::Damaged(format!("the block of events that begins at sequence {first} is altered: {fault}"))
        })?;
        if block.facts.first == first {
            Ok(block)
        } else {
            Err(StorageError::Damaged(format!(
                "the block of events that begins at sequence {first} says that it begins at {}",
                block.facts.first
            )))
        }
    }

    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let [version, unused @ ..] = reader.array::<4>()?;
        let crc = reader.u32()?;
        let is_known = matches!(version, FORMER_VERSION | VERSION) && unused == [0; 3];
        if !is_known || crc != crc32fast::hash(bytes.get(8..).unwrap_or_default()) {
            return Err(reader.malformed());
        }
        let (first, count, raw_bytes) = (Sequence(reader.u64()?), reader.u32()?, reader.u32()? as usize);
        let facts = BlockFacts {
            first,
            count,
            chain_before: reader.array()?,
            chain_after: reader.array()?,
            last_accepted_ns: reader.i64()?,
        };
        let fingerprint_bytes = reader.u32()? as usize;
        let fingerprint = reader.take(fingerprint_bytes)?;
        if count == 0 || raw_bytes > RAW_BYTES_MAX {
            return Err(reader.malformed());
        }
        let compressed = reader.take(reader.remaining())?;
        Ok(Self { facts, version, fingerprint, raw_bytes, compressed })
    }

    /// False: no event of the block can match.
    #[must_use]
    pub fn may_match(&self, plan: &TermPlan) -> bool {
        let has = |any: &Vec<crate::domain::term::TermHash>| {
            any.iter().any(|term| bloom::may_contain(self.fingerprint, term.0))
        };
        plan.iter().any(|all| all.iter().all(has))
    }

    /// The events.
    ///
    /// # Errors
    /// What the checksum let pass cannot be read: a fault of the writer.
    pub fn records(&self) -> Result<Vec<Record>, StorageError> {
        let damaged = |fault: String| {
            StorageError::Damaged(format!(
                "the block of events that begins at sequence {} cannot be read: {fault}",
                self.facts.first
            ))
        };
        let raw =
            lz4_flex::block::decompress(self.compressed, self.raw_bytes).map_err(|fault| damaged(fault.to_string()))?;
        let (first, count) = (self.facts.first, self.facts.count);
        let records = match self.version {
            FORMER_VERSION => codec::read_records(&Bytes::from(raw), first, count),
            _ => folded::read_records(&raw, first, count),
        };
        records.map_err(|fault| damaged(fault.to_string()))
    }
}

fn fingerprint(records: &[Record]) -> Bloom {
    // A header of a newer version: a fingerprint without bits would hide it, so that this block rules nothing out.
    let Some(terms) = fingerprint_terms(records) else { return Bloom::full(FINGERPRINT_BYTES.0) };
    let mut bloom = Bloom::fitting(terms.len(), FINGERPRINT_BYTES.0, FINGERPRINT_BYTES.1);
    for term in terms {
        bloom.add(term);
    }
    bloom
}

/// The terms of all events, each once; none where a header cannot be read.
fn fingerprint_terms(records: &[Record]) -> Option<Vec<u64>> {
    let mut terms = Vec::with_capacity(records.len() * 32);
    for record in records {
        HeaderRef::parse(&record.header).ok()?.for_each_term(&mut |term| terms.push(term.0));
        if let Some(origin) = &record.origin {
            terms.push(crate::domain::header::origin_term(origin.node.as_str()).0);
        }
    }
    terms.sort_unstable();
    terms.dedup();
    Some(terms)
}
