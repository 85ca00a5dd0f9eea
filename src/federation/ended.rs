//! How one stream between two nodes ends, and what that means for the link. It never ends one.

use super::{messages, table::LinkState};
use crate::{
    log::LogError,
    wire::proto::{ReplicationEnd, ReplicationEndReason},
};

/// What a stream's end may be of, for metrics: `broken` is a line that broke or never was, the others are the reasons of
/// `ReplicationEndReason`.
pub const ERROR_CLASSES: [&str; 13] = [
    "broken",
    "unspecified",
    "stopping",
    "paused",
    "not_a_peer",
    "version",
    "superseded",
    "diverged",
    "cloned",
    "lapsed",
    "refused",
    "protocol",
    "storage",
];

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// This side ends it, and tells the other why.
    Here(ReplicationEndReason, String),
    /// The other side has ended it, and said why.
    There(ReplicationEndReason, String),
    /// It broke, or was closed without a word.
    Broken(String),
}

impl Ended {
    /// What the other side said.
    #[must_use]
    pub fn there(end: &ReplicationEnd) -> Self {
        const DETAIL_CHARACTERS_MAX: usize = 1_024;
        Self::There(end.reason(), end.detail.chars().take(DETAIL_CHARACTERS_MAX).collect())
    }

    /// Ends it since the other side sent what it may not.
    #[must_use]
    pub fn refused(reason: &str, detail: &str) -> Self {
        Self::Here(ReplicationEndReason::Refused, format!("{reason}: {detail}"))
    }

    /// Ends it since a message is not allowed where it came.
    #[must_use]
    pub fn protocol(detail: impl Into<String>) -> Self {
        Self::Here(ReplicationEndReason::Protocol, detail.into())
    }

    /// Ends it since the node stops, or begins anew.
    #[must_use]
    pub fn stopping(detail: impl Into<String>) -> Self {
        Self::Here(ReplicationEndReason::Stopping, detail.into())
    }

    /// Ends it since it broke; or since the other side sent a frame larger than any may be, which it would send again.
    #[must_use]
    pub fn broken(status: &tonic::Status) -> Self {
        let words = messages::status_in_words(status);
        if status.code() == tonic::Code::OutOfRange {
            Self::refused("FRAME_TOO_LARGE", &words)
        } else {
            Self::Broken(words)
        }
    }

    /// The state that the link is in now, seen from the receiver, which is the one that tries again.
    #[must_use]
    pub fn state(&self) -> LinkState {
        use ReplicationEndReason as Reason;
        match self {
            Self::Broken(_) => LinkState::Backoff,
            Self::Here(reason, _) | Self::There(reason, _) => match reason {
                Reason::Diverged => LinkState::Diverged,
                Reason::Cloned => LinkState::Cloned,
                Reason::Lapsed => LinkState::Lapsed,
                Reason::Refused => LinkState::Refused,
                Reason::Paused => LinkState::Paused,
                Reason::Unspecified
                | Reason::Stopping
                | Reason::NotAPeer
                | Reason::Version
                | Reason::Superseded
                | Reason::Protocol
                | Reason::Storage => LinkState::Backoff,
            },
        }
    }

    /// Of which class the end is, one of [`ERROR_CLASSES`].
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Broken(_) => "broken",
            Self::Here(reason, _) | Self::There(reason, _) => ERROR_CLASSES[1 + *reason as usize],
        }
    }

    /// What happened, in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::Here(_, detail) | Self::Broken(detail) => detail.clone(),
            Self::There(reason, detail) => format!("the other node ended the link ({}): {detail}", word(*reason)),
        }
    }
}

/// Ends a stream since the log cannot be read, or no longer reaches back so far.
pub(super) fn cannot_read(error: &LogError) -> Ended {
    tracing::error!(%error, "the log cannot be read for a peer");
    match error {
        LogError::BeforeFirst { first, .. } => Ended::Here(
            ReplicationEndReason::Lapsed,
            format!("what follows is no longer retained; the first event that is has sequence {first}"),
        ),
        LogError::Damaged(_) | LogError::Storage(_) => Ended::Here(
            ReplicationEndReason::Storage,
            "the log cannot be read; the node's operator has to act".to_owned(),
        ),
    }
}

/// A reason as people read it: `NOT_A_PEER`.
fn word(reason: ReplicationEndReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("REPLICATION_END_REASON_").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_class() {
        for (number, class) in (0..).zip(&ERROR_CLASSES[1..]) {
            let reason = ReplicationEndReason::try_from(number).expect("as many classes as reasons");
            assert_eq!(word(reason).to_lowercase(), *class);
            assert_eq!(Ended::Here(reason, String::new()).class(), *class);
        }
        ReplicationEndReason::try_from(ERROR_CLASSES.len() as i32 - 1).expect_err("as many reasons as classes");
        assert_eq!(Ended::Broken(String::new()).class(), ERROR_CLASSES[0]);
    }
}
