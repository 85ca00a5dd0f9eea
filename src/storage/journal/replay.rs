//! Reads the journal at a start: every whole frame in order, the torn end dropped, damage reported. It never writes.

use std::path::Path;

use bytes::Bytes;

use super::{
    FILE_NAMES, HALF_BYTES_MIN, Journal,
    frame::{self, FRAME_HEADER_BYTES, FrameFacts},
    half::{HALF_HEADER_BYTES, Half, HalfStart},
};
use crate::{
    domain::{Epoch, Sequence},
    storage::{ChainHash, RESTORE_ADVICE, StorageError, watermark::JournalEnd},
};

/// The journal as found.
#[derive(Debug)]
pub struct Replayed {
    /// Whole frames in order of their places, which are consecutive.
    pub frames: Vec<ReplayedFrame>,
    /// The place before the first that the journal holds.
    pub base: Sequence,
    /// The chain hash there.
    pub base_chain: ChainHash,
    /// The last place that it holds.
    pub through: Sequence,
    /// How many bytes of a commit that was never finished were dropped.
    pub torn_bytes: u64,
    /// The journal, to go on writing.
    pub journal: Journal,
}

/// A whole frame.
#[derive(Debug, Clone)]
pub struct ReplayedFrame {
    /// What it says of itself.
    pub facts: FrameFacts,
    /// The state, then the records.
    pub payload: Bytes,
}

impl ReplayedFrame {
    /// The section of state; none where the frame holds no state.
    #[must_use]
    pub fn state(&self) -> Option<Bytes> {
        (self.facts.state_bytes > 0).then(|| self.payload.slice(..self.facts.state_bytes as usize))
    }

    /// The records.
    #[must_use]
    pub fn records(&self) -> Bytes {
        self.payload.slice(self.facts.state_bytes as usize..)
    }
}

/// What one half held.
struct HalfFound {
    index: usize,
    start: HalfStart,
    frames: Vec<ReplayedFrame>,
    end_offset: u64,
    torn_bytes: u64,
}

/// Reads both halves. With `clean`, what a clean stop noted, nothing at all may be torn.
///
/// # Errors
/// A file cannot be read, or what was durable is missing or altered.
pub fn replay(data_dir: &Path, epoch: Epoch, clean: Option<JournalEnd>) -> Result<Replayed, StorageError> {
    let mut halves = Vec::with_capacity(2);
    let mut found = Vec::with_capacity(2);
    let mut unread = Vec::new();
    for (index, name) in FILE_NAMES.iter().enumerate() {
        let path = data_dir.join(name);
        let io = || StorageError::io(format!("cannot read {}", path.display()));
        let (half, start) = Half::open(&path).map_err(io())?;
        match start {
            Some(start) if start.generation == 0 => {}
            Some(start) if start.epoch == epoch => {
                found.push(read_half(name, index, start, &Bytes::from(half.read().map_err(io())?))?);
            }
            Some(start) => {
                return Err(damaged(name, &format!("belongs to the epoch {}, not {epoch}", start.epoch)));
            }
            None => unread.push((*name, Bytes::from(half.read().map_err(io())?))),
        }
        halves.push(half);
    }
    refuse_cut_off(&halves)?;
    found.sort_by_key(|half| half.start.generation);
    let Some(newest) = found.last() else {
        return Err(damaged("journal", "has no half whose header is whole"));
    };
    refuse_lost_header(&unread, newest.start.next_salt)?;
    if let [older, newer] = &found[..] {
        check_succession(older, newer)?;
    }
    let (active, offset, torn_bytes) = (newest.index, newest.end_offset, newest.torn_bytes);
    let first = found[0].start;
    let mut frames = Vec::new();
    let mut state_frames = 0;
    for half in found {
        let through = half.frames.last().map_or(Sequence(half.start.base.get() - 1), |frame| frame.facts.last());
        halves[half.index].holds_through(through);
        let with_state = half.frames.iter().filter(|frame| frame.facts.state_bytes > 0).count() as u64;
        if with_state > 0 {
            state_frames += with_state;
            halves[half.index].holds_state_through(state_frames);
        }
        frames.extend(half.frames);
    }
    let through = halves[active].through();
    if let Some(end) = clean {
        let newest_generation = halves[active].generation();
        if (newest_generation, offset, through) != (end.generation, end.offset, end.through) || torn_bytes > 0 {
            let what = if through == end.through {
                format!("was left in order, and is altered after its last event, sequence {through}")
            } else {
                format!("was left in order through sequence {}, and now ends at {through}", end.through)
            };
            return Err(damaged(FILE_NAMES[active], &what));
        }
    }
    let mut halves = halves.into_iter();
    let (Some(half_0), Some(half_1)) = (halves.next(), halves.next()) else {
        unreachable!("both files were opened above");
    };
    Ok(Replayed {
        frames,
        base: Sequence(first.base.get() - 1),
        base_chain: first.chain,
        through,
        torn_bytes,
        journal: Journal::resume([half_0, half_1], epoch, active, offset),
    })
}

fn read_half(name: &str, index: usize, start: HalfStart, bytes: &Bytes) -> Result<HalfFound, StorageError> {
    let mut frames: Vec<ReplayedFrame> = Vec::new();
    let mut offset = HALF_HEADER_BYTES;
    let mut next = start.base;
    while let Some(Ok((facts, payload))) = bytes.get(offset as usize..).map(|rest| frame::open(rest, start.salt))
        && !facts.is_mark()
    {
        if facts.first != next {
            return Err(damaged(name, &format!("holds sequence {} where {next} belongs", facts.first)));
        }
        next = facts.last().next();
        let payload = bytes.slice_ref(payload);
        offset = frame::aligned(offset + (FRAME_HEADER_BYTES + payload.len()) as u64);
        frames.push(ReplayedFrame { facts, payload });
    }
    let rest = bytes.get(offset as usize..).unwrap_or_default();
    let mut is_settled = false;
    for (at, facts, payload) in frames_in(rest, start.salt) {
        let place = offset + at;
        let vouched_end = facts.is_mark().then(|| frame::vouched_end(payload, place));
        // Marks of the frames before stand here too, where what followed was too short to overwrite them.
        if vouched_end.is_none_or(|end| offset < end) {
            let why = if facts.is_mark() { "a mark says that it was durable" } else { "later commits follow" };
            let what =
                format!("is altered at byte {offset}: sequence {next} cannot be read, and {why} at byte {place}");
            return Err(damaged(name, &what));
        }
        is_settled |= vouched_end == Some(offset);
    }
    let torn_bytes = if is_settled { 0 } else { torn_length(rest, start.salt) };
    Ok(HalfFound { index, start, frames, end_offset: offset, torn_bytes })
}

/// Both halves are made of one size and never change it, so that the shorter one was cut off: what it held is gone, and what is written next
/// would not fit.
fn refuse_cut_off(halves: &[Half]) -> Result<(), StorageError> {
    let full_bytes = halves.iter().map(Half::bytes).max().unwrap_or_default().max(HALF_BYTES_MIN);
    match halves.iter().position(|half| half.bytes() < full_bytes) {
        Some(index) => {
            let what = format!("was cut off: it has {} bytes of at least {full_bytes}", halves[index].bytes());
            Err(damaged(FILE_NAMES[index], &what))
        }
        None => Ok(()),
    }
}

/// How much of a frame stands here that was begun and never finished, as far as its first page tells.
fn torn_length(rest: &[u8], salt: u64) -> u64 {
    let begun = rest.len() >= FRAME_HEADER_BYTES
        && rest[..4] == frame::MAGIC
        && rest[8..16] == salt.to_le_bytes()
        && frame::open(rest, salt).is_err();
    if begun {
        FRAME_HEADER_BYTES as u64 + u64::from(u32::from_le_bytes([rest[28], rest[29], rest[30], rest[31]]))
    } else {
        0
    }
}

/// Every whole frame that stands here, with its place.
fn frames_in(rest: &[u8], salt: u64) -> impl Iterator<Item = (u64, FrameFacts, &[u8])> {
    (0..rest.len().saturating_sub(FRAME_HEADER_BYTES)).step_by(8).filter_map(move |at| {
        let begins = rest[at..at + 4] == frame::MAGIC;
        let (facts, payload) = begins.then(|| frame::open(&rest[at..], salt).ok()).flatten()?;
        Some((at as u64, facts, payload))
    })
}

/// A half whose header cannot be read may be a switch that a power cut tore (no frame was written yet, since the header is synced first),
/// or one that was freed long ago. It must not be the newest with frames in it.
fn refuse_lost_header(unread: &[(&str, Bytes)], next_salt: u64) -> Result<(), StorageError> {
    for (name, bytes) in unread {
        let rest = bytes.get(HALF_HEADER_BYTES as usize..).unwrap_or_default();
        if frames_in(rest, next_salt).next().is_some() {
            return Err(damaged(name, "has lost its header, and holds commits later than all that can be read"));
        }
    }
    Ok(())
}

fn check_succession(older: &HalfFound, newer: &HalfFound) -> Result<(), StorageError> {
    let end = older.frames.last().map_or(older.start.base, |frame| frame.facts.last().next());
    let follows = older.start.generation + 1 == newer.start.generation && end == newer.start.base;
    if follows {
        return Ok(());
    }
    let what = format!("ends before sequence {end}, but {} begins at {}", FILE_NAMES[newer.index], newer.start.base);
    Err(damaged(FILE_NAMES[older.index], &what))
}

fn damaged(name: &str, what: &str) -> StorageError {
    StorageError::Damaged(format!(
        "the journal's file {name} {what}; events that were acknowledged may be missing: {RESTORE_ADVICE}"
    ))
}
