//! The commit thread: takes whatever waits in the queue, decides it, writes one frame to the journal, syncs, and only then shows and
//! acknowledges it. It never waits for more to come, and never acknowledges what is not durable.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, TryRecvError},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    admission::{Admission, CommitLimits, ContentEqual},
    codec,
    promised::{self, WaitingState},
    shared::Shared,
};
use crate::{
    clock::Clock,
    domain::Sequence,
    log::contract::{AppendBatch, AppendError, Record, Verdict},
    storage::{
        ChainHash, StorageError,
        journal::{FRAME_HEADER_BYTES, FrameFacts, Journal, Stored, seal},
        runs::RunFamily,
        state::{self, StateChange},
        watchdog::Watchdog,
    },
    store::WriteError,
};

/// A commit takes at most so many events: enough to keep the disk busy, few enough that nobody waits long for it.
pub const COMMIT_EVENTS_MAX: usize = 1024;
/// The room of a frame is kept for the next one up to so many bytes: more than a full commit of usual events takes. What is freed goes back
/// to the system, and pages that come anew for each commit cost more than the copy into them.
const FRAME_BYTES_KEPT_MAX: usize = 2 * 1024 * 1024;
/// How long a look at the free space counts.
const FREE_SPACE_FRESH: Duration = Duration::from_millis(250);

/// What waits for its commit.
#[derive(Debug)]
pub enum Waiting {
    /// Events.
    Events(WaitingBatch),
    /// Promised state.
    State(WaitingState),
}

impl Waiting {
    /// About how many bytes it takes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        match self {
            Self::Events(waiting) => waiting.bytes,
            Self::State(waiting) => waiting.bytes,
        }
    }

    fn events(&self) -> usize {
        match self {
            Self::Events(waiting) => waiting.batch.events.len(),
            // A write of state counts as one, so that a commit holds a bounded number of them too.
            Self::State(_) => 1,
        }
    }
}

/// A batch that waits for its commit.
#[derive(Debug)]
pub struct WaitingBatch {
    /// The batch.
    pub batch: AppendBatch,
    /// About how many bytes it takes.
    pub bytes: usize,
    /// Who waits.
    pub reply: oneshot::Sender<Result<Vec<Verdict>, AppendError>>,
}

/// Everything that the commit thread has.
pub struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) identities: Arc<RunFamily>,
    pub(super) queue: Receiver<Waiting>,
    pub(super) queued_bytes: Arc<AtomicUsize>,
    pub(super) journal: Journal,
    pub(super) watchdog: Watchdog,
    pub(super) chain: ChainHash,
    pub(super) accepted_time_ns: i64,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) content_equal: ContentEqual,
    pub(super) data_dir: PathBuf,
    pub(super) refuse_below_bytes: u64,
    pub(super) tail_bytes_max: usize,
    pub(super) commit_bytes_max: usize,
    pub(super) free_seen: Option<(Instant, u64)>,
    /// The room of the last frame.
    pub(super) frame: Vec<u8>,
}

impl Committer {
    /// Commits until the queue is closed and empty.
    ///
    /// # Errors
    /// The disk refused, or stored data cannot be read: the process must end.
    pub fn run(mut self) -> Result<(), StorageError> {
        let mut carried = None;
        while let Some(first) = self.next(carried.take())? {
            let mut commit = Vec::with_capacity(16);
            let (mut events, mut bytes) = (first.events(), first.bytes());
            commit.push(first);
            while events < COMMIT_EVENTS_MAX {
                match self.queue.try_recv() {
                    Ok(waiting) => {
                        events += waiting.events();
                        bytes += waiting.bytes();
                        if bytes > self.commit_bytes_max || events > COMMIT_EVENTS_MAX {
                            carried = Some(waiting);
                            break;
                        }
                        commit.push(waiting);
                    }
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            self.commit(commit)?;
        }
        let through = self.shared.last();
        self.shared.progress().committer_ended = Some(self.journal.end(through));
        self.shared.wake.notify_all();
        Ok(())
    }

    /// The next batch; where none waits, the last frame is marked as settled before waiting for one.
    fn next(&mut self, carried: Option<Waiting>) -> Result<Option<Waiting>, StorageError> {
        if carried.is_some() {
            return Ok(carried);
        }
        match self.queue.try_recv() {
            Ok(waiting) => Ok(Some(waiting)),
            Err(TryRecvError::Disconnected) => Ok(None),
            Err(TryRecvError::Empty) => {
                let first = self.shared.last().next();
                let facts =
                    FrameFacts { salt: self.journal.salt(), first, count: 0, state_bytes: 0, chain_before: self.chain };
                self.journal.mark_settled(&facts).map_err(StorageError::io("cannot write the journal"))?;
                Ok(self.queue.recv().ok())
            }
        }
    }

    fn commit(&mut self, commit: Vec<Waiting>) -> Result<(), StorageError> {
        let taken: usize = commit.iter().map(Waiting::bytes).sum();
        self.queued_bytes.fetch_sub(taken, Ordering::Relaxed);
        let free_bytes = self.free_bytes()?;
        let (mut batches, mut promises) = (Vec::new(), Vec::new());
        for waiting in commit {
            match waiting {
                Waiting::Events(waiting) => batches.push(waiting),
                Waiting::State(waiting) => promises.push(waiting),
            }
        }
        // Acknowledgements still pass on a disk too full for events: they are small, and what they settle can be dropped one day.
        if free_bytes < self.refuse_below_bytes / 4 {
            for waiting in promises.drain(..) {
                // Whoever hung up does not want to know.
                let _ = waiting.reply.send(Err(WriteError::DiskFull));
            }
        }
        if free_bytes < self.refuse_below_bytes {
            let refusal = AppendError::DiskFull { free_bytes, limit_bytes: self.refuse_below_bytes };
            for waiting in batches.drain(..) {
                // Whoever hung up does not want to know.
                let _ = waiting.reply.send(Err(refusal.clone()));
            }
        }
        self.commit_admitted(batches, promises)
    }

    fn commit_admitted(&mut self, batches: Vec<WaitingBatch>, promises: Vec<WaitingState>) -> Result<(), StorageError> {
        let shared = Arc::clone(&self.shared);
        let identities = Arc::clone(&self.identities);
        let first = shared.last().next();
        // The accepted time never runs backwards along the log, whatever the machine's clock does.
        let now_ns = self.clock.now_ns().max(self.accepted_time_ns);
        let (changes, promised) = promised::admitted(&shared, promises);
        let limits = self.limits(changes.iter().map(StateChange::weight_bytes).sum());
        let mut admission = Admission::new(&shared, &identities, self.content_equal, (first, now_ns), limits);
        let mut answers = Vec::with_capacity(batches.len());
        for waiting in batches {
            answers.push((waiting.reply, admission.decide(waiting.batch)?));
        }
        let (records, entries) = (admission.records, admission.entries);
        let chain = if records.is_empty() && changes.is_empty() {
            Vec::new()
        } else {
            self.make_durable(&records, &changes, first)?
        };
        if !changes.is_empty() {
            shared.state().take(changes);
        }
        if let Some(last) = records.last().map(|record| record.sequence) {
            self.accepted_time_ns = now_ns;
            identities.add(&entries, last);
            self.show(records, chain);
        }
        // Whoever hung up does not want to know: what she asked for is durable all the same.
        for reply in promised {
            let _ = reply.send(Ok(()));
        }
        for (reply, verdicts) in answers {
            let _ = reply.send(verdicts);
        }
        Ok(())
    }

    /// Writes the commit's frame and syncs it. Answers the chain's hash after each record.
    fn make_durable(
        &mut self,
        records: &[Record],
        changes: &[StateChange],
        first: Sequence,
    ) -> Result<Vec<ChainHash>, StorageError> {
        let records_bytes: usize = records.iter().map(codec::stored_bytes_at_most).sum();
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        frame.reserve(FRAME_HEADER_BYTES + records_bytes);
        frame.resize(FRAME_HEADER_BYTES, 0);
        let mut state_frame = None;
        if !changes.is_empty() {
            let state = self.shared.state();
            state::put_section(&mut frame, state.table.digest_after(changes), changes);
            state_frame = Some(state.frames + 1);
        }
        let state_bytes = (frame.len() - FRAME_HEADER_BYTES) as u32;
        let mut chain = self.chain;
        let mut chain_after = Vec::with_capacity(records.len());
        for record in records {
            codec::put_record(&mut frame, record);
            chain = codec::chain_after(&chain, record);
            chain_after.push(chain);
        }
        let io = StorageError::io("cannot write the journal");
        self.make_room(frame.len() as u64, first)?;
        let (salt, count) = (self.journal.salt(), records.len() as u32);
        let facts = FrameFacts { salt, first, count, state_bytes, chain_before: self.chain };
        seal(&mut frame, &facts);
        let journal = &mut self.journal;
        let what = "a write to the journal and its sync";
        self.watchdog.over(what, || journal.write(&frame, facts.last(), state_frame)).map_err(io)?;
        self.chain = chain;
        if frame.capacity() <= FRAME_BYTES_KEPT_MAX {
            self.frame = frame;
        }
        Ok(chain_after)
    }

    /// Makes the records visible, with the chain's hash after each. Only ever called after they are durable.
    fn show(&self, records: Vec<Record>, chain: Vec<ChainHash>) {
        let bytes: usize = records.iter().map(codec::weight_bytes).sum();
        let last = records.last().map(|record| record.sequence);
        self.shared.tail.write().unwrap_or_else(PoisonError::into_inner).extend(records.into_iter().zip(chain));
        self.shared.progress().tail_bytes += bytes;
        self.shared.wake.notify_all();
        if let Some(last) = last {
            let before = self.shared.durable.send_replace(last);
            assert!(before < last, "the tail never moves back");
        }
    }

    /// Waits until the tail has room in memory and the journal has room for a frame.
    fn make_room(&mut self, frame_bytes: u64, next: Sequence) -> Result<(), StorageError> {
        let full = !self.journal.has_room(frame_bytes);
        let everything = Stored { through: self.shared.last(), state_frames: self.shared.state().frames };
        let mut progress = self.shared.progress();
        loop {
            let may_switch = !full || self.journal.may_switch(progress.stored);
            if may_switch && progress.tail_bytes < self.tail_bytes_max {
                break;
            }
            if !may_switch {
                progress.wanted = everything;
            }
            self.shared.wake.notify_all();
            progress = self.shared.wake.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        let stored = progress.stored;
        drop(progress);
        if full {
            let salt = self.clock.fresh_uuid().as_u64_pair();
            let (journal, chain) = (&mut self.journal, self.chain);
            self.watchdog
                .over("the change to the journal's other half", || journal.switch(next, chain, salt.0 ^ salt.1, stored))
                .map_err(StorageError::io("cannot begin the other half of the journal"))?;
        }
        Ok(())
    }

    fn limits(&self, state_bytes: usize) -> CommitLimits {
        let frame_bytes_max = self.journal.frame_bytes_max() as usize - FRAME_HEADER_BYTES - state_bytes;
        CommitLimits { batch_bytes_max: self.commit_bytes_max, frame_bytes_max }
    }

    fn free_bytes(&mut self) -> Result<u64, StorageError> {
        match self.free_seen {
            Some((when, free_bytes)) if when.elapsed() < FREE_SPACE_FRESH => Ok(free_bytes),
            _ => {
                let free_bytes = super::free_bytes(&self.data_dir)?;
                self.free_seen = Some((Instant::now(), free_bytes));
                Ok(free_bytes)
            }
        }
    }
}

impl fmt::Debug for Committer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Committer")
    }
}
