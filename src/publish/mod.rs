//! THE WRITE DOOR, the only one: an event comes in by [`Door::submit`] or not at all. It parses and validates, asks whether the caller may
//! say this, and hands what is right to the log. It never stores anything itself, and never answers before the log says "durable".

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::{
    clock::Clock,
    domain::{SpiffeId, filter::PartyBindings},
    identity::{Access, Action, Caller, Rights},
    log::{AppendBatch, AppendError, AppendMode, EventLog, LastAcknowledged, NewEvent, Verdict},
    wire::{
        PublishRequest,
        door::{CodeLists, EVENT_BYTES_MAX},
    },
};

mod admit;
mod error;
mod pipeline;
mod quota;

#[cfg(test)]
mod tests;

pub use error::{Denial, EventFault, PublishError, RejectedEvent};
pub use pipeline::{Answer, PIPELINED_BYTES_MAX, PIPELINED_REQUESTS_MAX, pipeline};
pub use quota::{EventQuota, QuotaExceeded};

use admit::Admission;

/// What one request may hold. The numbers are the API's; a node may set them lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishLimits {
    /// Events a request.
    pub events_max: usize,
    /// Encoded bytes of one event.
    pub event_bytes_max: usize,
}

impl Default for PublishLimits {
    fn default() -> Self {
        Self { events_max: 1_000, event_bytes_max: EVENT_BYTES_MAX }
    }
}

/// What the door is made of.
pub struct DoorParts {
    /// Where events go.
    pub log: Arc<dyn EventLog>,
    /// Where what was acknowledged is noted, so that queries answer their own publishers with it.
    pub acknowledged: Arc<LastAcknowledged>,
    /// Who may publish what.
    pub access: Arc<Access>,
    /// Which participants associations bind to which subjects, for grants that speak of parties.
    pub bindings: Arc<dyn PartyBindings>,
    /// The code lists that events are validated against.
    pub lists: Arc<CodeLists>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// This node's name: the origin of what is admitted here.
    pub node: SpiffeId,
    /// How many events each participant may publish.
    pub quota: EventQuota,
    /// What a request may hold.
    pub limits: PublishLimits,
    /// Why nothing is taken for now, in words: a log that was restored from a backup first takes back what it lost.
    pub closed: watch::Receiver<Option<Arc<str>>>,
}

/// The door.
pub struct Door {
    parts: DoorParts,
}

/// What became of one event, in a request whose every event has its own fate.
#[derive(Debug, Clone, PartialEq)]
pub struct EventOutcome {
    /// The event's id as it bears it; empty where it could not be read.
    pub event_id: String,
    /// Where it stands, or why it is refused.
    pub fate: Result<crate::log::Appended, EventFault>,
}

impl Door {
    /// Opens the door.
    #[must_use]
    pub const fn new(parts: DoorParts) -> Self {
        Self { parts }
    }

    /// What a caller may do under the policy in force.
    #[must_use]
    pub fn rights(&self, caller: &Caller) -> Rights {
        self.parts.access.policy().rights(&caller.id)
    }

    /// Whether rights read earlier are still those of the policy in force.
    #[must_use]
    pub fn is_current(&self, rights: &Rights) -> bool {
        self.parts.access.policy().generation == rights.generation
    }

    /// Checks a request, and hands it to the log in the moment of the call's return: requests submitted one after another are stored in
    /// that order. From then on nothing cancels it, also not dropping what is returned.
    ///
    /// # Errors
    /// Every reason that can be told before the log has been asked.
    pub async fn submit(
        &self,
        caller: &Caller,
        rights: &Rights,
        request: PublishRequest,
    ) -> Result<Submitted, PublishError> {
        let now_ns = self.parts.clock.now_ns();
        if !rights.may(Action::Publish, now_ns) {
            return Err(PublishError::NoPublishGrant);
        }
        if let Some(why) = &*self.parts.closed.borrow() {
            return Err(PublishError::Closed(why.clone()));
        }
        let on_invalid = admit::check_request(&request, self.parts.limits)?;
        self.parts.quota.take(&caller.id, request.events.len(), now_ns)?;

        let admission = Admission { parts: &self.parts, rights, now_ns };
        let (fates, events) = admission.admit_all(request.events).await;
        let mode = match on_invalid {
            OnInvalid::Skip => AppendMode::Each,
            OnInvalid::RejectBatch => {
                error::reject_if_any(&fates)?;
                AppendMode::AllOrNothing
            }
        };
        let append = if events.is_empty() { None } else { Some(self.parts.log.append(AppendBatch { events, mode })) };
        let (acknowledged, caller) = (Arc::clone(&self.parts.acknowledged), caller.id.clone());
        Ok(Submitted { fates, append, mode, acknowledged, caller })
    }

    /// Publishes one request: [`Door::submit`] and its outcome.
    ///
    /// # Errors
    /// Why nothing of it is stored.
    pub async fn publish(&self, caller: &Caller, request: PublishRequest) -> Result<Vec<EventOutcome>, PublishError> {
        self.submit(caller, &self.rights(caller), request).await?.outcome().await
    }
}

/// What becomes of the valid events of a request when others of it are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnInvalid {
    RejectBatch,
    Skip,
}

/// An event of a request: on its way into the log under its id, or refused at the door.
#[derive(Debug)]
struct Fate {
    event_id: String,
    fault: Option<EventFault>,
}

/// A request that the log has, and whose outcome is still to come.
#[must_use = "the outcome says what is durable"]
pub struct Submitted {
    fates: Vec<Fate>,
    append: Option<BoxFuture<'static, Result<Vec<Verdict>, AppendError>>>,
    mode: AppendMode,
    acknowledged: Arc<LastAcknowledged>,
    caller: SpiffeId,
}

impl Submitted {
    /// Waits until what is stored of the request is durable. Not to be polled again after it was dropped half-way; what it would have
    /// told is then told by publishing the same request again.
    ///
    /// # Errors
    /// Why nothing of it is stored.
    pub async fn outcome(self) -> Result<Vec<EventOutcome>, PublishError> {
        let verdicts = match self.append {
            Some(append) => append.await?,
            None => Vec::new(),
        };
        if self.mode == AppendMode::AllOrNothing {
            error::reject_if_refused(&self.fates, &verdicts)?;
        }
        let last = verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::Stored(appended) => Some(appended.sequence),
            Verdict::Refused(_) | Verdict::Withheld => None,
        });
        if let Some(last) = last.max() {
            self.acknowledged.note(&self.caller, last);
        }
        let mut verdicts = verdicts.into_iter();
        let outcomes = self.fates.into_iter().map(|Fate { event_id, fault }| {
            let fate = match fault {
                Some(fault) => Err(fault),
                None => match verdicts.next() {
                    Some(Verdict::Stored(appended)) => Ok(appended),
                    Some(Verdict::Refused(refusal)) => Err(EventFault::Refused(refusal)),
                    // By the log's contract there is a verdict an event, and none is withheld unless another one was refused.
                    Some(Verdict::Withheld) | None => return Err(PublishError::NotAppended(no_verdict())),
                },
            };
            Ok(EventOutcome { event_id, fate })
        });
        outcomes.collect()
    }
}

fn no_verdict() -> AppendError {
    AppendError::Storage("the log gave no verdict on an event".into())
}

impl std::fmt::Debug for DoorParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DoorParts").field("node", &self.node).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("parts", &self.parts).finish()
    }
}

impl std::fmt::Debug for Submitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Submitted").field("fates", &self.fates).field("mode", &self.mode).finish_non_exhaustive()
    }
}
