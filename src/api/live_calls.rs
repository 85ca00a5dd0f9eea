//! The calls and streams that are being answered, by connection: what the operator sees, and what a stop waits for. It never ends one.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;
use tonic::Request;

use crate::{
    domain::Sequence,
    subscribe::{SessionInfo, durable::Standpoint},
};

/// All live calls of a node. Cheap to clone.
#[derive(Clone)]
pub struct LiveCalls(Arc<Inner>);

struct Inner {
    calls: Mutex<BTreeMap<(u64, u64), Arc<LiveCall>>>,
    next_number: AtomicU64,
    /// Told at each end.
    ended: Notify,
}

/// One live call. Whoever answers it says what it carries and how far its reader is.
#[derive(Debug, Default)]
pub struct LiveCall {
    /// "/tradelane.v1.EventService/Subscribe" and the like.
    pub method: Arc<str>,
    /// When it began, nanoseconds since 1970.
    pub start_time_ns: i64,
    carried_events: AtomicU64,
    reader: OnceLock<Reader>,
}

/// What knows how far the reader of a call is.
#[derive(Debug)]
pub enum Reader {
    /// The session behind a `Subscribe` or a watch.
    Live(Arc<SessionInfo>),
    /// The durable subscription behind a `Consume`.
    Durable(Standpoint),
}

/// Keeps a call in the list for as long as it lives.
pub struct CallGuard {
    calls: LiveCalls,
    key: (u64, u64),
    call: Arc<LiveCall>,
}

impl LiveCall {
    /// The call that a request belongs to; one that nobody lists where the request did not come over a connection.
    #[must_use]
    pub fn of<T>(request: &Request<T>) -> Arc<Self> {
        request.extensions().get::<Arc<Self>>().cloned().unwrap_or_default()
    }

    /// Counts events that were handed to the caller or taken from her.
    pub fn carried(&self, events: usize) {
        self.carried_events.fetch_add(events as u64, Ordering::Relaxed);
    }

    /// How many events it carried so far.
    #[must_use]
    pub fn carried_events(&self) -> u64 {
        self.carried_events.load(Ordering::Relaxed)
    }

    /// Says once who reads over it.
    pub fn is_read_by(&self, reader: Reader) {
        // A call is answered once, so that nobody has said it before.
        let _ = self.reader.set(reader);
    }

    /// The last place that was delivered over it or did not concern its reader; none where nobody reads.
    #[must_use]
    pub fn examined(&self) -> Option<Sequence> {
        self.reader.get().map(|reader| match reader {
            Reader::Live(session) => session.reached(),
            Reader::Durable(subscription) => subscription.examined(),
        })
    }
}

impl LiveCalls {
    /// No calls yet.
    #[must_use]
    pub fn new() -> Self {
        let inner = Inner { calls: Mutex::default(), next_number: AtomicU64::new(0), ended: Notify::new() };
        Self(Arc::new(inner))
    }

    /// Lists a call until the guard is dropped.
    #[must_use]
    pub fn begin(&self, connection_id: u64, method: Arc<str>, start_time_ns: i64) -> CallGuard {
        let key = (connection_id, self.0.next_number.fetch_add(1, Ordering::Relaxed));
        let call = Arc::new(LiveCall { method, start_time_ns, ..LiveCall::default() });
        self.calls().insert(key, Arc::clone(&call));
        CallGuard { calls: self.clone(), key, call }
    }

    /// The calls of one connection, oldest first.
    #[must_use]
    pub fn of_connection(&self, connection_id: u64) -> Vec<Arc<LiveCall>> {
        self.calls().range((connection_id, 0)..=(connection_id, u64::MAX)).map(|(_, call)| call.clone()).collect()
    }

    /// Resolves when no call is left whose method the predicate picks.
    pub async fn none_left(&self, picks: impl Fn(&str) -> bool) {
        loop {
            // Hears from here on: a call that ends while the list is looked at ends the wait at once.
            let ended = self.0.ended.notified();
            if !self.calls().values().any(|call| picks(&call.method)) {
                return;
            }
            ended.await;
        }
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Arc<LiveCall>>> {
        // The map stays right whoever panicked with the lock: each change is one step.
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallGuard {
    /// The call that it keeps.
    #[must_use]
    pub const fn call(&self) -> &Arc<LiveCall> {
        &self.call
    }
}

impl Default for LiveCalls {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.calls.calls().remove(&self.key);
        self.calls.0.ended.notify_waiters();
    }
}

impl fmt::Debug for LiveCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.calls().values()).finish()
    }
}

impl fmt::Debug for CallGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallGuard").field(&self.key).finish()
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
        assert_eq!(calls.of_connection(7)[0].start_time_ns, 1);
        assert_eq!(calls.of_connection(8).len(), 1);
        let waiting = calls.none_left(|method| method.starts_with("/a."));
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut waiting).await.is_err());
        drop(guard);
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("the wait ends with the call");
        assert!(calls.of_connection(7).is_empty());
        drop(other);
    }
}
