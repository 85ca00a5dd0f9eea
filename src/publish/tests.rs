//! Every rule of the write door over the log in memory.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    clock::TestClock,
    domain::{Sequence, filter::NoBindings},
    identity::policy::{Policy, Successors, file},
    log::{Appended, MemoryLog, Refusal},
    testing::events::{CARRIER, CUSTOMS, HOUR_NS, TERMINAL, Voyage},
    wire::{
        self, SignedEvent,
        proto::{Event, OnInvalid as ProtoOnInvalid},
    },
};

mod admission;
mod model;
mod pipelined;

const NODE: &str = "spiffe://exchange.gov.pk/node/khi-1";
const NOW_NS: i64 = 1_790_000_000_000_000_000;
const POLICY: &str = r#"
    [[grant]]
    id = "terminals"
    who = ["spiffe://port.karachi.pk/*"]
    actions = ["publish"]
    filters = [{ places = [{ country_code = "PK" }] }]

    [[grant]]
    id = "carriers"
    who = ["spiffe://maersk.example/*"]
    actions = ["publish"]
    filters = [{ all = true }]
"#;

/// A door and what it stands on.
struct Room {
    log: Arc<MemoryLog>,
    clock: Arc<TestClock>,
    access: Arc<Access>,
    acknowledged: Arc<LastAcknowledged>,
    closed: watch::Sender<Option<Arc<str>>>,
    door: Arc<Door>,
}

impl Room {
    fn new() -> Self {
        Self::with_quota(EventQuota::new(0, 0))
    }

    fn with_quota(quota: EventQuota) -> Self {
        let clock = Arc::new(TestClock::at_ns(NOW_NS));
        let log = Arc::new(MemoryLog::new(Arc::clone(&clock), wire::content_equal));
        let access = Arc::new(Access::new(policy(POLICY)));
        let acknowledged = Arc::new(LastAcknowledged::default());
        let closed = watch::Sender::new(None);
        let door = Arc::new(Door::new(DoorParts {
            log: Arc::clone(&log) as _,
            acknowledged: Arc::clone(&acknowledged),
            access: Arc::clone(&access),
            bindings: Arc::new(NoBindings),
            lists: Arc::new(CodeLists::default()),
            clock: Arc::clone(&clock) as _,
            node: id(NODE),
            quota,
            limits: PublishLimits::default(),
            closed: closed.subscribe(),
        }));
        Self { log, clock, access, acknowledged, closed, door }
    }

    async fn publish(&self, who: &str, request: PublishRequest) -> Result<Vec<EventOutcome>, PublishError> {
        self.door.publish(&caller(who), request).await
    }

    /// The ids of everything that is stored, in order.
    async fn stored(&self) -> Vec<String> {
        let chunk = self.log.read(Sequence::ZERO, usize::MAX, None).await.expect("readable");
        let records = chunk.map(|chunk| chunk.records.to_vec()).unwrap_or_default();
        let event_id = |record: &crate::log::Record| {
            crate::domain::HeaderRef::parse(&record.header).expect("a header").event_id().to_string()
        };
        records.iter().map(event_id).collect()
    }
}

fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).expect("a good name")
}

fn policy(toml: &str) -> Policy {
    file::parse(toml, Path::new("policy.toml"), &Successors::default()).expect("a good policy")
}

fn caller(who: &str) -> Caller {
    Caller {
        id: id(who),
        connection_id: 7,
        remote_address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        certificate_not_after_ns: i64::MAX,
        closing: CancellationToken::new(),
        closing_reason: Arc::default(),
    }
}

fn voyage(number: u32) -> Voyage {
    Voyage::new(number, NOW_NS - 48 * HOUR_NS)
}

fn request(events: &[Event]) -> PublishRequest {
    PublishRequest { events: events.iter().map(Event::unsigned).collect(), on_invalid: 0 }
}

fn skipping(events: &[Event]) -> PublishRequest {
    PublishRequest { on_invalid: ProtoOnInvalid::Skip.into(), ..request(events) }
}

/// An event that no publisher may send: it is about nothing.
fn invalid(number: u32) -> Event {
    Event { subjects: Vec::new(), ..voyage(number).discharged() }
}

fn places(outcomes: &[EventOutcome]) -> Vec<Option<(u64, bool)>> {
    let place = |appended: &Appended| (appended.sequence.get(), appended.duplicate);
    outcomes.iter().map(|outcome| outcome.fate.as_ref().ok().map(place)).collect()
}

fn fault(outcome: &EventOutcome) -> &EventFault {
    outcome.fate.as_ref().expect_err("this event is refused")
}

fn rejected(result: Result<Vec<EventOutcome>, PublishError>) -> Vec<RejectedEvent> {
    match result {
        Err(PublishError::Rejected(events)) => events,
        other => panic!("not rejected: {other:?}"),
    }
}
