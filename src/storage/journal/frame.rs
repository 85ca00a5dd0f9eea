//! A commit's frame: its layout, sealing and checking. It never reads a file.
//!
//! ```text
//!  0 magic "TLFR"             4 crc u32 of bytes 8.. to the payload's end
//!  8 salt u64                16 first sequence u64
//! 24 count u32               28 payload bytes u32
//! 32 chain hash before the first record [32]
//! 64 kind u8: 1 commit, 2 settled mark      65 zero [3]
//! 68 state bytes u32: how much of the payload, from its beginning, is state; records follow
//! 72 payload; the next frame begins at the next multiple of 8
//! ```
//!
//! A settled mark's payload is the byte of its half at which the frame that it vouches for ends (u64), rounded up as above. It stands at the
//! beginning of the next page: what loses a sector or a page of that frame leaves the mark. Marks of before had no payload, and stood
//! right behind their frame.

use crate::{
    domain::Sequence,
    storage::{
        ChainHash,
        bytes::{Malformed, Reader},
    },
};

/// A frame's bytes before its payload. Reserve so many before the payload is written, then [`seal`] in place.
pub const FRAME_HEADER_BYTES: usize = 72;
pub(super) const MAGIC: [u8; 4] = *b"TLFR";
const ALIGNMENT: u64 = 8;
/// What a disk loses at once, at the most.
const PAGE_BYTES: u64 = 4096;
/// A settled mark's bytes.
pub(super) const MARK_BYTES: usize = FRAME_HEADER_BYTES + 8;

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameFacts {
    /// The half's salt: a frame of an earlier generation, or bytes of an event that look like a frame, cannot bear it.
    pub salt: u64,
    /// The first record's place.
    pub first: Sequence,
    /// How many records; consecutive places. Zero in a mark, and in a commit of state alone.
    pub count: u32,
    /// How much of the payload is state. Zero in a mark.
    pub state_bytes: u32,
    /// The chain hash before the first record.
    pub chain_before: ChainHash,
}

impl FrameFacts {
    /// True for a mark, which holds nothing.
    #[must_use]
    pub const fn is_mark(&self) -> bool {
        self.count == 0 && self.state_bytes == 0
    }

    /// The last record's place; the one before `first` where there is none.
    #[must_use]
    pub const fn last(&self) -> Sequence {
        Sequence(self.first.0 + self.count as u64 - 1)
    }
}

/// Fills in the header of a frame whose payload stands after [`FRAME_HEADER_BYTES`] reserved bytes.
pub fn seal(frame: &mut [u8], facts: &FrameFacts) {
    assert!(!facts.is_mark() && facts.first > Sequence::ZERO, "a commit holds events or state");
    seal_kind(frame, facts, 1);
}

/// A mark that the frame which ends at a byte of its half was durable.
pub(super) fn settled_mark(facts: &FrameFacts, end: u64) -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    mark[FRAME_HEADER_BYTES..].copy_from_slice(&end.to_le_bytes());
    seal_kind(&mut mark, &FrameFacts { count: 0, state_bytes: 0, ..*facts }, 2);
    mark
}

fn seal_kind(frame: &mut [u8], facts: &FrameFacts, kind: u8) {
    let payload_bytes = (frame.len() - FRAME_HEADER_BYTES) as u32;
    frame[8..16].copy_from_slice(&facts.salt.to_le_bytes());
    frame[16..24].copy_from_slice(&facts.first.get().to_le_bytes());
    frame[24..28].copy_from_slice(&facts.count.to_le_bytes());
    frame[28..32].copy_from_slice(&payload_bytes.to_le_bytes());
    frame[32..64].copy_from_slice(&facts.chain_before);
    frame[64] = kind;
    frame[65..68].fill(0);
    frame[68..72].copy_from_slice(&facts.state_bytes.to_le_bytes());
    let crc = crc32fast::hash(&frame[8..]);
    frame[..4].copy_from_slice(&MAGIC);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Reads the frame that begins here, if a whole one with this salt does.
///
/// # Errors
/// None begins here.
pub(super) fn open(bytes: &[u8], salt: u64) -> Result<(FrameFacts, &[u8]), Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.array()? != MAGIC {
        return Err(reader.malformed());
    }
    let crc = reader.u32()?;
    let facts_salt = reader.u64()?;
    let first = Sequence(reader.u64()?);
    let count = reader.u32()?;
    let payload_bytes = reader.u32()? as usize;
    let chain_before = reader.array()?;
    let kind = reader.u8()?;
    reader.take(3)?;
    let state_bytes = reader.u32()?;
    let facts = FrameFacts { salt, first, count, state_bytes, chain_before };
    let is_known = matches!((kind, facts.is_mark()), (1, false) | (2, true));
    if facts_salt != salt || !is_known || state_bytes as usize > payload_bytes {
        return Err(reader.malformed());
    }
    let payload = reader.take(payload_bytes)?;
    if crc32fast::hash(&bytes[8..FRAME_HEADER_BYTES + payload_bytes]) != crc {
        return Err(reader.malformed());
    }
    Ok((facts, payload))
}

/// Where the mark of a frame stands that ends at a byte.
pub(super) const fn mark_place(end: u64) -> u64 {
    end.div_ceil(PAGE_BYTES) * PAGE_BYTES
}

/// Where the frame ends that a mark at a place vouches for.
pub(super) fn vouched_end(payload: &[u8], place: u64) -> u64 {
    payload.try_into().map_or(place, u64::from_le_bytes)
}

/// Where the next frame may begin.
pub(super) const fn aligned(offset: u64) -> u64 {
    offset.div_ceil(ALIGNMENT) * ALIGNMENT
}
