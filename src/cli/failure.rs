//! Failures of the client's commands in words: a status with its details, and the exit code that it means. It never prints anything.

use std::{fmt::Write as _, io};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{
    ExitCode, Failure,
    connect::{ConnectError, CredentialsUnusable, explain},
    terminal::printable,
};

#[cfg(test)]
mod tests;

impl Failure {
    /// A wrong command line.
    #[must_use]
    pub fn usage(message: impl std::fmt::Display) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// Wrong data.
    #[must_use]
    pub fn data(message: impl std::fmt::Display) -> Self {
        Self::new(ExitCode::Data, message)
    }

    /// A file that could not be read or written.
    #[must_use]
    pub fn file(doing: &str, path: &std::path::Path, error: &io::Error) -> Self {
        Self::new(ExitCode::Storage, format!("cannot {doing} {}: {error}", path.display()))
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Credentials(error) => error.into(),
            ConnectError::Refused { .. } => Self::new(ExitCode::NotPermitted, error.to_string()),
            ConnectError::Unreachable { .. } => Self::new(ExitCode::Unavailable, error.to_string()),
        }
    }
}

impl From<CredentialsUnusable> for Failure {
    fn from(error: CredentialsUnusable) -> Self {
        Self::new(ExitCode::Configuration, error.to_string())
    }
}

impl From<io::Error> for Failure {
    /// Writing to standard output. Whoever reads it may stop when she has enough (`| head`): that is no failure worth a word.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(ExitCode::Failure, ""),
            _ => Self::new(ExitCode::Storage, format!("cannot write the output: {error}")),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::new(exit_of(status.code()), describe(&status))
    }
}

/// Which exit code a status means.
#[must_use]
pub fn exit_of(code: Code) -> ExitCode {
    match code {
        Code::InvalidArgument | Code::OutOfRange | Code::AlreadyExists | Code::FailedPrecondition => ExitCode::Data,
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted => ExitCode::Unavailable,
        Code::PermissionDenied | Code::Unauthenticated => ExitCode::NotPermitted,
        Code::DataLoss => ExitCode::Storage,
        Code::Ok | Code::Cancelled | Code::Unknown | Code::NotFound | Code::Internal | Code::Unimplemented => {
            ExitCode::Failure
        }
    }
}

/// Whether the same request may succeed when it is sent again.
#[must_use]
pub fn is_retryable(code: Code) -> bool {
    match code {
        // A connection lost in the middle of a call arrives as UNKNOWN, CANCELLED or INTERNAL, depending on where it broke: publishing
        // and reading are idempotent, so those are tried again where the status came with a transport error.
        Code::Unavailable | Code::ResourceExhausted | Code::Aborted | Code::DeadlineExceeded => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

/// Whether the status was made by our side since the connection broke, rather than by the node.
#[must_use]
pub fn is_connection_lost(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// A status with its details in words: a line for the whole, then an indented one a detail.
#[must_use]
pub fn describe(status: &Status) -> String {
    if let Some(reason) = std::error::Error::source(status).and_then(explain) {
        return format!("no connection to the node: {}", printable(&reason));
    }
    let mut details = status.get_error_details();
    let message = match summed_up(status.message(), &mut details) {
        Some(message) => message,
        None if status.message().is_empty() => {
            return described(&format!("the node answered {}", code_name(status.code())), &details);
        }
        None => status.message().to_owned(),
    };
    described(&format!("{} ({})", printable(&message), code_name(status.code())), &details)
}

/// What to say in place of a message that repeats the first violation of the details, so that none is read twice: the only violation
/// itself, which is taken out of the details then, or that there are several.
fn summed_up(message: &str, details: &mut ErrorDetails) -> Option<String> {
    let bad_request = details.bad_request()?;
    let first = bad_request.field_violations.first()?;
    let said = format!("{}: {}", first.field, first.description);
    if bad_request.field_violations.len() > 1 {
        return message.starts_with(&said).then(|| "several rules are broken".to_owned());
    }
    if !message.ends_with(&first.description) {
        return None;
    }
    details.set_bad_request(Vec::new());
    Some(said)
}

fn described(head: &str, details: &ErrorDetails) -> String {
    let mut text = head.to_owned();
    describe_details(details, &mut text);
    text
}

/// The same for a status that came inside an answer.
#[must_use]
pub fn describe_message(status: &tonic_types::Status) -> String {
    describe(&to_status(status))
}

/// A status that came inside an answer, as if a call had ended with it.
#[must_use]
pub fn to_status(status: &tonic_types::Status) -> Status {
    let details = prost::Message::encode_to_vec(status);
    Status::with_details(Code::from_i32(status.code), status.message.clone(), details.into())
}

fn describe_details(details: &ErrorDetails, text: &mut String) {
    let mut line = |content: String| {
        let _ = write!(text, "\n  {}", printable(&content));
    };
    if let Some(bad_request) = details.bad_request() {
        for violation in &bad_request.field_violations {
            line(format!("{}: {}", violation.field, violation.description));
        }
    }
    if let Some(failure) = details.precondition_failure() {
        for violation in &failure.violations {
            line(format!("{}: {}", violation.subject, violation.description));
        }
    }
    if let Some(quota) = details.quota_failure() {
        for violation in &quota.violations {
            line(format!("{}: {}", violation.subject, violation.description));
        }
    }
    if let Some(info) = details.error_info() {
        line(format!("reason: {}", info.reason));
        let mut facts: Vec<_> = info.metadata.iter().collect();
        facts.sort();
        for (name, value) in facts {
            line(format!("{}: {value}", name.replace('_', " ")));
        }
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        line(format!("try again in {:.1} s", delay.as_secs_f64()));
    }
    if let Some(help) = details.help() {
        for link in &help.links {
            line(format!("{}: {}", link.description, link.url));
        }
    }
}

/// The code as gRPC's documents and other clients spell it.
#[must_use]
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
