//! A log in memory that keeps the contract, for tests of whatever stands on a log: the doors, the views, the sessions. It also plays what
//! a real log does rarely: slow durability, refusals, dropped history, holes in the sequence. It never survives the process.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::{BoxFuture, FutureExt, ready};
use tokio::sync::watch;

use super::contract::{
    AppendBatch, AppendError, AppendMode, Appended, BATCH_EVENTS_MAX, CHAIN_START, ChainHash, Chunk, EarlyRevisions,
    EpochFacts, EventLog, LogError, Record, Verdict,
};
use crate::{
    clock::Clock,
    domain::{Epoch, EventId, HeaderRef, Sequence, SpiffeId, filter::TermPlan, header::origin_term, term::TermHash},
};

mod admit;
#[cfg(test)]
mod terms;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use terms::MemoryTerms;

/// So many sequences share one block, which terms rule out as a whole: as small as tests need to see blocks skipped.
const BLOCK_SEQUENCES: u64 = 4;

/// How two encoded `SignedEvent`s are compared where their bytes differ.
pub type ContentEqual = fn(&[u8], &[u8]) -> bool;

/// The log. Its appends become durable at once, unless [`MemoryLog::hold`] was called.
#[derive(Debug)]
pub struct MemoryLog {
    clock: Arc<dyn ClockDebug>,
    content_equal: ContentEqual,
    epochs: Arc<[EpochFacts]>,
    state: Mutex<State>,
    tail: watch::Sender<Sequence>,
}

/// A clock that can be printed with the log that holds it.
trait ClockDebug: Clock + std::fmt::Debug {}
impl<T: Clock + std::fmt::Debug> ClockDebug for T {}

/// Everything that was placed, durable or not.
#[derive(Debug)]
struct State {
    records: Vec<Record>,
    /// The chain's hash after each record.
    chain: Vec<ChainHash>,
    by_identity: HashMap<(SpiffeId, EventId), Sequence>,
    /// Direct revisions of an event, oldest first, and whether each was resolved.
    revisions: HashMap<(SpiffeId, EventId), Vec<Revising>>,
    last: Sequence,
    first_retained: Sequence,
    accepted_time_ns: i64,
    held: bool,
    failing: Option<AppendError>,
    honours_terms: bool,
    append_calls: u64,
    read_calls: u64,
}

/// One direct revision.
#[derive(Debug, Clone, Copy)]
struct Revising {
    sequence: Sequence,
    event_id: EventId,
    retracts: bool,
    resolved: bool,
}

impl MemoryLog {
    /// An empty log in its first epoch.
    #[must_use]
    pub fn new(clock: Arc<impl Clock + std::fmt::Debug>, content_equal: ContentEqual) -> Self {
        let epoch = EpochFacts {
            epoch: Epoch(clock.fresh_uuid()),
            parent: None,
            fork: Sequence::ZERO,
            open_time_ns: clock.now_ns(),
        };
        Self::with_epochs(clock, content_equal, vec![epoch])
    }

    /// An empty log with a history of lives, the present one first.
    #[must_use]
    pub fn with_epochs(
        clock: Arc<impl Clock + std::fmt::Debug>,
        content_equal: ContentEqual,
        epochs: Vec<EpochFacts>,
    ) -> Self {
        let state = State {
            records: Vec::new(),
            chain: Vec::new(),
            by_identity: HashMap::new(),
            revisions: HashMap::new(),
            last: Sequence::ZERO,
            first_retained: Sequence(1),
            accepted_time_ns: i64::MIN,
            held: false,
            failing: None,
            honours_terms: true,
            append_calls: 0,
            read_calls: 0,
        };
        let tail = watch::Sender::new(Sequence::ZERO);
        Self { clock, content_equal, epochs: epochs.into(), state: Mutex::new(state), tail }
    }

    /// The log as it is found after the process has died, or as a backup of it has it: what was durable, at most up to a place. With these
    /// lives, the present one first; this log is left as it is.
    #[must_use]
    pub fn reopened(
        &self,
        clock: Arc<impl Clock + std::fmt::Debug>,
        through: Sequence,
        epochs: Vec<EpochFacts>,
    ) -> Self {
        let reopened = Self::with_epochs(clock, self.content_equal, epochs);
        let through = through.min(*self.tail.borrow());
        {
            let (before, mut after) = (self.state(), reopened.state());
            let count = before.records.partition_point(|record| record.sequence <= through);
            after.records = before.records[..count].to_vec();
            after.chain = before.chain[..count].to_vec();
            after.by_identity.clone_from(&before.by_identity);
            after.by_identity.retain(|_, sequence| *sequence <= through);
            after.revisions.clone_from(&before.revisions);
            for revising in after.revisions.values_mut() {
                revising.retain(|one| one.sequence <= through);
            }
            after.first_retained = before.first_retained;
            after.last = after.records.last().map_or(Sequence::ZERO, |record| record.sequence);
            after.accepted_time_ns = after.records.last().map_or(i64::MIN, |record| record.accepted_time_ns);
            let last = after.last;
            reopened.advance_tail(last);
        }
        reopened
    }

    /// From now on nothing becomes durable, as on a slow disk, until [`MemoryLog::release`].
    pub fn hold(&self) {
        self.state().held = true;
    }

    /// Everything that was held becomes durable.
    pub fn release(&self) {
        let mut state = self.state();
        state.held = false;
        let last = state.last;
        self.advance_tail(last);
    }

    /// Refuses every append from now on, or takes them again.
    pub fn fail_with(&self, failing: Option<AppendError>) {
        self.state().failing = failing;
    }

    /// Whether reads skip blocks that the terms rule out. Both are within the contract.
    pub fn honour_terms(&self, honours_terms: bool) {
        self.state().honours_terms = honours_terms;
    }

    /// Leaves a hole: so many sequences are never given to an event.
    pub fn skip_sequences(&self, count: u64) {
        let mut state = self.state();
        state.last = Sequence(state.last.get() + count);
    }

    /// Drops what stands before a place, as retention would; identities stay known.
    pub fn drop_before(&self, first_retained: Sequence) {
        self.state().first_retained = first_retained;
    }

    /// How often `append` was called.
    #[must_use]
    pub fn append_calls(&self) -> u64 {
        self.state().append_calls
    }

    /// How often `read` was called.
    #[must_use]
    pub fn read_calls(&self) -> u64 {
        self.state().read_calls
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock means that a test failed inside; what it left is still whole, since nothing here panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advance_tail(&self, last: Sequence) {
        self.tail.send_if_modified(|tail| std::mem::replace(tail, (*tail).max(last)) < last);
    }

    /// The records after a place that are durable, and the tail.
    fn read_now(&self, after: Sequence, bytes_max: usize, terms: Option<&TermPlan>) -> Result<Option<Chunk>, LogError> {
        let tail = *self.tail.borrow();
        let mut state = self.state();
        state.read_calls += 1;
        if after.next() < state.first_retained {
            return Err(LogError::BeforeFirst { asked: after.next(), first: state.first_retained });
        }
        let start = state.records.partition_point(|record| record.sequence <= after);
        let end = state.records.partition_point(|record| record.sequence <= tail);
        let Some(durable) = state.records.get(start..end).filter(|records| !records.is_empty()) else {
            return Ok(None);
        };
        let plan = terms.filter(|_| state.honours_terms);
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut through = after;
        for block in durable.chunk_by(|a, b| a.sequence.get() / BLOCK_SEQUENCES == b.sequence.get() / BLOCK_SEQUENCES) {
            let keeps = plan.is_none_or(|plan| may_match(block, plan));
            for record in block {
                if bytes >= bytes_max {
                    return Ok(Some(Chunk { records: records.into(), through }));
                }
                through = record.sequence;
                if keeps {
                    bytes += record.header.len() + record.signed.len();
                    records.push(record.clone());
                }
            }
        }
        Ok(Some(Chunk { records: records.into(), through }))
    }
}

/// Whether some event of a block may have what some filter of the plan asks for.
fn may_match(block: &[Record], plan: &TermPlan) -> bool {
    let mut terms: HashSet<TermHash> = HashSet::new();
    for record in block {
        match HeaderRef::parse(&record.header) {
            Ok(header) => header.for_each_term(&mut |term| {
                terms.insert(term);
            }),
            Err(_) => return true,
        }
        terms.extend(record.origin.as_ref().map(|origin| origin_term(origin.node.as_str())));
    }
    plan.iter().any(|all_of| all_of.iter().all(|any_of| any_of.iter().any(|term| terms.contains(term))))
}

impl EventLog for MemoryLog {
    fn append(&self, batch: AppendBatch) -> BoxFuture<'static, Result<Vec<Verdict>, AppendError>> {
        let mut state = self.state();
        state.append_calls += 1;
        if let Some(failing) = &state.failing {
            return ready(Err(failing.clone())).boxed();
        }
        if batch.events.len() > BATCH_EVENTS_MAX {
            let bytes = batch.events.iter().map(|event| event.header.len() + event.signed.len()).sum();
            return ready(Err(AppendError::BatchTooLarge { bytes, bytes_max: 0 })).boxed();
        }
        let now_ns = self.clock.now_ns().max(state.accepted_time_ns);
        let verdicts = match admit::admit(&mut state, batch, self.content_equal, now_ns) {
            Ok(verdicts) => verdicts,
            Err(failure) => return ready(Err(failure)).boxed(),
        };
        if !state.held {
            let last = state.last;
            self.advance_tail(last);
        }
        let durable_at = verdicts.iter().filter_map(stored).map(|appended| appended.sequence).max();
        let mut tail = self.tail.subscribe();
        async move {
            if let Some(durable_at) = durable_at {
                // The log was dropped before the batch became durable: nothing is known of it.
                tail.wait_for(|tail| *tail >= durable_at)
                    .await
                    .map_err(|_| AppendError::Storage("the log is gone".into()))?;
            }
            Ok(verdicts)
        }
        .boxed()
    }

    fn read(
        &self,
        after: Sequence,
        bytes_max: usize,
        terms: Option<Arc<TermPlan>>,
    ) -> BoxFuture<'static, Result<Option<Chunk>, LogError>> {
        ready(self.read_now(after, bytes_max, terms.as_deref())).boxed()
    }

    fn get(&self, sequences: Vec<Sequence>) -> BoxFuture<'static, Result<Vec<Record>, LogError>> {
        let tail = *self.tail.borrow();
        let state = self.state();
        let shown = state.first_retained..=tail;
        let found =
            sequences.iter().filter(|sequence| shown.contains(*sequence)).filter_map(|place| state.record(*place));
        ready(Ok(found.cloned().collect())).boxed()
    }

    fn find(&self, publisher: SpiffeId, event_id: EventId) -> BoxFuture<'static, Result<Option<Record>, LogError>> {
        let tail = *self.tail.borrow();
        let state = self.state();
        let shown = state.first_retained..=tail;
        let sequence = state.by_identity.get(&(publisher, event_id)).copied().filter(|place| shown.contains(place));
        ready(Ok(sequence.and_then(|sequence| state.record(sequence)).cloned())).boxed()
    }

    fn revisions_of(&self, events: Vec<(SpiffeId, EventId)>) -> BoxFuture<'static, Result<Vec<Sequence>, LogError>> {
        let tail = *self.tail.borrow();
        let state = self.state();
        let revisions = events.iter().filter_map(|event| state.revisions.get(event)).flatten();
        let places: BTreeSet<Sequence> = revisions.map(|one| one.sequence).filter(|place| *place <= tail).collect();
        ready(Ok(places.into_iter().collect())).boxed()
    }

    fn revised_before(&self, records: Arc<[Record]>) -> BoxFuture<'static, Result<Vec<EarlyRevisions>, LogError>> {
        let state = self.state();
        let of = |record: &Record| {
            let header = HeaderRef::parse(&record.header).map_err(|fault| LogError::Damaged(fault.to_string()))?;
            let publisher = SpiffeId::parse(header.publisher()).map_err(|why| LogError::Damaged(why.to_string()))?;
            let revisions = state.revisions.get(&(publisher, header.event_id())).map(Vec::as_slice).unwrap_or_default();
            let places = revisions.iter().map(|revising| revising.sequence);
            let revisions = places.filter(|sequence| *sequence < record.sequence).collect();
            Ok(EarlyRevisions { original: record.sequence, revisions })
        };
        let all: Result<Vec<EarlyRevisions>, LogError> = records.iter().map(of).collect();
        let found = all.map(|all| all.into_iter().filter(|found| !found.revisions.is_empty()).collect());
        ready(found).boxed()
    }

    fn first_accepted_since(&self, time_ns: i64) -> BoxFuture<'static, Result<Sequence, LogError>> {
        let tail = *self.tail.borrow();
        let state = self.state();
        let dropped = state.records.partition_point(|record| record.sequence < state.first_retained);
        let index = state.records.partition_point(|record| record.accepted_time_ns < time_ns).max(dropped);
        let first = state.records.get(index).map(|record| record.sequence).filter(|sequence| *sequence <= tail);
        ready(Ok(first.unwrap_or(tail.next()))).boxed()
    }

    fn chain_at(&self, sequence: Sequence) -> BoxFuture<'static, Result<Option<ChainHash>, LogError>> {
        let tail = *self.tail.borrow();
        let state = self.state();
        let hash = match state.records.binary_search_by_key(&sequence, |record| record.sequence) {
            Err(_) if sequence == Sequence::ZERO => Some(CHAIN_START),
            Ok(index) if (state.first_retained..=tail).contains(&sequence) => state.chain.get(index).copied(),
            Ok(_) | Err(_) => None,
        };
        ready(Ok(hash)).boxed()
    }

    fn tail(&self) -> watch::Receiver<Sequence> {
        self.tail.subscribe()
    }

    fn first_retained(&self) -> Sequence {
        self.state().first_retained
    }

    fn epochs(&self) -> Arc<[EpochFacts]> {
        Arc::clone(&self.epochs)
    }
}

impl State {
    fn record(&self, sequence: Sequence) -> Option<&Record> {
        let index = self.records.binary_search_by_key(&sequence, |record| record.sequence).ok()?;
        self.records.get(index)
    }
}

fn stored(verdict: &Verdict) -> Option<Appended> {
    match verdict {
        Verdict::Stored(appended) => Some(*appended),
        Verdict::Refused(_) | Verdict::Withheld => None,
    }
}

/// Whether a batch under this mode stores nothing.
fn stores_nothing(mode: AppendMode, verdicts: &[Verdict]) -> bool {
    mode == AppendMode::AllOrNothing && verdicts.iter().any(|verdict| matches!(verdict, Verdict::Refused(_)))
}
