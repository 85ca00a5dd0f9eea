//! What stands in the development PKI's certificates (SPIFFE X.509-SVID standard, sections 2 to 4), the right ones and those that are
//! wrong on purpose. It never touches a file.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
    string::Ia5String,
};

use super::{CERTIFICATE_LIFE_NS, DAY_NS, PkiError, SECOND_NS};
use crate::{
    domain::{SpiffeId, TrustDomain},
    identity::certificate::CertificateFacts,
};

/// Certificates begin so long before they are made, since clocks differ.
const BACKDATE_NS: i64 = 300 * SECOND_NS;
/// The longest common name (RFC 5280, appendix A.1, ub-common-name).
const COMMON_NAME_CHARS_MAX: usize = 64;

/// One way in which a certificate is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It ended yesterday.
    Expired,
    /// It begins tomorrow.
    NotYetValid,
    /// It has this URI name too.
    SecondUriName(SpiffeId),
    /// It has no URI name.
    NoUriName,
    /// Its one URI name is this, of whatever trust domain, and its files are named for the id asked for.
    NameIs(SpiffeId),
    /// It is signed by its own key.
    SelfSigned,
    /// It may serve, but not be a client.
    ServerOnly,
    /// It is an authority's: it could vouch for any name of its domain.
    Authority,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To call nodes.
    Participant,
    /// To serve, and to call other nodes.
    Node,
    /// To serve only.
    ServerOnly,
}

/// From when to when, nanoseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validity {
    not_before_ns: i64,
    not_after_ns: i64,
}

impl Validity {
    /// From now on, for a time.
    pub(super) fn from(now_ns: i64, life_ns: i64) -> Self {
        Self { not_before_ns: now_ns - BACKDATE_NS, not_after_ns: now_ns + life_ns }
    }
}

impl Fault {
    /// What stands in such a certificate.
    pub(super) fn params(&self, id: &SpiffeId, now_ns: i64) -> Result<CertificateParams, PkiError> {
        let good = Validity::from(now_ns, CERTIFICATE_LIFE_NS);
        let expired = Validity { not_before_ns: now_ns - 10 * DAY_NS, not_after_ns: now_ns - DAY_NS };
        let early = Validity { not_before_ns: now_ns + DAY_NS, not_after_ns: now_ns + 10 * DAY_NS };
        match self {
            Self::Expired => leaf(&[id], &[], Purpose::Participant, expired),
            Self::NotYetValid => leaf(&[id], &[], Purpose::Participant, early),
            Self::SecondUriName(second) => leaf(&[id, second], &[], Purpose::Participant, good),
            Self::NoUriName => leaf(&[], &["localhost".to_owned()], Purpose::Participant, good),
            Self::NameIs(name) => leaf(&[name], &[], Purpose::Participant, good),
            Self::SelfSigned => leaf(&[id], &[], Purpose::Participant, good),
            Self::ServerOnly => leaf(&[id], &[], Purpose::ServerOnly, good),
            Self::Authority => {
                let mut params = leaf(&[id], &[], Purpose::Participant, good)?;
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                Ok(params)
            }
        }
    }
}

/// An authority's certificate.
pub(super) fn authority(domain: &TrustDomain, title: &str, validity: Validity) -> CertificateParams {
    let mut params = begin(&format!("{domain} {title}"), validity);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

/// A leaf certificate.
pub(super) fn leaf(
    ids: &[&SpiffeId],
    hosts: &[String],
    purpose: Purpose,
    validity: Validity,
) -> Result<CertificateParams, PkiError> {
    let title = ids.first().map_or("no name", |id| id.as_str().trim_start_matches("spiffe://"));
    let mut params = begin(title, validity);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match purpose {
        Purpose::Participant => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Purpose::Node => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        Purpose::ServerOnly => vec![ExtendedKeyUsagePurpose::ServerAuth],
    };
    for id in ids {
        params.subject_alt_names.push(SanType::URI(Ia5String::try_from(id.as_str())?));
    }
    for host in hosts {
        params.subject_alt_names.push(host_name(host)?);
    }
    Ok(params)
}

/// The serial number in hexadecimal and the end, nanoseconds since 1970.
pub(super) fn read_back(der: &[u8]) -> Result<(String, i64), PkiError> {
    let facts = CertificateFacts::read(der).map_err(PkiError::ReadBack)?;
    Ok((facts.serial, facts.not_after_ns))
}

/// A time as certificates carry it.
pub(super) fn time(time_ns: i64) -> time::OffsetDateTime {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let distance = Duration::from_nanos(time_ns.unsigned_abs());
    if time_ns < 0 { epoch - distance } else { epoch + distance }
}

fn begin(title: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, title.chars().take(COMMON_NAME_CHARS_MAX).collect::<String>());
    params.not_before = time(validity.not_before_ns);
    params.not_after = time(validity.not_after_ns);
    params.use_authority_key_identifier_extension = true;
    params
}

fn host_name(host: &str) -> Result<SanType, PkiError> {
    if let Ok(address) = host.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let labels = !host.is_empty()
        && host
            .split('.')
            .all(|label| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    if !labels {
        return Err(PkiError::HostName(host.to_owned()));
    }
    Ok(SanType::DnsName(Ia5String::try_from(host)?))
}
