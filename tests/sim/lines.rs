//! Connections as the product's rooms see them: HTTP/2 that is served with the caller whom mutual TLS would name, and the dialler that
//! federation is given. A fault that waits for the next connection stands between from its beginning.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service;
use tradelane::{
    domain::SpiffeId,
    federation::{
        Dial,
        dial::{Line, LineIo},
    },
    identity::{Caller, peers::PeerAddress},
    wire::proto::peer_service_server::PeerServiceServer,
};

use crate::{
    faulty,
    ground::locked,
    machine::{CLONE_SITE, Room, node_id},
    net::Site,
    pipe::End,
};

/// As the node has it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A node that calls, as its certificate would say.
pub fn caller(id: SpiffeId, closing: &CancellationToken) -> Caller {
    Caller {
        id,
        connection_id: 1,
        remote_address: ([127, 0, 0, 1], 1).into(),
        certificate_not_after_ns: i64::MAX,
        closing: closing.child_token(),
        closing_reason: Arc::default(),
    }
}

/// Serves one connection, as the node's server does.
pub async fn serve<S>(end: End, caller: Caller, service: PeerServiceServer<S>)
where
    PeerServiceServer<S>: Service<
            http::Request<hyper::body::Incoming>,
            Response = http::Response<tonic::body::Body>,
            Error = std::convert::Infallible,
        > + Clone
        + Send
        + 'static,
    <PeerServiceServer<S> as Service<http::Request<hyper::body::Incoming>>>::Future: Send,
{
    let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(caller.clone());
        let mut service = service.clone();
        async move { service.call(request).await }
    });
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .serve_connection(TokioIo::new(end), service);
    // How a connection ends is seen at both ends, which are what is tested.
    let _ = serving.await;
}

/// Dials over the simulated network.
pub struct SimDial {
    pub room: Room,
    pub site: Site,
    pub node: usize,
    pub dead: Arc<AtomicBool>,
}

impl Dial for SimDial {
    fn dial(&self, address: PeerAddress, expected: SpiffeId) -> BoxFuture<'static, Result<Line, String>> {
        let (room, site, node, dead) = (self.room.clone(), self.site, self.node, self.dead.clone());
        async move {
            let mut end = room.net.dial(site, &address.host).await?;
            end.belongs_to(&dead);
            let source = (0..CLONE_SITE).find(|node| node_id(*node) == expected).expect("a node of the run");
            let fault = locked(&room.faults).remove(&(node, source));
            let io: Box<dyn LineIo> = match fault {
                None => Box::new(end),
                Some(fault) => {
                    let (mut near, far) = room.net.connect(site, site);
                    near.belongs_to(&dead);
                    faulty::stand_between(
                        end,
                        far,
                        caller(expected, &CancellationToken::new()),
                        fault,
                        node,
                        &room.trace,
                    );
                    Box::new(near)
                }
            };
            Ok(Line { io, disbelieved: std::future::pending().boxed() })
        }
        .boxed()
    }
}
