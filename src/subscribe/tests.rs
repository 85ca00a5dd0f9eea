//! Every rule of a live subscription over the log in memory: nothing that a grant hides, nothing twice, nothing passed over, and an end
//! that says where to go on.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Mutex,
};

use futures::{FutureExt, StreamExt};
use tokio::sync::watch;

use super::*;
use crate::{
    clock::TestClock,
    domain::{
        EventId, RoutingHeader, Sequence,
        bindings::{NewBinding, PartyBindings, SubjectKey},
        filter::{FilterSpec, PlaceSpec},
        header::{AudienceTerm, PlaceTerm},
    },
    identity::policy::{Policy, Successors, file},
    log::{
        Lookout, MemoryLog,
        contract::{AppendBatch, AppendMode, BATCH_EVENTS_MAX, NewEvent},
    },
};

mod associations;
mod delivery;
mod ends;
mod resting;

const PORT: &str = "spiffe://port.gov.pk/terminal/south";
pub(super) const CUSTOMS: &str = "spiffe://customs.gov.pk/agency/karachi";
pub(super) const NODE: &str = "spiffe://exchange.gov.pk/node/khi-1";
pub(super) const START_NS: i64 = 1_790_000_000_000_000_000;
pub(super) const ALL: &str = r#"
    [[grant]]
    id = "all"
    who = ["spiffe://customs.gov.pk/*"]
    actions = ["read"]
    filters = [{ all = true }]
"#;

pub(super) fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).expect("a good name")
}

pub(super) fn policy(toml: &str) -> Policy {
    file::parse(toml, Path::new("policy.toml"), &Successors::default()).expect("a good policy")
}

/// Associations whose progress the test decides.
#[derive(Default)]
pub(super) struct TestBindings {
    pub(super) progress: watch::Sender<Sequence>,
    /// Who is bound, to what.
    pub(super) bound: Mutex<Vec<(&'static str, NewBinding)>>,
    /// Bindings up to here are not kept.
    pub(super) forgotten_through: Mutex<Sequence>,
}

impl PartyBindings for TestBindings {
    fn is_bound(&self, participant: &str, subject: &SubjectKey<'_>) -> bool {
        let bound = self.bound.lock().expect("no test panics with it");
        bound.iter().any(|(who, binding)| *who == participant && binding.subject.value == subject.value)
    }
}

impl BindingsFeed for TestBindings {
    fn progress(&self) -> watch::Receiver<Sequence> {
        self.progress.subscribe()
    }

    fn newly_bound(&self, participant: &str, after: Sequence) -> Vec<NewBinding> {
        let bound = self.bound.lock().expect("no test panics with it");
        let of = bound.iter().filter(|(who, binding)| *who == participant && after < binding.sequence);
        of.map(|(_, binding)| binding.clone()).collect()
    }

    fn forgotten_through(&self, _: &str) -> Sequence {
        *self.forgotten_through.lock().expect("no test panics with it")
    }
}

/// A node's live subscriptions and what they stand on.
struct Room {
    log: Arc<MemoryLog>,
    clock: Arc<TestClock>,
    access: Arc<Access>,
    bindings: Arc<TestBindings>,
    draining: CancellationToken,
    subscriptions: Subscriptions,
}

impl Room {
    fn new(policy_text: &str) -> Self {
        Self::with_limits(policy_text, SessionLimits::default())
    }

    fn with_limits(policy_text: &str, limits: SessionLimits) -> Self {
        let clock = Arc::new(TestClock::at_ns(START_NS));
        let log = Arc::new(MemoryLog::new(Arc::clone(&clock), |a, b| a == b));
        let access = Arc::new(Access::new(policy(policy_text)));
        let bindings = Arc::new(TestBindings::default());
        let draining = CancellationToken::new();
        let subscriptions = Subscriptions::new(SubscriptionsParts {
            log: Arc::clone(&log) as _,
            lookout: Lookout::new(Arc::clone(&log) as _, Tasks::new()),
            access: Arc::clone(&access),
            bindings: Arc::clone(&bindings) as _,
            clock: Arc::clone(&clock) as _,
            node: id(NODE),
            tasks: Tasks::new(),
            draining: draining.clone(),
            limits,
        });
        Self { log, clock, access, bindings, draining, subscriptions }
    }

    /// Publishes events about a country, numbered so that each has an id of its own.
    async fn publish(&self, country: &str, numbers: std::ops::RangeInclusive<u32>) {
        let events = numbers.map(|number| event(country, number)).collect();
        self.append(events).await;
    }

    async fn append(&self, events: Vec<NewEvent>) {
        append(&self.log, events).await;
    }

    async fn open(&self, start: Start) -> SessionStream {
        self.open_with(start, Vec::new()).await.expect("a session")
    }

    async fn open_with(&self, start: Start, filters: Vec<Filter>) -> Result<SessionStream, SubscribeError> {
        self.subscriptions.open(caller(), Asked { start, filters }).await
    }
}

/// Puts events into a log.
pub(super) async fn append(log: &MemoryLog, events: Vec<NewEvent>) {
    for batch in events.chunks(BATCH_EVENTS_MAX) {
        let batch = AppendBatch { events: batch.to_vec(), mode: AppendMode::AllOrNothing };
        log.append(batch).await.expect("the log takes it");
    }
}

fn caller() -> Caller {
    Caller {
        id: id(CUSTOMS),
        connection_id: 7,
        remote_address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        certificate_not_after_ns: START_NS + 3_600_000_000_000,
        closing: CancellationToken::new(),
        closing_reason: Arc::default(),
    }
}

pub(super) fn header(country: &str, number: u32) -> RoutingHeader {
    RoutingHeader {
        places: vec![PlaceTerm::port("", country)],
        ..RoutingHeader::bare(id(PORT), EventId::from_bytes((u128::from(number) + 1).to_be_bytes()))
    }
}

pub(super) fn event(country: &str, number: u32) -> NewEvent {
    event_of(&header(country, number))
}

pub(super) fn event_of(header: &RoutingHeader) -> NewEvent {
    NewEvent {
        publisher: header.publisher.clone(),
        event_id: header.event_id,
        header: header.encode().into(),
        signed: format!("content of {}", header.event_id).into(),
        origin: None,
    }
}

pub(super) fn in_country(country: &str) -> Filter {
    let places = vec![PlaceSpec { country_code: country.into(), ..PlaceSpec::default() }];
    Filter::compile(&FilterSpec { places, ..FilterSpec::default() }, false).expect("a good filter")
}

/// The next message; a test that waits for what never comes fails instead of hanging.
async fn next(stream: &mut SessionStream) -> Result<SessionMessage, SessionEnd> {
    let waited = tokio::time::timeout(Duration::from_secs(120), stream.next()).await;
    waited.expect("a message in time").expect("a session ends with its reason, and only then")
}

/// The sequences of the next `count` events, and nothing between them but what says where the session stands.
async fn events(stream: &mut SessionStream, count: usize) -> Vec<u64> {
    let mut seen = Vec::new();
    while seen.len() < count {
        match next(stream).await.expect("the session goes on") {
            SessionMessage::Events(records) => seen.extend(records.iter().map(|record| record.sequence.get())),
            SessionMessage::Started { .. }
            | SessionMessage::CaughtUp { .. }
            | SessionMessage::FellBehind { .. }
            | SessionMessage::Progress { .. } => {}
            widened @ SessionMessage::VisibilityWidened { .. } => panic!("unexpected: {widened:?}"),
        }
    }
    seen
}

/// How the session ends, and the sequences of the events before.
async fn end(stream: &mut SessionStream) -> (SessionEnd, Vec<u64>) {
    let mut seen = Vec::new();
    loop {
        match next(stream).await {
            Ok(SessionMessage::Events(records)) => seen.extend(records.iter().map(|record| record.sequence.get())),
            Ok(_) => {}
            Err(end) => {
                assert!(stream.next().await.is_none(), "nothing comes after the end");
                return (end, seen);
            }
        }
    }
}
