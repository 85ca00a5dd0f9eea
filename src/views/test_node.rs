//! A log in memory with the views over it, for tests of what the views answer. It never checks an event: it stores what a test gives.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use prost::Message;
use tokio_util::sync::CancellationToken;

use super::{Associations, AssociationsView, Finder, Runner, SearchView, ViewHandle};
use crate::{
    clock::TestClock,
    domain::{Epoch, EventId, RoutingHeader, Sequence, SpiffeId, header::RevisionTerm},
    identity::{
        Rights,
        policy::{Policy, Successors, file},
    },
    log::{
        AppendBatch, AppendMode, EventLog, NewEvent, OriginFacts, Verdict,
        contract::TermIndex,
        memory::{MemoryLog, MemoryTerms},
    },
    wire::{self, proto},
};

/// The node's own name.
pub const NODE: &str = "spiffe://exchange.gov.pk/node/khi-1";
/// What the node's clock shows.
pub const NOW_NS: i64 = 1_767_225_600_000_000_000;

/// The node. Its views run until it is dropped.
pub struct TestNode {
    /// The log.
    pub log: Arc<MemoryLog>,
    /// The search view's index.
    pub index: Arc<MemoryTerms>,
    /// The associations view's state.
    pub associations: Arc<Associations>,
    /// The search view.
    pub search_view: ViewHandle,
    /// The associations view.
    pub associations_view: ViewHandle,
    stop: CancellationToken,
}

impl TestNode {
    /// A node with an empty log.
    pub fn start() -> Self {
        Self::start_over(Arc::new(MemoryLog::new(Arc::new(TestClock::at_ns(NOW_NS)), |left, right| left == right)))
    }

    /// A node over a log that is there already, as after a restart that lost the views.
    pub fn start_over(log: Arc<MemoryLog>) -> Self {
        let index = Arc::new(MemoryTerms::default());
        let associations = Arc::new(Associations::default());
        let stop = CancellationToken::new();
        let dyn_log: Arc<dyn EventLog> = Arc::clone(&log) as _;
        let dyn_index: Arc<dyn TermIndex> = Arc::clone(&index) as _;
        let search = SearchView::new(Arc::clone(&dyn_index), spiffe(NODE));
        let (search_runner, search_view) = Runner::new(Arc::new(search), Arc::clone(&dyn_log));
        let view = AssociationsView::new(Arc::clone(&associations), Arc::clone(&dyn_log), dyn_index);
        let (associations_runner, associations_view) = Runner::new(Arc::new(view), dyn_log);
        tokio::spawn(search_runner.run(stop.clone()));
        tokio::spawn(associations_runner.run(stop.clone()));
        Self { log, index, associations, search_view, associations_view, stop }
    }

    /// Stores events, and waits until the views have them.
    pub async fn store(&self, events: &[proto::Event]) -> Vec<Sequence> {
        let batch = events.iter().map(new_event).collect();
        self.append(batch).await
    }

    /// Stores events whose headers a test made itself.
    pub async fn append(&self, events: Vec<NewEvent>) -> Vec<Sequence> {
        let verdicts =
            self.log.append(AppendBatch { events, mode: AppendMode::AllOrNothing }).await.expect("it is taken");
        let places: Vec<Sequence> = verdicts
            .iter()
            .map(|verdict| match verdict {
                Verdict::Stored(appended) => appended.sequence,
                other => panic!("not stored: {other:?}"),
            })
            .collect();
        self.caught_up().await;
        places
    }

    /// Waits until the views have come to the end of the log.
    pub async fn caught_up(&self) {
        let tail = *self.log.tail().borrow();
        self.search_view.wait_until(tail).await.expect("the search view runs");
        self.associations_view.wait_until(tail).await.expect("the associations view runs");
    }

    /// What finds events here.
    pub fn finder(&self) -> Finder {
        Finder {
            log: Arc::clone(&self.log) as _,
            index: Arc::clone(&self.index) as _,
            associations: Arc::clone(&self.associations),
            node: spiffe(NODE),
        }
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A name.
pub fn spiffe(name: &str) -> SpiffeId {
    SpiffeId::parse(name).expect("a good name")
}

/// A policy from its text.
pub fn policy(text: &str) -> Policy {
    file::parse(text, Path::new("policy.toml"), &Successors::default()).expect("a good policy")
}

/// The rights of somebody who may read everything that is for the network.
pub fn reads_all(name: &str) -> Rights {
    policy(&format!("[[grant]]\nid = 'all'\nwho = ['{name}']\nactions = ['read']\nall = true\n")).rights(&spiffe(name))
}

/// An event as the publish door hands it to the log.
pub fn new_event(event: &proto::Event) -> NewEvent {
    let header = header_of(event);
    NewEvent {
        publisher: header.publisher.clone(),
        event_id: header.event_id,
        header: header.encode().into(),
        signed: Bytes::from(event.unsigned().encode_to_vec()),
        origin: None,
    }
}

/// Another node.
pub const ELSEWHERE: &str = "spiffe://exchange.gov.af/node/kbl-1";

/// An event that came from another node, where nothing of what it revises need be known here.
pub fn from_elsewhere(event: &proto::Event) -> NewEvent {
    let origin = OriginFacts {
        node: spiffe(ELSEWHERE),
        epoch: Epoch(uuid::Uuid::from_u128(7)),
        sequence: Sequence(1),
        accepted_time_ns: NOW_NS,
        via: Vec::new(),
    };
    let mut header = header_of(event);
    if let Some(revision) = &event.revision {
        let event_id = EventId::parse(&revision.event_id).expect("a good id");
        header.revises = Some(RevisionTerm { retract: event.body.is_none(), event_id });
    }
    NewEvent { origin: Some(origin), header: header.encode().into(), ..new_event(event) }
}

/// The routing header of an event.
pub fn header_of(event: &proto::Event) -> RoutingHeader {
    let event_id = EventId::parse(&event.event_id).expect("a good id");
    wire::door::routing_header(event, event_id, spiffe(&event.publisher))
}
