//! The certificates of the run, which are the same for every system: made by `tradelane bench --prepare`. It never makes one itself.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde::Deserialize;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// The name in the servers' certificate.
pub const HOST: &str = "localhost";

/// What was prepared.
#[derive(Debug, Clone, Deserialize)]
pub struct Prepared {
    /// The version of the program that prepared it, which is the one that is measured.
    pub version: String,
    /// What a node's defaults would bound while it is measured.
    pub settings: Vec<String>,
    /// The files.
    pub files: Files,
    /// The events.
    pub events_file: PathBuf,
}

/// Configuration, certificates and keys.
#[derive(Debug, Clone, Deserialize)]
pub struct Files {
    /// A node's configuration.
    pub config: PathBuf,
    /// What every server shows.
    pub server_certificate: PathBuf,
    /// Its key.
    pub server_key: PathBuf,
    /// Who vouches for the servers.
    pub server_authority: PathBuf,
    /// What every client shows.
    pub client_certificate: PathBuf,
    /// Its key.
    pub client_key: PathBuf,
    /// Who vouches for the clients.
    pub client_authority: PathBuf,
}

impl Prepared {
    /// Reads it.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("prepared.json");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// How a client speaks TLS.
    pub fn client_tls(&self) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&self.files.server_authority)? {
            roots.add(certificate?)?;
        }
        let chain = CertificateDer::pem_file_iter(&self.files.client_certificate)?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&self.files.client_key)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(versions.with_root_certificates(roots).with_client_auth_cert(chain, key)?)
    }

    /// A connection for gRPC.
    pub async fn channel(&self, port: u16) -> Result<Channel> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let identity = Identity::from_pem(read(&self.files.client_certificate)?, read(&self.files.client_key)?);
        let authority = Certificate::from_pem(read(&self.files.server_authority)?);
        let tls = ClientTlsConfig::new().domain_name(HOST).ca_certificate(authority).identity(identity);
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}"))?.tls_config(tls)?.tcp_nodelay(true);
        // Windows as wide as a client that replays would set them.
        let endpoint = endpoint.initial_stream_window_size(4 << 20).initial_connection_window_size(8 << 20);
        Ok(endpoint.connect().await?)
    }
}
