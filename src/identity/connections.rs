//! The live connections: who is connected, from where, with which certificate, and how to end them. It never reads or writes a socket.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

use super::{
    Caller,
    trust::{Reason, Refusal, VerifiedPeer},
};
use crate::{clock::Clock, domain::SpiffeId, telemetry};

/// Of so many participants it is remembered when they were last here, so that nobody can fill the memory with names.
const PARTICIPANTS_MAX: usize = 10_000;

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub all_max: usize,
    /// From one IP address.
    pub per_address_max: usize,
}

/// One live connection.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// Who makes its calls.
    pub caller: Caller,
    /// When its handshake was done, nanoseconds since 1970.
    pub connect_time_ns: i64,
    /// What the client's certificate says and the chain that it came in.
    pub peer: VerifiedPeer,
}

/// A participant seen since the process started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParticipantSeen {
    /// Who.
    pub id: SpiffeId,
    /// Live connections.
    pub connection_count: u32,
    /// When a connection of her was last opened or closed, or now while one is live, nanoseconds since 1970.
    pub last_seen_ns: i64,
}

/// All connections of a node. Cheap to clone; every clone speaks of the same ones.
#[derive(Clone)]
pub struct Connections(Arc<Inner>);

struct Inner {
    limits: ConnectionLimits,
    clock: Arc<dyn Clock>,
    next_id: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    places_taken: usize,
    by_address: HashMap<IpAddr, usize>,
    live: BTreeMap<u64, ConnectionInfo>,
    last_seen: BTreeMap<SpiffeId, i64>,
}

/// A place among the connections, taken when one is accepted and given back when it is gone.
#[derive(Debug)]
pub struct Place {
    connections: Connections,
    remote_address: SocketAddr,
    listed: Option<(u64, SpiffeId)>,
}

impl Connections {
    /// None yet.
    #[must_use]
    pub fn new(limits: ConnectionLimits, clock: Arc<dyn Clock>) -> Self {
        let inner = Inner { limits, clock, next_id: AtomicU64::new(1), state: Mutex::default() };
        Self(Arc::new(inner))
    }

    /// Takes a place for a connection that was accepted and has yet to prove who it is.
    ///
    /// # Errors
    /// There are too many, or too many from its address.
    pub fn take_place(&self, remote_address: SocketAddr) -> Result<Place, Refusal> {
        let limits = self.0.limits;
        let mut state = self.state();
        if limits.all_max <= state.places_taken {
            let why = format!("the node has {} connections, as many as it may", state.places_taken);
            return Err(Refusal::new(Reason::TooManyConnections, why));
        }
        let of_address = state.by_address.entry(remote_address.ip()).or_default();
        if limits.per_address_max <= *of_address {
            let why = format!("{} has {of_address} connections, as many as one address may", remote_address.ip());
            return Err(Refusal::new(Reason::TooManyConnections, why));
        }
        *of_address += 1;
        state.places_taken += 1;
        Ok(Place { connections: self.clone(), remote_address, listed: None })
    }

    /// The live connections, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<ConnectionInfo> {
        self.state().live.values().cloned().collect()
    }

    /// How many are live.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.state().live.len()
    }

    /// Ends the connections for which the predicate has a reason: their streams end with it, and after a short grace their sockets are
    /// closed. Returns those that were not ending before.
    pub fn close(&self, reason: impl Fn(&ConnectionInfo) -> Option<String>) -> Vec<ConnectionInfo> {
        let mut closed = Vec::new();
        for connection in self.list() {
            if let Some(reason) = reason(&connection)
                && connection.caller.close(reason)
            {
                closed.push(connection);
            }
        }
        closed
    }

    /// The participants seen since the process started, in order of their names.
    #[must_use]
    pub fn participants(&self) -> Vec<ParticipantSeen> {
        let now_ns = self.0.clock.now_ns();
        let state = self.state();
        let mut counts: BTreeMap<&SpiffeId, u32> = BTreeMap::new();
        for connection in state.live.values() {
            *counts.entry(&connection.caller.id).or_default() += 1;
        }
        let seen = |(id, last_seen_ns): (&SpiffeId, &i64)| {
            let connection_count = counts.get(id).copied().unwrap_or_default();
            let last_seen_ns = if connection_count > 0 { now_ns } else { *last_seen_ns };
            ParticipantSeen { id: id.clone(), connection_count, last_seen_ns }
        };
        state.last_seen.iter().map(seen).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is made of steps that cannot panic, so what a panicking holder left is right.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish_count(count: usize) {
        metrics::gauge!(telemetry::CONNECTIONS).set(count as f64);
    }
}

impl Place {
    /// Lists the connection of a client whose certificate was believed, and makes the caller of its requests.
    pub fn list(&mut self, peer: VerifiedPeer) -> Caller {
        let connect_time_ns = self.connections.0.clock.now_ns();
        let connection_id = self.connections.0.next_id.fetch_add(1, Ordering::Relaxed);
        let caller = Caller {
            id: peer.id.clone(),
            connection_id,
            remote_address: self.remote_address,
            certificate_not_after_ns: peer.facts.not_after_ns,
            closing: CancellationToken::new(),
            closing_reason: Arc::new(OnceLock::new()),
        };
        self.listed = Some((connection_id, peer.id.clone()));
        let count = {
            let mut state = self.connections.state();
            state.see(&peer.id, connect_time_ns);
            state.live.insert(connection_id, ConnectionInfo { caller: caller.clone(), connect_time_ns, peer });
            state.live.len()
        };
        Connections::publish_count(count);
        caller
    }
}

impl State {
    fn see(&mut self, id: &SpiffeId, now_ns: i64) {
        if PARTICIPANTS_MAX <= self.last_seen.len() && !self.last_seen.contains_key(id) {
            let oldest = self.last_seen.iter().min_by_key(|(_, time_ns)| **time_ns).map(|(id, _)| id.clone());
            oldest.and_then(|id| self.last_seen.remove(&id));
        }
        self.last_seen.insert(id.clone(), now_ns);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let now_ns = self.connections.0.clock.now_ns();
        let count = {
            let mut state = self.connections.state();
            state.places_taken -= 1;
            if let Some(of_address) = state.by_address.get_mut(&self.remote_address.ip()) {
                *of_address -= 1;
                if *of_address == 0 {
                    state.by_address.remove(&self.remote_address.ip());
                }
            }
            self.listed.take().map(|(connection_id, id)| {
                state.live.remove(&connection_id);
                state.see(&id, now_ns);
                state.live.len()
            })
        };
        if let Some(count) = count {
            Connections::publish_count(count);
        }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

impl Caller {
    /// Ends the connection with a reason: its streams end with it, then its socket is closed. False where it was ending already.
    pub(super) fn close(&self, reason: String) -> bool {
        let first = self.closing_reason.set(reason).is_ok();
        self.closing.cancel();
        first
    }

    /// Whether the connection is ending, and why.
    #[must_use]
    pub fn ending(&self) -> Option<&str> {
        self.closing
            .is_cancelled()
            .then(|| self.closing_reason.get().map_or("the connection is ending", String::as_str))
    }
}
