//! The terms of a routing header: its facts, reduced to numbers as the search index and the blocks' fingerprints keep them. Persisted,
//! so what a fact is reduced to never changes.

use super::HeaderRef;
use crate::domain::{
    EventId,
    term::{TermHash, TermKind},
};

/// Nanoseconds of a day.
const DAY_NS: i64 = 86_400_000_000_000;

/// The lengths of the prefixes under which a commodity code is found.
pub(in crate::domain) const COMMODITY_PREFIX_DIGITS: std::ops::RangeInclusive<usize> = 2..=6;

/// The term that names one event.
#[must_use]
pub fn identity_term(publisher: &str, event_id: &EventId) -> TermHash {
    TermHash::of(TermKind::Identity, &[publisher.as_bytes(), event_id.as_bytes()])
}

/// The term of every revision of one event.
#[must_use]
pub fn revises_term(publisher: &str, event_id: &EventId) -> TermHash {
    TermHash::of(TermKind::Revises, &[publisher.as_bytes(), event_id.as_bytes()])
}

/// The term of every event first admitted at one node. It is no part of a header: who knows the origin adds it.
#[must_use]
pub fn origin_term(node: &str) -> TermHash {
    TermHash::of(TermKind::Origin, &[node.as_bytes()])
}

/// The term of every event that happens on one UTC day, counted from 1970-01-01.
pub(in crate::domain) fn day_term(day: i64) -> TermHash {
    TermHash::of(TermKind::EventDay, &[&day.to_le_bytes()])
}

/// The UTC day of a time.
pub(in crate::domain) fn day_of(time_ns: i64) -> i64 {
    time_ns.div_euclid(DAY_NS)
}

impl HeaderRef<'_> {
    /// Every term of the header that a filter can ask for, for the search index and the block's fingerprint; the origin's term is the
    /// caller's to add. The event's identity and what it revises are not among them: the log has an index of its own for those, and a term
    /// that each event has alone takes more room than ten that events share. A term may come more than once.
    pub fn for_each_term(&self, each: &mut dyn FnMut(TermHash)) {
        let publisher = self.publisher();
        each(TermHash::of(TermKind::Publisher, &[publisher.as_bytes()]));
        for one in self.types() {
            each(TermHash::of(TermKind::BodyType, &[&[one.body]]));
            each(TermHash::of(TermKind::BodyStep, &[&[one.body], &[one.step]]));
        }
        for (kind, numbers) in [
            (TermKind::Classifier, self.classifiers()),
            (TermKind::Procedure, self.procedures()),
            (TermKind::Mode, self.modes()),
        ] {
            for number in numbers {
                each(TermHash::of(kind, &[&[*number]]));
            }
        }
        self.event_times_ns().for_each(|time_ns| each(day_term(day_of(time_ns))));
        for code in self.commodity_codes() {
            for prefix in COMMODITY_PREFIX_DIGITS.filter_map(|digits| code.get(..digits)) {
                each(TermHash::of(TermKind::CommodityPrefix, &[prefix.as_bytes()]));
            }
        }
        self.subject_terms(each);
        self.place_terms(each);
        for party in self.parties() {
            if !party.participant.is_empty() {
                each(TermHash::of(TermKind::PartyParticipant, &[party.participant.as_bytes()]));
            }
            if !party.id.is_empty() {
                each(TermHash::of(TermKind::PartyIdentifier, &[party.scheme.as_bytes(), party.id.as_bytes()]));
            }
        }
    }

    fn subject_terms(&self, each: &mut dyn FnMut(TermHash)) {
        let mut previous_kind = None;
        for subject in self.subjects() {
            each(TermHash::of(TermKind::SubjectValue, &[subject.value.as_bytes()]));
            if previous_kind.replace(subject.kind) != Some(subject.kind) {
                each(TermHash::of(TermKind::SubjectKind, &[&[subject.kind]]));
            }
        }
    }

    fn place_terms(&self, each: &mut dyn FnMut(TermHash)) {
        for place in self.places() {
            if !place.un_locode.is_empty() {
                each(TermHash::of(TermKind::Locode, &[place.un_locode.as_bytes()]));
            }
            if !place.country_code.is_empty() {
                each(TermHash::of(TermKind::Country, &[place.country_code.as_bytes()]));
            }
            if !place.facility_code.is_empty() {
                each(TermHash::of(TermKind::Facility, &[&[place.facility_scheme], place.facility_code.as_bytes()]));
            }
        }
    }
}
