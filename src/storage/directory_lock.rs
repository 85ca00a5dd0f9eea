//! One process a data directory: a lock that the kernel drops with the process. It never waits for another.

use std::{
    fs::{File, OpenOptions},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use super::StorageError;

/// The lock's file name.
pub const FILE_NAME: &str = "lock";

/// Holds a data directory until it is dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the directory.
    ///
    /// # Errors
    /// Another process holds it, or the file cannot be opened.
    pub fn take(data_dir: &Path) -> Result<Self, StorageError> {
        let path = data_dir.join(FILE_NAME);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(StorageError::io(format!("cannot open {}", path.display())))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| StorageError::Io {
            what: format!("another process uses the data directory {} (its lock is held)", data_dir.display()),
            source: error.into(),
        })?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_held_by_one() {
        let directory = tempfile::tempdir().unwrap();
        let held = DirectoryLock::take(directory.path()).unwrap();
        let refused = DirectoryLock::take(directory.path()).unwrap_err();
        assert!(refused.to_string().contains("another process uses"), "{refused}");
        drop(held);
        DirectoryLock::take(directory.path()).unwrap();
    }
}
