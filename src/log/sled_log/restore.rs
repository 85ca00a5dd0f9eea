//! A log from its backup, in an empty data directory. A file that is cut or altered restores nothing, and no other directory is touched.

use std::{fs::File, io::Read, path::Path};

use super::{
    LogOptions,
    backup::{MAGIC, PIECE_BYTES, SECTION_HEADER_BYTES, VERSION, end_of, section_crc},
    block::OpenBlock,
    directory::{Directory, Row},
    promised,
    recover::lay_out,
};
use crate::{
    clock::Clock,
    domain::{Epoch, Sequence},
    log::admin::Companion,
    storage::{
        CHAIN_START, StorageError,
        bytes::Reader,
        directory_lock::DirectoryLock,
        durable::{self, SyncReason},
        epochs::{EpochRow, Epochs},
        keys,
        slots::Slots,
        state::{self, StateTable},
        store::{Store, VALUE_BYTES_MAX},
        watermark::{Watermark, WatermarkFile},
    },
};

/// The companions of a restored log are held in memory until the log is whole: what is remembered of 64 peers takes a few megabytes.
const COMPANIONS_BYTES_MAX: usize = 64 << 20;
/// No section is larger: a block, or a file of epochs.
const SECTION_BYTES_MAX: usize = VALUE_BYTES_MAX * 2;

/// Why a backup was not restored. The data directory holds no log then.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is something in the directory already.
    #[error("{0} is not empty; a backup is restored into an empty data directory only")]
    NotEmpty(String),
    /// The file is not a whole backup.
    #[error("the backup is not whole: {0}")]
    NotWhole(String),
    /// The file is something else.
    #[error("this is no backup: `tradelane backup` did not write it")]
    NotABackup,
    /// The backup was written by a program with another format.
    #[error(
        "the backup has format version {found}, and this program reads version {known}: restore it with the release of tradelane that \
         wrote it, start the node with this release on that data directory, and make a new backup"
    )]
    OtherVersion {
        /// The file's.
        found: u32,
        /// This program's.
        known: u32,
    },
    /// Storage refused.
    #[error("{}", .0.with_cause())]
    Storage(#[from] StorageError),
}

/// Restores a backup into an empty data directory, as a new epoch of the log, with those of its companions that have one of these names;
/// one with another name is of a program that knows more than this one, and nothing is restored. Returns the last place.
///
/// # Errors
/// The directory is not empty, the file is not whole, or storage refuses.
pub fn restore(
    file: &Path,
    options: &LogOptions,
    companions: &[&'static str],
    clock: &dyn Clock,
) -> Result<Sequence, RestoreError> {
    let data_dir = &options.data_dir;
    std::fs::create_dir_all(data_dir).map_err(StorageError::io(format!("cannot create {}", data_dir.display())))?;
    let mut entries =
        std::fs::read_dir(data_dir).map_err(StorageError::io(format!("cannot read {}", data_dir.display())))?;
    if entries.next().is_some() {
        return Err(RestoreError::NotEmpty(data_dir.display().to_string()));
    }
    let open = File::open(file).map_err(StorageError::io(format!("cannot open {}", file.display())))?;
    // Looked at first: a file that cannot be used leaves the directory empty.
    let mut sections = Sections::open(std::io::BufReader::with_capacity(PIECE_BYTES, open))?;
    let _lock = DirectoryLock::take(data_dir)?;
    let (kind, bytes) = sections.next()?;
    let epochs = Epochs::decode(&bytes).ok().filter(|_| kind == b'E');
    let mut epochs =
        epochs.ok_or_else(|| RestoreError::NotWhole("it does not begin with the log's epochs".to_owned()))?;

    let (store, mut writer) = Store::open(data_dir, options.page_cache_bytes)?;
    let (mut rows, mut slots): (Vec<Row>, _) = (Vec::new(), Slots::from(0));
    let (mut chain, mut through, mut accepted_time_ns) = (CHAIN_START, Sequence::ZERO, 0);
    let mut state = StateTable::default();
    let mut beside = Companions::new(companions);
    loop {
        let (kind, bytes) = sections.next()?;
        match kind {
            b'B' => {
                let facts = OpenBlock::check(&bytes, through.next()).map_err(|error| not_whole(&error))?.facts;
                if facts.chain_before != chain {
                    return Err(RestoreError::NotWhole(format!(
                        "the chain of hashes breaks at sequence {}",
                        facts.first
                    )));
                }
                let number = rows.len() as u32;
                slots.reach(number, keys::block_with_fillers, &mut writer)?;
                writer.put(&keys::block(number), &bytes)?;
                (chain, through, accepted_time_ns) = (facts.chain_after, facts.last(), facts.last_accepted_ns);
                rows.push(Row { number, first: facts.first, count: facts.count, last_accepted_ns: accepted_time_ns });
                if writer.slice_is_full() {
                    writer.sync(SyncReason::Blocks)?;
                }
            }
            b'S' => {
                let altered = |_| RestoreError::NotWhole("its state cannot be read".to_owned());
                for change in state::read_section(&bytes.into()).map_err(altered)?.1 {
                    let value = change.value.as_deref().unwrap_or_default();
                    writer.put(&keys::state(&change.key), &promised::in_sled(value))?;
                    state.apply(change);
                    if writer.slice_is_full() {
                        writer.sync(SyncReason::Blocks)?;
                    }
                }
            }
            b'F' => beside.take(&bytes)?,
            b'Z' if bytes == end_of(through, chain, state.digest(), beside.crc.clone().finalize()) => break,
            _ => return Err(RestoreError::NotWhole(format!("what follows sequence {through} is no part of it"))),
        }
    }
    Directory::write_pages(0, &rows, &mut writer)?;
    writer.sync(SyncReason::Blocks)?;
    drop((store, writer));
    for Companion { name, bytes } in &beside.files {
        let failed = StorageError::io(format!("cannot write {name} in {}", data_dir.display()));
        durable::replace_file(data_dir, name, bytes).map_err(failed)?;
    }
    let epoch = Epoch(clock.fresh_uuid());
    let parent = epochs.rows.first().map(|row| row.epoch);
    epochs.rows.insert(0, EpochRow { epoch, parent, fork: through, open_time_ns: clock.now_ns() });
    epochs.node = options.node.clone();
    lay_out(options, &epochs, (through, chain), clock)?;
    let watermark = Watermark {
        stored_through: through,
        chain,
        accepted_time_ns,
        first_retained: Sequence(1),
        epoch,
        state: state.digest(),
        clean: None,
    };
    WatermarkFile::create(data_dir, &watermark)?;
    Ok(through)
}

/// The companions that a backup brings.
struct Companions<'a> {
    known: &'a [&'static str],
    files: Vec<Companion>,
    bytes: usize,
    crc: crc32fast::Hasher,
}

impl<'a> Companions<'a> {
    fn new(known: &'a [&'static str]) -> Self {
        Self { known, files: Vec::new(), bytes: 0, crc: crc32fast::Hasher::new() }
    }

    /// Takes a companion, or its next piece.
    fn take(&mut self, section: &[u8]) -> Result<(), RestoreError> {
        let not_whole = |what: &str| RestoreError::NotWhole(what.to_owned());
        let (name, bytes) = section
            .split_first()
            .and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)))
            .ok_or_else(|| not_whole("a file beside the log has no whole name"))?;
        // Only names that the program has itself: none leads out of the directory.
        let name = self.known.iter().find(|known| known.as_bytes() == name);
        let name = *name.ok_or_else(|| not_whole("it brings a file beside the log that this program does not know"))?;
        self.bytes += bytes.len();
        if COMPANIONS_BYTES_MAX < self.bytes {
            return Err(not_whole("the files beside the log are larger than any may be"));
        }
        self.crc.update(section);
        match self.files.last_mut().filter(|file| file.name == name) {
            Some(file) => file.bytes.extend(bytes),
            None => self.files.push(Companion { name, bytes: bytes.to_vec() }),
        }
        Ok(())
    }
}

struct Sections<R> {
    from: R,
}

impl<R: Read> Sections<R> {
    fn open(mut from: R) -> Result<Self, RestoreError> {
        let mut head = [0; 12];
        from.read_exact(&mut head).map_err(|_| RestoreError::NotWhole("it is empty".to_owned()))?;
        let (magic, version) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(RestoreError::NotABackup);
        }
        let found = version.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
        if found == VERSION { Ok(Self { from }) } else { Err(RestoreError::OtherVersion { found, known: VERSION }) }
    }

    fn next(&mut self) -> Result<(u8, Vec<u8>), RestoreError> {
        let cut = |_| RestoreError::NotWhole("it is cut short".to_owned());
        let mut head = [0; SECTION_HEADER_BYTES];
        self.from.read_exact(&mut head).map_err(cut)?;
        let mut reader = Reader::new(&head);
        let malformed = |_| RestoreError::NotWhole("a section has no whole head".to_owned());
        let (kind, length, crc) = (
            reader.u8().map_err(malformed)?,
            reader.u32().map_err(malformed)? as usize,
            reader.u32().map_err(malformed)?,
        );
        if length > SECTION_BYTES_MAX {
            return Err(RestoreError::NotWhole("a section is larger than any may be".to_owned()));
        }
        let mut bytes = vec![0; length];
        self.from.read_exact(&mut bytes).map_err(cut)?;
        if section_crc(kind, &bytes) != crc {
            return Err(RestoreError::NotWhole("a section is altered".to_owned()));
        }
        Ok((kind, bytes))
    }
}

fn not_whole(error: &StorageError) -> RestoreError {
    RestoreError::NotWhole(error.with_cause())
}
