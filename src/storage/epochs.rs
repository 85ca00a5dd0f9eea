//! The lives of a log, in a small file that is replaced whole. It never changes while the log is open: only `restore` and the first open
//! write it.
//!
//! ```text
//! 0  magic "TLEPOCHS" | 8 version u32 = 1 | 12 crc u32 of all that follows | 16 count u32
//! then, the present one first: epoch [16] | has parent u8 | parent [16] | fork u64 | open time i64
//! then: length u16 | name of the node that the log belongs to
//! ```

use std::{fs, path::Path};

use uuid::Uuid;

use super::{
    StorageError,
    bytes::{Malformed, Reader},
    durable,
};
use crate::domain::{Epoch, Sequence, SpiffeId};

/// The file's name.
pub const FILE_NAME: &str = "epochs";
const MAGIC: &[u8; 8] = b"TLEPOCHS";
const VERSION: u32 = 1;
/// At most so many lives: each is a restore from a backup by an operator's hand.
const EPOCHS_MAX: usize = 4096;

/// One life of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochRow {
    /// Its id.
    pub epoch: Epoch,
    /// What it continues.
    pub parent: Option<Epoch>,
    /// The last place taken over from the parent.
    pub fork: Sequence,
    /// When it was opened, nanoseconds since 1970.
    pub open_time_ns: i64,
}

/// Whose log it is, and its lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epochs {
    /// The node.
    pub node: SpiffeId,
    /// The present life first; at least one.
    pub rows: Vec<EpochRow>,
}

impl Epochs {
    /// Reads the file; none where there is no such file.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn read(data_dir: &Path) -> Result<Option<Self>, StorageError> {
        let path = data_dir.join(FILE_NAME);
        match fs::read(&path) {
            Ok(bytes) => Self::decode(&bytes)
                .map(Some)
                .map_err(|error| StorageError::Damaged(format!("{} is damaged: {error}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io(format!("cannot read {}", path.display()))(error)),
        }
    }

    /// Replaces the file, durably.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, data_dir: &Path) -> Result<(), StorageError> {
        durable::replace_file(data_dir, FILE_NAME, &self.encode())
            .map_err(StorageError::io(format!("cannot write {FILE_NAME} in {}", data_dir.display())))
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = (self.rows.len() as u32).to_le_bytes().to_vec();
        for row in &self.rows {
            body.extend(row.epoch.0.as_bytes());
            body.push(u8::from(row.parent.is_some()));
            body.extend(row.parent.map_or([0; 16], |parent| *parent.0.as_bytes()));
            body.extend(row.fork.get().to_le_bytes());
            body.extend(row.open_time_ns.to_le_bytes());
        }
        body.extend((self.node.as_str().len() as u16).to_le_bytes());
        body.extend(self.node.as_str().as_bytes());
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(crc32fast::hash(&body).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// It is cut short, altered or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let known = reader.array::<8>()? == *MAGIC && reader.u32()? == VERSION;
        if !known || reader.u32()? != crc32fast::hash(bytes.get(16..).unwrap_or_default()) {
            return Err(reader.malformed());
        }
        let count = reader.u32()? as usize;
        if count == 0 || count > EPOCHS_MAX {
            return Err(reader.malformed());
        }
        let mut rows = Vec::with_capacity(count);
        for _ in 0..count {
            let epoch = Epoch(Uuid::from_bytes(reader.array()?));
            let has_parent = reader.u8()? == 1;
            let parent = Epoch(Uuid::from_bytes(reader.array()?));
            rows.push(EpochRow {
                epoch,
                parent: has_parent.then_some(parent),
                fork: Sequence(reader.u64()?),
                open_time_ns: reader.i64()?,
            });
        }
        let length = reader.u16()? as usize;
        let name = std::str::from_utf8(reader.take(length)?).map_err(|_| reader.malformed())?;
        let node = SpiffeId::parse(name).map_err(|_| reader.malformed())?;
        Ok(Self { node, rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_come_back_and_an_altered_byte_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Epochs::read(directory.path()).unwrap(), None);
        let first = Epoch(Uuid::from_u128(1));
        let epochs = Epochs {
            node: SpiffeId::parse("spiffe://exchange.gov.pk/node/khi-1").unwrap(),
            rows: vec![
                EpochRow { epoch: Epoch(Uuid::from_u128(2)), parent: Some(first), fork: Sequence(9), open_time_ns: 5 },
                EpochRow { epoch: first, parent: None, fork: Sequence::ZERO, open_time_ns: 4 },
            ],
        };
        epochs.write(directory.path()).unwrap();
        assert_eq!(Epochs::read(directory.path()).unwrap(), Some(epochs.clone()));
        let stored = epochs.encode();
        for at in 0..stored.len() {
            let mut altered = stored.clone();
            altered[at] ^= 1;
            assert!(Epochs::decode(&altered).is_err(), "byte {at}");
            assert!(Epochs::decode(&stored[..at]).is_err(), "cut at {at}");
        }
    }
}
