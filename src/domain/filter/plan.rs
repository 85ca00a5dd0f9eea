//! What can be told of a filter without an event: the index terms that its events must have, and whether another filter covers it. It
//! never promises more than holds: a term that some matching event might lack is left out.

use super::{Filter, NumberSet, Participant, PartyPattern, PlacePattern, SubjectPattern, TimeRange, TypePattern};
use crate::domain::{
    SpiffeId, SpiffePattern,
    header::{day_of, day_term, origin_term},
    term::{TermHash, TermKind},
};

/// A range of event times over more days than this gives no terms: looking each day up would cost more than it saves.
const DAYS_MAX: i64 = 40;

impl Filter {
    /// The AND-list of OR-lists of terms that every matching event has; first those that the fewest events have, as a rule. A "$caller" party is resolved for the given caller; a party that
    /// can also be found by association gives no term, since the event need not name it.
    #[must_use]
    pub fn term_plan(&self, caller: &SpiffeId) -> Vec<Vec<TermHash>> {
        let number = |kind: TermKind| move |number: u8| Some(TermHash::of(kind, &[&[number]]));
        let mut plan = Vec::new();
        let mut add = |terms: Option<Vec<TermHash>>| plan.extend(terms.filter(|terms| !terms.is_empty()));
        let subjects: Option<Vec<_>> = self.subjects.iter().map(SubjectPattern::terms).collect();
        let subjects = subjects.map(|lists| lists.concat());
        // The kind alone nearly every event has.
        let (values, kinds) =
            if self.subjects.iter().all(|one| !one.values.is_empty()) { (subjects, None) } else { (None, subjects) };
        add(values);
        add(self.places.iter().map(PlacePattern::term).collect());
        add(self.parties.iter().map(|party| party.term(caller)).collect());
        add(self.commodity_prefixes.iter().map(|prefix| Some(prefix_term(prefix))).collect());
        add(self.types.iter().map(|one| Some(one.term())).collect());
        add(self.publishers.iter().map(|name| exact_term(name, TermKind::Publisher)).collect());
        add(self.origins.iter().map(|name| name.exact().map(origin_term)).collect());
        add(self.event_time.days());
        add(self.classifiers.numbers().map(number(TermKind::Classifier)).collect());
        add(self.procedures.numbers().map(number(TermKind::Procedure)).collect());
        add(self.modes.numbers().map(number(TermKind::Mode)).collect());
        add(kinds);
        plan
    }

    /// True where every event that `self` matches is matched by `wider` too, as far as can be told field by field; used to say which
    /// filters a grant narrows. May say false for a filter that is in truth covered, never true for one that is not.
    #[must_use]
    pub fn is_covered_by(&self, wider: &Filter) -> bool {
        each_covered(&self.types, &wider.types, |one, wider| {
            one.body == wider.body && number_covers(wider.step, one.step)
        }) && self.classifiers.is_covered_by(wider.classifiers)
            && each_covered(&self.subjects, &wider.subjects, SubjectPattern::is_covered_by)
            && each_covered(&self.places, &wider.places, PlacePattern::is_covered_by)
            && each_covered(&self.parties, &wider.parties, PartyPattern::is_covered_by)
            && each_covered(&self.commodity_prefixes, &wider.commodity_prefixes, |one, wider| one.starts_with(wider))
            && self.procedures.is_covered_by(wider.procedures)
            && self.modes.is_covered_by(wider.modes)
            && each_covered(&self.publishers, &wider.publishers, pattern_covered)
            && each_covered(&self.origins, &wider.origins, pattern_covered)
            && self.event_time.is_covered_by(wider.event_time)
            && self.accepted_time.is_covered_by(wider.accepted_time)
    }
}

fn prefix_term(prefix: &str) -> TermHash {
    TermHash::of(TermKind::CommodityPrefix, &[prefix.as_bytes()])
}

fn exact_term(name: &SpiffePattern, kind: TermKind) -> Option<TermHash> {
    name.exact().map(|name| TermHash::of(kind, &[name.as_bytes()]))
}

/// Whether every value of a field is covered by some value of the wider filter's; a field that the wider one leaves open covers all.
fn each_covered<T>(own: &[T], wider: &[T], covered: fn(&T, &T) -> bool) -> bool {
    wider.is_empty() || (!own.is_empty() && own.iter().all(|one| wider.iter().any(|other| covered(one, other))))
}

fn number_covers(wider: Option<u8>, own: Option<u8>) -> bool {
    wider.is_none() || wider == own
}

fn text_covers(wider: &str, own: &str) -> bool {
    wider.is_empty() || wider == own
}

fn pattern_covered(own: &SpiffePattern, wider: &SpiffePattern) -> bool {
    own == wider
        || match own.exact() {
            Some(name) => wider.matches(name),
            None => wider.as_str().strip_suffix('*').is_some_and(|prefix| own.as_str().starts_with(prefix)),
        }
}

impl NumberSet {
    fn is_covered_by(self, wider: Self) -> bool {
        wider.is_empty() || (!self.is_empty() && self.0 & !wider.0 == 0)
    }
}

impl TypePattern {
    fn term(self) -> TermHash {
        match self.step {
            None => TermHash::of(TermKind::BodyType, &[&[self.body]]),
            Some(step) => TermHash::of(TermKind::BodyStep, &[&[self.body], &[step]]),
        }
    }
}

impl TimeRange {
    fn is_covered_by(self, wider: Self) -> bool {
        wider.from_ns <= self.from_ns && self.to_ns <= wider.to_ns
    }

    fn days(self) -> Option<Vec<TermHash>> {
        // The end is exclusive: a range that ends at midnight has nothing of that day.
        let (first, last) = (day_of(self.from_ns), day_of(self.to_ns.saturating_sub(1)));
        (last - first < DAYS_MAX).then(|| (first..=last).map(day_term).collect())
    }
}

impl SubjectPattern {
    fn terms(&self) -> Option<Vec<TermHash>> {
        let value_term = |value: &String| TermHash::of(TermKind::SubjectValue, &[value.as_bytes()]);
        match self.kind {
            _ if !self.values.is_empty() => Some(self.values.iter().map(value_term).collect()),
            Some(kind) => Some(vec![TermHash::of(TermKind::SubjectKind, &[&[kind]])]),
            None => None,
        }
    }

    fn is_covered_by(&self, wider: &Self) -> bool {
        let values_covered = wider.values.is_empty()
            || (!self.values.is_empty() && self.values.iter().all(|value| wider.values.contains(value)));
        values_covered
            && number_covers(wider.kind, self.kind)
            && number_covers(wider.role, self.role)
            && text_covers(&wider.issuer, &self.issuer)
            && text_covers(&wider.date, &self.date)
    }
}

impl PlacePattern {
    fn term(&self) -> Option<TermHash> {
        if !self.un_locode.is_empty() {
            return Some(TermHash::of(TermKind::Locode, &[self.un_locode.as_bytes()]));
        }
        match self.facility_scheme {
            Some(scheme) if !self.facility_code.is_empty() => {
                Some(TermHash::of(TermKind::Facility, &[&[scheme], self.facility_code.as_bytes()]))
            }
            _ if !self.country_code.is_empty() => {
                Some(TermHash::of(TermKind::Country, &[self.country_code.as_bytes()]))
            }
            _ => None,
        }
    }

    /// A header's country is always that of its UN/LOCODE, where it has one: so a filter for a place is covered by one for its country.
    fn is_covered_by(&self, wider: &Self) -> bool {
        number_covers(wider.role, self.role)
            && number_covers(wider.kind, self.kind)
            && text_covers(&wider.un_locode, &self.un_locode)
            && (text_covers(&wider.country_code, &self.country_code) || self.un_locode.starts_with(&wider.country_code))
            && number_covers(wider.facility_scheme, self.facility_scheme)
            && text_covers(&wider.facility_code, &self.facility_code)
    }
}

impl PartyPattern {
    fn term(&self, caller: &SpiffeId) -> Option<TermHash> {
        if self.reaches_through_associations() {
            return None;
        }
        let participant = match &self.participant {
            Participant::Any => None,
            Participant::Caller => Some(caller.as_str()),
            Participant::Named(name) => Some(name.as_str()),
        };
        match participant {
            Some(name) => Some(TermHash::of(TermKind::PartyParticipant, &[name.as_bytes()])),
            None if !self.id.is_empty() && !self.scheme.is_empty() => {
                Some(TermHash::of(TermKind::PartyIdentifier, &[self.scheme.as_bytes(), self.id.as_bytes()]))
            }
            None => None,
        }
    }

    fn is_covered_by(&self, wider: &Self) -> bool {
        (wider.participant == Participant::Any || wider.participant == self.participant)
            && number_covers(wider.role, self.role)
            && text_covers(&wider.scheme, &self.scheme)
            && text_covers(&wider.id, &self.id)
    }
}
