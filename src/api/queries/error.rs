//! Why a query has no answer. It never says whether something is there that the caller may not read.

use crate::{
    domain::filter::FilterProblem,
    identity::Action,
    log::LogError,
    views::{ViewBehind, page_token::TokenInvalid, timeline::GatherError},
    wire::violations::Violation,
};

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The request breaks rules, by field.
    #[error("the request is invalid")]
    Invalid(Vec<Violation>),
    /// There is no such event, or none that the caller may read.
    #[error("there is no such event that you may read")]
    NotFound,
    /// There is nothing of such a subject, or nothing that the caller may read.
    #[error("nothing is known of such a subject that you may read")]
    NoClearance,
    /// The caller lacks a grant of this action.
    #[error("no grant in force allows this")]
    NotGranted(Action),
    /// A view has not caught up, or has stopped.
    #[error(transparent)]
    Behind(#[from] ViewBehind),
    /// More is known than one answer gathers.
    #[error("{0}: ask for less depth, or list the events by filters")]
    TooLarge(GatherError),
    /// The log or an index cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl QueryError {
    /// One broken rule.
    pub(super) fn invalid(field: &str, reason: &'static str, description: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation { field: field.to_owned(), reason, description: description.into() }])
    }

    /// What is wrong with a filter that was made from one subject of the request.
    pub(super) fn subject(problems: Vec<FilterProblem>) -> Self {
        let violation = |problem: FilterProblem| Violation {
            field: problem.field.replace("subjects[0]", "subject").replace("places[0].", ""),
            reason: problem.reason,
            description: problem.description,
        };
        Self::Invalid(problems.into_iter().map(violation).collect())
    }
}

impl From<TokenInvalid> for QueryError {
    fn from(error: TokenInvalid) -> Self {
        Self::invalid("page_token", "PAGE_TOKEN_INVALID", error.to_string())
    }
}

impl From<GatherError> for QueryError {
    fn from(error: GatherError) -> Self {
        match error {
            GatherError::TooManySubjects | GatherError::TooManyEvents => Self::TooLarge(error),
            GatherError::Log(error) => Self::Log(error),
        }
    }
}
