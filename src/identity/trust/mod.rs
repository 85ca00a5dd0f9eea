//! Whom the node believes: its own certificate, and one bundle of authorities per trust domain. The bundle is chosen by the domain in
//! the leaf's one URI name before anything is verified, so an authority can never vouch for another administration's names. It never
//! says what anybody may do.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    crypto::CryptoProvider,
    pki_types::CertificateDer,
    server::ResolvesServerCert,
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::{
    certificate::CertificateFacts,
    policy::Successors,
    toml_file::{Fault, Faults},
};
use crate::{
    config::IdentityConfig,
    domain::{SpiffeId, TrustDomain},
};

mod dialling;
mod domain;
mod file;
mod item;
mod pem;
mod refusal;
mod verifier;

pub use dialling::DialledVerifier;
use domain::Domain;
pub use item::{TrustItem, TrustItemKind};
pub use refusal::{Reason, Refusal};
pub use verifier::ConnectionVerifier;

/// A client or server whose certificate was believed.
#[derive(Debug, Clone)]
pub struct VerifiedPeer {
    /// Its one name.
    pub id: SpiffeId,
    /// What its certificate says.
    pub facts: CertificateFacts,
    /// The chain as it was presented, leaf first, for looking at it again after a reload.
    pub chain: Arc<[CertificateDer<'static>]>,
}

/// Everything of one reading of the certificates, bundles and revocation lists. It does not change: a reload makes another.
#[derive(Debug)]
pub struct TrustStore {
    provider: Arc<CryptoProvider>,
    domains: BTreeMap<TrustDomain, Domain>,
    own_id: SpiffeId,
    own_item: TrustItem,
    own_key: Arc<SingleCertAndKey>,
    successors: Successors,
    hints: Vec<rustls::DistinguishedName>,
    files: Vec<PathBuf>,
}

impl TrustStore {
    /// Reads all files that the configuration and the trust file name.
    ///
    /// # Errors
    /// Every fault of every file: nothing of it is taken then.
    pub fn load(config: &IdentityConfig, now_ns: i64) -> Result<Self, Faults> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut faults = Vec::new();
        let mut domains = BTreeMap::new();
        let mut successors = Successors::default();
        let mut files =
            vec![config.certificate_file.clone(), config.private_key_file.clone(), config.trust_file.clone()];
        match file::read(&config.trust_file) {
            Err(mut found) => faults.append(&mut found.0),
            Ok(file) => {
                successors = file.successors;
                for of_domain in &file.domains {
                    files.push(of_domain.bundle_file.clone());
                    files.extend_from_slice(&of_domain.crl_files);
                    match Domain::load(of_domain, &provider) {
                        Ok(domain) => drop(domains.insert(of_domain.name.clone(), domain)),
                        Err(mut found) => faults.append(&mut found),
                    }
                }
            }
        }
        let own = load_own(&config.certificate_file, &config.private_key_file, &provider);
        let (own_id, facts, own_key) = match own {
            Ok(own) if faults.is_empty() => own,
            Ok(_) => return Err(Faults(faults)),
            Err(fault) => {
                faults.push(fault);
                return Err(Faults(faults));
            }
        };
        let name = TrustDomain::parse(own_id.trust_domain()).expect("a SPIFFE ID's trust domain is one");
        let (kind, file) = (TrustItemKind::NodeCertificate, &config.certificate_file);
        let own_item = TrustItem::of_certificate(kind, &name, own_id.to_string(), &facts, file);
        let Some(domain) = domains.get(&name) else {
            let why = format!("has no [[domain]] {name}, the node's own, whose certificate names {own_id}");
            return Err(Faults(vec![pem::fault(&config.trust_file, why)]));
        };
        let (leaf, intermediates) = own_key.0.split_first().expect("a chain has a leaf");
        if let Err(refusal) = domain.verify_server(leaf, intermediates, now_ns, &provider) {
            return Err(Faults(vec![pem::fault(file, format!("is not good for {own_id}: {refusal}"))]));
        }
        let own_key = own_key.1;
        let hints = domains.values().flat_map(Domain::subjects).collect();
        Ok(Self { provider, domains, own_id, own_item, own_key, successors, hints, files })
    }

    /// Decides whether a client's chain is believed, and whom it names.
    ///
    /// # Errors
    /// Why it is not.
    pub fn verify_client(&self, chain: &[CertificateDer<'_>], now_ns: i64) -> Result<VerifiedPeer, Refusal> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(Refusal::new(Reason::NoCertificate, "the client sent no certificate"));
        };
        let facts = CertificateFacts::read(leaf).map_err(|why| Refusal::new(Reason::BadCertificate, why))?;
        let id = facts.spiffe_id().map_err(|problem| {
            let reason = match problem {
                super::certificate::NameProblem::NotOneUriName(_) => Reason::NotOneUriName,
                super::certificate::NameProblem::NotSpiffe(..) => Reason::NotSpiffeId,
            };
            Refusal::new(reason, problem.to_string())
        })?;
        let Some(domain) = self.domain_of(&id) else {
            let why = format!("the trust domain {} is not in the trust file", id.trust_domain());
            return Err(Refusal::new(Reason::UnknownTrustDomain, why).claimed_by(&id));
        };
        domain.verify_client(leaf, intermediates, now_ns).map_err(|refusal| refusal.claimed_by(&id))?;
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Ok(VerifiedPeer { id, facts, chain })
    }

    /// Decides whether the chain that a node shows as a server is believed, and whom it names. It is looked at as a client's too, with
    /// revocation, since a node's certificate is both.
    ///
    /// # Errors
    /// Why it is not.
    pub fn verify_node(&self, chain: &[CertificateDer<'_>], now_ns: i64) -> Result<VerifiedPeer, Refusal> {
        let peer = self.verify_client(chain, now_ns)?;
        if let (Some(domain), Some((leaf, intermediates))) = (self.domain_of(&peer.id), chain.split_first()) {
            let verified = domain.verify_server(leaf, intermediates, now_ns, &self.provider);
            verified.map_err(|refusal| refusal.claimed_by(&peer.id))?;
        }
        Ok(peer)
    }

    /// Whether a peer that was believed under this or an earlier reading may stay connected as far as time decides: her certificate has
    /// not ended, nor have her domain's revocation lists with their grace. Cheaper than looking at her chain again.
    ///
    /// # Errors
    /// Why she may not.
    pub fn check_time(&self, peer: &VerifiedPeer, now_ns: i64) -> Result<(), Refusal> {
        if peer.facts.not_after_ns <= now_ns {
            return Err(Refusal::new(Reason::Expired, "the certificate has expired").claimed_by(&peer.id));
        }
        match self.domain_of(&peer.id) {
            Some(domain) => domain.check_lists(now_ns).map_err(|refusal| refusal.claimed_by(&peer.id)),
            None => Err(Refusal::new(Reason::UnknownTrustDomain, "the trust domain is withdrawn").claimed_by(&peer.id)),
        }
    }

    /// The files that this reading was made of.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The node's own name.
    #[must_use]
    pub fn own_id(&self) -> &SpiffeId {
        &self.own_id
    }

    /// Which participants were renamed.
    #[must_use]
    pub fn successors(&self) -> &Successors {
        &self.successors
    }

    /// The trust domains recognised.
    pub fn domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.domains.values().map(Domain::name)
    }

    /// The trust domains whose certificates cannot be revoked, since no list is given.
    pub fn domains_without_lists(&self) -> impl Iterator<Item = &TrustDomain> {
        self.domains.values().filter(|domain| domain.is_without_lists()).map(Domain::name)
    }

    /// Revocation lists that have ended and count only for their grace.
    pub fn lists_in_grace(&self, now_ns: i64) -> impl Iterator<Item = &TrustItem> {
        self.domains.values().flat_map(move |domain| domain.lists_in_grace(now_ns))
    }

    /// Trust domains that are refused since a revocation list has ended, and its grace too.
    pub fn refused_domains(&self, now_ns: i64) -> impl Iterator<Item = (&TrustDomain, Refusal)> {
        self.domains.values().filter_map(move |domain| Some((domain.name(), domain.check_lists(now_ns).err()?)))
    }

    /// Every certificate and revocation list of this reading, soonest end first.
    #[must_use]
    pub fn items(&self) -> Vec<TrustItem> {
        let own = std::iter::once(self.own_item.clone());
        let mut items: Vec<TrustItem> = own.chain(self.domains.values().flat_map(Domain::items)).collect();
        items.sort_by_key(|item| item.not_after_ns);
        items
    }

    fn domain_of(&self, id: &SpiffeId) -> Option<&Domain> {
        self.domains.get(&TrustDomain::parse(id.trust_domain()).ok()?)
    }

    fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        self.own_key.clone()
    }
}

type OwnKey = (Vec<CertificateDer<'static>>, Arc<SingleCertAndKey>);

fn load_own(
    certificate_file: &Path,
    key_file: &Path,
    provider: &CryptoProvider,
) -> Result<(SpiffeId, CertificateFacts, OwnKey), Fault> {
    let chain = pem::certificates(certificate_file)?;
    let key = pem::private_key(key_file)?;
    let at_certificate = |why: String| pem::fault(certificate_file, why);
    let facts = CertificateFacts::read(&chain[0]).map_err(at_certificate)?;
    let id = facts.spiffe_id().map_err(|why| at_certificate(format!("cannot name the node: {why}")))?;
    let certified = CertifiedKey::from_der(chain.clone(), key, provider).map_err(|why| match why {
        rustls::Error::InconsistentKeys(_) => {
            pem::fault(key_file, format!("does not go with the certificate {}", certificate_file.display()))
        }
        other => pem::fault(key_file, format!("cannot be used: {other}")),
    })?;
    Ok((id, facts, (chain, Arc::new(SingleCertAndKey::from(certified)))))
}

#[cfg(test)]
mod tests;
