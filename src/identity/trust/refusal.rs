//! Why a connection is refused: one word for metrics, the audit log and the API, and a sentence for the operator. The client sees only
//! a TLS alert.

use std::fmt;

use rustls::{AlertDescription, CertificateError};

use crate::domain::SpiffeId;

/// Why a connection is refused or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The client sent no certificate.
    NoCertificate,
    /// The client's certificate cannot be read, or is not one for an end entity.
    BadCertificate,
    /// The certificate has no URI name, or several.
    NotOneUriName,
    /// The URI name is not a SPIFFE ID with a path.
    NotSpiffeId,
    /// The trust domain of the name is not in the trust file.
    UnknownTrustDomain,
    /// No authority of the name's own trust domain vouches for the certificate.
    WrongAuthority,
    /// The certificate, or one of its chain, has ended.
    Expired,
    /// The certificate, or one of its chain, has not begun.
    NotYetValid,
    /// The certificate, or one of its chain, is revoked.
    Revoked,
    /// The trust domain has revocation lists, but none speaks of the certificate's issuer.
    RevocationUnknown,
    /// A revocation list of the trust domain has ended, and its grace too.
    CrlExpired,
    /// The certificate may not be used by a client.
    WrongPurpose,
    /// The first bytes were not TLS.
    Plaintext,
    /// The client speaks no TLS 1.3.
    TlsVersion,
    /// The client offered protocols, but not HTTP/2.
    NotHttp2,
    /// The handshake took too long.
    HandshakeTimeout,
    /// The client went away, or sent an alert, during the handshake.
    ClientEnded,
    /// The client did not accept the node's certificate.
    ServerCertificateRefused,
    /// The node has as many connections as it may, or as one address may.
    TooManyConnections,
    /// The node that was dialled is another than the one that is meant.
    OtherNode,
    /// TLS failed in another way.
    TlsFailed,
}

/// A refused connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why, in a word.
    pub reason: Reason,
    /// Why, for the operator.
    pub detail: String,
    /// Who the certificate says that it is; not proven unless the reason says otherwise.
    pub claimed: Option<SpiffeId>,
}

impl Reason {
    /// Every reason, for metrics and tests.
    pub const ALL: [Self; 21] = [
        Self::NoCertificate,
        Self::BadCertificate,
        Self::NotOneUriName,
        Self::NotSpiffeId,
        Self::UnknownTrustDomain,
        Self::WrongAuthority,
        Self::Expired,
        Self::NotYetValid,
        Self::Revoked,
        Self::RevocationUnknown,
        Self::CrlExpired,
        Self::WrongPurpose,
        Self::Plaintext,
        Self::TlsVersion,
        Self::NotHttp2,
        Self::HandshakeTimeout,
        Self::ClientEnded,
        Self::ServerCertificateRefused,
        Self::TooManyConnections,
        Self::OtherNode,
        Self::TlsFailed,
    ];

    /// The reason as the API, metrics and audit log spell it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoCertificate => "NO_CERTIFICATE",
            Self::BadCertificate => "BAD_CERTIFICATE",
            Self::NotOneUriName => "NOT_ONE_URI_NAME",
            Self::NotSpiffeId => "NOT_SPIFFE_ID",
            Self::UnknownTrustDomain => "UNKNOWN_TRUST_DOMAIN",
            Self::WrongAuthority => "WRONG_AUTHORITY",
            Self::Expired => "EXPIRED",
            Self::NotYetValid => "NOT_YET_VALID",
            Self::Revoked => "REVOKED",
            Self::RevocationUnknown => "REVOCATION_UNKNOWN",
            Self::CrlExpired => "CRL_EXPIRED",
            Self::WrongPurpose => "WRONG_PURPOSE",
            Self::Plaintext => "PLAINTEXT",
            Self::TlsVersion => "TLS_VERSION",
            Self::NotHttp2 => "NOT_HTTP2",
            Self::HandshakeTimeout => "HANDSHAKE_TIMEOUT",
            Self::ClientEnded => "CLIENT_ENDED",
            Self::ServerCertificateRefused => "SERVER_CERTIFICATE_REFUSED",
            Self::TooManyConnections => "TOO_MANY_CONNECTIONS",
            Self::OtherNode => "OTHER_NODE",
            Self::TlsFailed => "TLS_FAILED",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// A refusal of somebody unknown.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), claimed: None }
    }

    /// The same refusal, of somebody who claims a name.
    #[must_use]
    pub fn claimed_by(mut self, id: &SpiffeId) -> Self {
        self.claimed = Some(id.clone());
        self
    }

    /// A certificate that the checks of the chain refused.
    #[must_use]
    pub fn of_chain(error: &rustls::Error) -> Self {
        let rustls::Error::InvalidCertificate(error) = error else {
            return Self::new(Reason::BadCertificate, error.to_string());
        };
        let reason = match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Reason::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Reason::NotYetValid,
            CertificateError::Revoked => Reason::Revoked,
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Reason::WrongAuthority,
            CertificateError::UnknownRevocationStatus => Reason::RevocationUnknown,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Reason::WrongPurpose,
            // The library's list is open: what else there is, or will be, is a certificate that is bad in itself.
            _ => Reason::BadCertificate,
        };
        Self::new(reason, error.to_string())
    }

    /// What TLS is told, so that the client gets the alert that comes nearest (RFC 8446, section 6.2); `tradelane doctor` reads it.
    #[must_use]
    pub fn as_certificate_error(&self) -> CertificateError {
        match self.reason {
            Reason::Expired => CertificateError::Expired,
            Reason::NotYetValid => CertificateError::NotValidYet,
            Reason::Revoked => CertificateError::Revoked,
            Reason::WrongAuthority | Reason::RevocationUnknown => CertificateError::UnknownIssuer,
            Reason::WrongPurpose => CertificateError::InvalidPurpose,
            Reason::UnknownTrustDomain | Reason::OtherNode => CertificateError::ApplicationVerificationFailure,
            Reason::NoCertificate
            | Reason::BadCertificate
            | Reason::NotOneUriName
            | Reason::NotSpiffeId
            | Reason::CrlExpired
            | Reason::Plaintext
            | Reason::TlsVersion
            | Reason::NotHttp2
            | Reason::HandshakeTimeout
            | Reason::ClientEnded
            | Reason::ServerCertificateRefused
            | Reason::TooManyConnections
            | Reason::TlsFailed => CertificateError::BadEncoding,
        }
    }

    /// A handshake that failed before or beside the check of the certificate.
    #[must_use]
    pub fn of_handshake(error: &std::io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let reason = match tls {
            None => Reason::ClientEnded,
            Some(rustls::Error::NoCertificatesPresented) => Reason::NoCertificate,
            Some(rustls::Error::InvalidMessage(_)) => Reason::Plaintext,
            Some(rustls::Error::PeerIncompatible(_)) => Reason::TlsVersion,
            Some(rustls::Error::NoApplicationProtocol) => Reason::NotHttp2,
            Some(rustls::Error::AlertReceived(alert)) => alert_reason(*alert),
            Some(rustls::Error::InvalidCertificate(_)) => return Self::of_chain(tls.expect("it was matched as one")),
            Some(_) => Reason::TlsFailed,
        };
        Self::new(reason, error.to_string())
    }
}

fn alert_reason(alert: AlertDescription) -> Reason {
    match alert {
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => Reason::ServerCertificateRefused,
        // Any other alert (the library's list is open) is the client's way to end.
        _ => Reason::ClientEnded,
    }
}
