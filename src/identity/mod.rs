//! Who is connected, whom we trust to say so, and what they may do: TLS, trust bundles, principals, grants. It never sees an event's
//! protobuf, only routing headers.

use std::{net::SocketAddr, sync::Arc};

use crate::domain::SpiffeId;

pub mod acceptor;
pub mod audit;
pub mod certificate;
pub mod connections;
pub mod dev_pki;
pub mod dial;
pub mod peers;
pub mod policy;
pub mod reload;
mod room;
pub mod rpc_policy;
pub(crate) mod signatures;
pub mod toml_file;
pub mod trust;

pub use dial::Dialled;
pub use peers::{Peer, Peers};
pub use policy::{Access, Action, Narrowing, Policy, Rights};
pub use room::{Identity, OpenError};

/// Who makes a call. The acceptor puts it into every request's extensions; a call without it is refused.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The one URI name of the client certificate.
    pub id: SpiffeId,
    /// The connection's number, unique while the process lives.
    pub connection_id: u64,
    /// Where the connection comes from.
    pub remote_address: SocketAddr,
    /// The client certificate's end, nanoseconds since 1970: streams end then, with that reason.
    pub certificate_not_after_ns: i64,
    /// Resolves when the connection is to end (revoked, expired, trust withdrawn, node stopping), with the reason.
    pub closing: tokio_util::sync::CancellationToken,
    /// Why it is to end, once it is.
    pub closing_reason: Arc<std::sync::OnceLock<String>>,
}
