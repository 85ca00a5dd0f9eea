//! Compiles `proto/` with a compiler written in Rust, so that no protoc is needed; it never reaches outside this folder.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

/// The files to compile; what they import is found from them.
const FILES: [&str; 5] = [
    "proto/tradelane/v1/subscription_service.proto",
    "proto/tradelane/v1/clearance_service.proto",
    "proto/tradelane/v1/event_service.proto",
    "proto/tradelane/v1/node_service.proto",
    "proto/tradelane/v1/peer_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Every message knows its name, since the codec decides by it which requests may carry nothing unknown.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .codec_path("crate::wire::codec::StrictCodec")
        // These messages carry event bytes that must pass through unchanged: hand-written types hold them raw.
        .extern_path(".tradelane.v1.SignedEvent", "crate::wire::SignedEvent")
        .extern_path(".tradelane.v1.PublishRequest", "crate::wire::PublishRequest")
        .extern_path(".tradelane.v1.EventBatch", "crate::wire::EventBatch")
        .extern_path(".tradelane.v1.ReplicaBatch", "crate::wire::ReplicaBatch")
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .bytes(".tradelane.v1")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
