//! Whether a filter asks for an event, read anew from the words of both: without routing headers, compiled filters or indexes.

use tradelane::{
    domain::filter::{FilterSpec, PartySpec, PlaceSpec, SubjectSpec, TimeRangeSpec},
    wire::proto::{
        AssociationStep, Classifier, ClearanceStep, DocumentStep, Event, FacilityScheme, HandlingStep, HoldStep,
        IdentifierKind, InspectionStep, MovementStep, Party, PartyRole, Place, PlaceKind, PlaceRole, Procedure,
        Subject, SubjectRole, TransportMode, event::Body,
    },
};

use super::model::{Key, Stored, key, subjects};

/// Who asks, where, and whom associations in force bind to what.
pub struct Asking<'a> {
    pub node: &'a str,
    pub caller: &'a str,
    pub bound: &'a dyn Fn(&str, &Key) -> bool,
}

pub fn asks_for(spec: &FilterSpec, stored: &Stored, asking: &Asking<'_>) -> bool {
    // A revision is also found by what it revises.
    let said: Vec<&Event> = std::iter::once(&stored.event).chain(&stored.chain).collect();
    let any = |test: &dyn Fn(&Event) -> bool| said.iter().any(|event| test(event));
    let named = |wanted: &[String], name: &str| wanted.is_empty() || wanted.iter().any(|one| pattern(one, name));
    let has = |wanted: &[String], of: &dyn Fn(&Event) -> String| {
        wanted.is_empty() || any(&|event| wanted.contains(&of(event)))
    };
    let types = spec.types.is_empty()
        || any(&|event| {
            let (body, step) = type_of(event);
            spec.types.iter().any(|wanted| *wanted == body || *wanted == format!("{body}.{step}"))
        });
    let about = spec.subjects.is_empty()
        || any(&|event| subjects(event).iter().any(|one| spec.subjects.iter().any(|wanted| is_subject(wanted, one))));
    let at = spec.places.is_empty()
        || any(&|event| event.places.iter().any(|one| spec.places.iter().any(|wanted| is_place(wanted, one))));
    let with = spec.parties.is_empty()
        || spec.parties.iter().any(|wanted| {
            let participant = if wanted.participant == "$caller" { asking.caller } else { &wanted.participant };
            let through = *wanted == PartySpec { participant: wanted.participant.clone(), ..PartySpec::default() };
            any(&|event| parties(event).iter().any(|one| is_party(wanted, participant, one)))
                || (through && any(&|event| subjects(event).iter().any(|one| (asking.bound)(participant, &key(one)))))
        });
    let commodities = spec.commodity_prefixes.is_empty()
        || any(&|event| {
            let begins = |code: &String| spec.commodity_prefixes.iter().any(|one| code.starts_with(one.as_str()));
            event.commodity_codes.iter().any(begins)
        });
    let event_ns =
        |event: &Event| event.event_time.map_or(0, |time| time.seconds * 1_000_000_000 + i64::from(time.nanos));
    let classifier = |event: &Event| word(Classifier::as_str_name(&event.classifier()), "CLASSIFIER_");
    let procedure = |event: &Event| word(Procedure::as_str_name(&event.procedure()), "PROCEDURE_");
    let mode = |event: &Event| word(TransportMode::as_str_name(&event.mode()), "TRANSPORT_MODE_");
    types
        && has(&spec.classifiers, &classifier)
        && has(&spec.procedures, &procedure)
        && has(&spec.modes, &mode)
        && about
        && at
        && with
        && commodities
        && named(&spec.publishers, &stored.event.publisher)
        && named(&spec.origins, asking.node)
        && any(&|event| within(spec.event_time.as_ref(), event_ns(event)))
        && within(spec.accepted_time.as_ref(), stored.accepted_ns)
}

fn is_subject(wanted: &SubjectSpec, subject: &Subject) -> bool {
    let kind = IdentifierKind::try_from(subject.kind).expect("known").as_str_name();
    let role = match subject.role() {
        SubjectRole::Unspecified => SubjectRole::Primary,
        role => role,
    };
    fits(&wanted.kind, &word(kind, "IDENTIFIER_KIND_"))
        && fits(&wanted.role, &word(role.as_str_name(), "SUBJECT_ROLE_"))
        && fits(&plain(&wanted.value), &plain(&subject.value))
        && fits(&plain(&wanted.issuer), &plain(&subject.issuer))
        && fits(&wanted.date, &subject.date)
}

fn is_place(wanted: &PlaceSpec, place: &Place) -> bool {
    let country = place.un_locode.get(..2).unwrap_or(&place.country_code);
    let role = PlaceRole::try_from(place.role).expect("known").as_str_name();
    let kind = PlaceKind::try_from(place.kind).expect("known").as_str_name();
    let facility = place.facility.clone().unwrap_or_default();
    let scheme = FacilityScheme::try_from(facility.scheme).expect("known").as_str_name();
    fits(&wanted.role, &word(role, "PLACE_ROLE_"))
        && fits(&wanted.kind, &word(kind, "PLACE_KIND_"))
        && fits(&plain(&wanted.un_locode), &place.un_locode)
        && fits(&plain(&wanted.country_code), country)
        && fits(&wanted.facility_scheme, &word(scheme, "FACILITY_SCHEME_"))
        && fits(&plain(&wanted.facility_code), &plain(&facility.code))
}

fn is_party(wanted: &PartySpec, participant: &str, party: &Party) -> bool {
    let role = PartyRole::try_from(party.role).expect("known").as_str_name();
    fits(&wanted.role, &word(role, "PARTY_ROLE_"))
        && fits(participant, &party.participant)
        && fits(&wanted.scheme, &party.scheme)
        && fits(&wanted.id, &party.id)
}

fn within(range: Option<&TimeRangeSpec>, time_ns: i64) -> bool {
    let ns = |time: &chrono::DateTime<chrono::Utc>| time.timestamp_nanos_opt().expect("in range");
    range.is_none_or(|range| {
        range.start_time.as_ref().is_none_or(|start| ns(start) <= time_ns)
            && range.end_time.as_ref().is_none_or(|end| time_ns < ns(end))
    })
}

/// An empty wish is none.
fn fits(wanted: &str, found: &str) -> bool {
    wanted.is_empty() || wanted == found
}

/// However somebody spells it: no two of the identifiers that the test makes differ in nothing else.
fn plain(text: &str) -> String {
    let letters = text.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_uppercase());
    let compact: String = letters.collect();
    compact.strip_prefix("IMO").map_or_else(|| compact.clone(), str::to_owned)
}

fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).expect("the prefix of its enum").to_lowercase()
}

/// A name, or a prefix that ends in "/*".
pub fn pattern(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

fn parties(event: &Event) -> Vec<&Party> {
    let tied = match &event.body {
        Some(Body::Association(association)) => association.parties.iter().collect(),
        _ => Vec::new(),
    };
    event.parties.iter().chain(tied).collect()
}

fn type_of(event: &Event) -> (&'static str, String) {
    match &event.body {
        Some(Body::Movement(body)) => ("movement", word(MovementStep::as_str_name(&body.step()), "MOVEMENT_STEP_")),
        Some(Body::Handling(body)) => ("handling", word(HandlingStep::as_str_name(&body.step()), "HANDLING_STEP_")),
        Some(Body::Clearance(body)) => ("clearance", word(ClearanceStep::as_str_name(&body.step()), "CLEARANCE_STEP_")),
        Some(Body::Hold(body)) => ("hold", word(HoldStep::as_str_name(&body.step()), "HOLD_STEP_")),
        Some(Body::Inspection(body)) => {
            ("inspection", word(InspectionStep::as_str_name(&body.step()), "INSPECTION_STEP_"))
        }
        Some(Body::Document(body)) => ("document", word(DocumentStep::as_str_name(&body.step()), "DOCUMENT_STEP_")),
        Some(Body::Association(body)) => {
            ("association", word(AssociationStep::as_str_name(&body.step()), "ASSOCIATION_STEP_"))
        }
        Some(Body::Condition(_)) => ("condition", String::new()),
        Some(Body::Emission(_)) => ("emission", String::new()),
        None => ("", String::new()),
    }
}
