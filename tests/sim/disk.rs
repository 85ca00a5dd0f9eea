//! The disk of a simulated machine: a log whose appends become durable a while later, all that wait together, and the file of what is
//! remembered of the peers. A process that has died changes neither any more.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tradelane::{
    domain::{EventId, Sequence, SpiffeId, filter::TermPlan},
    federation::{PeerProgress, ProgressStore},
    log::{
        AppendBatch, AppendError, Chunk, EventLog, LogError, MemoryLog, Record, Verdict,
        contract::{ChainHash, EarlyRevisions, EpochFacts},
    },
    storage::StorageError,
};

use crate::ground::{Trace, locked};

/// The file of the peers is written within so many milliseconds.
const FILE_MS: std::ops::RangeInclusive<u64> = 1..=40;

/// What the file of the peers holds.
pub type Remembered = BTreeMap<SpiffeId, PeerProgress>;

/// The disk as one process uses it. Cheap to clone.
#[derive(Clone)]
pub struct Disk(Arc<Inner>);

struct Inner {
    name: char,
    /// Appends that wait for their commit, in order. Who waits at one watch is woken in any order; so everybody has her own.
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
    tails: Mutex<Vec<watch::Sender<Sequence>>>,
    log: Arc<MemoryLog>,
    remembered: Arc<Mutex<Remembered>>,
    random: Mutex<fastrand::Rng>,
    /// The shortest and longest time that a commit takes.
    commit_ms: (u64, u64),
    committing: AtomicBool,
    dead: CancellationToken,
    trace: Trace,
}

impl Disk {
    /// A disk that a process has just opened; `dead` says when that process has died.
    pub fn open(
        name: char,
        log: Arc<MemoryLog>,
        remembered: Arc<Mutex<Remembered>>,
        (seed, commit_ms): (u64, (u64, u64)),
        dead: CancellationToken,
        trace: Trace,
    ) -> Self {
        log.hold();
        let random = Mutex::new(fastrand::Rng::with_seed(seed));
        let committing = AtomicBool::new(false);
        let (waiting, tails) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { name, waiting, tails, log, remembered, random, commit_ms, committing, dead, trace }))
    }

    /// Makes everything durable that waits, some time from now.
    fn commit_soon(&self) {
        if self.0.committing.swap(true, Ordering::SeqCst) {
            return;
        }
        let (shortest, longest) = self.0.commit_ms;
        let (disk, wait) = (self.clone(), self.wait(shortest..=longest));
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            disk.0.committing.store(false, Ordering::SeqCst);
            if !disk.0.dead.is_cancelled() {
                disk.commit();
            }
        });
    }

    fn commit(&self) {
        self.0.log.release();
        self.0.log.hold();
        let tail = *self.0.log.tail().borrow();
        self.0.trace.say(format_args!("{} durable {tail}", self.0.name));
        for appended in locked(&self.0.waiting).drain(..) {
            // Nobody waits for an append whose stream has ended.
            let _ = appended.send(());
        }
        let mut tails = locked(&self.0.tails);
        tails.retain(|follower| !follower.is_closed());
        for follower in tails.iter() {
            follower.send_if_modified(|known| std::mem::replace(known, tail) < tail);
        }
    }

    fn wait(&self, within_ms: std::ops::RangeInclusive<u64>) -> Duration {
        Duration::from_millis(locked(&self.0.random).u64(within_ms))
    }
}

impl ProgressStore for Disk {
    fn keep(&self, all: Remembered) -> BoxFuture<'static, Result<(), StorageError>> {
        let (disk, wait) = (self.clone(), self.wait(FILE_MS));
        async move {
            tokio::time::sleep(wait).await;
            if !disk.0.dead.is_cancelled() {
                *locked(&disk.0.remembered) = all;
            }
            Ok(())
        }
        .boxed()
    }
}

impl EventLog for Disk {
    fn append(&self, batch: AppendBatch) -> BoxFuture<'static, Result<Vec<Verdict>, AppendError>> {
        let died = || Err(AppendError::Storage("the process has died".to_owned()));
        if self.0.dead.is_cancelled() {
            return std::future::ready(died()).boxed();
        }
        let appending = self.0.log.append(batch);
        let (committed, commit) = oneshot::channel();
        locked(&self.0.waiting).push(committed);
        self.commit_soon();
        let dead = self.0.dead.clone();
        async move {
            tokio::select! {
                biased;
                () = dead.cancelled() => died(),
                // By then what was appended is durable, and what the log says of it is there.
                _ = commit => appending.await,
            }
        }
        .boxed()
    }

    fn read(
        &self,
        after: Sequence,
        bytes_max: usize,
        terms: Option<Arc<TermPlan>>,
    ) -> BoxFuture<'static, Result<Option<Chunk>, LogError>> {
        self.0.log.read(after, bytes_max, terms)
    }

    fn get(&self, sequences: Vec<Sequence>) -> BoxFuture<'static, Result<Vec<Record>, LogError>> {
        self.0.log.get(sequences)
    }

    fn find(&self, publisher: SpiffeId, event_id: EventId) -> BoxFuture<'static, Result<Option<Record>, LogError>> {
        self.0.log.find(publisher, event_id)
    }

    fn revisions_of(&self, events: Vec<(SpiffeId, EventId)>) -> BoxFuture<'static, Result<Vec<Sequence>, LogError>> {
        self.0.log.revisions_of(events)
    }

    fn revised_before(&self, records: Arc<[Record]>) -> BoxFuture<'static, Result<Vec<EarlyRevisions>, LogError>> {
        self.0.log.revised_before(records)
    }

    fn first_accepted_since(&self, time_ns: i64) -> BoxFuture<'static, Result<Sequence, LogError>> {
        self.0.log.first_accepted_since(time_ns)
    }

    fn chain_at(&self, sequence: Sequence) -> BoxFuture<'static, Result<Option<ChainHash>, LogError>> {
        self.0.log.chain_at(sequence)
    }

    fn tail(&self) -> watch::Receiver<Sequence> {
        let (follower, tail) = watch::channel(*self.0.log.tail().borrow());
        let mut tails = locked(&self.0.tails);
        tails.retain(|follower| !follower.is_closed());
        tails.push(follower);
        tail
    }

    fn first_retained(&self) -> Sequence {
        self.0.log.first_retained()
    }

    fn epochs(&self) -> Arc<[EpochFacts]> {
        self.0.log.epochs()
    }
}
