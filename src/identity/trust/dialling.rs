//! The node's own side of a TLS connection that it opens to another node: its certificate, and the check that the other is the one it
//! means. The name is a SPIFFE ID, so host names decide nothing. It never resumes a session.

use std::sync::{Arc, OnceLock};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{Reason, Refusal, TrustStore, VerifiedPeer};
use crate::domain::SpiffeId;

/// Asks the trust store about the node that was dialled, and keeps what it said.
#[derive(Debug)]
pub struct DialledVerifier {
    trust: Arc<TrustStore>,
    expected: SpiffeId,
    verdict: OnceLock<Result<VerifiedPeer, Refusal>>,
}

impl DialledVerifier {
    /// A verifier for one connection to this node.
    #[must_use]
    pub fn new(trust: Arc<TrustStore>, expected: SpiffeId) -> Arc<Self> {
        Arc::new(Self { trust, expected, verdict: OnceLock::new() })
    }

    /// What was said of the node; none where the handshake did not come so far.
    #[must_use]
    pub fn verdict(&self) -> Option<&Result<VerifiedPeer, Refusal>> {
        self.verdict.get()
    }

    /// The TLS settings of the connection: TLS 1.3, HTTP/2, our own certificate.
    ///
    /// # Errors
    /// The provider lacks TLS 1.3, which it never does.
    pub fn client_config(self: &Arc<Self>) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig::builder_with_provider(self.trust.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(self.clone())
            .with_client_cert_resolver(self.trust.own_key.clone());
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn judge(&self, chain: &[CertificateDer<'_>], now_ns: i64) -> Result<VerifiedPeer, Refusal> {
        let peer = self.trust.verify_node(chain, now_ns)?;
        if peer.id == self.expected {
            return Ok(peer);
        }
        let why = format!("the node proved to be {}, not {}", peer.id, self.expected);
        Err(Refusal::new(Reason::OtherNode, why).claimed_by(&peer.id))
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
        let chain: Vec<CertificateDer<'_>> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        let now_ns = i64::try_from(u128::from(now.as_secs()) * 1_000_000_000).unwrap_or(i64::MAX);
        match self.verdict.get_or_init(|| self.judge(&chain, now_ns)) {
            Ok(_) => Ok(ServerCertVerified::assertion()),
            Err(refusal) => Err(refusal.as_certificate_error().into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.trust.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.trust.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.provider.signature_verification_algorithms.supported_schemes()
    }
}
