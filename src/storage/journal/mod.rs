//! The journal: what makes an acknowledgement safe. Two preallocated halves, written in turn, so that a sync is a pure overwrite; each
//! commit is one frame, one write and one sync. It never frees a half that holds anything not yet durable in sled, and it never knows
//! what a frame holds.
//!
//! What recovery may conclude, since the next frame is written only after the one before it was synced: a bad frame with nothing whole
//! after it is the torn end of a commit that nobody was told of, and is dropped; a bad frame with a whole later one in its half is
//! damage, and is reported. The last frame has none after it, so that a mark is put behind it where nothing follows at once.

mod frame;
mod half;
mod replay;
#[cfg(test)]
mod tests;

use std::{io, path::Path};

pub use frame::{FRAME_HEADER_BYTES, FrameFacts, seal};
pub use half::{HALF_HEADER_BYTES, HalfStart};
pub use replay::{Replayed, ReplayedFrame, replay};

use half::Half;

use super::{
    ChainHash, StorageError,
    durable::{self, SyncReason},
    watermark::JournalEnd,
};
use crate::domain::{Epoch, Sequence};

/// What sled holds durably, so that the journal need not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    /// Events up to here.
    pub through: Sequence,
    /// State of the frames up to this one, counted over those that hold state.
    pub state_frames: u64,
}

/// The journal's files, in the data directory.
pub const FILE_NAMES: [&str; 2] = ["journal.0", "journal.1"];
/// A half's size where the configuration says nothing. It bounds what a start replays, and is written once at creation.
pub const HALF_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;
/// The smallest half: several slices of the block writer, so that the other half is always freed in time.
pub const HALF_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// The journal, open for writing. One thread has it.
#[derive(Debug)]
pub struct Journal {
    halves: [Half; 2],
    epoch: Epoch,
    active: usize,
    /// Where the next frame goes in the active half.
    offset: u64,
    /// True where a mark stands for the last frame.
    is_marked: bool,
}

impl Journal {
    /// Makes the two files, durably, the first half active and empty.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn create(data_dir: &Path, half_bytes: u64, start: &HalfStart) -> Result<(), StorageError> {
        assert!(half_bytes >= HALF_BYTES_MIN, "a half of {half_bytes} bytes is too small");
        for (name, generation) in FILE_NAMES.iter().zip([start.generation, 0]) {
            let path = data_dir.join(name);
            Half::create(&path, half_bytes, &HalfStart { generation, ..*start })
                .map_err(StorageError::io(format!("cannot create {}", path.display())))?;
        }
        durable::sync_directory(data_dir).map_err(StorageError::io(format!("cannot sync {}", data_dir.display())))
    }

    /// Continues after what was replayed.
    #[must_use]
    pub(super) const fn resume(halves: [Half; 2], epoch: Epoch, active: usize, offset: u64) -> Self {
        Self { halves, epoch, active, offset, is_marked: false }
    }

    /// Makes durable what a start has read back: after a kill a frame may stand in the kernel's memory alone, and nobody may be shown it
    /// before a power cut could no longer take it.
    ///
    /// # Errors
    /// The disk refused: the start must end.
    pub fn sync(&self) -> io::Result<()> {
        self.halves.iter().try_for_each(|half| durable::sync_data(half.file(), SyncReason::Start))
    }

    /// The largest frame, its header included, that a half can hold.
    #[must_use]
    pub fn frame_bytes_max(&self) -> u64 {
        self.halves[0].bytes().min(self.halves[1].bytes()) - HALF_HEADER_BYTES
    }

    /// The size of a half, chosen at its creation.
    #[must_use]
    pub const fn half_bytes(&self) -> u64 {
        self.halves[self.active].bytes()
    }

    /// The generation of the active half.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.halves[self.active].generation()
    }

    /// The salt that a frame must bear which is written next.
    #[must_use]
    pub const fn salt(&self) -> u64 {
        self.halves[self.active].salts().0
    }

    /// Whether the active half has room for a frame.
    #[must_use]
    pub const fn has_room(&self, frame_bytes: u64) -> bool {
        self.offset + frame_bytes <= self.halves[self.active].bytes()
    }

    /// Whether the other half may be overwritten: everything in it is durable in sled.
    #[must_use]
    pub fn may_switch(&self, stored: Stored) -> bool {
        let other = &self.halves[1 - self.active];
        other.through() <= stored.through && other.state_through() <= stored.state_frames
    }

    /// Begins the other half, durably. `next_salt` is a random number.
    ///
    /// # Errors
    /// The disk refused: the process must end.
    pub fn switch(&mut self, base: Sequence, chain: ChainHash, next_salt: u64, stored: Stored) -> io::Result<()> {
        assert!(self.may_switch(stored), "a half with events or state not yet in sled must not be overwritten");
        let active = &self.halves[self.active];
        assert_eq!(base, active.through().next(), "a half begins where the other ends");
        let (generation, salt) = (active.generation() + 1, active.salts().1);
        let other = 1 - self.active;
        self.halves[other].begin(&HalfStart { generation, base, chain, epoch: self.epoch, salt, next_salt })?;
        self.active = other;
        self.offset = HALF_HEADER_BYTES;
        self.is_marked = false;
        tracing::debug!(generation, %base, "began the other half of the journal");
        Ok(())
    }

    /// Writes a sealed frame and returns when it is durable. `state_frame` is its number where it holds state.
    ///
    /// # Errors
    /// The disk refused: the process must end.
    pub fn write(&mut self, sealed: &[u8], through: Sequence, state_frame: Option<u64>) -> io::Result<()> {
        assert!(self.has_room(sealed.len() as u64), "the caller switches before the half is full");
        let half = &mut self.halves[self.active];
        half.write_at(sealed, self.offset)?;
        let syncing = std::time::Instant::now();
        durable::sync_data(half.file(), SyncReason::Acknowledge)?;
        metrics::histogram!(crate::telemetry::LOG_FDATASYNC_SECONDS).record(syncing.elapsed().as_secs_f64());
        half.holds_through(through);
        if let Some(frame) = state_frame {
            half.holds_state_through(frame);
        }
        self.offset = frame::aligned(self.offset + sealed.len() as u64);
        self.is_marked = false;
        Ok(())
    }

    /// Writes a mark after the last frame, on a page of its own: that frame was durable, so that a later bad byte in it is damage and not a
    /// torn end. Not synced: it costs no time, and is lost at most where a power cut follows at once. It means nothing any more once frames
    /// follow, and one of these overwrites it.
    ///
    /// # Errors
    /// The disk refused: the process must end.
    pub fn mark_settled(&mut self, facts: &FrameFacts) -> io::Result<()> {
        let (half, place) = (&self.halves[self.active], frame::mark_place(self.offset));
        if self.is_marked || half.bytes() < place + frame::MARK_BYTES as u64 {
            return Ok(());
        }
        half.write_at(&frame::settled_mark(facts, self.offset), place)?;
        self.is_marked = true;
        Ok(())
    }

    /// Where the journal ends, for a clean stop's watermark.
    #[must_use]
    pub fn end(&self, through: Sequence) -> JournalEnd {
        JournalEnd { generation: self.generation(), offset: self.offset, through }
    }
}
