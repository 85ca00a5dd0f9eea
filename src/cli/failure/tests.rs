//! What a user reads when the node refuses.

use std::time::Duration;

use super::*;

#[test]
fn violations_are_told_field_by_field() {
    let mut details = ErrorDetails::new();
    details
        .add_bad_request_violation("events[3].subjects[0].value", "check digit of MSKU9070320 is 3, not 0")
        .add_bad_request_violation("events[4].audience", "must be set");
    let status = Status::with_error_details(Code::InvalidArgument, "2 of 5 events are invalid", details);
    let failure = Failure::from(status);
    assert_eq!(failure.code, ExitCode::Data);
    assert_eq!(
        failure.message,
        "2 of 5 events are invalid (INVALID_ARGUMENT)\n  events[3].subjects[0].value: check digit of MSKU9070320 is 3, not 0\n  \
         events[4].audience: must be set"
    );
}

#[test]
fn reason_facts_and_delay_are_told() {
    let mut details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1500)));
    details.set_error_info("QUOTA", "tradelane", [("resume_position".to_owned(), "7-42".to_owned())]);
    let failure = Failure::from(Status::with_error_details(Code::ResourceExhausted, "too slow", details));
    assert_eq!(failure.code, ExitCode::Unavailable);
    assert_eq!(
        failure.message,
        "too slow (RESOURCE_EXHAUSTED)\n  reason: QUOTA\n  resume position: 7-42\n  try again in 1.5 s"
    );
}

#[test]
fn a_status_inside_an_answer_reads_like_one_that_ends_a_call() {
    let details = ErrorDetails::with_bad_request_violation("events[0].event_id", "must be a UUID");
    let status = Status::with_error_details(Code::InvalidArgument, "refused", details);
    let inside: tonic_types::Status = prost::Message::decode(status.details()).unwrap();
    assert_eq!(describe_message(&inside), describe(&status));
    assert!(describe_message(&inside).contains("events[0].event_id: must be a UUID"));
}

#[test]
fn a_message_cannot_play_with_the_terminal() {
    let text = describe(&Status::not_found("\u{1b}[2Jgone"));
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn no_violation_is_told_twice() {
    let said = |message: &str, fields: &[(&str, &str)]| {
        let mut details = ErrorDetails::new();
        for (field, description) in fields {
            details.add_bad_request_violation(*field, *description);
        }
        describe(&Status::with_error_details(Code::InvalidArgument, message, details))
    };
    let (digit, audience) =
        (("events[3].subjects[0].value", "check digit is 3, not 0"), ("events[3].audience", "must be set"));
    assert_eq!(
        said("events[3].subjects[0].value: check digit is 3, not 0", &[digit]),
        "events[3].subjects[0].value: check digit is 3, not 0 (INVALID_ARGUMENT)"
    );
    assert_eq!(
        said("events[3].subjects[0].value: check digit is 3, not 0 (and 1 more)", &[digit, audience]),
        "several rules are broken (INVALID_ARGUMENT)\n  events[3].subjects[0].value: check digit is 3, not 0\n  \
         events[3].audience: must be set"
    );
    // A whole request refused for one event: the field says more than the event's number.
    assert_eq!(said("events[3]: must be set", &[audience]), "events[3].audience: must be set (INVALID_ARGUMENT)");
    // Another server's words stay.
    assert_eq!(said("bad", &[audience]), "bad (INVALID_ARGUMENT)\n  events[3].audience: must be set");
}
