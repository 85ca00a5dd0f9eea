//! The exchange's own words as types: names, positions, the routing header and the one predicate over it. Pure: it never does I/O,
//! reads a clock, or knows protobuf, TLS or storage.

pub mod bindings;
pub mod clearance;
pub mod code_lists;
pub mod codes;
pub mod event_id;
pub mod filter;
pub mod freight;
pub mod header;
pub mod position;
pub mod spiffe;
pub mod term;

pub use event_id::EventId;
pub use filter::Filter;
pub use header::{HeaderRef, RoutingHeader};
pub use position::{Epoch, Position, Sequence};
pub use spiffe::{SpiffeId, SpiffePattern, TrustDomain};
