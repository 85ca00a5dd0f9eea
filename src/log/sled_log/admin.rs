//! The operator's side of the log on sled: disk, verification, backup, failure and end. It never writes an event.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt};
use tokio::{sync::watch, time::Instant};

use super::{
    LogOptions, backup,
    block::OpenBlock,
    handle::{SledLog, log_error},
    index::SearchIndex,
    repair,
    shared::Shared,
};
use crate::{
    domain::Sequence,
    log::{
        admin::{BackupPiece, Companion, DiskState, Listener, LogAdmin, VerifyProgress},
        contract::LogError,
    },
    storage::{StorageError, directory_lock::DirectoryLock, journal, runs::RunFamily},
};

/// A verification says how far it is after so many blocks: about a megabyte of events each time.
const BLOCKS_A_PROGRESS: usize = 64;
/// A verdict names at most so many problems; a log with more is to be restored, not read about.
const PROBLEMS_MAX: usize = 100;

/// The operator's side.
pub struct SledAdmin {
    data_dir: PathBuf,
    refuse_below_bytes: u64,
    shared: Arc<Shared>,
    log: Arc<SledLog>,
    identities: Arc<RunFamily>,
    search: Arc<SearchIndex>,
    failure: watch::Receiver<Option<String>>,
    threads: Mutex<Option<(Vec<JoinHandle<()>>, DirectoryLock)>>,
}

impl fmt::Debug for SledAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledAdmin").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl SledAdmin {
    pub(super) fn new(
        options: &LogOptions,
        shared: Arc<Shared>,
        log: Arc<SledLog>,
        identities: Arc<RunFamily>,
        search: Arc<SearchIndex>,
        failure: watch::Receiver<Option<String>>,
        threads: (Vec<JoinHandle<()>>, DirectoryLock),
    ) -> Self {
        let (data_dir, refuse_below_bytes) = (options.data_dir.clone(), options.refuse_below_bytes);
        let threads = Mutex::new(Some(threads));
        Self { data_dir, refuse_below_bytes, shared, log, identities, search, failure, threads }
    }

    fn verify_blocks(
        &self,
        from: Sequence,
        head: Sequence,
        problems: &mut Vec<String>,
        listener: Listener<'_, VerifyProgress>,
    ) -> Result<bool, StorageError> {
        let rows = self.shared.directory.read().unwrap_or_else(PoisonError::into_inner).rows().to_vec();
        let mut chain = None;
        for (number, row) in rows.iter().filter(|row| row.last() >= from).enumerate() {
            match self.verify_block(*row, chain) {
                Ok(after) => chain = Some(after),
                Err(StorageError::Damaged(what)) => {
                    chain = None;
                    problems.push(what);
                    if problems.len() >= PROBLEMS_MAX {
                        problems.push("there are more problems; the log must be restored from a backup".to_owned());
                        return Ok(true);
                    }
                }
                Err(other) => return Err(other),
            }
            if number % BLOCKS_A_PROGRESS == 0 {
                let verified = row.last();
                if !listener(VerifyProgress { verified, head, done: false, problems: Vec::new() }) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn verify_block(&self, row: super::directory::Row, chain: Option<[u8; 32]>) -> Result<[u8; 32], StorageError> {
        let bytes = self.shared.stored_block(row)?;
        let block = OpenBlock::check(&bytes, row.first)?;
        let mut hash = block.facts.chain_before;
        for record in block.records()? {
            hash = super::codec::chain_after(&hash, &record);
        }
        let continues = chain.is_none_or(|chain| chain == block.facts.chain_before);
        if continues && hash == block.facts.chain_after && block.facts.last() == row.last() {
            return Ok(hash);
        }
        let what =
            format!("the chain of hashes is broken in the block from sequence {} through {}", row.first, row.last());
        Err(StorageError::Damaged(what))
    }
}

impl LogAdmin for SledAdmin {
    fn disk(&self) -> DiskState {
        let journal = journal::FILE_NAMES.iter().filter_map(|name| self.data_dir.join(name).metadata().ok());
        let journal_bytes: u64 = journal.map(|file| file.len()).sum();
        DiskState {
            used_bytes: self.shared.store.bytes_on_disk() + journal_bytes,
            // Where the file system does not say, nothing is promised.
            free_bytes: super::free_bytes(&self.data_dir).unwrap_or(0),
            refuse_below_bytes: self.refuse_below_bytes,
        }
    }

    fn verify(&self, from: Sequence, listener: Listener<'_, VerifyProgress>) -> Result<(), LogError> {
        let head = self.shared.last();
        let mut problems = Vec::new();
        if !self.verify_blocks(from, head, &mut problems, &mut *listener).map_err(log_error)? {
            return Ok(());
        }
        for family in [Arc::clone(&self.identities), self.search.family()] {
            let found = family.verify().map_err(log_error)?;
            if let Some(first) = found.first() {
                repair::mark(&self.data_dir, first);
            }
            problems.extend(found.into_iter().map(|what| format!("{what}; the next start builds the index anew")));
        }
        problems.extend(super::promised::verify(&self.shared).map_err(log_error)?);
        listener(VerifyProgress { verified: head, head, done: true, problems });
        Ok(())
    }

    fn backup(&self, companions: &[Companion], listener: Listener<'_, BackupPiece>) -> Result<(), LogError> {
        backup::write(&self.shared, companions, listener).map_err(log_error)
    }

    fn failed(&self) -> BoxFuture<'static, String> {
        let mut failure = self.failure.clone();
        async move {
            let reason = failure.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
            match reason {
                Some(reason) => reason,
                // The threads have ended in order: nothing fails any more.
                None => std::future::pending().await,
            }
        }
        .boxed()
    }

    fn close(&self, deadline: Instant) -> BoxFuture<'static, ()> {
        self.log.close();
        self.shared.wake.notify_all();
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let shared = Arc::clone(&self.shared);
        async move {
            let Some((threads, lock)) = threads else { return };
            loop {
                if threads.iter().all(JoinHandle::is_finished) {
                    break;
                }
                if Instant::now() >= deadline {
                    tracing::warn!("the log did not close in time; the next start replays its journal");
                    // The lock stays with the threads that may still write: it goes with the process.
                    std::mem::forget(lock);
                    return;
                }
                shared.wake.notify_all();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            drop(lock);
        }
        .boxed()
    }
}
