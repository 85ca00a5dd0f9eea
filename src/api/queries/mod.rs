//! The queries of the event service: from request to answer, over the views and the log. They never show what the caller may not read,
//! nor let her tell that it is there.

mod clearance;
mod error;
mod explain;
mod get;
mod list;
mod port_call;
mod timeline;

use std::sync::Arc;

use super::{Origins, Recorder};
use crate::{
    clock::Clock,
    domain::{Sequence, SpiffeId},
    federation::Federation,
    identity::{Access, Action, Caller, Rights},
    log::{EventLog, LastAcknowledged, Record, contract::TermIndex},
    subscribe::{Sessions, durable::DurableSubscriptions},
    views::{
        Associations, Finder, ViewHandle,
        page_token::{PageTokens, TokenBinding},
    },
    wire::proto,
};

pub use clearance::{Watched, Watching, cleared_subject};
pub use error::QueryError;

/// A page holds at most so many bytes of events, so that an answer stays below what clients take by default (4 MiB). A larger event
/// still makes a page of its own.
const PAGE_BYTES_MAX: usize = 3 * 1024 * 1024;
/// The longest page.
const PAGE_SIZE_MAX: u32 = 1_000;

/// What queries are made of.
#[allow(missing_debug_implementations, reason = "most parts have none, and nobody prints them")]
pub struct QueriesParts {
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// The search view's index.
    pub search_index: Arc<dyn TermIndex>,
    /// The associations view's state.
    pub associations: Arc<Associations>,
    /// How far the search view is.
    pub search_view: ViewHandle,
    /// How far the associations view is.
    pub associations_view: ViewHandle,
    /// Who may read what.
    pub access: Arc<Access>,
    /// What was last acknowledged to whom; the publish door writes it.
    pub acknowledged: Arc<LastAcknowledged>,
    /// Who follows live, for explaining.
    pub sessions: Arc<Sessions>,
    /// Durable subscriptions, for explaining.
    pub durable: Arc<DurableSubscriptions>,
    /// The links to other nodes, for explaining.
    pub federation: Arc<Federation>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// This node's name.
    pub node: SpiffeId,
    /// Seals page tokens.
    pub tokens: Arc<PageTokens>,
}

/// Answers queries. Shared as `Arc<Queries>`.
pub struct Queries {
    parts: QueriesParts,
    finder: Finder,
    recorder: Recorder,
    origins: Origins,
}

/// Who asks, judged at one moment.
struct Asking {
    rights: Rights,
    now_ns: i64,
    /// Through where the answer is complete: both views have applied all up to here.
    through: Sequence,
}

impl Queries {
    /// Queries over a node's parts.
    #[must_use]
    pub fn new(parts: QueriesParts) -> Self {
        let finder = Finder {
            log: Arc::clone(&parts.log),
            index: Arc::clone(&parts.search_index),
            associations: Arc::clone(&parts.associations),
            node: parts.node.clone(),
        };
        let recorder = Recorder::new(parts.node.clone(), &*parts.log);
        let origins = Origins::new(parts.node.clone(), Arc::clone(&parts.clock), Arc::clone(&parts.federation));
        Self { parts, finder, recorder, origins }
    }

    /// The views, for the operator.
    #[must_use]
    pub fn views(&self) -> [&ViewHandle; 2] {
        [&self.parts.search_view, &self.parts.associations_view]
    }

    /// How fresh the events of each node are, for streams.
    #[must_use]
    pub const fn freshness(&self) -> &Origins {
        &self.origins
    }

    /// Waits until the views know all that was acknowledged to the caller, and takes her rights of that moment.
    async fn asking(&self, caller: &Caller) -> Result<Asking, QueryError> {
        let rights = self.rights(caller);
        let now_ns = self.parts.clock.now_ns();
        // Who may only publish reads her own events.
        if !rights.may(Action::Read, now_ns) && !rights.may(Action::Publish, now_ns) {
            return Err(QueryError::NotGranted(Action::Read));
        }
        let needed = self.parts.acknowledged.of(&caller.id);
        let (search, associations) =
            tokio::join!(self.parts.search_view.wait_until(needed), self.parts.associations_view.wait_until(needed));
        let through = search?.min(associations?);
        // What changed while she waited counts.
        Ok(Asking { rights: self.rights(caller), now_ns: self.parts.clock.now_ns(), through })
    }

    /// The caller's rights of this moment, for an answer as of a place that the views have reached.
    fn asking_as_of(&self, caller: &Caller, through: Sequence) -> Asking {
        Asking { rights: self.rights(caller), now_ns: self.parts.clock.now_ns(), through }
    }

    fn rights(&self, caller: &Caller) -> Rights {
        self.parts.access.policy().rights(&caller.id)
    }

    fn position(&self, sequence: Sequence) -> String {
        self.recorder.position(sequence).to_string()
    }

    /// How fresh the events of each node are, where this one's log is looked at through a place.
    fn origins(&self, through: Sequence) -> Vec<proto::OriginFreshness> {
        self.origins.as_of(self.position(through))
    }

    fn recorded(&self, record: &Record) -> Result<proto::RecordedEvent, QueryError> {
        Ok(self.recorder.recorded(record)?)
    }

    /// What page tokens of a request are bound to: the call, the caller, the log's present life, and the request without its token.
    fn binding(&self, call: &str, caller: &Caller, request: &impl prost::Message) -> TokenBinding {
        let life = self.position(Sequence::ZERO);
        TokenBinding::of(&[call.as_bytes(), caller.id.as_str().as_bytes(), life.as_bytes(), &request.encode_to_vec()])
    }
}

impl std::fmt::Debug for Queries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queries").field("node", &self.parts.node).finish_non_exhaustive()
    }
}

/// The page size that a request asks for.
fn page_size(asked: u32, default: u32) -> usize {
    if asked == 0 { default as usize } else { asked.min(PAGE_SIZE_MAX) as usize }
}

#[cfg(test)]
mod tests;
