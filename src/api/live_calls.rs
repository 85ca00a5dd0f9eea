//! The calls and streams that are being answered, by connection: what the operator sees, and what a stop waits for. It never ends one.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

/// All live calls of a node. Cheap to clone.
#[derive(Clone)]
pub struct LiveCalls(Arc<Inner>);

struct Inner {
    calls: Mutex<BTreeMap<(u64, u64), Arc<CallMeter>>>,
    next_number: AtomicU64,
    count: watch::Sender<usize>,
}

/// One live call. The handler finds it in the request's extensions (as `Arc<CallMeter>`) and says there how far it is.
#[derive(Debug)]
pub struct CallMeter {
    /// "/tradelane.v1.EventService/Subscribe" and the like.
    pub method: Arc<str>,
    /// When it began, nanoseconds since 1970.
    pub start_time_ns: i64,
    examined_sequence: AtomicU64,
    lag_events: AtomicU64,
    event_count: AtomicU64,
}

/// Keeps a call in the list for as long as it lives.
pub struct CallGuard {
    calls: LiveCalls,
    key: (u64, u64),
    /// The call.
    pub meter: Arc<CallMeter>,
}

impl LiveCalls {
    /// No calls yet.
    #[must_use]
    pub fn new() -> Self {
        let inner = Inner { calls: Mutex::default(), next_number: AtomicU64::new(0), count: watch::Sender::new(0) };
        Self(Arc::new(inner))
    }

    /// Lists a call until the guard is dropped.
    #[must_use]
    pub fn begin(&self, connection_id: u64, method: Arc<str>, start_time_ns: i64) -> CallGuard {
        let key = (connection_id, self.0.next_number.fetch_add(1, Ordering::Relaxed));
        let meter = Arc::new(CallMeter {
            method,
            start_time_ns,
            examined_sequence: AtomicU64::new(0),
            lag_events: AtomicU64::new(0),
            event_count: AtomicU64::new(0),
        });
        let count = {
            let mut calls = self.calls();
            calls.insert(key, meter.clone());
            calls.len()
        };
        self.0.count.send_replace(count);
        CallGuard { calls: self.clone(), key, meter }
    }

    /// The calls of one connection, oldest first.
    #[must_use]
    pub fn of_connection(&self, connection_id: u64) -> Vec<Arc<CallMeter>> {
        self.calls().range((connection_id, 0)..=(connection_id, u64::MAX)).map(|(_, meter)| meter.clone()).collect()
    }

    /// The calls of one method, over all connections.
    #[must_use]
    pub fn of_method(&self, method: &str) -> Vec<Arc<CallMeter>> {
        self.calls().values().filter(|meter| *meter.method == *method).cloned().collect()
    }

    /// Resolves when no call is left whose method the predicate picks.
    pub async fn none_left(&self, picks: impl Fn(&str) -> bool) {
        let mut count = self.0.count.subscribe();
        loop {
            count.borrow_and_update();
            if !self.calls().values().any(|meter| picks(&meter.method)) {
                return;
            }
            if count.changed().await.is_err() {
                return;
            }
        }
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Arc<CallMeter>>> {
        // The map stays right whoever panicked with the lock: each change is one step.
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallMeter {
    /// Says how far a reader is: the last sequence delivered or examined, and how many events are after it.
    pub fn set_examined(&self, sequence: u64, lag_events: u64) {
        self.examined_sequence.store(sequence, Ordering::Relaxed);
        self.lag_events.store(lag_events, Ordering::Relaxed);
    }

    /// Adds events that were sent or received.
    pub fn add_events(&self, count: u64) {
        self.event_count.fetch_add(count, Ordering::Relaxed);
    }

    /// The last sequence delivered or examined; 0 where the call does not read the log.
    #[must_use]
    pub fn examined_sequence(&self) -> u64 {
        self.examined_sequence.load(Ordering::Relaxed)
    }

    /// How many events a reader is behind.
    #[must_use]
    pub fn lag_events(&self) -> u64 {
        self.lag_events.load(Ordering::Relaxed)
    }

    /// Events sent or received.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.event_count.load(Ordering::Relaxed)
    }
}

impl Default for LiveCalls {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let count = {
            let mut calls = self.calls.calls();
            calls.remove(&self.key);
            calls.len()
        };
        self.calls.0.count.send_replace(count);
    }
}

impl fmt::Debug for LiveCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.calls().values()).finish()
    }
}

impl fmt::Debug for CallGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallGuard").field(&self.meter).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_is_listed_while_it_lives_and_a_stop_waits_for_it() {
        let calls = LiveCalls::new();
        let guard = calls.begin(7, "/a.A/Watch".into(), 1);
        let other = calls.begin(8, "/b.B/Watch".into(), 2);
        guard.meter.set_examined(41, 1);
        assert_eq!(calls.of_connection(7)[0].examined_sequence(), 41);
        assert_eq!(calls.of_method("/b.B/Watch").len(), 1);
        let waiting = calls.none_left(|method| method.starts_with("/a."));
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut waiting).await.is_err());
        drop(guard);
        waiting.await;
        assert!(calls.of_connection(7).is_empty());
        drop(other);
    }
}
