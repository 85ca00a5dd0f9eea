//! The files of a development PKI: certificates that all may read, keys that only their owner may, and the index of what was issued.
//! Each is written beside its place and moved there, so that a reader never sees half a file. It never signs anything.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde::{Deserialize, Serialize};

/// Whom a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    /// Mode 0644.
    All,
    /// Mode 0600: private keys.
    Owner,
}

/// What was issued and revoked under one authority.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    /// The number of the last revocation list (RFC 5280, section 5.2.3).
    pub crl_number: u64,
    /// Every certificate, oldest first.
    pub issued: Vec<IndexEntry>,
}

/// One certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IndexEntry {
    /// In hexadecimal.
    pub serial: String,
    /// The SPIFFE ID that it was issued for.
    pub id: String,
    /// The base name of its files.
    pub file_stem: String,
    /// Its end, nanoseconds since 1970.
    pub not_after_ns: i64,
    /// When it was revoked, nanoseconds since 1970.
    pub revoked_time_ns: Option<i64>,
}

/// Puts a file in place as a whole.
pub(super) fn write(path: &Path, contents: &[u8], readers: Readers) -> io::Result<()> {
    let mode = match readers {
        Readers::All => 0o644,
        Readers::Owner => 0o600,
    };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    // A leftover of an interrupted run could have another mode.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
