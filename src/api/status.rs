//! THE TABLE of errors: every error of every room below, with its gRPC code, its reason and what a client needs to go on. Exhaustive and
//! without a wildcard, so that a new error is decided here or does not compile. It never tells of another party's data, nor of our files.

use std::time::Duration;

use tonic::Code;

mod details;
mod durable;
mod publish;
mod query;
mod subscribe;

#[cfg(test)]
mod tests;

use crate::log::LogError;
use crate::wire::violations::{Violation, in_words};

/// When a client that met a passing shortage had better come again.
pub(super) const SHORTAGE_RETRY: Duration = Duration::from_millis(250);

/// When a client that met a full disk had better come again: somebody must act first.
const DISK_RETRY: Duration = Duration::from_secs(30);

/// A refusal as the API says it: what becomes a `tonic::Status` (of a call) or a `google.rpc.Status` (inside a message).
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The gRPC code: what kind of thing the client has to do about it.
    pub code: Code,
    /// `UPPER_SNAKE`, for programs: what exactly happened.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// What a program needs to go on, by key.
    pub metadata: Vec<(&'static str, String)>,
    /// Which fields break which rules.
    pub violations: Vec<Violation>,
    /// After which time the same call may succeed.
    pub retry_after: Option<Duration>,
}

impl Refused {
    /// A refusal with nothing but its code, reason and message.
    #[must_use]
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), metadata: Vec::new(), violations: Vec::new(), retry_after: None }
    }

    /// A request that breaks rules, by field.
    #[must_use]
    pub fn invalid(violations: Vec<Violation>) -> Self {
        let message = in_words(&violations);
        Self { violations, ..Self::new(Code::InvalidArgument, "INVALID_REQUEST", message) }
    }

    /// A call that needs a grant that the caller has not.
    #[must_use]
    pub fn not_granted(action: crate::identity::Action) -> Self {
        let message = format!("no grant in force allows you the action {action}");
        Self::new(Code::PermissionDenied, "NOT_GRANTED", message).with("action", action.word())
    }

    /// A call over a connection without an identity.
    #[must_use]
    pub fn no_identity() -> Self {
        let message = "the connection has no client certificate with a SPIFFE ID";
        Self::new(Code::Unauthenticated, "NO_IDENTITY", message)
    }

    /// Nothing new is taken, since the node stops.
    #[must_use]
    pub fn stopping() -> Self {
        Self::new(Code::Unavailable, "NODE_STOPPING", "the node is stopping")
    }

    /// Adds what a program needs.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((key, value.into()));
        self
    }

    /// Adds when to come again.
    #[must_use]
    pub const fn retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }
}

impl From<LogError> for Refused {
    fn from(error: LogError) -> Self {
        match error {
            LogError::BeforeFirst { .. } => Self::new(
                Code::OutOfRange,
                "POSITION_NOT_RETAINED",
                "events after the position are not retained any more",
            ),
            // What exactly is damaged, and where, is in the node's own log.
            LogError::Damaged(_) => Self::new(
                Code::DataLoss,
                "LOG_DAMAGED",
                "stored events are damaged here; the node's operator has to act",
            ),
            LogError::Storage(_) => {
                Self::new(Code::Unavailable, "STORAGE_FAILED", "the node's storage failed").retry_after(SHORTAGE_RETRY)
            }
        }
    }
}
