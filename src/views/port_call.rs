//! One port call as its reporters state it: planned, estimated, requested and actual times side by side. It never chooses between
//! reporters, and never merges what they say.

use std::collections::BTreeMap;

use super::{
    decoded::{Decoded, canonical},
    fold_order::time_ns,
    timeline::Gathered,
};
use crate::{
    domain::EventId,
    wire::proto::{self, Classifier, MovementStep, PlaceKind, PlaceRole, PortService, event::Body},
};

/// Which statements are asked for, beyond the subject.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    /// The port, or empty.
    pub un_locode: &'a str,
    /// Inclusive, nanoseconds since 1970.
    pub start_ns: i64,
    /// Exclusive.
    pub end_ns: i64,
    /// What the event must be about, by its own words: kind, canonical value, issuer (empty fits any).
    pub subject: crate::domain::bindings::SubjectKey<'a>,
}

/// The times of one step of a call, by one reporter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What happens, where, and who says so.
    pub key: RowKey,
    /// The statements in force: by classifier, those that have one.
    pub times: BTreeMap<Standing, Stated>,
}

/// What statements must share to replace each other: step, service, kind of place, reporter. The classifier is a column of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// `MovementStep` by enum value.
    pub step: i32,
    /// `PortService` by enum value.
    pub service: i32,
    /// `PlaceKind` by enum value.
    pub place_kind: i32,
    /// The party in the role of reporter, or the publisher.
    pub reporter: String,
}

/// Classifiers, the best known first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It happened.
    Actual,
    /// It is expected.
    Estimated,
    /// It is planned.
    Planned,
    /// It is asked for.
    Requested,
}

/// One statement of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stated {
    /// The stated time, nanoseconds since 1970.
    pub event_time_ns: i64,
    /// When it was stated.
    pub created_ns: i64,
    /// By which event.
    pub event_id: EventId,
    /// How many earlier statements it replaces.
    pub superseded_count: u32,
}

/// One movement's statement, with what it is filed under.
type Statement = (RowKey, Standing, Stated);

/// The rows of a call, in order of the best known time.
#[must_use]
pub fn rows(gathered: &Gathered, window: &Window<'_>) -> Vec<Row> {
    // What was corrected or retracted is not said any more.
    let statements =
        gathered.statements(&|decoded, revised_by| revised_by.is_none().then(|| statement(decoded, window)).flatten());
    let mut rows: BTreeMap<RowKey, BTreeMap<Standing, Stated>> = BTreeMap::new();
    for (key, standing, stated) in statements {
        let times = rows.entry(key).or_default();
        match times.get_mut(&standing) {
            None => drop(times.insert(standing, stated)),
            Some(known) => {
                let later = (stated.created_ns, stated.event_id) > (known.created_ns, known.event_id);
                let superseded_count = known.superseded_count + 1;
                *known = Stated { superseded_count, ..if later { stated } else { *known } };
            }
        }
    }
    let mut rows: Vec<Row> = rows.into_iter().map(|(key, times)| Row { key, times }).collect();
    // Rows of the same time keep the order of their keys.
    rows.sort_by_key(Row::best_known_ns);
    rows
}

impl Row {
    /// The time that is known best: actual, else estimated, planned, requested.
    fn best_known_ns(&self) -> i64 {
        self.times.first_key_value().map_or(i64::MAX, |(_, stated)| stated.event_time_ns)
    }
}

fn statement(decoded: &Decoded, window: &Window<'_>) -> Option<Statement> {
    let event = &decoded.event;
    let Some(Body::Movement(movement)) = &event.body else { return None };
    let event_time_ns = time_ns(event.event_time.as_ref());
    if !(window.start_ns..window.end_ns).contains(&event_time_ns) {
        return None;
    }
    let about = |subject: &proto::Subject| {
        let found = canonical(subject);
        let asked = &window.subject;
        found.kind == asked.kind
            && found.value == asked.value
            && (asked.issuer.is_empty() || found.issuer == asked.issuer)
            && (asked.date.is_empty() || found.date == asked.date)
    };
    let here = |place: &&proto::Place| {
        place.role() == PlaceRole::Event
            && (window.un_locode.is_empty() || place.un_locode.eq_ignore_ascii_case(window.un_locode))
    };
    let place = event.places.iter().find(here);
    if !event.subjects.iter().any(about) || (place.is_none() && !window.un_locode.is_empty()) {
        return None;
    }
    let standing = match event.classifier() {
        Classifier::Planned => Standing::Planned,
        Classifier::Estimated => Standing::Estimated,
        Classifier::Requested => Standing::Requested,
        Classifier::Actual => Standing::Actual,
        // The door admits none without.
        Classifier::Unspecified => return None,
    };
    let key = RowKey {
        step: MovementStep::try_from(movement.step).unwrap_or_default().into(),
        service: PortService::try_from(movement.service).unwrap_or_default().into(),
        place_kind: place.map_or(PlaceKind::Unspecified, proto::Place::kind).into(),
        reporter: reporter(decoded),
    };
    let created_ns = time_ns(event.created_time.as_ref());
    Some((key, standing, Stated { event_time_ns, created_ns, event_id: decoded.event_id, superseded_count: 0 }))
}

/// On whose behalf the publisher speaks: the party in that role, by name or by identifier, or else the publisher.
fn reporter(decoded: &Decoded) -> String {
    let named = decoded.event.parties.iter().find(|party| party.role() == proto::PartyRole::Reporter);
    match named {
        Some(party) if !party.participant.is_empty() => party.participant.clone(),
        Some(party) if !party.id.is_empty() => format!("{}:{}", party.scheme, party.id),
        _ => decoded.publisher.to_string(),
    }
}

#[cfg(test)]
mod tests;
