//! Records as bytes, in the journal's frames and in the blocks of earlier programs alike, and the chain of hashes over them. It never reads a file.
//!
//! ```text
//! accepted time i64 | flags u8: 1 = an origin follows | header varint length, bytes | signed varint length, bytes
//! origin: node varint length, bytes | epoch [16] | sequence u64 | accepted time i64 | nodes passed u8, each varint length, bytes
//! ```

use std::sync::Arc;

use bytes::Bytes;
use ring::digest::{Context, SHA256, digest};
use uuid::Uuid;

use crate::{
    domain::{Epoch, Sequence, SpiffeId},
    log::contract::{OriginFacts, Record},
    storage::{
        ChainHash,
        bytes::{Malformed, Reader, put_varint},
    },
};

const HAS_ORIGIN: u8 = 1;

/// Appends a record's stored form; its place is implied by what holds it.
pub fn put_record(into: &mut Vec<u8>, record: &Record) {
    into.extend(record.accepted_time_ns.to_le_bytes());
    into.push(if record.origin.is_some() { HAS_ORIGIN } else { 0 });
    put_bytes(into, &record.header);
    put_bytes(into, &record.signed);
    if let Some(origin) = &record.origin {
        put_origin(into, origin);
    }
}

/// Reads `count` records that begin at a place, sharing the bytes they stand in.
///
/// # Errors
/// The bytes are not so many whole records, or hold more than them.
pub fn read_records(bytes: &Bytes, first: Sequence, count: u32) -> Result<Vec<Record>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut records = Vec::with_capacity(count as usize);
    for index in 0..u64::from(count) {
        let accepted_time_ns = reader.i64()?;
        let flags = reader.u8()?;
        let header = bytes.slice_ref(take_bytes(&mut reader)?);
        let signed = bytes.slice_ref(take_bytes(&mut reader)?);
        let origin = match flags {
            0 => None,
            HAS_ORIGIN => Some(Arc::new(read_origin(&mut reader)?)),
            _ => return Err(reader.malformed()),
        };
        records.push(Record { sequence: Sequence(first.get() + index), accepted_time_ns, origin, header, signed });
    }
    if reader.remaining() > 0 { Err(reader.malformed()) } else { Ok(records) }
}

/// The chain's hash after a record: SHA-256 over the hash before it, its place, accepted time, origin and the SHA-256 of its bytes.
#[must_use]
pub fn chain_after(before: &ChainHash, record: &Record) -> ChainHash {
    let mut context = Context::new(&SHA256);
    context.update(before);
    context.update(&record.sequence.get().to_le_bytes());
    context.update(&record.accepted_time_ns.to_le_bytes());
    if let Some(origin) = &record.origin {
        let mut bytes = Vec::new();
        put_origin(&mut bytes, origin);
        context.update(&bytes);
    }
    context.update(digest(&SHA256, &record.signed).as_ref());
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The chain's hash after some records.
#[must_use]
pub fn chain_over(before: ChainHash, records: &[Record]) -> ChainHash {
    records.iter().fold(before, |chain, record| chain_after(&chain, record))
}

/// What a record takes in memory, about, for limits.
#[must_use]
pub fn weight_bytes(record: &Record) -> usize {
    record.header.len() + record.signed.len() + 96
}

/// What [`put_record`] writes of a record at most.
#[must_use]
pub fn stored_bytes_at_most(record: &Record) -> usize {
    // Accepted time, flags, two lengths; of an origin its fixed fields and, a name, the length and the text.
    let fixed = 8 + 1 + 2 * 10;
    let name = |name: &SpiffeId| 10 + name.as_str().len();
    let origin = record
        .origin
        .as_ref()
        .map_or(0, |origin| 16 + 8 + 8 + 1 + name(&origin.node) + origin.via.iter().map(name).sum::<usize>());
    fixed + record.header.len() + record.signed.len() + origin
}

pub(super) fn put_origin(into: &mut Vec<u8>, origin: &OriginFacts) {
    put_bytes(into, origin.node.as_str().as_bytes());
    into.extend(origin.epoch.0.as_bytes());
    into.extend(origin.sequence.get().to_le_bytes());
    into.extend(origin.accepted_time_ns.to_le_bytes());
    into.push(origin.via.len() as u8);
    for node in &origin.via {
        put_bytes(into, node.as_str().as_bytes());
    }
}

pub(super) fn read_origin(reader: &mut Reader<'_>) -> Result<OriginFacts, Malformed> {
    let node = read_name(reader)?;
    let epoch = Epoch(Uuid::from_bytes(reader.array()?));
    let sequence = Sequence(reader.u64()?);
    let accepted_time_ns = reader.i64()?;
    let passed = reader.u8()?;
    let via = (0..passed).map(|_| read_name(reader)).collect::<Result<_, _>>()?;
    Ok(OriginFacts { node, epoch, sequence, accepted_time_ns, via })
}

fn read_name(reader: &mut Reader<'_>) -> Result<SpiffeId, Malformed> {
    let bytes = take_bytes(reader)?;
    std::str::from_utf8(bytes).ok().and_then(|name| SpiffeId::parse(name).ok()).ok_or(reader.malformed())
}

pub(super) fn put_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(into, bytes.len() as u64);
    into.extend(bytes);
}

pub(super) fn take_bytes<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(reader.varint()?).map_err(|_| reader.malformed())?;
    reader.take(length)
}
