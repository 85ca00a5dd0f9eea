//! What one association event says, reduced to what the fold needs. It never judges whether the event should have been admitted: the
//! publish door did.

use std::sync::Arc;

use crate::{
    domain::{EventId, Sequence, SpiffeId, bindings::SubjectKey, header::SubjectTerm},
    views::{
        decoded::{Decoded, canonical, key},
        fold_order::FoldKey,
    },
    wire::proto,
};

/// A subject as a key of maps: its fields in one string of bytes. Shared, since one subject stands in many statements.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject(Arc<[u8]>);

/// What an association event says.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Its place in the order of the fold.
    pub key: FoldKey,
    /// Its place in the log.
    pub sequence: Sequence,
    /// The event that it revises, by the same publisher.
    pub revises: Option<EventId>,
    /// What it says; none for a retraction.
    pub says: Option<Says>,
}

/// The body of a statement.
#[derive(Debug, Clone)]
pub struct Says {
    /// Whose word it is: the publisher's administration.
    pub domain: Arc<str>,
    /// What the others belong to.
    pub parent: Subject,
    /// True where they are attached, false where they are detached.
    pub attached: bool,
    /// True where these are all the children of their kinds.
    pub complete: bool,
    /// What belongs to the parent.
    pub children: Vec<Subject>,
    /// Which participants it binds.
    pub participants: Vec<Box<str>>,
}

impl Subject {
    /// The key of a subject.
    #[must_use]
    pub fn of(subject: &SubjectKey<'_>) -> Self {
        Self(bytes_of(subject).into())
    }

    /// The subject of the bytes that [`bytes_of`] made.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The subject's fields.
    #[must_use]
    pub fn fields(&self) -> SubjectKey<'_> {
        Self::fields_of(&self.0)
    }

    /// The fields in the bytes that [`bytes_of`] made.
    #[must_use]
    pub fn fields_of(bytes: &[u8]) -> SubjectKey<'_> {
        let (head, text) = bytes.split_at(5);
        let text = std::str::from_utf8(text).expect("every key was made from strings");
        let length = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
        let (issuer, rest) = text.split_at(length(1));
        let (date, value) = rest.split_at(length(3));
        SubjectKey { kind: head[0], value, issuer, date }
    }

    /// The subject as a term, in the role of a primary subject.
    #[must_use]
    pub fn term(&self) -> SubjectTerm {
        let SubjectKey { kind, value, issuer, date } = self.fields();
        SubjectTerm {
            kind,
            role: proto::SubjectRole::Primary as u8,
            value: value.to_owned(),
            issuer: issuer.to_owned(),
            date: date.to_owned(),
        }
    }
}

impl std::borrow::Borrow<[u8]> for Subject {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.fields().fmt(f)
    }
}

/// The bytes by which a subject is looked up: kind, lengths of issuer and date (little-endian, two bytes each), issuer, date, value.
#[must_use]
pub fn bytes_of(subject: &SubjectKey<'_>) -> Vec<u8> {
    let SubjectKey { kind, value, issuer, date } = subject;
    let mut bytes = Vec::with_capacity(5 + issuer.len() + date.len() + value.len());
    bytes.push(*kind);
    // The door bounds both far below; a longer one could only ever be asked for, and is then not found.
    bytes.extend_from_slice(&(issuer.len() as u16).to_le_bytes());
    bytes.extend_from_slice(&(date.len() as u16).to_le_bytes());
    bytes.extend_from_slice(issuer.as_bytes());
    bytes.extend_from_slice(date.as_bytes());
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

/// The `IdentifierKind` in the bytes that [`bytes_of`] made.
#[must_use]
pub const fn kind_of(bytes: &[u8]) -> u8 {
    bytes[0]
}

impl Statement {
    /// What a stored event says; none where it is no association and revises none.
    #[must_use]
    pub fn of(decoded: &Decoded) -> Option<Self> {
        let says = match &decoded.event.body {
            Some(proto::event::Body::Association(association)) => Says::of(&decoded.publisher, association),
            _ => None,
        };
        if says.is_none() && decoded.revises.is_none() {
            return None;
        }
        Some(Self { key: decoded.fold_key(), sequence: decoded.sequence, revises: decoded.revises, says })
    }
}

impl Says {
    fn of(publisher: &SpiffeId, association: &proto::Association) -> Option<Self> {
        let attached = match association.step() {
            proto::AssociationStep::Attached => true,
            proto::AssociationStep::Detached => false,
            // A step of a newer model: it is not known what it would do.
            proto::AssociationStep::Unspecified => return None,
        };
        let subject = |subject: &proto::Subject| Subject::of(&key(&canonical(subject)));
        let mut participants: Vec<Box<str>> = association
            .parties
            .iter()
            .filter(|party| !party.participant.is_empty())
            .map(|party| party.participant.as_str().into())
            .collect();
        participants.sort();
        participants.dedup();
        Some(Self {
            domain: publisher.trust_domain().into(),
            parent: subject(association.parent.as_ref()?),
            attached,
            complete: association.complete,
            children: association.children.iter().map(subject).collect(),
            participants,
        })
    }
}
