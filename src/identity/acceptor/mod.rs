//! Accepts connections under tonic: TLS 1.3 only, a client certificate always, nothing resumed. A connection reaches the services only
//! when its certificate was believed; every other one is refused with a reason that reaches the log, a metric and the audit log. It never
//! decides what a caller may do.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures::Stream;
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    audit::{AuditLog, Denial},
    connections::{Connections, Place},
    trust::{ConnectionVerifier, Reason, Refusal, TrustStore, VerifiedPeer},
};
use crate::{
    clock::Clock,
    config::IdentityConfig,
    tasks::{OnFailure, Tasks},
    telemetry,
};

mod conn;

pub use conn::TlsConn;

/// Finished handshakes that wait for tonic to take them; it takes each at once.
const READY_MAX: usize = 16;
/// So long a refused client has to read the alert before the socket is closed: closing with unread bytes would reset the connection and
/// the client would never see why.
const ALERT_GRACE: Duration = Duration::from_millis(500);
/// And so much of what it sends meanwhile is read away.
const ALERT_DRAIN_BYTES_MAX: u64 = 64 << 10;
/// The pause after the system refused to accept (out of file descriptors and the like), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the acceptor works with.
#[derive(Clone)]
pub struct Acceptor {
    trust: Arc<ArcSwap<TrustStore>>,
    connections: Connections,
    audit: Arc<AuditLog>,
    clock: Arc<dyn Clock>,
    handshake_timeout: Duration,
    handshakes: Arc<Semaphore>,
}

impl Acceptor {
    pub(super) fn new(
        config: &IdentityConfig,
        trust: Arc<ArcSwap<TrustStore>>,
        connections: Connections,
        audit: Arc<AuditLog>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let handshakes = Arc::new(Semaphore::new(config.handshakes_max));
        Self { trust, connections, audit, clock, handshake_timeout: config.handshake_timeout, handshakes }
    }

    /// Accepts until the tasks are stopped or the stream is dropped. The stream's items are for tonic's `serve_with_incoming`, which puts
    /// each connection's [`super::Caller`] into the extensions of its requests.
    pub fn incoming(
        self,
        listener: TcpListener,
        tasks: &Tasks,
    ) -> impl Stream<Item = io::Result<TlsConn>> + Send + use<> {
        let (ready, accepted) = mpsc::channel(READY_MAX);
        let (stopping, handshake_tasks) = (tasks.stopping(), tasks.clone());
        tasks.spawn("accept", OnFailure::StopNode, async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = ready.closed() => {}
                () = self.accept_all(&listener, &ready, &handshake_tasks) => {}
            }
            Ok::<(), io::Error>(())
        });
        ReceiverStream::new(accepted)
    }

    async fn accept_all(&self, listener: &TcpListener, ready: &mpsc::Sender<io::Result<TlsConn>>, tasks: &Tasks) {
        loop {
            // A place among the handshakes comes first: strangers that have none wait in the system's bounded backlog.
            let Ok(handshake) = self.handshakes.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((socket, remote_address)) => match self.connections.take_place(remote_address) {
                    Ok(place) => self.begin(socket, remote_address, place, handshake, ready, tasks),
                    Err(refusal) => self.refuse(remote_address, "connection", refusal),
                },
                Err(error) => {
                    tracing::warn!(%error, "the system did not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Does the handshake beside the accepting loop.
    fn begin(
        &self,
        socket: TcpStream,
        remote_address: SocketAddr,
        mut place: Place,
        handshake: OwnedSemaphorePermit,
        ready: &mpsc::Sender<io::Result<TlsConn>>,
        tasks: &Tasks,
    ) {
        let (acceptor, ready, stopping) = (self.clone(), ready.clone(), tasks.stopping());
        tasks.spawn("handshake", OnFailure::Log, async move {
            let verifier = ConnectionVerifier::new(acceptor.trust.load_full());
            let shaken = tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                shaken = acceptor.shake(socket, &verifier) => shaken,
            };
            drop(handshake);
            match shaken {
                Err(refusal) => acceptor.refuse(remote_address, "handshake", refusal),
                Ok((stream, peer)) => {
                    let chain = peer.chain.clone();
                    let lives_ns = peer.facts.not_after_ns.saturating_sub(acceptor.clock.now_ns()).max(0);
                    let caller = place.list(peer);
                    tracing::debug!(participant = %caller.id, %remote_address, "connected");
                    // A reload during the handshake has looked only at the connections that were listed then.
                    if let Err(refusal) = acceptor.look_again(&verifier, &chain) {
                        acceptor.refuse(remote_address, "handshake", refusal);
                        return Ok(());
                    }
                    let lives = Duration::from_nanos(lives_ns.unsigned_abs());
                    // Nobody takes it where the node is stopping: the connection is closed with the value.
                    let _ = ready.send(Ok(TlsConn::new(stream, caller, place, lives))).await;
                }
            }
            Ok::<(), io::Error>(())
        });
    }

    /// The handshake, within its time.
    async fn shake(
        &self,
        socket: TcpStream,
        verifier: &Arc<ConnectionVerifier>,
    ) -> Result<(TlsStream<TcpStream>, VerifiedPeer), Refusal> {
        let limit = self.handshake_timeout;
        match timeout(limit, shake_without_limit(socket, verifier)).await {
            Ok(shaken) => shaken,
            Err(_) => Err(Refusal::new(Reason::HandshakeTimeout, format!("no handshake within {limit:?}"))),
        }
    }

    fn look_again(&self, verifier: &ConnectionVerifier, chain: &[CertificateDer<'static>]) -> Result<(), Refusal> {
        let now = self.trust.load_full();
        if Arc::ptr_eq(&now, verifier.trust()) {
            return Ok(());
        }
        now.verify_client(chain, self.clock.now_ns()).map(|_| ())
    }

    fn refuse(&self, remote_address: SocketAddr, subject: &str, refusal: Refusal) {
        metrics::counter!(telemetry::HANDSHAKE_FAILURES_TOTAL, "reason" => refusal.reason.word()).increment(1);
        self.audit.denied(Denial {
            number: 0,
            time_ns: self.clock.now_ns(),
            participant: refusal.claimed,
            remote_address: Some(remote_address),
            subject: subject.to_owned(),
            reason: refusal.reason.word().to_owned(),
            detail: refusal.detail,
        });
    }
}

async fn shake_without_limit(
    socket: TcpStream,
    verifier: &Arc<ConnectionVerifier>,
) -> Result<(TlsStream<TcpStream>, VerifiedPeer), Refusal> {
    let ended = |error: io::Error| Refusal::new(Reason::ClientEnded, error.to_string());
    socket.set_nodelay(true).map_err(ended)?;
    let mut first = [0];
    match socket.peek(&mut first).await {
        Ok(0) => return Err(Refusal::new(Reason::ClientEnded, "the client closed without a word")),
        Ok(_) if first[0] != TLS_HANDSHAKE_RECORD => {
            let why = "the client speaks plaintext where only TLS is spoken";
            return Err(Refusal::new(Reason::Plaintext, why));
        }
        Ok(_) => {}
        Err(error) => return Err(ended(error)),
    }
    let config = verifier.server_config().map_err(|why| Refusal::new(Reason::TlsFailed, why.to_string()))?;
    match TlsAcceptor::from(Arc::new(config)).accept(socket).into_fallible().await {
        Ok(stream) => match verifier.verdict() {
            Some(Ok(peer)) => Ok((stream, peer.clone())),
            Some(Err(refusal)) => Err(refusal.clone()),
            None => Err(Refusal::new(Reason::NoCertificate, "the handshake ended without a client certificate")),
        },
        Err((error, socket)) => {
            let refusal = match verifier.verdict() {
                Some(Err(refusal)) => refusal.clone(),
                Some(Ok(_)) | None => Refusal::of_handshake(&error),
            };
            let_alert_through(socket).await;
            Err(refusal)
        }
    }
}

/// The content type of the first TLS record (RFC 8446, section 5.1).
const TLS_HANDSHAKE_RECORD: u8 = 22;

async fn let_alert_through(mut socket: TcpStream) {
    let drain = async {
        socket.shutdown().await?;
        tokio::io::copy(&mut socket.take(ALERT_DRAIN_BYTES_MAX), &mut tokio::io::sink()).await
    };
    // Best effort: whether the client reads it or not, it stays refused.
    let _ = timeout(ALERT_GRACE, drain).await;
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("connections", &self.connections).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
