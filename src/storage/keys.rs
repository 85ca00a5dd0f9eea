//! sled's whole keyspace on one screen: one tree, a leading kind byte, numbers big-endian so that keys sort as numbers do. Persisted: a
//! kind byte is never used again for something else.
//!
//! | kind | key after the kind byte | value | lives |
//! |---|---|---|---|
//! | `L` | first sequence u64 | a block of events | as long as the events are retained |
//! | `D` | page u32 | a page of the directory of blocks | as its blocks |
//! | `R` | family u32, run u64, part u32 | a part of an index run | until its run is merged into another |
//! | `M` | family u32 | the family's manifest | as its family |
//! | `F` | nothing | which families are in use | for ever |
//! | `S` | the entry's key | CRC u32, then an entry of promised state | until it is removed |

use crate::domain::Sequence;

/// A block of events.
#[must_use]
pub fn block(first: Sequence) -> [u8; 9] {
    let mut key = [b'L'; 9];
    key[1..].copy_from_slice(&first.get().to_be_bytes());
    key
}

/// A page of the directory of blocks.
#[must_use]
pub fn directory_page(page: u32) -> [u8; 5] {
    let mut key = [b'D'; 5];
    key[1..].copy_from_slice(&page.to_be_bytes());
    key
}

/// A part of an index run.
#[must_use]
pub fn run_part(family: u32, run: u64, part: u32) -> [u8; 17] {
    let mut key = [b'R'; 17];
    key[1..5].copy_from_slice(&family.to_be_bytes());
    key[5..13].copy_from_slice(&run.to_be_bytes());
    key[13..].copy_from_slice(&part.to_be_bytes());
    key
}

/// A family's manifest.
#[must_use]
pub fn manifest(family: u32) -> [u8; 5] {
    let mut key = [b'M'; 5];
    key[1..].copy_from_slice(&family.to_be_bytes());
    key
}

/// Which families are in use.
pub const FAMILIES: &[u8] = b"F";

/// What the keys of promised state begin with.
pub const STATE_PREFIX: &[u8] = b"S";

/// An entry of promised state.
#[must_use]
pub fn state(key: &[u8]) -> Vec<u8> {
    [STATE_PREFIX, key].concat()
}
