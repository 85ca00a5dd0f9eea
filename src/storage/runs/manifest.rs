//! A family's manifest: which runs count, through where they are complete, and which runs are still to be removed. Written whole under one
//! key, so that runs change places at once. It never names a run whose parts are not durable.
//!
//! ```text
//! crc u32 of what follows | version u32 = 1 | through u64 | next run u64 | runs u32, oldest first: number u64, level u8, meta pieces u32
//! dead u32: number u64, parts u32, meta pieces u32
//! ```

use crate::{
    domain::Sequence,
    storage::bytes::{Malformed, Reader},
};

const VERSION: u32 = 1;

/// What a manifest says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Every place up to here stands in the runs.
    pub through: Sequence,
    /// The number of the run written next.
    pub next_run: u64,
    /// The runs that count, oldest first.
    pub runs: Vec<RunRow>,
    /// Runs that were merged into others, whose parts are still to be removed.
    pub dead: Vec<DeadRow>,
}

/// A run that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunRow {
    /// Its number.
    pub number: u64,
    /// How often it was merged.
    pub level: u8,
    /// Pieces of its meta.
    pub meta_pieces: u32,
}

/// A run to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadRow {
    /// Its number.
    pub number: u64,
    /// Its parts.
    pub parts: u32,
    /// Pieces of its meta.
    pub meta_pieces: u32,
}

impl Manifest {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.through.get().to_le_bytes());
        bytes.extend(self.next_run.to_le_bytes());
        bytes.extend((self.runs.len() as u32).to_le_bytes());
        for run in &self.runs {
            bytes.extend(run.number.to_le_bytes());
            bytes.push(run.level);
            bytes.extend(run.meta_pieces.to_le_bytes());
        }
        bytes.extend((self.dead.len() as u32).to_le_bytes());
        for dead in &self.dead {
            bytes.extend(dead.number.to_le_bytes());
            bytes.extend(dead.parts.to_le_bytes());
            bytes.extend(dead.meta_pieces.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// It is altered or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let crc = reader.u32()?;
        if crc != crc32fast::hash(bytes.get(4..).unwrap_or_default()) || reader.u32()? != VERSION {
            return Err(reader.malformed());
        }
        let (through, next_run) = (Sequence(reader.u64()?), reader.u64()?);
        let runs = (0..reader.u32()?)
            .map(|_| Ok(RunRow { number: reader.u64()?, level: reader.u8()?, meta_pieces: reader.u32()? }))
            .collect::<Result<_, _>>()?;
        let dead = (0..reader.u32()?)
            .map(|_| Ok(DeadRow { number: reader.u64()?, parts: reader.u32()?, meta_pieces: reader.u32()? }))
            .collect::<Result<_, _>>()?;
        Ok(Self { through, next_run, runs, dead })
    }
}
