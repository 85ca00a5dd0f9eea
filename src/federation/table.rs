//! The state of every link as operators see it, and what is remembered of each peer: the one place where both directions meet. It never
//! decides what a link does, and never writes a file itself.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use uuid::Uuid;

use super::{
    position::LinkPosition,
    progress::{PeerProgress, QUARANTINE_MAX, Quarantined},
    runs::{LiveTwice, Runs},
};
use crate::{
    clock::Clock,
    domain::{Epoch, Sequence, SpiffeId},
    telemetry,
};

/// Which way events go over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From the peer to us.
    Inbound,
    /// From us to the peer.
    Outbound,
}

/// What a link is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Nothing: it has no address here, or has not called yet.
    Idle,
    /// Dialling, or agreeing where to go on.
    Connecting,
    /// Events flow, and the end of the source's log is not reached.
    Streaming,
    /// The end of the source's log is reached; new events flow as they come.
    CaughtUp,
    /// An operator, here or there, has paused it.
    Paused,
    /// It failed and is tried again after a pause.
    Backoff,
    /// The source's log is another than the one that was followed, or has lost its end. Stopped until an operator resumes it.
    Diverged,
    /// The same life of the source's log is live twice. Stopped until an operator resumes it.
    Cloned,
    /// What follows our position is no longer retained by the source. Stopped until an operator resumes it.
    Lapsed,
    /// What the source sent must not be taken, as by a forged publisher. Stopped until an operator resumes it.
    Refused,
}

impl LinkState {
    /// The state's word in metrics and logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::CaughtUp => "caught_up",
            Self::Paused => "paused",
            Self::Backoff => "backoff",
            Self::Diverged => "diverged",
            Self::Cloned => "cloned",
            Self::Lapsed => "lapsed",
            Self::Refused => "refused",
        }
    }

    /// Whether only an operator's word moves the link on.
    #[must_use]
    pub const fn is_stopped(self) -> bool {
        match self {
            Self::Diverged | Self::Cloned | Self::Lapsed | Self::Refused => true,
            Self::Idle | Self::Connecting | Self::Streaming | Self::CaughtUp | Self::Paused | Self::Backoff => false,
        }
    }
}

/// One direction of a link as operators see it. Times are nanoseconds since 1970, 0: never.
#[derive(Debug, Clone)]
pub struct LinkStatus {
    /// What it is doing.
    pub state: LinkState,
    /// Since when.
    pub since_ns: i64,
    /// Why, in words; empty where the state says it all.
    pub detail: String,
    /// What an operator should know beside the state, such as that the source was restored from a backup.
    pub notice: String,
    /// When the other side last said something.
    pub last_contact_ns: i64,
    /// The last failure in words; kept when the link recovers.
    pub last_error: String,
    /// The end of the source's log as last known.
    pub head_sequence: u64,
    /// Since when the link is not at the end of the source's log.
    pub behind_since_ns: i64,
    /// When the receiver last knew that it had all of the source's log, without having gone back since.
    pub caught_up_ns: i64,
    /// The end of the source's log then.
    pub caught_up_sequence: u64,
    /// Events since the process started.
    pub event_count: u64,
    /// Of these, how many were known before.
    pub duplicate_count: u64,
    /// Bytes of batches since the process started.
    pub byte_count: u64,
}

/// A peer as operators see it.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// What is remembered.
    pub progress: PeerProgress,
    /// What we take from it.
    pub inbound: LinkStatus,
    /// What it takes from us.
    pub outbound: LinkStatus,
    /// Our events that it did not take, as it told since the process started, oldest first.
    pub refused_there: Vec<Quarantined>,
}

#[derive(Debug)]
struct Entry {
    progress: PeerProgress,
    links: [LinkStatus; 2],
    refused_there: VecDeque<Quarantined>,
    /// Counts what operators said of this peer.
    words: u64,
    /// Which runs of its process have spoken.
    runs: Runs,
    /// Where it stood in a life of our log that ended before that.
    shown: Option<(Epoch, Sequence)>,
}

/// All peers that the node knows of.
pub struct PeerTable {
    clock: Arc<dyn Clock>,
    entries: Mutex<BTreeMap<SpiffeId, Entry>>,
    /// Counts changes of what is remembered.
    remembered: watch::Sender<u64>,
    /// How many of these changes are durable.
    kept: watch::Sender<u64>,
    /// Counts operators' words: links look again at what they may do.
    told: watch::Sender<u64>,
    /// This run of the process.
    run: Uuid,
}

impl PeerTable {
    /// A table that begins with what is remembered.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, remembered: BTreeMap<SpiffeId, PeerProgress>) -> Self {
        let now_ns = clock.now_ns();
        let entries = remembered.into_iter().map(|(node, progress)| (node, Entry::new(progress, now_ns))).collect();
        let (remembered, kept, told) = (watch::Sender::new(0), watch::Sender::new(0), watch::Sender::new(0));
        Self { run: clock.fresh_uuid(), clock, entries: Mutex::new(entries), remembered, kept, told }
    }

    /// This run of the process, by which peers notice a second one with the same log.
    #[must_use]
    pub const fn run(&self) -> Uuid {
        self.run
    }

    /// Notes which run of a peer's process has spoken.
    ///
    /// # Errors
    /// It is live twice.
    pub fn met(&self, node: &SpiffeId, run: Option<Uuid>) -> Result<(), LiveTwice> {
        let mut entries = self.entries();
        self.entry(&mut entries, node).runs.met(run)
    }

    /// Everything about a peer.
    #[must_use]
    pub fn status(&self, node: &SpiffeId) -> PeerStatus {
        let mut entries = self.entries();
        let entry = self.entry(&mut entries, node);
        let [inbound, outbound] = entry.links.clone();
        let refused_there = entry.refused_there.iter().cloned().collect();
        PeerStatus { progress: entry.progress.clone(), inbound, outbound, refused_there }
    }

    /// What is remembered of a peer.
    #[must_use]
    pub fn progress(&self, node: &SpiffeId) -> PeerProgress {
        self.status(node).progress
    }

    /// What is remembered of all, to be written.
    #[must_use]
    pub fn all_progress(&self) -> BTreeMap<SpiffeId, PeerProgress> {
        self.entries().iter().map(|(node, entry)| (node.clone(), entry.progress.clone())).collect()
    }

    /// Changes what is remembered of a peer; it is written soon after.
    pub fn remember<T>(&self, node: &SpiffeId, change: impl FnOnce(&mut PeerProgress) -> T) -> T {
        let changed = {
            let mut entries = self.entries();
            change(&mut self.entry(&mut entries, node).progress)
        };
        self.remembered.send_modify(|count| *count += 1);
        changed
    }

    /// Tells when something that is remembered has changed.
    #[must_use]
    pub fn remembered(&self) -> watch::Receiver<u64> {
        self.remembered.subscribe()
    }

    /// Notes that so many changes of what is remembered are durable.
    pub fn note_kept(&self, count: u64) {
        self.kept.send_modify(|kept| *kept = count.max(*kept));
    }

    /// Waits until everything that is remembered by now is durable.
    pub async fn kept(&self) {
        let (count, mut kept) = (*self.remembered.borrow(), self.kept.subscribe());
        // The table has the sender.
        let _ = kept.wait_for(|kept| count <= *kept).await;
    }

    /// Changes what is remembered of a peer by an operator's word, lifts what made its link stand still, and has its links look again.
    ///
    /// # Errors
    /// The change's own; nothing is told then.
    pub fn order<E>(&self, node: &SpiffeId, change: impl FnOnce(&mut PeerProgress) -> Result<(), E>) -> Result<(), E> {
        {
            let mut entries = self.entries();
            let entry = self.entry(&mut entries, node);
            let before = entry.progress.received;
            change(&mut entry.progress)?;
            entry.words += 1;
            entry.runs = Runs::default();
            if entry.progress.received != before {
                // It goes back for what it had passed over: until it is at the end again it does not have all.
                entry.links[Direction::Inbound as usize].caught_up_ns = 0;
            }
            // In one step with her word, so that a link which stands still finds it lifted when it is woken.
            let inbound = &mut entry.links[Direction::Inbound as usize];
            inbound.notice.clear();
            if inbound.state.is_stopped() {
                inbound.state = LinkState::Idle;
                inbound.detail.clear();
            }
        }
        self.remembered.send_modify(|count| *count += 1);
        self.told.send_modify(|count| *count += 1);
        Ok(())
    }

    /// As [`PeerTable::remember`], unless an operator has said something since `words` were counted: a stream that is about to end must
    /// not take her word back. None where she has.
    pub fn remember_unless_told<T>(
        &self,
        node: &SpiffeId,
        words: u64,
        change: impl FnOnce(&mut PeerProgress) -> T,
    ) -> Option<T> {
        let changed = {
            let mut entries = self.entries();
            let entry = self.entry(&mut entries, node);
            if entry.words != words {
                return None;
            }
            change(&mut entry.progress)
        };
        self.remembered.send_modify(|count| *count += 1);
        Some(changed)
    }

    /// How often an operator has said something of a peer.
    #[must_use]
    pub fn words(&self, node: &SpiffeId) -> u64 {
        self.entry(&mut self.entries(), node).words
    }

    /// Tells when an operator has said something of any peer.
    #[must_use]
    pub fn told(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// Puts a link into a state, with the reason where the state does not say it all.
    pub fn set_state(&self, node: &SpiffeId, direction: Direction, state: LinkState, detail: &str) {
        let now_ns = self.clock.now_ns();
        let before = self.change(node, direction, |link| {
            let before = link.state;
            if before != state || link.detail != detail {
                link.since_ns = now_ns;
                detail.clone_into(&mut link.detail);
            }
            if state == LinkState::Backoff || state.is_stopped() {
                detail.clone_into(&mut link.last_error);
            }
            if state == LinkState::CaughtUp {
                link.behind_since_ns = 0;
            } else if link.behind_since_ns == 0 {
                link.behind_since_ns = now_ns;
            }
            link.state = state;
            before
        });
        // At the end of a busy log a link is there many times a second: that is no news.
        let flows = |state| matches!(state, LinkState::Streaming | LinkState::CaughtUp);
        if before != state && !(flows(before) && flows(state)) {
            metrics::counter!(telemetry::PEER_LINK_CHANGES_TOTAL, "direction" => direction.word(), "state" => state.word())
                .increment(1);
            let (peer, direction, word) = (node.as_str(), direction.word(), state.word());
            if state == LinkState::Backoff {
                tracing::warn!(peer, direction, state = word, detail, "a link to a peer failed");
            } else if state.is_stopped() {
                let said = "a link to a peer is stopped until an operator resumes it";
                tracing::error!(peer, direction, state = word, detail, "{said}");
            } else {
                tracing::info!(peer, direction, state = word, detail, "link to a peer");
            }
        }
    }

    /// Changes what operators see of a link.
    pub fn change<T>(&self, node: &SpiffeId, direction: Direction, change: impl FnOnce(&mut LinkStatus) -> T) -> T {
        let mut entries = self.entries();
        change(&mut self.entry(&mut entries, node).links[direction as usize])
    }

    /// Notes that the other side has said something.
    pub fn contact(&self, node: &SpiffeId, direction: Direction) {
        let now_ns = self.clock.now_ns();
        self.change(node, direction, |link| link.last_contact_ns = now_ns);
    }

    /// Notes that the peer did not take one of our events.
    pub fn refused_there(&self, node: &SpiffeId, event: Quarantined) {
        let mut entries = self.entries();
        let refused = &mut self.entry(&mut entries, node).refused_there;
        refused.retain(|one| one.source_sequence != event.source_sequence);
        if refused.len() >= QUARANTINE_MAX {
            refused.pop_front();
        }
        refused.push_back(event);
    }

    /// Notes that a peer stood further on in an earlier life of our log than we kept of it.
    pub fn lost(&self, node: &SpiffeId, position: LinkPosition) {
        let mut entries = self.entries();
        self.entry(&mut entries, node).shown = Some((position.epoch, position.sequence));
    }

    /// How far peers stood in earlier lives of our log, beyond what we kept of them.
    #[must_use]
    pub fn shown(&self) -> Vec<(Epoch, Sequence)> {
        self.entries().values().filter_map(|entry| entry.shown).collect()
    }

    /// Notes how far a peer has acknowledged; never moves back within a life of the log.
    pub fn acknowledged(&self, node: &SpiffeId, position: LinkPosition) {
        self.remember(node, |progress| progress.acknowledged = Some(position));
    }

    fn entry<'a>(&self, entries: &'a mut BTreeMap<SpiffeId, Entry>, node: &SpiffeId) -> &'a mut Entry {
        entries.entry(node.clone()).or_insert_with(|| Entry::new(PeerProgress::default(), self.clock.now_ns()))
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<SpiffeId, Entry>> {
        // Each change is made of steps that cannot panic half-way.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Direction {
    /// The direction's word in metrics and logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl Entry {
    fn new(progress: PeerProgress, now_ns: i64) -> Self {
        Self {
            progress,
            links: [LinkStatus::new(now_ns), LinkStatus::new(now_ns)],
            refused_there: VecDeque::new(),
            words: 0,
            runs: Runs::default(),
            shown: None,
        }
    }
}

impl LinkStatus {
    fn new(now_ns: i64) -> Self {
        Self {
            state: LinkState::Idle,
            since_ns: now_ns,
            detail: String::new(),
            notice: String::new(),
            last_contact_ns: 0,
            last_error: String::new(),
            head_sequence: 0,
            behind_since_ns: 0,
            caught_up_ns: 0,
            caught_up_sequence: 0,
            event_count: 0,
            duplicate_count: 0,
            byte_count: 0,
        }
    }
}

impl std::fmt::Debug for PeerTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerTable").field("entries", &*self.entries()).finish_non_exhaustive()
    }
}
