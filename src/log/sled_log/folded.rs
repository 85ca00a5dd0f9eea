//! Records as a block holds them: what a record says twice is kept once. It never changes a record: each comes back byte for byte.
//!
//! ```text
//! flags u8: 1 = an origin follows, 2 = the header is folded, 4 = the event's id is left out of the signed bytes
//! accepted time, as its difference from the record's before (0, -1, 1, -2, 2, ...), varint
//! signed varint length, bytes | where the id's text stood varint, where it is left out
//! header: folded (domain::header), or varint length, bytes | origin
//! ```
//! An event bears its id as 36 characters of text, which no compression makes as small as the 16 bytes that the header has.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::codec;
use crate::{
    domain::{Sequence, header},
    log::contract::Record,
    storage::bytes::{Malformed, Reader, put_varint},
};

const HAS_ORIGIN: u8 = 1;
const HEADER_FOLDED: u8 = 2;
const ID_LEFT_OUT: u8 = 4;

/// How long an id's text is.
const ID_CHARS: usize = 36;
/// An id's text begins before this place: in front of it are two keys and two lengths.
const ID_AT_MAX: usize = 16;

/// Appends records of consecutive places.
pub fn put_records(into: &mut Vec<u8>, records: &[Record]) {
    let (mut before_ns, mut folder, mut folded) = (0, header::Folder::default(), Vec::with_capacity(512));
    for record in records {
        folded.clear();
        let is_folded = folder.fold(&record.header, &record.signed, &mut folded);
        let id_at = if is_folded { id_at(&folded, &record.signed) } else { None };
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        into.push(
            flag(record.origin.is_some(), HAS_ORIGIN)
                | flag(is_folded, HEADER_FOLDED)
                | flag(id_at.is_some(), ID_LEFT_OUT),
        );
        put_varint(into, zigzag(record.accepted_time_ns.wrapping_sub(before_ns)));
        before_ns = record.accepted_time_ns;
        if let Some(at) = id_at {
            put_varint(into, (record.signed.len() - ID_CHARS) as u64);
            into.extend_from_slice(&record.signed[..at]);
            into.extend_from_slice(&record.signed[at + ID_CHARS..]);
            put_varint(into, at as u64);
        } else {
            codec::put_bytes(into, &record.signed);
        }
        if is_folded {
            into.extend_from_slice(&folded);
        } else {
            codec::put_bytes(into, &record.header);
        }
        if let Some(origin) = &record.origin {
            codec::put_origin(into, origin);
        }
    }
}

/// Reads `count` records that begin at a place.
///
/// # Errors
/// The bytes are not so many whole records, or hold more than them.
pub fn read_records(bytes: &[u8], first: Sequence, count: u32) -> Result<Vec<Record>, Malformed> {
    let mut reader = Reader::new(bytes);
    // What is read stands together: a record's bytes are a share of these.
    let (mut signed, mut headers) = (Vec::with_capacity(bytes.len()), Vec::with_capacity(bytes.len()));
    let (mut ends, mut accepted_time_ns) = (Vec::with_capacity(count as usize), 0_i64);
    for _ in 0..count {
        let flags = reader.u8()?;
        if flags & !(HAS_ORIGIN | HEADER_FOLDED | ID_LEFT_OUT) != 0 {
            return Err(reader.malformed());
        }
        accepted_time_ns = accepted_time_ns.wrapping_add(unzigzag(reader.varint()?));
        let kept = codec::take_bytes(&mut reader)?;
        let signed_from = signed.len();
        if flags & ID_LEFT_OUT == 0 {
            signed.extend_from_slice(kept);
        } else {
            let at = reader.varint()? as usize;
            let id = header::id_of(reader.rest()).ok_or(reader.malformed())?;
            let (front, back) = kept.split_at_checked(at).ok_or(reader.malformed())?;
            signed.extend_from_slice(front);
            signed.extend_from_slice(text_of(id).as_bytes());
            signed.extend_from_slice(back);
        }
        if flags & HEADER_FOLDED == 0 {
            headers.extend_from_slice(codec::take_bytes(&mut reader)?);
        } else {
            let unfolded = header::unfold(reader.rest(), &signed[signed_from..], &mut headers);
            reader.take(unfolded.ok_or(reader.malformed())?)?;
        }
        let origin = match flags & HAS_ORIGIN {
            0 => None,
            _ => Some(Arc::new(codec::read_origin(&mut reader)?)),
        };
        ends.push((accepted_time_ns, signed.len(), headers.len(), origin));
    }
    if reader.remaining() > 0 {
        return Err(reader.malformed());
    }
    // Caches and readers keep them, and count what records take and no room beside it.
    signed.shrink_to_fit();
    headers.shrink_to_fit();
    let (signed, headers) = (Bytes::from(signed), Bytes::from(headers));
    let (mut signed_from, mut header_from) = (0, 0);
    let records =
        ends.into_iter().zip(first.get()..).map(|((accepted_time_ns, signed_to, header_to, origin), place)| {
            let (signed, header) = (signed.slice(signed_from..signed_to), headers.slice(header_from..header_to));
            (signed_from, header_from) = (signed_to, header_to);
            Record { sequence: Sequence(place), accepted_time_ns, origin, header, signed }
        });
    Ok(records.collect())
}

/// Where the text of the id of a folded header stands in its event.
fn id_at(folded: &[u8], signed: &[u8]) -> Option<usize> {
    let text = text_of(header::id_of(folded)?);
    (0..ID_AT_MAX).find(|at| signed.get(*at..).is_some_and(|signed| signed.starts_with(text.as_bytes())))
}

fn text_of(id: [u8; 16]) -> IdText {
    let mut text = [0; ID_CHARS];
    Uuid::from_bytes(id).hyphenated().encode_lower(&mut text);
    IdText(text)
}

/// The 36 characters of an id.
struct IdText([u8; ID_CHARS]);

impl IdText {
    const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{EventId, RoutingHeader, SpiffeId};

    /// A header, and an event that bears its publisher and, at a place, the text of an id.
    fn header_and_signed(id: [u8; 16], at: usize, told: &EventId) -> (Bytes, Bytes) {
        let publisher = SpiffeId::parse("spiffe://port.example/terminal/a").unwrap();
        let mut signed = vec![b'k'; at];
        signed.extend(told.to_string().bytes().chain(publisher.as_str().bytes()));
        let header = RoutingHeader {
            classifiers: vec![4],
            event_times_ns: vec![1],
            ..RoutingHeader::bare(publisher, EventId::from_bytes(id))
        };
        (header.encode().into(), signed.into())
    }

    fn record() -> impl Strategy<Value = Record> {
        let known = (any::<[u8; 16]>(), 0..20_usize, any::<bool>()).prop_map(|(id, at, is_own)| {
            let told = if is_own { id } else { [7; 16] };
            header_and_signed(id, at, &EventId::from_bytes(told))
        });
        let unknown = any::<(Vec<u8>, Vec<u8>)>().prop_map(|(header, signed)| (header.into(), signed.into()));
        (prop_oneof![known, unknown], any::<i64>()).prop_map(|((header, signed), accepted_time_ns)| Record {
            sequence: Sequence(0),
            accepted_time_ns,
            origin: None,
            header,
            signed,
        })
    }

    proptest! {
        #[test]
        fn records_come_back_whatever_they_hold(
            mut records in prop::collection::vec(record(), 1..20),
            at in any::<prop::sample::Index>(),
            to: u8,
        ) {
            (3..).zip(&mut records).for_each(|(place, record)| record.sequence = Sequence(place));
            let (mut bytes, count) = (Vec::new(), records.len() as u32);
            put_records(&mut bytes, &records);
            let read = read_records(&bytes, Sequence(3), count).unwrap();
            prop_assert_eq!(format!("{read:?}"), format!("{records:?}"));
            prop_assert!(read_records(&bytes, Sequence(3), count - 1).is_err());
            let at = at.index(bytes.len());
            prop_assert!(read_records(&bytes[..at], Sequence(3), count).is_err());
            // What a checksum would have refused is an error or other records, and never a panic.
            bytes[at] = to;
            let _ = read_records(&bytes, Sequence(3), count);
        }
    }

    #[test]
    fn what_a_record_says_twice_is_kept_once() {
        let id = *b"0123456789abcdef";
        let (header, signed) = header_and_signed(id, 4, &EventId::from_bytes(id));
        let (header_bytes, signed_bytes) = (header.len(), signed.len());
        let record = Record { sequence: Sequence(1), accepted_time_ns: 0, origin: None, header, signed };
        let mut bytes = Vec::new();
        put_records(&mut bytes, &[record]);
        let (id_text, publisher) = (36, "spiffe://port.example/terminal/a".len());
        // Flags, time, the length of what is signed and where the id stood; of the header its length and where the publisher stands.
        assert_eq!(bytes.len(), signed_bytes - id_text + header_bytes - publisher + 6);
    }
}
