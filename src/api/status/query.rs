//! The queries' part of the table.

use tonic::Code;

use super::{Refused, SHORTAGE_RETRY};
use crate::api::queries::QueryError;

impl From<QueryError> for Refused {
    fn from(error: QueryError) -> Self {
        let message = error.to_string();
        match error {
            QueryError::Invalid(violations) => Self::invalid(violations),
            QueryError::NotFound => Self::new(Code::NotFound, "EVENT_NOT_FOUND", message),
            QueryError::NoClearance => Self::new(Code::NotFound, "CLEARANCE_NOT_FOUND", message),
            QueryError::NotGranted(action) => Self::not_granted(action),
            QueryError::Behind(behind) => {
                let message = format!("the {} view has not caught up", behind.view);
                Self::new(Code::Unavailable, "VIEW_BEHIND", message)
                    .with("view", behind.view)
                    .retry_after(SHORTAGE_RETRY)
            }
            QueryError::TooLarge(_) => Self::new(Code::FailedPrecondition, "ANSWER_TOO_LARGE", message),
            QueryError::Log(error) => error.into(),
        }
    }
}
