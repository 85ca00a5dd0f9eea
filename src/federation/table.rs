//! The state of every link as operators see it, and what is remembered of each peer: the one place where both directions meet. It never
//! decides what a link does, and never writes a file itself.

mod sent;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};
use uuid::Uuid;

use self::sent::Sent;
pub(super) use self::sent::{Reservation, TakenOver};
pub use self::status::{Direction, LinkState, LinkStatus, PeerStatus};
use super::{
    ended::Ended,
    position::LinkPosition,
    progress::{PeerProgress, QUARANTINE_MAX, Quarantined},
    runs::{LiveTwice, Runs},
};
use crate::{
    clock::Clock,
    domain::{Epoch, Sequence, SpiffeId},
    telemetry,
};

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
    /// What a stream to it may have sent.
    sent: Sent,
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
    /// Counts streams to peers that have ended.
    streams_ended: watch::Sender<u64>,
    /// Somebody waits for what is remembered to be durable.
    awaited: Notify,
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
        Self {
            run: clock.fresh_uuid(),
            clock,
            entries: Mutex::new(entries),
            remembered,
            kept,
            told,
            streams_ended: watch::Sender::new(0),
            awaited: Notify::new(),
        }
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

    /// Whether a peer has handed back this node's own event at a place, and so holds it.
    #[must_use]
    pub fn has_handed_back(&self, node: &SpiffeId, place: Sequence) -> bool {
        self.entries().get(node).is_some_and(|entry| entry.progress.handed_back.contains(place))
    }

    /// What is remembered of all, to be written.
    #[must_use]
    pub fn all_progress(&self) -> BTreeMap<SpiffeId, PeerProgress> {
        self.entries().iter().map(|(node, entry)| (node.clone(), entry.sent.written(&entry.progress))).collect()
    }

    /// Counts streams to peers that have ended.
    #[must_use]
    pub fn streams_ended(&self) -> watch::Receiver<u64> {
        self.streams_ended.subscribe()
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

    /// Notes of which nodes a peer sends all that decides a release. Where one is new among them, the link has everything only once it is
    /// at the end again.
    pub fn note_whole(&self, node: &SpiffeId, whole_origins: BTreeSet<String>) {
        {
            let mut entries = self.entries();
            let entry = self.entry(&mut entries, node);
            if entry.progress.whole_origins == whole_origins {
                return;
            }
            if !whole_origins.is_subset(&entry.progress.whole_origins) {
                entry.links[Direction::Inbound as usize].caught_up_ns = 0;
            }
            entry.progress.whole_origins = whole_origins;
        }
        self.remembered.send_modify(|count| *count += 1);
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
        let count = *self.remembered.borrow();
        self.kept_through(count).await;
    }

    fn is_kept(&self, count: u64) -> bool {
        count <= *self.kept.borrow()
    }

    /// Waits until so many changes of what is remembered are durable; whoever writes them is told not to tarry.
    async fn kept_through(&self, count: u64) {
        let mut kept = self.kept.subscribe();
        if !self.is_kept(count) {
            self.awaited.notify_one();
        }
        // The table has the sender.
        let _ = kept.wait_for(|kept| count <= *kept).await;
    }

    /// Resolves when somebody waits for what is remembered to be durable.
    pub async fn awaited(&self) {
        self.awaited.notified().await;
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
            entry.progress.notices[Direction::Inbound as usize].clear();
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

    /// Notes with what failure a stream ended.
    pub fn failed(&self, node: &SpiffeId, direction: Direction, ended: &Ended) {
        self.change(node, direction, |link| {
            (link.last_error, link.last_error_class) = (ended.in_words(), ended.class());
        });
    }

    /// Changes what operators see of a link.
    pub fn change<T>(&self, node: &SpiffeId, direction: Direction, change: impl FnOnce(&mut LinkStatus) -> T) -> T {
        let mut entries = self.entries();
        change(&mut self.entry(&mut entries, node).links[direction as usize])
    }

    /// Notes what an operator should know of a link beside its state, over restarts too.
    pub fn notice(&self, node: &SpiffeId, direction: Direction, notice: &str) {
        self.remember(node, |progress| notice.clone_into(&mut progress.notices[direction as usize]));
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

    fn entry<'a>(&self, entries: &'a mut BTreeMap<SpiffeId, Entry>, node: &SpiffeId) -> &'a mut Entry {
        entries.entry(node.clone()).or_insert_with(|| Entry::new(PeerProgress::default(), self.clock.now_ns()))
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<SpiffeId, Entry>> {
        // Each change is made of steps that cannot panic half-way.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(progress: PeerProgress, now_ns: i64) -> Self {
        let mut links = [LinkStatus::new(now_ns), LinkStatus::new(now_ns)];
        if let Some(told) = progress.told {
            let inbound = &mut links[Direction::Inbound as usize];
            (inbound.head_sequence, inbound.last_contact_ns) = (told.head_sequence, told.time_ns);
        }
        Self {
            progress,
            links,
            refused_there: VecDeque::new(),
            words: 0,
            runs: Runs::default(),
            shown: None,
            sent: Sent::default(),
        }
    }
}

impl std::fmt::Debug for PeerTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerTable").field("entries", &*self.entries()).finish_non_exhaustive()
    }
}
