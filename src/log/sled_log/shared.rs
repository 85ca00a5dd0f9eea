//! What the threads of a log and its readers share: the durable tail that is not yet in sled, the directory of blocks, decoded blocks.
//! It never shows what is not durable, and never writes.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock},
};

use tokio::sync::watch;

use super::{
    block::OpenBlock,
    codec,
    directory::{Directory, Row},
};
use crate::{
    domain::{Sequence, filter::TermPlan},
    log::contract::{Chunk, EpochFacts, Record},
    storage::{
        CHAIN_START, ChainHash, RESTORE_ADVICE, StorageError, journal::Stored, keys, lru::Lru, state::DurableState,
        store::Store,
    },
};

/// A read looks at no more blocks than this.
const BLOCKS_PER_READ_MAX: usize = 256;

/// The shared state.
#[derive(Debug)]
pub struct Shared {
    pub(super) store: Store,
    pub(super) directory: RwLock<Directory>,
    pub(super) tail: RwLock<Tail>,
    pub(super) durable: watch::Sender<Sequence>,
    pub(super) node: crate::domain::SpiffeId,
    pub(super) epochs: Arc<[EpochFacts]>,
    pub(super) first_retained: Sequence,
    /// Promised state, as it is durable.
    pub(super) state: Mutex<DurableState>,
    pub(super) progress: Mutex<Progress>,
    pub(super) wake: Condvar,
    /// Decoded blocks, by their first places, that many readers at one place and queries share. A block never changes.
    cache: Mutex<Lru<Sequence, Arc<[Record]>>>,
}

/// What the commit thread and the owner of sled tell each other.
#[derive(Debug, Default)]
pub struct Progress {
    /// What is in sled, durably.
    pub stored: Stored,
    /// The commit thread waits for this to be stored, in however small a block.
    pub wanted: Stored,
    /// Bytes of the tail.
    pub tail_bytes: usize,
    /// The commit thread has ended, and the journal ends there.
    pub committer_ended: Option<crate::storage::watermark::JournalEnd>,
    /// Both threads have ended in order.
    pub closed: bool,
}

/// Durable records that are not yet in sled.
#[derive(Debug, Default)]
pub struct Tail {
    pub(super) records: VecDeque<Record>,
    /// The chain's hash after each of them, as the journal has it: nobody computes it again for a block.
    pub(super) chain: VecDeque<ChainHash>,
}

impl Tail {
    /// Adds records, each with the chain's hash after it.
    pub(super) fn extend(&mut self, records: impl Iterator<Item = (Record, ChainHash)>) {
        for (record, chain_after) in records {
            self.records.push_back(record);
            self.chain.push_back(chain_after);
        }
    }

    /// Takes the first record away, if it stands no later than this place.
    pub(super) fn pop_through(&mut self, through: Sequence) -> Option<Record> {
        self.records.front().filter(|record| record.sequence <= through)?;
        self.chain.pop_front();
        self.records.pop_front()
    }
}

impl Shared {
    pub(super) fn new(
        store: Store,
        directory: Directory,
        tail: Tail,
        (node, epochs): (crate::domain::SpiffeId, Arc<[EpochFacts]>),
        (first_retained, stored_through): (Sequence, Sequence),
        block_cache_bytes_max: usize,
        state: DurableState,
    ) -> Self {
        let last = tail.records.back().map_or(stored_through, |record| record.sequence);
        let tail_bytes = tail.records.iter().map(codec::weight_bytes).sum();
        Self {
            store,
            directory: RwLock::new(directory),
            tail: RwLock::new(tail),
            durable: watch::Sender::new(last),
            node,
            epochs,
            first_retained,
            state: Mutex::new(state),
            progress: Mutex::new(Progress {
                stored: Stored { through: stored_through, state_frames: 0 },
                tail_bytes,
                ..Progress::default()
            }),
            wake: Condvar::new(),
            cache: Mutex::new(Lru::new(block_cache_bytes_max)),
        }
    }

    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, DurableState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last durable place.
    pub fn last(&self) -> Sequence {
        *self.durable.borrow()
    }

    /// The next stretch after a place; blocks that the terms rule out count as examined. Blocking.
    ///
    /// # Errors
    /// Stored data is damaged or cannot be read.
    pub fn read(
        &self,
        after: Sequence,
        bytes_max: usize,
        plan: Option<&TermPlan>,
    ) -> Result<Option<Chunk>, StorageError> {
        let last = self.last();
        if after >= last {
            return Ok(None);
        }
        // Blocks ruled out cost a read each: a bounded number, so that a reader of nothing still says how far it is.
        let (mut examined, mut blocks, mut bytes) = (after, Vec::new(), 0);
        for _ in 0..BLOCKS_PER_READ_MAX {
            if let Some(chunk) = self.read_tail(examined, last, bytes_max) {
                return Ok(Some(if blocks.is_empty() { chunk } else { joined(&blocks, examined) }));
            }
            let Some(row) = self.row(examined.next()) else {
                // The block moved from the tail to sled in between, or the other way of looking would have found it.
                continue;
            };
            let block = match plan.map(|plan| self.may_match(row, plan)) {
                Some(Ok(false)) => Ok(None),
                Some(Err(error)) => Err(error),
                Some(Ok(true)) | None => self.block(row).map(Some),
            };
            let block = match block {
                Ok(block) => block,
                // What was read before it is handed out; the next read reports it.
                Err(_) if examined > after => break,
                Err(error) => return Err(error),
            };
            if let Some(records) = block {
                let from = records.partition_point(|record| record.sequence <= examined);
                bytes += records[from..].iter().map(codec::weight_bytes).sum::<usize>();
                if bytes > bytes_max && !blocks.is_empty() {
                    break;
                }
                blocks.push((records, from));
            }
            examined = row.last();
            if examined >= last || bytes >= bytes_max {
                break;
            }
        }
        if examined > after { Ok(Some(joined(&blocks, examined))) } else { Err(nowhere(after.next())) }
    }

    /// One record. Blocking.
    ///
    /// # Errors
    /// Stored data is damaged or cannot be read.
    pub fn record(&self, sequence: Sequence) -> Result<Option<Record>, StorageError> {
        if sequence > self.last() || sequence < self.first_retained {
            return Ok(None);
        }
        for _ in 0..2 {
            if let Some(record) = self.tail_record(sequence) {
                return Ok(Some(record));
            }
            if let Some(row) = self.row(sequence) {
                let records = self.block(row)?;
                return Ok(records.get((sequence.get() - row.first.get()) as usize).cloned());
            }
        }
        Err(nowhere(sequence))
    }

    /// The chain's hash after a place; none where no event has it. Blocking.
    ///
    /// # Errors
    /// Stored data is damaged or cannot be read.
    pub fn chain_at(&self, sequence: Sequence) -> Result<Option<ChainHash>, StorageError> {
        if sequence == Sequence::ZERO {
            return Ok(Some(CHAIN_START));
        }
        if sequence > self.last() || sequence < self.first_retained {
            return Ok(None);
        }
        // Read before the directory: what leaves the tail in between is in the directory before it does.
        if let Some(chain) = self.tail_chain(sequence) {
            return Ok(Some(chain));
        }
        let row = self.row(sequence).ok_or_else(|| nowhere(sequence))?;
        self.chain_in_block(row, sequence).map(Some)
    }

    fn chain_in_block(&self, row: Row, sequence: Sequence) -> Result<ChainHash, StorageError> {
        let bytes = self.stored_block(row)?;
        let block = OpenBlock::check(&bytes, row.first)?;
        if sequence == row.last() {
            return Ok(block.facts.chain_after);
        }
        let records = block.records()?;
        let through = records.partition_point(|record| record.sequence <= sequence);
        Ok(codec::chain_over(block.facts.chain_before, &records[..through]))
    }

    /// The first place whose event was accepted at or after a time; the tail's successor where none was. Blocking.
    ///
    /// # Errors
    /// Stored data is damaged or cannot be read.
    pub fn first_accepted_since(&self, time_ns: i64) -> Result<Sequence, StorageError> {
        let last = self.last();
        let row = self.directory.read().unwrap_or_else(PoisonError::into_inner).first_accepted_since(time_ns);
        if let Some(row) = row {
            let records = self.block(row)?;
            let index = records.partition_point(|record| record.accepted_time_ns < time_ns);
            return Ok(Sequence(row.first.get() + index as u64));
        }
        let tail = self.tail.read().unwrap_or_else(PoisonError::into_inner);
        let index = tail.records.partition_point(|record| record.accepted_time_ns < time_ns);
        let first = tail.records.get(index).map(|record| record.sequence).filter(|sequence| *sequence <= last);
        Ok(first.unwrap_or(last.next()))
    }

    /// A block's records, decoded once for all who ask. Blocking.
    ///
    /// # Errors
    /// Stored data is damaged or cannot be read.
    pub fn block(&self, row: Row) -> Result<Arc<[Record]>, StorageError> {
        if let Some(records) = self.cache().get(row.first) {
            return Ok(records);
        }
        let bytes = self.stored_block(row)?;
        let records: Arc<[Record]> = OpenBlock::check(&bytes, row.first)?.records()?.into();
        self.cache().put(row.first, Arc::clone(&records), records.iter().map(codec::weight_bytes).sum());
        Ok(records)
    }

    /// A block's bytes. Blocking.
    ///
    /// # Errors
    /// Stored data is damaged or cannot be read.
    pub fn stored_block(&self, row: Row) -> Result<crate::storage::value::StoredValue, StorageError> {
        let lost = |how: &str| {
            StorageError::Damaged(format!(
                "the block of events from sequence {} through {} {how}; {RESTORE_ADVICE}",
                row.first,
                row.last()
            ))
        };
        match self.store.get(&keys::block(row.number)) {
            Err(error) if error.is_damage() => Err(lost(&format!("cannot be read ({})", error.with_cause()))),
            read => read?.ok_or_else(|| lost("is missing")),
        }
    }

    fn may_match(&self, row: Row, plan: &TermPlan) -> Result<bool, StorageError> {
        let bytes = self.stored_block(row)?;
        Ok(OpenBlock::check(&bytes, row.first)?.may_match(plan))
    }

    fn row(&self, sequence: Sequence) -> Option<Row> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner).find(sequence)
    }

    fn read_tail(&self, after: Sequence, last: Sequence, bytes_max: usize) -> Option<Chunk> {
        let tail = self.tail.read().unwrap_or_else(PoisonError::into_inner);
        let first = tail.records.front()?.sequence;
        let from = (after.get() + 1).checked_sub(first.get())? as usize;
        let mut bytes = 0;
        let mut records = Vec::new();
        for record in tail.records.range(from.min(tail.records.len())..) {
            bytes += codec::weight_bytes(record);
            let enough = bytes > bytes_max && !records.is_empty();
            if enough || record.sequence > last {
                break;
            }
            records.push(record.clone());
        }
        let through = records.last()?.sequence;
        Some(Chunk { records: records.into(), through })
    }

    pub(super) fn tail_record(&self, sequence: Sequence) -> Option<Record> {
        let tail = self.tail.read().unwrap_or_else(PoisonError::into_inner);
        let first = tail.records.front()?.sequence;
        tail.records.get(sequence.get().checked_sub(first.get())? as usize).cloned()
    }

    fn tail_chain(&self, sequence: Sequence) -> Option<ChainHash> {
        let tail = self.tail.read().unwrap_or_else(PoisonError::into_inner);
        let first = tail.records.front()?.sequence;
        tail.chain.get(sequence.get().checked_sub(first.get())? as usize).copied()
    }

    fn cache(&self) -> MutexGuard<'_, Lru<Sequence, Arc<[Record]>>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was read of several blocks, each from a record on; one whole block is shared as it is.
fn joined(blocks: &[(Arc<[Record]>, usize)], through: Sequence) -> Chunk {
    let records = match blocks {
        [(records, 0)] => Arc::clone(records),
        several => several.iter().flat_map(|(records, from)| &records[*from..]).cloned().collect(),
    };
    Chunk { records, through }
}

fn nowhere(sequence: Sequence) -> StorageError {
    StorageError::Damaged(format!("sequence {sequence} is neither in the tail nor in a block"))
}
