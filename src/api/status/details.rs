//! A refusal as bytes: google.rpc.Status with `ErrorInfo`, `BadRequest` and `RetryInfo`. The status of a call travels in HTTP/2 trailers, whose
//! size clients limit (8 KiB by default in gRPC C-core and Java), so there the details are cut; inside a message they are whole.

use std::collections::HashMap;

use prost::Message;
use prost_types::Any;
use tonic_types::pb::{BadRequest, ErrorInfo, RetryInfo, bad_request::FieldViolation};

use super::Refused;
use crate::wire::violations::ERROR_DOMAIN;

/// The details of a call's status in bytes, before base64 adds a third: together with the message and the other trailers they stay below
/// 8 KiB.
const TRAILER_DETAILS_BYTES_MAX: usize = 4_096;

/// The message of a call's status in bytes; percent-encoding may make it longer.
const TRAILER_MESSAGE_BYTES_MAX: usize = 512;

/// At most so many violations stand in a status inside a message: 32 for each of a few dozen bad events tell enough, and a full request of
/// bad ones could otherwise be answered by a hundred times its size.
const VIOLATIONS_MAX: usize = 1_024;

impl Refused {
    /// The status as it stands inside a message.
    #[must_use]
    pub fn into_rpc(self) -> tonic_types::Status {
        self.encode_with(usize::MAX)
    }

    fn encode_with(self, details_bytes_max: usize) -> tonic_types::Status {
        let Self { code, reason, message, metadata, violations, retry_after } = self;
        let retry = retry_after.map(|delay| RetryInfo { retry_delay: prost_types::Duration::try_from(delay).ok() });
        let total = violations.len();
        // What the other details take is small and known; room for it is kept.
        let mut room = details_bytes_max.saturating_sub(1_024);
        let field_violations: Vec<FieldViolation> = violations
            .into_iter()
            .take(VIOLATIONS_MAX)
            .map(|violation| FieldViolation {
                field: violation.field,
                description: violation.description,
                reason: violation.reason.to_owned(),
                ..FieldViolation::default()
            })
            .take_while(|violation| {
                let fits = violation.encoded_len() + 4 <= room;
                room = room.saturating_sub(violation.encoded_len() + 4);
                fits
            })
            .collect();
        let mut metadata: HashMap<String, String> =
            metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        if field_violations.len() < total {
            metadata.insert("violations_omitted".into(), (total - field_violations.len()).to_string());
        }
        let info = ErrorInfo { reason: reason.to_owned(), domain: ERROR_DOMAIN.to_owned(), metadata };
        let mut details = vec![any("google.rpc.ErrorInfo", &info)];
        if !field_violations.is_empty() {
            details.push(any("google.rpc.BadRequest", &BadRequest { field_violations }));
        }
        if let Some(retry) = retry {
            details.push(any("google.rpc.RetryInfo", &retry));
        }
        tonic_types::Status { code: code.into(), message, details }
    }
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

impl From<Refused> for tonic::Status {
    fn from(mut refused: Refused) -> Self {
        if TRAILER_MESSAGE_BYTES_MAX < refused.message.len() {
            let end =
                (0..=TRAILER_MESSAGE_BYTES_MAX).rev().find(|at| refused.message.is_char_boundary(*at)).unwrap_or(0);
            refused.message.truncate(end);
            refused.message.push_str(" ...");
        }
        let code = refused.code;
        let status = refused.encode_with(TRAILER_DETAILS_BYTES_MAX);
        Self::with_details(code, status.message.clone(), status.encode_to_vec().into())
    }
}
