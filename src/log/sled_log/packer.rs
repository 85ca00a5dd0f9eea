//! The owner of sled: packs the durable tail into full blocks, writes them in slices, each synced, and moves the watermark; between
//! slices it writes, merges and removes index runs. It never writes what the journal does not hold durably, and frees memory and journal
//! only after a slice was read back.

use std::{
    fmt,
    sync::{Arc, PoisonError, mpsc::Receiver},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    block, codec,
    directory::{Directory, Row},
    promised::Unstored,
    shared::Shared,
};
use crate::{
    log::contract::Record,
    storage::{
        ChainHash, StorageError,
        durable::SyncReason,
        keys,
        runs::RunFamily,
        slots::Slots,
        store::Writer,
        watermark::{Watermark, WatermarkFile},
    },
};

/// The tail is packed once it holds so many bytes: a slice's worth, so that a sync is not spent on little.
const PACK_BYTES_MIN: usize = 256 * 1024;
/// Blocks are synced at least once in so many bytes as they are written, compressed: after a power cut nothing older is in doubt, and a
/// disk never has more to do at once before the next acknowledgement's sync.
const UNSYNCED_BYTES_MAX: usize = 256 * 1024;
/// What a block takes beside its bytes: the keys made before it, and the pieces of a large one.
const BLOCK_MARGIN_BYTES: usize = 16 * 1024;
/// Promised state is stored once its changes take so many bytes: most of them are of few entries, each of which is then written once.
const STATE_BYTES_MIN: usize = 256 * 1024;
/// Without anything to do the thread looks again after this time, for index work that its waker could not know of.
const IDLE: Duration = Duration::from_millis(200);

/// Work that needs the writer.
pub type WriterWork = Box<dyn FnOnce(&mut Writer) -> Result<(), StorageError> + Send>;

/// What others ask of the owner of sled.
pub enum Command {
    /// Run this with the writer, and answer when it is durable.
    Write(WriterWork, oneshot::Sender<()>),
    /// Look after this index from now on, and no longer after the other.
    Maintain(Arc<RunFamily>),
    /// Look no longer after this index.
    Forget(Arc<RunFamily>),
}

/// Everything that the owner of sled has.
pub struct Packer {
    pub(super) shared: Arc<Shared>,
    pub(super) writer: Writer,
    /// How far the keys of blocks are made.
    pub(super) slots: Slots,
    pub(super) watermark_file: WatermarkFile,
    pub(super) watermark: Watermark,
    pub(super) families: Vec<Arc<RunFamily>>,
    pub(super) commands: Receiver<Command>,
    pub(super) chain: ChainHash,
}

/// Records of one block to be, and the chain's hash after the last of them.
struct Unpacked {
    records: Vec<Record>,
    chain_after: ChainHash,
}

impl Packer {
    /// Works until the commit thread has ended.
    ///
    /// # Errors
    /// sled or the disk refused, or what was written cannot be read back: the process must end.
    pub fn run(mut self) -> Result<(), StorageError> {
        loop {
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command)?;
            }
            if let Some(blocks) = self.to_pack() {
                self.store(&blocks)?;
                continue;
            }
            if self.store_state()? {
                continue;
            }
            let mut more = false;
            for family in self.families.clone() {
                more |= family.maintain(&mut self.writer)?;
            }
            if more {
                continue;
            }
            let progress = self.shared.progress();
            if let Some(end) = progress.committer_ended {
                drop(progress);
                self.watermark.clean = Some(end);
                self.write_watermark()?;
                self.shared.progress().closed = true;
                self.shared.wake.notify_all();
                return Ok(());
            }
            let waited = self.shared.wake.wait_timeout(progress, IDLE);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn obey(&mut self, command: Command) -> Result<(), StorageError> {
        match command {
            Command::Write(write, done) => {
                write(&mut self.writer)?;
                self.writer.sync(SyncReason::Runs)?;
                // Whoever hung up does not want to know.
                let _ = done.send(());
            }
            Command::Maintain(family) => self.families.push(family),
            Command::Forget(family) => self.families.retain(|other| !Arc::ptr_eq(other, &family)),
        }
        Ok(())
    }

    /// Records for about a slice of blocks: full ones, and a last one of any size only where the journal waits for its room.
    fn to_pack(&self) -> Option<Vec<Unpacked>> {
        let (wanted, enough) = {
            let progress = self.shared.progress();
            (progress.wanted.through, progress.tail_bytes >= PACK_BYTES_MIN)
        };
        let tail = self.shared.tail.read().unwrap_or_else(PoisonError::into_inner);
        let first = tail.records.front()?.sequence;
        let pressed = wanted >= first;
        if !enough && !pressed {
            return None;
        }
        let mut blocks = Vec::new();
        let (mut open, mut open_bytes, mut slice_bytes) = (Vec::new(), 0, 0);
        for (record, chain_after) in tail.records.iter().zip(&tail.chain) {
            open_bytes += codec::weight_bytes(record);
            open.push(record.clone());
            if open_bytes >= block::RAW_BYTES_TARGET {
                slice_bytes += open_bytes;
                open_bytes = 0;
                blocks.push(Unpacked { records: std::mem::take(&mut open), chain_after: *chain_after });
                if slice_bytes >= crate::storage::store::SLICE_BYTES_MAX / 2 {
                    return Some(blocks);
                }
            }
        }
        if pressed && let (false, Some(chain_after)) = (open.is_empty(), tail.chain.back()) {
            blocks.push(Unpacked { records: open, chain_after: *chain_after });
        }
        (!blocks.is_empty()).then_some(blocks)
    }

    /// Writes the state that has changed, once it is a slice's worth, the journal waits for its room, or the log closes; false where there
    /// is nothing to do.
    fn store_state(&mut self) -> Result<bool, StorageError> {
        let (wanted, ending) = {
            let progress = self.shared.progress();
            (progress.wanted.state_frames > progress.stored.state_frames, progress.committer_ended.is_some())
        };
        let (any, enough) = {
            let state = self.shared.state();
            (!state.unstored.is_empty(), state.unstored_bytes >= STATE_BYTES_MIN)
        };
        if !(any && (enough || ending) || wanted) {
            return Ok(false);
        }
        let unstored = Unstored::take(&self.shared);
        unstored.store(&mut self.writer)?;
        self.watermark.state = unstored.digest;
        self.write_watermark()?;
        self.shared.state().storing.clear();
        self.shared.progress().stored.state_frames = unstored.frames;
        self.shared.wake.notify_all();
        Ok(true)
    }

    fn store(&mut self, blocks: &[Unpacked]) -> Result<(), StorageError> {
        let mut rows = Vec::with_capacity(blocks.len());
        let mut keys_written = Vec::with_capacity(blocks.len());
        let mut chain = self.chain;
        let first_number = self.shared.directory.read().unwrap_or_else(PoisonError::into_inner).rows().len() as u32;
        for (number, block) in (first_number..).zip(blocks) {
            let (facts, bytes) = block::encode(&block.records, chain, block.chain_after);
            chain = facts.chain_after;
            // Before it: what is written of this slice counts only once the watermark has moved, and is written again after a cut.
            if self.writer.unsynced_bytes() + bytes.len() + BLOCK_MARGIN_BYTES > UNSYNCED_BYTES_MAX {
                self.writer.sync(SyncReason::Blocks)?;
            }
            self.slots.reach(number, keys::block_with_fillers, &mut self.writer)?;
            self.writer.put(&keys::block(number), &bytes)?;
            assert!(self.writer.unsynced_bytes() <= UNSYNCED_BYTES_MAX, "blocks are synced in time");
            let row = Row { number, first: facts.first, count: facts.count, last_accepted_ns: facts.last_accepted_ns };
            keys_written.push((row, crc32fast::hash(&bytes)));
            rows.push(row);
            self.watermark.stored_through = facts.last();
            self.watermark.accepted_time_ns = facts.last_accepted_ns;
        }
        let known = {
            let directory = self.shared.directory.read().unwrap_or_else(PoisonError::into_inner);
            let page_start = directory.rows().len() / super::directory::PAGE_ROWS * super::directory::PAGE_ROWS;
            let mut page_rows = directory.rows()[page_start..].to_vec();
            page_rows.extend(&rows);
            (page_start, page_rows)
        };
        Directory::write_pages(known.0, &known.1, &mut self.writer)?;
        self.writer.sync(SyncReason::Blocks)?;
        self.read_back(&keys_written)?;
        self.chain = chain;
        self.watermark.chain = chain;
        self.write_watermark()?;
        self.free(&rows);
        Ok(())
    }

    /// What sled gives back now must be what was written: only then may the journal forget it.
    fn read_back(&self, written: &[(Row, u32)]) -> Result<(), StorageError> {
        for (row, crc) in written {
            let bytes = self.shared.store.get(&keys::block(row.number))?;
            if bytes.is_none_or(|bytes| crc32fast::hash(&bytes) != *crc) {
                return Err(StorageError::Damaged(format!(
                    "the block at sequence {} cannot be read back as written",
                    row.first
                )));
            }
        }
        Ok(())
    }

    /// Lets readers find the blocks, then forgets the tail that they hold.
    fn free(&self, rows: &[Row]) {
        let stored_through = self.watermark.stored_through;
        self.shared.directory.write().unwrap_or_else(PoisonError::into_inner).extend(rows);
        let mut freed_bytes = 0;
        {
            let mut tail = self.shared.tail.write().unwrap_or_else(PoisonError::into_inner);
            while let Some(record) = tail.pop_through(stored_through) {
                freed_bytes += codec::weight_bytes(&record);
            }
        }
        let mut progress = self.shared.progress();
        progress.stored.through = stored_through;
        progress.tail_bytes -= freed_bytes;
        drop(progress);
        self.shared.wake.notify_all();
    }

    fn write_watermark(&mut self) -> Result<(), StorageError> {
        self.watermark_file.write(&self.watermark).map_err(StorageError::io("cannot write the watermark"))
    }
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Packer")
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Command")
    }
}
