//! Promised state: small entries by key, whose changes go through the journal like events do. Here are the table in memory, its digest, and
//! how changes stand in a frame. It never knows what an entry means.
//!
//! A frame's state section, before its records:
//! ```text
//! entries u64 | hash u64: the digest of the whole table once these changes are applied
//! changes: key varint length, bytes | 0 removed, or 1 and value varint length, bytes
//! ```
//! Each change holds its entry whole, so that applying the changes of a journal again, in order, over what sled holds gives the table of
//! the last one, however far sled had come.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    RESTORE_ADVICE, StorageError,
    bytes::{Malformed, Reader, put_varint},
};

/// A key's largest size.
pub const KEY_BYTES_MAX: usize = 512;
/// A value's largest size: well below what sled keeps out of files of their own.
pub const VALUE_BYTES_MAX: usize = 128 * 1024;
/// Changes that become durable as one take at most so many bytes.
pub const WRITE_BYTES_MAX: usize = 512 * 1024;
/// The whole table takes at most so many bytes; beyond, nothing that makes it grow is taken.
pub const TABLE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What an entry costs beside its key and value, about.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// One entry's new value, or its removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// Which entry.
    pub key: Bytes,
    /// What it holds from now on; none: it is removed.
    pub value: Option<Bytes>,
}

impl StateChange {
    /// What it counts against the limits.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len) + ENTRY_OVERHEAD_BYTES
    }
}

/// Stands for a whole table: two tables with other entries have another digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateDigest {
    /// How many entries.
    pub entries: u64,
    /// All entries' hashes together, in any order.
    pub hash: u64,
}

impl StateDigest {
    fn replace(&mut self, key: &[u8], before: Option<&Bytes>, after: Option<&Bytes>) {
        for value in before.into_iter().chain(after) {
            self.hash ^= xxh3_64_with_seed(value, xxh3_64_with_seed(key, 0));
        }
        // An entry that comes adds one, one that goes takes one away.
        self.entries = self.entries + u64::from(after.is_some()) - u64::from(before.is_some());
    }
}

/// The table.
#[derive(Debug, Default, Clone)]
pub struct StateTable {
    entries: BTreeMap<Bytes, Bytes>,
    digest: StateDigest,
    bytes: usize,
}

impl StateTable {
    /// What stands for it.
    #[must_use]
    pub const fn digest(&self) -> StateDigest {
        self.digest
    }

    /// What its entries take in memory, about.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// One entry.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Bytes> {
        self.entries.get(key)
    }

    /// The entries whose key begins so, in the order of their keys.
    pub fn with_prefix<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = (&'a Bytes, &'a Bytes)> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.entries.range::<[u8], _>(from).take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Applies a change.
    pub fn apply(&mut self, change: StateChange) {
        let StateChange { key, value } = change;
        let weight = |value: &Bytes| key.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        self.bytes += value.as_ref().map_or(0, weight);
        let before = match value.clone() {
            Some(value) => self.entries.insert(key.clone(), value),
            None => self.entries.remove(&key),
        };
        self.bytes -= before.as_ref().map_or(0, weight);
        self.digest.replace(&key, before.as_ref(), value.as_ref());
    }

    /// The digest as it will be once these changes are applied in order.
    #[must_use]
    pub fn digest_after(&self, changes: &[StateChange]) -> StateDigest {
        let mut digest = self.digest;
        let mut changed: HashMap<&Bytes, Option<&Bytes>> = HashMap::new();
        for StateChange { key, value } in changes {
            let before = changed.insert(key, value.as_ref()).unwrap_or_else(|| self.entries.get(key));
            digest.replace(key, before, value.as_ref());
        }
        digest
    }

    /// By how many bytes these changes would make the table grow, each by itself.
    #[must_use]
    pub fn growth_bytes(&self, changes: &[StateChange]) -> usize {
        changes
            .iter()
            .filter_map(|change| {
                let after = change.value.as_ref()?.len();
                Some(self.entries.get(&change.key).map_or(change.weight_bytes(), |old| after.saturating_sub(old.len())))
            })
            .sum()
    }
}

/// What the threads of a log share of the state: the table as it is durable, and what of it sled does not hold yet.
#[derive(Debug, Default)]
pub struct DurableState {
    /// Everything that was acknowledged.
    pub table: StateTable,
    /// Keys whose last change sled does not hold yet.
    pub unstored: BTreeSet<Bytes>,
    /// Keys that sled is being given just now.
    pub storing: BTreeSet<Bytes>,
    /// What the changes since sled was last written take, about.
    pub unstored_bytes: usize,
    /// Counts the frames that held state, those that a start replays included.
    pub frames: u64,
}

impl DurableState {
    /// Takes over the changes of a frame that has become durable.
    pub fn take(&mut self, changes: Vec<StateChange>) {
        for change in changes {
            self.unstored_bytes += change.weight_bytes();
            self.unstored.insert(change.key.clone());
            self.table.apply(change);
        }
        self.frames += 1;
    }
}

/// Appends a state section to a frame.
pub fn put_section(into: &mut Vec<u8>, digest: StateDigest, changes: &[StateChange]) {
    into.extend(digest.entries.to_le_bytes());
    into.extend(digest.hash.to_le_bytes());
    for StateChange { key, value } in changes {
        put_bytes(into, key);
        into.push(u8::from(value.is_some()));
        if let Some(value) = value {
            put_bytes(into, value);
        }
    }
}

/// Reads a state section.
///
/// # Errors
/// It is not whole.
pub fn read_section(bytes: &Bytes) -> Result<(StateDigest, Vec<StateChange>), Malformed> {
    let mut reader = Reader::new(bytes);
    let digest = StateDigest { entries: reader.u64()?, hash: reader.u64()? };
    let mut changes = Vec::new();
    while reader.remaining() > 0 {
        let key = take_bytes(bytes, &mut reader)?;
        let value = match reader.u8()? {
            0 => None,
            1 => Some(take_bytes(bytes, &mut reader)?),
            _ => return Err(reader.malformed()),
        };
        changes.push(StateChange { key, value });
    }
    Ok((digest, changes))
}

/// Builds the table of a start: what sled holds, and over it the changes of the journal's frames in order. Where the last frame says
/// another digest than comes out (or, without any, `stored` says so), an entry was lost or altered.
///
/// # Errors
/// A section cannot be read, or the table is not the one that was acknowledged.
pub fn recover(
    in_sled: impl IntoIterator<Item = (Bytes, Bytes)>,
    sections: impl IntoIterator<Item = Bytes>,
    stored: StateDigest,
) -> Result<DurableState, StorageError> {
    let mut state = DurableState::default();
    for (key, value) in in_sled {
        state.table.apply(StateChange { key, value: Some(value) });
    }
    let mut promised = stored;
    for section in sections {
        let (digest, changes) = read_section(&section).map_err(|fault| {
            StorageError::Damaged(format!("a commit of state in the journal cannot be read: {fault}"))
        })?;
        promised = digest;
        state.take(changes);
    }
    if state.table.digest() == promised {
        return Ok(state);
    }
    Err(StorageError::Damaged(format!(
        "subscriptions and their acknowledged positions are not as they were acknowledged: {} entries were stored, and {} are there or \
         some are altered; {RESTORE_ADVICE}",
        promised.entries,
        state.table.digest().entries
    )))
}

fn put_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(into, bytes.len() as u64);
    into.extend(bytes);
}

fn take_bytes(whole: &Bytes, reader: &mut Reader<'_>) -> Result<Bytes, Malformed> {
    let length = usize::try_from(reader.varint()?).map_err(|_| reader.malformed())?;
    reader.take(length).map(|taken| whole.slice_ref(taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: u8, value: Option<u8>) -> StateChange {
        StateChange { key: vec![key].into(), value: value.map(|value| vec![value; 3].into()) }
    }

    fn table(changes: &[StateChange]) -> StateTable {
        let mut table = StateTable::default();
        for change in changes {
            table.apply(change.clone());
        }
        table
    }

    proptest::proptest! {
        #[test]
        fn the_digest_is_of_the_content_and_known_beforehand(
            before in proptest::collection::vec((0_u8..6, proptest::option::of(0_u8..3)), 0..12),
            after in proptest::collection::vec((0_u8..6, proptest::option::of(0_u8..3)), 0..12),
        ) {
            let changes = |list: &[(u8, Option<u8>)]| list.iter().map(|(key, value)| change(*key, *value)).collect::<Vec<_>>();
            let (before, after) = (changes(&before), changes(&after));
            let foreseen = table(&before).digest_after(&after);
            let whole = table(&[before.clone(), after.clone()].concat());
            proptest::prop_assert_eq!(foreseen, whole.digest());
            let anew: Vec<_> = whole.with_prefix(b"").map(|(key, value)| StateChange { key: key.clone(), value: Some(value.clone()) }).collect();
            proptest::prop_assert_eq!(table(&anew).digest(), whole.digest());
            proptest::prop_assert_eq!(table(&anew).bytes(), whole.bytes());
            let mut section = Vec::new();
            put_section(&mut section, foreseen, &after);
            proptest::prop_assert_eq!(read_section(&section.into()), Ok((foreseen, after)));
        }

        #[test]
        fn no_section_makes_a_reader_panic(bytes: Vec<u8>) {
            let _ = read_section(&bytes.into());
        }
    }

    #[test]
    fn a_start_replays_over_whatever_sled_holds_and_notices_what_is_lost() {
        let first = vec![change(1, Some(1)), change(2, Some(1))];
        let second = vec![change(1, Some(2)), change(2, None), change(3, Some(3))];
        let both = [first.clone(), second.clone()].concat();
        let mut sections = [Vec::new(), Vec::new()];
        put_section(&mut sections[0], table(&first).digest(), &first);
        put_section(&mut sections[1], table(&both).digest(), &second);
        let sections = sections.map(Bytes::from);
        let entry = |key: u8, value: u8| (Bytes::from(vec![key]), Bytes::from(vec![value; 3]));
        for in_sled in [vec![], vec![entry(1, 1)], vec![entry(1, 2), entry(2, 1)], vec![entry(1, 2), entry(3, 3)]] {
            let state = recover(in_sled, sections.clone(), StateDigest::default()).unwrap();
            assert_eq!(state.table.digest(), table(&both).digest());
            assert_eq!((state.frames, state.unstored.len()), (2, 3));
        }
        let kept = table(&[change(9, Some(9))]).digest();
        assert!(recover(vec![entry(9, 9)], [], kept).is_ok());
        for in_sled in [vec![], vec![entry(9, 8)], vec![entry(9, 9), entry(8, 8)]] {
            let refused = recover(in_sled, [], kept).unwrap_err().to_string();
            assert!(refused.contains("not as they were acknowledged"), "{refused}");
        }
    }
}
