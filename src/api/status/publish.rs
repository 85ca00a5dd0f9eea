//! The publish door's part of the table.

use std::time::Duration;

use tonic::Code;

use super::{DISK_RETRY, Refused, SHORTAGE_RETRY};
use crate::{
    log::{AppendError, REVISIONS_FOLLOWED_MAX, Refusal},
    publish::{Denial, EventFault, PublishError, RejectedEvent},
    wire::violations::Violation,
};

/// Peers hand back what was lost within seconds, or an operator decides.
const TAKING_BACK_RETRY: Duration = Duration::from_secs(2);

impl From<PublishError> for Refused {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Invalid(violations) => Self::invalid(violations),
            PublishError::NoPublishGrant => Self::not_granted(crate::identity::Action::Publish),
            PublishError::Rejected(events) => rejected(events),
            PublishError::Quota(exceeded) => Self::new(Code::ResourceExhausted, "QUOTA_EXCEEDED", exceeded.to_string())
                .with("events_per_second_max", exceeded.events_per_second_max.to_string())
                .retry_after(exceeded.retry_after),
            PublishError::Closed(why) => {
                Self::new(Code::Unavailable, "TAKING_BACK", why.to_string()).retry_after(TAKING_BACK_RETRY)
            }
            PublishError::NotAppended(error) => error.into(),
        }
    }
}

impl From<AppendError> for Refused {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Overloaded => {
                let message = "the node has more events to store than it can at the moment; nothing was stored";
                Self::new(Code::ResourceExhausted, "LOG_OVERLOADED", message).retry_after(SHORTAGE_RETRY)
            }
            AppendError::BatchTooLarge { bytes, bytes_max } => {
                let message = format!(
                    "the events take {bytes} bytes to store, above the limit of {bytes_max}: send fewer together"
                );
                Self::new(Code::InvalidArgument, "BATCH_TOO_LARGE", message)
            }
            AppendError::DiskFull { .. } => {
                let message = "the node's disk is nearly full, so it takes no events; nothing was stored";
                Self::new(Code::ResourceExhausted, "DISK_FULL", message).retry_after(DISK_RETRY)
            }
            AppendError::Closing => Self::stopping(),
            AppendError::Storage(_) => {
                let message = "the node's storage failed; whether the events are stored is unknown, so publish them again: that is safe";
                Self::new(Code::Unavailable, "STORAGE_FAILED", message).retry_after(SHORTAGE_RETRY)
            }
        }
    }
}

impl From<EventFault> for Refused {
    fn from(fault: EventFault) -> Self {
        match fault {
            EventFault::Invalid(violations) => Self { reason: "INVALID_EVENT", ..Self::invalid(violations) },
            EventFault::Denied(denial) => denied(denial),
            EventFault::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::EventIdConflict { .. } => {
                let message = "you published this event_id before with other content, which GetEvent shows; a new statement needs an id of \
                               its own, and one that corrects the first names it in revision";
                Self::new(Code::AlreadyExists, "EVENT_ID_CONFLICT", message)
            }
            Refusal::RevisedEventUnknown => {
                let message = "you have published no event with the event_id that this one revises";
                Self::new(Code::NotFound, "REVISED_EVENT_UNKNOWN", message)
            }
            Refusal::RevisionConflict { head } => {
                let message = format!("the event was revised before; revise the head of its chain, {head}");
                Self::new(Code::Aborted, "REVISION_CONFLICT", message).with("head_event_id", head.to_string())
            }
            Refusal::RevisedOften { later } => {
                let message = format!(
                    "the event was revised more than {REVISIONS_FOLLOWED_MAX} times since, and so was {later}: revise the head of its \
                     chain, which GetEvent's revised_by leads to"
                );
                Self::new(Code::Aborted, "REVISED_OFTEN", message).with("later_event_id", later.to_string())
            }
            Refusal::AlreadyRetracted { by } => {
                let message = format!("the event was retracted by {by}, which ends its chain");
                Self::new(Code::FailedPrecondition, "EVENT_RETRACTED", message).with("retracted_by", by.to_string())
            }
            // Only what a peer brings meets it, and that is put into quarantine.
            Refusal::TooManyUnresolved => {
                Self::new(Code::FailedPrecondition, "REVISIONS_UNRESOLVED", refusal.to_string())
            }
            Refusal::RevisionTooLarge { .. } => {
                Self::new(Code::FailedPrecondition, "REVISION_TOO_LARGE", refusal.to_string())
            }
        }
    }
}

fn denied(denial: Denial) -> Refused {
    match denial {
        Denial::PublisherMismatch => Refused::new(
            Code::PermissionDenied,
            "PUBLISHER_MISMATCH",
            "the event's publisher must be the SPIFFE ID of your certificate",
        ),
        Denial::NotGranted(action) => {
            let message = format!("no grant in force allows you the action {action} for this event");
            Refused::new(Code::PermissionDenied, "NOT_GRANTED", message).with("action", action.word())
        }
    }
}

/// A whole request refused for some of its events. What can be mended without asking anybody decides the code: form before rights, rights
/// before what is stored. The details name every event.
fn rejected(events: Vec<RejectedEvent>) -> Refused {
    let rank = |fault: &EventFault| match fault {
        EventFault::Invalid(_) => 0,
        EventFault::Denied(_) => 1,
        EventFault::Refused(_) => 2,
    };
    let Some(decisive) = events.iter().min_by_key(|event| (rank(&event.fault), event.index)) else {
        return Refused::invalid(Vec::new());
    };
    let head = Refused::from(decisive.fault.clone());
    let (index, event_id) = (decisive.index, decisive.event_id.clone());
    let violations: Vec<Violation> = events.into_iter().flat_map(violations_of).collect();
    let is_form = head.code == Code::InvalidArgument;
    let message = match violations.len() {
        _ if is_form => Refused::invalid(violations.clone()).message,
        1 => format!("events[{index}]: {}", head.message),
        count => format!("events[{index}]: {} (and {} more)", head.message, count - 1),
    };
    let refused = Refused { message, violations, ..head };
    let refused = refused.with("event_index", index.to_string());
    if event_id.is_empty() { refused } else { refused.with("event_id", event_id) }
}

/// What is to be said of one refused event: its own violations, or the one reason why it was refused.
fn violations_of(event: RejectedEvent) -> Vec<Violation> {
    let field = |name: &str| format!("events[{}]{name}", event.index);
    let place = match &event.fault {
        EventFault::Invalid(violations) => return violations.clone(),
        EventFault::Denied(Denial::PublisherMismatch) => field(".publisher"),
        EventFault::Denied(Denial::NotGranted(_)) => field(""),
        EventFault::Refused(Refusal::EventIdConflict { .. }) => field(".event_id"),
        EventFault::Refused(
            Refusal::RevisedEventUnknown
            | Refusal::RevisionConflict { .. }
            | Refusal::RevisedOften { .. }
            | Refusal::AlreadyRetracted { .. }
            | Refusal::TooManyUnresolved
            | Refusal::RevisionTooLarge { .. },
        ) => field(".revision.event_id"),
    };
    let said = Refused::from(event.fault);
    vec![Violation { field: place, reason: said.reason, description: said.message }]
}
