//! What callers of `SubscriptionService` are told.

use tonic::Code;

use super::{DISK_RETRY, Refused, SHORTAGE_RETRY, subscribe::RESUME_POSITION};
use crate::{
    domain::Position,
    identity::Action,
    subscribe::durable::{ConsumeEnd, DurableError, SettingFault},
    wire::violations::Violation,
};

impl From<DurableError> for Refused {
    fn from(error: DurableError) -> Self {
        let message = error.to_string();
        match error {
            DurableError::NotFound => Self::new(Code::NotFound, "SUBSCRIPTION_UNKNOWN", message),
            DurableError::AlreadyExists => Self::new(Code::AlreadyExists, "SUBSCRIPTION_DIFFERS", message),
            DurableError::QuotaExceeded { max } => {
                Self::new(Code::ResourceExhausted, "SUBSCRIPTION_QUOTA_EXCEEDED", message)
                    .with("subscriptions_max", max.to_string())
            }
            DurableError::TooManyConsumers { .. } => {
                Self::new(Code::ResourceExhausted, "CONSUMERS_EXHAUSTED", message).retry_after(SHORTAGE_RETRY)
            }
            DurableError::NoReadGrant => Self::not_granted(Action::Read),
            DurableError::Start(error) => error.into(),
            DurableError::Settings(faults) => Self::invalid(faults.into_iter().map(setting).collect()),
            DurableError::Name => Self::invalid(vec![violation("name", "NAME_MALFORMED", message)]),
            DurableError::FiltersTooLarge { .. } => {
                Self::invalid(vec![violation("definition.filters", "FILTERS_TOO_LARGE", message)])
            }
            DurableError::EtagMismatch => Self::new(Code::Aborted, "ETAG_MISMATCH", message),
            DurableError::Stopped { position } => stopped(message, position),
            DurableError::Overloaded => {
                Self::new(Code::ResourceExhausted, "LOG_OVERLOADED", message).retry_after(SHORTAGE_RETRY)
            }
            DurableError::NoRoom => Self::new(Code::ResourceExhausted, "DISK_FULL", message).retry_after(DISK_RETRY),
            DurableError::StorageFailed => {
                Self::new(Code::Unavailable, "STORAGE_FAILED", message).retry_after(SHORTAGE_RETRY)
            }
            DurableError::Draining => Self::stopping(),
        }
    }
}

impl From<ConsumeEnd> for Refused {
    fn from(end: ConsumeEnd) -> Self {
        let message = end.to_string();
        match end {
            // Only whoever reads on after she has left in order sees this, and nobody does.
            ConsumeEnd::Left => Self::new(Code::Cancelled, "CONSUMER_LEFT", message),
            ConsumeEnd::Moved => Self::new(Code::Aborted, "SUBSCRIPTION_CHANGED", message),
            ConsumeEnd::Stopped { position } => stopped(message, position),
            ConsumeEnd::Deleted => Self::new(Code::NotFound, "SUBSCRIPTION_UNKNOWN", message),
            ConsumeEnd::Draining => Self::stopping(),
            ConsumeEnd::NotStored => Self::new(Code::Unavailable, "NOT_STORED", message).retry_after(SHORTAGE_RETRY),
            ConsumeEnd::Log(error) => error.into(),
            ConsumeEnd::Silent => Self::new(Code::DeadlineExceeded, "CONSUMER_SILENT", message),
            ConsumeEnd::Stalled => {
                Self::new(Code::ResourceExhausted, "READER_STALLED", message).retry_after(SHORTAGE_RETRY)
            }
            ConsumeEnd::CertificateEnded => Self::new(Code::Unauthenticated, "CERTIFICATE_ENDED", message),
            ConsumeEnd::ConnectionClosing(_) => Self::new(Code::Unauthenticated, "CONNECTION_CLOSING", message),
            ConsumeEnd::Malformed(violations) => Self::invalid(violations),
            ConsumeEnd::Broken => Self::new(Code::Internal, "SESSION_BROKEN", message).retry_after(SHORTAGE_RETRY),
        }
    }
}

fn stopped(message: String, position: Position) -> Refused {
    Refused::new(Code::FailedPrecondition, "SUBSCRIPTION_STOPPED", message).with(RESUME_POSITION, position.to_string())
}

fn setting(fault: SettingFault) -> Violation {
    violation(&format!("definition.{}", fault.field), "SETTING_OUT_OF_RANGE", fault.description)
}

fn violation(field: &str, reason: &'static str, description: String) -> Violation {
    Violation { field: field.to_owned(), reason, description }
}
