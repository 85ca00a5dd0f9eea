//! THE TRUTH: the log of events. Everything else follows it with a cursor. It never decodes an event's protobuf, and never shows what is
//! not durable.

pub mod acknowledged;
pub mod admin;
pub mod contract;
#[cfg(test)]
mod contract_suite;
pub mod follow;
pub mod lookout;
pub mod memory;
pub mod sled_log;

pub use acknowledged::LastAcknowledged;
pub use admin::{BackupPiece, Companion, DiskState, LogAdmin, VerifyProgress};
pub use contract::{
    AppendBatch, AppendError, AppendMode, Appended, Chunk, EarlyRevisions, EventLog, LogError, NewEvent, OriginFacts,
    REVISIONS_FOLLOWED_MAX, Record, Refusal, UNRESOLVED_REVISIONS_MAX, Verdict,
};
pub use follow::{FollowError, Follower};
pub use lookout::Lookout;
pub use memory::MemoryLog;
pub use sled_log::codec::chain_after;
