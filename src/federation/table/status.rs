//! How the two directions of a link look to operators. It never decides what a link does.

use crate::{
    domain::Sequence,
    federation::progress::{PeerProgress, Quarantined},
};

/// Which way events go over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From the peer to us.
    Inbound,
    /// From us to the peer.
    Outbound,
}

/// What a link is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Nothing: it has no address here, or has not called yet.
    Idle,
    /// Dialling, or agreeing where to go on.
    Connecting,
    /// Events flow, and the end of the source's log is not reached.
    Streaming,
    /// The end of the source's log is reached; new events flow as they come.
    CaughtUp,
    /// An operator, here or there, has paused it.
    Paused,
    /// It failed and is tried again after a pause.
    Backoff,
    /// The source's log is another than the one that was followed, or has lost its end. Stopped until an operator resumes it.
    Diverged,
    /// The same life of the source's log is live twice. Stopped until an operator resumes it.
    Cloned,
    /// What follows our position is no longer retained by the source. Stopped until an operator resumes it.
    Lapsed,
    /// What the source sent must not be taken, as by a forged publisher. Stopped until an operator resumes it.
    Refused,
}

impl LinkState {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Idle,
        Self::Connecting,
        Self::Streaming,
        Self::CaughtUp,
        Self::Paused,
        Self::Backoff,
        Self::Diverged,
        Self::Cloned,
        Self::Lapsed,
        Self::Refused,
    ];

    /// The state's word in metrics and logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::CaughtUp => "caught_up",
            Self::Paused => "paused",
            Self::Backoff => "backoff",
            Self::Diverged => "diverged",
            Self::Cloned => "cloned",
            Self::Lapsed => "lapsed",
            Self::Refused => "refused",
        }
    }

    /// Whether only an operator's word moves the link on.
    #[must_use]
    pub const fn is_stopped(self) -> bool {
        match self {
            Self::Diverged | Self::Cloned | Self::Lapsed | Self::Refused => true,
            Self::Idle | Self::Connecting | Self::Streaming | Self::CaughtUp | Self::Paused | Self::Backoff => false,
        }
    }
}

/// One direction of a link as operators see it. Times are nanoseconds since 1970, 0: never.
#[derive(Debug, Clone)]
pub struct LinkStatus {
    /// What it is doing.
    pub state: LinkState,
    /// Since when.
    pub since_ns: i64,
    /// Why, in words; empty where the state says it all.
    pub detail: String,
    /// When the other side last said something; of what it sends us also before the process started.
    pub last_contact_ns: i64,
    /// The last failure in words; kept when the link recovers.
    pub last_error: String,
    /// Of which class it was, one of [`ERROR_CLASSES`](crate::federation::ended::ERROR_CLASSES); empty: none yet.
    pub last_error_class: &'static str,
    /// The end of the source's log as last known.
    pub head_sequence: u64,
    /// Since when the link is not at the end of the source's log.
    pub behind_since_ns: i64,
    /// When the receiver last knew that it had all of the source's log, without having gone back since.
    pub caught_up_ns: i64,
    /// The end of the source's log then.
    pub caught_up_sequence: u64,
    /// The end of this node's log when the link came to have all of the source's after a time in which it was not known to: until they have
    /// come so far, answers do not rest on it.
    pub complete_from: Sequence,
    /// Events since the process started.
    pub event_count: u64,
    /// Of these, how many were known before.
    pub duplicate_count: u64,
    /// Bytes of batches since the process started.
    pub byte_count: u64,
}

/// A peer as operators see it.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// What is remembered.
    pub progress: PeerProgress,
    /// What we take from it.
    pub inbound: LinkStatus,
    /// What it takes from us.
    pub outbound: LinkStatus,
    /// Our events that it did not take, as it told since the process started, oldest first.
    pub refused_there: Vec<Quarantined>,
}

impl PeerStatus {
    /// What an operator should know of a direction beside its state, such as that the source was restored from a backup.
    #[must_use]
    pub fn notice(&self, direction: Direction) -> &str {
        &self.progress.notices[direction as usize]
    }
}

impl Direction {
    /// The direction's word in metrics and logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl LinkStatus {
    /// A link that has not been spoken over since a time.
    pub(super) fn new(now_ns: i64) -> Self {
        Self {
            state: LinkState::Idle,
            since_ns: now_ns,
            detail: String::new(),
            last_contact_ns: 0,
            last_error: String::new(),
            last_error_class: "",
            head_sequence: 0,
            behind_since_ns: 0,
            caught_up_ns: 0,
            complete_from: Sequence::ZERO,
            caught_up_sequence: 0,
            event_count: 0,
            duplicate_count: 0,
            byte_count: 0,
        }
    }
}
