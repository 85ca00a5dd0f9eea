//! Where the blocks begin: kept in memory to find a block by one binary search, and in sled as pages, so that a start reads a few pages
//! and not every block. A page is written in the same slice as its blocks.
//!
//! ```text
//! page: crc u32 of what follows | count u32 | rows: first sequence u64, count u32, last accepted time i64
//! ```

use crate::{
    domain::Sequence,
    storage::{
        RESTORE_ADVICE, StorageError,
        bytes::{Malformed, Reader},
        durable::SyncReason,
        keys,
        store::{Store, Writer},
    },
};

/// Rows of a page. The last page is written with every slice, so that it must be small beside one.
pub const PAGE_ROWS: usize = 128;

/// One block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its number, by which it is stored: blocks are counted from the first.
    pub number: u32,
    /// Its first place.
    pub first: Sequence,
    /// How many events.
    pub count: u32,
    /// The accepted time of its last event, nanoseconds since 1970.
    pub last_accepted_ns: i64,
}

impl Row {
    /// Its last place.
    #[must_use]
    pub const fn last(&self) -> Sequence {
        Sequence(self.first.0 + self.count as u64 - 1)
    }
}

/// All blocks, oldest first, without gaps.
#[derive(Debug, Default)]
pub struct Directory {
    rows: Vec<Row>,
}

impl Directory {
    /// Reads the pages that lead up to the watermark. What was written beyond it was never promised, and is written again.
    ///
    /// # Errors
    /// A page is missing or altered, or the blocks leave a gap before the watermark.
    pub fn load(store: &Store, first_retained: Sequence, stored_through: Sequence) -> Result<Self, StorageError> {
        let mut directory = Self::default();
        let mut next = first_retained;
        let mut page = 0;
        while next <= stored_through {
            let bytes = match store.get(&keys::directory_page(page)) {
                Err(error) if error.is_damage() => {
                    return Err(lost(page, next, stored_through, &format!("unreadable ({})", error.with_cause())));
                }
                read => read?.ok_or_else(|| lost(page, next, stored_through, "missing"))?,
            };
            let rows = decode(&bytes).map_err(|_| lost(page, next, stored_through, "altered"))?;
            for (first, count, last_accepted_ns) in rows {
                let row = Row { number: directory.rows.len() as u32, first, count, last_accepted_ns };
                if next > stored_through {
                    break;
                }
                if row.first != next || row.last() > stored_through {
                    return Err(lost(page, next, stored_through, "not the page that was promised"));
                }
                next = row.last().next();
                directory.rows.push(row);
            }
            page += 1;
        }
        Ok(directory)
    }

    /// Writes the pages from the row `page_start`, a page's first, onwards, in slices; whoever calls syncs the last.
    ///
    /// # Errors
    /// sled refused: the process must end.
    pub fn write_pages(page_start: usize, rows: &[Row], writer: &mut Writer) -> Result<(), StorageError> {
        assert!(page_start.is_multiple_of(PAGE_ROWS), "a page begins at its first row");
        for (index, page) in rows.chunks(PAGE_ROWS).enumerate() {
            writer.put(&keys::directory_page((page_start / PAGE_ROWS + index) as u32), &encode(page))?;
            if writer.slice_is_full() {
                writer.sync(SyncReason::Blocks)?;
            }
        }
        Ok(())
    }

    /// All blocks, oldest first.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Adds blocks that are durable now.
    pub fn extend(&mut self, rows: &[Row]) {
        for row in rows {
            assert_eq!(row.number as usize, self.rows.len(), "blocks are counted without a gap");
            assert!(
                self.rows.last().is_none_or(|last| last.last().next() == row.first),
                "blocks follow each other without a gap"
            );
            self.rows.push(*row);
        }
    }

    /// The block that holds a place.
    #[must_use]
    pub fn find(&self, sequence: Sequence) -> Option<Row> {
        let after = self.rows.partition_point(|row| row.first <= sequence);
        after.checked_sub(1).map(|index| self.rows[index]).filter(|row| sequence <= row.last())
    }

    /// The first block whose last event was accepted at or after a time.
    #[must_use]
    pub fn first_accepted_since(&self, time_ns: i64) -> Option<Row> {
        self.rows.get(self.rows.partition_point(|row| row.last_accepted_ns < time_ns)).copied()
    }
}

fn encode(rows: &[Row]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend((rows.len() as u32).to_le_bytes());
    for row in rows {
        bytes.extend(row.first.get().to_le_bytes());
        bytes.extend(row.count.to_le_bytes());
        bytes.extend(row.last_accepted_ns.to_le_bytes());
    }
    let crc = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// First place, count and last accepted time of each row.
fn decode(bytes: &[u8]) -> Result<Vec<(Sequence, u32, i64)>, Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.u32()? != crc32fast::hash(bytes.get(4..).unwrap_or_default()) {
        return Err(reader.malformed());
    }
    let count = reader.u32()?;
    (0..count).map(|_| Ok((Sequence(reader.u64()?), reader.u32()?, reader.i64()?))).collect()
}

fn lost(page: u32, next: Sequence, stored_through: Sequence, how: &str) -> StorageError {
    StorageError::Damaged(format!(
        "page {page} of the directory of blocks is {how}: events from sequence {next} through {stored_through} were stored durably and \
         cannot be found; {RESTORE_ADVICE}"
    ))
}
