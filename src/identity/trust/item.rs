//! Certificates and revocation lists that the node relies on, as NodeService.ListTrust shows them, and how near their end is.

use std::path::{Path, PathBuf};

use crate::{domain::TrustDomain, identity::certificate::CertificateFacts};

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrustItemKind {
    /// The node's own certificate.
    NodeCertificate,
    /// An authority of a trust domain.
    Authority,
    /// A revocation list of a trust domain.
    RevocationList,
    /// The certificate of a connected participant.
    ParticipantCertificate,
}

/// One certificate or revocation list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustItem {
    /// What it is.
    pub kind: TrustItemKind,
    /// The trust domain that it belongs to.
    pub trust_domain: TrustDomain,
    /// The subject of an authority, the issuer of a revocation list, the SPIFFE ID of a node or participant.
    pub name: String,
    /// The serial number in hexadecimal; of a revocation list its CRL number.
    pub serial: String,
    /// Not valid before; of a revocation list its thisUpdate. Nanoseconds since 1970.
    pub not_before_ns: i64,
    /// Not valid after; of a revocation list its nextUpdate. Nanoseconds since 1970.
    pub not_after_ns: i64,
    /// The file that it came from; empty for a connected participant's.
    pub file: PathBuf,
    /// How many certificates a revocation list revokes.
    pub revoked_count: u32,
}

impl TrustItemKind {
    /// The kind in words, for log lines and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NodeCertificate => "node certificate",
            Self::Authority => "authority",
            Self::RevocationList => "revocation list",
            Self::ParticipantCertificate => "participant certificate",
        }
    }
}

impl TrustItem {
    /// The item of a certificate.
    #[must_use]
    pub fn of_certificate(
        kind: TrustItemKind,
        trust_domain: &TrustDomain,
        name: String,
        facts: &CertificateFacts,
        file: &Path,
    ) -> Self {
        Self {
            kind,
            trust_domain: trust_domain.clone(),
            name,
            serial: facts.serial.clone(),
            not_before_ns: facts.not_before_ns,
            not_after_ns: facts.not_after_ns,
            file: file.to_owned(),
            revoked_count: 0,
        }
    }

    /// How much time is left, in nanoseconds; negative where it has ended.
    #[must_use]
    pub const fn remaining_ns(&self, now_ns: i64) -> i64 {
        self.not_after_ns.saturating_sub(now_ns)
    }
}
