//! Small tables whose changes are promised: subscriptions, their acknowledged positions, their dead letters. It never holds events, and
//! never knows what an entry means to those who keep it.
//!
//! # The contract of a [`StateStore`]
//!
//! - **Durable**: when `write` has returned, its changes survive a power cut, by the same sync that events wait for. A dropped future
//!   never cancels a write.
//! - **Whole**: the changes of one write become durable together or not at all.
//! - **In order**: of two writes of which the second was asked for after the first, the second decides; both are durable once it is.
//! - **Shown late**: `load` and `get` show what is durable, and nothing that is not yet.
//! - **Bounded**: what is larger than the limits is refused, and a full queue is refused at once.

use ::bytes::Bytes;
use futures::future::BoxFuture;

mod memory;
#[cfg(test)]
pub mod suite;

pub use memory::MemoryStore;

/// How entries are written and read.
pub use crate::storage::bytes;
pub use crate::storage::state::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::storage::state::{StateChange, WRITE_BYTES_MAX};

/// The tables. Persisted: a number is never used again for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// What each durable subscription is.
    Subscriptions = 1,
    /// How far each durable subscription is.
    Cursors = 2,
    /// The dead letters of durable subscriptions.
    DeadLetters = 3,
}

/// One entry's new value, or its removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which table.
    pub table: Table,
    /// Which entry; at most [`KEY_BYTES_MAX`] bytes, the table's own byte included.
    pub key: Bytes,
    /// What it holds from now on, at most [`VALUE_BYTES_MAX`] bytes; none: it is removed.
    pub value: Option<Bytes>,
}

/// Why a write was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The queue is full; nothing was stored.
    #[error("the queue of writes is full")]
    Overloaded,
    /// A key, a value or the whole write is larger than may be; nothing was stored.
    #[error("a write of {bytes} bytes is above the limit of {bytes_max}")]
    TooLarge {
        /// What it takes.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The tables are full; nothing was stored.
    #[error("the tables take {bytes_max} bytes, and may take no more")]
    Full {
        /// The limit.
        bytes_max: usize,
    },
    /// The disk is nearly full, and what is kept free for acknowledgements is used up; nothing was stored.
    #[error("the disk is full")]
    DiskFull,
    /// The store is closing; nothing was stored.
    #[error("the store is closing")]
    Closing,
    /// Storage has failed and the process is about to end; whether the write is stored is unknown.
    #[error("storage failed: {0}")]
    Storage(String),
}

/// Small tables, durable. Shared as `Arc<dyn StateStore>`.
pub trait StateStore: Send + Sync + std::fmt::Debug + 'static {
    /// A table's entries whose keys begin so, as they are durable now, in the order of their keys.
    fn load(&self, table: Table, prefix: &[u8]) -> Vec<(Bytes, Bytes)>;

    /// One entry, as it is durable now.
    fn get(&self, table: Table, key: &[u8]) -> Option<Bytes>;

    /// Makes changes durable, together.
    fn write(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<(), WriteError>>;
}

/// An entry's key among those of all tables.
pub(crate) fn whole_key(table: Table, key: &[u8]) -> Bytes {
    let mut whole = Vec::with_capacity(1 + key.len());
    whole.push(table as u8);
    whole.extend(key);
    whole.into()
}

/// Checks what is asked against the limits, and says it as storage does.
pub(crate) fn checked(changes: Vec<Change>) -> Result<(Vec<StateChange>, usize), WriteError> {
    let mut bytes_of_all = 0;
    let mut checked = Vec::with_capacity(changes.len());
    for Change { table, key, value } in changes {
        let key = whole_key(table, &key);
        let limits = [(key.len(), KEY_BYTES_MAX), (value.as_ref().map_or(0, Bytes::len), VALUE_BYTES_MAX)];
        if let Some((bytes, bytes_max)) = limits.into_iter().find(|(bytes, bytes_max)| bytes > bytes_max) {
            return Err(WriteError::TooLarge { bytes, bytes_max });
        }
        let change = StateChange { key, value };
        bytes_of_all += change.weight_bytes();
        checked.push(change);
    }
    if bytes_of_all > WRITE_BYTES_MAX {
        return Err(WriteError::TooLarge { bytes: bytes_of_all, bytes_max: WRITE_BYTES_MAX });
    }
    Ok((checked, bytes_of_all))
}
