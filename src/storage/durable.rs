//! What "on the disk" means: the only places where files and directories are synced. It never retries a sync: after a failed one the
//! kernel may have dropped the dirty pages, and a second would succeed over lost data.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// Why something is synced. The test-only Cargo features `mutant-no-ack-sync`, `mutant-no-merge-sync` and `mutant-no-start-sync` each leave
/// one kind out, so that the power-cut tests can prove that they notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncReason {
    /// Events are about to be acknowledged.
    Acknowledge,
    /// What a start has read back from the journal is about to be shown.
    Start,
    /// Blocks of events move from the journal to sled.
    Blocks,
    /// A slice of an index run, or of its merge or removal.
    Runs,
    /// A small file that says what the others must hold.
    Watermark,
}

/// Makes what was written to the file durable, with what metadata reading it back needs (fdatasync).
///
/// # Errors
/// The disk refused: whoever called must end the process.
pub fn sync_data(file: &File, reason: SyncReason) -> io::Result<()> {
    let left_out = match reason {
        SyncReason::Acknowledge => cfg!(feature = "mutant-no-ack-sync"),
        SyncReason::Runs => cfg!(feature = "mutant-no-merge-sync"),
        SyncReason::Start => cfg!(feature = "mutant-no-start-sync"),
        SyncReason::Blocks | SyncReason::Watermark => false,
    };
    if left_out { Ok(()) } else { file.sync_data() }
}

/// Makes a directory's entries durable: a new or renamed file is there after a power cut only then.
///
/// # Errors
/// The directory cannot be opened or synced.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Puts a file in place whole, or not at all: written beside, synced, renamed, and the directory synced.
///
/// # Errors
/// Any step failed; the file before it, if any, is untouched or replaced, never half written.
pub fn replace_file(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = directory.join(format!("{name}.new"));
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, directory.join(name))?;
    sync_directory(directory)
}
