//! The contract's log over the shared state and the queue of the commit thread. Whatever reads sled runs on the pool for blocking work. It
//! never waits for room in the queue: a full one is refused, and the publisher is told to come back.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
    mpsc::{SyncSender, TrySendError},
};

use futures::future::{BoxFuture, FutureExt, TryFutureExt, ready, try_join_all};
use tokio::sync::{oneshot, watch};

use super::{
    RECORD_BYTES_MAX, RECORD_MARGIN_BYTES,
    committer::{Waiting, WaitingBatch},
    meant,
    shared::Shared,
};
use crate::{
    domain::{
        EventId, Sequence, SpiffeId,
        filter::TermPlan,
        header::{identity_term, revises_term},
    },
    log::contract::{
        AppendBatch, AppendError, BATCH_EVENTS_MAX, ChainHash, Chunk, EarlyRevisions, EpochFacts, EventLog, LogError,
        Record, Verdict,
    },
    storage::{StorageError, runs::RunFamily},
};

/// One look-up of many events takes no more threads at one time than this, however many processors there are: others look up, too.
const SHARES_MAX: usize = 4;
/// Fewer events than this are fetched by one thread: each is a block to read and to open, a few tens of microseconds.
const RECORDS_A_SHARE_MIN: usize = 16;
/// Fewer events than this are looked up for revisions by one thread: most have none, which the filters of the runs tell.
const IDENTITIES_A_SHARE_MIN: usize = 64;

/// Why the commit thread's queue takes nothing.
pub(super) enum QueueRefusal {
    /// It has as much as it may.
    Full,
    /// The log is closing.
    Closed,
}

/// The log on sled.
#[derive(Debug)]
pub struct SledLog {
    shared: Arc<Shared>,
    /// Taken away when the log closes: the commit thread ends once it has emptied the queue.
    queue: Mutex<Option<SyncSender<Waiting>>>,
    queued_bytes: Arc<AtomicUsize>,
    limits: QueueLimits,
    identities: Arc<RunFamily>,
}

/// What may wait for its commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueLimits {
    /// One batch takes at most so many bytes.
    pub(super) batch_bytes_max: usize,
    /// All batches that wait take at most so many together.
    pub(super) queue_bytes_max: usize,
}

impl SledLog {
    pub(super) const fn new(
        shared: Arc<Shared>,
        queue: SyncSender<Waiting>,
        queued_bytes: Arc<AtomicUsize>,
        limits: QueueLimits,
        identities: Arc<RunFamily>,
    ) -> Self {
        Self { shared, queue: Mutex::new(Some(queue)), queued_bytes, limits, identities }
    }

    /// Takes no more batches; those that wait are still committed.
    pub(super) fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn enqueue(&self, batch: AppendBatch) -> Result<oneshot::Receiver<Result<Vec<Verdict>, AppendError>>, AppendError> {
        let sizes = batch.events.iter().map(|event| event.header.len() + event.signed.len() + 96);
        let (bytes, largest) = sizes.fold((0, 0), |(sum, largest), size: usize| (sum + size, largest.max(size)));
        let bytes_max = if batch.events.len() > BATCH_EVENTS_MAX { 0 } else { self.limits.batch_bytes_max };
        if bytes > bytes_max {
            return Err(AppendError::BatchTooLarge { bytes, bytes_max });
        }
        let event_bytes_max = RECORD_BYTES_MAX - RECORD_MARGIN_BYTES;
        if largest > event_bytes_max {
            return Err(AppendError::BatchTooLarge { bytes: largest, bytes_max: event_bytes_max });
        }
        let (reply, answer) = oneshot::channel();
        self.push(Waiting::Events(WaitingBatch { batch, bytes, reply })).map_err(|refusal| match refusal {
            QueueRefusal::Full => AppendError::Overloaded,
            QueueRefusal::Closed => AppendError::Closing,
        })?;
        Ok(answer)
    }

    /// Puts something before the commit thread.
    pub(super) fn push(&self, waiting: Waiting) -> Result<(), QueueRefusal> {
        let bytes = waiting.bytes();
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queue.as_ref().ok_or(QueueRefusal::Closed)?;
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.limits.queue_bytes_max {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(QueueRefusal::Full);
        }
        queue.try_send(waiting).map_err(|error| {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => QueueRefusal::Full,
                TrySendError::Disconnected(_) => QueueRefusal::Closed,
            }
        })
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, &RunFamily) -> Result<T, StorageError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, LogError>> {
        let (shared, identities) = (Arc::clone(&self.shared), Arc::clone(&self.identities));
        on_blocking_pool(move || work(&shared, &identities))
    }
}

/// Runs work that may read sled away from the threads that serve connections.
pub(super) fn on_blocking_pool<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> BoxFuture<'static, Result<T, LogError>> {
    async move {
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result.map_err(log_error),
            Err(failure) => Err(LogError::Storage(failure.to_string())),
        }
    }
    .boxed()
}

/// Runs work on many things away from the threads that serve connections: where they are enough, several shares at one time, each at
/// least so large that it is worth a thread. What comes of them is in their order.
pub(super) fn in_shares<T: Send + 'static, R: Send + 'static>(
    mut things: Vec<T>,
    share_min: usize,
    work: impl Fn(Vec<T>) -> Result<Vec<R>, StorageError> + Clone + Send + 'static,
) -> BoxFuture<'static, Result<Vec<R>, LogError>> {
    let share = things.len().div_ceil(SHARES_MAX).max(share_min);
    let mut shares = Vec::with_capacity(SHARES_MAX);
    while things.len() > share {
        let rest = things.split_off(share);
        shares.push(std::mem::replace(&mut things, rest));
    }
    shares.push(things);
    let tasks = shares.into_iter().map(|share| {
        let work = work.clone();
        on_blocking_pool(move || work(share))
    });
    try_join_all(tasks.collect::<Vec<_>>()).map_ok(|shares| shares.into_iter().flatten().collect()).boxed()
}

/// The places before one of the events that revise an event directly, ascending.
fn revisions_before(
    (shared, identities): (&Shared, &RunFamily),
    publisher: &str,
    event_id: EventId,
    before: Sequence,
) -> Result<Vec<Sequence>, StorageError> {
    let mut found = Vec::new();
    let term = revises_term(publisher, &event_id);
    for sequence in identities.lookup(term, Sequence::ZERO, before, false, usize::MAX)? {
        if let Some(record) = shared.record(sequence)?
            && meant::revises(&record, publisher, event_id)?
        {
            found.push(sequence);
        }
    }
    Ok(found)
}

pub(super) fn log_error(error: StorageError) -> LogError {
    match error {
        StorageError::Damaged(what) => LogError::Damaged(what),
        other @ (StorageError::Io { .. } | StorageError::Sled { .. }) => LogError::Storage(other.with_cause()),
    }
}

impl EventLog for SledLog {
    fn append(&self, batch: AppendBatch) -> BoxFuture<'static, Result<Vec<Verdict>, AppendError>> {
        if batch.events.is_empty() {
            return ready(Ok(Vec::new())).boxed();
        }
        match self.enqueue(batch) {
            Err(refused) => ready(Err(refused)).boxed(),
            Ok(answer) => async move {
                let failed = || AppendError::Storage("the commit thread has ended".to_owned());
                answer.await.unwrap_or_else(|_| Err(failed()))
            }
            .boxed(),
        }
    }

    fn read(
        &self,
        after: Sequence,
        bytes_max: usize,
        terms: Option<Arc<TermPlan>>,
    ) -> BoxFuture<'static, Result<Option<Chunk>, LogError>> {
        let first = self.shared.first_retained;
        if after.next() < first {
            return ready(Err(LogError::BeforeFirst { asked: after.next(), first })).boxed();
        }
        self.blocking(move |shared, _| shared.read(after, bytes_max, terms.as_deref()))
    }

    fn get(&self, sequences: Vec<Sequence>) -> BoxFuture<'static, Result<Vec<Record>, LogError>> {
        let shared = Arc::clone(&self.shared);
        in_shares(sequences, RECORDS_A_SHARE_MIN, move |sequences| {
            let mut records = Vec::with_capacity(sequences.len());
            for sequence in sequences {
                records.extend(shared.record(sequence)?);
            }
            Ok(records)
        })
    }

    fn find(&self, publisher: SpiffeId, event_id: EventId) -> BoxFuture<'static, Result<Option<Record>, LogError>> {
        self.blocking(move |shared, identities| {
            let term = identity_term(publisher.as_str(), &event_id);
            let end = shared.last().next();
            for sequence in identities.lookup(term, Sequence::ZERO, end, false, usize::MAX)? {
                if let Some(record) = shared.record(sequence)?
                    && meant::is_event(&record, &publisher, event_id)?
                {
                    return Ok(Some(record));
                }
            }
            Ok(None)
        })
    }

    fn revisions_of(&self, events: Vec<(SpiffeId, EventId)>) -> BoxFuture<'static, Result<Vec<Sequence>, LogError>> {
        let (shared, identities) = (Arc::clone(&self.shared), Arc::clone(&self.identities));
        let found = in_shares(events, IDENTITIES_A_SHARE_MIN, move |events| {
            let end = shared.last().next();
            let mut found = Vec::new();
            for (publisher, event_id) in &events {
                found.extend(revisions_before((&shared, &identities), publisher.as_str(), *event_id, end)?);
            }
            Ok(found)
        });
        found
            .map_ok(|mut places| {
                places.sort_unstable();
                places.dedup();
                places
            })
            .boxed()
    }

    fn revised_before(&self, records: Arc<[Record]>) -> BoxFuture<'static, Result<Vec<EarlyRevisions>, LogError>> {
        self.blocking(move |shared, identities| {
            let mut found = Vec::new();
            for record in &*records {
                let header = meant::header_of(&record.header)?;
                let known = (shared, identities);
                let revisions = revisions_before(known, header.publisher(), header.event_id(), record.sequence)?;
                if !revisions.is_empty() {
                    found.push(EarlyRevisions { original: record.sequence, revisions });
                }
            }
            Ok(found)
        })
    }

    fn first_accepted_since(&self, time_ns: i64) -> BoxFuture<'static, Result<Sequence, LogError>> {
        self.blocking(move |shared, _| shared.first_accepted_since(time_ns))
    }

    fn chain_at(&self, sequence: Sequence) -> BoxFuture<'static, Result<Option<ChainHash>, LogError>> {
        self.blocking(move |shared, _| shared.chain_at(sequence))
    }

    fn tail(&self) -> watch::Receiver<Sequence> {
        self.shared.durable.subscribe()
    }

    fn first_retained(&self) -> Sequence {
        self.shared.first_retained
    }

    fn epochs(&self) -> Arc<[EpochFacts]> {
        Arc::clone(&self.shared.epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_of_shares_is_in_the_order_of_the_things() {
        for count in [0, 1, 15, 16, 17, 64, 65, 1_000] {
            let doubled = move |share: Vec<usize>| {
                let is_last = count == 0 || share.contains(&(count - 1));
                assert!(share.len() >= 16 || is_last, "{} of {count}", share.len());
                Ok(share.into_iter().map(|thing| thing * 2).collect())
            };
            let expected: Vec<usize> = (0..count).map(|thing| thing * 2).collect();
            assert_eq!(in_shares((0..count).collect(), 16, doubled).await, Ok(expected));
        }
        let fails = |share: Vec<usize>| {
            if share.contains(&70) { Err(StorageError::Damaged("one share".to_owned())) } else { Ok(share) }
        };
        let failed = in_shares((0..100).collect(), 16, fails).await;
        assert_eq!(failed, Err(LogError::Damaged("one share".to_owned())));
    }
}
