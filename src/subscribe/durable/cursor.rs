//! How far a subscription is, and its dead letters, as they are stored. It never says less than was acknowledged.
//!
//! ```text
//! cursor: version u8 = 2 | epoch [16] | low water u64 | widenings handled u64 | settled varint count, each: varint distance from the one before
//!         | tried varint count, each: varint distance, varint attempts, not before i64, reason varint length, bytes
//!         version 1 says nothing of widenings: none is handled
//! letter: version u8 = 1 | attempts varint | parked u8 | time i64 | reason varint length, bytes
//!         | replay u8: 1 = varint attempts, not before i64
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    domain::{Epoch, Sequence},
    store::{
        VALUE_BYTES_MAX,
        bytes::{Malformed, Reader, put_varint},
    },
};

const CURSOR_VERSION: u8 = 2;
/// The first version, which is still read.
const CURSOR_VERSION_WITHOUT_WIDENINGS: u8 = 1;
const LETTER_VERSION: u8 = 1;
/// The reasons of all tried events take at most so many bytes, and less where the places themselves take much; those beyond are left out, so
/// that the largest cursor is still a value that the store takes.
const REASONS_BYTES_MAX: usize = 16 * 1024;
/// What a tried event takes without its reason, where events are not further apart than two million places.
const TRIED_BYTES: usize = 13;
/// What is kept free for the head and the counts.
const HEAD_BYTES: usize = 64;

/// What is kept of an event that was delivered and not settled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tried {
    /// Attempts that have ended.
    pub attempts: u32,
    /// It is not delivered before, nanoseconds since 1970.
    pub not_before_ns: i64,
    /// Why the last attempt ended.
    pub reason: String,
}

/// How far a subscription is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The life of the log that the places belong to.
    pub epoch: Epoch,
    /// Everything up to here is settled or did not match.
    pub low_water: Sequence,
    /// What widened the owner's view up to here, consumers have dealt with.
    pub widenings_handled: Sequence,
    /// What is settled above.
    pub settled: BTreeSet<Sequence>,
    /// What was tried above and is not settled.
    pub tried: BTreeMap<Sequence, Tried>,
}

/// An event that is delivered no more, unless it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// How often it was delivered.
    pub attempts: u32,
    /// True where a consumer parked it; else its attempts were used up.
    pub parked: bool,
    /// When it became a dead letter, nanoseconds since 1970.
    pub time_ns: i64,
    /// Why, in the consumer's words or the node's.
    pub reason: String,
    /// Where it is being delivered again.
    pub replay: Option<Tried>,
}

impl Cursor {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = vec![CURSOR_VERSION];
        bytes.extend(self.epoch.0.as_bytes());
        bytes.extend(self.low_water.get().to_le_bytes());
        bytes.extend(self.widenings_handled.get().to_le_bytes());
        put_varint(&mut bytes, self.settled.len() as u64);
        let mut before = self.low_water;
        for sequence in &self.settled {
            put_varint(&mut bytes, sequence.get() - before.get());
            before = *sequence;
        }
        put_varint(&mut bytes, self.tried.len() as u64);
        let mut before = self.low_water;
        let places_bytes = HEAD_BYTES + (self.settled.len() + self.tried.len()) * TRIED_BYTES;
        let reasons_bytes_max = REASONS_BYTES_MAX.min(VALUE_BYTES_MAX.saturating_sub(places_bytes));
        let mut reasons_bytes = 0;
        for (sequence, tried) in &self.tried {
            reasons_bytes += tried.reason.len();
            let reason = if reasons_bytes <= reasons_bytes_max { tried.reason.as_str() } else { "" };
            put_varint(&mut bytes, sequence.get() - before.get());
            put_varint(&mut bytes, u64::from(tried.attempts));
            bytes.extend(tried.not_before_ns.to_le_bytes());
            put_text(&mut bytes, reason);
            before = *sequence;
        }
        bytes.into()
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if ![CURSOR_VERSION, CURSOR_VERSION_WITHOUT_WIDENINGS].contains(&version) {
            return Err(reader.malformed());
        }
        let epoch = Epoch(Uuid::from_bytes(reader.array()?));
        let low_water = Sequence(reader.u64()?);
        let widenings_handled = if version == CURSOR_VERSION { Sequence(reader.u64()?) } else { Sequence::ZERO };
        let mut cursor = Self { epoch, low_water, widenings_handled, settled: BTreeSet::new(), tried: BTreeMap::new() };
        let mut before = low_water;
        for _ in 0..reader.varint()? {
            before = after(&mut reader, before)?;
            cursor.settled.insert(before);
        }
        let mut before = low_water;
        for _ in 0..reader.varint()? {
            before = after(&mut reader, before)?;
            let attempts = reader.varint()? as u32;
            let not_before_ns = reader.i64()?;
            let reason = text(&mut reader)?;
            cursor.tried.insert(before, Tried { attempts, not_before_ns, reason });
        }
        if reader.remaining() > 0 { Err(reader.malformed()) } else { Ok(cursor) }
    }
}

impl DeadLetter {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = vec![LETTER_VERSION];
        put_varint(&mut bytes, u64::from(self.attempts));
        bytes.push(u8::from(self.parked));
        bytes.extend(self.time_ns.to_le_bytes());
        put_text(&mut bytes, &self.reason);
        bytes.push(u8::from(self.replay.is_some()));
        if let Some(replay) = &self.replay {
            put_varint(&mut bytes, u64::from(replay.attempts));
            bytes.extend(replay.not_before_ns.to_le_bytes());
            put_text(&mut bytes, &replay.reason);
        }
        bytes.into()
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != LETTER_VERSION {
            return Err(reader.malformed());
        }
        let attempts = reader.varint()? as u32;
        let parked = reader.u8()? == 1;
        let time_ns = reader.i64()?;
        let reason = text(&mut reader)?;
        let replay = match reader.u8()? {
            0 => None,
            1 => Some(Tried {
                attempts: reader.varint()? as u32,
                not_before_ns: reader.i64()?,
                reason: text(&mut reader)?,
            }),
            _ => return Err(reader.malformed()),
        };
        if reader.remaining() > 0 {
            return Err(reader.malformed());
        }
        Ok(Self { attempts, parked, time_ns, reason, replay })
    }
}

fn after(reader: &mut Reader<'_>, before: Sequence) -> Result<Sequence, Malformed> {
    let distance = reader.varint()?;
    before.get().checked_add(distance).filter(|_| distance > 0).map(Sequence).ok_or(reader.malformed())
}

fn put_text(into: &mut Vec<u8>, text: &str) {
    put_varint(into, text.len() as u64);
    into.extend(text.as_bytes());
}

fn text(reader: &mut Reader<'_>) -> Result<String, Malformed> {
    let length = usize::try_from(reader.varint()?).map_err(|_| reader.malformed())?;
    let bytes = reader.take(length)?;
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| reader.malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(attempts: u32, at: i64) -> Tried {
        Tried { attempts, not_before_ns: at, reason: format!("attempt {attempts}") }
    }

    #[test]
    fn the_largest_cursor_is_a_value_that_the_store_takes() {
        let long = Tried { attempts: 100, not_before_ns: i64::MAX, reason: "x".repeat(200) };
        // Twice the most that may be open: another filter may put all of them back while as many others are tried.
        for (count, apart) in [(5_000, 2_000_000_000), (10_000, 2_000_000)] {
            let tried: BTreeMap<_, _> = (1..=count).map(|number| (Sequence(number * apart), long.clone())).collect();
            let cursor = Cursor {
                epoch: Epoch(Uuid::from_u128(1)),
                low_water: Sequence::ZERO,
                widenings_handled: Sequence(u64::MAX),
                settled: BTreeSet::new(),
                tried,
            };
            assert!(cursor.encode().len() <= VALUE_BYTES_MAX, "{}", cursor.encode().len());
            assert_eq!(Cursor::decode(&cursor.encode()).unwrap().tried.len() as u64, count);
        }
    }

    #[test]
    fn a_cursor_of_the_first_version_is_read_as_one_that_has_handled_no_widening() {
        let mut first = vec![1];
        first.extend(Uuid::from_u128(7).as_bytes());
        first.extend(41_u64.to_le_bytes());
        // One settled, two places on; none tried.
        first.extend([1, 2, 0]);
        let read = Cursor {
            epoch: Epoch(Uuid::from_u128(7)),
            low_water: Sequence(41),
            widenings_handled: Sequence::ZERO,
            settled: BTreeSet::from([Sequence(43)]),
            tried: BTreeMap::new(),
        };
        assert_eq!(Cursor::decode(&first), Ok(read));
    }

    proptest::proptest! {
        #[test]
        fn what_is_stored_comes_back(
            low in 0_u64..1 << 50,
            widenings_handled: u64,
            settled: BTreeSet<u16>,
            attempts in proptest::collection::btree_map(1_u64..9000, (1_u32..100, proptest::num::i64::ANY), 0..40),
            parked: bool,
        ) {
            let place = |distance: u64| Sequence(low + 1 + distance);
            let cursor = Cursor {
                epoch: Epoch(Uuid::from_u128(9)),
                low_water: Sequence(low),
                widenings_handled: Sequence(widenings_handled),
                settled: settled.into_iter().map(|distance| place(distance.into())).collect(),
                tried: attempts.into_iter().map(|(distance, (count, at))| (place(distance), tried(count, at))).collect(),
            };
            proptest::prop_assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
            for replay in [None, Some(tried(3, low as i64))] {
                let letter = DeadLetter { attempts: 5, parked, time_ns: low as i64, reason: "no such bill".into(), replay };
                proptest::prop_assert_eq!(DeadLetter::decode(&letter.encode()), Ok(letter));
            }
        }

        #[test]
        fn no_bytes_make_a_reader_panic(bytes: Vec<u8>) {
            let _ = Cursor::decode(&bytes);
            let _ = DeadLetter::decode(&bytes);
        }
    }
}
