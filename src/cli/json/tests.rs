//! The JSON mapping: what goes in comes out, and faults are named.

use super::*;
use crate::wire::SignedEvent;

const DISCHARGE: &str = r#"{
  "eventId": "0198c5a2-7b1e-7c3d-9f00-5a1b2c3d4e5f",
  "publisher": "spiffe://port.gov.pk/terminal/kict",
  "eventTime": "2026-11-23T06:15:00Z",
  "classifier": "CLASSIFIER_ACTUAL",
  "subjects": [{ "kind": "IDENTIFIER_KIND_CONTAINER", "value": "MSKU9070323" }],
  "places": [{ "role": "PLACE_ROLE_EVENT", "unLocode": "PKKHI", "latitudeDegrees": 24.8 }],
  "audience": { "reach": "REACH_NETWORK" },
  "sources": [{ "standard": "EDIFACT:D.95B:COARRI", "sha256": "AAECAw==" }],
  "handling": { "step": "HANDLING_STEP_DISCHARGED", "grossMassGrams": "21500000" }
}"#;

#[test]
fn an_event_survives_the_way_out_and_back() {
    let event = read("Event", DISCHARGE).unwrap();
    let typed = proto::Event::decode(event_bytes(&event)).unwrap();
    assert_eq!(typed.subjects[0].value, "MSKU9070323");
    assert_eq!(typed.event_time.unwrap().seconds, 1_795_414_500);
    assert_eq!(typed.sources[0].sha256.as_ref(), [0, 1, 2, 3]);
    let shown = from_bytes("Event", &event_bytes(&event)).unwrap();
    assert_eq!(shown, serde_json::from_str::<Value>(DISCHARGE).unwrap());
}

#[test]
fn names_as_the_proto_spells_them_are_read_too() {
    let event: proto::Event = read_typed("Event", r#"{"event_id": "x", "utc_offset_minutes": 300}"#).unwrap();
    assert_eq!((event.event_id.as_str(), event.utc_offset_minutes), ("x", Some(300)));
}

#[test]
fn raw_event_bytes_in_an_answer_print_as_a_readable_event() {
    let bytes = event_bytes(&read("Event", DISCHARGE).unwrap());
    let recorded = proto::RecordedEvent {
        signed: Some(SignedEvent { event: bytes, ..Default::default() }),
        position: "00000000000000000000000000000007-42".to_owned(),
        ..Default::default()
    };
    let answer = proto::ListEventsResponse { events: vec![recorded], ..Default::default() };
    let shown = from_message("ListEventsResponse", &answer);
    let event = &shown["events"][0]["signed"]["event"];
    assert_eq!(event, &serde_json::from_str::<Value>(DISCHARGE).unwrap());
}

#[test]
fn faults_are_named_with_their_place_and_what_was_meant() {
    for (text, line, words) in [
        ("{\n \"eventid\": 1}", 2, "unknown field 'eventid'; did you mean eventId?"),
        (
            "{\"handling\": {\"step\": \"DISCHARGED\"}}",
            1,
            "unknown value 'DISCHARGED'; did you mean CLEARANCE_STEP_TRANSIT_DISCHARGED or HANDLING_STEP_DISCHARGED?",
        ),
        ("{\"classifier\": \"CLASSIFIER_ACTAUL\"}", 1, "did you mean CLASSIFIER_ACTUAL?"),
        ("{\"zzzzzz\": 1}", 1, "unknown field 'zzzzzz'"),
        ("{\"eventTime\": \"yesterday\"}", 1, "timestamp"),
        ("{\"eventId\": \"x\"", 1, "EOF while parsing an object"),
        ("{} {}", 1, "trailing characters"),
    ] {
        let error = read("Event", text).unwrap_err();
        assert_eq!(error.line, line, "{text}: {error:?}");
        assert!(error.reason.contains(words), "{text}: {:?} should say {words:?}", error.reason);
        assert!(!error.reason.contains(" at line "), "{error:?}");
    }
}

#[test]
fn a_status_shows_its_details() {
    use tonic_types::{ErrorDetails, StatusExt};
    let details =
        ErrorDetails::with_error_info("GRANT_MISSING", "tradelane", [("action".to_owned(), "publish".to_owned())]);
    let refused = tonic::Status::with_error_details(tonic::Code::PermissionDenied, "no", details);
    let status_message = tonic_types::Status::decode(refused.details()).unwrap();
    let shown = status(&status_message);
    assert_eq!(shown["details"][0]["reason"], "GRANT_MISSING");
    assert_eq!(shown["details"][0]["metadata"]["action"], "publish");
}
