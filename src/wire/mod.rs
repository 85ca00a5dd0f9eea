//! The only room that names generated code: raw events, parsing and validation, and the messages of the API. It never does I/O.

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

pub mod codec;
pub mod content;
pub mod door;
pub mod filter;
pub mod raw;
pub mod strict;
pub mod violations;

/// The generated messages and services of `proto/tradelane/v1`.
#[allow(missing_docs, unused_qualifications, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod proto {
    tonic::include_proto!("tradelane.v1");
}

pub use content::content_equal;
pub use raw::{EventBatch, PublishRequest, ReplicaBatch, SignedEvent};

/// The descriptors of the whole API with their comments, for reflection and the JSON mapping.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(DESCRIPTORS).expect("the build compiled these descriptors, and tests read them")
});

/// [`DESCRIPTORS`], read.
#[must_use]
pub fn descriptors() -> &'static DescriptorPool {
    &POOL
}

#[cfg(test)]
mod tests;
