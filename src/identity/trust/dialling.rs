//! The node's own side of a TLS connection that it opens to another node: its certificate, and the check that the other is the one it
//! means. The name is a SPIFFE ID, so host names decide nothing. It never resumes a session.

use std::sync::Arc;

use rustls::{
    ClientConfig, Error,
    client::{
        Resumption,
        danger::{ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{Reason, Refusal, TrustStore, VerifiedPeer, verifier::Asked};
use crate::{domain::SpiffeId, identity::signatures::tls13_signatures};

/// Asks the trust store about the node that was dialled, and keeps what it said.
#[derive(Debug)]
pub struct DialledVerifier {
    asked: Asked,
    expected: SpiffeId,
}

impl DialledVerifier {
    /// A verifier for one connection to this node.
    #[must_use]
    pub fn new(trust: Arc<TrustStore>, expected: SpiffeId) -> Arc<Self> {
        Arc::new(Self { asked: Asked::of(trust), expected })
    }

    /// What was said of the node; none where the handshake did not come so far.
    #[must_use]
    pub fn verdict(&self) -> Option<&Result<VerifiedPeer, Refusal>> {
        self.asked.verdict()
    }

    /// The TLS settings of the connection: TLS 1.3, HTTP/2, our own certificate.
    ///
    /// # Errors
    /// The provider lacks TLS 1.3, which it never does.
    pub fn client_config(self: &Arc<Self>) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig::builder_with_provider(self.asked.trust.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(self.clone())
            .with_client_cert_resolver(self.asked.trust.own_key.clone());
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

impl ServerCertVerifier for DialledVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.asked.judge(end_entity, intermediates, now, |trust, chain, now_ns| {
            let peer = trust.verify_node(chain, now_ns)?;
            if peer.id == self.expected {
                return Ok(peer);
            }
            let why = format!("the node proved to be {}, not {}", peer.id, self.expected);
            Err(Refusal::new(Reason::OtherNode, why).claimed_by(&peer.id))
        })?;
        Ok(ServerCertVerified::assertion())
    }

    tls13_signatures!(|verifier| verifier.asked.trust.provider);
}
