//! The background work of a family, in steps of at most one slice: writing a memtable as a run, merging runs, removing merged ones. Each
//! step ends synced, and a manifest is written only after everything that it names is. It never runs on the commit path.

use std::sync::Arc;

use super::{
    memtable::Memtable,
    part::Entry,
    run::{Run, RunWriter},
};
use crate::{
    domain::Sequence,
    storage::{
        StorageError,
        durable::SyncReason,
        store::{Store, Writer},
    },
};

/// A run in the making.
#[derive(Debug)]
pub struct Job {
    /// The runs that the new one takes the place of; none for a memtable.
    pub inputs: Vec<Arc<Run>>,
    sources: Vec<Source>,
    output: RunWriter,
}

/// Entries in ascending order, a part at a time.
#[derive(Debug)]
struct Source {
    origin: Origin,
    next_part: u32,
    entries: std::vec::IntoIter<Entry>,
}

/// Where entries come from.
#[derive(Debug)]
enum Origin {
    Table(Arc<Memtable>),
    Run(Arc<Run>),
}

impl Job {
    /// Writes a memtable as a run.
    #[must_use]
    pub fn flush(family: u32, number: u64, table: Arc<Memtable>) -> Self {
        let output = RunWriter::new(family, number, 0, table.through);
        Self { inputs: Vec::new(), sources: vec![Source::new(Origin::Table(table))], output }
    }

    /// Merges runs, oldest first, into one.
    #[must_use]
    pub fn merge(family: u32, number: u64, level: u8, inputs: Vec<Arc<Run>>) -> Self {
        let through = inputs.last().map_or(Sequence::ZERO, |run| run.through);
        let output = RunWriter::new(family, number, level, through);
        let sources = inputs.iter().map(|run| Source::new(Origin::Run(Arc::clone(run)))).collect();
        Self { inputs, sources, output }
    }

    /// Writes up to a slice and syncs it. The run, once it is whole and durable.
    ///
    /// # Errors
    /// A part of an input is damaged, or sled refused.
    pub fn step(mut self, family: u32, store: &Store, writer: &mut Writer) -> Result<Step, StorageError> {
        loop {
            if writer.slice_is_full() {
                writer.sync(SyncReason::Runs)?;
                return Ok(Step::More(self));
            }
            // The sources are few: looking at each is cheaper than keeping a heap.
            let mut least: Option<(usize, Entry)> = None;
            for (index, source) in self.sources.iter_mut().enumerate() {
                if let Some(entry) = source.peek(family, store)?
                    && least.is_none_or(|(_, before)| entry.0 < before.0)
                {
                    least = Some((index, entry));
                }
            }
            let Some((index, (term, _))) = least else { break };
            // All that this source has of the term: its places come before those of the younger sources.
            while let Some(entry) = self.sources[index].peek(family, store)?
                && entry.0 == term
                && !writer.slice_is_full()
            {
                self.sources[index].entries.next();
                self.output.add(entry, writer)?;
            }
        }
        let run = self.output.finish(writer)?;
        writer.sync(SyncReason::Runs)?;
        Ok(Step::Done(run, self.inputs))
    }
}

/// What a step has brought.
#[derive(Debug)]
pub enum Step {
    /// A slice was written, and there is more to write.
    More(Job),
    /// The run is durable; these are the runs that it takes the place of.
    Done(Run, Vec<Arc<Run>>),
}

impl Source {
    fn new(origin: Origin) -> Self {
        Self { origin, next_part: 0, entries: Vec::new().into_iter() }
    }

    fn peek(&mut self, family: u32, store: &Store) -> Result<Option<Entry>, StorageError> {
        loop {
            if let Some(entry) = self.entries.as_slice().first() {
                return Ok(Some(*entry));
            }
            let part = match &self.origin {
                Origin::Table(table) => table.sorted_bucket(self.next_part),
                Origin::Run(run) if self.next_part < run.parts() => Some(run.part(store, family, self.next_part)?),
                Origin::Run(_) => None,
            };
            let Some(part) = part else { return Ok(None) };
            self.entries = part.into_iter();
            self.next_part += 1;
        }
    }
}
