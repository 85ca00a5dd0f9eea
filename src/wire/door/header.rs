//! From an event to its routing header. It never judges: an event of another node, whose rules may be newer, has a header too. What it
//! cannot express (an enum value above 255, a name that is none) it leaves out.

use crate::{
    domain::{
        EventId, RoutingHeader, SpiffeId, SpiffePattern,
        codes::body,
        freight,
        header::{AudienceTerm, PartyTerm, PlaceTerm, RevisionTerm, SubjectTerm, TypeStep},
    },
    wire::proto::{Association, Event, Party, Place, Reach, RevisionKind, Subject, SubjectRole, event::Body},
};

/// The routing header of an event: values in canonical form, countries filled in, the subjects and parties of an association's body
/// beside those of the envelope.
#[must_use]
pub fn routing_header(event: &Event, event_id: EventId, publisher: SpiffeId) -> RoutingHeader {
    let tied = association(event);
    let tied_subjects = tied.into_iter().flat_map(|tied| tied.parent.iter().chain(&tied.children));
    let tied_parties = tied.into_iter().flat_map(|tied| &tied.parties);
    let mut subjects: Vec<SubjectTerm> = event.subjects.iter().map(subject).collect();
    for one in tied_subjects.map(subject) {
        // The parent is a subject of the envelope too, as a rule: once is enough.
        if !subjects.contains(&one) {
            subjects.push(one);
        }
    }
    RoutingHeader {
        publisher,
        event_id,
        types: event.body.as_ref().map(type_step).into_iter().collect(),
        classifiers: number(event.classifier).into_iter().collect(),
        event_times_ns: event.event_time.as_ref().and_then(time_ns).into_iter().collect(),
        subjects,
        places: event.places.iter().map(place).collect(),
        parties: event.parties.iter().chain(tied_parties).map(party).collect(),
        commodity_codes: event.commodity_codes.clone(),
        procedures: number(event.procedure).into_iter().collect(),
        modes: number(event.mode).into_iter().collect(),
        audience: audience(event),
        revises: revises(event),
        revision_unresolved: false,
    }
}

/// The association that an event's body is, if it is one.
pub(super) fn association(event: &Event) -> Option<&Association> {
    match &event.body {
        Some(Body::Association(association)) => Some(association),
        _ => None,
    }
}

/// An enum's number as headers store it; unset is none.
fn number(number: i32) -> Option<u8> {
    u8::try_from(number).ok().filter(|number| *number != 0)
}

fn byte(value: i32) -> u8 {
    number(value).unwrap_or_default()
}

fn type_step(of: &Body) -> TypeStep {
    let (body, step) = match of {
        Body::Movement(movement) => (body::MOVEMENT, movement.step),
        Body::Handling(handling) => (body::HANDLING, handling.step),
        Body::Clearance(clearance) => (body::CLEARANCE, clearance.step),
        Body::Hold(hold) => (body::HOLD, hold.step),
        Body::Inspection(inspection) => (body::INSPECTION, inspection.step),
        Body::Document(document) => (body::DOCUMENT, document.step),
        Body::Association(association) => (body::ASSOCIATION, association.step),
        Body::Condition(_) => (body::CONDITION, 0),
        Body::Emission(_) => (body::EMISSION, 0),
    };
    TypeStep { body, step: byte(step) }
}

fn time_ns(time: &prost_types::Timestamp) -> Option<i64> {
    time.seconds.checked_mul(1_000_000_000)?.checked_add(i64::from(time.nanos))
}

fn subject(subject: &Subject) -> SubjectTerm {
    let kind = byte(subject.kind);
    SubjectTerm {
        kind,
        role: number(subject.role).unwrap_or(SubjectRole::Primary as i32 as u8),
        value: freight::canonical(kind, &subject.value).into_owned(),
        issuer: freight::canonical_issuer(&subject.issuer).into_owned(),
        date: subject.date.clone(),
    }
}

fn place(place: &Place) -> PlaceTerm {
    let un_locode = freight::compact(&place.un_locode).into_owned();
    // A filter for a country covers one for a place in it, so the place decides where it says both.
    let country_code = match un_locode.get(..2) {
        Some(country) => country.to_owned(),
        None => freight::compact(&place.country_code).into_owned(),
    };
    let facility = place.facility.as_ref();
    PlaceTerm {
        role: byte(place.role),
        kind: byte(place.kind),
        un_locode,
        country_code,
        facility_scheme: facility.map_or(0, |facility| byte(facility.scheme)),
        facility_code: facility
            .map_or_else(String::new, |facility| freight::canonical_issuer(&facility.code).into_owned()),
    }
}

fn party(party: &Party) -> PartyTerm {
    PartyTerm {
        role: byte(party.role),
        participant: party.participant.clone(),
        scheme: party.scheme.clone(),
        id: party.id.clone(),
    }
}

/// An audience that is missing or not understood is nobody's but the publisher's: anything else would widen it.
fn audience(event: &Event) -> AudienceTerm {
    let Some(audience) = &event.audience else { return AudienceTerm::Private };
    match audience.reach() {
        Reach::Network => AudienceTerm::Network,
        Reach::Named => AudienceTerm::Named(
            audience.participants.iter().filter_map(|name| SpiffePattern::parse(name).ok()).collect(),
        ),
        Reach::Private | Reach::Unspecified => AudienceTerm::Private,
    }
}

fn revises(event: &Event) -> Option<RevisionTerm> {
    let revision = event.revision.as_ref()?;
    let event_id = EventId::parse(&revision.event_id).ok()?;
    Some(RevisionTerm { retract: revision.kind() == RevisionKind::Retract, event_id })
}
