//! Puts the trust store under rustls: one verifier a connection, so that the verdict, the name and a refusal's reason reach the acceptor.
//! It never decides anything itself.

use std::sync::{Arc, OnceLock};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{Refusal, TrustStore, VerifiedPeer};

/// Asks the trust store about one connection's client, and keeps what it said.
#[derive(Debug)]
pub struct ConnectionVerifier {
    trust: Arc<TrustStore>,
    verdict: OnceLock<Result<VerifiedPeer, Refusal>>,
}

impl ConnectionVerifier {
    /// A verifier for one connection.
    #[must_use]
    pub fn new(trust: Arc<TrustStore>) -> Arc<Self> {
        Arc::new(Self { trust, verdict: OnceLock::new() })
    }

    /// The reading of the trust files that it asks.
    #[must_use]
    pub fn trust(&self) -> &Arc<TrustStore> {
        &self.trust
    }

    /// What was said of the client; none where the handshake did not come so far.
    #[must_use]
    pub fn verdict(&self) -> Option<&Result<VerifiedPeer, Refusal>> {
        self.verdict.get()
    }

    /// The TLS settings of the connection: TLS 1.3, HTTP/2, a certificate is mandatory, and nothing is resumed, since a resumed session
    /// would skip the certificate.
    ///
    /// # Errors
    /// The provider lacks TLS 1.3, which it never does.
    pub fn server_config(self: &Arc<Self>) -> Result<ServerConfig, Error> {
        let mut config = ServerConfig::builder_with_provider(self.trust.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(self.clone())
            .with_cert_resolver(self.trust.resolver());
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(config)
    }
}

impl ClientCertVerifier for ConnectionVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.trust.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        let now_ns = i64::try_from(u128::from(now.as_secs()) * 1_000_000_000).unwrap_or(i64::MAX);
        match self.verdict.get_or_init(|| self.trust.verify_client(&chain, now_ns)) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
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
