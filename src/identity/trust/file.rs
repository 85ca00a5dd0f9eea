//! The trust file: which administrations the node recognises, and which participants were renamed. Recognising another administration
//! is one more table here; the file never says what its participants may do.
//!
//! ```toml
//! [[domain]]
//! name = "customs.gov.pk"
//! bundle_file = "customs.gov.pk/ca.pem"
//! crl_files = ["customs.gov.pk/crl.pem"]
//! crl_grace = "24h"
//!
//! [[successor]]
//! participant = "spiffe://customs.gov.pk/agency/karachi-port"
//! successor_of = "spiffe://customs.gov.pk/agency/karachi"
//! ```

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use crate::{
    config::units::parse_duration,
    domain::{SpiffeId, TrustDomain},
    identity::{
        policy::Successors,
        toml_file::{Faults, TomlFile, join},
    },
};

/// At most so many trust domains.
const DOMAINS_MAX: usize = 1_024;
/// How long a revocation list counts after its end, unless the file says otherwise.
const CRL_GRACE: Duration = Duration::from_secs(24 * 3_600);

/// The trust file as the program means it.
#[derive(Debug)]
pub(super) struct TrustFile {
    /// In the order of the file.
    pub domains: Vec<DomainFiles>,
    /// Renamed participants.
    pub successors: Successors,
}

/// The files of one trust domain.
#[derive(Debug, Clone)]
pub(super) struct DomainFiles {
    /// Its name.
    pub name: TrustDomain,
    /// The authorities' certificates in PEM.
    pub bundle_file: PathBuf,
    /// Revocation lists, PEM or DER.
    pub crl_files: Vec<PathBuf>,
    /// How long a list counts after its end.
    pub crl_grace: Duration,
}

#[derive(Debug, Deserialize)]
struct DomainText {
    name: String,
    bundle_file: PathBuf,
    #[serde(default)]
    crl_files: Vec<PathBuf>,
    #[serde(default)]
    crl_grace: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SuccessorText {
    participant: String,
    successor_of: String,
}

/// Reads the trust file; relative paths start at its folder.
pub(super) fn read(path: &Path) -> Result<TrustFile, Faults> {
    let mut file = TomlFile::load(path)?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let text = file.text();
    let top = file.top(&text).unwrap_or_default();
    file.check_keys(&top, &["domain", "successor"], "");
    let mut domains: Vec<DomainFiles> = Vec::new();
    let mut names = BTreeSet::new();
    for (index, (line, value)) in file.tables(&top, "domain").into_iter().enumerate() {
        let at = format!("domain[{index}]");
        if let Some(table) = value.get_ref().as_table() {
            file.check_keys(table, &["name", "bundle_file", "crl_files", "crl_grace"], &at);
        }
        let Some(domain) = file.read::<DomainText>(value, &at) else { continue };
        let grace = domain.crl_grace.as_deref().map_or(Some(CRL_GRACE), parse_duration);
        if grace.is_none() {
            file.fault(Some(line), &join(&at, "crl_grace"), "must be a time such as \"24h\"".to_owned());
        }
        if !names.insert(domain.name.clone()) {
            file.fault(Some(line), &join(&at, "name"), format!("{:?} stands in the file twice", domain.name));
        }
        match TrustDomain::parse(&domain.name) {
            Err(why) => file.fault(Some(line), &join(&at, "name"), why.to_string()),
            Ok(name) => domains.push(DomainFiles {
                name,
                bundle_file: folder.join(domain.bundle_file),
                crl_files: domain.crl_files.iter().map(|crl| folder.join(crl)).collect(),
                crl_grace: grace.unwrap_or(CRL_GRACE),
            }),
        }
    }
    if domains.is_empty() || DOMAINS_MAX < domains.len() {
        file.fault(None, "domain", format!("must be 1 to {DOMAINS_MAX} trust domains, the node's own among them"));
    }
    let mut pairs = Vec::new();
    for (index, (line, value)) in file.tables(&top, "successor").into_iter().enumerate() {
        let at = format!("successor[{index}]");
        if let Some(table) = value.get_ref().as_table() {
            file.check_keys(table, &["participant", "successor_of"], &at);
        }
        let Some(pair) = file.read::<SuccessorText>(value, &at) else { continue };
        let mut parse = |key: &str, text: &str| {
            SpiffeId::parse(text).map_err(|why| file.fault(Some(line), &join(&at, key), why.to_string())).ok()
        };
        let (new, old) = (parse("participant", &pair.participant), parse("successor_of", &pair.successor_of));
        pairs.extend(new.zip(old));
    }
    file.finish(TrustFile { domains, successors: Successors::new(&pairs) })
}
