//! Nodes in memory: each with a log, a peers file and grants, and streams between them without a socket.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use prost::Message;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::{inbox::Inbox, *};
use crate::{
    clock::TestClock,
    domain::{
        Epoch, EventId, Sequence, TrustDomain,
        bindings::{NewBinding, PartyBindings, SubjectKey},
    },
    identity::{
        Peer,
        peers::PeerAddress,
        policy::{Successors, file},
    },
    log::{AppendBatch, AppendMode, MemoryLog, NewEvent, Record, contract::EpochFacts},
    wire::{
        content_equal,
        door::routing_header,
        proto::{Event, ReplicateRequest, ReplicateResponse},
    },
};

mod agreements;
mod backups;
mod early;
mod links;
mod promises;
mod reach;
mod restored;
mod rings;
mod sources;
mod versions;
mod wrong_peer;

/// Generous, since a busy machine is slow; nothing waits so long where all is well.
const PATIENCE: Duration = Duration::from_secs(30);
/// When everything happens.
const NOW_NS: i64 = 1_795_478_400_000_000_000;
/// Forwards everything to everybody.
const ALL: &str = "[[grant]]\nid = 'all'\nwho = ['spiffe://a.example/*', 'spiffe://b.example/*', 'spiffe://c.example/*', \
                   'spiffe://d.example/*']\nactions = ['forward']\nall = true\n";

/// What a test binds; everything is applied.
struct Bindings {
    applied: watch::Sender<Sequence>,
    bound: Mutex<Vec<(String, NewBinding)>>,
}

impl Bindings {
    fn none() -> Self {
        Self { applied: watch::Sender::new(Sequence(u64::MAX)), bound: Mutex::default() }
    }

    /// Binds a participant to a container by an association at a place.
    fn bind(&self, participant: &str, container: &str, sequence: u64) {
        let kind = crate::wire::proto::IdentifierKind::Container as u8;
        let (value, issuer, date) = (container.to_owned(), String::new(), String::new());
        let subject = crate::domain::header::SubjectTerm { kind, role: 1, value, issuer, date };
        let binding = NewBinding { sequence: Sequence(sequence), subject };
        self.bound.lock().expect("no panic").push((participant.to_owned(), binding));
    }
}

impl PartyBindings for Bindings {
    fn is_bound(&self, participant: &str, subject: &SubjectKey<'_>) -> bool {
        let all = self.newly_bound(participant, Sequence::ZERO);
        all.iter().any(|bound| bound.subject.kind == subject.kind && bound.subject.value == subject.value)
    }
}

impl BindingsFeed for Bindings {
    fn progress(&self) -> watch::Receiver<Sequence> {
        self.applied.subscribe()
    }

    fn newly_bound(&self, participant: &str, after: Sequence) -> Vec<NewBinding> {
        let bound = self.bound.lock().expect("no panic");
        let is = |(who, binding): &&(String, NewBinding)| who == participant && after < binding.sequence;
        bound.iter().filter(is).map(|(_, binding)| binding.clone()).collect()
    }

    fn forgotten_through(&self, _: &str) -> Sequence {
        Sequence::ZERO
    }
}

/// Keeps nothing, at once.
struct Forgetful;

impl ProgressStore for Forgetful {
    fn keep(&self, _: BTreeMap<SpiffeId, PeerProgress>) -> BoxFuture<'static, Result<(), StorageError>> {
        std::future::ready(Ok(())).boxed()
    }
}

/// One node.
struct Side {
    node: SpiffeId,
    log: Arc<MemoryLog>,
    federation: Arc<Federation>,
    files: watch::Sender<Arc<Peers>>,
    access: Arc<Access>,
    bindings: Arc<Bindings>,
}

/// A stream from a source to a receiver.
struct Stream {
    stop: CancellationToken,
    receiving: JoinHandle<inbox::Received>,
}

/// The node of a letter: `spiffe://a.example/node/1`.
fn node(letter: char) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://{letter}.example/node/1")).expect("a good name")
}

fn home(letter: char) -> TrustDomain {
    TrustDomain::parse(&format!("{letter}.example")).expect("a good name")
}

/// A peer as the file has it, with its own domain at home.
fn peer(letter: char) -> Peer {
    Peer {
        node: node(letter),
        address: None,
        homes: BTreeSet::from([home(letter)]),
        behind: BTreeSet::new(),
        transit: false,
        from_time_ns: None,
        private: false,
        paused: false,
    }
}

/// Where nobody answers.
fn address() -> PeerAddress {
    PeerAddress { host: "localhost".to_owned(), port: 7_443 }
}

/// A life of a log.
fn life(number: u128, parent: Option<u128>, fork: u64) -> EpochFacts {
    let epoch = |number| Epoch(uuid::Uuid::from_u128(number));
    EpochFacts { epoch: epoch(number), parent: parent.map(epoch), fork: Sequence(fork), open_time_ns: 0 }
}

/// Forwards nothing from now on.
fn narrow(side: &Side) {
    set_policy(side, "");
}

/// The policy is this from now on.
fn set_policy(side: &Side, text: &str) {
    side.access.replace(file::parse(text, Path::new("policy.toml"), &Successors::default()).expect("a good policy"));
}

/// Waits until what a side remembers of another is so.
async fn remembers(side: &Side, other: &SpiffeId, what: &str, is_so: impl Fn(&PeerProgress) -> bool) {
    let table = side.federation.table();
    let mut changes = table.remembered();
    let waited = timeout(PATIENCE, changes.wait_for(|_| is_so(&table.progress(other)))).await;
    waited.unwrap_or_else(|_| panic!("never remembered: {what}")).expect("the table lives");
}

impl Side {
    fn new(letter: char, peers: Vec<Peer>, policy: &str) -> Self {
        let log = MemoryLog::new(Arc::new(TestClock::at_ns(NOW_NS)), content_equal);
        Self::over(letter, Arc::new(log), peers, policy)
    }

    fn over(letter: char, log: Arc<MemoryLog>, peers: Vec<Peer>, policy: &str) -> Self {
        Self::keeping(letter, log, peers, policy, Arc::new(Forgetful))
    }

    fn keeping(
        letter: char,
        log: Arc<MemoryLog>,
        peers: Vec<Peer>,
        policy: &str,
        store: Arc<dyn ProgressStore>,
    ) -> Self {
        Self::begun(letter, log, peers, policy, (store, BTreeMap::new()))
    }

    /// A node that begins with what it remembers.
    fn remembering(
        letter: char,
        log: Arc<MemoryLog>,
        peers: Vec<Peer>,
        policy: &str,
        remembered: BTreeMap<SpiffeId, PeerProgress>,
    ) -> Self {
        Self::begun(letter, log, peers, policy, (Arc::new(Forgetful), remembered))
    }

    fn begun(
        letter: char,
        log: Arc<MemoryLog>,
        peers: Vec<Peer>,
        policy: &str,
        (store, remembered): (Arc<dyn ProgressStore>, BTreeMap<SpiffeId, PeerProgress>),
    ) -> Self {
        let clock = Arc::new(TestClock::at_ns(NOW_NS));
        let policy = file::parse(policy, Path::new("policy.toml"), &Successors::default()).expect("a good policy");
        let access = Arc::new(Access::new(policy));
        let peers = peers.into_iter().map(Arc::new).collect();
        let files = watch::Sender::new(Arc::new(Peers { homes: BTreeSet::from([home(letter)]), peers }));
        let bindings = Arc::new(Bindings::none());
        let parts = FederationParts {
            log: log.clone(),
            access: access.clone(),
            peers: files.subscribe(),
            bindings: bindings.clone(),
            clock: clock.clone(),
            node: node(letter),
            table: Arc::new(PeerTable::new(clock, remembered)),
            draining: CancellationToken::new(),
        };
        tokio::spawn(write(parts.table.clone(), store, CancellationToken::new()));
        let federation = Arc::new(Federation::new(parts));
        tokio::spawn(noting::run(federation.parts().clone(), CancellationToken::new()));
        Self { node: node(letter), log, federation, files, access, bindings }
    }

    /// Stores events as if they had come through the publish door.
    async fn publish(&self, events: &[Event]) {
        let events = events.iter().map(new_event).collect();
        let verdicts = self.log.append(AppendBatch { events, mode: AppendMode::AllOrNothing }).await.expect("taken");
        assert!(verdicts.iter().all(|verdict| matches!(verdict, crate::log::Verdict::Stored(_))), "{verdicts:?}");
    }

    /// Opens a stream that takes from a source.
    fn take_from(&self, source: &Side) -> Stream {
        let (requests, outgoing) = mpsc::channel(64);
        let (responses, incoming) = mpsc::channel(4);
        let peer = self.files.borrow().get(&source.node).expect("a peer of the file").clone();
        let inbox = Inbox::new(self.federation.parts().clone(), peer, requests.clone());
        requests.try_send(inbox.hello()).expect("there is room");
        let (federation, caller) = (source.federation.clone(), caller(&self.node));
        tokio::spawn(async move {
            federation.serve(caller, Box::pin(ReceiverStream::new(outgoing).map(Ok)), responses).await;
        });
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let receiving =
            tokio::spawn(async move { inbox.run(Box::pin(ReceiverStream::new(incoming)), &stopping, "test").await });
        Stream { stop, receiving }
    }

    /// Waits until the log holds so many events.
    async fn holds(&self, count: u64) -> Vec<Record> {
        let mut tail = self.log.tail();
        let reached = timeout(PATIENCE, tail.wait_for(|tail| tail.get() >= count)).await;
        let at = *self.log.tail().borrow();
        reached.unwrap_or_else(|_| panic!("{} holds {at} events, not {count}", self.node)).expect("the log lives");
        self.records().await
    }

    async fn records(&self) -> Vec<Record> {
        let mut all = Vec::new();
        let mut after = Sequence::ZERO;
        while let Some(chunk) = self.log.read(after, 1 << 20, None).await.expect("readable") {
            all.extend(chunk.records.iter().cloned());
            after = chunk.through;
        }
        all
    }

    /// Whether an event has reached the only peer.
    async fn reach_of_only_peer(&self, event: &Event) -> crate::federation::reach::Reach {
        let publisher = SpiffeId::parse(&event.publisher).expect("a good name");
        let event_id = EventId::parse(&event.event_id).expect("a good id");
        let record = self.log.find(publisher, event_id).await.expect("readable").expect("stored");
        self.federation.reach(&record).await.expect("readable")[0].1
    }

    /// Waits until a peer has acknowledged everything up to a place.
    async fn acknowledged_by(&self, peer: &SpiffeId, sequence: u64) {
        let reached = |kept: &PeerProgress| kept.acknowledged.is_some_and(|at| at.sequence.get() >= sequence);
        remembers(self, peer, &format!("an acknowledgement of {sequence}"), reached).await;
    }
}

impl Stream {
    /// Ends it in order.
    async fn end(self) -> inbox::Received {
        self.stop.cancel();
        self.ended().await
    }

    /// Waits until it has ended by itself.
    async fn ended(self) -> inbox::Received {
        timeout(PATIENCE, self.receiving).await.expect("the stream ends").expect("no panic")
    }

    fn is_up(&self) -> bool {
        !self.receiving.is_finished()
    }
}

fn caller(id: &SpiffeId) -> Caller {
    Caller {
        id: id.clone(),
        connection_id: 1,
        remote_address: ([127, 0, 0, 1], 1).into(),
        certificate_not_after_ns: i64::MAX,
        closing: CancellationToken::new(),
        closing_reason: Arc::default(),
    }
}

fn new_event(event: &Event) -> NewEvent {
    let event_id = EventId::parse(&event.event_id).expect("a good id");
    let publisher = SpiffeId::parse(&event.publisher).expect("a good name");
    let header = routing_header(event, event_id, publisher.clone()).encode();
    let signed = Bytes::from(event.unsigned().encode_to_vec());
    NewEvent { publisher, event_id, header: header.into(), signed, origin: None }
}

/// Container `n` is discharged, says a terminal of the letter's domain.
fn discharged(letter: char, n: u32) -> Event {
    let voyage = crate::testing::events::Voyage::new(n, NOW_NS - 40 * crate::testing::events::HOUR_NS);
    Event { publisher: format!("spiffe://{letter}.example/terminal/1"), ..voyage.discharged() }.with_id()
}

/// The events of some records, as their publishers sent them.
fn said(records: &[Record]) -> Vec<Bytes> {
    records.iter().map(|record| record.signed.clone()).collect()
}

fn sent(events: &[Event]) -> Vec<Bytes> {
    events.iter().map(|event| Bytes::from(event.unsigned().encode_to_vec())).collect()
}
