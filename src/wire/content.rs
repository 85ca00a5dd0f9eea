//! Whether two publications of one event id say the same. Languages serialise the same event differently, and gateways stamp it anew; so
//! where bytes differ the decoded content decides, with `created_time` left out, and the digests of the messages that it was derived from:
//! a message sent again has another time in its header, or another comment, and says the same. It never decides which of the two is kept.
//!
//! The event's bytes alone count, not the signature: signing the same statement again, with another key or for the first time, makes no
//! other statement. Unknown fields count as content, at whatever depth: a newer publisher may have put there what matters.

use prost::Message;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, Value};

use super::{SignedEvent, descriptors, proto::Event};

/// Whether two encoded `SignedEvent`s carry the same event, but for `created_time` and `sources[].sha256`. Bytes that cannot be decoded
/// equal only themselves.
#[must_use]
pub fn content_equal(signed_a: &[u8], signed_b: &[u8]) -> bool {
    if signed_a == signed_b {
        return true;
    }
    let (Ok(a), Ok(b)) = (SignedEvent::decode(signed_a), SignedEvent::decode(signed_b)) else { return false };
    if a.event == b.event {
        return true;
    }
    let (Some(known_a), Some(known_b)) = (known_content(&a.event), known_content(&b.event)) else { return false };
    known_a == known_b && unknown_content(&a.event) == unknown_content(&b.event)
}

fn known_content(event: &[u8]) -> Option<Event> {
    let mut content = Event { created_time: None, ..Event::decode(event).ok()? };
    // Which message it was (its standard and its own id) counts; how that message was written does not.
    content.sources.iter_mut().for_each(|source| source.sha256.clear());
    Some(content)
}

/// An unknown field: where it stands, its number, and its encoded form.
type UnknownContent = (Vec<u32>, u32, Vec<u8>);

/// Every unknown field with where it stands: sorted by place and number, and in the order received among those of one number, since the
/// order of different fields says nothing and that of repeated ones does.
fn unknown_content(event: &[u8]) -> Option<Vec<UnknownContent>> {
    let descriptor: MessageDescriptor = descriptors().get_message_by_name("tradelane.v1.Event")?;
    let message = DynamicMessage::decode(descriptor, event).ok()?;
    let mut found = Vec::new();
    collect(&message, &mut Vec::new(), &mut found);
    found.sort_by(|(place_a, number_a, _), (place_b, number_b, _)| (place_a, number_a).cmp(&(place_b, number_b)));
    Some(found)
}

/// A place is the numbers of the fields on the way down, each with the index of the element where the field is repeated.
fn collect(message: &DynamicMessage, place: &mut Vec<u32>, found: &mut Vec<UnknownContent>) {
    for unknown in message.unknown_fields() {
        let mut bytes = Vec::new();
        unknown.encode(&mut bytes);
        found.push((place.clone(), unknown.number(), bytes));
    }
    for (field, value) in message.fields().filter(|(field, _)| matches!(field.kind(), Kind::Message(_))) {
        let values = match value {
            Value::List(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        for (index, value) in (0..).zip(values) {
            let Value::Message(inner) = value else { continue };
            place.extend([field.number(), index]);
            collect(inner, place, found);
            place.truncate(place.len() - 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::encoding::{WireType, encode_key, encode_varint};

    use super::*;
    use crate::{
        testing::events::Voyage,
        wire::proto::{Signature, Source},
    };

    fn signed(event: Vec<u8>) -> Vec<u8> {
        SignedEvent { event: Bytes::from(event), signature: None }.encode_to_vec()
    }

    fn original() -> Event {
        Voyage::new(1, 1_767_225_600_000_000_000).discharged()
    }

    /// The top-level fields of an encoded message, each with its key.
    fn fields(bytes: &[u8]) -> Vec<Vec<u8>> {
        let descriptor = descriptors().get_message_by_name("tradelane.v1.Event").expect("the event");
        let message = DynamicMessage::decode(descriptor.clone(), bytes).expect("an event");
        let one = |(field, value): (prost_reflect::FieldDescriptor, &Value)| {
            let mut alone = DynamicMessage::new(descriptor.clone());
            alone.set_field(&field, value.clone());
            alone.encode_to_vec()
        };
        message.fields().map(one).collect()
    }

    #[test]
    fn the_order_of_fields_says_nothing() {
        let event = original().encode_to_vec();
        let reversed: Vec<u8> = fields(&event).into_iter().rev().flatten().collect();
        assert_ne!(event, reversed);
        assert!(content_equal(&signed(event), &signed(reversed)));
    }

    #[test]
    fn longer_varints_and_written_defaults_say_nothing() {
        let event = Event { classifier: 0, ..original() }.encode_to_vec();
        let mut longer = event.clone();
        // time_precision and mode, written out as zero; the second in three bytes where one would do.
        longer.extend([0x20, 0x00, 0x60, 0x80, 0x80, 0x00]);
        let classified = |bytes: [u8; 3]| [event.as_slice(), &[0x38], &bytes[..]].concat();
        assert!(content_equal(&signed(event.clone()), &signed(longer)));
        let minimal = [event.as_slice(), &[0x38, 0x04]].concat();
        assert!(content_equal(&signed(minimal.clone()), &signed(classified([0x84, 0x80, 0x00]))));
        assert!(!content_equal(&signed(minimal), &signed(classified([0x83, 0x80, 0x00]))));
    }

    #[test]
    fn when_it_was_created_and_who_signed_it_says_nothing() {
        let event = original();
        let stamped = Event { created_time: None, ..event.clone() };
        assert!(content_equal(&signed(event.encode_to_vec()), &signed(stamped.encode_to_vec())));
        let signature = Some(Signature { key_id: "k".into(), ..Signature::default() });
        let with = SignedEvent { event: Bytes::from(event.encode_to_vec()), signature }.encode_to_vec();
        assert!(content_equal(&signed(event.encode_to_vec()), &with));
    }

    #[test]
    fn how_its_source_was_written_says_nothing_but_which_source_it_was_does() {
        let from = |message_id: &str, sha256: &'static [u8]| {
            let source = Source {
                standard: "WCO:DM:3.6:RES".into(),
                message_id: message_id.into(),
                sha256: Bytes::from_static(sha256),
            };
            signed(Event { sources: vec![source], ..original() }.encode_to_vec())
        };
        assert!(content_equal(&from("RES-1", &[1; 32]), &from("RES-1", &[2; 32])));
        assert!(content_equal(&from("RES-1", &[1; 32]), &from("RES-1", &[])));
        assert!(!content_equal(&from("RES-1", &[1; 32]), &from("RES-2", &[1; 32])));
        assert!(!content_equal(&from("RES-1", &[1; 32]), &signed(original().encode_to_vec())));
    }

    #[test]
    fn whatever_else_differs_is_another_content() {
        let event = original();
        let mut later = event.clone();
        later.event_time.as_mut().expect("it has a time").seconds += 1;
        let mut swapped = event.clone();
        swapped.subjects.swap(0, 1);
        for other in
            [later, swapped, Event { body: None, ..event.clone() }, Event { utc_offset_minutes: None, ..event.clone() }]
        {
            assert!(!content_equal(&signed(event.encode_to_vec()), &signed(other.encode_to_vec())));
        }
        assert!(!content_equal(&signed(event.encode_to_vec()), &signed(vec![0xff])));
    }

    #[test]
    fn unknown_fields_are_content_but_not_their_order() {
        let unknown = |number: u32, value: u64| {
            let mut bytes = Vec::new();
            encode_key(number, WireType::Varint, &mut bytes);
            encode_varint(value, &mut bytes);
            bytes
        };
        let event = original().encode_to_vec();
        let with = |extra: &[Vec<u8>]| signed([event.clone(), extra.concat()].concat());
        assert!(!content_equal(&signed(event.clone()), &with(&[unknown(900, 1)])));
        assert!(!content_equal(&with(&[unknown(900, 2)]), &with(&[unknown(900, 1)])));
        assert!(content_equal(&with(&[unknown(900, 1), unknown(901, 2)]), &with(&[unknown(901, 2), unknown(900, 1)])));
        assert!(!content_equal(&with(&[unknown(900, 1), unknown(900, 2)]), &with(&[unknown(900, 2), unknown(900, 1)])));
        // Inside a subject, which is a second message of the same field.
        let nested = |value: u64| {
            let inner = unknown(900, value);
            let mut bytes = Vec::new();
            encode_key(8, WireType::LengthDelimited, &mut bytes);
            encode_varint(inner.len() as u64, &mut bytes);
            bytes.extend(inner);
            bytes
        };
        assert!(content_equal(&with(&[nested(1)]), &with(&[nested(1)])));
        assert!(!content_equal(&with(&[nested(1)]), &with(&[nested(2)])));
    }
}
