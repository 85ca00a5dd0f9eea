//! Reads certificates, keys and revocation lists from files. It never judges them.

use std::{fs::File, io::Read, path::Path};

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject};

use crate::identity::toml_file::Fault;

/// The largest file: a revocation list of an administration with a million revoked certificates stays below.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The certificates of a PEM file, in order, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let text = load(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(fault(path, "has no certificate in PEM".to_owned())),
        Err(error) => Err(fault(path, format!("is not PEM: {error}"))),
    }
}

/// The private key of a PEM file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    PrivateKeyDer::from_pem_slice(&load(path)?)
        .map_err(|error| fault(path, format!("has no private key in PEM: {error}")))
}

/// The revocation lists of a file, in PEM (several may follow each other) or DER, as authorities publish them.
pub(super) fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, Fault> {
    let bytes = load(path)?;
    if bytes.first() == Some(&DER_SEQUENCE) {
        return Ok(vec![CertificateRevocationListDer::from(bytes)]);
    }
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    match lists {
        Ok(lists) if !lists.is_empty() => Ok(lists),
        Ok(_) => Err(fault(path, "has no revocation list in PEM or DER".to_owned())),
        Err(error) => Err(fault(path, format!("is not PEM: {error}"))),
    }
}

/// A fault of a whole file.
pub(super) fn fault(path: &Path, description: String) -> Fault {
    Fault { file: path.to_owned(), line: None, field: String::new(), description }
}

/// The first byte of every DER sequence (X.690, section 8.9); PEM begins with text.
const DER_SEQUENCE: u8 = 0x30;

fn load(path: &Path) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(length) if length as u64 <= FILE_BYTES_MAX => Ok(bytes),
        Ok(_) => Err(fault(path, "must be at most 64 MiB".to_owned())),
        Err(error) => Err(fault(path, format!("cannot be read: {error}"))),
    }
}
