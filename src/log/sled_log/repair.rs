//! A start over indexes that cannot be believed. They are derived from the log, so that nobody is asked: sled is written anew beside with
//! every block of events, promised state and the sound runs, and changes places with the old one; the start then fills the indexes from
//! the log as it always does. It never mends in place, since sled can neither overwrite nor remove what it cannot read, and it never goes
//! on without an event that was promised.
//!
//! What tells a start to look: a mark in the data directory, left by whoever met damage before the process ended. Without one the newest
//! parts of the indexes are read all the same, as the newest blocks are: reading all of them would take half a second and 150 MB of sled's
//! memory for each ten million events, only to find a little earlier what a look-up finds before it answers.

use std::{fs, io::ErrorKind, path::Path};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{
    LogOptions,
    block::OpenBlock,
    directory::Directory,
    index, promised,
    recover::{IDENTITY_FAMILY, check_last_blocks},
};
use crate::storage::{
    CHAIN_START, RESTORE_ADVICE, StorageError,
    durable::{self, SyncReason},
    fatal::FatalHook,
    keys,
    runs::{Examined, examine},
    slots::Slots,
    store::{self, Store, Writer},
    watermark::Watermark,
};

/// The mark: its words say what was found.
pub(super) const MARK_NAME: &str = "sled-in-doubt";
/// Where sled is written anew.
pub(super) const BESIDE_NAME: &str = "sled-anew";
/// So many of an index's newest parts are read at each start, 32 MiB: more than a power cut could take, as with blocks.
pub(super) const PARTS_CHECKED: u64 = 2048;

/// A hook that leaves the mark before it passes the reason on.
pub(super) fn marking(data_dir: &Path, then: FatalHook) -> FatalHook {
    let data_dir = data_dir.to_owned();
    FatalHook::call(move |reason| {
        mark(&data_dir, reason);
        then.fail(reason);
    })
}

/// Leaves the mark where a storage thread ended over damage.
pub(super) fn mark_damage(data_dir: &Path, error: &StorageError) {
    if error.is_damage() {
        mark(data_dir, &error.with_cause());
    }
}

/// Leaves the mark. Where that fails the next start does not look, and whoever meets the damage again tries again.
pub(super) fn mark(data_dir: &Path, what: &str) {
    if let Err(error) = durable::replace_file(data_dir, MARK_NAME, what.as_bytes()) {
        tracing::error!(%error, what, "cannot note for the next start that stored data is damaged");
    }
}

/// Opens sled with blocks that lead up to the watermark, and with indexes that can be believed.
///
/// # Errors
/// An event or state that was promised is missing or altered, sled cannot be opened, or the disk has no room to write it anew.
pub(super) fn open_sound(
    options: &LogOptions,
    watermark: &Watermark,
) -> Result<(Store, Writer, Directory), StorageError> {
    let data_dir = &options.data_dir;
    let beside = data_dir.join(BESIDE_NAME);
    remove_if_there(&beside)?;
    let (store, writer) = Store::open(data_dir, options.page_cache_bytes)?;
    let directory = Directory::load(&store, watermark.first_retained, watermark.stored_through)?;
    check_last_blocks(&store, &directory, watermark)?;
    let mut doubt = read_mark(data_dir)?;
    if doubt.is_none() {
        let families = examine_all(&store, options.index_parts_checked)?;
        doubt = families.into_iter().find_map(|family| family.damage);
        let Some(what) = &doubt else { return Ok((store, writer, directory)) };
        // A start that is killed from here on is followed by one that knows.
        mark(data_dir, what);
    }
    let what = doubt.unwrap_or_default();
    tracing::warn!(what, "an index is damaged: sled is written anew from what is sound, and the index from the log");
    write_anew(options, &store, &directory, watermark, &what)?;
    drop((store, writer));
    change_places(data_dir)?;
    remove_if_there(&beside)?;
    let (store, writer) = Store::open(data_dir, options.page_cache_bytes)?;
    let directory = Directory::load(&store, watermark.first_retained, watermark.stored_through)?;
    check_last_blocks(&store, &directory, watermark)?;
    let mark = data_dir.join(MARK_NAME);
    match fs::remove_file(&mark).and_then(|()| durable::sync_directory(data_dir)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(StorageError::io(format!("cannot remove {}", mark.display()))(error));
        }
        Ok(()) | Err(_) => {}
    }
    tracing::info!("sled is written anew");
    Ok((store, writer, directory))
}

fn examine_all(store: &Store, parts_max: u64) -> Result<Vec<Examined>, StorageError> {
    // Of the search view's two, the one not in use is empty or half built: it is not looked at, and not kept.
    let families = [IDENTITY_FAMILY, index::family_in_use(store)?];
    families.into_iter().map(|family| examine(store, family, parts_max)).collect()
}

fn write_anew(
    options: &LogOptions,
    store: &Store,
    directory: &Directory,
    watermark: &Watermark,
    what: &str,
) -> Result<(), StorageError> {
    let data_dir = &options.data_dir;
    let (needed_bytes, free_bytes) = (store.bytes_on_disk(), super::free_bytes(data_dir)?);
    if free_bytes < needed_bytes {
        return Err(StorageError::Damaged(format!(
            "an index is damaged ({what}); to build it anew this start writes up to {needed_bytes} bytes beside the old ones, and the \
             file system of {} has {free_bytes} left: make room, then start again",
            data_dir.display()
        )));
    }
    let families = examine_all(store, u64::MAX)?;
    let (_, mut writer) = Store::open(&data_dir.join(BESIDE_NAME), options.page_cache_bytes)?;
    copy_blocks(store, directory, &mut writer)?;
    if watermark.state.entries > 0 {
        for (key, value) in promised::read_sled(store)? {
            writer.put(&keys::state(&key), &promised::in_sled(&value))?;
            sync_full_slice(&mut writer)?;
        }
    }
    if let Some(number) = store.get(keys::FAMILIES)? {
        writer.put(keys::FAMILIES, &number)?;
    }
    for family in &families {
        family.copy(store, &mut writer)?;
    }
    writer.sync(SyncReason::Blocks)
}

/// Every block, each compared with the one before it: what is copied is what was promised.
fn copy_blocks(store: &Store, directory: &Directory, writer: &mut Writer) -> Result<(), StorageError> {
    let (mut chain, mut slots) = (CHAIN_START, Slots::from(0));
    for row in directory.rows() {
        let lost = |how: &str| {
            StorageError::Damaged(format!(
                "events from sequence {} through {} {how}; {RESTORE_ADVICE}",
                row.first,
                row.last()
            ))
        };
        let bytes = store.get(&keys::block(row.number)).map_err(|error| lost(&error.with_cause()))?;
        let bytes = bytes.ok_or_else(|| lost("are missing from sled"))?;
        let facts = OpenBlock::check(&bytes, row.first).map_err(|error| lost(&error.with_cause()))?.facts;
        let is_first = directory.rows().first() == Some(row);
        if facts.last() != row.last() || (!is_first && facts.chain_before != chain) {
            return Err(lost("do not continue those before them"));
        }
        chain = facts.chain_after;
        slots.reach(row.number, keys::block_with_fillers, writer)?;
        writer.put(&keys::block(row.number), &bytes)?;
        sync_full_slice(writer)?;
    }
    Directory::write_pages(0, directory.rows(), writer)
}

fn sync_full_slice(writer: &mut Writer) -> Result<(), StorageError> {
    if writer.slice_is_full() { writer.sync(SyncReason::Blocks) } else { Ok(()) }
}

/// The old database and the new one change names at once: whenever the process is killed, one of them stands in its place whole.
fn change_places(data_dir: &Path) -> Result<(), StorageError> {
    let (old, new) = (data_dir.join(store::DIRECTORY_NAME), data_dir.join(BESIDE_NAME).join(store::DIRECTORY_NAME));
    let io = |error| StorageError::io(format!("cannot put {} in the place of {}", new.display(), old.display()))(error);
    renameat_with(CWD, &old, CWD, &new, RenameFlags::EXCHANGE).map_err(|error| io(error.into()))?;
    durable::sync_directory(&data_dir.join(BESIDE_NAME)).and_then(|()| durable::sync_directory(data_dir)).map_err(io)
}

fn read_mark(data_dir: &Path) -> Result<Option<String>, StorageError> {
    let path = data_dir.join(MARK_NAME);
    match fs::read(&path) {
        Ok(words) => Ok(Some(String::from_utf8_lossy(&words).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io(format!("cannot read {}", path.display()))(error)),
    }
}

fn remove_if_there(folder: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StorageError::io(format!("cannot remove {}", folder.display()))(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
