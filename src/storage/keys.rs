//! sled's whole keyspace on one screen: one tree, a leading kind byte, numbers big-endian so that keys sort as numbers do. Persisted: a
//! kind byte is never used again for something else.
//!
//! | kind | key after the kind byte | value | lives |
//! |---|---|---|---|
//! | `B` | block u32, counted from the first | a block of events | as long as the events are retained |
//! | `B` | as its block, filler u8 | nothing, ever: it keeps a leaf from holding many blocks | as its block |
//! | `D` | page u32 | a page of the directory of blocks | as its blocks |
//! | `R` | family u32, run u64, part u32 | a part of an index run | until its run is merged into another |
//! | `R` | as its part, filler u8 | nothing, ever: it keeps a leaf from holding many parts | as its part |
//! | `M` | family u32 | the family's manifest | as its family |
//! | `F` | nothing | which families are in use | for ever |
//! | `P` | the key of a large value, generation u8, piece u8 | a piece of it | as the value |
//! | `S` | the entry's key | CRC u32, then an entry of promised state | until it is removed |

/// A block of events.
#[must_use]
pub fn block(number: u32) -> [u8; 5] {
    let mut key = [b'B'; 5];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Fillers after each block. A leaf has nine entries once it was cut in two, so that it holds three blocks: sled reads a leaf whole, each
/// value of it by two reads of the file, and a look-up of one event so reads three blocks and not nine.
pub const BLOCK_FILLERS: u8 = 2;

/// A block of events and the fillers after it. Logs of earlier programs have none, and their leaves stay as they are.
pub fn block_with_fillers(number: u32) -> impl Iterator<Item = Vec<u8>> {
    with_fillers(block(number).to_vec(), BLOCK_FILLERS)
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

/// Fillers after each part of a run. A leaf has nine entries once it was cut in two, so that it holds three parts: with what it takes to
/// remove them they are fewer changes than make sled write the leaf whole, and a look-up reads three parts from the disk and not nine.
pub const RUN_FILLERS: u8 = 2;

/// A part of an index run and the fillers after it.
pub fn run_part_with_fillers(family: u32, run: u64, part: u32) -> impl Iterator<Item = Vec<u8>> {
    with_fillers(run_part(family, run, part).to_vec(), RUN_FILLERS)
}

fn with_fillers(key: Vec<u8>, count: u8) -> impl Iterator<Item = Vec<u8>> {
    let fillers: Vec<Vec<u8>> = (0..count).map(|filler| [&key[..], &[filler]].concat()).collect();
    std::iter::once(key).chain(fillers)
}

/// A family's manifest.
#[must_use]
pub fn manifest(family: u32) -> [u8; 5] {
    let mut key = [b'M'; 5];
    key[1..].copy_from_slice(&family.to_be_bytes());
    key
}

/// A piece of a value too large to stand in one place.
#[must_use]
pub fn piece(key: &[u8], generation: u8, piece: u8) -> Vec<u8> {
    [b"P", key, &[generation, piece]].concat()
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
