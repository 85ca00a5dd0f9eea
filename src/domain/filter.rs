//! The one predicate of the exchange, over an event's routing header: subscriptions, queries, agreements and grants all speak it. It is
//! an OR-list of flat AND-of-ORs without negation, so that an intersection only ever narrows.

use super::{HeaderRef, SpiffeId, term::TermHash};

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
    /// Each: the set fields of one party.
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
    /// UPPER_SNAKE.
    pub reason: &'static str,
    /// What would be right, in words.
    pub description: String,
}

/// A compiled filter.
#[derive(Debug, Clone)]
pub struct Filter {}

/// What a filter is matched against besides the header.
#[derive(Clone, Copy)]
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
    /// Checks and compiles a filter. `allow_caller` lets a party say "$caller", as grants may.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn compile(_spec: &FilterSpec, _allow_caller: bool) -> Result<Self, Vec<FilterProblem>> {
        todo!()
    }

    /// The filter as it was written.
    #[must_use]
    pub fn spec(&self) -> &FilterSpec {
        todo!()
    }

    /// Whether the event passes.
    #[must_use]
    pub fn matches(&self, _header: &HeaderRef<'_>, _context: &MatchContext<'_>) -> bool {
        todo!()
    }

    /// The AND-list of OR-lists of terms that every matching event has. A "$caller" party is resolved for the given caller; a party that
    /// can also be found by association gives no term, since the event need not name it.
    #[must_use]
    pub fn term_plan(&self, _caller: &SpiffeId) -> Vec<Vec<TermHash>> {
        todo!()
    }

    /// True where every event that `self` matches is matched by `wider` too, as far as can be told field by field; used to say which
    /// filters a grant narrows. May say false for a filter that is in truth covered, never true for one that is not.
    #[must_use]
    pub fn is_covered_by(&self, _wider: &Filter) -> bool {
        todo!()
    }
}
