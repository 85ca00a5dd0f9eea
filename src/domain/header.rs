//! The routing header: what filters, grants, indexes and views' door-keepers know of an event, parsed once at the publish door and stored
//! beside the event's bytes. It never holds what only a view needs (masses, reasons, texts), and matching it never opens protobuf.

mod entries;
#[cfg(test)]
mod fixture;
mod fold;
mod layout;
mod read;
mod terms;
#[cfg(test)]
mod tests;

pub use entries::Entries;
pub use fold::{Folder, id_of, unfold};
pub use layout::HeaderWriter;
pub use read::{AudienceRef, HeaderRef, PartyRef, PlaceRef, SubjectRef};
pub(in crate::domain) use terms::{day_of, day_term};
pub use terms::{identity_term, origin_term, revises_term};

use super::{EventId, SpiffeId, SpiffePattern};

/// The longest encoded header that a log stores, in bytes: as much as the largest event, whose terms it repeats. A chain of revisions
/// grows by what each revision says anew, and everyone who filters reads it all: a revision whose union is longer is refused.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Everything of an event that routing looks at, as a value to build and to encode. Lists are multi-valued also where an event has one
/// value, since a revision's header is the union of its own and its predecessors' terms.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutingHeader {
    /// The publisher's name.
    pub publisher: SpiffeId,
    /// The event's id.
    pub event_id: EventId,
    /// Body and step, by the numbers of `event.proto` (the body's field number; the step's enum value, 0 where the body has none).
    pub types: Vec<TypeStep>,
    /// Classifiers by enum value.
    pub classifiers: Vec<u8>,
    /// Event times, nanoseconds since 1970-01-01T00:00:00Z.
    pub event_times_ns: Vec<i64>,
    /// Subjects of the envelope, and parent and children of an association.
    pub subjects: Vec<SubjectTerm>,
    /// Places with their roles; the country is filled in from the UN/LOCODE where it was empty.
    pub places: Vec<PlaceTerm>,
    /// Parties with their roles, those of an association's body too.
    pub parties: Vec<PartyTerm>,
    /// HS codes.
    pub commodity_codes: Vec<String>,
    /// Procedures by enum value; unspecified is left out.
    pub procedures: Vec<u8>,
    /// Modes of transport by enum value; unspecified is left out.
    pub modes: Vec<u8>,
    /// Who may see it at most.
    pub audience: AudienceTerm,
    /// What it revises, where it is a revision.
    pub revises: Option<RevisionTerm>,
    /// True where it is a revision that could not be resolved to the head of a known chain.
    pub revision_unresolved: bool,
}

/// Body type and step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeStep {
    /// The body's field number in `Event` (20 movement ... 28 emission).
    pub body: u8,
    /// The step's enum value.
    pub step: u8,
}

/// One subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubjectTerm {
    /// `IdentifierKind` by enum value.
    pub kind: u8,
    /// `SubjectRole` by enum value; unspecified is stored as PRIMARY.
    pub role: u8,
    /// The canonical value.
    pub value: String,
    /// The scope of the number; empty where it is global.
    pub issuer: String,
    /// `YYYY-MM-DD`, or empty.
    pub date: String,
}

/// One place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlaceTerm {
    /// `PlaceRole` by enum value.
    pub role: u8,
    /// `PlaceKind` by enum value.
    pub kind: u8,
    /// UN/LOCODE, or empty.
    pub un_locode: String,
    /// ISO 3166-1 alpha-2, or empty.
    pub country_code: String,
    /// `FacilityScheme` by enum value, 0 where there is no facility.
    pub facility_scheme: u8,
    /// The facility's code, or empty.
    pub facility_code: String,
}

/// One party.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartyTerm {
    /// `PartyRole` by enum value.
    pub role: u8,
    /// SPIFFE ID, or empty.
    pub participant: String,
    /// Identifier scheme, or empty.
    pub scheme: String,
    /// Identifier, or empty.
    pub id: String,
}

/// Who may see an event at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudienceTerm {
    /// Its publisher, and whom a grant for private events allows.
    Private,
    /// Those named, and the publisher.
    Named(Vec<SpiffePattern>),
    /// Whoever the grants allow.
    Network,
}

/// The event that a revision revises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevisionTerm {
    /// True for a retraction, false for a correction.
    pub retract: bool,
    /// The event revised; its publisher is the revision's.
    pub event_id: EventId,
}

/// The bytes are not a header of a version that this program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("routing header malformed at byte {at}")]
pub struct HeaderMalformed {
    /// Where reading stopped.
    pub at: usize,
}

impl RoutingHeader {
    /// The header's stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.encode_in(&mut HeaderWriter::default()).to_vec()
    }

    /// The header's stored form, in the room of the one before it.
    #[must_use]
    pub fn encode_in<'a>(&self, writer: &'a mut HeaderWriter) -> &'a [u8] {
        layout::encode(self, writer)
    }

    /// The stored header of a revision: the union of its predecessor's terms and its own, with the predecessor's audience, so that a
    /// revision reaches, and is visible to, everyone whom the original reached. The revision counts as resolved.
    #[must_use]
    pub fn revising(&self, predecessor: &RoutingHeader) -> RoutingHeader {
        RoutingHeader {
            publisher: self.publisher.clone(),
            event_id: self.event_id,
            types: union(&self.types, &predecessor.types),
            classifiers: union(&self.classifiers, &predecessor.classifiers),
            event_times_ns: union(&self.event_times_ns, &predecessor.event_times_ns),
            subjects: union(&self.subjects, &predecessor.subjects),
            places: union(&self.places, &predecessor.places),
            parties: union(&self.parties, &predecessor.parties),
            commodity_codes: union(&self.commodity_codes, &predecessor.commodity_codes),
            procedures: union(&self.procedures, &predecessor.procedures),
            modes: union(&self.modes, &predecessor.modes),
            audience: predecessor.audience.clone(),
            revises: self.revises,
            revision_unresolved: false,
        }
    }
}

/// The first list, then what the second has beyond it, each value once and in order.
fn union<T: Clone + Eq + std::hash::Hash>(own: &[T], predecessor: &[T]) -> Vec<T> {
    let mut seen = std::collections::HashSet::with_capacity(own.len() + predecessor.len());
    own.iter().chain(predecessor).filter(|value| seen.insert(*value)).cloned().collect()
}
