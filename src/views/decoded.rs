//! A stored event opened for a view: the one place where views read protobuf. It never hands out an event that was altered: answers carry
//! the stored bytes, not what was decoded.

use prost::Message;

use crate::{
    domain::{EventId, HeaderRef, Sequence, SpiffeId, bindings::SubjectKey, freight, header::SubjectTerm},
    log::{LogError, Record},
    views::fold_order::FoldKey,
    wire::{SignedEvent, proto},
};

/// A stored event with what its header says of identity and revision.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// Its place.
    pub sequence: Sequence,
    /// Its publisher.
    pub publisher: SpiffeId,
    /// Its id.
    pub event_id: EventId,
    /// The event that it revises, by the same publisher.
    pub revises: Option<EventId>,
    /// What its publisher said.
    pub event: proto::Event,
}

impl Decoded {
    /// Opens a record.
    ///
    /// # Errors
    /// The stored bytes are no event: they were checked at the door, so they were damaged since.
    pub fn of(record: &Record) -> Result<Self, LogError> {
        let damaged = |what: &dyn std::fmt::Display| {
            LogError::Damaged(format!("the event at sequence {} cannot be read: {what}", record.sequence))
        };
        let header = HeaderRef::parse(&record.header).map_err(|error| damaged(&error))?;
        let signed = SignedEvent::decode(record.signed.clone()).map_err(|error| damaged(&error))?;
        let event = proto::Event::decode(signed.event).map_err(|error| damaged(&error))?;
        Ok(Self {
            sequence: record.sequence,
            publisher: SpiffeId::parse(header.publisher()).map_err(|error| damaged(&error))?,
            event_id: header.event_id(),
            revises: header.revises().map(|revision| revision.event_id),
            event,
        })
    }

    /// Whether it only takes back another event, and says nothing itself.
    #[must_use]
    pub fn retracts(&self) -> bool {
        self.event.revision.as_ref().is_some_and(|revision| revision.kind() == proto::RevisionKind::Retract)
    }

    /// Its place in the order of folds and timelines.
    #[must_use]
    pub fn fold_key(&self) -> FoldKey {
        FoldKey::of(&self.event, self.publisher.as_str(), self.event_id)
    }

    /// Every subject that the event itself speaks of, canonical: those of the envelope, and parent and children of an association. A
    /// revision's stored header also has its predecessors' subjects; these are not among them.
    pub fn subjects(&self) -> impl Iterator<Item = SubjectTerm> + '_ {
        let association = match &self.event.body {
            Some(proto::event::Body::Association(association)) => Some(association),
            _ => None,
        };
        let tied =
            association.into_iter().flat_map(|association| association.parent.iter().chain(&association.children));
        self.event.subjects.iter().chain(tied).map(canonical)
    }
}

/// A message's subject in canonical form, as routing headers keep it.
#[must_use]
pub fn canonical(subject: &proto::Subject) -> SubjectTerm {
    // Numbers beyond a byte stand in no model that the door admits.
    let kind = u8::try_from(subject.kind).unwrap_or(0);
    let role = match subject.role() {
        proto::SubjectRole::Unspecified => proto::SubjectRole::Primary,
        role => role,
    };
    SubjectTerm {
        kind,
        role: role as u8,
        value: freight::canonical(kind, &subject.value).into_owned(),
        issuer: freight::canonical_issuer(&subject.issuer).into_owned(),
        date: subject.date.clone(),
    }
}

/// What identifies a subject, whatever its role.
#[must_use]
pub fn key(subject: &SubjectTerm) -> SubjectKey<'_> {
    SubjectKey { kind: subject.kind, value: &subject.value, issuer: &subject.issuer, date: &subject.date }
}
