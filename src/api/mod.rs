//! The tonic services, thin: they turn messages into calls of the rooms below and errors into statuses. It never decides anything.

pub mod authorize;
pub mod calls;
pub mod clearance;
mod denials;
pub mod events;
pub mod live_calls;
pub mod methods;
pub mod node_service;
pub mod operations;
pub mod origins;
pub mod peer;
pub mod published;
pub mod queries;
pub mod recorded;
pub mod reflection;
pub mod status;
pub mod stream_quota;
pub mod subscriptions;

pub use authorize::AuthorizeLayer;
pub use calls::{CallRules, CallsLayer};
pub use live_calls::{LiveCall, LiveCalls};
pub use node_service::{NodeApi, NodeParts};
pub use origins::Origins;
pub use peer::PeerApi;
pub use published::Published;
pub use queries::{Queries, QueriesParts, QueryError};
pub use recorded::Recorder;
pub use status::Refused;
pub use stream_quota::StreamQuota;
