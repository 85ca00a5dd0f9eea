//! How a value stands in sled: in one entry, or in pieces where it is large, so that no leaf grows to what sled keeps in files of their own.
//! It never knows what a value means.
//!
//! ```text
//! nothing: a key made before its value comes | the value, then 0 | generation u8, pieces u8 > 0
//! ```

use std::ops::Deref;

/// An entry takes at most so many bytes; so does a piece of a larger value.
pub const ENTRY_BYTES_MAX: usize = 56 * 1024;
/// At most so many pieces.
pub const PIECES_MAX: usize = 4;

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Its value has not come yet.
    NotYet,
    /// It holds its value.
    Whole,
    /// Its value is in pieces.
    Pieces {
        /// Tells them from those of the value before.
        generation: u8,
        /// How many.
        pieces: u8,
    },
}

/// Reads an entry.
#[must_use]
pub fn read(entry: &[u8]) -> Stored {
    match entry {
        [] => Stored::NotYet,
        [.., 0] => Stored::Whole,
        [generation, pieces] => Stored::Pieces { generation: *generation, pieces: *pieces },
        // No writer leaves such an entry: what stands under the key is read as it is, and whoever reads it finds the checksum wrong.
        _ => Stored::Whole,
    }
}

/// The entry of a value that it holds.
#[must_use]
pub fn whole(value: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(value.len() + 1);
    entry.extend_from_slice(value);
    entry.push(0);
    entry
}

/// The entry of a value in pieces.
#[must_use]
pub const fn in_pieces(generation: u8, pieces: u8) -> [u8; 2] {
    [generation, pieces]
}

/// A value as it was read; where it stands in one entry, its bytes share sled's own buffer.
#[derive(Debug, Clone)]
pub struct StoredValue(Bytes);

#[derive(Debug, Clone)]
enum Bytes {
    Entry(sled::IVec),
    Joined(Vec<u8>),
}

impl StoredValue {
    pub(super) const fn whole(entry: sled::IVec) -> Self {
        Self(Bytes::Entry(entry))
    }

    pub(super) const fn joined(bytes: Vec<u8>) -> Self {
        Self(Bytes::Joined(bytes))
    }
}

impl Deref for StoredValue {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Entry(entry) => &entry[..entry.len() - 1],
            Bytes::Joined(bytes) => bytes,
        }
    }
}
