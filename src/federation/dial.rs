//! HTTP/2 over a connection to a peer that is already open and believed. It never connects again by itself: the link does, after it has
//! looked at who answers.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};

use crate::identity::{dial::DialledIo, peers::PeerAddress};

/// How often a quiet connection is probed, and how long a probe may stay unanswered.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What a source may have on its way before HTTP/2 holds it back: as much as the credit, so that the credit decides.
const WINDOW_BYTES: u32 = 16 << 20;

/// A channel over an open connection.
pub(super) async fn channel(io: DialledIo, address: &PeerAddress) -> Result<Channel, String> {
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
