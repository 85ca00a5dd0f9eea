//! Reads what a certificate says: names, serial number, times. It never decides whether to believe it.

use std::fmt::Write;

use x509_parser::{extensions::GeneralName, prelude::X509Certificate};

use crate::domain::{SpiffeId, spiffe::SpiffeIdMalformed};

const SECOND_NS: i64 = 1_000_000_000;

/// The facts of one certificate that the node keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The subject as text.
    pub subject: String,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// Not valid before, nanoseconds since 1970.
    pub not_before_ns: i64,
    /// Not valid after, nanoseconds since 1970.
    pub not_after_ns: i64,
    /// Its URI names, in order.
    pub uri_names: Vec<String>,
    /// Its DNS names and IP addresses.
    pub host_names: Vec<String>,
    /// True where it may sign other certificates.
    pub is_authority: bool,
}

/// Why a certificate does not name one participant or node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// There is not exactly one URI name (SPIFFE X.509-SVID standard, section 2).
    #[error("it has {0} URI names where it must have exactly one")]
    NotOneUriName(usize),
    /// The URI name is not a SPIFFE ID that names a participant or node.
    #[error("its URI name {0:?} {1}")]
    NotSpiffe(String, SpiffeIdMalformed),
}

impl CertificateFacts {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// What is malformed, in words.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) =
            x509_parser::parse_x509_certificate(der).map_err(|error| format!("not a certificate: {error}"))?;
        let (uri_names, host_names) = names(&certificate)?;
        Ok(Self {
            subject: certificate.subject().to_string(),
            serial: hexadecimal(certificate.raw_serial()),
            not_before_ns: certificate.validity().not_before.timestamp().saturating_mul(SECOND_NS),
            not_after_ns: certificate.validity().not_after.timestamp().saturating_mul(SECOND_NS),
            uri_names,
            host_names,
            is_authority: certificate.is_ca(),
        })
    }

    /// The participant or node that it names.
    ///
    /// # Errors
    /// It does not name exactly one.
    pub fn spiffe_id(&self) -> Result<SpiffeId, NameProblem> {
        let [uri] = self.uri_names.as_slice() else {
            return Err(NameProblem::NotOneUriName(self.uri_names.len()));
        };
        SpiffeId::parse(uri).map_err(|why| NameProblem::NotSpiffe(uri.clone(), why))
    }
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn names(certificate: &X509Certificate<'_>) -> Result<(Vec<String>, Vec<String>), String> {
    let names = certificate.subject_alternative_name().map_err(|error| format!("malformed names: {error}"))?;
    let (mut uri_names, mut host_names) = (Vec::new(), Vec::new());
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::URI(uri) => uri_names.push((*uri).to_owned()),
            GeneralName::DNSName(host) => host_names.push((*host).to_owned()),
            GeneralName::IPAddress(bytes) => host_names.extend(address(bytes)),
            _ => {}
        }
    }
    Ok((uri_names, host_names))
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| std::net::Ipv4Addr::from(octets).to_string());
    let v6 = <[u8; 16]>::try_from(bytes).map(|octets| std::net::Ipv6Addr::from(octets).to_string());
    v4.or(v6).ok()
}
