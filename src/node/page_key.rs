//! The key of the node's page tokens: made at the first start and kept in the data directory, so that whoever pages through a list goes on
//! after a restart. It opens no log and seals no token itself.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::{clock::Clock, views::page_token::PageKey};

/// The file's name in the data directory.
const FILE_NAME: &str = "page-token.key";

/// Reads the key, and makes it where there is none.
///
/// # Errors
/// The file cannot be read or written.
pub(super) fn load_or_make(data_dir: &Path, clock: &dyn Clock) -> io::Result<PageKey> {
    let path = data_dir.join(FILE_NAME);
    match fs::read(&path) {
        Ok(bytes) => match <[u8; 32]>::try_from(bytes) {
            Ok(key) => return Ok(PageKey(key)),
            Err(bytes) => tracing::warn!(
                file = %path.display(),
                bytes = bytes.len(),
                "the key of page tokens has not its 32 bytes; a new one takes its place, and lists that are being paged begin again"
            ),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key = PageKey::fresh(clock);
    // Written aside and moved, so that a start that is killed leaves the whole key or none.
    let aside = data_dir.join(format!("{FILE_NAME}.new"));
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&aside)?;
    file.write_all(&key.0)?;
    file.sync_all()?;
    fs::rename(&aside, &path)?;
    File::open(data_dir)?.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_again_where_it_is_broken() {
        let directory = tempfile::tempdir().expect("a directory");
        let load = || load_or_make(directory.path(), &SystemClock).expect("a key");
        let first = load();
        assert!(first == load(), "it is kept");
        let path = directory.path().join(FILE_NAME);
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        fs::write(&path, [7; 31]).expect("written");
        let second = load();
        assert!(second != first && second == load());
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        assert!(load_or_make(directory.path(), &SystemClock).is_err());
    }
}
