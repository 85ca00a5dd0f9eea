//! The watermark: what sled must hold, kept outside sled in two slots written in turn, so that one is whole whatever happens. It is moved
//! only after sled's file was synced, and the journal frees nothing above it.
//!
//! ```text
//! slot 0 at 0, slot 1 at 4096; each:
//!  0 magic "TLWATERM"    8 version u32 = 2     12 crc u32 of bytes 16..144
//! 16 counter u64        24 stored through u64   32 chain hash there [32]
//! 64 accepted time there i64                    72 first retained u64
//! 80 epoch [16]         96 clean u8, 7 zero    104 journal generation u64
//! 112 journal end u64  120 journal through u64 128 state entries u64   136 state hash u64
//! ```

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use uuid::Uuid;

use super::{
    ChainHash, RESTORE_ADVICE, StorageError,
    bytes::{Malformed, Reader},
    durable::{self, SyncReason},
    state::StateDigest,
};
use crate::domain::{Epoch, Sequence};

/// The file's name.
pub const FILE_NAME: &str = "watermark";
const MAGIC: &[u8; 8] = b"TLWATERM";
/// Of everything in the data directory: another layout of sled's keys is another version of this.
const VERSION: u32 = 2;
const SLOT_BYTES: usize = 4096;
const USED_BYTES: usize = 144;

/// What a whole slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// Every event up to here is in sled, durably.
    pub stored_through: Sequence,
    /// The chain hash at that place.
    pub chain: ChainHash,
    /// The accepted time of that place, nanoseconds since 1970.
    pub accepted_time_ns: i64,
    /// The first place that is retained.
    pub first_retained: Sequence,
    /// The life of the log that the journal belongs to.
    pub epoch: Epoch,
    /// The promised state that sled holds, as of when it was last stored whole. The journal's last frame of state, where there is one, is
    /// later.
    pub state: StateDigest,
    /// Set by a clean stop, and taken away before the next write: where the journal ends exactly.
    pub clean: Option<JournalEnd>,
}

/// Where a journal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalEnd {
    /// The generation of the half written last.
    pub generation: u64,
    /// The first byte after its last frame.
    pub offset: u64,
    /// The last place that the journal holds.
    pub through: Sequence,
}

/// The open file.
#[derive(Debug)]
pub struct WatermarkFile {
    file: File,
    counter: u64,
}

impl WatermarkFile {
    /// Writes a first watermark; the file appears whole or not at all, which makes it the moment from which the directory is a log.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(data_dir: &Path, watermark: &Watermark) -> Result<(), StorageError> {
        let mut bytes = encode(watermark, 1);
        bytes.resize(2 * SLOT_BYTES, 0);
        durable::replace_file(data_dir, FILE_NAME, &bytes)
            .map_err(StorageError::io(format!("cannot write {FILE_NAME} in {}", data_dir.display())))
    }

    /// Opens the file and reads the newer whole slot; none where there is no such file.
    ///
    /// # Errors
    /// It cannot be read, or no slot is whole.
    pub fn open(data_dir: &Path) -> Result<Option<(Self, Watermark)>, StorageError> {
        let path = data_dir.join(FILE_NAME);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StorageError::io(format!("cannot open {}", path.display()))(error)),
        };
        let newest = (0..2).filter_map(|slot| read_slot(&file, slot)).max_by_key(|(_, counter)| *counter);
        if newest.is_none()
            && let Some(version) = (0..2).find_map(|slot| other_version(&file, slot))
        {
            return Err(StorageError::Damaged(format!(
                "{} was written by another version of this program, in layout {version}, and this one reads layout {VERSION}: back the \
                 node up with that version and restore the backup with this one",
                data_dir.display()
            )));
        }
        let (watermark, counter) = newest.ok_or_else(|| {
            StorageError::Damaged(format!(
                "both slots of {} are damaged, so that nothing says what must be stored; {RESTORE_ADVICE}",
                path.display()
            ))
        })?;
        Ok(Some((Self { file, counter }, watermark)))
    }

    /// Moves the watermark, durably. Only ever called after what it promises was synced.
    ///
    /// # Errors
    /// The disk refused: the process must end.
    pub fn write(&mut self, watermark: &Watermark) -> io::Result<()> {
        let counter = self.counter + 1;
        let slot = counter % 2;
        self.file.write_all_at(&encode(watermark, counter), slot * SLOT_BYTES as u64)?;
        durable::sync_data(&self.file, SyncReason::Watermark)?;
        self.counter = counter;
        Ok(())
    }
}

fn read_slot(file: &File, slot: u64) -> Option<(Watermark, u64)> {
    let mut bytes = [0; USED_BYTES];
    file.read_exact_at(&mut bytes, slot * SLOT_BYTES as u64).ok()?;
    decode(&bytes).ok()
}

/// The version of a slot that another version of this program has written.
fn other_version(file: &File, slot: u64) -> Option<u32> {
    let mut head = [0; 12];
    file.read_exact_at(&mut head, slot * SLOT_BYTES as u64).ok()?;
    let mut reader = Reader::new(&head);
    let version = (reader.array::<8>().ok()? == *MAGIC).then(|| reader.u32().ok())??;
    (version != VERSION).then_some(version)
}

fn encode(watermark: &Watermark, counter: u64) -> Vec<u8> {
    let mut body = Vec::with_capacity(USED_BYTES);
    body.extend(counter.to_le_bytes());
    body.extend(watermark.stored_through.get().to_le_bytes());
    body.extend(watermark.chain);
    body.extend(watermark.accepted_time_ns.to_le_bytes());
    body.extend(watermark.first_retained.get().to_le_bytes());
    body.extend(watermark.epoch.0.as_bytes());
    body.extend(u64::from(watermark.clean.is_some()).to_le_bytes());
    let end = watermark.clean.unwrap_or(JournalEnd { generation: 0, offset: 0, through: Sequence::ZERO });
    body.extend(end.generation.to_le_bytes());
    body.extend(end.offset.to_le_bytes());
    body.extend(end.through.get().to_le_bytes());
    body.extend(watermark.state.entries.to_le_bytes());
    body.extend(watermark.state.hash.to_le_bytes());
    debug_assert_eq!(body.len(), USED_BYTES - 16);
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(crc32fast::hash(&body).to_le_bytes());
    bytes.extend(body);
    bytes
}

fn decode(bytes: &[u8; USED_BYTES]) -> Result<(Watermark, u64), Malformed> {
    let mut reader = Reader::new(bytes);
    let known = reader.array::<8>()? == *MAGIC && reader.u32()? == VERSION;
    if !known || reader.u32()? != crc32fast::hash(&bytes[16..]) {
        return Err(reader.malformed());
    }
    let counter = reader.u64()?;
    let mut watermark = Watermark {
        stored_through: Sequence(reader.u64()?),
        chain: reader.array()?,
        accepted_time_ns: reader.i64()?,
        first_retained: Sequence(reader.u64()?),
        epoch: Epoch(Uuid::from_bytes(reader.array()?)),
        state: StateDigest::default(),
        clean: None,
    };
    let clean = reader.u64()? == 1;
    let end = JournalEnd { generation: reader.u64()?, offset: reader.u64()?, through: Sequence(reader.u64()?) };
    watermark.clean = clean.then_some(end);
    watermark.state = StateDigest { entries: reader.u64()?, hash: reader.u64()? };
    Ok((watermark, counter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(stored_through: u64) -> Watermark {
        Watermark {
            stored_through: Sequence(stored_through),
            chain: [7; 32],
            accepted_time_ns: 11,
            first_retained: Sequence(1),
            epoch: Epoch(Uuid::from_u128(5)),
            state: StateDigest { entries: stored_through, hash: 0xfeed },
            clean: (stored_through == 3).then_some(JournalEnd { generation: 4, offset: 4096, through: Sequence(9) }),
        }
    }

    #[test]
    fn a_directory_of_another_layout_is_refused_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        WatermarkFile::create(directory.path(), &at(1)).unwrap();
        let raw = OpenOptions::new().write(true).open(directory.path().join(FILE_NAME)).unwrap();
        raw.write_all_at(&1_u32.to_le_bytes(), 8).unwrap();
        let refused = WatermarkFile::open(directory.path()).unwrap_err().to_string();
        assert!(refused.contains("layout 1") && refused.contains("restore the backup"), "{refused}");
    }

    #[test]
    fn the_newest_whole_slot_counts() {
        let directory = tempfile::tempdir().unwrap();
        assert!(WatermarkFile::open(directory.path()).unwrap().is_none());
        WatermarkFile::create(directory.path(), &at(0)).unwrap();
        for stored_through in 1..=3 {
            let (mut file, _) = WatermarkFile::open(directory.path()).unwrap().unwrap();
            file.write(&at(stored_through)).unwrap();
            assert_eq!(WatermarkFile::open(directory.path()).unwrap().unwrap().1, at(stored_through));
        }
        // The counter is 4 now, so that slot 0 is the newest: torn, the one before it counts.
        let raw = OpenOptions::new().write(true).open(directory.path().join(FILE_NAME)).unwrap();
        raw.write_all_at(&[0xff; 8], 40).unwrap();
        assert_eq!(WatermarkFile::open(directory.path()).unwrap().unwrap().1, at(2));
        raw.write_all_at(&[0xff; 8], SLOT_BYTES as u64 + 40).unwrap();
        let refused = WatermarkFile::open(directory.path()).unwrap_err();
        assert!(refused.to_string().contains("both slots"), "{refused}");
    }
}
