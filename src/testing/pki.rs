//! Trust domains, certificates and the files around them, as a node of Pakistan's exchange would have them that recognises Pakistan's
//! customs and the port of Valparaíso; and TLS settings of clients with every kind of certificate or none. It never opens a port.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{
    config::Config,
    domain::{SpiffeId, TrustDomain},
    identity::dev_pki::{CERTIFICATE_LIFE_NS, DevPki, Issued, PkiError},
};

/// The node.
pub const NODE: &str = "spiffe://exchange.gov.pk/node/khi-1";
/// The operator of the node.
pub const OPERATOR: &str = "spiffe://exchange.gov.pk/operator/duty";
/// A customs agency.
pub const CUSTOMS: &str = "spiffe://customs.gov.pk/agency/karachi";
/// A terminal.
pub const TERMINAL: &str = "spiffe://port.valparaiso.cl/terminal/tps";

/// The authorities and files.
#[derive(Debug)]
pub struct PkiWorld {
    directory: PathBuf,
    /// The node's own domain, `exchange.gov.pk`.
    pub exchange: DevPki,
    /// Recognised: `customs.gov.pk`.
    pub customs: DevPki,
    /// Recognised: `port.valparaiso.cl`.
    pub port: DevPki,
    /// Not recognised: `stranger.example`.
    pub stranger: DevPki,
}

impl PkiWorld {
    /// Makes the authorities, the node's certificate, the trust file with three domains, and an empty policy, under the names that
    /// [`Config::local`] expects in `directory`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn create(directory: &Path, now_ns: i64) -> Result<Self, PkiError> {
        let create = |name: &str| {
            DevPki::create(directory, &TrustDomain::parse(name).expect("the names below are good"), now_ns)
        };
        let mut world = Self {
            directory: directory.to_owned(),
            exchange: create("exchange.gov.pk")?,
            customs: create("customs.gov.pk")?,
            port: create("port.valparaiso.cl")?,
            stranger: create("stranger.example")?,
        };
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let node = world.exchange.issue_node(&id(NODE), &hosts, now_ns, CERTIFICATE_LIFE_NS)?;
        world.put_node_certificate(&node)?;
        world.write_trust(&["exchange.gov.pk", "customs.gov.pk", "port.valparaiso.cl"])?;
        world.write_policy("")?;
        Ok(world)
    }

    /// The settings of a node with these files; its data goes below the same directory.
    #[must_use]
    pub fn config(&self) -> Config {
        Config::local(&self.directory.join("data"), &self.directory)
    }

    /// Puts a certificate and its key where the node reads its own.
    ///
    /// # Errors
    /// A file cannot be copied.
    pub fn put_node_certificate(&self, issued: &Issued) -> Result<(), PkiError> {
        for (from, name) in [(&issued.certificate_file, "node.crt"), (&issued.key_file, "node.key")] {
            let to = self.directory.join(name);
            fs::copy(from, &to).map_err(|source| PkiError::File { path: to, source })?;
        }
        Ok(())
    }

    /// Writes the trust file with these domains.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_trust(&self, domains: &[&str]) -> Result<(), PkiError> {
        let table = |name: &&str| {
            format!(
                "[[domain]]\nname = {name:?}\nbundle_file = \"{name}/ca.pem\"\ncrl_files = [\"{name}/crl.pem\"]\n\n"
            )
        };
        self.write("trust.toml", &domains.iter().map(table).collect::<Vec<_>>().concat())
    }

    /// Writes the policy file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_policy(&self, toml: &str) -> Result<(), PkiError> {
        self.write("policy.toml", toml)
    }

    /// The authorities of the node's own domain: what its clients trust.
    #[must_use]
    pub fn node_bundle(&self) -> PathBuf {
        self.exchange.bundle_file()
    }

    /// TLS settings of a client that shows a certificate, or none, and trusts the node's authorities.
    ///
    /// # Errors
    /// A file cannot be read, or the certificate does not go with its key.
    pub fn client(&self, issued: Option<&Issued>) -> io::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(self.node_bundle()).map_err(io::Error::other)? {
            roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots);
        let mut config = match issued {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let chain: Result<Vec<_>, _> =
                    CertificateDer::pem_file_iter(&issued.certificate_file).map_err(io::Error::other)?.collect();
                let key = PrivateKeyDer::from_pem_file(&issued.key_file).map_err(io::Error::other)?;
                builder.with_client_auth_cert(chain.map_err(io::Error::other)?, key).map_err(io::Error::other)?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), PkiError> {
        let path = self.directory.join(name);
        // Written aside and moved, as a node that polls must never read half a file.
        let aside = self.directory.join(format!("{name}.new"));
        fs::write(&aside, text)
            .and_then(|()| fs::rename(&aside, &path))
            .map_err(|source| PkiError::File { path, source })
    }
}

/// A SPIFFE ID from a text that is one.
#[must_use]
pub fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).expect("tests name participants by good SPIFFE IDs")
}
