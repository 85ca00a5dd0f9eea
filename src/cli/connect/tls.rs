//! The client's side of TLS: our certificate, the roots of the node's domain, and the check of the node's name. It never resumes a
//! session, since nodes give out no tickets.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, Error, OtherError, RootCertStore,
    client::{
        Resumption,
        danger::{ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use x509_parser::{extensions::GeneralName, prelude::FromDer};

use super::{ConnectOptions, ExpectedServer, Pem};
use crate::{domain::SpiffeId, identity::signatures::tls13_signatures};

/// A certificate or key of ours that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsUnusable {
    /// A file cannot be read.
    #[error("cannot read the {what} {path}: {reason}")]
    Unreadable {
        /// What it was to be.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// The text holds nothing of the kind.
    #[error("the {what} {place} holds no {wanted} in PEM form")]
    Empty {
        /// What it was to be.
        what: &'static str,
        /// Where it came from.
        place: String,
        /// What PEM section was looked for.
        wanted: &'static str,
    },
    /// The text is PEM, but not of a usable kind.
    #[error("the {what} {place} cannot be used: {reason}")]
    Unusable {
        /// What it was to be.
        what: &'static str,
        /// Where it came from.
        place: String,
        /// Why.
        reason: String,
    },
}

/// The node proved another name than the one expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the node proved to be {}, not {expected}", if found.is_empty() { "nobody with a SPIFFE ID".to_owned() } else { found.join(" and ") })]
pub struct OtherServer {
    /// The name that was expected.
    pub expected: SpiffeId,
    /// The URI names that its certificate bears.
    pub found: Vec<String>,
}

/// Reads the files and makes the configuration of one connection.
///
/// # Errors
/// What of the credentials cannot be used.
pub fn client_config(options: &ConnectOptions) -> Result<ClientConfig, CredentialsUnusable> {
    client_config_with(options, |verifier| verifier)
}

/// As [`client_config`], with somebody between TLS and the check of the node, who may look on.
///
/// # Errors
/// As for [`client_config`].
pub fn client_config_with(
    options: &ConnectOptions,
    looking_on: impl FnOnce(Arc<dyn ServerCertVerifier>) -> Arc<dyn ServerCertVerifier>,
) -> Result<ClientConfig, CredentialsUnusable> {
    let credentials = &options.credentials;
    let provider = Arc::new(ring::default_provider());
    let roots = roots(&credentials.authorities)?;
    let what = "certificate";
    let chain = certificates(what, &credentials.certificate)?;
    let key_what = "private key";
    let key_pem = read(key_what, &credentials.key)?;
    let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| empty(key_what, &credentials.key, "private key"))?;
    let verifier =
        NodeVerifier { roots: Arc::new(roots), expected: options.expected_server.clone(), provider: provider.clone() };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider supports TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(looking_on(Arc::new(verifier)))
        .with_client_auth_cert(chain, key)
        .map_err(|error| CredentialsUnusable::Unusable {
            what,
            place: place(&credentials.certificate),
            reason: match error {
                Error::InconsistentKeys(_) => {
                    format!("it does not belong to the private key {}", place(&credentials.key))
                }
                other => other.to_string(),
            },
        })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The URI names of the first certificate of a PEM text.
///
/// # Errors
/// The text cannot be read or holds no certificate.
pub fn uri_names_of(pem: &Pem) -> Result<Vec<String>, CredentialsUnusable> {
    let chain = certificates("certificate", pem)?;
    Ok(chain.first().map(|leaf| uri_names(leaf)).unwrap_or_default())
}

/// The URI names of a certificate, in its order.
fn uri_names(certificate: &[u8]) -> Vec<String> {
    let Ok((_, parsed)) = x509_parser::certificate::X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    let uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    uris.collect()
}

fn roots(pem: &Pem) -> Result<RootCertStore, CredentialsUnusable> {
    let what = "file of trusted authorities";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(what, pem)? {
        roots.add(certificate).map_err(|error| CredentialsUnusable::Unusable {
            what,
            place: place(pem),
            reason: error.to_string(),
        })?;
    }
    Ok(roots)
}

fn certificates(what: &'static str, pem: &Pem) -> Result<Vec<CertificateDer<'static>>, CredentialsUnusable> {
    let text = read(what, pem)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match parsed {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(empty(what, pem, "certificate")),
    }
}

fn read(what: &'static str, pem: &Pem) -> Result<Vec<u8>, CredentialsUnusable> {
    match pem {
        Pem::Text(text) => Ok(text.as_bytes().to_vec()),
        Pem::File(path) => {
            std::fs::read(path).map_err(|reason| CredentialsUnusable::Unreadable { what, path: path.clone(), reason })
        }
    }
}

fn empty(what: &'static str, pem: &Pem, wanted: &'static str) -> CredentialsUnusable {
    CredentialsUnusable::Empty { what, place: place(pem), wanted }
}

fn place(pem: &Pem) -> String {
    match pem {
        Pem::File(path) => path.display().to_string(),
        Pem::Text(_) => "(given as text)".to_owned(),
    }
}

/// Checks the node's chain against the roots given and no others, then its name.
#[derive(Debug)]
struct NodeVerifier {
    roots: Arc<RootCertStore>,
    expected: ExpectedServer,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        match &self.expected {
            ExpectedServer::Id(expected) => {
                let found = uri_names(end_entity);
                // Exactly one URI name, as the SPIFFE standard asks of a certificate.
                if found.len() == 1 && found[0] == expected.as_str() {
                    return Ok(ServerCertVerified::assertion());
                }
                let other = OtherServer { expected: expected.clone(), found };
                Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(other)))))
            }
            ExpectedServer::Name(_) | ExpectedServer::AddressHost => {
                verify_server_name(&certificate, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
        }
    }

    tls13_signatures!(|verifier| verifier.provider);
}
