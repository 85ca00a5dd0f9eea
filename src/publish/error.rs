//! Why a request, or one event of it, is refused. It never says anything of another party's events than that an id is taken.

use std::sync::Arc;

use super::{Fate, QuotaExceeded};
use crate::{
    identity::Action,
    log::{AppendError, Refusal, Verdict},
    wire::violations::Violation,
};

/// Why nothing of a request is stored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PublishError {
    /// The request as a whole breaks a rule.
    #[error("the request is invalid")]
    Invalid(Vec<Violation>),
    /// The caller has no publish grant in force at all.
    #[error("no grant allows the action publish")]
    NoPublishGrant,
    /// Some of its events are refused, and so is therefore the whole.
    #[error("{} of the request's events are refused", .0.len())]
    Rejected(Vec<RejectedEvent>),
    /// The participant publishes more than its quota.
    #[error(transparent)]
    Quota(#[from] QuotaExceeded),
    /// Nothing is taken for now; the words say why.
    #[error("{0}")]
    Closed(Arc<str>),
    /// The log takes nothing now.
    #[error(transparent)]
    NotAppended(#[from] AppendError),
}

/// A refused event of a request that is refused with it.
#[derive(Debug, Clone, PartialEq)]
pub struct RejectedEvent {
    /// Its index in the request.
    pub index: usize,
    /// Its id as it bears it; empty where it could not be read.
    pub event_id: String,
    /// Why.
    pub fault: EventFault,
}

/// Why one event is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EventFault {
    /// It breaks rules of form or content: every one that it breaks, by field.
    #[error("the event is invalid")]
    Invalid(Vec<Violation>),
    /// The caller may not say this.
    #[error(transparent)]
    Denied(Denial),
    /// It doesn't fit what is stored.
    #[error(transparent)]
    Refused(Refusal),
}

/// What the caller may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// A participant publishes only as itself.
    #[error("the event's publisher is not the identity of the connection")]
    PublisherMismatch,
    /// No grant in force allows the action for this event.
    #[error("no grant allows the action {0} for this event")]
    NotGranted(Action),
}

/// Refuses the whole where the door refuses a part.
pub(super) fn reject_if_any(fates: &[Fate]) -> Result<(), PublishError> {
    rejection(fates.iter().map(|fate| (fate, fate.fault.clone())))
}

/// Refuses the whole where the log refuses a part. There is a verdict an event.
pub(super) fn reject_if_refused(fates: &[Fate], verdicts: &[Verdict]) -> Result<(), PublishError> {
    rejection(fates.iter().zip(verdicts).map(|(fate, verdict)| match verdict {
        Verdict::Refused(refusal) => (fate, Some(EventFault::Refused(refusal.clone()))),
        Verdict::Stored(_) | Verdict::Withheld => (fate, None),
    }))
}

fn rejection<'a>(faults: impl Iterator<Item = (&'a Fate, Option<EventFault>)>) -> Result<(), PublishError> {
    let rejected: Vec<RejectedEvent> = faults
        .enumerate()
        .filter_map(|(index, (fate, fault))| {
            fault.map(|fault| RejectedEvent { index, event_id: fate.event_id.clone(), fault })
        })
        .collect();
    if rejected.is_empty() { Ok(()) } else { Err(PublishError::Rejected(rejected)) }
}
