//! Clearances: one, a list, and what an event changed of some. They never show more of what the caller may not read than the service's
//! contract says.

mod change;
mod list;
mod message;
mod sources;

pub use change::{Watched, Watching};

use super::{Asking, Queries, QueryError, timeline::subject};
use crate::{
    domain::{Sequence, clearance::Level},
    identity::Caller,
    views::{
        associations::statement::Subject,
        clearance::{Asked, Found},
        decoded::key,
        timeline::GatherError,
    },
    wire::proto::{self, GetClearanceRequest, GetClearanceResponse},
};

impl Queries {
    /// Answers `ClearanceService.GetClearance`.
    ///
    /// # Errors
    /// The subject is invalid or there is nothing of it that the caller may read, more belongs to it than one answer gathers, or the
    /// views cannot answer.
    pub async fn get_clearance(
        &self,
        caller: &Caller,
        request: GetClearanceRequest,
    ) -> Result<GetClearanceResponse, QueryError> {
        let subject = cleared_subject(request.subject.as_ref())?;
        let asking = self.asking(caller).await?;
        let found = self.found(&asking, asking.through, &subject).await?;
        let clearance = found.clearance.ok_or(QueryError::NoClearance)?;
        Ok(GetClearanceResponse {
            clearance: Some(self.clearance_message(&clearance, asking.through)),
            as_of: self.position(asking.through),
            origins: self.origins(asking.through),
        })
    }

    /// Folds one subject's clearance as of a place.
    async fn found(&self, asking: &Asking, through: Sequence, subject: &Subject) -> Result<Found, GatherError> {
        self.finder.clearance(&asking.about(subject, through)).await
    }
}

impl Asking {
    /// What is asked of one subject as of a place.
    fn about<'a>(&'a self, subject: &'a Subject, through: Sequence) -> Asked<'a> {
        Asked { subject: subject.fields(), rights: &self.rights, now_ns: self.now_ns, through }
    }
}

/// The subject that a request names, where goods are cleared by it.
///
/// # Errors
/// It is missing or incomplete, or nothing is cleared by its kind.
pub fn cleared_subject(asked: Option<&proto::Subject>) -> Result<Subject, QueryError> {
    let (term, _) = subject(asked)?;
    if Level::of(term.kind).is_none() {
        return Err(QueryError::invalid(
            "subject.kind",
            "SUBJECT_DOES_NOT_FIT",
            "must be a declaration (MRN, LRN, DECLARATION), a consignment (a bill, waybill or consignment note, BOOKING, UCR), or \
             CONTAINER, OTHER_EQUIPMENT or VIN",
        ));
    }
    Ok(Subject::of(&key(&term)))
}

#[cfg(test)]
mod tests;
