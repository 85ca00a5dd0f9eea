//! Keys that stand before their values come. It never knows what a value is; [`Store::get`](super::store::Store::get) finds nothing under a
//! key whose value has not come.
//!
//! Why: sled 0.34.7 cuts a leaf at its seventeenth entry and writes both halves anew, and writes a leaf whole at every eleventh change of
//! it. Values that come one after the other under ascending keys are so written three times over; and since it cleans a segment only once
//! half of it is dead, the file stays twice as large as what it holds. A leaf that was cut while its nine entries were empty takes its
//! values as so many changes, and is not written again.
//!
//! ```text
//! made:     ... [v v v v v v v v v] [v v v . . . . . .] [. . . . . . . . .] [. . . .
//!                                          ^ number                            ^ made, more than a leaf further on
//! ```

use super::{StorageError, store::Writer};

/// So many keys stand after the one whose value comes next: as many as a leaf can have, so that the one that is cut next is empty.
pub const SLOTS_AHEAD: u32 = 17;

/// How far the keys of one ascending series are made.
#[derive(Debug)]
pub struct Slots {
    made: u32,
}

impl Slots {
    /// A series of whose keys none is made from this number on. Those that are made all the same become empty.
    #[must_use]
    pub const fn from(number: u32) -> Self {
        Self { made: number }
    }

    /// Makes the keys that must stand before the value of `number` comes.
    ///
    /// # Errors
    /// sled refused: the process must end.
    pub fn reach<K: AsRef<[u8]>, Keys: IntoIterator<Item = K>>(
        &mut self,
        number: u32,
        keys_of: impl Fn(u32) -> Keys,
        writer: &mut Writer,
    ) -> Result<(), StorageError> {
        while self.made <= number.saturating_add(SLOTS_AHEAD) {
            for key in keys_of(self.made) {
                writer.make(key.as_ref())?;
            }
            self.made += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{
        durable::SyncReason,
        keys,
        store::{PAGE_CACHE_BYTES, Store},
    };

    const VALUE_BYTES: usize = 14 * 1024;

    #[test]
    fn values_that_come_in_order_lie_densely_and_leave_nothing_when_they_go() {
        let directory = tempfile::tempdir().unwrap();
        let (store, mut writer) = Store::open(directory.path(), PAGE_CACHE_BYTES).unwrap();
        let (mut blocks, count) = (Slots::from(0), 1_200);
        for number in 0..count {
            blocks.reach(number, keys::block_with_fillers, &mut writer).unwrap();
            writer.put(&keys::block(number), &vec![7; VALUE_BYTES]).unwrap();
            writer.sync(SyncReason::Blocks).unwrap();
        }
        assert!(store.get(&keys::block(count)).unwrap().is_none(), "a key without a value is no value");
        let (held, taken) = (count as usize * VALUE_BYTES, store.bytes_on_disk() as usize);
        assert!(taken < held * 3 / 2, "{taken} bytes on disk for {held}");
        // What is removed gives its room to what comes next: all runs together would be more than twice the blocks.
        for run in 0..8 {
            let keys_of = |part| keys::run_part_with_fillers(1, run, part);
            let (mut parts, count) = (Slots::from(0), 400);
            for part in 0..count {
                parts.reach(part, keys_of, &mut writer).unwrap();
                writer.put(&keys::run_part(1, run, part), &vec![7; VALUE_BYTES]).unwrap();
                writer.sync(SyncReason::Runs).unwrap();
            }
            for key in (0..count + SLOTS_AHEAD).flat_map(keys_of) {
                assert!(writer.delete(&key).unwrap(), "every key that is removed was made");
                writer.sync(SyncReason::Runs).unwrap();
            }
        }
        let taken = store.bytes_on_disk() as usize;
        assert!(taken < held * 5 / 2, "{taken} bytes on disk for {held}");
    }
}
