//! One trust domain: the authorities of one administration and its revocation lists. They vouch for names of this domain and for nothing
//! else; bundles are never merged.

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::{
    file::DomainFiles,
    item::{TrustItem, TrustItemKind},
    pem,
    refusal::{Reason, Refusal},
};
use crate::{
    domain::TrustDomain,
    identity::{
        certificate::{CertificateFacts, hexadecimal},
        toml_file::Fault,
    },
};

const SECOND_NS: i64 = 1_000_000_000;

/// One authority, alone in its root store, so that it is known which one vouched.
#[derive(Debug)]
struct Authority {
    certificate: CertificateDer<'static>,
    facts: CertificateFacts,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// One revocation list.
#[derive(Debug)]
struct RevocationList {
    der: CertificateRevocationListDer<'static>,
    item: TrustItem,
    issuer: Vec<u8>,
    number: Vec<u8>,
}

/// A trust domain as loaded.
#[derive(Debug)]
pub(super) struct Domain {
    name: TrustDomain,
    authorities: Vec<Authority>,
    lists: Vec<RevocationList>,
    crl_grace_ns: i64,
    bundle_file: std::path::PathBuf,
}

impl Domain {
    /// Loads the files of a domain.
    ///
    /// # Errors
    /// Every fault of every file.
    pub(super) fn load(files: &DomainFiles, provider: &Arc<CryptoProvider>) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut lists = Vec::new();
        for path in &files.crl_files {
            match pem::revocation_lists(path) {
                Err(fault) => faults.push(fault),
                Ok(ders) => {
                    for der in ders {
                        match RevocationList::read(der, &files.name, path) {
                            Ok(list) => lists.push(list),
                            Err(why) => faults.push(pem::fault(path, why)),
                        }
                    }
                }
            }
        }
        keep_newest(&mut lists);
        let ders: Vec<_> = lists.iter().map(|list| list.der.clone()).collect();
        let mut authorities = Vec::new();
        match pem::certificates(&files.bundle_file) {
            Err(fault) => faults.push(fault),
            Ok(certificates) => {
                for certificate in certificates {
                    match Authority::new(certificate, &ders, provider) {
                        Ok(authority) => authorities.push(authority),
                        Err(why) => faults.push(pem::fault(&files.bundle_file, why)),
                    }
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let crl_grace_ns = i64::try_from(files.crl_grace.as_nanos()).unwrap_or(i64::MAX);
        let (name, bundle_file) = (files.name.clone(), files.bundle_file.clone());
        Ok(Self { name, authorities, lists, crl_grace_ns, bundle_file })
    }

    /// Whether an authority of this domain vouches for a client's chain now.
    pub(super) fn verify_client(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now_ns: i64,
    ) -> Result<(), Refusal> {
        let now = unix_time(now_ns);
        let mut refusal = Refusal::new(Reason::WrongAuthority, format!("no authority of {} vouches for it", self.name));
        for authority in &self.authorities {
            match authority.verifier.verify_client_cert(leaf, intermediates, now) {
                // The library takes an anchor's word however old it is.
                Ok(_) if authority.facts.not_after_ns < now_ns => {
                    let why = format!("the authority that vouches for it, {:?}, has expired", authority.facts.subject);
                    refusal = Refusal::new(Reason::Expired, why);
                }
                Ok(_) => return self.check_lists(now_ns),
                Err(error) => {
                    let found = Refusal::of_chain(&error);
                    // An authority that knows the chain says more than one that does not.
                    if found.reason != Reason::WrongAuthority {
                        refusal = found;
                    }
                }
            }
        }
        Err(refusal)
    }

    /// Whether an authority of this domain vouches for a server's chain now, whatever its host names.
    pub(super) fn verify_server(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now_ns: i64,
        provider: &CryptoProvider,
    ) -> Result<(), Refusal> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.authorities.iter().map(|authority| authority.certificate.clone()));
        let parsed = rustls::server::ParsedCertificate::try_from(leaf).map_err(|error| Refusal::of_chain(&error))?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &roots,
            intermediates,
            unix_time(now_ns),
            provider.signature_verification_algorithms.all,
        )
        .map_err(|error| Refusal::of_chain(&error))
    }

    /// Whether the domain's revocation lists still count: until their end, and for the grace after it.
    pub(super) fn check_lists(&self, now_ns: i64) -> Result<(), Refusal> {
        let ended = |list: &&RevocationList| list.item.not_after_ns.saturating_add(self.crl_grace_ns) < now_ns;
        match self.lists.iter().find(ended) {
            None => Ok(()),
            Some(list) => {
                let why = format!(
                    "revocation list {} of {} ended, and its grace too: {}",
                    list.item.serial,
                    list.item.name,
                    list.item.file.display()
                );
                Err(Refusal::new(Reason::CrlExpired, why))
            }
        }
    }

    /// Revocation lists that have ended but still count.
    pub(super) fn lists_in_grace(&self, now_ns: i64) -> impl Iterator<Item = &TrustItem> {
        self.lists.iter().map(|list| &list.item).filter(move |item| item.not_after_ns < now_ns)
    }

    /// The subjects of its authorities: hints for clients that hold several certificates.
    pub(super) fn subjects(&self) -> Vec<rustls::DistinguishedName> {
        self.authorities.iter().flat_map(|authority| authority.verifier.root_hint_subjects().to_vec()).collect()
    }

    /// Its authorities and revocation lists.
    pub(super) fn items(&self) -> impl Iterator<Item = TrustItem> {
        let authorities = self.authorities.iter().map(|authority| {
            let (name, kind) = (authority.facts.subject.clone(), TrustItemKind::Authority);
            TrustItem::of_certificate(kind, &self.name, name, &authority.facts, &self.bundle_file)
        });
        authorities.chain(self.lists.iter().map(|list| list.item.clone()))
    }

    /// True where it has no revocation lists at all.
    pub(super) fn is_without_lists(&self) -> bool {
        self.lists.is_empty()
    }

    /// Its name.
    pub(super) fn name(&self) -> &TrustDomain {
        &self.name
    }
}

impl Authority {
    fn new(
        certificate: CertificateDer<'static>,
        lists: &[CertificateRevocationListDer<'static>],
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let facts = CertificateFacts::read(&certificate)?;
        if !facts.is_authority {
            return Err(format!("{:?} is no authority's certificate (CA is false)", facts.subject));
        }
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).map_err(|error| format!("{:?} cannot be trusted: {error}", facts.subject))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .with_crls(lists.iter().cloned())
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { certificate, facts, verifier })
    }
}

impl RevocationList {
    fn read(der: CertificateRevocationListDer<'static>, domain: &TrustDomain, file: &Path) -> Result<Self, String> {
        let (_, list) = x509_parser::parse_x509_crl(&der).map_err(|error| format!("not a revocation list: {error}"))?;
        let next_update = list.next_update().ok_or("a revocation list without nextUpdate never ends")?;
        let number = list.crl_number().map(x509_parser::num_bigint::BigUint::to_bytes_be).unwrap_or_default();
        let item = TrustItem {
            kind: TrustItemKind::RevocationList,
            trust_domain: domain.clone(),
            name: list.issuer().to_string(),
            serial: hexadecimal(&number),
            not_before_ns: list.last_update().timestamp().saturating_mul(SECOND_NS),
            not_after_ns: next_update.timestamp().saturating_mul(SECOND_NS),
            file: file.to_owned(),
            revoked_count: list.iter_revoked_certificates().count() as u32,
        };
        let issuer = list.issuer().as_raw().to_vec();
        Ok(Self { der, item, issuer, number })
    }
}

/// Of several lists of one issuer the newest counts: the library would take whichever stands first.
fn keep_newest(lists: &mut Vec<RevocationList>) {
    lists.sort_by(|left, right| {
        let order = left.issuer.cmp(&right.issuer);
        order.then_with(|| age(right).cmp(&age(left)))
    });
    lists.dedup_by(|later, first| later.issuer == first.issuer);
}

/// CRL numbers grow (RFC 5280, section 5.2.3); as big-endian bytes the longer is the greater.
fn age(list: &RevocationList) -> (usize, &[u8], i64) {
    (list.number.len(), &list.number, list.item.not_before_ns)
}

fn unix_time(now_ns: i64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_nanos(now_ns.max(0).unsigned_abs()))
}
