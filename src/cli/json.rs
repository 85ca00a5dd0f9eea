//! Protobuf's canonical JSON mapping of events, requests and answers, through their descriptors. It never changes what a message says;
//! what a descriptor does not know is refused on the way in, and left out on the way out (the event's bytes keep it).

use std::sync::LazyLock;

use bytes::Bytes;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, EnumDescriptor, MessageDescriptor, SerializeOptions};
use serde::de::Error as _;
use serde_json::Value;

use crate::wire::{DESCRIPTORS, proto};

mod fault;
mod nearest;
#[cfg(test)]
mod tests;

/// The descriptors of the API and of the details that its errors carry.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::decode(DESCRIPTORS).expect("the build compiled these descriptors");
    let details = prost_types::FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .expect("the library's own descriptors decode");
    // The library's file of google.rpc.Status has another path than ours: only the files that define something new are added.
    let known: Vec<String> = pool.all_messages().map(|message| message.full_name().to_owned()).collect();
    let is_new = |file: &prost_types::FileDescriptorProto| {
        let package = file.package();
        !file.message_type.iter().any(|message| known.contains(&format!("{package}.{}", message.name())))
    };
    let new_files: Vec<_> = details.file.into_iter().filter(is_new).collect();
    pool.add_file_descriptor_protos(new_files).expect("the details depend on well-known types only");
    pool
});

/// Why a JSON text is not the message that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct JsonMalformed {
    /// The line of the fault in the text, from 1; 0 where the text as a whole is at fault.
    pub line: usize,
    /// The column of the fault in its line, from 1; 0 where unknown.
    pub column: usize,
    /// What is wrong and, where that can be told, what was meant.
    pub reason: String,
}

/// The descriptor of a message of the API, by its short name (`Event`).
///
/// # Panics
/// There is no such message: names are written in this program, never taken from input.
#[must_use]
pub fn descriptor(short_name: &str) -> MessageDescriptor {
    let name = format!("tradelane.v1.{short_name}");
    POOL.get_message_by_name(&name).expect("the name is one of the API's")
}

/// The descriptor of an enumeration of the API, by its short name (`Classifier`).
///
/// # Panics
/// There is no such enumeration, as for [`descriptor`].
#[must_use]
pub fn enumeration(short_name: &str) -> EnumDescriptor {
    let name = format!("tradelane.v1.{short_name}");
    POOL.get_enum_by_name(&name).expect("the name is one of the API's")
}

/// Reads one message from JSON.
///
/// # Errors
/// The text is no JSON, or says something that the message has no field, value or form for.
pub fn read(short_name: &str, text: &str) -> Result<DynamicMessage, JsonMalformed> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let message = DynamicMessage::deserialize(descriptor(short_name), &mut reader).and_then(|message| {
        reader.end()?;
        Ok(message)
    });
    message.map_err(|error| fault::of(&POOL, short_name, text, &error))
}

/// Reads one message from JSON into its generated type.
///
/// # Errors
/// As for [`read`].
pub fn read_typed<M: Message + Default>(short_name: &str, text: &str) -> Result<M, JsonMalformed> {
    let message = read(short_name, text)?;
    M::decode(message.encode_to_vec().as_slice())
        .map_err(|error| fault::of(&POOL, short_name, text, &serde_json::Error::custom(error)))
}

/// The canonical JSON of a message of the API, by its short name and its bytes.
///
/// # Errors
/// The bytes are not such a message.
pub fn from_bytes(short_name: &str, bytes: &[u8]) -> Result<Value, prost::DecodeError> {
    let message = DynamicMessage::decode(descriptor(short_name), bytes)?;
    Ok(to_value(&message).unwrap_or_else(|_| readable_only(&message)))
}

/// The canonical JSON of a generated message. Raw event bytes inside come out as readable events.
#[must_use]
pub fn from_message(short_name: &str, message: &impl Message) -> Value {
    // The bytes were decoded by generated code with the same descriptors; only raw event bytes inside can still be malformed.
    from_bytes(short_name, &message.encode_to_vec())
        .unwrap_or_else(|error| serde_json::json!({ "unreadable": error.to_string() }))
}

/// The canonical JSON of an event of a stream or list, with what the node adds.
#[must_use]
pub fn recorded_event(event: &proto::RecordedEvent) -> Value {
    from_message("RecordedEvent", event)
}

/// The bytes of an event as its JSON says it.
#[must_use]
pub fn event_bytes(event: &DynamicMessage) -> Bytes {
    event.encode_to_vec().into()
}

/// A google.rpc.Status with its details opened.
#[must_use]
pub fn status(status: &tonic_types::Status) -> Value {
    let descriptor = POOL.get_message_by_name("google.rpc.Status").expect("the API's own answers carry it");
    let decoded = DynamicMessage::decode(descriptor, status.encode_to_vec().as_slice());
    decoded.ok().and_then(|message| to_value(&message).ok()).unwrap_or_else(|| {
        // A detail of a type that we do not know: the code and the message still say most.
        serde_json::json!({ "code": status.code, "message": status.message })
    })
}

fn to_value(message: &DynamicMessage) -> Result<Value, serde_json::Error> {
    message.serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
}

/// What JSON cannot say (a time outside the years 1 to 9999 from a sloppy publisher) is shown in the text form of protobuf.
fn readable_only(message: &DynamicMessage) -> Value {
    serde_json::json!({ "text": message.to_string() })
}
