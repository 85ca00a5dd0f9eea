//! How a peer is reached: a connection to a node that has proven who it is, and HTTP/2 over it. It never connects again by itself: the
//! link does, after it has looked at who answers.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::MissedTickBehavior,
};
use tonic::transport::{Channel, Endpoint};

use crate::{
    clock::Clock,
    domain::SpiffeId,
    identity::{
        Dialled, Identity,
        peers::PeerAddress,
        trust::{TrustStore, VerifiedPeer},
    },
};

/// How often it is looked at whether the node that was dialled is still believed.
const TRUST_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// How often a quiet connection is probed, and how long a probe may stay unanswered.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What a source may have on its way before HTTP/2 holds it back: as much as the credit, so that the credit decides.
const WINDOW_BYTES: u32 = 16 << 20;

/// Opens connections to other nodes.
pub trait Dial: Send + Sync + 'static {
    /// Connects to a node. Whoever answers has proven to be the one that is meant, and has taken us.
    ///
    /// The error says in words for the operator why there is no connection.
    fn dial(&self, address: PeerAddress, expected: SpiffeId) -> BoxFuture<'static, Result<Line, String>>;
}

/// Bytes to and from another node.
pub trait LineIo: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> LineIo for T {}

/// A connection to the node that was meant.
pub struct Line {
    /// The connection.
    pub io: Box<dyn LineIo>,
    /// Resolves when who answered is no longer believed.
    pub disbelieved: BoxFuture<'static, ()>,
}

/// Dials over mutual TLS, as this node.
#[derive(Clone)]
pub struct TlsDial {
    identity: Identity,
    clock: Arc<dyn Clock>,
}

impl TlsDial {
    /// Dials as the node of this identity.
    #[must_use]
    pub fn new(identity: Identity, clock: Arc<dyn Clock>) -> Self {
        Self { identity, clock }
    }

    /// Resolves when the trust files as they are now no longer let the node's certificate count.
    async fn no_longer_believed(self, peer: VerifiedPeer, trust: Arc<TrustStore>) {
        let mut checks = tokio::time::interval(TRUST_CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            checks.tick().await;
            let (now, now_ns) = (self.identity.trust(), self.clock.now_ns());
            let believed = if Arc::ptr_eq(&now, &trust) {
                now.check_time(&peer, now_ns)
            } else {
                now.verify_node(&peer.chain, now_ns).map(|_| ())
            };
            if let Err(refusal) = believed {
                tracing::warn!(peer = %peer.id, %refusal, "a peer's certificate is no longer believed");
                return;
            }
        }
    }
}

impl Dial for TlsDial {
    fn dial(&self, address: PeerAddress, expected: SpiffeId) -> BoxFuture<'static, Result<Line, String>> {
        let dial = self.clone();
        async move {
            let dialled = dial.identity.dial(&address, &expected).await;
            let Dialled { io, peer, trust } = dialled.map_err(|error| format!("{address}: {error}"))?;
            Ok(Line { io: Box::new(io), disbelieved: dial.no_longer_believed(peer, trust).boxed() })
        }
        .boxed()
    }
}

/// A channel over an open connection.
pub(super) async fn channel(io: Box<dyn LineIo>, address: &PeerAddress) -> Result<Channel, String> {
    let uri = Uri::builder().scheme("https").authority(address.to_string()).path_and_query("/").build();
    let endpoint = Endpoint::from(uri.map_err(|error| error.to_string())?)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .user_agent(concat!("tradelane-node/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| error.to_string())?;
    let once = Mutex::new(Some(io));
    let connector = tower::service_fn(move |_: Uri| {
        let io = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        let taken = io.map(TokioIo::new).ok_or_else(|| std::io::Error::other("the connection is gone"));
        std::future::ready(taken)
    });
    endpoint.connect_with_connector(connector).await.map_err(|error| format!("HTTP/2 does not begin: {error}"))
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsDial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsDial").field("identity", &self.identity).finish_non_exhaustive()
    }
}
