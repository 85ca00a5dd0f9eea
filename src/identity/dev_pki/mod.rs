//! A development PKI: one authority per trust domain, certificates for participants and nodes, revocation lists, and certificates that
//! are wrong on purpose for tests and drills. It keeps its keys in plain files, so it is never for production: there SPIRE, step-ca or
//! cert-manager issue the same certificates.
//!
//! ```text
//! <directory>/<trust domain>/ca.pem  ca.key  crl.pem  index.json
//!                            agency-karachi.pem  agency-karachi.key
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{CertificateParams, CertificateRevocationListParams, Issuer, KeyPair, RevokedCertParams, SerialNumber};

use crate::domain::{SpiffeId, TrustDomain};

mod error;
mod files;
mod profile;

pub use error::PkiError;
pub use profile::Fault;
use profile::{Purpose, Validity};

use files::{Index, IndexEntry, Readers};

const SECOND_NS: i64 = 1_000_000_000;
const DAY_NS: i64 = 86_400 * SECOND_NS;
/// How long an authority lives: longer than any development project.
const AUTHORITY_LIFE_NS: i64 = 3_650 * DAY_NS;
/// How long a certificate lives unless the caller says otherwise.
pub const CERTIFICATE_LIFE_NS: i64 = 365 * DAY_NS;
/// How long a revocation list counts unless the caller says otherwise.
pub const CRL_LIFE_NS: i64 = 30 * DAY_NS;
/// Base names that the authority's own files use.
const RESERVED: [&str; 3] = ["ca", "crl", "index"];

/// A certificate just issued, and where its files are.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The name in it.
    pub id: SpiffeId,
    /// The chain, leaf first: PEM.
    pub certificate_file: PathBuf,
    /// The private key: PEM, PKCS #8, mode 0600.
    pub key_file: PathBuf,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// Its end, nanoseconds since 1970.
    pub not_after_ns: i64,
}

/// An intermediate authority, for tests of chains.
#[derive(Debug)]
struct Intermediate {
    certificate_pem: String,
    serial: String,
    issuer: Issuer<'static, KeyPair>,
}

/// The authority of one trust domain with its directory.
#[derive(Debug)]
pub struct DevPki {
    directory: PathBuf,
    domain: TrustDomain,
    issuer: Issuer<'static, KeyPair>,
    index: Index,
    intermediate: Option<Intermediate>,
}

impl DevPki {
    /// Makes the authority of a trust domain below `root`, with an empty revocation list.
    ///
    /// # Errors
    /// There is one already, or a file could not be written.
    pub fn create(root: &Path, domain: &TrustDomain, now_ns: i64) -> Result<Self, PkiError> {
        let directory = root.join(domain.as_str());
        if directory.join("ca.pem").exists() {
            return Err(PkiError::Exists(directory));
        }
        fs::create_dir_all(&directory).map_err(|source| PkiError::File { path: directory.clone(), source })?;
        let key = KeyPair::generate()?;
        let params = profile::authority(domain, "development authority", Validity::from(now_ns, AUTHORITY_LIFE_NS));
        let certificate = params.self_signed(&key)?;
        put(&directory.join("ca.key"), key.serialize_pem().as_bytes(), Readers::Owner)?;
        put(&directory.join("ca.pem"), certificate.pem().as_bytes(), Readers::All)?;
        let issuer = Issuer::new(params, key);
        let mut pki = Self { directory, domain: domain.clone(), issuer, index: Index::default(), intermediate: None };
        pki.write_crl(now_ns, CRL_LIFE_NS)?;
        Ok(pki)
    }

    /// Opens the authority that [`DevPki::create`] made.
    ///
    /// # Errors
    /// There is none, or a file is damaged.
    pub fn open(root: &Path, domain: &TrustDomain) -> Result<Self, PkiError> {
        let directory = root.join(domain.as_str());
        if !directory.join("ca.pem").exists() {
            return Err(PkiError::Missing(directory));
        }
        let key = KeyPair::from_pem(&get(&directory.join("ca.key"))?)?;
        let issuer = Issuer::from_ca_cert_pem(&get(&directory.join("ca.pem"))?, key)?;
        let path = directory.join("index.json");
        let index = serde_json::from_str(&get(&path)?).map_err(|source| PkiError::Index { path, source })?;
        Ok(Self { directory, domain: domain.clone(), issuer, index, intermediate: None })
    }

    /// The trust domain.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The authority's certificate: the bundle that others trust.
    #[must_use]
    pub fn bundle_file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// The revocation list.
    #[must_use]
    pub fn crl_file(&self) -> PathBuf {
        self.directory.join("crl.pem")
    }

    /// Issues a participant's certificate, for clients only.
    ///
    /// # Errors
    /// The name belongs elsewhere or its files are taken; a file could not be written.
    pub fn issue_participant(&mut self, id: &SpiffeId, now_ns: i64, life_ns: i64) -> Result<Issued, PkiError> {
        self.check_domain(id)?;
        let params = profile::leaf(&[id], &[], Purpose::Participant, Validity::from(now_ns, life_ns))?;
        self.issue(id, &params, None)
    }

    /// Issues a node's certificate, for servers and clients, with the host names and addresses that clients check.
    ///
    /// # Errors
    /// As for [`DevPki::issue_participant`], or a host name is malformed.
    pub fn issue_node(
        &mut self,
        id: &SpiffeId,
        hosts: &[String],
        now_ns: i64,
        life_ns: i64,
    ) -> Result<Issued, PkiError> {
        self.check_domain(id)?;
        let params = profile::leaf(&[id], hosts, Purpose::Node, Validity::from(now_ns, life_ns))?;
        self.issue(id, &params, None)
    }

    /// Issues a participant's certificate through an intermediate authority, which is made at the first call and lives as long as this
    /// value.
    ///
    /// # Errors
    /// As for [`DevPki::issue_participant`].
    pub fn issue_through_intermediate(&mut self, id: &SpiffeId, now_ns: i64, life_ns: i64) -> Result<Issued, PkiError> {
        self.check_domain(id)?;
        let intermediate = match self.intermediate.take() {
            Some(intermediate) => intermediate,
            None => self.make_intermediate(now_ns)?,
        };
        let params = profile::leaf(&[id], &[], Purpose::Participant, Validity::from(now_ns, life_ns))?;
        let issued = self.issue(id, &params, Some(&intermediate));
        self.intermediate = Some(intermediate);
        self.write_crl(now_ns, CRL_LIFE_NS)?;
        issued
    }

    /// Issues a certificate that is wrong in one way.
    ///
    /// # Errors
    /// As for [`DevPki::issue_participant`].
    pub fn issue_broken(&mut self, id: &SpiffeId, fault: &Fault, now_ns: i64) -> Result<Issued, PkiError> {
        let params = fault.params(id, now_ns)?;
        match fault {
            Fault::SelfSigned => {
                let key = KeyPair::generate()?;
                let certificate = params.self_signed(&key)?;
                self.keep(id, &certificate.pem(), certificate.der(), &key)
            }
            Fault::Expired
            | Fault::NotYetValid
            | Fault::SecondUriName(_)
            | Fault::NoUriName
            | Fault::NameIs(_)
            | Fault::ServerOnly
            | Fault::Authority => self.issue(id, &params, None),
        }
    }

    /// Revokes every certificate in force with this SPIFFE ID or serial number, and returns their serial numbers. It counts once the
    /// revocation list is written anew and whoever relies on it has read that.
    ///
    /// # Errors
    /// There is none.
    pub fn revoke(&mut self, id_or_serial: &str, now_ns: i64) -> Result<Vec<String>, PkiError> {
        let wanted = id_or_serial.to_ascii_lowercase().replace(':', "");
        let mut revoked = Vec::new();
        for entry in &mut self.index.issued {
            if (entry.id == id_or_serial || entry.serial == wanted) && entry.revoked_time_ns.is_none() {
                entry.revoked_time_ns = Some(now_ns);
                revoked.push(entry.serial.clone());
            }
        }
        if revoked.is_empty() {
            return Err(PkiError::NothingToRevoke(id_or_serial.to_owned()));
        }
        self.write_index()?;
        Ok(revoked)
    }

    /// Revokes the intermediate authority, where one was made.
    ///
    /// # Errors
    /// There is none in force.
    pub fn revoke_intermediate(&mut self, now_ns: i64) -> Result<Vec<String>, PkiError> {
        let serial = self.intermediate.as_ref().map(|it| it.serial.clone()).unwrap_or_default();
        self.revoke(&serial, now_ns)
    }

    /// Writes the revocation list anew, with the next number.
    ///
    /// # Errors
    /// A file could not be written.
    pub fn write_crl(&mut self, now_ns: i64, life_ns: i64) -> Result<PathBuf, PkiError> {
        self.index.crl_number += 1;
        let revoked = self.index.issued.iter().filter_map(|entry| {
            let revocation_time = profile::time(entry.revoked_time_ns?);
            let serial_number = SerialNumber::from(bytes_of(&entry.serial));
            Some(RevokedCertParams { serial_number, revocation_time, reason_code: None, invalidity_date: None })
        });
        let mut params = CertificateRevocationListParams {
            this_update: profile::time(now_ns),
            next_update: profile::time(now_ns + life_ns),
            crl_number: SerialNumber::from(self.index.crl_number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let mut pem = params.signed_by(&self.issuer)?.pem()?;
        if let Some(intermediate) = &self.intermediate {
            // Serial numbers are unique in all, so one list of them serves both issuers.
            params.crl_number = SerialNumber::from(self.index.crl_number);
            pem.push_str(&params.signed_by(&intermediate.issuer)?.pem()?);
        }
        put(&self.crl_file(), pem.as_bytes(), Readers::All)?;
        self.write_index()?;
        Ok(self.crl_file())
    }

    fn check_domain(&self, id: &SpiffeId) -> Result<(), PkiError> {
        if id.trust_domain() == self.domain.as_str() {
            Ok(())
        } else {
            Err(PkiError::ForeignName { id: id.clone(), domain: self.domain.clone() })
        }
    }

    fn make_intermediate(&mut self, now_ns: i64) -> Result<Intermediate, PkiError> {
        let key = KeyPair::generate()?;
        let params =
            profile::authority(&self.domain, "development intermediate", Validity::from(now_ns, AUTHORITY_LIFE_NS));
        let certificate = params.signed_by(&key, &self.issuer)?;
        let (serial, not_after_ns) = profile::read_back(certificate.der())?;
        self.index.issued.push(IndexEntry {
            serial: serial.clone(),
            id: format!("intermediate of {}", self.domain),
            file_stem: String::new(),
            not_after_ns,
            revoked_time_ns: None,
        });
        self.write_index()?;
        Ok(Intermediate { certificate_pem: certificate.pem(), serial, issuer: Issuer::new(params, key) })
    }

    fn issue(
        &mut self,
        id: &SpiffeId,
        params: &CertificateParams,
        through: Option<&Intermediate>,
    ) -> Result<Issued, PkiError> {
        let key = KeyPair::generate()?;
        let issuer = through.map_or(&self.issuer, |intermediate| &intermediate.issuer);
        let certificate = params.signed_by(&key, issuer)?;
        let mut chain_pem = certificate.pem();
        if let Some(intermediate) = through {
            chain_pem.push_str(&intermediate.certificate_pem);
        }
        self.keep(id, &chain_pem, certificate.der(), &key)
    }

    fn keep(&mut self, id: &SpiffeId, chain_pem: &str, leaf_der: &[u8], key: &KeyPair) -> Result<Issued, PkiError> {
        let path = id.as_str().split('/').skip(3).collect::<Vec<_>>();
        let file_stem = path.join("-");
        let of_another = |entry: &IndexEntry| entry.file_stem == file_stem && entry.id != id.as_str();
        if RESERVED.contains(&&*file_stem) || self.index.issued.iter().any(of_another) {
            return Err(PkiError::NameTaken { id: id.clone(), file_stem });
        }
        let (serial, not_after_ns) = profile::read_back(leaf_der)?;
        let certificate_file = self.directory.join(format!("{file_stem}.pem"));
        let key_file = self.directory.join(format!("{file_stem}.key"));
        put(&key_file, key.serialize_pem().as_bytes(), Readers::Owner)?;
        put(&certificate_file, chain_pem.as_bytes(), Readers::All)?;
        self.index.issued.push(IndexEntry {
            serial: serial.clone(),
            id: id.to_string(),
            file_stem,
            not_after_ns,
            revoked_time_ns: None,
        });
        self.write_index()?;
        Ok(Issued { id: id.clone(), certificate_file, key_file, serial, not_after_ns })
    }

    fn write_index(&self) -> Result<(), PkiError> {
        let path = self.directory.join("index.json");
        match serde_json::to_vec_pretty(&self.index) {
            Ok(json) => put(&path, &json, Readers::All),
            Err(source) => Err(PkiError::Index { path, source }),
        }
    }
}

fn put(path: &Path, contents: &[u8], readers: Readers) -> Result<(), PkiError> {
    files::write(path, contents, readers).map_err(|source| PkiError::File { path: path.to_owned(), source })
}

fn get(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::File { path: path.to_owned(), source })
}

/// The bytes of a serial number that this file wrote in hexadecimal; a pair that is not hexadecimal is left out.
fn bytes_of(hexadecimal: &str) -> Vec<u8> {
    let pair = |at: usize| hexadecimal.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..hexadecimal.len()).step_by(2).filter_map(pair).collect()
}

#[cfg(test)]
mod tests;
