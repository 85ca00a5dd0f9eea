//! A log as one file: written while the log is in use, read into an empty data directory. It never shows what was not durable when it
//! began, and a file that is cut or altered restores nothing.
//!
//! ```text
//! magic "TLBACKUP" | version u32 = 2
//! sections: kind u8 | bytes u32 | crc u32 of kind, bytes and what follows | bytes
//!   E the epochs, as their file    B a block of events, as sled holds it    S promised state, as a frame of the journal holds it
//!   Z end: head u64, chain hash [32], digest of the state (entries u64, hash u64)
//! ```

use std::{fs::File, io::Read, path::Path};

use bytes::Bytes;

use super::{
    LogOptions,
    block::{self, OpenBlock},
    codec,
    directory::{Directory, Row},
    promised,
    recover::lay_out,
    shared::Shared,
};
use crate::{
    clock::Clock,
    domain::{Epoch, Sequence},
    log::admin::{BackupPiece, Listener},
    storage::{
        CHAIN_START, StorageError,
        bytes::Reader,
        directory_lock::DirectoryLock,
        durable::SyncReason,
        epochs::{EpochRow, Epochs},
        keys,
        slots::Slots,
        state::{self, StateChange, StateDigest, StateTable},
        store::{Store, VALUE_BYTES_MAX},
        watermark::{Watermark, WatermarkFile},
    },
};

const MAGIC: &[u8; 8] = b"TLBACKUP";
const VERSION: u32 = 2;
const SECTION_HEADER_BYTES: usize = 9;
/// A piece is handed on once it has so many bytes.
const PIECE_BYTES: usize = 512 * 1024;
/// A section of state is closed once it has so many bytes; with the largest entry added it stays below what a section may take.
const STATE_SECTION_BYTES: usize = 128 * 1024;
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

/// Writes the log up to its present end.
pub(super) fn write(shared: &Shared, listener: Listener<'_, BackupPiece>) -> Result<(), StorageError> {
    // Taken before the end of the log is looked at: no position of it is then beyond what the backup holds.
    let state = shared.state().table.clone();
    let head = shared.last();
    let mut file = MAGIC.to_vec();
    file.extend(VERSION.to_le_bytes());
    put_section(&mut file, b'E', &epochs_of(shared));
    let mut chain = CHAIN_START;
    let mut through = Sequence(shared.first_retained.get() - 1);
    let mut gathered = Vec::new();
    let mut gathered_bytes = 0;
    while let Some(chunk) = shared.read(through, PIECE_BYTES, None)? {
        for record in chunk.records.iter().filter(|record| record.sequence <= head) {
            gathered_bytes += codec::weight_bytes(record);
            gathered.push(record.clone());
            if gathered_bytes >= block::RAW_BYTES_TARGET {
                chain = put_block(&mut file, &mut gathered, chain);
                gathered_bytes = 0;
            }
        }
        through = chunk.through;
        let piece = BackupPiece { data: Bytes::from(std::mem::take(&mut file)), through: through.min(head), head };
        if !piece.data.is_empty() && !listener(piece) {
            return Ok(());
        }
        if through >= head {
            break;
        }
    }
    if !gathered.is_empty() {
        chain = put_block(&mut file, &mut gathered, chain);
    }
    for section in state_sections(&state) {
        put_section(&mut file, b'S', &section);
        let piece = BackupPiece { data: Bytes::from(std::mem::take(&mut file)), through: head, head };
        if !listener(piece) {
            return Ok(());
        }
    }
    put_section(&mut file, b'Z', &end_of(head, chain, state.digest()));
    listener(BackupPiece { data: Bytes::from(file), through: head, head });
    Ok(())
}

/// Restores a backup into an empty data directory, as a new epoch of the log. Returns the last place.
///
/// # Errors
/// The directory is not empty, the file is not whole, or storage refuses.
pub fn restore(file: &Path, options: &LogOptions, clock: &dyn Clock) -> Result<Sequence, RestoreError> {
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
                slots.reach(number, |number| [keys::block(number)], &mut writer)?;
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
            b'Z' if bytes == end_of(through, chain, state.digest()) => break,
            _ => return Err(RestoreError::NotWhole(format!("what follows sequence {through} is no part of it"))),
        }
    }
    Directory::write_pages(0, &rows, &mut writer)?;
    writer.sync(SyncReason::Blocks)?;
    drop((store, writer));
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

fn put_block(into: &mut Vec<u8>, records: &mut Vec<crate::log::contract::Record>, chain: [u8; 32]) -> [u8; 32] {
    let chain_after = codec::chain_over(chain, records);
    let (_, bytes) = block::encode(records, chain, chain_after);
    records.clear();
    put_section(into, b'B', &bytes);
    chain_after
}

/// The table in stretches of about [`STATE_SECTION_BYTES`].
fn state_sections(state: &StateTable) -> Vec<Vec<u8>> {
    let mut sections = Vec::new();
    let (mut changes, mut bytes) = (Vec::new(), 0);
    let mut entries = state.with_prefix(b"").peekable();
    while let Some((key, value)) = entries.next() {
        let change = StateChange { key: key.clone(), value: Some(value.clone()) };
        bytes += change.weight_bytes();
        changes.push(change);
        if bytes >= STATE_SECTION_BYTES || entries.peek().is_none() {
            let mut section = Vec::new();
            state::put_section(&mut section, state.digest(), &changes);
            sections.push(section);
            changes.clear();
            bytes = 0;
        }
    }
    sections
}

fn end_of(head: Sequence, chain: [u8; 32], state: StateDigest) -> Vec<u8> {
    let mut end = head.get().to_le_bytes().to_vec();
    end.extend(chain);
    state::put_section(&mut end, state, &[]);
    end
}

fn put_section(into: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    into.push(kind);
    into.extend((bytes.len() as u32).to_le_bytes());
    into.extend(section_crc(kind, bytes).to_le_bytes());
    into.extend(bytes);
}

fn section_crc(kind: u8, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(&(bytes.len() as u32).to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn epochs_of(shared: &Shared) -> Vec<u8> {
    let row = |facts: &crate::log::contract::EpochFacts| EpochRow {
        epoch: facts.epoch,
        parent: facts.parent,
        fork: facts.fork,
        open_time_ns: facts.open_time_ns,
    };
    Epochs { node: shared.node.clone(), rows: shared.epochs.iter().map(row).collect() }.encode()
}
