//! The background work of a family, in steps of at most one slice: writing a memtable as a run, merging runs, removing merged ones. Each
//! step ends synced, and a manifest is written only after everything that it names is. It never runs on the commit path.

use std::sync::Arc;

use super::{
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
    run: Option<Arc<Run>>,
    next_part: u32,
    entries: std::vec::IntoIter<Entry>,
}

impl Job {
    /// Writes a memtable's entries as a run.
    #[must_use]
    pub fn flush(family: u32, number: u64, through: Sequence, entries: Vec<Entry>) -> Self {
        let output = RunWriter::new(family, number, 0, through, entries.len() as u64);
        let source = Source { run: None, next_part: 0, entries: entries.into_iter() };
        Self { inputs: Vec::new(), sources: vec![source], output }
    }

    /// Merges runs, oldest first, into one.
    #[must_use]
    pub fn merge(family: u32, number: u64, level: u8, inputs: Vec<Arc<Run>>) -> Self {
        let through = inputs.last().map_or(Sequence::ZERO, |run| run.through);
        let entries = inputs.iter().map(|run| run.entries).sum();
        let output = RunWriter::new(family, number, level, through, entries);
        let sources = inputs
            .iter()
            .map(|run| Source { run: Some(Arc::clone(run)), next_part: 0, entries: Vec::new().into_iter() })
            .collect();
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
                    && least.is_none_or(|(_, before)| entry < before)
                {
                    least = Some((index, entry));
                }
            }
            let Some((index, entry)) = least else { break };
            self.sources[index].entries.next();
            self.output.add(entry, writer)?;
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
    fn peek(&mut self, family: u32, store: &Store) -> Result<Option<Entry>, StorageError> {
        loop {
            if let Some(entry) = self.entries.as_slice().first() {
                return Ok(Some(*entry));
            }
            let Some(run) = self.run.as_ref().filter(|run| self.next_part < run.parts()) else { return Ok(None) };
            self.entries = run.part(store, family, self.next_part)?.into_iter();
            self.next_part += 1;
        }
    }
}
