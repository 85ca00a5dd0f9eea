//! Small pieces of the messages between nodes. They never decide anything.

use prost_types::Timestamp;
use tonic::{Code, Status};

use super::{position::LinkPosition, progress::Quarantined};
use crate::wire::{
    ReplicaBatch,
    proto::{
        EventQuarantined, ReplicateRequest, ReplicateResponse, ReplicationAcknowledgement, ReplicationCredit,
        ReplicationEnd, ReplicationEndReason, SourceHello, replicate_request, replicate_response,
    },
};

const SECOND_NS: i64 = 1_000_000_000;

/// A time of ours as protobuf has it.
#[must_use]
pub fn timestamp(time_ns: i64) -> Timestamp {
    Timestamp { seconds: time_ns.div_euclid(SECOND_NS), nanos: time_ns.rem_euclid(SECOND_NS) as i32 }
}

/// A time of protobuf as ours, nanoseconds since 1970; none where it is malformed or beyond what 64 bits hold.
#[must_use]
pub fn time_ns(time: &Timestamp) -> Option<i64> {
    if !(0..1_000_000_000).contains(&time.nanos) {
        return None;
    }
    time.seconds.checked_mul(SECOND_NS)?.checked_add(i64::from(time.nanos))
}

/// The source's first message.
#[must_use]
pub fn source_hello(hello: SourceHello) -> ReplicateResponse {
    ReplicateResponse { message: Some(replicate_response::Message::Hello(hello)) }
}

/// A batch.
#[must_use]
pub fn batch(batch: ReplicaBatch) -> ReplicateResponse {
    ReplicateResponse { message: Some(replicate_response::Message::Batch(batch)) }
}

/// The source ends the stream.
#[must_use]
pub fn source_end(reason: ReplicationEndReason, detail: impl Into<String>) -> ReplicateResponse {
    ReplicateResponse { message: Some(replicate_response::Message::End(end(reason, detail))) }
}

/// The receiver ends the stream.
#[must_use]
pub fn receiver_end(reason: ReplicationEndReason, detail: impl Into<String>) -> ReplicateRequest {
    ReplicateRequest { message: Some(replicate_request::Message::End(end(reason, detail))) }
}

/// More to send.
#[must_use]
pub fn credit(bytes: u64) -> ReplicateRequest {
    ReplicateRequest { message: Some(replicate_request::Message::Credit(ReplicationCredit { bytes })) }
}

/// What is durable here.
#[must_use]
pub fn acknowledgement(position: &LinkPosition) -> ReplicateRequest {
    let position = Some(position.message());
    ReplicateRequest {
        message: Some(replicate_request::Message::Acknowledgement(ReplicationAcknowledgement { position })),
    }
}

/// What was not taken.
#[must_use]
pub fn quarantined(event: &Quarantined) -> ReplicateRequest {
    let message = EventQuarantined {
        source_sequence: event.source_sequence,
        publisher: event.publisher.clone(),
        event_id: event.event_id.clone(),
        reason: event.reason.clone(),
        detail: event.detail.clone(),
        time: Some(timestamp(event.time_ns)),
    };
    ReplicateRequest { message: Some(replicate_request::Message::Quarantined(message)) }
}

/// Reads what the other side did not take; its texts are cut to what a person can read.
#[must_use]
pub fn read_quarantined(message: EventQuarantined) -> Quarantined {
    const TEXT_CHARACTERS_MAX: usize = 512;
    let cut = |text: String| text.chars().take(TEXT_CHARACTERS_MAX).collect();
    Quarantined {
        source_sequence: message.source_sequence,
        publisher: cut(message.publisher),
        event_id: cut(message.event_id),
        reason: cut(message.reason),
        detail: cut(message.detail),
        time_ns: message.time.as_ref().and_then(time_ns).unwrap_or_default(),
        before: None,
    }
}

/// What a broken stream says, in words for the operator.
#[must_use]
pub fn status_in_words(status: &Status) -> String {
    let mut words = match status.code() {
        Code::PermissionDenied => format!("the node refuses us: {}", status.message()),
        Code::OutOfRange => format!("a frame is larger than any may be: {}", status.message()),
        code => format!("{code:?}: {}", status.message()),
    };
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        words = format!("{words}: {error}");
        source = error.source();
    }
    words
}

fn end(reason: ReplicationEndReason, detail: impl Into<String>) -> ReplicationEnd {
    ReplicationEnd { reason: reason.into(), detail: detail.into() }
}
