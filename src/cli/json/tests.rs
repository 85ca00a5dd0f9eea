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
    ] {
        let error = read("Event", text).unwrap_err();
        assert_eq!(error.line, line, "{text}: {error:?}");
        assert!(error.reason.contains(words), "{text}: {:?} should say {words:?}", error.reason);
        assert!(!error.reason.contains(" at line "), "{error:?}");
    }
}

#[test]
fn what_is_no_event_is_told_with_its_place_what_stands_there_and_what_would_be_right() {
    let mut wrong = Vec::new();
    for (text, place, words) in [
        ("hello world", (1, 1), "found hello, expected an event: {...}"),
        ("nothing", (1, 1), "found nothing, expected an event: {...}"),
        ("<?xml version=\"1.0\"?>", (1, 1), "found <?, expected an event: {...}"),
        ("UNB+UNOA:2+KICT", (1, 1), "found UNB+UNOA, expected an event: {...}"),
        ("null", (1, 1), "found null, expected an event: {...}"),
        ("[7]", (1, 1), "found [, expected an event: {...}"),
        ("{\n \"eventId\": nope}", (2, 13), "found nope, expected true, false or null; a text stands in double quotes"),
        ("{\"eventId\": }", (1, 13), "found }, expected a value: a text in double quotes, a number"),
        ("{'eventId': 1}", (1, 2), "found ', expected the name of a field in double quotes"),
        ("{\"eventId\": \"x\",}", (1, 17), "found } after a comma, expected one more field or value"),
        ("{\n\"eventId\": \"x\"\n \"publisher\": 1}", (3, 2), "found \"publisher\", expected `,` or `}`"),
        ("{\"eventId\" \"x\"}", (1, 12), "found \"x\", expected `:`"),
        ("{\"eventId\": \"a\nb\"}", (1, 15), "found a line break or another control character in a text"),
        ("{\"eventId\": \"x\"", (1, 15), "the text ends before the event does, expected a closing brace"),
        ("{} {}", (1, 4), "found {} after its end, expected nothing more (one event a line)"),
        ("{\"eventId\": 7}", (1, 13), "found 7, expected a text in double quotes"),
        ("{\"subjects\": {\"kind\": 1}}", (1, 14), "found an object, {...}, expected a list: [...]"),
        ("{\"handling\": [1]}", (1, 14), "found a list, [...], expected an object: {...}"),
        (
            "{\"handling\": {\"grossMassGrams\": \"he\\\"avy\"}}",
            (1, 33),
            "found \"he\\\"avy\", expected a whole number",
        ),
        (
            "{\"utcOffsetMinutes\": 99999999999}",
            (1, 22),
            "found 99999999999, expected a number within the field's range",
        ),
        ("{\"eventTime\": \"yesterday\"}", (1, 15), "found \"yesterday\", expected a time as RFC 3339 writes it"),
        ("{\"sources\": [{\"sha256\": \"***\"}]}", (1, 25), "found \"***\", expected bytes in base64"),
        ("{\"eventId\": \"Zürich\", \"eventtime\": 1}", (1, 24), "unknown field 'eventtime'; did you mean eventTime?"),
    ] {
        let error = read("Event", text).unwrap_err();
        if !error.reason.starts_with(words) || (error.line, error.column) != place {
            wrong.push(format!("{text}: {error:?}, not {place:?} {words:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let long = read("Event", &"x".repeat(1_000)).unwrap_err();
    assert_eq!(long.reason, format!("found {}…, expected an event: {{...}}", "x".repeat(40)));
    assert!(read("Event", "").unwrap_err().reason.starts_with("the text ends"));
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
