//! A log under test with its index and its clock, whichever engine it is. It never reaches behind the contract, but to stop and start.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::fixtures::same_but_for_stamp;
use crate::{
    clock::TestClock,
    domain::SpiffeId,
    log::{
        AppendBatch, AppendError, AppendMode, EventLog, MemoryLog, NewEvent, Verdict,
        contract::TermIndex,
        memory::MemoryTerms,
        sled_log::{self, LogOptions, OpenedLog},
    },
    storage::journal,
};

/// Small enough that a few hundred entries make runs and merges.
const INDEX_MEMORY_ENTRIES: usize = 64;

/// A log under test.
pub struct Subject {
    engine: Engine,
    /// What the log takes its times from.
    pub clock: Arc<TestClock>,
}

/// What it is kept in.
enum Engine {
    Memory { log: Arc<MemoryLog>, terms: Arc<MemoryTerms> },
    Sled { directory: tempfile::TempDir, opened: Option<OpenedLog> },
}

impl Subject {
    /// In memory: a restart of it is none.
    pub fn in_memory() -> Self {
        let clock = Arc::new(TestClock::at_ns(1_000));
        let log = Arc::new(MemoryLog::new(Arc::clone(&clock), same_but_for_stamp));
        Self { engine: Engine::Memory { log, terms: Arc::default() }, clock }
    }

    /// On sled, with the smallest journal, tail and tables.
    pub fn on_sled() -> Self {
        let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(TestClock::at_ns(1_000)));
        let opened = Some(open(&directory, &clock));
        Self { engine: Engine::Sled { directory, opened }, clock }
    }

    /// The log.
    pub fn log(&self) -> Arc<dyn EventLog> {
        match &self.engine {
            Engine::Memory { log, .. } => Arc::clone(log) as Arc<dyn EventLog>,
            Engine::Sled { opened, .. } => Arc::clone(&opened.as_ref().expect("it is open").log),
        }
    }

    /// The index beside it.
    pub fn terms(&self) -> Arc<dyn TermIndex> {
        match &self.engine {
            Engine::Memory { terms, .. } => Arc::clone(terms) as Arc<dyn TermIndex>,
            Engine::Sled { opened, .. } => Arc::clone(&opened.as_ref().expect("it is open").search_index),
        }
    }

    /// Stops in order and starts again, where the engine outlives a stop.
    pub async fn restart(&mut self) {
        if let Engine::Sled { directory, opened } = &mut self.engine {
            stop(opened.take()).await;
            *opened = Some(open(directory, &self.clock));
        }
    }

    /// Ends: nothing is taken any more.
    pub async fn close(&mut self) {
        match &mut self.engine {
            Engine::Memory { log, .. } => log.fail_with(Some(AppendError::Closing)),
            Engine::Sled { opened, .. } => stop(opened.take()).await,
        }
    }

    /// Appends, and expects an answer.
    pub async fn append(&self, mode: AppendMode, events: Vec<NewEvent>) -> Vec<Verdict> {
        self.log().append(AppendBatch { events, mode }).await.expect("the log takes batches")
    }
}

fn open(directory: &tempfile::TempDir, clock: &Arc<TestClock>) -> OpenedLog {
    let options = LogOptions {
        journal_half_bytes: journal::HALF_BYTES_MIN,
        refuse_below_bytes: 0,
        index_memory_entries_max: INDEX_MEMORY_ENTRIES,
        ..LogOptions::new(directory.path(), SpiffeId::parse("spiffe://x.example/node/n").unwrap())
    };
    sled_log::open(&options, Arc::clone(clock) as Arc<_>, same_but_for_stamp).expect("the log opens")
}

async fn stop(opened: Option<OpenedLog>) {
    let Some(opened) = opened else { return };
    let admin = Arc::clone(&opened.admin);
    drop(opened);
    admin.close((Instant::now() + Duration::from_secs(60)).into()).await;
}
