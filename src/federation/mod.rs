//! Federation: nodes forward events to their peers. Each direction between two nodes is a stream that the receiver opens and drives; all
//! that it needs is the log and one position. It never queues an event for a peer, and never gives one that the agreement or the event's
//! audience does not allow.
//!
//! ```text
//! source:    log::follow ▸ agreement ▸ outbox ═══ Replicate, mutual TLS ═══▶ inbox ▸ peer door ▸ log::append    :receiver
//!                                        ◀═════ position, credit, acknowledgement ═════
//! ```
//! In reading order: [`position`], [`progress`], [`table`] (what is known of a link), [`agreement`], [`history`] and [`outbox`] (the source), [`door`] and
//! [`inbox`] (the receiver), [`opening`] (where the two go on), [`link`] (dialling and pauses), [`taking_back`] (after a restore).

pub mod agreement;
mod changes;
pub mod dial;
pub mod door;
pub mod ended;
pub mod history;
pub mod inbox;
pub mod link;
pub mod lives;
pub mod messages;
mod noting;
pub mod opening;
pub mod operate;
pub mod outbox;
pub mod position;
pub mod progress;
pub mod reach;
pub mod runs;
pub mod sources;
pub mod stretches;
pub mod table;
pub mod taking_back;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::{
    dial::{Dial, TlsDial},
    progress::{PeerProgress, ProgressFile, ProgressStore, Quarantined},
    table::{Direction, LinkState, LinkStatus, PeerStatus, PeerTable},
};
use self::{
    link::Link,
    outbox::{Outbox, Requests, Responses},
    taking_back::Closed,
};
use crate::{
    clock::Clock,
    domain::{SpiffeId, bindings::BindingsFeed},
    identity::{Access, Caller, Peers},
    log::EventLog,
    storage::StorageError,
    tasks::{OnFailure, Tasks},
};

/// What is remembered is written at most so often, unless somebody waits for it: it may lag, since duplicates are absorbed.
const WRITE_INTERVAL: Duration = Duration::from_millis(500);

/// What federation works with.
pub struct FederationParts {
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// The grants.
    pub access: Arc<Access>,
    /// The peers file in force.
    pub peers: watch::Receiver<Arc<Peers>>,
    /// What associations bind.
    pub bindings: Arc<dyn BindingsFeed>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// This node.
    pub node: SpiffeId,
    /// The state of every link.
    pub table: Arc<PeerTable>,
    /// Resolves when the node begins to stop.
    pub draining: CancellationToken,
}

/// The links of a node.
pub struct Federation {
    parts: Arc<FederationParts>,
    /// The stream that each receiver has open.
    receivers: Mutex<HashMap<SpiffeId, CancellationToken>>,
    /// Why publishing is closed for now.
    closed: watch::Sender<Closed>,
}

impl Federation {
    /// Federation that takes nothing yet.
    #[must_use]
    pub fn new(parts: FederationParts) -> Self {
        let closed = watch::Sender::new(taking_back::at_start(&parts));
        Self { parts: Arc::new(parts), receivers: Mutex::default(), closed }
    }

    /// Federation of a node without peers, for tests of what stands above it.
    #[cfg(test)]
    pub(crate) fn alone(log: Arc<dyn EventLog>, bindings: Arc<dyn BindingsFeed>, node: SpiffeId) -> Self {
        let clock = Arc::new(crate::clock::TestClock::at_ns(0));
        Self::new(FederationParts {
            log,
            access: Arc::new(Access::new(crate::identity::Policy::default())),
            peers: watch::Sender::new(Arc::default()).subscribe(),
            bindings,
            table: Arc::new(PeerTable::new(clock.clone(), std::collections::BTreeMap::new())),
            clock,
            node,
            draining: CancellationToken::new(),
        })
    }

    /// What is remembered of the peers of a node. Blocking.
    ///
    /// # Errors
    /// The file is damaged or cannot be read.
    pub fn remembered(data_dir: &Path, clock: Arc<dyn Clock>) -> Result<Arc<PeerTable>, StorageError> {
        let remembered = ProgressFile::in_dir(data_dir).load()?;
        Ok(Arc::new(PeerTable::new(clock, remembered)))
    }

    /// The state of every link.
    #[must_use]
    pub fn table(&self) -> &Arc<PeerTable> {
        &self.parts.table
    }

    /// What federation works with.
    #[must_use]
    pub fn parts(&self) -> &Arc<FederationParts> {
        &self.parts
    }

    /// Starts the links to the peers of the file, follows the file's changes, and writes what is remembered.
    pub fn start(&self, dial: Arc<dyn Dial>, store: Arc<dyn ProgressStore>, tasks: &Tasks) {
        let supervising = supervise(self.parts.clone(), dial, tasks.clone());
        tasks.spawn("peer links", OnFailure::StopNode, supervising);
        let taking_back = taking_back::run(self.parts.clone(), self.closed.clone(), tasks.stopping());
        tasks.spawn("taking back", OnFailure::StopNode, taking_back);
        tasks.spawn("agreements", OnFailure::StopNode, noting::run(self.parts.clone(), tasks.stopping()));
        tasks.spawn("peer progress", OnFailure::StopNode, write(self.parts.table.clone(), store, tasks.stopping()));
    }

    /// Serves a receiver that has called, until the stream ends. A receiver has one stream: a new one ends the one before.
    pub async fn serve(&self, caller: Caller, requests: Requests, responses: Responses) {
        let superseded = CancellationToken::new();
        let (before, reservation) = {
            let mut receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
            // In one step, so that the stream that ends the others is the one that may send.
            (receivers.insert(caller.id.clone(), superseded.clone()), self.parts.table.begin_stream(&caller.id))
        };
        if let Some(before) = before {
            before.cancel();
        }
        Outbox::new(self.parts.clone(), caller, responses, superseded).serve(requests, reservation).await;
    }
}

/// Keeps a link to each peer with an address. Any change of the file begins all of them anew: who lives where decides at every door.
async fn supervise(parts: Arc<FederationParts>, dial: Arc<dyn Dial>, tasks: Tasks) -> Result<(), String> {
    let stopping = tasks.stopping();
    let mut files = parts.peers.clone();
    loop {
        let peers = Arc::clone(&files.borrow_and_update());
        let of_this_file = stopping.child_token();
        for peer in peers.peers.iter().filter(|peer| peer.address.is_some()) {
            let (parts, dial, peer) = (parts.clone(), dial.clone(), peer.clone());
            let stop = of_this_file.clone();
            tasks.spawn_restarting("peer link", move || {
                let (parts, dial, peer) = (parts.clone(), dial.clone(), peer.clone());
                let link = Link { parts, dial, peer, stop: stop.clone() };
                async move {
                    link.run().await;
                    Ok::<(), String>(())
                }
            });
        }
        let changed = tokio::select! {
            biased;
            () = stopping.cancelled() => return Ok(()),
            changed = files.changed() => changed,
        };
        of_this_file.cancel();
        // The operator has changed the file: what stood still may go on.
        for peer in &files.borrow().peers {
            if parts.table.status(&peer.node).inbound.state.is_stopped() {
                parts.table.set_state(&peer.node, Direction::Inbound, LinkState::Idle, "");
            }
        }
        if changed.is_err() {
            return Ok(());
        }
    }
}

/// Writes what is remembered whenever it has changed, at most every [`WRITE_INTERVAL`] unless somebody waits for it, and once more at the
/// end.
async fn write(
    table: Arc<PeerTable>,
    store: Arc<dyn ProgressStore>,
    stopping: CancellationToken,
) -> Result<(), String> {
    let mut changes = table.remembered();
    loop {
        let last = tokio::select! {
            biased;
            () = stopping.cancelled() => true,
            changed = changes.changed() => changed.is_err(),
        };
        let count = *changes.borrow_and_update();
        store.keep(table.all_progress()).await.map_err(|error| error.with_cause())?;
        table.note_kept(count);
        if last {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = stopping.cancelled() => {}
            () = table.awaited() => {}
            () = tokio::time::sleep(WRITE_INTERVAL) => {}
        }
    }
}

impl fmt::Debug for FederationParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FederationParts").field("node", &self.node).finish_non_exhaustive()
    }
}

impl fmt::Debug for Federation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Federation").field(&self.parts).finish()
    }
}
