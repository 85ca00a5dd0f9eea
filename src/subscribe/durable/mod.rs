//! Durable subscriptions: named readers whose acknowledged position outlives them. What decides about events here ([`machine`]) is pure and
//! is given the time; around it stand what is stored ([`definition`], [`cursor`], and how: `writing`), the subscriptions of the node
//! ([`registry`]) and the task that delivers (`pump`). Nothing here answers before what it answers is durable, or passes an event that
//! nobody settled.
//!
//! ```text
//! consumers ─ settle ─▶ slot { machine } ─ writing ─▶ store      log ─ feed ─▶ slot { machine } ─ pump ─▶ consumers' windows
//! ```

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use futures::Stream;
use tokio::sync::{Notify, mpsc};

pub mod consumer;
pub mod cursor;
pub mod definition;
mod feed;
pub mod machine;
mod parts;
mod pump;
pub mod registry;
pub mod settings;
mod slot;
mod standings;
mod steering;
mod stored;
mod telling;
#[cfg(test)]
mod tests;
mod writing;

pub use consumer::{Consumption, Settling, Standpoint};
pub use cursor::{Cursor, DeadLetter, Tried};
pub use definition::Definition;
pub use machine::{ConsumerId, Delivery, Leaving, Machine, Outcome, Standing, Verb};
pub use parts::{DurableError, DurableLimits, DurableParts, DurableTotals, LetterFacts, State, SubscriptionFacts};
pub use registry::DurableSubscriptions;
pub use settings::{DELAY_MAX, LEASE_LIMITS, Mode, OUTSTANDING_LIMITS, OrderingKey, SettingFault, Settings};
pub use standings::EventStanding;

use crate::{
    domain::{Position, bindings::NewBinding},
    identity::Narrowing,
    log::Record,
    wire::violations::Violation,
};

/// One event on its way to a consumer.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// The event.
    pub record: Record,
    /// Which attempt this is.
    pub attempt: u32,
    /// When the lease ends, nanoseconds since 1970.
    pub lease_until_ns: i64,
    /// True for a dead letter that was asked for again.
    pub replayed: bool,
}

/// One message to a consumer.
#[derive(Debug, Clone)]
pub enum ConsumeMessage {
    /// The first one.
    Started {
        /// Everything up to here is settled or did not match.
        acknowledged: Position,
        /// The owner paused the subscription.
        paused: bool,
        /// Whether this consumer receives the events at once.
        active: bool,
        /// What the owner's grants leave of the filters.
        narrowing: Narrowing,
    },
    /// Events, 1 to 32.
    Deliveries(Vec<Delivered>),
    /// The answer to a settlement.
    Settled {
        /// Its number.
        correlation_id: u64,
        /// What became of each delivery.
        outcomes: Vec<Outcome>,
    },
    /// How far the subscription is.
    Progress {
        /// Everything up to here is settled or did not match, durably.
        acknowledged: Position,
        /// How far the end of the log is ahead of what was looked at.
        lag_events: u64,
        /// Whether this consumer receives the events.
        active: bool,
        /// The owner paused the subscription.
        paused: bool,
        /// The node's clock, nanoseconds since 1970.
        time_ns: i64,
    },
    /// Everything was looked at, and nothing waits but for its time.
    CaughtUp {
        /// The end of the log.
        position: Position,
    },
    /// The subscription lags, after it had caught up.
    FellBehind {
        /// Up to where the log was looked at.
        position: Position,
        /// How far its end is ahead.
        lag_events: u64,
    },
    /// The owner sees more than before.
    Widened {
        /// What she became a party of, in the order of the associations.
        widened: Vec<NewBinding>,
        /// All up to here is told.
        through: Position,
        /// There were more than are kept; the first of them are not named.
        incomplete: bool,
    },
}

/// Why a consumer's stream ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeEnd {
    /// It left in order.
    #[error("the consumer has left")]
    Left,
    /// The subscription went to another place.
    #[error("the subscription was moved to another position; consume again")]
    Moved,
    /// The grants that decide what its owner sees have changed.
    #[error("the grants that decide what you see have changed; resume the subscription to go on from {position}")]
    Stopped {
        /// Everything up to here is settled or did not match.
        position: Position,
    },
    /// It was deleted.
    #[error("the subscription was deleted")]
    Deleted,
    /// The node stops.
    #[error("the node is stopping")]
    Draining,
    /// A settlement could not be stored: nothing that was not answered counts.
    #[error("the node could not store a settlement; what was not answered comes again")]
    NotStored,
    /// The log cannot be read.
    #[error(transparent)]
    Log(crate::log::LogError),
    /// Nothing was heard of the consumer for too long.
    #[error("nothing was heard of the consumer for 30 s")]
    Silent,
    /// The consumer took nothing for too long.
    #[error("nothing was read for 60 s while messages waited")]
    Stalled,
    /// The client certificate's validity ended.
    #[error("the client certificate has ended")]
    CertificateEnded,
    /// The connection is to end, for the reason given.
    #[error("the connection is closed: {0}")]
    ConnectionClosing(String),
    /// What the consumer said breaks the rules.
    #[error("the request breaks rules")]
    Malformed(Vec<Violation>),
    /// The task that served it broke off.
    #[error("the stream broke off")]
    Broken,
}

/// What a consumer receives, then how it ended, always.
#[derive(Debug)]
pub struct ConsumeStream {
    messages: mpsc::Receiver<ConsumeMessage>,
    end: Arc<OnceLock<ConsumeEnd>>,
    /// Whoever delivers waits for room.
    wake: Arc<Notify>,
    finished: bool,
}

impl Stream for ConsumeStream {
    type Item = Result<ConsumeMessage, ConsumeEnd>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.finished {
            return Poll::Ready(None);
        }
        // Whoever leaves in order still receives her answers; else what waits is not handed out under rights that may have ended.
        let ended = self.end.get().filter(|end| **end != ConsumeEnd::Left).cloned();
        if let Some(end) = ended {
            self.finished = true;
            self.messages.close();
            return Poll::Ready(Some(Err(end)));
        }
        match self.messages.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(message)) => {
                self.wake.notify_one();
                Poll::Ready(Some(Ok(message)))
            }
            Poll::Ready(None) => {
                self.finished = true;
                let end = self.end.get().cloned().unwrap_or(ConsumeEnd::Broken);
                Poll::Ready((end != ConsumeEnd::Left).then_some(Err(end)))
            }
        }
    }
}
