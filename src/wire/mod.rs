//! The only room that names generated code: raw events, parsing and validation, and the messages of the API. It never does I/O.

pub mod raw;
pub mod violations;

/// The generated messages and services of `proto/tradelane/v1`.
#[allow(missing_docs, unused_qualifications, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod proto {
    tonic::include_proto!("tradelane.v1");
}

pub use raw::{PublishRequest, SignedEvent};

/// The descriptors of the whole API with their comments, for reflection and the JSON mapping.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
