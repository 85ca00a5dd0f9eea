//! Terms: what an index and a block's fingerprint know of an event. A term is one fact of a routing header ("a subject with the value
//! MSKU9070323", "published by P") reduced to a number. Collisions are harmless: whoever finds an event by a term checks the event's
//! header before believing it.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// What is hashed of a term at once, in bytes: nearly every term is shorter. Longer ones are hashed piece by piece, which gives the same
/// number and costs ten times as much.
const AT_ONCE_BYTES_MAX: usize = 128;

/// The kinds of facts that are indexed. Persisted: a number never changes its meaning and is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TermKind {
    /// (publisher, event id): one event.
    Identity = 1,
    /// (publisher, event id) of the event that a revision revises.
    Revises = 2,
    /// The value of a subject, of whatever kind.
    SubjectValue = 3,
    /// The kind of a subject.
    SubjectKind = 4,
    /// A UN/LOCODE, in whatever role.
    Locode = 5,
    /// A country, in whatever role.
    Country = 6,
    /// A facility's scheme and code.
    Facility = 7,
    /// A participant named as a party.
    PartyParticipant = 8,
    /// A party's scheme and identifier.
    PartyIdentifier = 9,
    /// A commodity code, once for each of its prefixes of 2, 3, 4, 5 and 6 digits.
    CommodityPrefix = 10,
    /// Body type.
    BodyType = 11,
    /// Body type and step.
    BodyStep = 12,
    /// Classifier.
    Classifier = 13,
    /// Procedure.
    Procedure = 14,
    /// Mode of transport.
    Mode = 15,
    /// Publisher.
    Publisher = 16,
    /// Node of origin.
    Origin = 17,
    /// The UTC day of an event time, counted from 1970-01-01.
    EventDay = 18,
    /// The trust domain of the publisher and the number of a hold: every statement about that hold. It is no part of a header.
    Hold = 19,
}

/// A term as a number, the same for ever and on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TermHash(pub u64);

impl TermHash {
    /// The term of a kind with its parts, in order. Parts are told apart from each other by their lengths.
    #[must_use]
    pub fn of(kind: TermKind, parts: &[&[u8]]) -> Self {
        let (mut buffer, mut length) = ([0; AT_ONCE_BYTES_MAX], 0);
        for part in parts {
            let end = length + 4 + part.len();
            let Some((size, bytes)) = buffer.get_mut(length..end).and_then(<[u8]>::split_first_chunk_mut) else {
                return Self::of_long(kind, parts);
            };
            *size = (part.len() as u32).to_le_bytes();
            bytes.copy_from_slice(part);
            length = end;
        }
        Self(xxh3_64_with_seed(&buffer[..length], kind as u64))
    }

    fn of_long(kind: TermKind, parts: &[&[u8]]) -> Self {
        let mut hasher = Xxh3::with_seed(kind as u64);
        for part in parts {
            hasher.update(&(part.len() as u32).to_le_bytes());
            hasher.update(part);
        }
        Self(hasher.digest())
    }
}

/// Something by term. A term is a hash already: hashing it again would cost more than looking it up. Terms that are made to collide cost a
/// longer look, in memory as in an index on the disk.
pub type TermMap<T> = HashMap<TermHash, T, BuildHasherDefault<AsItIs>>;

/// Takes a number for its own hash.
#[derive(Debug, Default, Clone, Copy)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        unreachable!("a term is one number, not {} bytes", bytes.len());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_pinned_since_they_are_persisted() {
        assert_eq!(TermHash::of(TermKind::Locode, &[b"PKKHI"]), TermHash::of(TermKind::Locode, &[b"PKKHI"]));
        assert_ne!(TermHash::of(TermKind::Locode, &[b"PKKHI"]), TermHash::of(TermKind::Country, &[b"PKKHI"]));
        assert_ne!(TermHash::of(TermKind::Facility, &[b"A", b"BC"]), TermHash::of(TermKind::Facility, &[b"AB", b"C"]));
    }

    #[test]
    fn a_term_is_the_same_number_at_once_and_piece_by_piece() {
        let text = [b'x'; 2 * AT_ONCE_BYTES_MAX];
        for length in 0..text.len() {
            for (kind, first) in [(TermKind::Identity, length / 2), (TermKind::EventDay, length)] {
                let parts = [&text[..first], &text[first..length]];
                assert_eq!(TermHash::of(kind, &parts), TermHash::of_long(kind, &parts), "{kind:?}, {length} bytes");
            }
        }
    }
}
