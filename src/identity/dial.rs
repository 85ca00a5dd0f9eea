//! Opens a mutual TLS connection to another node, as this node. It never speaks plaintext, and never to a node that did not prove to be
//! the one it means.

use std::{io::Cursor, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, Chain, Join, ReadHalf, WriteHalf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    peers::PeerAddress,
    room::Identity,
    trust::{DialledVerifier, TrustStore, VerifiedPeer},
};
use crate::domain::SpiffeId;

/// How long TCP, TLS, and the node's first frames may take each.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// Enough for a node's first frames; what comes after them is read by HTTP/2 itself.
const FIRST_BYTES_MAX: usize = 1024;

/// Bytes to and from the node: what was read ahead, then the rest.
pub type DialledIo = Join<Chain<Cursor<Vec<u8>>, ReadHalf<TlsStream<TcpStream>>>, WriteHalf<TlsStream<TcpStream>>>;

/// A connection to the node that was meant.
pub struct Dialled {
    /// The connection.
    pub io: DialledIo,
    /// Who is there, with its certificate.
    pub peer: VerifiedPeer,
    /// The reading of the trust files that it was believed under.
    pub trust: Arc<TrustStore>,
}

/// Why there is no connection, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// Nobody answers there.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The node that answers is not believed.
    #[error("the node that answers is not believed: {0}")]
    NotBelieved(String),
    /// TLS failed otherwise, or the node refused our certificate.
    #[error("the TLS handshake failed: {0}")]
    Tls(String),
}

impl Identity {
    /// Connects to a node and waits until it has taken us.
    ///
    /// # Errors
    /// It does not answer, is not the one that is meant, or does not take us.
    pub async fn dial(&self, address: &PeerAddress, expected: &SpiffeId) -> Result<Dialled, DialError> {
        let trust = self.trust();
        let verifier = DialledVerifier::new(trust.clone(), expected.clone());
        let config = verifier.client_config().map_err(|error| DialError::Tls(error.to_string()))?;
        let connecting = TcpStream::connect((address.host.as_str(), address.port));
        let unreachable = |error: std::io::Error| DialError::Unreachable(error.to_string());
        let late = |what: &str| format!("no {what} within {STEP_TIMEOUT:?}");
        let tcp = timeout(STEP_TIMEOUT, connecting).await;
        let tcp = tcp.map_err(|_| DialError::Unreachable(late("answer")))?.map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        // The host only serves as SNI: who is there is decided by the SPIFFE ID.
        let host = ServerName::try_from(address.host.clone()).map_err(|error| DialError::Tls(error.to_string()))?;
        let shaking = TlsConnector::from(Arc::new(config)).connect(host, tcp);
        let shaken = timeout(STEP_TIMEOUT, shaking).await.map_err(|_| DialError::Tls(late("handshake")))?;
        let mut stream = shaken.map_err(|error| match verifier.verdict() {
            Some(Err(refusal)) => DialError::NotBelieved(refusal.to_string()),
            Some(Ok(_)) | None => DialError::Tls(error.to_string()),
        })?;
        let Some(Ok(peer)) = verifier.verdict().cloned() else {
            return Err(DialError::Tls("the handshake ended without the node's certificate".to_owned()));
        };
        // In TLS 1.3 the node judges our certificate after our side is done; one that takes us begins HTTP/2 at once with its settings.
        let mut first = vec![0; FIRST_BYTES_MAX];
        let reading = timeout(STEP_TIMEOUT, stream.read(&mut first)).await;
        let length = reading
            .map_err(|_| DialError::Tls(late("first frame")))?
            .map_err(|error| DialError::Tls(format!("the node did not take our certificate: {error}")))?;
        if length == 0 {
            return Err(DialError::Tls("the node closed the connection at once".to_owned()));
        }
        first.truncate(length);
        let (reader, writer) = tokio::io::split(stream);
        Ok(Dialled { io: tokio::io::join(Cursor::new(first).chain(reader), writer), peer, trust })
    }
}

impl std::fmt::Debug for Dialled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialled").field("peer", &self.peer.id).finish_non_exhaustive()
    }
}
