//! Every rule of the door refuses what it is about, names the field, and lets the realistic voyage through.

use bytes::Bytes;
use prost_types::Timestamp;

use super::*;
use crate::{
    domain::{
        code_lists::ListKind,
        header::{AudienceTerm, RevisionTerm, TypeStep},
    },
    testing::events::{HOUR_NS, MINUTE_NS, Voyage, subject, timestamp},
    wire::proto::{
        Audience, Condition, DangerousGoods, Emission, Energy, Extension, Facility, Handling, IdentifierKind,
        Measurement, Movement, Party, Place, Reason, Revision, Signature, Source, Subject, SubjectRole, event::Body,
    },
};

/// 2026-01-01T00:00:00Z.
const START_NS: i64 = 1_767_225_600_000_000_000;
const NOW_NS: i64 = START_NS + 31 * HOUR_NS;

fn voyage() -> Voyage {
    Voyage::new(42, START_NS)
}

fn parse_with(signed: &SignedEvent, lists: &CodeLists) -> Result<ParsedEvent, Vec<Violation>> {
    parse_event(signed, "events[3]", &ValidationContext { now_ns: NOW_NS, lists })
}

fn parse(event: &Event) -> Result<ParsedEvent, Vec<Violation>> {
    parse_with(&event.unsigned(), &CodeLists::default())
}

/// What is said of an event after a change to it: field and reason.
fn said(mut event: Event, change: impl FnOnce(&mut Event)) -> Vec<(String, &'static str)> {
    change(&mut event);
    match parse(&event) {
        Ok(_) => Vec::new(),
        Err(violations) => violations.into_iter().map(|one| (one.field, one.reason)).collect(),
    }
}

#[track_caller]
fn refused(event: Event, field: &str, reason: &str, change: impl FnOnce(&mut Event)) {
    let found = said(event, change);
    let expected = (format!("events[3].{field}"), reason);
    assert!(
        found.iter().any(|(field, reason)| (field, *reason) == (&expected.0, expected.1)),
        "{expected:?} is not among {found:?}"
    );
}

#[test]
fn the_whole_voyage_passes_and_has_its_header() {
    for event in voyage().events() {
        let parsed = parse(&event).unwrap_or_else(|violations| panic!("{event:?}: {violations:#?}"));
        assert_eq!(parsed.event, event);
        assert_eq!(parsed.publisher.as_str(), event.publisher);
    }
    let parsed = parse(&voyage().discharged()).expect("a good event");
    let header = parsed.header;
    assert_eq!(header.types, [TypeStep { body: 21, step: 4 }]);
    assert_eq!(header.event_times_ns, [START_NS + 4 * HOUR_NS]);
    assert_eq!(header.subjects[0].value, voyage().container);
    assert_eq!(header.places[1].country_code, "CN", "the country follows from the UN/LOCODE");
    assert_eq!((header.audience, header.revises), (AudienceTerm::Network, None));
    assert!(!parsed.binds_parties);
}

#[test]
fn an_association_shows_its_children_and_parties_and_binds() {
    let parsed = parse(&voyage().attached()).expect("a good association");
    assert!(parsed.binds_parties);
    let values: Vec<_> = parsed.header.subjects.iter().map(|one| one.value.as_str()).collect();
    assert_eq!(values, [&voyage().bill, &voyage().container, &voyage().declaration], "the parent stands there once");
    assert_eq!(parsed.header.parties[0].participant, crate::testing::events::BROKER);
}

#[test]
fn revisions_pass_and_name_what_they_revise() {
    let original = voyage().discharged();
    let retraction = original.retracted();
    let parsed = parse(&retraction).expect("a good retraction");
    let event_id = EventId::parse(&original.event_id).expect("a good id");
    assert_eq!(parsed.header.revises, Some(RevisionTerm { retract: true, event_id }));
    assert!(parsed.header.types.is_empty(), "what it retracts is known from its predecessor");
    let correction = original.corrected(|event| event.utc_offset_minutes = None);
    assert_eq!(
        parse(&correction).expect("a good correction").header.revises,
        Some(RevisionTerm { retract: false, event_id })
    );
    let body = original.body.clone();
    refused(retraction.clone(), "body", "BODY_NOT_ALLOWED", |event| event.body = body);
    refused(correction, "body", "BODY_MISSING", |event| event.body = None);
    refused(original.clone(), "body", "BODY_MISSING", |event| event.body = None);
    refused(retraction.clone(), "revision.kind", "REVISION_KIND_MISSING", |event| revision(event).kind = 0);
    refused(retraction.clone(), "revision.event_id", "EVENT_ID_MALFORMED", |event| revision(event).event_id.clear());
    refused(retraction, "revision.event_id", "REVISES_ITSELF", |event| {
        revision(event).event_id = event.event_id.clone();
    });
}

fn revision(event: &mut Event) -> &mut Revision {
    event.revision.as_mut().expect("a revision")
}

#[test]
fn identity_and_times_are_judged() {
    let event = || voyage().gated_out();
    refused(event(), "event_id", "EVENT_ID_MALFORMED", |event| event.event_id = event.event_id.to_uppercase());
    // Version 7, made in the year 2100.
    refused(event(), "event_id", "EVENT_ID_FROM_FUTURE", |event| {
        event.event_id = "03bb2cc3-d800-7000-8000-000000000000".into();
    });
    refused(event(), "publisher", "PUBLISHER_MALFORMED", |event| event.publisher = "kict".into());
    refused(event(), "event_time", "TIME_MISSING", |event| event.event_time = None);
    refused(event(), "created_time", "TIME_MISSING", |event| event.created_time = None);
    refused(event(), "created_time", "CREATED_IN_FUTURE", |event| {
        event.created_time = Some(timestamp(NOW_NS + 6 * MINUTE_NS));
    });
    refused(event(), "event_time", "ACTUAL_IN_FUTURE", |event| event.event_time = Some(timestamp(NOW_NS)));
    refused(event(), "event_time", "TIME_OUT_OF_RANGE", |event| event.event_time = Some(timestamp(-1)));
    refused(event(), "event_time", "TIME_OUT_OF_RANGE", |event| {
        event.event_time = Some(timestamp(NOW_NS + 401 * 24 * HOUR_NS));
        event.classifier = 1;
    });
    refused(event(), "event_time", "TIME_OUT_OF_RANGE", |event| {
        event.event_time = Some(Timestamp { seconds: i64::MAX, nanos: 0 });
    });
    refused(event(), "event_time", "TIME_OUT_OF_RANGE", |event| {
        event.event_time = Some(Timestamp { seconds: 0, nanos: -1 });
    });
    refused(event(), "utc_offset_minutes", "OFFSET_OUT_OF_RANGE", |event| event.utc_offset_minutes = Some(841));
    refused(event(), "classifier", "CLASSIFIER_MISSING", |event| event.classifier = 0);
    refused(event(), "classifier", "ENUM_UNKNOWN", |event| event.classifier = 9);
    refused(event(), "mode", "ENUM_UNKNOWN", |event| event.mode = 9);
    refused(event(), "time_precision", "ENUM_UNKNOWN", |event| event.time_precision = 9);
    // Who knows only the day may write any hour of it.
    let at_noon = said(event(), |event| {
        event.event_time = Some(timestamp(NOW_NS + 12 * HOUR_NS));
        event.time_precision = 4;
    });
    assert_eq!(at_noon, []);
}

#[test]
fn subjects_are_judged() {
    let event = || voyage().discharged();
    let put = |kind: IdentifierKind, value: &str, issuer: &str, date: &str| {
        let subject = Subject { date: date.into(), ..subject(kind, value, issuer, SubjectRole::Primary) };
        move |event: &mut Event| event.subjects[0] = subject
    };
    refused(event(), "subjects", "SUBJECT_MISSING", |event| event.subjects.clear());
    refused(event(), "subjects", "TOO_MANY_VALUES", |event| event.subjects = vec![event.subjects[0].clone(); 513]);
    refused(event(), "subjects[2]", "SUBJECT_DUPLICATE", |event| event.subjects.push(event.subjects[0].clone()));
    refused(event(), "subjects[0].kind", "KIND_MISSING", |event| event.subjects[0].kind = 0);
    refused(event(), "subjects[0].kind", "ENUM_UNKNOWN", |event| event.subjects[0].kind = 99);
    refused(event(), "subjects[0].role", "ENUM_UNKNOWN", |event| event.subjects[0].role = 99);
    refused(event(), "subjects[0].value", "CHECK_DIGIT_WRONG", put(IdentifierKind::Container, "MSKU9070320", "", ""));
    refused(event(), "subjects[0].value", "IDENTIFIER_MALFORMED", put(IdentifierKind::Container, "MSK9070320", "", ""));
    refused(
        event(),
        "subjects[0].value",
        "VALUE_NOT_CANONICAL",
        put(IdentifierKind::Container, "msku 907032-3", "", ""),
    );
    refused(event(), "subjects[0].issuer", "ISSUER_MISSING", put(IdentifierKind::OtherEquipment, "CHASSIS1", "", ""));
    refused(event(), "subjects[0].issuer", "ISSUER_MISSING", put(IdentifierKind::Wagon, "52345678", "", ""));
    refused(
        event(),
        "subjects[0].issuer",
        "ISSUER_MALFORMED",
        put(IdentifierKind::Container, "MSKU9070323", "MAEU", ""),
    );
    refused(event(), "subjects[0].issuer", "ISSUER_MALFORMED", put(IdentifierKind::Declaration, "D1", "PAK", ""));
    refused(event(), "subjects[0].issuer", "ISSUER_MALFORMED", put(IdentifierKind::PortCall, "C1", "KARACHI", ""));
    refused(event(), "subjects[0].issuer", "VALUE_NOT_CANONICAL", put(IdentifierKind::Booking, "B1", "maeu", ""));
    refused(event(), "subjects[0].date", "DATE_MISSING", put(IdentifierKind::Flight, "PK788", "", ""));
    refused(event(), "subjects[0].date", "DATE_MISSING", put(IdentifierKind::Train, "4411", "", "2026-02-30"));
    refused(event(), "subjects[0].date", "DATE_NOT_ALLOWED", put(IdentifierKind::Booking, "B1", "", "2026-01-01"));
    refused(event(), "subjects", "SUBJECT_DOES_NOT_FIT", |event| event.subjects = vec![seal()]);
    refused(voyage().vessel_arrived(), "subjects", "SUBJECT_DOES_NOT_FIT", |event| event.subjects = vec![seal()]);
    refused(voyage().lodged(), "subjects", "SUBJECT_DOES_NOT_FIT", |event| event.subjects = vec![seal()]);
}

fn seal() -> Subject {
    subject(IdentifierKind::Seal, "S1", "", SubjectRole::Seal)
}

#[test]
fn the_description_says_what_would_be_right() {
    let describe = |value: &str| {
        let mut event = voyage().discharged();
        event.subjects[0].value = value.into();
        let violations = parse(&event).expect_err("a bad number");
        violations.into_iter().map(|one| one.description).collect::<Vec<_>>()
    };
    assert_eq!(describe("MSKU9070320"), ["check digit of MSKU9070320 is 3, not 0"]);
    assert_eq!(
        describe("MSKU 907032-3"),
        ["must be in the canonical form of its kind: \"MSKU9070323\", not \"MSKU 907032-3\""]
    );
}

#[test]
fn places_and_parties_are_judged() {
    let event = || voyage().discharged();
    let put = |place: Place| move |event: &mut Event| event.places[1] = Place { role: 3, ..place };
    refused(event(), "places[1].role", "ROLE_MISSING", |event| event.places[1].role = 0);
    refused(event(), "places[1]", "PLACE_EMPTY", put(Place::default()));
    refused(
        event(),
        "places[1].un_locode",
        "LOCODE_MALFORMED",
        put(Place { un_locode: "KHI".into(), ..Place::default() }),
    );
    refused(
        event(),
        "places[1].un_locode",
        "LOCODE_MALFORMED",
        put(Place { un_locode: "pkkhi".into(), ..Place::default() }),
    );
    refused(
        event(),
        "places[1].country_code",
        "COUNTRY_UNKNOWN",
        put(Place { country_code: "XX".into(), ..Place::default() }),
    );
    let elsewhere = Place { country_code: "IN".into(), un_locode: "PKKHI".into(), ..Place::default() };
    refused(event(), "places[1].country_code", "COUNTRY_DISAGREES", put(elsewhere));
    let facility =
        |scheme, code: &str| Place { facility: Some(Facility { scheme, code: code.into() }), ..Place::default() };
    refused(event(), "places[1].facility.scheme", "SCHEME_MISSING", put(facility(0, "KICT")));
    refused(event(), "places[1].facility.code", "FACILITY_MALFORMED", put(facility(3, "0614141000006")));
    let at =
        |latitude, longitude| Place { latitude_degrees: latitude, longitude_degrees: longitude, ..Place::default() };
    refused(event(), "places[1].latitude_degrees", "OUT_OF_RANGE", put(at(Some(90.1), Some(0.0))));
    refused(event(), "places[1].longitude_degrees", "OUT_OF_RANGE", put(at(Some(0.0), Some(f64::NAN))));
    refused(event(), "places[1]", "COORDINATES_INCOMPLETE", put(at(Some(0.0), None)));
    refused(
        event(),
        "places[1].name",
        "TEXT_MALFORMED",
        put(Place { name: "Karachi\nWest".into(), ..Place::default() }),
    );
    refused(event(), "places[1].name", "TEXT_TOO_LONG", put(Place { name: "ü".repeat(201), ..Place::default() }));
    refused(event(), "places", "LOCATION_MISSING", |event| event.places.clear());
    refused(voyage().lodged(), "places", "OFFICE_MISSING", |event| event.places.clear());
    refused(voyage().held(), "places", "OFFICE_MISSING", |event| event.places[0].role = 1);
    refused(event(), "places", "TOO_MANY_VALUES", |event| event.places = vec![event.places[0].clone(); 65]);

    let party = |party: Party| move |event: &mut Event| event.parties = vec![party];
    let carrier = || Party { role: 2, scheme: "SCAC".into(), id: "MAEU".into(), ..Party::default() };
    assert_eq!(said(event(), party(carrier())), []);
    refused(event(), "parties[0].role", "ROLE_MISSING", party(Party { role: 0, ..carrier() }));
    refused(event(), "parties[0]", "PARTY_EMPTY", party(Party { role: 2, ..Party::default() }));
    refused(event(), "parties[0]", "PARTY_INCOMPLETE", party(Party { scheme: String::new(), ..carrier() }));
    refused(
        event(),
        "parties[0].participant",
        "PARTICIPANT_MALFORMED",
        party(Party { participant: "maersk".into(), ..carrier() }),
    );
}

#[test]
fn the_rest_of_the_envelope_is_judged() {
    let event = || voyage().discharged();
    let audience = |reach, names: &[&str]| {
        let participants = names.iter().map(|&name| name.to_owned()).collect();
        move |event: &mut Event| event.audience = Some(Audience { reach, participants })
    };
    assert_eq!(said(event(), audience(2, &["spiffe://customs.gov.pk/*"])), []);
    refused(event(), "audience", "AUDIENCE_EMPTY", |event| event.audience = None);
    refused(event(), "audience.reach", "AUDIENCE_EMPTY", audience(0, &[]));
    refused(event(), "audience.participants", "AUDIENCE_EMPTY", audience(2, &[]));
    refused(event(), "audience.participants", "AUDIENCE_CONTRADICTS", audience(3, &["spiffe://customs.gov.pk/*"]));
    refused(event(), "audience.participants[0]", "PARTICIPANT_MALFORMED", audience(2, &["customs"]));
    refused(event(), "commodity_codes[0]", "HS_MALFORMED", |event| event.commodity_codes = vec!["87032310".into()]);
    refused(event(), "sources[0].standard", "TEXT_MISSING", |event| event.sources = vec![Source::default()]);
    refused(event(), "sources[0].sha256", "SHA256_MALFORMED", |event| {
        event.sources =
            vec![Source { standard: "EPCIS:2.0".into(), sha256: Bytes::from_static(b"x"), ..Source::default() }];
    });
    let extension = |bytes: usize| Extension { schema: "https://example.com/x".into(), data: vec![0; bytes].into() };
    assert_eq!(said(event(), |event| event.extensions = vec![extension(8 * 1024); 2]), []);
    refused(event(), "extensions", "EXTENSION_TOO_LARGE", |event| {
        event.extensions = vec![extension(8 * 1024), extension(8 * 1024 + 1)];
    });
    refused(event(), "extensions", "TOO_MANY_VALUES", |event| event.extensions = vec![extension(1); 9]);
    let signature = |algorithm: &str, bytes: usize| {
        let signature = Signature { key_id: "k1".into(), algorithm: algorithm.into(), value: vec![7; bytes].into() };
        let signed = SignedEvent { signature: Some(signature), ..event().unsigned() };
        parse_with(&signed, &CodeLists::default()).map_err(|violations| violations[0].field.clone()).err()
    };
    assert_eq!(signature("ed25519", 64), None);
    assert_eq!(signature("ed25519", 63).as_deref(), Some("events[3].signature.value"));
    assert_eq!(signature("ml-dsa-65", 3_309), None);
}

fn with_handling(change: impl FnOnce(&mut Handling)) -> impl FnOnce(&mut Event) {
    |event| {
        if let Some(Body::Handling(handling)) = &mut event.body {
            change(handling);
        }
    }
}

#[test]
fn bodies_of_freight_are_judged() {
    let event = || voyage().discharged();
    refused(event(), "handling.step", "STEP_MISSING", with_handling(|handling| handling.step = 0));
    refused(event(), "handling.step", "ENUM_UNKNOWN", with_handling(|handling| handling.step = 99));
    refused(
        event(),
        "handling.size_type",
        "SIZE_TYPE_MALFORMED",
        with_handling(|handling| handling.size_type = "45g".into()),
    );
    refused(
        event(),
        "handling.stowage_position",
        "STOWAGE_MALFORMED",
        with_handling(|handling| handling.stowage_position = "38-08".into()),
    );
    refused(
        event(),
        "handling.gross_mass_grams",
        "INCONSISTENT",
        with_handling(|handling| {
            handling.verified_gross_mass = true;
            handling.gross_mass_grams = 0;
        }),
    );
    refused(
        event(),
        "handling.piece_count",
        "INCONSISTENT",
        with_handling(|handling| {
            (handling.piece_count, handling.total_pieces) = (3, 2);
        }),
    );
    let carries = |un_number: &str, hazard_class: &str| {
        let goods = DangerousGoods { un_number: un_number.into(), hazard_class: hazard_class.into() };
        with_handling(move |handling| handling.dangerous_goods = vec![goods])
    };
    for class in ["8", "5.1", "1.4S", ""] {
        assert_eq!(said(event(), carries("2735", class)), []);
    }
    let at = "handling.dangerous_goods[0]";
    refused(event(), &format!("{at}.un_number"), "DANGEROUS_GOODS_MALFORMED", carries("UN2735", "8"));
    for class in ["0", "5.", "8S", "1.7A"] {
        refused(event(), &format!("{at}.hazard_class"), "DANGEROUS_GOODS_MALFORMED", carries("2735", class));
    }
    let moved = |step, service, reason: &str| {
        let movement = Movement { step, service, delay_reason_code: reason.into() };
        move |event: &mut Event| event.body = Some(Body::Movement(movement))
    };
    let event = || voyage().vessel_arrived();
    assert_eq!(said(event(), moved(5, 1, "WEA")), []);
    assert_eq!(said(event(), moved(7, 1, "")), [], "an announced service will not take place");
    refused(event(), "movement.service", "SERVICE_MISSING", moved(5, 0, ""));
    refused(event(), "movement.service", "SERVICE_NOT_ALLOWED", moved(1, 1, ""));
    refused(event(), "movement.delay_reason_code", "DELAY_REASON_MALFORMED", moved(1, 0, "weather"));
    refused(event(), "places", "LOCATION_MISSING", |event| event.places[0].role = 9);
    assert_eq!(
        said(event(), |event| {
            moved(3, 0, "")(event);
            event.places[0].role = 9;
        }),
        [],
        "a border is crossed where a country is left"
    );
}

#[test]
fn bodies_of_authorities_are_judged() {
    refused(voyage().lodged(), "classifier", "CLASSIFIER_NOT_ALLOWED", |event| event.classifier = 2);
    refused(voyage().inspected(), "classifier", "CLASSIFIER_NOT_ALLOWED", |event| event.classifier = 1);
    assert_eq!(said(voyage().inspection_ordered(), |event| event.classifier = 1), [], "an inspection may be planned");
    refused(voyage().inspection_ordered(), "inspection.result", "RESULT_NOT_ALLOWED", |event| {
        if let Some(Body::Inspection(inspection)) = &mut event.body {
            inspection.result = 1;
        }
    });
    refused(voyage().held(), "hold.hold_id", "TEXT_MISSING", |event| {
        if let Some(Body::Hold(hold)) = &mut event.body {
            hold.hold_id.clear();
        }
    });
    refused(voyage().held(), "hold.reasons[0].scheme", "SCHEME_MISSING", |event| {
        if let Some(Body::Hold(hold)) = &mut event.body {
            hold.reasons = vec![Reason { code: "7".into(), ..Reason::default() }];
        }
    });
    refused(voyage().lodged(), "clearance.goods_items", "OUT_OF_RANGE", |event| {
        if let Some(Body::Clearance(clearance)) = &mut event.body {
            clearance.goods_items = vec![1, 0];
        }
    });
    let associated = |change: fn(&mut crate::wire::proto::Association)| {
        move |event: &mut Event| {
            if let Some(Body::Association(association)) = &mut event.body {
                change(association);
            }
        }
    };
    refused(voyage().attached(), "association.parent", "SUBJECT_MISSING", associated(|tied| tied.parent = None));
    refused(
        voyage().attached(),
        "association.children[1].value",
        "IDENTIFIER_MALFORMED",
        associated(|tied| tied.children[1].value.clear()),
    );
    refused(
        voyage().attached(),
        "association.children[0]",
        "SUBJECT_DUPLICATE",
        associated(|tied| tied.children[0] = tied.parent.clone().expect("a parent")),
    );
    refused(
        voyage().attached(),
        "association",
        "ASSOCIATION_EMPTY",
        associated(|tied| {
            tied.children.clear();
            tied.parties.clear();
        }),
    );
}

#[test]
fn measures_are_judged() {
    let measured = |measurement: Measurement| {
        let measurements = vec![measurement];
        move |event: &mut Event| event.body = Some(Body::Condition(Condition { measurements, ..Condition::default() }))
    };
    let cold = || Measurement {
        quantity: "Temperature".into(),
        unit_code: "CEL".into(),
        value: Some(-18.0),
        ..Measurement::default()
    };
    let event = || voyage().discharged();
    let at = "condition.measurements[0]";
    assert_eq!(said(event(), measured(cold())), []);
    refused(
        event(),
        &format!("{at}.unit_code"),
        "UNIT_MALFORMED",
        measured(Measurement { unit_code: "°C".into(), ..cold() }),
    );
    refused(
        event(),
        &format!("{at}.value"),
        "OUT_OF_RANGE",
        measured(Measurement { value: Some(f64::INFINITY), ..cold() }),
    );
    refused(event(), at, "INCONSISTENT", measured(Measurement { minimum: Some(0.0), ..cold() }));
    refused(event(), at, "MEASUREMENT_EMPTY", measured(Measurement { value: None, ..cold() }));
    refused(event(), "condition", "CONDITION_EMPTY", |event| event.body = Some(Body::Condition(Condition::default())));

    let emitted = |emission: Emission| move |event: &mut Event| event.body = Some(Body::Emission(emission));
    // 20 t over 1,000 km: 20,000 t km.
    let emission = || Emission {
        co2e_wtw_grams: 200_000,
        co2e_ttw_grams: 160_000,
        mass_grams: 20_000_000,
        distance_metres: 1_000_000,
        activity_gram_metres: 20_000_000_000_000,
        method: "ISO 14083:2023".into(),
        ..Emission::default()
    };
    assert_eq!(said(event(), emitted(emission())), []);
    refused(
        event(),
        "emission.co2e_wtw_grams",
        "INCONSISTENT",
        emitted(Emission { co2e_ttw_grams: 200_001, ..emission() }),
    );
    let off = Emission { activity_gram_metres: 20_200_000_000_001, ..emission() };
    refused(event(), "emission.activity_gram_metres", "INCONSISTENT", emitted(off));
    let huge = Emission { mass_grams: u64::MAX, distance_metres: u64::MAX, ..emission() };
    refused(event(), "emission.activity_gram_metres", "INCONSISTENT", emitted(huge));
    let energy = vec![Energy { carrier: "HFO".into(), quantity: -1.0, unit_code: "KGM".into() }];
    refused(event(), "emission.energy[0].quantity", "OUT_OF_RANGE", emitted(Emission { energy, ..emission() }));
}

#[test]
fn lists_that_age_warn_or_refuse_as_the_operator_says() {
    let with = |mode| {
        let un_locode = CodeList::from_csv(ListKind::UnLocode, mode, "PKKHI\n").expect("a good list");
        let signed = voyage().discharged().unsigned();
        parse_with(&signed, &CodeLists { un_locode, ..CodeLists::default() })
    };
    assert_eq!(with(ListMode::Off).expect("nobody looks").warnings, []);
    let warned = with(ListMode::Warn).expect("a warning refuses nothing").warnings;
    assert_eq!((warned[0].field.as_str(), warned[0].reason), ("events[3].places[1].un_locode", "LOCODE_UNKNOWN"));
    assert_eq!(with(ListMode::Enforce).expect_err("CNSHA is not listed")[0].reason, "LOCODE_UNKNOWN");
}

#[test]
fn all_violations_come_at_once_but_at_most_32() {
    let mut event = voyage().discharged();
    (event.event_time, event.audience, event.classifier) = (None, None, 0);
    assert_eq!(parse(&event).expect_err("three faults").len(), 3);
    event.subjects = (0..100)
        .map(|index| subject(IdentifierKind::Container, &format!("X{index}"), "", SubjectRole::Primary))
        .collect();
    assert_eq!(parse(&event).expect_err("many faults").len(), 32);
}

#[test]
fn what_is_no_event_is_said_to_be_none() {
    let lists = CodeLists::default();
    let unreadable = SignedEvent { event: Bytes::from_static(&[0xff, 0xff]), signature: None };
    assert_eq!(parse_with(&unreadable, &lists).expect_err("no protobuf")[0].reason, "EVENT_UNREADABLE");
    let large = SignedEvent { event: vec![0; EVENT_BYTES_MAX + 1].into(), signature: None };
    assert_eq!(parse_with(&large, &lists).expect_err("too large")[0].reason, "EVENT_TOO_LARGE");
    assert!(!parse_with(&SignedEvent::default(), &lists).expect_err("empty").is_empty());
}

#[test]
fn a_newer_publishers_unknown_fields_are_no_fault() {
    let mut bytes = voyage().discharged().encode_to_vec();
    // Field 900, a number.
    bytes.extend([0xa0, 0x38, 0x01]);
    let signed = SignedEvent { event: bytes.into(), signature: None };
    assert!(parse_with(&signed, &CodeLists::default()).is_ok());
}
