//! `tradelane.v1.EventBatch`, hand-written for one reason: a node writes the events of a batch from the log's bytes as they are, without
//! making a message of each first. It never looks into an event.

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message, Name,
    encoding::{DecodeContext, WireType, message, skip_field},
};

use crate::wire::proto;

/// The number of the field that holds the events.
pub const EVENTS_TAG: u32 = 1;

/// `tradelane.v1.EventBatch`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EventBatch {
    /// The events, as a reader has them.
    pub events: Vec<proto::RecordedEvent>,
    /// Events after these, as a writer has them: encoded, each as a field [`EVENTS_TAG`]. Empty in what was decoded.
    pub encoded: Bytes,
}

impl Message for EventBatch {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        for event in &self.events {
            message::encode(EVENTS_TAG, event, buf);
        }
        buf.put_slice(&self.encoded);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            EVENTS_TAG => message::merge_repeated(wire_type, &mut self.events, buf, ctx),
            _ => skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        message::encoded_len_repeated(EVENTS_TAG, &self.events) + self.encoded.len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Name for EventBatch {
    const NAME: &'static str = "EventBatch";
    const PACKAGE: &'static str = "tradelane.v1";
}
