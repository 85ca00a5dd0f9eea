//! What tests of every room share, and the demo's script: realistic events, certificates and the files around them. It is no part of the
//! node, and nothing that serves imports it.

pub mod events;
pub mod nodes;
pub mod pki;
