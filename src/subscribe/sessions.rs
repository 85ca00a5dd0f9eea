//! Who reads now: for the operator's list of connections, and to explain what became of an event. It never holds a message.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    domain::{Filter, Sequence, SpiffeId},
    identity::Caller,
};

/// The live sessions of a node.
#[derive(Debug, Default)]
pub struct Sessions {
    inner: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    last_number: u64,
    by_number: BTreeMap<u64, Arc<SessionInfo>>,
}

/// One live session. What it counts moves while one looks.
#[derive(Debug)]
pub struct SessionInfo {
    /// Whose it is.
    pub participant: SpiffeId,
    /// Over which connection.
    pub connection_id: u64,
    /// When it was opened, nanoseconds since 1970.
    pub open_time_ns: i64,
    /// The caller's own filters; none: all that her rights admit.
    pub filters: Arc<[Filter]>,
    /// The place after which it began.
    pub began_after: Sequence,
    reached: AtomicU64,
    delivered_events: AtomicU64,
}

/// A session's entry, which ends with it.
pub(super) struct Entry {
    sessions: Arc<Sessions>,
    number: u64,
    pub(super) info: Arc<SessionInfo>,
}

impl SessionInfo {
    pub(super) fn new(caller: &Caller, filters: Arc<[Filter]>, began_after: Sequence, now_ns: i64) -> Self {
        Self {
            participant: caller.id.clone(),
            connection_id: caller.connection_id,
            open_time_ns: now_ns,
            filters,
            began_after,
            reached: AtomicU64::new(began_after.get()),
            delivered_events: AtomicU64::new(0),
        }
    }

    /// The last place that was delivered to the reader's window, or did not concern her.
    #[must_use]
    pub fn reached(&self) -> Sequence {
        Sequence(self.reached.load(Ordering::Relaxed))
    }

    /// How many events were delivered.
    #[must_use]
    pub fn delivered_events(&self) -> u64 {
        self.delivered_events.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, reached: Sequence, delivered_events: usize) {
        self.reached.store(reached.get(), Ordering::Relaxed);
        self.delivered_events.fetch_add(delivered_events as u64, Ordering::Relaxed);
    }
}

impl Sessions {
    /// All live sessions, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<SessionInfo>> {
        self.registry().by_number.values().cloned().collect()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.registry().by_number.len()
    }

    /// Enters a session, unless there are as many as may be.
    pub(super) fn enter(self: &Arc<Self>, info: SessionInfo, sessions_max: usize) -> Option<Entry> {
        let mut registry = self.registry();
        if sessions_max <= registry.by_number.len() {
            return None;
        }
        registry.last_number += 1;
        let number = registry.last_number;
        let info = Arc::new(info);
        registry.by_number.insert(number, Arc::clone(&info));
        Some(Entry { sessions: Arc::clone(self), number, info })
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // Every change is one step, so that a panic with the lock held leaves the registry whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.sessions.registry().by_number.remove(&self.number);
    }
}
