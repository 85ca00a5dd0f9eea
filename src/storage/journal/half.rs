//! One half of the journal: a preallocated file with a header page. It never grows after its creation.
//!
//! ```text
//!  0 magic "TLJOURNL"   8 version u32 = 1    12 crc u32 of bytes 16..96
//! 16 generation u64    24 base sequence u64: the first place that a frame of this generation here may hold
//! 32 chain hash before the base [32]         64 epoch [16]
//! 80 salt of its frames u64                  88 salt of the next half's frames u64
//! 96 zero to 4096, then frames
//! ```

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use uuid::Uuid;

use crate::{
    domain::{Epoch, Sequence},
    storage::{
        ChainHash,
        bytes::{Malformed, Reader},
        durable::{self, SyncReason},
    },
};

/// Where frames begin.
pub const HALF_HEADER_BYTES: u64 = 4096;
const MAGIC: &[u8; 8] = b"TLJOURNL";
const VERSION: u32 = 1;
const USED_BYTES: usize = 96;

/// What a half's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HalfStart {
    /// Counts halves begun; the active half has the highest. Zero: never begun.
    pub generation: u64,
    /// The first place that it may hold.
    pub base: Sequence,
    /// The chain hash before that place.
    pub chain: ChainHash,
    /// The life of the log that it belongs to.
    pub epoch: Epoch,
    /// A random number that its frames bear, so that no publisher can forge a frame inside an event.
    pub salt: u64,
    /// The salt of the half begun next, so that its frames can be told even where its header was lost.
    pub next_salt: u64,
}

/// An open half.
#[derive(Debug)]
pub struct Half {
    file: File,
    bytes: u64,
    generation: u64,
    salts: (u64, u64),
    through: Sequence,
    /// The number of the last frame with state that it holds; zero: none.
    state_through: u64,
}

impl Half {
    pub(super) fn create(path: &Path, bytes: u64, start: &HalfStart) -> io::Result<()> {
        let mut file = File::create(path)?;
        // Written, not only allocated: an extent that was never written costs a journal commit of the filesystem at its first sync.
        let page = vec![0; 1024 * 1024];
        let mut left_bytes = bytes;
        while left_bytes > 0 {
            let now_bytes = left_bytes.min(page.len() as u64);
            file.write_all(&page[..now_bytes as usize])?;
            left_bytes -= now_bytes;
        }
        file.write_all_at(&encode(start), 0)?;
        file.sync_all()
    }

    /// Opens a half and reads its header; none where the header is not whole.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<HalfStart>)> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let bytes = file.metadata()?.len();
        let mut header = [0; USED_BYTES];
        let start = match file.read_exact_at(&mut header, 0) {
            Ok(()) => decode(&header).ok(),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        let generation = start.map_or(0, |start| start.generation);
        let salts = start.map_or((0, 0), |start| (start.salt, start.next_salt));
        Ok((Self { file, bytes, generation, salts, through: Sequence::ZERO, state_through: 0 }, start))
    }

    /// All its bytes.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes as usize];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    pub(super) fn begin(&mut self, start: &HalfStart) -> io::Result<()> {
        self.file.write_all_at(&encode(start), 0)?;
        durable::sync_data(&self.file, SyncReason::Watermark)?;
        self.generation = start.generation;
        self.salts = (start.salt, start.next_salt);
        self.through = Sequence(start.base.get() - 1);
        self.state_through = 0;
        Ok(())
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        assert!(
            offset >= HALF_HEADER_BYTES && offset + bytes.len() as u64 <= self.bytes,
            "a write stays inside its half"
        );
        self.file.write_all_at(bytes, offset)
    }

    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// The salt of its frames, and of the next half's.
    pub(super) const fn salts(&self) -> (u64, u64) {
        self.salts
    }

    /// The last place that it holds.
    pub(super) const fn through(&self) -> Sequence {
        self.through
    }

    /// The last frame with state that it holds, by its number; zero: none.
    pub(super) const fn state_through(&self) -> u64 {
        self.state_through
    }

    pub(super) fn holds_state_through(&mut self, frame: u64) {
        assert!(frame >= self.state_through, "a half fills forwards");
        self.state_through = frame;
    }

    pub(super) fn holds_through(&mut self, through: Sequence) {
        assert!(through >= self.through, "a half fills forwards");
        self.through = through;
    }
}

fn encode(start: &HalfStart) -> Vec<u8> {
    let mut body = start.generation.to_le_bytes().to_vec();
    body.extend(start.base.get().to_le_bytes());
    body.extend(start.chain);
    body.extend(start.epoch.0.as_bytes());
    body.extend(start.salt.to_le_bytes());
    body.extend(start.next_salt.to_le_bytes());
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(crc32fast::hash(&body).to_le_bytes());
    bytes.extend(body);
    bytes
}

fn decode(bytes: &[u8; USED_BYTES]) -> Result<HalfStart, Malformed> {
    let mut reader = Reader::new(bytes);
    let known = reader.array::<8>()? == *MAGIC && reader.u32()? == VERSION;
    if !known || reader.u32()? != crc32fast::hash(&bytes[16..]) {
        return Err(reader.malformed());
    }
    Ok(HalfStart {
        generation: reader.u64()?,
        base: Sequence(reader.u64()?),
        chain: reader.array()?,
        epoch: Epoch(Uuid::from_bytes(reader.array()?)),
        salt: reader.u64()?,
        next_salt: reader.u64()?,
    })
}
