//! The log on sled: a journal that makes acknowledgements safe, blocks of events in sled behind it, an exact identity index. It never
//! acknowledges before the journal was synced, and never answers from what fails a check.
//!
//! ```text
//! append ─▶ queue ─▶ [commit thread] decide ▸ journal frame ▸ fdatasync ▸ tail ▸ acknowledge
//!                                                                  │
//!                    [owner of sled] full blocks ▸ sled ▸ fdatasync ▸ read back ▸ watermark ▸ forget the tail
//! ```
//! In reading order: [`codec`], [`folded`], [`block`], [`directory`] (formats), [`shared`] (what readers see), [`admission`], [`committer`],
//! [`packer`] (the two threads), [`recover`] and [`repair`] (a start), [`handle`], [`promised`] and [`index`] (the contracts), [`admin`], [`backup`] and
//! [`mod@restore`].

use std::{io::ErrorKind, path::PathBuf, sync::Arc, time::Duration};

pub mod admin;
pub mod admission;
pub mod backup;
pub mod block;
pub mod codec;
pub mod committer;
pub mod directory;
mod folded;
pub mod handle;
pub mod index;
mod meant;
pub mod packer;
pub mod promised;
pub mod recover;
mod repair;
pub mod restore;
pub mod shared;
#[cfg(test)]
mod tests;

pub use admission::ContentEqual;
pub use recover::open;
pub use restore::{RestoreError, restore};

pub use crate::storage::store::free_bytes;

use super::{
    admin::LogAdmin,
    contract::{EventLog, TermIndex},
};
use crate::{
    domain::SpiffeId,
    storage::{StorageError, fatal::FatalHook, journal, runs::MEMTABLE_ENTRIES_MAX, store::PAGE_CACHE_BYTES},
    store::StateStore,
};

/// A commit takes milliseconds; a disk that needs so much longer has hung, and nobody is helped by waiting on.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(30);
const MIB: usize = 1024 * 1024;

/// A record takes at most so many bytes: a routing header and an event of 64 KiB each, a signature and an origin.
pub const RECORD_BYTES_MAX: usize = 160 * 1024;
/// What a record may take beside its header and bytes: its own numbers, and an origin with eight nodes passed.
pub const RECORD_MARGIN_BYTES: usize = 16 * 1024;
// The largest block stays below what sled keeps out of blobs, lz4's worst expansion and the fingerprint included.
const _: () = assert!(
    block::RAW_BYTES_MAX + block::RAW_BYTES_MAX / 255 + 4096 < crate::storage::store::VALUE_BYTES_MAX,
    "a block of the largest size must not become a blob"
);

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Where it is kept.
    pub data_dir: PathBuf,
    /// Whose log it is: a directory of another node is refused.
    pub node: SpiffeId,
    /// The size of each half of the journal where it is created. A log that has one keeps its size, and a start says so.
    pub journal_half_bytes: u64,
    /// Publishing is refused while the file system has less than this left.
    pub refuse_below_bytes: u64,
    /// The tail that is not yet in sled takes at most so many bytes of memory; beyond, commits wait for the owner of sled.
    pub tail_bytes_max: usize,
    /// Batches that wait take at most so many bytes of memory together; beyond, they are refused.
    pub queue_bytes_max: usize,
    /// Decoded blocks are kept up to so many bytes.
    pub block_cache_bytes_max: usize,
    /// sled's own cache. It passes the number while it scans.
    pub page_cache_bytes: u64,
    /// An index writes a run once it has so many entries in memory.
    pub index_memory_entries_max: usize,
    /// A write to the journal and its sync may take so long; the process ends where one takes longer.
    pub commit_time_max: Duration,
    /// So many of an index's newest parts are read at each start. Older ones are checked when they are used.
    pub index_parts_checked: u64,
    /// What happens when a disk fails.
    pub fatal: FatalHook,
}

impl LogOptions {
    /// The common settings: those of the reference file.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>, node: SpiffeId) -> Self {
        Self {
            data_dir: data_dir.into(),
            node,
            journal_half_bytes: journal::HALF_BYTES_DEFAULT,
            refuse_below_bytes: 512 * MIB as u64,
            tail_bytes_max: 48 * MIB,
            queue_bytes_max: 64 * MIB,
            block_cache_bytes_max: 32 * MIB,
            page_cache_bytes: PAGE_CACHE_BYTES,
            index_memory_entries_max: MEMTABLE_ENTRIES_MAX,
            commit_time_max: COMMIT_TIME_MAX,
            index_parts_checked: repair::PARTS_CHECKED,
            fatal: FatalHook::abort(),
        }
    }
}

/// Why a log cannot be opened. Nothing was changed but for what an earlier kill had left half done.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory belongs to another node.
    #[error("the data directory {} holds the log of {found}, not of {expected}", data_dir.display())]
    OtherNode {
        /// The directory.
        data_dir: PathBuf,
        /// Whose log it holds.
        found: SpiffeId,
        /// Who asks for it.
        expected: SpiffeId,
    },
    /// Storage cannot be used; the message says what is missing and what to do.
    #[error("{}", .0.with_cause())]
    Storage(#[from] StorageError),
}

impl OpenError {
    /// Whether the operator named the wrong directory, or one that this user cannot use, rather than that storage has failed.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::OtherNode { .. } => true,
            Self::Storage(StorageError::Io { source, .. }) => match source.kind() {
                ErrorKind::NotFound
                | ErrorKind::PermissionDenied
                | ErrorKind::NotADirectory
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::WouldBlock
                | ErrorKind::ResourceBusy => true,
                // Everything else says that the disk or the file system is at fault; the list of kinds is open.
                _ => false,
            },
            Self::Storage(StorageError::Damaged(_) | StorageError::Sled { .. }) => false,
        }
    }
}

/// An open log with its handles.
pub struct OpenedLog {
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// The search view's index.
    pub search_index: Arc<dyn TermIndex>,
    /// Small tables that are promised beside the events, by the same journal.
    pub state: Arc<dyn StateStore>,
    /// What an operator needs.
    pub admin: Arc<dyn LogAdmin>,
}

impl std::fmt::Debug for OpenedLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenedLog").field("admin", &self.admin).finish_non_exhaustive()
    }
}
