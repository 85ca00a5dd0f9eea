//! Puts the trust store under rustls: one verifier a connection, so that the verdict, the name and a refusal's reason reach the acceptor.
//! It never decides anything itself.

use std::sync::{Arc, OnceLock};

use rustls::{
    DistinguishedName, Error, ServerConfig,
    pki_types::{CertificateDer, UnixTime},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{Refusal, TrustStore, VerifiedPeer};
use crate::identity::signatures::tls13_signatures;

/// One connection's question to the trust store: what it said of the other side is kept, and asked once.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) trust: Arc<TrustStore>,
    verdict: OnceLock<Result<VerifiedPeer, Refusal>>,
}

impl Asked {
    pub(super) const fn of(trust: Arc<TrustStore>) -> Self {
        Self { trust, verdict: OnceLock::new() }
    }

    pub(super) fn verdict(&self) -> Option<&Result<VerifiedPeer, Refusal>> {
        self.verdict.get()
    }

    /// Judges the chain that rustls has received, leaf first, at the time in nanoseconds since 1970; the error is what rustls tells the
    /// other side.
    pub(super) fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        judge: impl FnOnce(&TrustStore, &[CertificateDer<'_>], i64) -> Result<VerifiedPeer, Refusal>,
    ) -> Result<(), Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        let now_ns = i64::try_from(u128::from(now.as_secs()) * 1_000_000_000).unwrap_or(i64::MAX);
        match self.verdict.get_or_init(|| judge(&self.trust, &chain, now_ns)) {
            Ok(_) => Ok(()),
            Err(refusal) => Err(refusal.as_certificate_error().into()),
        }
    }
}

/// Asks the trust store about one connection's client, and keeps what it said.
#[derive(Debug)]
pub struct ConnectionVerifier {
    asked: Asked,
}

impl ConnectionVerifier {
    /// A verifier for one connection.
    #[must_use]
    pub fn new(trust: Arc<TrustStore>) -> Arc<Self> {
        Arc::new(Self { asked: Asked::of(trust) })
    }

    /// The reading of the trust files that it asks.
    #[must_use]
    pub fn trust(&self) -> &Arc<TrustStore> {
        &self.asked.trust
    }

    /// What was said of the client; none where the handshake did not come so far.
    #[must_use]
    pub fn verdict(&self) -> Option<&Result<VerifiedPeer, Refusal>> {
        self.asked.verdict()
    }

    /// The TLS settings of the connection: TLS 1.3, HTTP/2, a certificate is mandatory, and nothing is resumed, since a resumed session
    /// would skip the certificate.
    ///
    /// # Errors
    /// The provider lacks TLS 1.3, which it never does.
    pub fn server_config(self: &Arc<Self>) -> Result<ServerConfig, Error> {
        let mut config = ServerConfig::builder_with_provider(self.asked.trust.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(self.clone())
            .with_cert_resolver(self.asked.trust.resolver());
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(config)
    }
}

impl ClientCertVerifier for ConnectionVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.asked.trust.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.asked.judge(end_entity, intermediates, now, TrustStore::verify_client)?;
        Ok(ClientCertVerified::assertion())
    }

    tls13_signatures!(|verifier| verifier.asked.trust.provider);
}
