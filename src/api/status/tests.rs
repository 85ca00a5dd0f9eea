//! What a client sees of an error: code, reason, what to do, and never more than its trailers can hold.

use std::time::Duration;

use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::*;
use crate::{
    domain::{Epoch, EventId, Position, Sequence},
    identity::Action,
    log::{AppendError, Refusal},
    publish::{Denial, EventFault, PublishError, RejectedEvent},
    subscribe::{EndReason, SessionEnd},
};

fn violation(field: &str, description: &str) -> Violation {
    Violation { field: field.into(), reason: "CHECK_DIGIT", description: description.into() }
}

fn rejected(index: usize, fault: EventFault) -> RejectedEvent {
    RejectedEvent { index, event_id: format!("id-{index}"), fault }
}

#[test]
fn every_violation_is_told_with_its_field_and_a_program_finds_the_reason() {
    let fault = EventFault::Invalid(vec![
        violation("events[3].subjects[0].value", "check digit of MSKU9070320 is 3, not 0"),
        violation("events[3].places", "must not be empty"),
    ]);
    let status = Status::from(Refused::from(PublishError::Rejected(vec![rejected(3, fault)])));
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "events[3].subjects[0].value: check digit of MSKU9070320 is 3, not 0 (and 1 more)");
    let details = status.get_error_details();
    let info = details.error_info().expect("always there");
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_EVENT", "tradelane"));
    let fields: Vec<_> =
        details.bad_request().expect("violations").field_violations.iter().map(|one| one.field.as_str()).collect();
    assert_eq!(fields, ["events[3].subjects[0].value", "events[3].places"]);
}

#[test]
fn a_mixed_request_is_first_told_what_it_can_mend_alone_and_each_event_is_named() {
    let events = vec![
        rejected(0, EventFault::Refused(Refusal::RevisedEventUnknown)),
        rejected(1, EventFault::Denied(Denial::NotGranted(Action::Share))),
        rejected(2, EventFault::Denied(Denial::PublisherMismatch)),
    ];
    let refused = Refused::from(PublishError::Rejected(events));
    assert_eq!((refused.code, refused.reason), (Code::PermissionDenied, "NOT_GRANTED"));
    assert!(refused.metadata.contains(&("action", "share".into())), "{refused:?}");
    assert!(refused.metadata.contains(&("event_index", "1".into())), "{refused:?}");
    let fields: Vec<_> = refused.violations.iter().map(|one| one.field.as_str()).collect();
    assert_eq!(fields, ["events[0].revision.event_id", "events[1]", "events[2].publisher"]);
}

#[test]
fn each_refusal_of_the_log_has_its_code() {
    let id = EventId::from_bytes([7; 16]);
    for (refusal, code, reason) in [
        (Refusal::EventIdConflict { first: Sequence(1) }, Code::AlreadyExists, "EVENT_ID_CONFLICT"),
        (Refusal::RevisedEventUnknown, Code::NotFound, "REVISED_EVENT_UNKNOWN"),
        (Refusal::RevisionConflict { head: id }, Code::Aborted, "REVISION_CONFLICT"),
        (Refusal::RevisedOften { later: id }, Code::Aborted, "REVISED_OFTEN"),
        (Refusal::AlreadyRetracted { by: id }, Code::FailedPrecondition, "EVENT_RETRACTED"),
        (Refusal::TooManyUnresolved, Code::FailedPrecondition, "REVISIONS_UNRESOLVED"),
        (Refusal::RevisionTooLarge { bytes: 2, bytes_max: 1 }, Code::FailedPrecondition, "REVISION_TOO_LARGE"),
    ] {
        let refused = Refused::from(refusal);
        assert_eq!((refused.code, refused.reason), (code, reason));
    }
    let conflict = Refused::from(Refusal::RevisionConflict { head: id });
    assert!(conflict.metadata.contains(&("head_event_id", id.to_string())));
}

#[test]
fn shortages_say_when_to_come_again() {
    for error in [AppendError::Overloaded, AppendError::DiskFull { free_bytes: 1, limit_bytes: 2 }] {
        let status = Status::from(Refused::from(error));
        assert_eq!(status.code(), Code::ResourceExhausted);
        let retry = status.get_error_details().retry_info().and_then(|retry| retry.retry_delay);
        assert!(retry.is_some_and(|delay| Duration::ZERO < delay));
    }
    assert_eq!(Refused::from(AppendError::Closing).code, Code::Unavailable);
}

#[test]
fn however_a_session_ends_it_says_where_to_go_on() {
    let resume = Position { epoch: Epoch(uuid::Uuid::from_u128(5)), sequence: Sequence(77) };
    for (reason, code) in [
        (EndReason::RightsChanged, Code::Aborted),
        (EndReason::RightsWithdrawn, Code::PermissionDenied),
        (EndReason::CertificateEnded, Code::Unauthenticated),
        (EndReason::Draining, Code::Unavailable),
        (EndReason::ReaderStalled { stalled_max: Duration::from_secs(60) }, Code::ResourceExhausted),
        (EndReason::Log(LogError::Damaged("block 7 at /data".into())), Code::DataLoss),
        (EndReason::Broken, Code::Internal),
    ] {
        let status = Status::from(Refused::from(SessionEnd { reason, resume }));
        assert_eq!(status.code(), code);
        assert!(!status.message().contains("/data"), "our files are nobody's business");
        let details = status.get_error_details();
        let info = details.error_info().expect("always there");
        assert_eq!(info.metadata.get("resume_position"), Some(&resume.to_string()));
    }
}

#[test]
fn a_calls_status_fits_into_trailers_and_says_what_it_leaves_out() {
    let many: Vec<Violation> =
        (0..3_000).map(|index| violation(&format!("events[{index}].event_id"), &"é".repeat(400))).collect();
    let status = Status::from(Refused::invalid(many.clone()));
    assert!(status.details().len() <= 4_096, "{}", status.details().len());
    assert!(status.message().len() <= 520);
    let details = status.get_error_details();
    let told = details.bad_request().expect("some").field_violations.len();
    let info = details.error_info().expect("always there");
    assert_eq!(info.metadata.get("violations_omitted"), Some(&(3_000 - told).to_string()));

    let inside = Refused::invalid(many).into_rpc();
    let bad_request = inside.details.iter().find(|any| any.type_url.ends_with("BadRequest")).expect("violations");
    let bad_request = tonic_types::pb::BadRequest::decode(bad_request.value.as_slice()).expect("decodable");
    assert_eq!(bad_request.field_violations.len(), 1_024);
}
