//! What can go wrong with a development PKI. It never holds a key.

use std::{io, path::PathBuf};

use crate::domain::{SpiffeId, TrustDomain};

/// Why the development PKI could not do it.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// There is an authority already.
    #[error("{} already has an authority; remove the directory to start anew", .0.display())]
    Exists(PathBuf),
    /// There is no authority yet.
    #[error("{} has no authority; create one with `tradelane pki init`", .0.display())]
    Missing(PathBuf),
    /// A file could not be read or written.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The index is not as this program wrote it.
    #[error("{} is damaged", path.display())]
    Index {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Making a key or certificate failed.
    #[error("making a key or certificate failed")]
    Make(#[from] rcgen::Error),
    /// A certificate just made could not be read back.
    #[error("a certificate just made cannot be read: {0}")]
    ReadBack(String),
    /// The name belongs to another trust domain.
    #[error("{id} is not of the trust domain {domain}, so its authority cannot vouch for it")]
    ForeignName {
        /// The name.
        id: SpiffeId,
        /// The authority's domain.
        domain: TrustDomain,
    },
    /// Two names would share their files, or take the authority's.
    #[error("{id} would be kept as {file_stem}.pem, which is in use; choose another path")]
    NameTaken {
        /// The name.
        id: SpiffeId,
        /// The base name of its files.
        file_stem: String,
    },
    /// Nothing to revoke.
    #[error("no certificate in force has the name or serial number {0}")]
    NothingToRevoke(String),
    /// A DNS name cannot stand in a certificate.
    #[error("{0} is neither a DNS name nor an IP address")]
    HostName(String),
}
