//! The contract of an event log, in prose and types; every implementation runs the same behaviour suite. It never says how events are
//! kept.
//!
//! - **Durable**: when `append` has returned, what it acknowledged survives a power cut. A dropped future never cancels an append.
//! - **Tail**: the last durable sequence; moves only forward, and only after durability.
//! - **Read** never shows an event beyond the tail, and keeps the order of sequences. Sequences strictly increase; a reader may not
//!   assume that they are dense.
//! - **Once**: (publisher, event id) is stored once, for ever.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::domain::{Epoch, EventId, Sequence, SpiffeId, term::TermHash};
pub use crate::storage::{CHAIN_START, ChainHash};

/// An event on its way into the log: checked, routed, not yet placed.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The publisher's name.
    pub publisher: SpiffeId,
    /// The event's id.
    pub event_id: EventId,
    /// The encoded routing header ([`crate::domain::RoutingHeader::encode`]). The log replaces it by the union with the predecessor's
    /// where the event is a revision.
    pub header: Bytes,
    /// The encoded `SignedEvent`, whose event bytes are as the publisher sent them.
    pub signed: Bytes,
    /// Where it came from; none for an event that is first admitted here.
    pub origin: Option<OriginFacts>,
}

/// Where an event was first admitted, and the way it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginFacts {
    /// The node of origin.
    pub node: SpiffeId,
    /// That node's epoch then.
    pub epoch: Epoch,
    /// Its sequence there.
    pub sequence: Sequence,
    /// When it was accepted there, nanoseconds since 1970.
    pub accepted_time_ns: i64,
    /// The nodes passed, this one left out.
    pub via: Vec<SpiffeId>,
}

/// Whether a batch is all or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendMode {
    /// One refusal refuses all.
    AllOrNothing,
    /// Each event stands for itself; those accepted still become durable together.
    Each,
}

/// A batch holds at most so many events.
pub const BATCH_EVENTS_MAX: usize = 1_000;

/// Events to append as one: they become durable together or not at all, in this order, with consecutive places among themselves.
#[derive(Debug, Clone)]
pub struct AppendBatch {
    /// 1 to [`BATCH_EVENTS_MAX`] events.
    pub events: Vec<NewEvent>,
    /// What one refusal means for the others.
    pub mode: AppendMode,
}

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its place; for a duplicate, the first one's.
    pub sequence: Sequence,
    /// True where the same event was already stored, or stands earlier in the batch.
    pub duplicate: bool,
    /// When this node accepted it (for a duplicate, the first time), nanoseconds since 1970; never runs backwards along the log.
    pub accepted_time_ns: i64,
}

/// How many revisions of an event the log follows to find the head of its chain, which it names to whoever revises an earlier one. A
/// chain may be as long as its publisher makes it (a call's estimate is corrected every few minutes), and each step is a look-up on the
/// thread for which all publishers wait: who stands further behind is told how far the log has looked.
pub const REVISIONS_FOLLOWED_MAX: usize = 8;

/// How many revisions of one event that other nodes brought are kept though they do not fit its chain. A node accepts a revision only at
/// the head of a chain, so there is one for each time that a publisher's home was restored or moved, and a few at most. Each is looked at
/// whenever that event is revised or asked for: without a limit a peer could make one event as dear as it likes.
pub const UNRESOLVED_REVISIONS_MAX: usize = 16;

/// Why the log refuses one event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The id was used before for other content.
    #[error("this event_id was published before with other content, at sequence {first}")]
    EventIdConflict {
        /// Where the other stands.
        first: Sequence,
    },
    /// The event to revise is not known here.
    #[error("the event to revise is not known")]
    RevisedEventUnknown,
    /// The event to revise has been revised already: another event is the head of its chain.
    #[error("the event to revise was revised before, by {head}")]
    RevisionConflict {
        /// The head of the chain.
        head: EventId,
    },
    /// The event to revise has been revised so often that the log did not look for the head of its chain.
    #[error(
        "the event to revise was revised more than {REVISIONS_FOLLOWED_MAX} times since; {later} is a later one of its chain"
    )]
    RevisedOften {
        /// How far the log looked: a revision of it that was revised again.
        later: EventId,
    },
    /// The chain ended with a retraction.
    #[error("the event to revise was retracted, by {by}")]
    AlreadyRetracted {
        /// The retraction.
        by: EventId,
    },
    /// As many revisions of this event as the log keeps came from other nodes, and none of them could be resolved.
    #[error(
        "{UNRESOLVED_REVISIONS_MAX} revisions of that event are kept already which do not revise the head of its chain, or \
         came without it"
    )]
    TooManyUnresolved,
    /// The union of the revision's routing terms with those of all that it revises has grown beyond what one record may hold.
    #[error(
        "the revision's routing header would take {bytes} bytes with its predecessors' terms, above the limit of {bytes_max}"
    )]
    RevisionTooLarge {
        /// What it would take.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

/// What became of one event of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is durable.
    Stored(Appended),
    /// It is refused.
    Refused(Refusal),
    /// It is in order, and not stored, since another of its batch was refused (all or nothing).
    Withheld,
}

/// Why the log takes nothing now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The queue of appends is full; nothing was stored.
    #[error("the log's queue is full")]
    Overloaded,
    /// The batch holds more bytes (or more events) than one commit may; nothing was stored.
    #[error("the batch takes {bytes} bytes, above the limit of {bytes_max}")]
    BatchTooLarge {
        /// What it takes, headers and unions of revisions included.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Free space is below the limit; nothing was stored.
    #[error("the disk has {free_bytes} bytes left, below the limit of {limit_bytes}")]
    DiskFull {
        /// What is left.
        free_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The log is closing; nothing was stored.
    #[error("the log is closing")]
    Closing,
    /// Storage has failed and the process is about to end; whether the batch is stored is unknown.
    #[error("storage failed: {0}")]
    Storage(String),
}

/// Why the log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The place is before the first event that is retained.
    #[error("sequence {asked} is before the first retained event, {first}")]
    BeforeFirst {
        /// What was asked for.
        asked: Sequence,
        /// The first that is retained.
        first: Sequence,
    },
    /// What is stored is missing or altered.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// Storage could not be read.
    #[error("storage failed: {0}")]
    Storage(String),
}

/// An event as the log keeps it. Cheap to clone: its bytes are shared with the block that they were read in.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its place.
    pub sequence: Sequence,
    /// When this node accepted it, nanoseconds since 1970.
    pub accepted_time_ns: i64,
    /// Where it was first admitted; none: here, in the log's own epoch at that time, under the same sequence.
    pub origin: Option<Arc<OriginFacts>>,
    /// The encoded routing header.
    pub header: Bytes,
    /// The encoded `SignedEvent`.
    pub signed: Bytes,
}

/// A stretch of the log. `records` are all events (or all that the caller's terms did not rule out) after the place asked for, up to and
/// including `through`.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// In order; may be empty where whole blocks were ruled out by the terms.
    pub records: Arc<[Record]>,
    /// The last place examined: the cursor to go on from.
    pub through: Sequence,
}

/// An event that came after revisions of its.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlyRevisions {
    /// Where it stands.
    pub original: Sequence,
    /// Where those stand before it that revise it directly, ascending.
    pub revisions: Vec<Sequence>,
}

/// A node's log. Shared as `Arc<dyn EventLog>`.
pub trait EventLog: Send + Sync + 'static {
    /// Appends a batch and returns when it is durable, with a verdict an event in order. A batch of duplicates of events still in flight
    /// waits for their durability. The batch goes through even where the returned future is dropped.
    fn append(&self, batch: AppendBatch) -> BoxFuture<'static, Result<Vec<Verdict>, AppendError>>;

    /// Reads the next stretch after a place: at least one event where there is one up to the tail, at most about `bytes_max` bytes.
    /// `None` where nothing is after it yet. With `terms` (any-of lists, `ORed`: see [`crate::domain::filter::TermPlan`]) blocks whose
    /// fingerprint rules out every match are skipped; records that do not match may still be returned.
    fn read(
        &self,
        after: Sequence,
        bytes_max: usize,
        terms: Option<Arc<crate::domain::filter::TermPlan>>,
    ) -> BoxFuture<'static, Result<Option<Chunk>, LogError>>;

    /// The records at these places (ascending), each where it exists. For queries: decoded blocks are cached and shared.
    fn get(&self, sequences: Vec<Sequence>) -> BoxFuture<'static, Result<Vec<Record>, LogError>>;

    /// The event of this identity.
    fn find(&self, publisher: SpiffeId, event_id: EventId) -> BoxFuture<'static, Result<Option<Record>, LogError>>;

    /// The places of the events that revise any of these directly, oldest first.
    fn revisions_of(&self, events: Vec<(SpiffeId, EventId)>) -> BoxFuture<'static, Result<Vec<Sequence>, LogError>>;

    /// Of some records of this log, those that came after revisions of theirs, in the order of the records. Few ever do: a revision stands
    /// before its original only where another node brought it earlier than that, over another link or after a restore; at most
    /// [`UNRESOLVED_REVISIONS_MAX`] of one event.
    fn revised_before(&self, records: Arc<[Record]>) -> BoxFuture<'static, Result<Vec<EarlyRevisions>, LogError>>;

    /// The first place whose event was accepted at or after a time; the tail's successor where none was.
    fn first_accepted_since(&self, time_ns: i64) -> BoxFuture<'static, Result<Sequence, LogError>>;

    /// The hash that stands for the log up to and including a place ([`super::chain_after`] over [`CHAIN_START`], one record after the
    /// other); of place zero, [`CHAIN_START`] itself. Two logs with the same hash hold the same events in the same order up to there. `None`
    /// where no event has the place, or it is beyond the tail or before the first that is retained.
    fn chain_at(&self, sequence: Sequence) -> BoxFuture<'static, Result<Option<ChainHash>, LogError>>;

    /// Watches the last durable place.
    fn tail(&self) -> watch::Receiver<Sequence>;

    /// The first place that is retained; 1 while nothing was ever dropped.
    fn first_retained(&self) -> Sequence;

    /// The lives of this log, the present one first, each with what it continues.
    fn epochs(&self) -> Arc<[EpochFacts]>;
}

/// One life of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochFacts {
    /// Its id.
    pub epoch: Epoch,
    /// What it continues.
    pub parent: Option<Epoch>,
    /// The last place taken over from the parent.
    pub fork: Sequence,
    /// When it was opened, nanoseconds since 1970.
    pub open_time_ns: i64,
}

/// An index of terms beside the log, as sorted runs: what the search view is made of.
pub trait TermIndex: Send + Sync + 'static {
    /// Adds the terms of a stretch of the log that ends at `through`, in the order of their places; one place may name a term more than
    /// once. They are found at once, and are kept durably some time later together with `through`; after a restart the index says through
    /// where it is complete, and the caller adds the rest again.
    fn add(&self, entries: Vec<(TermHash, Sequence)>, through: Sequence) -> BoxFuture<'static, Result<(), LogError>>;

    /// Through where the index is complete now.
    fn complete_through(&self) -> Sequence;

    /// Up to `limit` places of a term within `(after, before)` (both exclusive), ascending or descending.
    fn lookup(
        &self,
        term: TermHash,
        after: Sequence,
        before: Sequence,
        descending: bool,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Sequence>, LogError>>;

    /// All places before one of each of some terms, ascending, in one step; none for a term that has more than `count_max`. For terms that
    /// are asked for again and again: what was found before is not looked up again.
    fn all_places(
        &self,
        terms: Vec<TermHash>,
        before: Sequence,
        count_max: usize,
    ) -> BoxFuture<'static, Result<Vec<Option<Vec<Sequence>>>, LogError>>;

    /// About how many places a term has: what a planner compares.
    fn estimate(&self, term: TermHash) -> u64;

    /// Opens an empty index beside this one, its next generation, to be filled from the beginning of the log while this one still answers.
    /// What an earlier next generation left behind that was never put in place is dropped: after a restart this one answers, alone.
    fn open_next(&self) -> BoxFuture<'static, Result<Arc<dyn TermIndex>, LogError>>;

    /// Puts what the next generation holds in the place of what this index holds, at once and durably, and drops the old. From then on
    /// this index answers and is added to as before; the handle of the next generation is used no more.
    ///
    /// Answers an error where there is no next generation.
    fn replace_by_next(&self) -> BoxFuture<'static, Result<(), LogError>>;
}
