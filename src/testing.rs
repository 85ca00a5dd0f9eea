//! What tests of every room share, and the demo's script: realistic events. It is no part of the node, and nothing that serves imports it.

pub mod events;
