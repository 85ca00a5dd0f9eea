//! The one predicate of the exchange, over an event's routing header: subscriptions, queries, agreements and grants all speak it. It is
//! an OR-list of flat AND-of-ORs without negation, so that an intersection only ever narrows.

mod compile;
mod matching;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::{SpiffePattern, term::TermHash};

pub use super::bindings::{NoBindings, PartyBindings, SubjectKey};

/// At most so many filters stand in one list.
pub const FILTERS_MAX: usize = 16;
/// At most so many values stand in one field of a filter.
pub const FILTER_VALUES_MAX: usize = 64;

/// A filter as somebody wrote it: the fields of `EventFilter` in event.proto, with enums by their names without the enum's prefix in
/// lower case ("actual", "container", "discharge"), times as RFC 3339. The policy file reads it with serde; the wire converts to it.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilterSpec {
    /// "handling" or "handling.discharged".
    pub types: Vec<String>,
    /// "actual" and the like.
    pub classifiers: Vec<String>,
    /// Each: the set fields of one subject.
    pub subjects: Vec<SubjectSpec>,
    /// Each: the set fields of one place.
    pub places: Vec<PlaceSpec>,
    /// Each: the set fields of one party. Where only the participant is set, an association in force that binds it to a subject of the
    /// event counts too; where more is set, the event itself must say it. In filters of a caller's own, bindings of others count only
    /// where nothing at all is hidden from her.
    pub parties: Vec<PartySpec>,
    /// HS prefixes of 2 to 6 digits.
    pub commodity_prefixes: Vec<String>,
    /// "import" and the like.
    pub procedures: Vec<String>,
    /// "maritime" and the like.
    pub modes: Vec<String>,
    /// SPIFFE IDs, or prefixes that end in "/*".
    pub publishers: Vec<String>,
    /// Nodes, likewise.
    pub origins: Vec<String>,
    /// Event time from (inclusive) and to (exclusive).
    pub event_time: Option<TimeRangeSpec>,
    /// The node's accepted time, likewise.
    pub accepted_time: Option<TimeRangeSpec>,
    /// Must be true where no other field is set in a grant.
    pub all: bool,
}

/// The set fields of one subject.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SubjectSpec {
    /// "container" and the like, or empty.
    pub kind: String,
    /// The value, compared canonically.
    pub value: String,
    /// The issuer.
    pub issuer: String,
    /// `YYYY-MM-DD`.
    pub date: String,
    /// "primary" and the like, or empty.
    pub role: String,
}

/// The set fields of one place.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlaceSpec {
    /// "event", "discharge" and the like, or empty.
    pub role: String,
    /// "terminal" and the like, or empty.
    pub kind: String,
    /// UN/LOCODE.
    pub un_locode: String,
    /// ISO 3166-1 alpha-2.
    pub country_code: String,
    /// "smdg" and the like, or empty.
    pub facility_scheme: String,
    /// The facility's code.
    pub facility_code: String,
}

/// The set fields of one party.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PartySpec {
    /// "carrier" and the like, or empty.
    pub role: String,
    /// SPIFFE ID, or "$caller" in a grant.
    pub participant: String,
    /// Identifier scheme.
    pub scheme: String,
    /// Identifier.
    pub id: String,
}

/// From (inclusive) and to (exclusive), each RFC 3339 or absent.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimeRangeSpec {
    /// Inclusive.
    pub start_time: Option<chrono::DateTime<chrono::Utc>>,
    /// Exclusive.
    pub end_time: Option<chrono::DateTime<chrono::Utc>>,
}

/// One fault of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterProblem {
    /// The field's path inside the filter, as in event.proto: `places[0].un_locode`.
    pub field: String,
    /// `UPPER_SNAKE`.
    pub reason: &'static str,
    /// What would be right, in words.
    pub description: String,
}

/// A compiled filter: enums are numbers, values canonical. Cheap to clone where it is shared, and to match: no allocation, and only
/// comparisons of integers and short keys.
#[derive(Debug, Clone)]
pub struct Filter {
    spec: Arc<FilterSpec>,
    types: Vec<TypePattern>,
    classifiers: NumberSet,
    subjects: Vec<SubjectPattern>,
    places: Vec<PlacePattern>,
    parties: Vec<PartyPattern>,
    commodity_prefixes: Vec<String>,
    procedures: NumberSet,
    modes: NumberSet,
    publishers: Vec<SpiffePattern>,
    origins: Vec<SpiffePattern>,
    event_time: TimeRange,
    accepted_time: TimeRange,
}

/// A body, and a step where one was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TypePattern {
    body: u8,
    step: Option<u8>,
}

/// A set of enum values; empty means that nothing was asked for. Enums of the event model stay below 64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct NumberSet(u64);

/// The set fields of one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SubjectPattern {
    kind: Option<u8>,
    role: Option<u8>,
    /// The forms that the value may have; several where the kind was not said, since each kind has a canonical form of its own.
    values: Vec<String>,
    issuer: String,
    date: String,
}

/// The set fields of one place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PlacePattern {
    role: Option<u8>,
    kind: Option<u8>,
    un_locode: String,
    country_code: String,
    facility_scheme: Option<u8>,
    facility_code: String,
}

/// The set fields of one party.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PartyPattern {
    role: Option<u8>,
    participant: Participant,
    scheme: String,
    id: String,
}

/// Whom a party names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Participant {
    Any,
    Caller,
    Named(String),
}

/// From (inclusive) and to (exclusive), nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TimeRange {
    from_ns: i64,
    to_ns: i64,
}

/// What a filter is matched against besides the header.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations, reason = "the bindings have none, and nobody prints them")]
pub struct MatchContext<'a> {
    /// When this node accepted the event, nanoseconds since 1970.
    pub accepted_time_ns: i64,
    /// The node of origin.
    pub origin_node: &'a str,
    /// Who is asking: the meaning of "$caller".
    pub caller: &'a str,
    /// Which subjects an association in force ties to a participant.
    pub bindings: &'a dyn PartyBindings,
}

/// Which terms a matching event must have: an OR-list (one entry a filter) of AND-lists of OR-lists. An inner empty AND-list means that
/// the filter says nothing that an index knows.
pub type TermPlan = Vec<Vec<Vec<TermHash>>>;

impl Filter {
    /// The filter as it was written.
    #[must_use]
    pub fn spec(&self) -> &FilterSpec {
        &self.spec
    }
}
