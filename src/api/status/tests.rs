//! What a client sees of an error: code, reason, what to do, and never more than its trailers can hold.

use std::time::Duration;

use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::*;
use crate::{
    domain::{Epoch, Position, Sequence},
    subscribe::{EndReason, SessionEnd},
};

fn violation(field: &str, description: &str) -> Violation {
    Violation { field: field.into(), reason: "CHECK_DIGIT", description: description.into() }
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
