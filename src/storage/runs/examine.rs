//! What of an index can be believed: the runs before its first damaged one. It never mends: whoever asks writes sled anew with what is
//! sound, and the log fills in the rest.

use super::{
    load_manifest,
    manifest::{Manifest, RunRow},
    run::Run,
};
use crate::{
    domain::Sequence,
    storage::{
        StorageError,
        durable::SyncReason,
        keys,
        store::{Store, Writer},
    },
};

/// The sound part of an index.
#[derive(Debug)]
pub struct Examined {
    family: u32,
    next_run: u64,
    pub(super) sound: Vec<Run>,
    /// What is wrong with the first run that is not sound, or with the manifest.
    pub damage: Option<String>,
}

/// Reads an index's manifest, the description of every run, and its newest parts: all, or so many.
///
/// # Errors
/// sled refuses for another reason than damage.
pub fn examine(store: &Store, family: u32, parts_max: u64) -> Result<Examined, StorageError> {
    let mut examined = Examined { family, next_run: 0, sound: Vec::new(), damage: None };
    let looked = look(store, parts_max, &mut examined);
    match looked {
        Ok(()) => {}
        Err(error) if error.is_damage() => examined.damage = Some(error.with_cause()),
        Err(other) => return Err(other),
    }
    Ok(examined)
}

fn look(store: &Store, parts_max: u64, examined: &mut Examined) -> Result<(), StorageError> {
    let family = examined.family;
    let manifest = load_manifest(store, family)?;
    examined.next_run = manifest.next_run;
    let mut opened = Vec::with_capacity(manifest.runs.len());
    let mut damage = None;
    for row in &manifest.runs {
        match Run::open(store, family, row.number, row.level, row.meta_pieces) {
            Ok(run) => opened.push(run),
            Err(error) => {
                damage = Some(error);
                break;
            }
        }
    }
    let parts: u64 = opened.iter().map(|run| u64::from(run.parts())).sum();
    let mut passed_over = parts.saturating_sub(parts_max);
    for run in opened {
        check_run(store, family, &run, &mut passed_over)?;
        examined.sound.push(run);
    }
    damage.map_or(Ok(()), Err)
}

fn check_run(store: &Store, family: u32, run: &Run, passed_over: &mut u64) -> Result<(), StorageError> {
    let from = (*passed_over).min(u64::from(run.parts())) as u32;
    *passed_over -= u64::from(from);
    let mut entries = 0;
    for index in from..run.parts() {
        entries += u64::from(run.check_part(store, family, index)?);
    }
    if from == 0 && entries != run.entries {
        let (number, expected) = (run.number, run.entries);
        return Err(StorageError::Damaged(format!(
            "run {number} of index {family} has {entries} entries where it had {expected}"
        )));
    }
    Ok(())
}

impl Examined {
    /// Writes the sound runs, and a manifest that names no other, to another database. Whoever calls syncs the rest.
    ///
    /// # Errors
    /// A part cannot be read, or sled refused.
    pub fn copy(&self, from: &Store, into: &mut Writer) -> Result<(), StorageError> {
        self.sound.iter().try_for_each(|run| run.copy(from, self.family, into))?;
        let row = |run: &Run| RunRow { number: run.number, level: run.level, meta_pieces: run.meta_pieces };
        let manifest = Manifest {
            through: self.sound.last().map_or(Sequence::ZERO, |run| run.through),
            next_run: self.next_run,
            runs: self.sound.iter().map(row).collect(),
            dead: Vec::new(),
        };
        into.sync(SyncReason::Runs)?;
        into.put(&keys::manifest(self.family), &manifest.encode())
    }
}
