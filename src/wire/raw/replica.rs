//! `tradelane.v1.ReplicaBatch`, hand-written for one reason: it counts its events while decoding, so that a frame of two million empty
//! events costs no more memory than its bytes.

use bytes::{Buf, BufMut};
use prost::{
    DecodeError, Message, Name,
    encoding::{DecodeContext, WireType, message, skip_field, string, uint64},
};

use super::merge_counted;
use crate::wire::proto;

/// The most events of one batch: what one commit of the receiver's log takes easily.
pub const EVENTS_PER_BATCH_MAX: usize = 500;

/// `tradelane.v1.ReplicaBatch`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReplicaBatch {
    /// It covers the source's log after this sequence.
    pub after_sequence: u64,
    /// And up to this place.
    pub through: Option<proto::LinkPosition>,
    /// The events. A decoded batch with more than [`EVENTS_PER_BATCH_MAX`] has exactly one more here; the rest was not kept.
    pub events: Vec<proto::ReplicatedEvent>,
    /// The last sequence of the source's log.
    pub head_sequence: u64,
    /// The nodes of which the receiver is sent every clearance, hold and association. A decoded batch holds at most
    /// [`WHOLE_ORIGINS_MAX`]; the rest was not kept, which only makes the receiver more careful.
    pub whole_origins: Vec<String>,
}

/// The most nodes that a batch names as sent wholly: as many as a peers file holds.
pub const WHOLE_ORIGINS_MAX: usize = 64;

mod tag {
    pub const AFTER_SEQUENCE: u32 = 1;
    pub const THROUGH: u32 = 2;
    pub const EVENTS: u32 = 3;
    pub const HEAD_SEQUENCE: u32 = 4;
    pub const WHOLE_ORIGINS: u32 = 5;
}

impl Message for ReplicaBatch {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        if self.after_sequence != 0 {
            uint64::encode(tag::AFTER_SEQUENCE, &self.after_sequence, buf);
        }
        if let Some(through) = &self.through {
            message::encode(tag::THROUGH, through, buf);
        }
        for event in &self.events {
            message::encode(tag::EVENTS, event, buf);
        }
        if self.head_sequence != 0 {
            uint64::encode(tag::HEAD_SEQUENCE, &self.head_sequence, buf);
        }
        string::encode_repeated(tag::WHOLE_ORIGINS, &self.whole_origins, buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            tag::AFTER_SEQUENCE => uint64::merge(wire_type, &mut self.after_sequence, buf, ctx),
            tag::THROUGH => message::merge(wire_type, self.through.get_or_insert_default(), buf, ctx),
            tag::EVENTS => merge_counted::<_, EVENTS_PER_BATCH_MAX>(&mut self.events, tag, wire_type, buf, ctx),
            tag::HEAD_SEQUENCE => uint64::merge(wire_type, &mut self.head_sequence, buf, ctx),
            tag::WHOLE_ORIGINS if self.whole_origins.len() < WHOLE_ORIGINS_MAX => {
                string::merge_repeated(wire_type, &mut self.whole_origins, buf, ctx)
            }
            _ => skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        let number = |tag, value: &u64| if *value == 0 { 0 } else { uint64::encoded_len(tag, value) };
        number(tag::AFTER_SEQUENCE, &self.after_sequence)
            + self.through.as_ref().map_or(0, |through| message::encoded_len(tag::THROUGH, through))
            + message::encoded_len_repeated(tag::EVENTS, &self.events)
            + number(tag::HEAD_SEQUENCE, &self.head_sequence)
            + string::encoded_len_repeated(tag::WHOLE_ORIGINS, &self.whole_origins)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Name for ReplicaBatch {
    const NAME: &'static str = "ReplicaBatch";
    const PACKAGE: &'static str = "tradelane.v1";
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost_reflect::DynamicMessage;

    use super::*;
    use crate::{testing::events::Voyage, wire::descriptors};

    #[test]
    fn what_we_encode_is_what_the_descriptors_encode() {
        let event = |signed| proto::ReplicatedEvent {
            signed: Some(signed),
            via: vec!["spiffe://exchange.gov.pk/node/khi-1".into()],
            source_sequence: 7,
            ..proto::ReplicatedEvent::default()
        };
        let batch = ReplicaBatch {
            after_sequence: 5,
            through: Some(proto::LinkPosition {
                epoch: "e".into(),
                sequence: 9,
                chain_hash: Bytes::from_static(&[3; 32]),
            }),
            events: Voyage::new(7, 0).events().iter().map(|one| event(one.unsigned())).collect(),
            head_sequence: 11,
            whole_origins: vec!["spiffe://exchange.gov.pk/node/khi-1".into(), "spiffe://exchange.cl/node/vlp-1".into()],
        };
        let ours = batch.encode_to_vec();
        assert_eq!(ours.len(), batch.encoded_len());
        let descriptor = descriptors().get_message_by_name("tradelane.v1.ReplicaBatch").expect("described");
        let theirs = DynamicMessage::decode(descriptor, &*ours).expect("ours is read by it");
        assert_eq!(theirs.encode_to_vec(), ours);
        assert_eq!(ReplicaBatch::decode(&*ours).expect("ours is read by us"), batch);
    }

    #[test]
    fn a_million_empty_events_cost_five_hundred_entries() {
        let many = [0x1a, 0x00].repeat(1_000_000);
        let batch = ReplicaBatch::decode(&*many).expect("well formed");
        assert_eq!(batch.events.len(), EVENTS_PER_BATCH_MAX + 1);
    }
}
