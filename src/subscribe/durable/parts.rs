//! What durable subscriptions are made of, what they may cost, and why a call is refused. It never does anything by itself.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{DeadLetter, Definition, SettingFault};
use crate::{
    clock::Clock,
    domain::{Epoch, EventId, Position, SpiffeId, bindings::BindingsFeed},
    identity::Access,
    log::{EventLog, Lookout},
    store::{StateStore, WriteError},
    subscribe::{StartError, start::current},
    tasks::Tasks,
};

/// A name's largest size.
pub const NAME_BYTES_MAX: usize = 64;

/// What durable subscriptions may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurableLimits {
    /// Subscriptions of one participant.
    pub per_participant_max: usize,
    /// Connected consumers of the node together.
    pub consumers_max: usize,
    /// A consumer that takes nothing for so long while something waits for it is ended.
    pub stalled_max: Duration,
    /// Consumers are told of the progress so often. The API promises 10 s.
    pub progress_interval: Duration,
}

impl Default for DurableLimits {
    fn default() -> Self {
        Self {
            per_participant_max: 100,
            consumers_max: 4_096,
            stalled_max: Duration::from_secs(60),
            progress_interval: Duration::from_secs(5),
        }
    }
}

/// What durable subscriptions are made of.
pub struct DurableParts {
    /// What is followed.
    pub log: Arc<dyn EventLog>,
    /// Where those rest whom nothing of late concerned.
    pub lookout: Arc<Lookout>,
    /// Where they are kept.
    pub store: Arc<dyn StateStore>,
    /// Who may read what.
    pub access: Arc<Access>,
    /// Which participants associations bind to which subjects.
    pub bindings: Arc<dyn BindingsFeed>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// This node's name: the origin of events that bear none.
    pub node: SpiffeId,
    /// Where deliveries and writes run.
    pub tasks: Tasks,
    /// Resolves when the node stops.
    pub draining: CancellationToken,
    /// What they may cost.
    pub limits: DurableLimits,
}

impl DurableParts {
    /// The present life of the log.
    pub(super) fn epoch(&self) -> Epoch {
        current(&self.log.epochs())
    }
}

impl std::fmt::Debug for DurableParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DurableParts").field("node", &self.node).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurableError {
    /// The caller has no subscription of this name.
    #[error("you have no subscription of this name")]
    NotFound,
    /// She has one of this name, with another definition.
    #[error("you have a subscription of this name with another definition")]
    AlreadyExists,
    /// She has as many as she may.
    #[error("you have {max} subscriptions, and may have no more; delete one first")]
    QuotaExceeded {
        /// The limit.
        max: usize,
    },
    /// The node serves as many consumers as it may.
    #[error("the node serves {max} consumers, and takes no more")]
    TooManyConsumers {
        /// The limit.
        max: usize,
    },
    /// She has no grant in force to read, and none to publish.
    #[error("no grant allows the action read")]
    NoReadGrant,
    /// The place cannot be honoured, or the subscription's own has been lost with the log that it belonged to.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Settings are outside their limits.
    #[error("settings are outside their limits")]
    Settings(Vec<SettingFault>),
    /// The name is none.
    #[error("must be 1 to {NAME_BYTES_MAX} of a to z, 0 to 9 and \"-\", beginning with a letter")]
    Name,
    /// The filters say more than is kept of a subscription.
    #[error("take {bytes} bytes as they are stored, and may take {bytes_max}; say less, or make several subscriptions")]
    FiltersTooLarge {
        /// What they take.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The subscription was changed since the caller read it.
    #[error("the subscription was changed since you read it; read it again")]
    EtagMismatch,
    /// The grants that decide what she sees have changed.
    #[error("the grants that decide what you see have changed; resume the subscription to go on from {position}")]
    Stopped {
        /// Everything up to here is settled or did not match.
        position: Position,
    },
    /// The node has more to store than it can at the moment; nothing was changed.
    #[error("the node has more to store than it can at the moment; nothing was changed")]
    Overloaded,
    /// The disk is nearly full, or what is kept of subscriptions is as much as it may be; nothing was changed.
    #[error("the node has no room to store more; nothing was changed")]
    NoRoom,
    /// Storage has failed: whether the change is stored is unknown.
    #[error("the node's storage failed; whether the change is stored is unknown")]
    StorageFailed,
    /// The node stops.
    #[error("the node is stopping")]
    Draining,
}

impl From<WriteError> for DurableError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Overloaded => Self::Overloaded,
            WriteError::Full { .. } | WriteError::DiskFull => Self::NoRoom,
            WriteError::Closing => Self::Draining,
            // Sizes are checked before anything is written: one that is too large all the same is a fault of ours, and in the log.
            WriteError::TooLarge { .. } | WriteError::Storage(_) => Self::StorageFailed,
        }
    }
}

/// Whether a subscription delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does.
    Active,
    /// Its owner paused it.
    Paused,
    /// The grants that decide what its owner sees have changed.
    Stopped,
    /// Its place is lost with the log that it belonged to.
    Lost,
}

/// One subscription, as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionFacts {
    /// Its owner.
    pub owner: SpiffeId,
    /// Its definition.
    pub definition: Definition,
    /// Whether it delivers.
    pub state: State,
    /// Everything up to here is settled or did not match, durably.
    pub acknowledged: Position,
    /// How far the end of the log is ahead.
    pub lag_events: u64,
    /// Events on their way.
    pub outstanding: usize,
    /// Its dead letters.
    pub dead_letters: usize,
    /// Its consumers.
    pub consumers: usize,
}

/// One dead letter, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterFacts {
    /// Where the event stands.
    pub position: Position,
    /// What is kept of it.
    pub letter: DeadLetter,
    /// The event's id and publisher; none where the owner's rights do not admit it any more.
    pub event: Option<(EventId, String)>,
}

/// All subscriptions together, for the node's gauges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DurableTotals {
    /// How many there are.
    pub subscriptions: usize,
    /// How many consumers are connected.
    pub consumers: usize,
    /// How many dead letters are kept.
    pub dead_letters: usize,
    /// How far the end of the log is ahead of the last of those that somebody consumes.
    pub lag_events_max: u64,
}
