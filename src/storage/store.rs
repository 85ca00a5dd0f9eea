//! sled, and its one owner. It never writes from two threads (sled's batches stall readers otherwise), never watches prefixes, iterates
//! over nothing but the small table of promised state, and never believes sled's `flush` alone: on Linux that is `sync_file_range`, which is no promise at all.
//!
//! What holds after [`Writer::sync`] has returned: everything put or deleted before it is on the disk.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    RESTORE_ADVICE, StorageError,
    durable::{self, SyncReason},
    keys,
    value::{self, Stored, StoredValue},
};

/// sled's directory inside the data directory.
pub const DIRECTORY_NAME: &str = "sled";
/// sled's segment, chosen at creation and fixed for ever. Its quarter must hold a leaf of sixteen of the largest entries and one more:
/// what is larger goes to a file of its own that sled never syncs. No larger than that: a segment is reused once half of it is dead, and a
/// small one holds blocks, which live, or parts of runs, which die together, and seldom both.
pub const SEGMENT_BYTES: usize = 4 * 1024 * 1024;
/// The largest value that is ever written.
pub const VALUE_BYTES_MAX: usize = 208 * 1024;
/// At most so much is written before it is synced: sled reuses a segment as soon as its successor was flushed, synced or not.
pub const SLICE_BYTES_MAX: usize = 1024 * 1024;
/// What a change takes beside its value, with its share of the leaves above that are written at a cut.
const CHANGE_BYTES: usize = 512;
/// How long sled's threads may take to let go of a database that this process has closed.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(5);
/// How often the lock is asked for meanwhile.
const LOCK_WAIT_STEP: Duration = Duration::from_millis(5);
/// What sled 0.34.7 says where its lock is held (config.rs, `try_lock`); it gives the error no kind of its own.
const LOCK_REFUSED: &str = "could not acquire lock";
/// sled's own cache where nothing else is said. Small: decoded blocks are cached above, and the file itself by the kernel.
pub const PAGE_CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// A read of a value counts as so many where the one before it was of another neighbourhood. sled 0.34.7 (lru.rs) spreads its pages over
/// 256 queues and looks at what a queue's pages take only when it has 64 accesses: until then it lets none of them go, whatever its cache
/// may take. Reads far apart, one of each leaf, would so keep 16,384 leaves, which is a GiB; counted eight times they keep an eighth of it.
const ACCESSES_A_READ: usize = 8;
/// Keys that differ in these bits of their last byte alone are neighbours: they stand in one leaf mostly.
const NEIGHBOUR_BITS: u8 = 0b11;

// Sixteen entries a leaf, one about to be added, keys and headers included in the margin to a quarter.
const _: () = assert!(17 * (value::ENTRY_BYTES_MAX + 1024) < SEGMENT_BYTES / 4);
const _: () = assert!(VALUE_BYTES_MAX <= value::ENTRY_BYTES_MAX * value::PIECES_MAX);

/// Reads. Shared by all.
#[derive(Debug, Clone)]
pub struct Store {
    tree: sled::Db,
    directory: PathBuf,
    /// Work that can wait leaves the file system so much.
    keep_free_bytes: Arc<AtomicU64>,
    /// The neighbourhood that was read last, as a number; wrong at times where many read, which costs or saves a few accesses.
    last_read: Arc<AtomicU64>,
}

/// Writes. There is one, and one thread has it.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    file: File,
    unsynced_bytes: usize,
}

impl Store {
    /// Opens or creates sled's files in a data directory, with so much memory for sled's pages.
    ///
    /// # Errors
    /// The files cannot be opened, or sled finds them damaged.
    pub fn open(data_dir: &Path, page_cache_bytes: u64) -> Result<(Self, Writer), StorageError> {
        let directory = data_dir.join(DIRECTORY_NAME);
        let shown = directory.display().to_string();
        let io = |what: &str| StorageError::io(format!("cannot {what} {shown}"));
        let fresh = !directory.join("db").exists();
        fs::create_dir_all(&directory).map_err(io("create"))?;
        remove_unfinished_snapshots(&directory).map_err(io("clean"))?;
        let config = sled::Config::new()
            .path(&directory)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(page_cache_bytes)
            .flush_every_ms(None);
        // On some damaged files sled panics where it should answer: that is damage as well.
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| open_unlocked(&config)));
        let tree = match opened {
            Ok(Ok(tree)) => tree,
            Ok(Err(sled::Error::Io(error))) => return Err(io("open")(error)),
            Ok(Err(source)) => {
                return Err(StorageError::Damaged(format!("sled cannot open {shown}: {source}; {RESTORE_ADVICE}")));
            }
            Err(_) => {
                return Err(StorageError::Damaged(format!("sled panicked opening {shown}; {RESTORE_ADVICE}")));
            }
        };
        let file = OpenOptions::new().write(true).open(directory.join("db")).map_err(io("open the file of"))?;
        let store = Self { tree, directory, keep_free_bytes: Arc::default(), last_read: Arc::default() };
        let mut writer = Writer { store: store.clone(), file, unsynced_bytes: 0 };
        if fresh {
            writer.unsynced_bytes = 1;
            writer.sync(SyncReason::Blocks)?;
            let conf = File::open(store.directory.join("conf")).map_err(io("open the configuration of"))?;
            conf.sync_all().map_err(io("sync"))?;
            durable::sync_directory(&store.directory).map_err(io("sync"))?;
            durable::sync_directory(data_dir).map_err(io("sync the parent of"))?;
        }
        Ok((store, writer))
    }

    /// One value; none where there is none, or the key was made before its value came.
    ///
    /// # Errors
    /// sled cannot read it. An error never means that it is absent.
    pub fn get(&self, key: &[u8]) -> Result<Option<StoredValue>, StorageError> {
        let entry = self.entry(key)?;
        let neighbourhood = neighbourhood(key);
        if self.last_read.swap(neighbourhood, Ordering::Relaxed) != neighbourhood {
            for _ in 1..ACCESSES_A_READ {
                self.entry(key)?;
            }
        }
        self.whole(key, entry)
    }

    /// An entry as sled has it.
    fn entry(&self, key: &[u8]) -> Result<Option<sled::IVec>, StorageError> {
        self.tree.get(key).map_err(|source| {
            let what = match source {
                sled::Error::Corruption { .. } => "sled's file is damaged",
                _ => "sled cannot read a value",
            };
            StorageError::Sled { what: what.to_owned(), source }
        })
    }

    /// The value of an entry that was read under a key.
    fn whole(&self, key: &[u8], mut entry: Option<sled::IVec>) -> Result<Option<StoredValue>, StorageError> {
        loop {
            let (generation, pieces) = match entry.as_deref().map(value::read) {
                None | Some(Stored::NotYet) => return Ok(None),
                Some(Stored::Whole) => return Ok(entry.map(StoredValue::whole)),
                Some(Stored::Pieces { generation, pieces }) => (generation, pieces),
            };
            let mut joined = Vec::new();
            let all_there = (0..pieces).try_fold(true, |all_there, piece| {
                let found = self.entry(&keys::piece(key, generation, piece))?;
                joined.extend_from_slice(found.as_deref().unwrap_or_default());
                Ok(all_there && found.is_some())
            })?;
            if all_there {
                return Ok(Some(StoredValue::joined(joined)));
            }
            // Another value took its place meanwhile, or it is gone; else a piece is lost.
            let now = self.entry(key)?;
            if now == entry {
                return Err(StorageError::Damaged("a piece of a stored value is missing".to_owned()));
            }
            entry = now;
        }
    }

    /// Every key that begins so, with its value, in the order of the keys. For small tables, at a start or a check.
    pub fn scan(&self, prefix: &[u8]) -> impl Iterator<Item = Result<(Vec<u8>, StoredValue), StorageError>> + use<> {
        let wrong = |source| StorageError::Sled { what: "sled cannot read a table".to_owned(), source };
        let store = self.clone();
        self.tree.scan_prefix(prefix).filter_map(move |found| {
            let found =
                found.map_err(wrong).and_then(|(key, entry)| Ok((key.to_vec(), store.whole(&key, Some(entry))?)));
            found.map(|(key, value)| value.map(|value| (key, value))).transpose()
        })
    }

    /// Has work that can wait leave the file system so much.
    pub fn keep_free(&self, bytes: u64) {
        self.keep_free_bytes.store(bytes, Ordering::Relaxed);
    }

    /// What work that can wait may take of the file system now, in bytes.
    ///
    /// # Errors
    /// The operating system does not say how much is left.
    pub fn room_bytes(&self) -> Result<u64, StorageError> {
        Ok(free_bytes(&self.directory)?.saturating_sub(self.keep_free_bytes.load(Ordering::Relaxed)))
    }

    /// What sled's files take on the disk, in bytes.
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        self.tree.size_on_disk().unwrap_or(0)
    }
}

impl Writer {
    /// The same data to read.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Writes one value, which the next [`Self::sync`] makes durable.
    ///
    /// # Errors
    /// sled refused: the process must end.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        assert!(value.len() <= VALUE_BYTES_MAX, "a value of {} bytes is larger than any that is written", value.len());
        let (before, generation) = self.pieces_under(key)?;
        if value.len() < value::ENTRY_BYTES_MAX {
            self.insert(key, &value::whole(value))?;
        } else {
            // The entry that names the pieces comes after them, and those that it named before go last: a start after a cut in between
            // finds one value or the other.
            let mut pieces = 0;
            for piece in value.chunks(value::ENTRY_BYTES_MAX) {
                self.insert(&keys::piece(key, generation, pieces), piece)?;
                pieces += 1;
            }
            self.insert(key, &value::in_pieces(generation, pieces))?;
        }
        self.remove_all(&before)
    }

    /// Makes a key before its value comes (see [`super::slots`]); a value that stands there already is gone.
    ///
    /// # Errors
    /// sled refused: the process must end.
    pub fn make(&mut self, key: &[u8]) -> Result<(), StorageError> {
        let (before, _) = self.pieces_under(key)?;
        self.insert(key, &[])?;
        self.remove_all(&before)
    }

    /// Removes one key with its value; true where there was one.
    ///
    /// # Errors
    /// sled refused: the process must end.
    pub fn delete(&mut self, key: &[u8]) -> Result<bool, StorageError> {
        let (before, _) = self.pieces_under(key)?;
        let removed = self.remove(key)?;
        self.remove_all(&before)?;
        Ok(removed)
    }

    /// The keys of the pieces that the value of a key has, and a generation that none of them has.
    fn pieces_under(&self, key: &[u8]) -> Result<(Vec<Vec<u8>>, u8), StorageError> {
        Ok(match self.store.entry(key)?.as_deref().map(value::read) {
            Some(Stored::Pieces { generation, pieces }) => {
                let keys = (0..pieces).map(|piece| keys::piece(key, generation, piece)).collect();
                (keys, generation.wrapping_add(1))
            }
            None | Some(Stored::NotYet | Stored::Whole) => (Vec::new(), 0),
        })
    }

    fn insert(&mut self, key: &[u8], entry: &[u8]) -> Result<(), StorageError> {
        self.count(CHANGE_BYTES + key.len() + entry.len());
        self.store
            .tree
            .insert(key, entry)
            .map_err(|source| StorageError::Sled { what: "sled cannot write a value".to_owned(), source })?;
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<bool, StorageError> {
        let removed = self
            .store
            .tree
            .remove(key)
            .map_err(|source| StorageError::Sled { what: "sled cannot remove a value".to_owned(), source })?;
        // At some removals sled writes what is left of a leaf: over all of a leaf's removals about as much as what was removed.
        self.count(CHANGE_BYTES + removed.as_ref().map_or(0, |entry| entry.len()));
        Ok(removed.is_some())
    }

    fn count(&mut self, bytes: usize) {
        self.unsynced_bytes += bytes;
        debug_assert!(self.unsynced_bytes <= SLICE_BYTES_MAX, "whoever writes syncs in time");
    }

    fn remove_all(&mut self, keys: &[Vec<u8>]) -> Result<(), StorageError> {
        keys.iter().try_for_each(|key| self.remove(key).map(drop))
    }

    /// What was written since the last sync, in bytes as they are counted for a slice.
    #[must_use]
    pub const fn unsynced_bytes(&self) -> usize {
        self.unsynced_bytes
    }

    /// True once a slice is full and must be synced before more is written.
    #[must_use]
    pub const fn slice_is_full(&self) -> bool {
        self.unsynced_bytes >= SLICE_BYTES_MAX - VALUE_BYTES_MAX
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// sled or the disk refused: the process must end, and nothing may be tried again.
    pub fn sync(&mut self, reason: SyncReason) -> Result<(), StorageError> {
        if self.unsynced_bytes == 0 {
            return Ok(());
        }
        self.store
            .tree
            .flush()
            .map_err(|source| StorageError::Sled { what: "sled cannot flush".to_owned(), source })?;
        durable::sync_data(&self.file, reason)
            .map_err(StorageError::io(format!("cannot sync {}", self.store.directory.join("db").display())))?;
        self.unsynced_bytes = 0;
        Ok(())
    }
}

/// A number that neighbouring keys have in common.
fn neighbourhood(key: &[u8]) -> u64 {
    key.split_last()
        .map_or(0, |(last, before)| xxhash_rust::xxh3::xxh3_64_with_seed(before, u64::from(last & !NEIGHBOUR_BITS)))
}

/// What the file system of a directory has left for this process.
///
/// # Errors
/// The operating system does not say.
pub fn free_bytes(directory: &Path) -> Result<u64, StorageError> {
    let stat = rustix::fs::statvfs(directory).map_err(|error| {
        StorageError::io(format!("cannot ask for the free space of {}", directory.display()))(error.into())
    })?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Opens, and waits where sled's own lock is still held: its threads let go of it a moment after the last handle was dropped. Whoever opens
/// holds the lock of the data directory, so that no other process can be meant.
fn open_unlocked(config: &sled::Config) -> sled::Result<sled::Db> {
    let deadline = Instant::now() + LOCK_WAIT_MAX;
    loop {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains(LOCK_REFUSED) && Instant::now() < deadline => {
                std::thread::sleep(LOCK_WAIT_STEP);
            }
            answer => return answer,
        }
    }
}

/// A process that was killed while sled opened leaves `snap.*.generating`, after which every open fails.
fn remove_unfinished_snapshots(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::info!(path = %path.display(), "removed a snapshot that a killed start had left unfinished");
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_left_by_a_killed_start_does_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        {
            let (_, mut writer) = Store::open(directory.path(), PAGE_CACHE_BYTES).unwrap();
            writer.put(b"Lx", &[1; 1000]).unwrap();
            writer.sync(SyncReason::Blocks).unwrap();
        }
        let left = directory.path().join(DIRECTORY_NAME).join("snap.0000000000000000.generating");
        fs::write(&left, b"cut short").unwrap();
        let (store, _writer) = Store::open(directory.path(), PAGE_CACHE_BYTES).unwrap();
        assert_eq!(store.get(b"Lx").unwrap().as_deref(), Some(&[1_u8; 1000][..]));
        assert!(!left.exists());
    }

    #[test]
    fn what_stands_in_one_leaf_is_one_neighbourhood_and_nothing_else_is() {
        let of = |number: u32| neighbourhood(&keys::block(number));
        assert!((0x100..0x104).all(|number| of(number) == of(0x100)));
        assert!([0xff, 0x104, 0x200].iter().all(|number| of(*number) != of(0x100)));
        assert_ne!(neighbourhood(&keys::run_part(1, 2, 0)), neighbourhood(&keys::run_part(1, 3, 0)));
    }

    #[test]
    fn large_values_come_back_whole_and_never_become_blobs() {
        fn sync_in_time(writer: &mut Writer) {
            if writer.slice_is_full() {
                writer.sync(SyncReason::Blocks).unwrap();
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let (store, mut writer) = Store::open(directory.path(), PAGE_CACHE_BYTES).unwrap();
        let entry = value::ENTRY_BYTES_MAX;
        let sizes = [1, entry - 2, entry - 1, entry, entry + 1, 2 * entry, VALUE_BYTES_MAX];
        for round in 0..3 {
            for number in 0..64_u8 {
                let size = sizes[(usize::from(number) + round) % sizes.len()];
                writer.put(&[b'L', number], &vec![number; size]).unwrap();
                sync_in_time(&mut writer);
                assert_eq!(store.get(&[b'L', number]).unwrap().as_deref(), Some(&vec![number; size][..]));
            }
            writer.sync(SyncReason::Blocks).unwrap();
            let sizes_of = |round: usize| (0..64).map(move |number| sizes[(number + round) % sizes.len()]);
            let scanned = store.scan(b"L").map(|entry| entry.unwrap().1.len());
            assert!(scanned.eq(sizes_of(round)), "a scan sees each value once");
        }
        for number in 0..64_u8 {
            assert!(writer.delete(&[b'L', number]).unwrap());
            assert!(!writer.delete(&[b'L', number]).unwrap());
            sync_in_time(&mut writer);
        }
        assert_eq!(store.scan(b"").count(), 0, "no piece stays behind");
        let blobs = fs::read_dir(directory.path().join(DIRECTORY_NAME).join("blobs")).unwrap().count();
        assert_eq!(blobs, 0);
    }

    #[test]
    fn a_lost_piece_is_an_error_and_never_absence() {
        let directory = tempfile::tempdir().unwrap();
        let (store, mut writer) = Store::open(directory.path(), PAGE_CACHE_BYTES).unwrap();
        writer.put(b"L", &vec![1; VALUE_BYTES_MAX]).unwrap();
        assert!(writer.remove(&keys::piece(b"L", 0, 1)).unwrap());
        assert!(matches!(store.get(b"L"), Err(StorageError::Damaged(_))));
    }
}
