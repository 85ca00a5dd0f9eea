//! The operator's side of a log: its disk, verification, backup, failure and end. It never appends or shows an event.

use std::fmt;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::LogError;
use crate::domain::Sequence;

/// What the log's files take and what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskState {
    /// What the node's files take.
    pub used_bytes: u64,
    /// What the file system has left for the node.
    pub free_bytes: u64,
    /// Below this the log takes nothing.
    pub refuse_below_bytes: u64,
}

/// How far a verification is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyProgress {
    /// The last place verified.
    pub verified: Sequence,
    /// The end of the log when it began.
    pub head: Sequence,
    /// True once, with the verdict.
    pub done: bool,
    /// What is wrong, each with its place; empty with `done` set: the log is whole.
    pub problems: Vec<String>,
}

/// A piece of a backup: the pieces in order are the file that `restore` reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupPiece {
    /// At most 1 MiB.
    pub data: Bytes,
    /// The last place that is in the file so far.
    pub through: Sequence,
    /// The end that the backup will reach.
    pub head: Sequence,
}

/// A small file beside the log that belongs to the same moment, such as what is remembered of the peers: a backup carries it along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Companion {
    /// Its name in the data directory.
    pub name: &'static str,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// Takes what long work has to say; false: nobody listens any more, and the work ends.
pub type Listener<'a, T> = &'a mut (dyn FnMut(T) -> bool + Send);

/// The operator's side of a log. Shared as `Arc<dyn LogAdmin>`.
pub trait LogAdmin: Send + Sync + fmt::Debug + 'static {
    /// What its files take and what is left. Asks the file system: milliseconds.
    fn disk(&self) -> DiskState;

    /// Reads everything from a place on and checks every checksum, hash and sequence. Blocks for as long as that takes; tells its progress
    /// at least once a second, and its verdict last.
    ///
    /// # Errors
    /// Storage cannot be read at all; damage is no error but a problem of the verdict.
    fn verify(&self, from: Sequence, listener: Listener<'_, VerifyProgress>) -> Result<(), LogError>;

    /// Copies the log up to its present end, and its companions; those must be taken before, so that what they say of the log never lies
    /// behind its end. Blocks for as long as that takes.
    ///
    /// # Errors
    /// Storage cannot be read, or is damaged.
    fn backup(&self, companions: &[Companion], listener: Listener<'_, BackupPiece>) -> Result<(), LogError>;

    /// Resolves when storage has failed for good, with the reason: the process has to end.
    fn failed(&self) -> BoxFuture<'static, String>;

    /// Takes no more appends, makes durable what was taken, and lets go of the files, at most until the deadline.
    fn close(&self, deadline: Instant) -> BoxFuture<'static, ()>;
}
