//! A log as one file, written while the log is in use. It never shows what was not durable when it began.
//!
//! ```text
//! magic "TLBACKUP" | version u32 = 3
//! sections: kind u8 | bytes u32 | crc u32 of kind, bytes and what follows | bytes
//!   E the epochs, as their file    B a block of events, as sled holds it    S promised state, as a frame of the journal holds it
//!   F a file beside the log, or its next piece: length of its name u8, name, bytes
//!   Z end: head u64, chain hash [32], digest of the state (entries u64, hash u64), crc u32 of all F
//! ```

use bytes::Bytes;

use super::{block, codec, shared::Shared};
use crate::{
    domain::Sequence,
    log::admin::{BackupPiece, Companion, Listener},
    storage::{
        CHAIN_START, StorageError,
        epochs::{EpochRow, Epochs},
        state::{self, StateChange, StateDigest, StateTable},
    },
};

pub(super) const MAGIC: &[u8; 8] = b"TLBACKUP";
pub(super) const VERSION: u32 = 3;
pub(super) const SECTION_HEADER_BYTES: usize = 9;
/// A piece is handed on once it has so many bytes.
pub(super) const PIECE_BYTES: usize = 512 * 1024;
/// A section of state is closed once it has so many bytes; with the largest entry added it stays below what a section may take.
const STATE_SECTION_BYTES: usize = 128 * 1024;
/// A companion larger than this goes in several sections.
const COMPANION_PIECE_BYTES: usize = 256 * 1024;

/// Writes the log up to its present end, and its companions.
pub(super) fn write(
    shared: &Shared,
    companions: &[Companion],
    listener: Listener<'_, BackupPiece>,
) -> Result<(), StorageError> {
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
    let mut companions_crc = crc32fast::Hasher::new();
    let sections = state_sections(&state).into_iter().map(|section| (b'S', section));
    for (kind, section) in sections.chain(companion_sections(companions).map(|section| (b'F', section))) {
        if kind == b'F' {
            companions_crc.update(&section);
        }
        put_section(&mut file, kind, &section);
        let piece = BackupPiece { data: Bytes::from(std::mem::take(&mut file)), through: head, head };
        if !listener(piece) {
            return Ok(());
        }
    }
    put_section(&mut file, b'Z', &end_of(head, chain, state.digest(), companions_crc.finalize()));
    listener(BackupPiece { data: Bytes::from(file), through: head, head });
    Ok(())
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

fn companion_sections(companions: &[Companion]) -> impl Iterator<Item = Vec<u8>> {
    companions.iter().flat_map(|Companion { name, bytes }| {
        // An empty file is a file too.
        let pieces = bytes.chunks(COMPANION_PIECE_BYTES).chain(bytes.is_empty().then_some(&bytes[..]));
        pieces.map(|piece| [&[name.len() as u8], name.as_bytes(), piece].concat())
    })
}

pub(super) fn end_of(head: Sequence, chain: [u8; 32], state: StateDigest, companions_crc: u32) -> Vec<u8> {
    let mut end = head.get().to_le_bytes().to_vec();
    end.extend(chain);
    state::put_section(&mut end, state, &[]);
    end.extend(companions_crc.to_le_bytes());
    end
}

fn put_section(into: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    into.push(kind);
    into.extend((bytes.len() as u32).to_le_bytes());
    into.extend(section_crc(kind, bytes).to_le_bytes());
    into.extend(bytes);
}

pub(super) fn section_crc(kind: u8, bytes: &[u8]) -> u32 {
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
