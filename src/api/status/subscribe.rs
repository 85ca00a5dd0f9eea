//! The live subscriptions' part of the table. Whatever ends a stream bears the position to resume from.

use tonic::Code;

use super::{Refused, SHORTAGE_RETRY};
use crate::{
    identity::Action,
    subscribe::{EndReason, SessionEnd, StartError, SubscribeError},
};

/// The key of `ErrorInfo.metadata` under which the position to go on from stands.
pub(super) const RESUME_POSITION: &str = "resume_position";

impl From<SubscribeError> for Refused {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::NoReadGrant => Self::not_granted(Action::Read),
            SubscribeError::Start(error) => error.into(),
            SubscribeError::TooManySessions { .. } => {
                Self::new(Code::ResourceExhausted, "SUBSCRIPTIONS_EXHAUSTED", error.to_string())
                    .retry_after(SHORTAGE_RETRY)
            }
            SubscribeError::Draining => Self::stopping(),
        }
    }
}

impl From<StartError> for Refused {
    fn from(error: StartError) -> Self {
        let message = error.to_string();
        match error {
            StartError::EpochUnknown => Self::new(Code::FailedPrecondition, "EPOCH_UNKNOWN", message),
            StartError::EpochChanged { fork } => {
                Self::new(Code::FailedPrecondition, "EPOCH_CHANGED", message).with(RESUME_POSITION, fork.to_string())
            }
            StartError::NotRetained { restart } => {
                Self::new(Code::OutOfRange, "POSITION_NOT_RETAINED", message).with(RESUME_POSITION, restart.to_string())
            }
            StartError::BeyondTail { tail } => {
                Self::new(Code::OutOfRange, "POSITION_BEYOND_END", message).with(RESUME_POSITION, tail.to_string())
            }
            StartError::Log(error) => error.into(),
        }
    }
}

impl From<SessionEnd> for Refused {
    fn from(end: SessionEnd) -> Self {
        let message = end.reason.to_string();
        let resume = end.resume.to_string();
        let refused = match end.reason {
            // She may go on, and by asking again says that she knows of the change.
            EndReason::RightsChanged => Self::new(Code::Aborted, "RIGHTS_CHANGED", message),
            EndReason::RightsWithdrawn => Self::not_granted(Action::Read),
            EndReason::CertificateEnded => Self::new(Code::Unauthenticated, "CERTIFICATE_ENDED", message),
            EndReason::ConnectionClosing(_) => Self::new(Code::Unauthenticated, "CONNECTION_CLOSING", message),
            EndReason::Draining | EndReason::LogClosed => Self::stopping(),
            EndReason::ReaderStalled { .. } => {
                Self::new(Code::ResourceExhausted, "READER_STALLED", message).retry_after(SHORTAGE_RETRY)
            }
            EndReason::Log(error) => error.into(),
            EndReason::ReaderGone => Self::new(Code::Cancelled, "READER_GONE", message),
            EndReason::Broken => Self::new(Code::Internal, "SESSION_BROKEN", message).retry_after(SHORTAGE_RETRY),
        };
        refused.with(RESUME_POSITION, resume)
    }
}
