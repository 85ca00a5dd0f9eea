//! What belongs together, from the association events of the log: bills, declarations, containers, parties of a consignment. Kept in
//! memory (some two hundred and forty bytes a statement) and read back at start by way of the search index. It never decides who may bind
//! a party: the publish door did, before the event was stored.

mod few;
pub mod graph;
mod group;
mod interner;
pub mod statement;
mod statements;

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use futures::future::{BoxFuture, FutureExt};
use tokio::sync::watch;

use self::{
    graph::{Graph, Tie},
    statement::{Statement, Subject},
};
use crate::{
    domain::{
        HeaderRef, Sequence,
        bindings::{BindingsFeed, NewBinding, PartyBindings, SubjectKey},
        filter::TermPlan,
        term::{TermHash, TermKind},
    },
    log::{Chunk, EventLog, LogError, Record, contract::TermIndex},
    views::{decoded::Decoded, runner::View},
};

/// The body's field number in `Event`.
const ASSOCIATION_BODY: u8 = 26;
/// How many association events are fetched at once while they are read back: with the largest events 16 MiB.
const LOAD_BATCH: usize = 256;

/// The associations view.
#[derive(Debug)]
pub struct Associations {
    graph: RwLock<Graph>,
    progress: watch::Sender<Sequence>,
    next: RwLock<Option<Arc<Associations>>>,
}

/// The view together with what it reads from: what its runner drives.
pub struct AssociationsView {
    state: Arc<Associations>,
    log: Arc<dyn EventLog>,
    index: Option<Arc<dyn TermIndex>>,
}

impl Default for Associations {
    fn default() -> Self {
        Self { graph: RwLock::default(), progress: watch::Sender::new(Sequence::ZERO), next: RwLock::default() }
    }
}

impl Associations {
    /// The subjects of this kind and value that associations in force name; an empty issuer or date fits any.
    #[must_use]
    pub fn matching(&self, asked: &SubjectKey<'_>) -> Vec<Subject> {
        self.graph().matching(asked)
    }

    /// The ties of a subject to its parents and children. Whoever shows one must first see that the caller may read a statement that
    /// holds it up.
    #[must_use]
    pub fn ties(&self, subject: &Subject) -> Vec<Tie> {
        self.graph().ties(subject)
    }

    /// All that a participant is bound to; none where that is more than `count_max`.
    #[must_use]
    pub fn bound_subjects(&self, participant: &str, count_max: usize) -> Option<BTreeSet<Subject>> {
        self.graph().bound_subjects(participant, count_max)
    }

    /// Takes in the associations among some records, and notes through where all are applied.
    fn apply(&self, records: &[Record], through: Sequence) -> Result<(), LogError> {
        let mut statements = Vec::new();
        for record in records {
            let header = HeaderRef::parse(&record.header)
                .map_err(|error| LogError::Damaged(format!("sequence {}: {error}", record.sequence)))?;
            if header.types().any(|one| one.body == ASSOCIATION_BODY) {
                statements.extend(Statement::of(&Decoded::of(record)?));
            }
        }
        if !statements.is_empty() {
            self.graph.write().unwrap_or_else(PoisonError::into_inner).apply(statements);
        }
        self.progress.send_if_modified(|applied| {
            let moved = *applied < through;
            *applied = through.max(*applied);
            moved
        });
        Ok(())
    }

    fn graph(&self) -> RwLockReadGuard<'_, Graph> {
        self.graph.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartyBindings for Associations {
    fn is_bound(&self, participant: &str, subject: &SubjectKey<'_>) -> bool {
        self.graph().is_bound(participant, subject)
    }
}

impl BindingsFeed for Associations {
    fn progress(&self) -> watch::Receiver<Sequence> {
        self.progress.subscribe()
    }

    fn newly_bound(&self, participant: &str, after: Sequence) -> Vec<NewBinding> {
        self.graph().newly_bound(participant, after)
    }

    fn forgotten_through(&self, participant: &str) -> Sequence {
        self.graph().forgotten_through(participant)
    }
}

impl AssociationsView {
    /// The view over a log, read back at start by way of an index.
    #[must_use]
    pub fn new(state: Arc<Associations>, log: Arc<dyn EventLog>, index: Arc<dyn TermIndex>) -> Self {
        Self { state, log, index: Some(index) }
    }

    async fn read_back(&self, index: &dyn TermIndex) -> Result<Sequence, LogError> {
        let through = index.complete_through();
        let mut after = Sequence(self.log.first_retained().get().saturating_sub(1));
        loop {
            let places = index.lookup(association_term(), after, through.next(), false, LOAD_BATCH).await?;
            let Some(last) = places.last().copied() else { break };
            let records = self.log.get(places).await?;
            self.state.apply(&records, last)?;
            after = last;
        }
        self.state.apply(&[], through)?;
        Ok(through)
    }
}

impl View for AssociationsView {
    fn name(&self) -> &'static str {
        "associations"
    }

    fn terms(&self) -> Option<Arc<TermPlan>> {
        Some(Arc::new(vec![vec![vec![association_term()]]]))
    }

    fn load(&self) -> BoxFuture<'_, Result<Sequence, LogError>> {
        async move {
            match &self.index {
                Some(index) => self.read_back(&**index).await,
                None => Ok(Sequence(self.log.first_retained().get().saturating_sub(1))),
            }
        }
        .boxed()
    }

    fn apply<'a>(&'a self, chunk: &'a Chunk) -> BoxFuture<'a, Result<(), LogError>> {
        async move { self.state.apply(&chunk.records, chunk.through) }.boxed()
    }

    fn open_next(&self) -> BoxFuture<'_, Result<Arc<dyn View>, LogError>> {
        async move {
            let state = Arc::new(Associations::default());
            *self.state.next.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&state));
            // A rebuild trusts nothing but the log.
            Ok(Arc::new(Self { state, log: Arc::clone(&self.log), index: None }) as Arc<dyn View>)
        }
        .boxed()
    }

    fn replace_by_next(&self) -> BoxFuture<'_, Result<(), LogError>> {
        async move {
            let next = self.state.next.write().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(next) = next {
                let fresh = std::mem::take(&mut *next.graph.write().unwrap_or_else(PoisonError::into_inner));
                *self.state.graph.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                let through = *next.progress.borrow();
                self.state.apply(&[], through)?;
            }
            Ok(())
        }
        .boxed()
    }
}

impl std::fmt::Debug for AssociationsView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AssociationsView").finish_non_exhaustive()
    }
}

fn association_term() -> TermHash {
    TermHash::of(TermKind::BodyType, &[&[ASSOCIATION_BODY]])
}

#[cfg(test)]
mod tests;
