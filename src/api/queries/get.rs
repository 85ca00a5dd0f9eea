//! One event by its publisher and id.

use super::{Asking, Queries, QueryError};
use crate::{
    domain::{EventId, HeaderRef, SpiffeId},
    identity::Caller,
    log::{LogError, Record},
    views::finder::Question,
    wire::{
        proto::{GetEventRequest, GetEventResponse},
        violations::Violation,
    },
};

impl Queries {
    /// Answers `EventService.GetEvent`.
    ///
    /// # Errors
    /// The names are malformed, there is no such event that the caller may read, or it cannot be read.
    pub async fn get_event(&self, caller: &Caller, request: GetEventRequest) -> Result<GetEventResponse, QueryError> {
        let (publisher, event_id) = identity(caller, &request.publisher, &request.event_id)?;
        let asking = self.asking(caller).await?;
        let question = Question { filters: &[], rights: &asking.rights, now_ns: asking.now_ns };
        let found = self.parts.log.find(publisher.clone(), event_id).await?;
        let record = match found {
            Some(record) if self.finder.may_see(&question, &record)? => record,
            Some(_) | None => return Err(QueryError::NotFound),
        };
        let revised_by = self.revisions(&publisher, event_id, Some(&asking)).await?;
        Ok(GetEventResponse {
            event: Some(self.recorded(&record)?),
            revised_by: revised_by.first().map(ToString::to_string).unwrap_or_default(),
            revision_unresolved: header(&record)?.revision_unresolved(),
        })
    }

    /// The events that revise one directly, oldest first; with somebody who asks, those that she may read.
    pub(super) async fn revisions(
        &self,
        publisher: &SpiffeId,
        event_id: EventId,
        asking: Option<&Asking>,
    ) -> Result<Vec<EventId>, QueryError> {
        let places = self.parts.log.revisions_of(vec![(publisher.clone(), event_id)]).await?;
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let mut revisions = Vec::with_capacity(places.len());
        for record in self.parts.log.get(places).await? {
            let visible = match asking {
                None => true,
                Some(Asking { rights, now_ns, .. }) => {
                    self.finder.may_see(&Question { filters: &[], rights, now_ns: *now_ns }, &record)?
                }
            };
            if visible {
                revisions.push(header(&record)?.event_id());
            }
        }
        Ok(revisions)
    }
}

/// A stored record's header.
pub(super) fn header(record: &Record) -> Result<HeaderRef<'_>, LogError> {
    HeaderRef::parse(&record.header)
        .map_err(|error| LogError::Damaged(format!("sequence {}: {error}", record.sequence)))
}

/// The event that a request names: an empty publisher is the caller.
pub(super) fn identity(caller: &Caller, publisher: &str, event_id: &str) -> Result<(SpiffeId, EventId), QueryError> {
    let mut violations = Vec::new();
    let mut fault = |field: &str, reason: &'static str, description: String| {
        violations.push(Violation { field: field.to_owned(), reason, description });
    };
    let id = EventId::parse(event_id).map_err(|error| fault("event_id", "EVENT_ID_MALFORMED", error.to_string()));
    let name = match publisher {
        "" => Ok(caller.id.clone()),
        name => SpiffeId::parse(name).map_err(|error| fault("publisher", "SPIFFE_ID_MALFORMED", error.to_string())),
    };
    match (name, id) {
        (Ok(name), Ok(id)) => Ok((name, id)),
        (Ok(_) | Err(()), Ok(_) | Err(())) => Err(QueryError::Invalid(violations)),
    }
}
