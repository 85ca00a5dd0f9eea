//! The position of a reader in a file, replaced as a whole so that a crash leaves the old one or the new one. It never runs ahead of what
//! was written to standard output.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{cli::Failure, domain::Position};

/// How often the position is stored while events stream. A crash repeats what came since: delivery is at least once.
const STORE_INTERVAL: Duration = Duration::from_secs(1);

/// A cursor file.
#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
    stored: Option<String>,
    stored_at: Option<Instant>,
}

impl Cursor {
    /// Opens a cursor; a file that does not exist yet is one that has read nothing.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else than a position.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let stored = match fs::read_to_string(path) {
            Ok(text) => Some(text.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::file("read the cursor file", path, &error)),
        };
        if let Some(text) = &stored
            && text.parse::<Position>().is_err()
        {
            let path = path.display();
            return Err(Failure::data(format!(
                "the cursor file {path} holds {text:?}, which is no position; remove it to start anew"
            )));
        }
        Ok(Self { path: path.to_owned(), stored, stored_at: None })
    }

    /// The position in the file.
    #[must_use]
    pub fn position(&self) -> Option<&str> {
        self.stored.as_deref()
    }

    /// Stores a position, unless one was stored a moment ago.
    ///
    /// # Errors
    /// The file cannot be replaced.
    pub fn advance(&mut self, position: &str) -> Result<(), Failure> {
        if self.stored_at.is_some_and(|stored_at| stored_at.elapsed() < STORE_INTERVAL) {
            return Ok(());
        }
        self.store(position)
    }

    /// Stores a position now.
    ///
    /// # Errors
    /// The file cannot be replaced.
    pub fn store(&mut self, position: &str) -> Result<(), Failure> {
        if self.stored.as_deref() == Some(position) {
            return Ok(());
        }
        replace(&self.path, position).map_err(|error| Failure::file("write the cursor file", &self.path, &error))?;
        self.stored = Some(position.to_owned());
        self.stored_at = Some(Instant::now());
        Ok(())
    }
}

/// Writes beside the file, syncs, renames over it and syncs the directory.
fn replace(path: &Path, position: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut file = File::create(&beside)?;
    writeln!(file, "{position}")?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "00000000000000000000000000000007-1";
    const TWO: &str = "00000000000000000000000000000007-2";

    #[test]
    fn a_position_survives_and_is_not_stored_at_every_event() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cursor");
        let mut cursor = Cursor::open(&path).unwrap();
        assert_eq!(cursor.position(), None);
        cursor.advance(ONE).unwrap();
        cursor.advance(TWO).unwrap();
        assert_eq!(Cursor::open(&path).unwrap().position(), Some(ONE));
        cursor.store(TWO).unwrap();
        assert_eq!(Cursor::open(&path).unwrap().position(), Some(TWO));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn another_file_is_not_taken_for_a_cursor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cursor");
        fs::write(&path, "hello").unwrap();
        let failure = Cursor::open(&path).unwrap_err();
        assert!(failure.message.contains("which is no position; remove it to start anew"), "{failure}");
    }
}
