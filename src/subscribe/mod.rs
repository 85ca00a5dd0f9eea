//! THE READ DOOR for live readers: a session is a follower of the log, with the caller's filters and the caller's rights between. It never
//! stores a cursor, never shows what the rights of this moment don't admit, and never passes over an event in silence: whatever ends a
//! session says where to go on.

use std::{fmt, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    domain::{Filter, Position, SpiffeId, bindings::BindingsFeed, header::SubjectTerm},
    identity::{Access, Caller, Narrowing},
    log::{EventLog, Follower, LogError, Lookout, Record},
    tasks::{OnFailure, Tasks},
};

pub mod durable;
mod guard;
mod session;
pub mod sessions;
mod sight;
mod start;
mod window;

#[cfg(test)]
mod tests;

pub use sessions::{SessionInfo, Sessions};
pub use start::{Start, StartError};
pub use window::SessionStream;

/// What a session may cost, and how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// A reader that takes nothing for so long while something waits for it is ended with its resume point.
    pub stalled_max: Duration,
    /// While nothing matches, the reader is told how far the node has looked every so often. The API promises 10 s.
    pub progress_interval: Duration,
    /// So many messages wait for a reader who does not read: enough that the session reads on while the network sends.
    pub window_messages_max: usize,
    /// All live sessions of the node together.
    pub sessions_max: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            stalled_max: Duration::from_secs(60),
            progress_interval: Duration::from_secs(5),
            window_messages_max: 4,
            sessions_max: 4_096,
        }
    }
}

/// What live subscriptions are made of.
pub struct SubscriptionsParts {
    /// What is followed.
    pub log: Arc<dyn EventLog>,
    /// Where those rest whom nothing of late concerned.
    pub lookout: Arc<Lookout>,
    /// Who may read what.
    pub access: Arc<Access>,
    /// Which participants associations bind to which subjects.
    pub bindings: Arc<dyn BindingsFeed>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// This node's name: the origin of events that bear none.
    pub node: SpiffeId,
    /// Where sessions run.
    pub tasks: Tasks,
    /// Resolves when the node stops: sessions end with their resume point.
    pub draining: CancellationToken,
    /// What a session may cost.
    pub limits: SessionLimits,
}

/// The live subscriptions of a node.
pub struct Subscriptions {
    parts: SubscriptionsParts,
    sessions: Arc<Sessions>,
}

/// What a caller asks for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Where to begin.
    pub start: Start,
    /// What to receive, by any of these filters; none: all that her rights admit.
    pub filters: Vec<Filter>,
}

/// One message of a session.
#[derive(Debug, Clone)]
pub enum SessionMessage {
    /// The first one.
    Started {
        /// The place after which events are delivered.
        after: Position,
        /// What the caller's grants leave of her filters.
        narrowing: Narrowing,
    },
    /// Events, in order; 1 to 256.
    Events(Vec<Record>),
    /// How far the node has looked.
    Progress {
        /// Everything up to here was delivered or did not match.
        position: Position,
        /// The node's clock, nanoseconds since 1970.
        time_ns: i64,
    },
    /// Everything that was stored has been delivered.
    CaughtUp {
        /// The end of the log.
        position: Position,
    },
    /// The reader lags.
    FellBehind {
        /// The last place delivered or examined.
        position: Position,
        /// How far the end of the log is ahead.
        lag_events: u64,
    },
    /// The reader sees more from here on.
    VisibilityWidened {
        /// What she became a party of.
        subject: SubjectTerm,
        /// Where the association stands.
        position: Position,
        /// Of what she became a party of before it some is not named any more.
        incomplete: bool,
    },
}

/// Why no session was opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The caller has no grant in force to read, and none to publish, so that nothing of her own is there either.
    #[error("no grant allows the action read")]
    NoReadGrant,
    /// The start cannot be honoured.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The node has as many sessions as it may.
    #[error("the node has {sessions_max} live subscriptions, and takes no more")]
    TooManySessions {
        /// The limit.
        sessions_max: usize,
    },
    /// The node stops.
    #[error("the node is stopping")]
    Draining,
}

/// How a session ended, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SessionEnd {
    /// Why.
    pub reason: EndReason,
    /// The last place that the reader has, or that did not concern her.
    pub resume: Position,
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// Grants of the caller that allow reading were added, changed or withdrawn, began or ended.
    #[error("the grants that decide what you see have changed")]
    RightsChanged,
    /// No read grant of the caller is in force any more.
    #[error("no grant allows the action read any more")]
    RightsWithdrawn,
    /// The client certificate's validity ended.
    #[error("the client certificate has ended")]
    CertificateEnded,
    /// The connection is to end, for the reason given.
    #[error("the connection is closed: {0}")]
    ConnectionClosing(String),
    /// The node stops.
    #[error("the node is stopping")]
    Draining,
    /// The reader took nothing for too long.
    #[error("nothing was read for {} s while messages waited", .stalled_max.as_secs())]
    ReaderStalled {
        /// For how long.
        stalled_max: Duration,
    },
    /// The log cannot be read on.
    #[error(transparent)]
    Log(LogError),
    /// The log was closed.
    #[error("the log is closed")]
    LogClosed,
    /// The reader hung up.
    #[error("the reader is gone")]
    ReaderGone,
    /// The session's task broke off.
    #[error("the session broke off")]
    Broken,
}

impl Subscriptions {
    /// No sessions yet.
    #[must_use]
    pub fn new(parts: SubscriptionsParts) -> Self {
        Self { parts, sessions: Arc::default() }
    }

    /// Who reads now.
    #[must_use]
    pub fn sessions(&self) -> Arc<Sessions> {
        Arc::clone(&self.sessions)
    }

    /// Opens a session: the stream of its messages, of which the first is [`SessionMessage::Started`].
    ///
    /// # Errors
    /// Why there is none.
    pub async fn open(&self, caller: Caller, asked: Asked) -> Result<SessionStream, SubscribeError> {
        self.open_judging(caller, asked, sight::Judges::Events).await
    }

    /// Opens a session that hands out every event that the filters match, whether or not the caller may read it, and ends as any other
    /// where her rights change: for a view that says what changed, and judges by her rights what of it she is shown.
    ///
    /// # Errors
    /// As for [`Subscriptions::open`].
    pub async fn open_unjudged(&self, caller: Caller, asked: Asked) -> Result<SessionStream, SubscribeError> {
        self.open_judging(caller, asked, sight::Judges::Nothing).await
    }

    async fn open_judging(
        &self,
        caller: Caller,
        asked: Asked,
        judges: sight::Judges,
    ) -> Result<SessionStream, SubscribeError> {
        let parts = &self.parts;
        if parts.draining.is_cancelled() {
            return Err(SubscribeError::Draining);
        }
        // Watched before the policy is read: a reload in between is then noticed by the session.
        let generation = parts.access.generation();
        let rights = parts.access.policy().rights(&caller.id);
        let now_ns = parts.clock.now_ns();
        if !sight::may_subscribe(&rights, now_ns) {
            return Err(SubscribeError::NoReadGrant);
        }
        let after = start::resolve(&*parts.log, asked.start).await?;
        let narrowing = rights.narrowing(&asked.filters, now_ns);
        let filters: Arc<[Filter]> = asked.filters.into();
        let sight =
            sight::Sight::new(rights, Arc::clone(&filters), Arc::clone(&parts.bindings), parts.node.clone(), now_ns)
                .judging(judges);
        let info = SessionInfo::new(&caller, filters, after.sequence, now_ns);
        let entry = self
            .sessions
            .enter(info, parts.limits.sessions_max)
            .ok_or(SubscribeError::TooManySessions { sessions_max: parts.limits.sessions_max })?;

        let follower =
            Follower::new(Arc::clone(&parts.log), after.sequence, session::CHUNK_BYTES_MAX, sight.term_plan())
                .resting_at(&parts.lookout);
        let (window, stream) = window::window(after, Arc::clone(&entry.info), &parts.limits);
        let guard = guard::Guard::new(caller, parts, generation, sight);
        let session = session::Session::new(follower, guard, window, entry, (after, asked.start), parts);
        parts.tasks.spawn("subscription", OnFailure::Log, async move {
            session.run(narrowing).await;
            Ok::<(), std::convert::Infallible>(())
        });
        Ok(stream)
    }
}

impl fmt::Debug for SubscriptionsParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionsParts")
            .field("node", &self.node)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Subscriptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriptions").field("parts", &self.parts).field("sessions", &self.sessions).finish()
    }
}
