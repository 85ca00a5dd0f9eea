//! The search view's index: one of two families of runs, so that a rebuild fills the other and they change places at once. It never knows
//! what a term means.

use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc::SyncSender};

use futures::future::{BoxFuture, FutureExt};
use tokio::sync::oneshot;

use super::{
    handle::{in_shares, log_error, on_blocking_pool},
    packer::Command,
    shared::Shared,
};
use crate::{
    domain::{Sequence, term::TermHash},
    log::contract::{LogError, TermIndex},
    storage::{
        StorageError,
        fatal::FatalHook,
        keys,
        runs::RunFamily,
        store::{Store, Writer},
    },
};

/// The two families that take turns. Other numbers where terms are added: an index that lacks them is not asked, and the view fills another.
const FAMILIES: [u32; 2] = [4, 5];
/// Families that an earlier program filled, without the terms of holds.
const FORMER_FAMILIES: [u32; 2] = [2, 3];

/// Fewer terms than this are looked up by one thread: each is a part or a few to read.
const TERMS_A_SHARE_MIN: usize = 8;

/// A family and its number.
type Numbered = (u32, Arc<RunFamily>);

/// What opening a family takes.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub(super) store: Store,
    pub(super) memory_entries_max: usize,
    pub(super) damaged: FatalHook,
}

/// The index.
#[derive(Debug)]
pub struct SearchIndex {
    shared: Arc<Shared>,
    opening: Opening,
    commands: SyncSender<Command>,
    current: Arc<RwLock<Numbered>>,
    next: Arc<Mutex<Option<Numbered>>>,
}

impl Opening {
    /// A family that is about to be emptied. Where its remains cannot even be named, only a start can be rid of them.
    fn open(&self, number: u32) -> Result<Arc<RunFamily>, StorageError> {
        let opened = RunFamily::open(&self.store, number, self.memory_entries_max, self.damaged.clone());
        opened.inspect_err(|error| {
            if error.is_damage() {
                self.damaged.fail(&error.with_cause());
            }
        })
    }
}

/// Which family answered when the log was last open.
pub(super) fn family_in_use(store: &Store) -> Result<u32, StorageError> {
    let stored = store.get(keys::FAMILIES)?;
    let number = stored.and_then(|bytes| bytes[..].try_into().ok().map(u32::from_be_bytes));
    Ok(number.filter(|number| FAMILIES.contains(number)).unwrap_or(FAMILIES[0]))
}

/// Removes what an earlier program filled.
pub(super) fn remove_former(opening: &Opening, writer: &mut Writer) -> Result<(), StorageError> {
    for number in FORMER_FAMILIES {
        if opening.store.get(&keys::manifest(number))?.is_some() {
            let family = opening.open(number)?;
            if family.complete_through() > Sequence::ZERO {
                tracing::info!("the search index is of an earlier program: it is built anew from the log");
                family.clear(writer)?;
            }
            while family.maintain(writer)? {}
        }
    }
    Ok(())
}

impl SearchIndex {
    pub(super) fn new(
        shared: Arc<Shared>,
        opening: Opening,
        commands: SyncSender<Command>,
        (number, family): Numbered,
    ) -> Self {
        let current = Arc::new(RwLock::new((number, family)));
        Self { shared, opening, commands, current, next: Arc::default() }
    }

    /// The family that answers.
    pub(super) fn family(&self) -> Arc<RunFamily> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    fn beside(&self, number: u32, family: Arc<RunFamily>) -> Self {
        let (shared, commands) = (Arc::clone(&self.shared), self.commands.clone());
        Self::new(shared, self.opening.clone(), commands, (number, family))
    }
}

/// Has the owner of sled do something, and waits until it is durable.
async fn write(
    shared: &Shared,
    commands: &SyncSender<Command>,
    work: impl FnOnce(&mut Writer) -> Result<(), StorageError> + Send + 'static,
) -> Result<(), LogError> {
    let (done, answer) = oneshot::channel();
    let closing = || LogError::Storage("the log is closing".to_owned());
    commands.try_send(Command::Write(Box::new(work), done)).map_err(|_| closing())?;
    shared.wake.notify_all();
    answer.await.map_err(|_| closing())
}

impl TermIndex for SearchIndex {
    fn add(&self, entries: Vec<(TermHash, Sequence)>, through: Sequence) -> BoxFuture<'static, Result<(), LogError>> {
        let (family, shared) = (self.family(), Arc::clone(&self.shared));
        async move {
            // Writing runs lags behind only while the disk is busy: the view waits, the log does not.
            while family.is_backlogged() {
                shared.wake.notify_all();
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            family.add(&entries, through);
            Ok(())
        }
        .boxed()
    }

    fn complete_through(&self) -> Sequence {
        self.family().complete_through()
    }

    fn lookup(
        &self,
        term: TermHash,
        after: Sequence,
        before: Sequence,
        descending: bool,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Sequence>, LogError>> {
        let family = self.family();
        on_blocking_pool(move || family.lookup(term, after, before, descending, limit))
    }

    fn all_places(
        &self,
        terms: Vec<TermHash>,
        before: Sequence,
        count_max: usize,
    ) -> BoxFuture<'static, Result<Vec<Option<Vec<Sequence>>>, LogError>> {
        let family = self.family();
        in_shares(terms, TERMS_A_SHARE_MIN, move |terms| {
            terms.into_iter().map(|term| family.all_places(term, before, count_max)).collect()
        })
    }

    fn estimate(&self, term: TermHash) -> u64 {
        self.family().estimate(term)
    }

    fn open_next(&self) -> BoxFuture<'static, Result<Arc<dyn TermIndex>, LogError>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner).0;
        let number = if current == FAMILIES[0] { FAMILIES[1] } else { FAMILIES[0] };
        let opened = self.opening.open(number).map_err(log_error);
        let (shared, commands, next) = (Arc::clone(&self.shared), self.commands.clone(), Arc::clone(&self.next));
        let beside = opened.map(|family| (self.beside(number, Arc::clone(&family)), family));
        async move {
            let (beside, family) = beside?;
            let emptied = Arc::clone(&family);
            write(&shared, &commands, move |writer| emptied.clear(writer)).await?;
            let maintained = Command::Maintain(Arc::clone(&family));
            commands.try_send(maintained).map_err(|_| LogError::Storage("the log is closing".to_owned()))?;
            *next.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, family));
            Ok(Arc::new(beside) as Arc<dyn TermIndex>)
        }
        .boxed()
    }

    fn replace_by_next(&self) -> BoxFuture<'static, Result<(), LogError>> {
        let taken = self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (shared, commands, current) = (Arc::clone(&self.shared), self.commands.clone(), Arc::clone(&self.current));
        async move {
            let (number, family) =
                taken.ok_or_else(|| LogError::Storage("there is no next generation of the index".to_owned()))?;
            write(&shared, &commands, move |writer| writer.put(keys::FAMILIES, &number.to_be_bytes())).await?;
            let (_, old) = {
                let mut current = current.write().unwrap_or_else(PoisonError::into_inner);
                std::mem::replace(&mut *current, (number, family))
            };
            let forgotten = Command::Forget(Arc::clone(&old));
            commands.try_send(forgotten).map_err(|_| LogError::Storage("the log is closing".to_owned()))?;
            write(&shared, &commands, move |writer| {
                old.clear(writer)?;
                while old.maintain(writer)? {}
                Ok(())
            })
            .await
        }
        .boxed()
    }
}
