//! Finds what this program does not know inside filters. A field or enum value that is passed over would widen a filter, so a request
//! that has one is refused; in events unknown fields are kept, and anywhere else they are ignored as protobuf says.

use std::{collections::HashSet, sync::LazyLock};

use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage, Value};

use super::{descriptors, violations::Violation};

/// The message that may carry nothing unknown, with all that stands in it.
const FILTER: &str = "tradelane.v1.EventFilter";

/// At most so many violations are named: they travel in trailers, of which clients take 8 KiB, and a small request can hold thousands.
const VIOLATIONS_MAX: usize = 16;

/// Messages of requests that can hold a filter, at whatever depth.
static WITH_FILTERS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let requests = descriptors().all_messages().filter(|message| message.name().ends_with("Request"));
    requests
        .filter(|message| holds_filter(message, &mut HashSet::new()))
        .map(|message| message.full_name().to_owned())
        .collect()
});

fn holds_filter(message: &MessageDescriptor, seen: &mut HashSet<String>) -> bool {
    message.full_name() == FILTER
        || (seen.insert(message.full_name().to_owned())
            && message.fields().any(|field| matches!(field.kind(), Kind::Message(inner) if holds_filter(&inner, seen))))
}

/// Whether a message is a request that can hold a filter. Answers never are: a client takes what a newer node tells.
#[must_use]
pub fn is_checked(full_name: &str) -> bool {
    WITH_FILTERS.contains(full_name)
}

/// What a received request has inside its filters that this program does not know.
///
/// # Errors
/// The unknown fields and enum values, each with its path, at most [`VIOLATIONS_MAX`]; or the message itself, where it cannot be read.
pub fn check(full_name: &str, bytes: &[u8]) -> Result<(), Vec<Violation>> {
    let Some(descriptor) = descriptors().get_message_by_name(full_name) else { return Ok(()) };
    let message = DynamicMessage::decode(descriptor, bytes).map_err(|error| vec![malformed(&error.to_string())])?;
    let mut violations = Vec::new();
    walk(&message, "", false, &mut violations);
    violations.truncate(VIOLATIONS_MAX);
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

/// The violation of a message that is no protobuf of its type.
#[must_use]
pub fn malformed(error: &str) -> Violation {
    Violation { field: String::new(), reason: "MESSAGE_MALFORMED", description: error.to_owned() }
}

fn walk(message: &DynamicMessage, path: &str, in_filter: bool, violations: &mut Vec<Violation>) {
    if violations.len() >= VIOLATIONS_MAX {
        return;
    }
    let in_filter = in_filter || message.descriptor().full_name() == FILTER;
    if in_filter {
        violations.extend(message.unknown_fields().take(VIOLATIONS_MAX).map(|unknown| Violation {
            field: path.to_owned(),
            reason: "FIELD_UNKNOWN",
            description: format!(
                "has field {} that this node does not know; ignoring it would widen the filter",
                unknown.number()
            ),
        }));
    }
    for (field, value) in message.fields() {
        let below = if path.is_empty() { field.name().to_owned() } else { format!("{path}.{}", field.name()) };
        match value {
            Value::List(values) => {
                for (index, value) in values.iter().enumerate() {
                    walk_value(&field.kind(), value, &format!("{below}[{index}]"), in_filter, violations);
                }
            }
            value => walk_value(&field.kind(), value, &below, in_filter, violations),
        }
    }
}

fn walk_value(kind: &Kind, value: &Value, path: &str, in_filter: bool, violations: &mut Vec<Violation>) {
    match (kind, value) {
        (_, Value::Message(message)) => walk(message, path, in_filter, violations),
        (Kind::Enum(known), Value::EnumNumber(number)) if in_filter && known.get_value(*number).is_none() => {
            violations.push(Violation {
                field: path.to_owned(),
                reason: "ENUM_UNKNOWN",
                description: format!("must be a value of {} that this node knows, not {number}", known.name()),
            });
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use prost::{Message, Name};

    use super::*;
    use crate::wire::proto::{EventFilter, ListEventsRequest, Place, SubscribeRequest};

    fn with_unknown(message: &impl Message, number: u8) -> Vec<u8> {
        let mut bytes = message.encode_to_vec();
        // A varint field: its key and the value 1. Numbers above 15 take a second byte.
        bytes.extend([number << 3 | 0x80, number >> 4, 1]);
        bytes
    }

    /// A request with one filter, given as bytes, in its field of this number.
    fn around(number: u8, filter: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, filter.len() as u8];
        bytes.extend(filter);
        bytes
    }

    #[test]
    fn requests_with_filters_are_found_by_their_descriptors() {
        assert!(is_checked(&SubscribeRequest::full_name()));
        assert!(is_checked(&ListEventsRequest::full_name()));
        assert!(!is_checked("tradelane.v1.PublishRequest"));
        assert!(!is_checked("tradelane.v1.ListGrantsResponse"), "a client takes what a newer node tells");
    }

    #[test]
    fn what_a_filter_says_beyond_our_knowledge_is_refused_wherever_it_stands() {
        let known = EventFilter { types: vec!["handling".into()], ..EventFilter::default() };
        let request = SubscribeRequest { filters: vec![known.clone()], ..SubscribeRequest::default() };
        assert_eq!(check(&SubscribeRequest::full_name(), &request.encode_to_vec()), Ok(()));

        let violations =
            check(&SubscribeRequest::full_name(), &around(4, &with_unknown(&known, 99))).expect_err("field 99");
        assert_eq!((violations[0].field.as_str(), violations[0].reason), ("filters[0]", "FIELD_UNKNOWN"));

        let place = with_unknown(&Place { country_code: "PK".into(), ..Place::default() }, 40);
        let violations = check(&ListEventsRequest::full_name(), &around(1, &around(4, &place))).expect_err("field 40");
        assert_eq!(violations[0].field, "filters[0].places[0]");

        let mode = EventFilter { modes: vec![1, 9], ..EventFilter::default() };
        let request = ListEventsRequest { filters: vec![mode], ..ListEventsRequest::default() };
        let violations = check(&ListEventsRequest::full_name(), &request.encode_to_vec()).expect_err("mode 9");
        assert_eq!((violations[0].field.as_str(), violations[0].reason), ("filters[0].modes[1]", "ENUM_UNKNOWN"));
    }

    #[test]
    fn beside_the_filters_protobuf_rules() {
        let request = with_unknown(&ListEventsRequest::default(), 99);
        assert_eq!(check(&ListEventsRequest::full_name(), &request), Ok(()));
    }

    #[test]
    fn other_encodings_of_the_same_filter_pass() {
        // A default value that is written out, and an unpacked list: longer than ours would be, and right.
        let filter = [0x68, 0x00, 0x10, 0x04];
        assert_eq!(check(&ListEventsRequest::full_name(), &around(1, &filter)), Ok(()));
    }
}
