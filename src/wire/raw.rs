//! Messages whose event bytes pass through as received: hand-written, wire-compatible with `tradelane.v1.SignedEvent` and
//! `tradelane.v1.PublishRequest`. They never look into an event, so that unknown fields and signatures survive.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{
    DecodeError, Message, Name,
    encoding::{DecodeContext, WireType, bytes as bytes_field, int32, message, skip_field},
};

use super::proto;

mod batch;
mod replica;

pub use batch::{EVENTS_TAG, EventBatch};
pub use replica::{EVENTS_PER_BATCH_MAX, ReplicaBatch, WHOLE_ORIGINS_MAX};

/// The most events of one request. A 4 MiB request could hold two million empty events: no more than one beyond this is kept while
/// decoding, so that the publish door sees that there were too many and a request costs no more memory than its bytes.
pub const EVENTS_PER_REQUEST_MAX: usize = 1_000;

/// `tradelane.v1.SignedEvent` with the event left as bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SignedEvent {
    /// The encoded `Event`, exactly as its publisher sent it.
    pub event: Bytes,
    /// The publisher's signature over these bytes.
    pub signature: Option<proto::Signature>,
}

/// `tradelane.v1.PublishRequest`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PublishRequest {
    /// The events. A decoded request with more than [`EVENTS_PER_REQUEST_MAX`] has exactly one more here; the rest was not kept.
    pub events: Vec<SignedEvent>,
    /// `OnInvalid`.
    pub on_invalid: i32,
}

mod tag {
    pub const EVENT: u32 = 1;
    pub const SIGNATURE: u32 = 2;
    pub const EVENTS: u32 = 1;
    pub const ON_INVALID: u32 = 2;
}

impl Message for SignedEvent {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        if !self.event.is_empty() {
            bytes_field::encode(tag::EVENT, &self.event, buf);
        }
        if let Some(signature) = &self.signature {
            message::encode(tag::SIGNATURE, signature, buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            tag::EVENT if self.event.is_empty() => bytes_field::merge(wire_type, &mut self.event, buf, ctx),
            // A message that comes in several pieces is the pieces joined, by protobuf's rules: every reader must see the same event.
            tag::EVENT => {
                let mut piece = Bytes::new();
                bytes_field::merge(wire_type, &mut piece, buf, ctx)?;
                let mut joined = BytesMut::with_capacity(self.event.len() + piece.len());
                joined.extend_from_slice(&self.event);
                joined.extend_from_slice(&piece);
                self.event = joined.freeze();
                Ok(())
            }
            tag::SIGNATURE => message::merge(wire_type, self.signature.get_or_insert_default(), buf, ctx),
            _ => skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        let event = if self.event.is_empty() { 0 } else { bytes_field::encoded_len(tag::EVENT, &self.event) };
        event + self.signature.as_ref().map_or(0, |signature| message::encoded_len(tag::SIGNATURE, signature))
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Message for PublishRequest {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        for event in &self.events {
            message::encode(tag::EVENTS, event, buf);
        }
        if self.on_invalid != 0 {
            int32::encode(tag::ON_INVALID, &self.on_invalid, buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            tag::EVENTS => merge_counted::<_, EVENTS_PER_REQUEST_MAX>(&mut self.events, tag, wire_type, buf, ctx),
            tag::ON_INVALID => int32::merge(wire_type, &mut self.on_invalid, buf, ctx),
            _ => skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        let on_invalid = if self.on_invalid == 0 { 0 } else { int32::encoded_len(tag::ON_INVALID, &self.on_invalid) };
        message::encoded_len_repeated(tag::EVENTS, &self.events) + on_invalid
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Adds an item to a list, which keeps one beyond `MAX` and no more: whoever looks at it sees that there were too many, and a message costs
/// no more memory than its bytes.
fn merge_counted<M: Message + Default, const MAX: usize>(
    items: &mut Vec<M>,
    tag: u32,
    wire_type: WireType,
    buf: &mut impl Buf,
    ctx: DecodeContext,
) -> Result<(), DecodeError> {
    if items.len() <= MAX {
        message::merge_repeated(wire_type, items, buf, ctx)
    } else {
        skip_field(wire_type, tag, buf, ctx)
    }
}

impl Name for SignedEvent {
    const NAME: &'static str = "SignedEvent";
    const PACKAGE: &'static str = "tradelane.v1";
}

impl Name for PublishRequest {
    const NAME: &'static str = "PublishRequest";
    const PACKAGE: &'static str = "tradelane.v1";
}

#[cfg(test)]
mod tests;
