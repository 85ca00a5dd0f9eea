//! What tests of every room make headers from: one that says nothing but whose event it is, for `..` in theirs. It never stands in a program.

use super::{AudienceTerm, PlaceTerm, RoutingHeader};
use crate::domain::{EventId, SpiffeId};

impl RoutingHeader {
    /// A header that says only whose event it is, for the whole network.
    #[must_use]
    pub fn bare(publisher: SpiffeId, event_id: EventId) -> Self {
        Self {
            publisher,
            event_id,
            types: Vec::new(),
            classifiers: Vec::new(),
            event_times_ns: Vec::new(),
            subjects: Vec::new(),
            places: Vec::new(),
            parties: Vec::new(),
            commodity_codes: Vec::new(),
            procedures: Vec::new(),
            modes: Vec::new(),
            audience: AudienceTerm::Network,
            revises: None,
            revision_unresolved: false,
        }
    }
}

impl PlaceTerm {
    /// The port where an event happens.
    #[must_use]
    pub fn port(un_locode: &str, country_code: &str) -> Self {
        Self {
            role: 1,
            kind: 1,
            un_locode: un_locode.to_owned(),
            country_code: country_code.to_owned(),
            facility_scheme: 0,
            facility_code: String::new(),
        }
    }
}
