//! Messages whose event bytes pass through as received. PLACEHOLDER in the skeleton: derive first, hand-written decode to follow.

use bytes::Bytes;

/// `tradelane.v1.SignedEvent` with the event left as bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SignedEvent {
    /// The encoded `Event`.
    #[prost(bytes = "bytes", tag = "1")]
    pub event: Bytes,
    /// The publisher's signature.
    #[prost(message, optional, tag = "2")]
    pub signature: Option<super::proto::Signature>,
}

/// `tradelane.v1.PublishRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PublishRequest {
    /// The events.
    #[prost(message, repeated, tag = "1")]
    pub events: Vec<SignedEvent>,
    /// `OnInvalid`.
    #[prost(enumeration = "super::proto::OnInvalid", tag = "2")]
    pub on_invalid: i32,
}
