//! Indexes as immutable sorted runs of (term, sequence) with a memory table before them. A run is written when the memory table is full,
//! and runs are merged in levels, eight into one, off the commit path. What is found is a hint: hashes can collide, so whoever asks looks
//! at the record. A read error is never "absent": the process ends, and the next start examines the runs and builds anew from the first
//! damaged one.
//!
//! Runs follow each other along the log: every place of an older run lies before every place of a newer one, and the memory table comes
//! last, so that a look-up strings their answers together and never sorts.

mod examine;
mod known;
mod manifest;
mod memtable;
mod part;
mod run;
#[cfg(test)]
mod tests;
mod verify;
mod work;

use std::sync::{
    Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, Ordering},
};

pub use examine::{Examined, examine};
use known::KnownPlaces;
use manifest::{DeadRow, Manifest, RunRow};
use memtable::Memtable;
pub use part::Entry;
use run::Run;
use work::{Job, Step};

use super::{
    StorageError,
    durable::SyncReason,
    fatal::FatalHook,
    keys,
    store::{Store, Writer},
};
use crate::{
    domain::{Sequence, term::TermHash},
    telemetry,
};

/// A memory table is commonly written as a run once it has so many entries: some 20 MiB of memory at most.
pub const MEMTABLE_ENTRIES_MAX: usize = 256 * 1024;
/// So many runs of one level are merged into one of the next: more are written less often, and are more to look into.
const MERGE_WIDTH: usize = 8;

/// One index.
#[derive(Debug)]
pub struct RunFamily {
    family: u32,
    store: Store,
    memtable_entries_max: usize,
    /// Told where a look-up meets damage: the process must end, and the next start must examine the indexes.
    damaged: FatalHook,
    /// True while a merge waits for room on the disk.
    is_held_back: AtomicBool,
    state: RwLock<State>,
    known: KnownPlaces,
    job: Mutex<Option<Job>>,
}

#[derive(Debug, Default)]
struct State {
    /// Shared with every look-up as it stands.
    runs: Arc<[Arc<Run>]>,
    /// Being written as a run.
    frozen: Option<Arc<Memtable>>,
    live: Memtable,
    manifest: Manifest,
}

impl RunFamily {
    /// Opens an index that was examined ([`examine`]). Parts are checked when they are read; `damaged` is told where one is not sound.
    ///
    /// # Errors
    /// The manifest or a run's description is missing or altered, or sled cannot read.
    pub fn open(
        store: &Store,
        family: u32,
        memtable_entries_max: usize,
        damaged: FatalHook,
    ) -> Result<Arc<Self>, StorageError> {
        let (state, job) = (RwLock::new(load(store, family)?), Mutex::default());
        Ok(Arc::new(Self {
            family,
            store: store.clone(),
            memtable_entries_max,
            damaged,
            is_held_back: AtomicBool::new(false),
            state,
            known: KnownPlaces::default(),
            job,
        }))
    }

    /// The last place of the log that the index knows of, memory included.
    #[must_use]
    pub fn complete_through(&self) -> Sequence {
        self.read().live.through
    }

    /// Adds the entries of a stretch of the log, in the order of their places, that ends at `through` and begins after what is complete;
    /// found at once.
    pub fn add(&self, entries: &[Entry], through: Sequence) {
        let mut state = self.write();
        let known = state.live.through;
        assert!(through >= known, "an index follows the log forwards");
        // After a restart the log is read again from what the runs know: what they know already is left out.
        if entries.iter().all(|(_, sequence)| *sequence > known) {
            state.live.add(entries, through);
        } else {
            let fresh: Vec<Entry> = entries.iter().filter(|(_, sequence)| *sequence > known).copied().collect();
            state.live.add(&fresh, through);
        }
    }

    /// True while writing runs lags behind: whoever adds should wait.
    #[must_use]
    pub fn is_backlogged(&self) -> bool {
        let state = self.read();
        state.frozen.is_some() && state.live.entries() >= self.memtable_entries_max
    }

    /// Up to `limit` places of a term within `(after, before)`, ascending or descending. Blocking.
    ///
    /// # Errors
    /// A run is damaged, or sled cannot read.
    pub fn lookup(
        &self,
        term: TermHash,
        after: Sequence,
        before: Sequence,
        descending: bool,
        limit: usize,
    ) -> Result<Vec<Sequence>, StorageError> {
        loop {
            let (runs, memory) = {
                let state = self.read();
                let tables = state.frozen.as_deref().into_iter().chain([&state.live]);
                let memory: Vec<Sequence> = tables.flat_map(|table| table.places(term)).collect();
                (Arc::clone(&state.runs), memory)
            };
            match self.lookup_in(&runs, memory, term, (after, before), descending, limit) {
                // A run that was merged away meanwhile has lost its parts by right: what took its place answers.
                Err(StorageError::Damaged(_)) if !self.still_counts(&runs) => {}
                Err(error) if error.is_damage() => {
                    self.damaged.fail(&error.with_cause());
                    return Err(error);
                }
                answer => return answer,
            }
        }
    }

    fn still_counts(&self, runs: &[Arc<Run>]) -> bool {
        let state = self.read();
        runs.iter().all(|run| state.runs.iter().any(|counts| counts.number == run.number))
    }

    fn lookup_in(
        &self,
        runs: &[Arc<Run>],
        memory: Vec<Sequence>,
        term: TermHash,
        (after, before): (Sequence, Sequence),
        descending: bool,
        limit: usize,
    ) -> Result<Vec<Sequence>, StorageError> {
        let within = |sequence: &Sequence| *sequence > after && *sequence < before;
        let mut found = Vec::new();
        if descending {
            found.extend(memory.into_iter().rev().filter(within).take(limit));
            for index in (0..runs.len()).rev() {
                for part in parts_of(runs, index, term, after, before).rev() {
                    if found.len() >= limit {
                        return Ok(found);
                    }
                    let places = runs[index].places(&self.store, self.family, part, term, (after, before))?;
                    let room = limit - found.len();
                    found.extend(places.into_iter().rev().take(room));
                }
            }
        } else {
            for index in 0..runs.len() {
                for part in parts_of(runs, index, term, after, before) {
                    if found.len() >= limit {
                        return Ok(found);
                    }
                    let places = runs[index].places(&self.store, self.family, part, term, (after, before))?;
                    let room = limit - found.len();
                    found.extend(places.into_iter().take(room));
                }
            }
            let room = limit - found.len();
            found.extend(memory.into_iter().filter(within).take(room));
        }
        Ok(found)
    }

    /// About how many places a term has.
    #[must_use]
    pub fn estimate(&self, term: TermHash) -> u64 {
        let state = self.read();
        let tables = state.frozen.as_deref().into_iter().chain([&state.live]);
        let memory: usize = tables.map(|table| table.places(term).count()).sum();
        memory as u64 + state.runs.iter().map(|run| run.estimate(term)).sum::<u64>()
    }

    /// Does a slice of the work that waits, or a run's last ones with its description; true where more waits. Only the owner of sled calls it.
    ///
    /// # Errors
    /// A run is damaged, or sled refused: the process must end.
    pub fn maintain(&self, writer: &mut Writer) -> Result<bool, StorageError> {
        let mut job = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        let next = match job.take() {
            Some(begun) => Some(begun),
            None => self.next_job()?,
        };
        let Some(next) = next else { return self.remove_dead(writer) };
        match next.step(self.family, &self.store, writer)? {
            Step::More(more) => *job = Some(more),
            Step::Done(run, inputs) => self.put_in_place(run, &inputs, writer)?,
        }
        Ok(true)
    }

    /// Writes what is in memory as a run, whatever its size, at the next [`Self::maintain`].
    pub fn freeze(&self) {
        let mut state = self.write();
        if state.frozen.is_none() && state.live.entries() > 0 {
            let through = state.live.through;
            let full = std::mem::replace(&mut state.live, Memtable::after(through));
            state.frozen = Some(Arc::new(full));
        }
    }

    /// Empties the index: complete through zero, durably.
    ///
    /// # Errors
    /// sled refused: the process must end.
    pub fn clear(&self, writer: &mut Writer) -> Result<(), StorageError> {
        let mut job = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        // A run half written is numbered as the next one, which writes over it.
        *job = None;
        let mut manifest = self.read().manifest.clone();
        manifest.dead.extend(self.read().runs.iter().map(|run| dead_row(run)));
        manifest.runs.clear();
        manifest.through = Sequence::ZERO;
        self.store_manifest(&manifest, writer)?;
        *self.write() = State { manifest, ..State::default() };
        self.known.clear();
        Ok(())
    }

    fn next_job(&self) -> Result<Option<Job>, StorageError> {
        if self.read().live.entries() >= self.memtable_entries_max {
            self.freeze();
        }
        let (number, group) = {
            let state = self.read();
            let number = state.manifest.next_run;
            if let Some(frozen) = &state.frozen {
                return Ok(Some(Job::flush(self.family, number, Arc::clone(frozen))));
            }
            // The oldest full group of a level: neighbours along the log, since levels only fall towards the newest.
            let mut groups = state.runs.chunk_by(|one, other| one.level == other.level);
            (number, groups.find(|group| group.len() >= MERGE_WIDTH).map(|group| group[..MERGE_WIDTH].to_vec()))
        };
        let Some(inputs) = group else { return Ok(None) };
        if !self.has_room_to_merge(&inputs)? {
            return Ok(None);
        }
        let level = inputs[0].level;
        tracing::debug!(index = self.family, level, "begins to merge runs of an index");
        Ok(Some(Job::merge(self.family, number, level + 1, inputs)))
    }

    /// Whether the disk has room for a merge's result beside its inputs, which go only when it is in place: else the merge waits, and what
    /// is left is for events. Said once.
    fn has_room_to_merge(&self, inputs: &[Arc<Run>]) -> Result<bool, StorageError> {
        let needed_bytes: u64 = inputs.iter().map(|run| run.bytes_about()).sum();
        let room_bytes = self.store.room_bytes()?;
        let is_held_back = room_bytes < needed_bytes;
        if self.is_held_back.swap(is_held_back, Ordering::Relaxed) != is_held_back {
            metrics::gauge!(telemetry::INDEX_MERGES_WAITING, "index" => self.family.to_string()).set(if is_held_back {
                1.0
            } else {
                0.0
            });
            if is_held_back {
                tracing::warn!(
                    index = self.family,
                    needed_bytes,
                    room_bytes,
                    "runs of an index wait to be merged, since the disk has too little room above the limit of publishing; look-ups \
                     grow slower until there is room"
                );
            } else {
                tracing::info!(index = self.family, "runs of an index are merged again: the disk has room");
            }
        }
        Ok(!is_held_back)
    }

    fn put_in_place(&self, run: Run, inputs: &[Arc<Run>], writer: &mut Writer) -> Result<(), StorageError> {
        let mut runs = self.read().runs.to_vec();
        let merged: Vec<u64> = inputs.iter().map(|input| input.number).collect();
        let at = runs.iter().position(|run| merged.contains(&run.number)).unwrap_or(runs.len());
        runs.retain(|run| !merged.contains(&run.number));
        runs.insert(at, Arc::new(run));
        let mut manifest = self.read().manifest.clone();
        manifest.next_run += 1;
        manifest.dead.extend(inputs.iter().map(|run| dead_row(run)));
        manifest.runs = runs
            .iter()
            .map(|run| RunRow { number: run.number, level: run.level, meta_pieces: run.meta_pieces })
            .collect();
        manifest.through = runs.last().map_or(Sequence::ZERO, |run| run.through);
        self.store_manifest(&manifest, writer)?;
        if inputs.is_empty() {
            tracing::debug!(index = self.family, runs = runs.len(), "wrote a run of an index");
        } else {
            tracing::debug!(index = self.family, runs = runs.len(), "merged runs of an index");
        }
        let mut state = self.write();
        state.runs = runs.into();
        state.manifest = manifest;
        if inputs.is_empty() {
            state.frozen = None;
        }
        Ok(())
    }

    /// Removes the parts of one merged run, once no reader can hold it any more.
    fn remove_dead(&self, writer: &mut Writer) -> Result<bool, StorageError> {
        let mut manifest = self.read().manifest.clone();
        let Some(dead) = manifest.dead.first().copied() else { return Ok(false) };
        for part in run::made(dead.parts, dead.meta_pieces) {
            for key in keys::run_part_with_fillers(self.family, dead.number, part) {
                writer.delete(&key)?;
            }
            if writer.slice_is_full() {
                writer.sync(SyncReason::Runs)?;
            }
        }
        manifest.dead.remove(0);
        self.store_manifest(&manifest, writer)?;
        self.write().manifest = manifest;
        Ok(true)
    }

    fn store_manifest(&self, manifest: &Manifest, writer: &mut Writer) -> Result<(), StorageError> {
        writer.put(&keys::manifest(self.family), &manifest.encode())?;
        writer.sync(SyncReason::Runs)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load_manifest(store: &Store, family: u32) -> Result<Manifest, StorageError> {
    let altered = |_| StorageError::Damaged(format!("the manifest of index {family} is altered"));
    store
        .get(&keys::manifest(family))?
        .map_or(Ok(Manifest::default()), |bytes| Manifest::decode(&bytes).map_err(altered))
}

fn load(store: &Store, family: u32) -> Result<State, StorageError> {
    let manifest = load_manifest(store, family)?;
    let open = |row: &RunRow| Run::open(store, family, row.number, row.level, row.meta_pieces).map(Arc::new);
    let runs = manifest.runs.iter().map(open).collect::<Result<_, _>>()?;
    let live = Memtable::after(manifest.through);
    Ok(State { runs, frozen: None, live, manifest })
}

fn dead_row(run: &Run) -> DeadRow {
    DeadRow { number: run.number, parts: run.parts(), meta_pieces: run.meta_pieces }
}

/// The parts of one of some runs in which places of a term within `(after, before)` may stand. Runs follow each other along the log: of a
/// stretch that ends before a run begins, or begins where it has ended, nothing stands in it.
fn parts_of(
    runs: &[Arc<Run>],
    index: usize,
    term: TermHash,
    after: Sequence,
    before: Sequence,
) -> std::ops::Range<u32> {
    let begins_after = index.checked_sub(1).map_or(Sequence::ZERO, |older| runs[older].through);
    if before <= begins_after.next() || runs[index].through <= after {
        return 0..0;
    }
    runs[index].parts_of(term, after, before)
}
