//! A store in memory that keeps the contract, for tests of whatever stands on a store. It also plays slow disks, crashes and refusals. It
//! never survives the process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, ready};
use tokio::sync::oneshot;

use super::{Change, StateStore, Table, WriteError, checked, whole_key};
use crate::storage::state::{StateChange, StateTable, TABLE_BYTES_MAX};

/// The store. Its writes become durable at once, unless [`MemoryStore::hold`] was called.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
}

/// A write that is not durable yet, and who waits for it.
type Held = (Vec<StateChange>, oneshot::Sender<Result<(), WriteError>>);

#[derive(Debug, Default)]
struct Inner {
    table: StateTable,
    held: bool,
    waiting: Vec<Held>,
    failing: Option<WriteError>,
    writes: u64,
}

impl MemoryStore {
    /// From now on nothing becomes durable, as on a slow disk, until [`MemoryStore::release`].
    pub fn hold(&self) {
        self.inner().held = true;
    }

    /// Everything that was held becomes durable.
    pub fn release(&self) {
        let mut inner = self.inner();
        inner.held = false;
        for (changes, reply) in std::mem::take(&mut inner.waiting) {
            inner.apply(changes);
            // Whoever hung up does not want to know.
            let _ = reply.send(Ok(()));
        }
    }

    /// As after a power cut: what was durable, and the first `kept` writes of those that were held.
    #[must_use]
    pub fn crashed(&self, kept: usize) -> Self {
        let inner = self.inner();
        let mut table = inner.table.clone();
        for (changes, _) in inner.waiting.iter().take(kept) {
            for change in changes {
                table.apply(change.clone());
            }
        }
        Self { inner: Arc::new(Mutex::new(Inner { table, ..Inner::default() })) }
    }

    /// How many writes are held.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner().waiting.len()
    }

    /// How many writes were asked for.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.inner().writes
    }

    /// Refuses every write from now on, or takes them again.
    pub fn fail_with(&self, failing: Option<WriteError>) {
        self.inner().failing = failing;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A poisoned lock means that a test failed inside; every change is one step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn apply(&mut self, changes: Vec<StateChange>) {
        for change in changes {
            self.table.apply(change);
        }
    }
}

impl StateStore for MemoryStore {
    fn load(&self, table: Table, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        let inner = self.inner();
        inner.table.with_prefix(&whole_key(table, prefix)).map(|(key, value)| (key.slice(1..), value.clone())).collect()
    }

    fn get(&self, table: Table, key: &[u8]) -> Option<Bytes> {
        self.inner().table.get(&whole_key(table, key)).cloned()
    }

    fn write(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<(), WriteError>> {
        let mut inner = self.inner();
        inner.writes += 1;
        if let Some(failing) = &inner.failing {
            return ready(Err(failing.clone())).boxed();
        }
        let changes = match checked(changes) {
            Ok((changes, _)) => changes,
            Err(refused) => return ready(Err(refused)).boxed(),
        };
        let growth = inner.table.growth_bytes(&changes);
        if growth > 0 && inner.table.bytes() + growth > TABLE_BYTES_MAX {
            return ready(Err(WriteError::Full { bytes_max: TABLE_BYTES_MAX })).boxed();
        }
        if !inner.held {
            inner.apply(changes);
            return ready(Ok(())).boxed();
        }
        let (reply, answer) = oneshot::channel();
        inner.waiting.push((changes, reply));
        async move { answer.await.unwrap_or_else(|_| Err(WriteError::Storage("the store is gone".to_owned()))) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_store_in_memory_keeps_the_contract() {
        crate::store::suite::keeps_the_contract(Arc::new(MemoryStore::default())).await;
    }

    #[tokio::test]
    async fn what_is_held_is_neither_shown_nor_answered() {
        let store = MemoryStore::default();
        store.hold();
        let change = |value: u8| Change { table: Table::Cursors, key: vec![1].into(), value: Some(vec![value].into()) };
        let mut first = store.write(vec![change(1)]);
        let _second = store.write(vec![change(2)]);
        assert!(futures::poll!(&mut first).is_pending());
        assert_eq!(store.get(Table::Cursors, &[1]), None);
        assert_eq!(store.crashed(1).get(Table::Cursors, &[1]), Some(vec![1].into()));
        store.release();
        assert_eq!(first.await, Ok(()));
        assert_eq!(store.get(Table::Cursors, &[1]), Some(vec![2].into()));
    }
}
