//! The hand-written messages are those of the descriptors: pinned against a decoder that reads the descriptors and nothing of ours.

use proptest::prelude::*;
use prost_reflect::{DynamicMessage, MessageDescriptor};

use super::*;
use crate::{testing::events::Voyage, wire::descriptors};

fn descriptor(name: &str) -> MessageDescriptor {
    descriptors().get_message_by_name(name).expect("a message of the API")
}

fn request() -> PublishRequest {
    let mut events: Vec<_> = Voyage::new(7, 0).events().iter().map(proto::Event::unsigned).collect();
    events[1].signature = Some(proto::Signature {
        key_id: "spiffe://maersk.example/line/maeu#1".into(),
        algorithm: "ed25519".into(),
        value: Bytes::from(vec![7; 64]),
    });
    PublishRequest { events, on_invalid: 2 }
}

#[test]
fn what_we_encode_is_what_the_descriptors_encode() {
    let ours = request().encode_to_vec();
    let theirs = DynamicMessage::decode(descriptor("tradelane.v1.PublishRequest"), &*ours).expect("ours is read by it");
    assert_eq!(theirs.encode_to_vec(), ours);
    assert_eq!(ours.len(), request().encoded_len());
    assert_eq!(PublishRequest::decode(&*ours).expect("ours is read by us"), request());
}

#[test]
fn an_event_in_pieces_is_the_pieces_joined() {
    let whole = Voyage::new(7, 0).discharged().encode_to_vec();
    let mut pieces = Vec::new();
    for piece in [&whole[..38], &whole[38..]] {
        bytes_field::encode(1, &piece.to_vec(), &mut pieces);
    }
    let ours = SignedEvent::decode(&*pieces).expect("pieces are read");
    assert_eq!(ours.event, whole);
    let theirs = DynamicMessage::decode(descriptor("tradelane.v1.SignedEvent"), &*pieces).expect("pieces are read");
    assert_eq!(theirs.encode_to_vec(), ours.encode_to_vec());
}

#[test]
fn a_million_empty_events_cost_a_thousand_entries() {
    let many = [0x0a, 0x00].repeat(1_000_000);
    let request = PublishRequest::decode(&*many).expect("it is well formed");
    assert_eq!(request.events.len(), EVENTS_PER_REQUEST_MAX + 1);
    let just = [0x0a, 0x00].repeat(EVENTS_PER_REQUEST_MAX);
    assert_eq!(PublishRequest::decode(&*just).expect("it is well formed").events.len(), EVENTS_PER_REQUEST_MAX);
}

#[test]
fn events_are_shared_with_what_was_received_and_not_copied() {
    let received = Bytes::from(request().encode_to_vec());
    let decoded = PublishRequest::decode(received.clone()).expect("it is well formed");
    let range = received.as_ptr_range();
    assert!(decoded.events.iter().all(|signed| range.contains(&signed.event.as_ptr())));
}

proptest! {
    #[test]
    fn what_one_reader_refuses_the_other_refuses_too(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        // The event's bytes are not looked into here, so a request that only the descriptors' reader refuses is one with a bad event.
        if DynamicMessage::decode(descriptor("tradelane.v1.PublishRequest"), &*bytes).is_ok() {
            prop_assert!(PublishRequest::decode(&*bytes).is_ok());
        }
    }
}
