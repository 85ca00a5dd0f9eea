//! Grants are observed alike on every door: for policies, events and requests made from a seed, what each caller sees by `Subscribe`,
//! `ListEvents`, `GetEvent`, `GetTimeline`, `GetPortCall`, `ExplainEvent` and `ClearanceService` is exactly what a plain reading of the
//! policy says, and what she does not see cannot be told from what is not there: no other code, message, detail or header, no count, no
//! name of an event or of a subject that only hidden events speak of, and nothing by asking for whom hidden associations bind.
//!
//! What every reader does learn, by design: how many events the node has taken, since positions are places in its one log; and of goods
//! that she may read of, how many holds are open that she is not shown, and that they may not leave.
//!
//! `TRADELANE_ALIKE_SEED` runs one seed, `TRADELANE_ALIKE_NODES` more nodes.

mod clearances;
mod made;
mod model;
mod varied;
mod wanted;
mod wishes;

use std::collections::BTreeSet;

use tonic::{Code, Status, transport::Channel};
use tradelane::{
    clock::{Clock, SystemClock},
    domain::filter::FilterSpec,
    identity::dev_pki::{CERTIFICATE_LIFE_NS, Issued},
    testing::pki::{CUSTOMS, NODE, TERMINAL, id},
    wire::{
        PublishRequest, filter,
        proto::{
            self, Classifier, Event, ListOrder, Subject, event::Body, event_service_client::EventServiceClient,
            subscribe_request::Start, subscribe_response::Message,
        },
    },
};

use crate::harness::Harness;
use clearances::Clearances;
use made::Maker;
use model::{Grant, Stored, World};

/// Nodes, and policies one after the other on each: 45 policies, each with four callers.
const NODES: u64 = 3;
const POLICIES: usize = 15;
/// So many are tried before the first policy, so that indexes have lists worth narrowing, and under each policy.
const EVENTS_FIRST: usize = 160;
const EVENTS_A_POLICY: usize = 8;
/// Of so many events each caller asks one by one.
const EVENTS_ASKED: usize = 20;
/// The name that customs have after their renaming.
const RENAMED: &str = "spiffe://customs.gov.pk/agency/karachi-port";
const LINE: &str = "spiffe://port.valparaiso.cl/line/one";

type Events = EventServiceClient<Channel>;
type Ids = BTreeSet<String>;

/// A participant at her node.
struct Caller {
    name: String,
    events: Events,
    clearances: Clearances,
}

/// One node with its callers and the model of it.
struct Run {
    harness: Harness,
    callers: Vec<Caller>,
    maker: Maker,
    world: World,
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr, reason = "a failing seed is to be found in the test's output")]
async fn every_door_shows_what_the_policy_says_and_hides_the_rest_without_a_trace() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match number("TRADELANE_ALIKE_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("TRADELANE_ALIKE_NODES").unwrap_or(NODES)).map(|_| fastrand::u64(..)).collect(),
    };
    let (mut seen, mut hidden) = (0, 0);
    for seed in seeds {
        eprintln!("TRADELANE_ALIKE_SEED={seed}");
        let mut run = Box::pin(Run::begin(seed)).await;
        run.put_in_force(open()).await;
        run.publish_some(EVENTS_FIRST).await;
        for _ in 0..POLICIES {
            let starts: Vec<i64> = run.world.events.iter().map(|stored| stored.accepted_ns).collect();
            let grants = run.maker.grants(&starts);
            run.put_in_force(grants).await;
            run.publish_some(EVENTS_A_POLICY).await;
            let compared = run.compare(false).await;
            (seen, hidden) = (seen + compared.seen, hidden + compared.hidden);
        }
        // By chance alone no hold may be hidden from anybody who reads of its goods.
        run.put_in_force(open()).await;
        for (event, who) in
            run.maker.goods_under_a_private_hold([TERMINAL, CUSTOMS]).into_iter().zip([TERMINAL, CUSTOMS])
        {
            run.publish(event, who).await;
        }
        let compared = run.compare(true).await;
        assert!(compared.withheld > 0, "the customs' private hold was withheld from nobody");
        run.harness.stop().await;
    }
    eprintln!("alike on every door: {seen} times seen, {hidden} times hidden");
    assert!(seen > 300 && hidden > 300, "the test must be able to fail either way: {seen} seen, {hidden} hidden");
}

/// What lets each participant do and read everything that is not private.
fn open() -> Vec<Grant> {
    ["spiffe://port.valparaiso.cl/*", "spiffe://customs.gov.pk/*"]
        .map(|who| Grant { who: who.into(), ..Grant::of_everything() })
        .to_vec()
}

/// How often events were seen and hidden, and holds counted and not shown.
#[derive(Default)]
struct Compared {
    seen: usize,
    hidden: usize,
    withheld: usize,
}

impl Run {
    async fn begin(seed: u64) -> Self {
        let mut harness = Harness::start_with(&made::policy_text(&[]), |_| {}).await;
        let now_ns = SystemClock.now_ns();
        let renamed =
            harness.world.customs.issue_participant(&id(RENAMED), now_ns, CERTIFICATE_LIFE_NS).expect("issued");
        let line = harness.world.port.issue_participant(&id(LINE), now_ns, CERTIFICATE_LIFE_NS).expect("issued");
        let trust_file = harness.world.config().identity.trust_file;
        let trust = std::fs::read_to_string(&trust_file).expect("the trust file");
        let successor = format!("{trust}\n[[successor]]\nparticipant = '{RENAMED}'\nsuccessor_of = '{CUSTOMS}'\n");
        std::fs::write(&trust_file, successor).expect("written");
        let who: [(&str, Issued); 4] =
            [(TERMINAL, harness.port.clone()), (CUSTOMS, harness.customs.clone()), (RENAMED, renamed), (LINE, line)];
        let mut callers = Vec::new();
        for (name, issued) in &who {
            let channel = harness.connect(issued).await.expect("a connection");
            let (events, clearances) = (Events::new(channel.clone()), Clearances::new(channel));
            callers.push(Caller { name: (*name).to_owned(), events, clearances });
        }
        let names = callers.iter().map(|caller| caller.name.clone()).collect();
        let maker = Maker::new(seed, now_ns, names, NODE.to_owned());
        let world = World { successor: (RENAMED.into(), CUSTOMS.into()), node: NODE.into(), ..World::default() };
        Self { harness, callers, maker, world }
    }

    async fn put_in_force(&mut self, grants: Vec<Grant>) {
        self.world.grants = grants;
        let text = made::policy_text(&self.world.grants);
        self.harness.world.write_policy(&text).expect("written");
        let mut operator = self.harness.operate().await;
        if let Err(refused) = operator.reload(proto::ReloadRequest {}).await {
            panic!("the policy is refused: {refused}\n{text}");
        }
    }

    /// Each caller says things, also such as she may not.
    async fn publish_some(&mut self, count: usize) {
        for _ in 0..count {
            let event = self.maker.event(&self.world.events);
            let rng = &mut self.maker.rng;
            let who =
                if rng.u32(..4) == 0 { &self.callers[rng.usize(..self.callers.len())].name } else { &event.publisher };
            let who = who.clone();
            self.publish(event, &who).await;
        }
    }

    /// What the node takes must be what the model lets through.
    async fn publish(&mut self, event: Event, who: &str) {
        let caller = self.callers.iter_mut().find(|caller| caller.name == who).expect("a caller");
        let request = PublishRequest { events: vec![event.unsigned()], on_invalid: 0 };
        let answer = caller.events.publish(request).await;
        let allowed = self.world.may_publish(who, &event, SystemClock.now_ns());
        match answer {
            Err(refused) => {
                let is_right = !allowed && refused.code() == Code::PermissionDenied;
                assert!(is_right, "{who} {event:?}: {refused}");
            }
            Ok(answer) => {
                assert!(allowed, "{who} could publish {event:?} under {:?}", self.world.grants);
                // The next one is judged by what this one binds: who published waits until the views have it.
                caller.events.list_events(proto::ListEventsRequest::default()).await.expect("her own");
                let accepted = answer.get_ref().results[0].accepted_time.expect("a time");
                self.remember(event, accepted.seconds * 1_000_000_000 + i64::from(accepted.nanos));
            }
        }
    }

    fn remember(&mut self, event: Event, accepted_ns: i64) {
        if self.world.events.iter().any(|stored| stored.event.event_id == event.event_id) {
            return;
        }
        let revised = event.revision.as_ref().and_then(|revision| {
            self.world.events.iter().find(|stored| stored.event.event_id == revision.event_id).cloned()
        });
        let chain = revised.map_or_else(Vec::new, |of| [vec![of.event], of.chain].concat());
        self.maker.accepted_times_ns.push(accepted_ns);
        self.world.store(Stored { event, chain, accepted_ns });
    }

    /// Asks every door as every caller; each clearance is folded anew, so that chance chooses who asks for them, where not `all` do.
    async fn compare(&mut self, all: bool) -> Compared {
        let mut everything = Clearances::new(self.harness.connect(&self.harness.operator).await.expect("a connection"));
        let truth = clearances::truth(&mut everything).await;
        let (world, maker) = (&self.world, &mut self.maker);
        let mut compared = Compared::default();
        for caller in &mut self.callers {
            let name = caller.name.clone();
            if !world.may(&name, "read") && !world.may(&name, "publish") {
                let refused =
                    caller.events.list_events(proto::ListEventsRequest::default()).await.expect_err("nothing");
                assert_eq!(refused.code(), Code::PermissionDenied);
                continue;
            }
            let visible: Vec<&Stored> = world.events.iter().filter(|stored| world.sees(&name, stored)).collect();
            compared.seen += visible.len();
            compared.hidden += world.events.len() - visible.len();
            for filters in [Vec::new(), maker.filters(), maker.filters()] {
                let expected = ids(visible.iter().copied().filter(|stored| world.asked(&name, &filters, stored)));
                let what = || format!("{name} asks {filters:?} under {:#?}", world.grants);
                assert_eq!(subscribed(&mut caller.events, &filters).await, expected, "Subscribe: {}", what());
                for order in [ListOrder::NewestFirst, ListOrder::OldestFirst] {
                    let size = maker.rng.u32(2..40);
                    let listed = listed(&mut caller.events, &filters, order, size).await;
                    assert_eq!(listed, expected, "ListEvents: {}", what());
                }
            }
            let expected = ids(visible.iter().copied());
            for stored in maker.rng.choose_multiple(&world.events, EVENTS_ASKED) {
                got(&mut caller.events, &stored.event, expected.contains(&stored.event.event_id), &name).await;
                explained(&mut caller.events, &stored.event, world, &name).await;
            }
            for subject in made::subjects() {
                let depth = maker.rng.u32(1..=3);
                timeline(&mut caller.events, subject, depth, &visible, world, &name).await;
            }
            for un_locode in ["PKKHI", "CLVAP"] {
                port_call(&mut caller.events, un_locode, &visible, &name).await;
            }
            if !all && maker.rng.u32(..3) > 0 {
                continue;
            }
            let unseen = ids(world.events.iter()).difference(&expected).cloned().collect();
            let (lists, watches) = (maker.rng.u32(..3) == 0, maker.rng.u32(..8) == 0);
            let held =
                clearances::Held { name: &name, visible: &visible, hidden: &unseen, truth: &truth, lists, watches };
            compared.withheld += clearances::compare(&mut caller.clearances, &held).await;
        }
        compared
    }
}

fn ids<'a>(events: impl Iterator<Item = &'a Stored>) -> Ids {
    events.map(|stored| stored.event.event_id.clone()).collect()
}

fn id_of(recorded: &proto::RecordedEvent) -> String {
    let signed = recorded.signed.clone().expect("an event");
    let event: Event = prost::Message::decode(signed.event).expect("a good event");
    event.event_id
}

fn asked(filters: &[FilterSpec]) -> Vec<proto::EventFilter> {
    filters.iter().map(filter::spec_to_proto).collect()
}

/// What a stream from the beginning brings until it says that this is all.
async fn subscribed(client: &mut Events, filters: &[FilterSpec]) -> Ids {
    let start = Some(Start::StartAt(proto::StartAt::Earliest.into()));
    let request = proto::SubscribeRequest { start, filters: asked(filters) };
    let mut stream = client.subscribe(request).await.expect("a stream").into_inner();
    let mut ids = Ids::new();
    loop {
        match stream.message().await.expect("goes on").expect("goes on").message.expect("known") {
            Message::Events(batch) => {
                for event in &batch.events {
                    assert!(ids.insert(id_of(event)), "an event came twice");
                }
            }
            Message::CaughtUp(_) => return ids,
            _ => {}
        }
    }
}

async fn listed(client: &mut Events, filters: &[FilterSpec], order: ListOrder, page_size: u32) -> Ids {
    let mut request =
        proto::ListEventsRequest { filters: asked(filters), page_size, order: order.into(), ..Default::default() };
    let mut ids = Ids::new();
    loop {
        let page = client.list_events(request.clone()).await.expect("a page").into_inner();
        for event in &page.events {
            assert!(ids.insert(id_of(event)), "an event was listed twice");
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return ids;
        }
    }
}

/// Everything that a caller can see of a refusal.
fn face(refused: &Status) -> (Code, String, Vec<u8>, Vec<String>) {
    let headers = refused.metadata().clone().into_headers();
    let names = headers.keys().map(ToString::to_string).filter(|name| name != "date").collect();
    (refused.code(), refused.message().to_owned(), refused.details().to_vec(), names)
}

async fn got(client: &mut Events, event: &Event, is_visible: bool, name: &str) {
    let request =
        |event_id: &str| proto::GetEventRequest { event_id: event_id.into(), publisher: event.publisher.clone() };
    match client.get_event(request(&event.event_id)).await {
        Ok(answer) => {
            assert!(is_visible, "GetEvent shows {name} {event:?}");
            assert_eq!(id_of(answer.get_ref().event.as_ref().expect("an event")), event.event_id);
        }
        Err(refused) => {
            assert!(!is_visible, "GetEvent hides {event:?} from {name}: {refused}");
            let absent = client.get_event(request(&uuid::Uuid::now_v7().to_string())).await.expect_err("not there");
            assert_eq!(face(&refused), face(&absent));
        }
    }
}

/// Only the publisher is told what became of an event; to everybody else it makes no difference whether it is there.
async fn explained(client: &mut Events, event: &Event, world: &World, name: &str) {
    let request =
        |event_id: &str| proto::ExplainEventRequest { event_id: event_id.into(), publisher: event.publisher.clone() };
    let answer = client.explain_event(request(&event.event_id)).await;
    let may = world.is_own(name, event) && world.may(name, "publish");
    assert_eq!(answer.is_ok(), may, "ExplainEvent of {event:?} to {name}: {answer:?}");
    if let Err(refused) = answer {
        let absent = client.explain_event(request(&uuid::Uuid::now_v7().to_string())).await.expect_err("not there");
        assert_eq!(face(&refused), face(&absent));
    }
}

async fn timeline(client: &mut Events, subject: Subject, depth: u32, visible: &[&Stored], world: &World, name: &str) {
    let tied = world.tied(name, &model::key(&subject), depth);
    let about = |stored: &&&Stored| {
        stored.event.body.is_some() && model::subjects(&stored.event).iter().any(|one| tied.contains(&model::key(one)))
    };
    let expected = ids(visible.iter().filter(about).copied());
    let request = proto::GetTimelineRequest {
        subject: Some(subject.clone()),
        association_depth: depth,
        include_revised: true,
        page_size: 1_000,
        ..Default::default()
    };
    let answer = client.get_timeline(request).await.expect("a timeline").into_inner();
    let entries: Ids = answer.entries.iter().filter_map(|entry| entry.event.as_ref()).map(id_of).collect();
    assert_eq!(entries, expected, "GetTimeline of {subject:?} to depth {depth} for {name} under {:#?}", world.grants);
    let named: BTreeSet<model::Key> =
        answer.associated.iter().filter_map(|one| one.subject.as_ref()).map(model::key).collect();
    let others = tied.into_iter().filter(|one| *one != model::key(&subject)).collect();
    assert_eq!(named, others, "subjects that belong to {subject:?} for {name}");
    let seen = ids(visible.iter().copied());
    let told =
        answer.entries.iter().map(|entry| &entry.revised_by).chain(answer.associated.iter().map(|one| &one.event_id));
    assert!(told.filter(|id| !id.is_empty()).all(|id| seen.contains(id)), "an event that {name} may not see is named");
}

async fn port_call(client: &mut Events, un_locode: &str, visible: &[&Stored], name: &str) {
    let voyage = tradelane::testing::events::Voyage::new(0, 0).vessel_arrived();
    let request = proto::GetPortCallRequest {
        subject: Some(voyage.subjects[0].clone()),
        un_locode: un_locode.into(),
        ..Default::default()
    };
    let rows = client.get_port_call(request).await.expect("rows").into_inner().rows;
    let revised: Ids =
        visible.iter().filter_map(|one| one.event.revision.as_ref()).map(|one| one.event_id.clone()).collect();
    let here = |event: &Event| event.places.iter().any(|place| place.role == 1 && place.un_locode == un_locode);
    let stated: Vec<&Event> = visible
        .iter()
        .map(|stored| &stored.event)
        .filter(|event| {
            matches!(event.body, Some(Body::Movement(_))) && here(event) && !revised.contains(&event.event_id)
        })
        .collect();
    let times: Vec<&proto::PortCallTime> =
        rows.iter().flat_map(|row| [&row.planned, &row.estimated, &row.requested, &row.actual]).flatten().collect();
    let counted: usize = times.iter().map(|time| 1 + time.superseded_count as usize).sum();
    assert_eq!(counted, stated.len(), "GetPortCall counts for {name} at {un_locode}: {rows:?}");
    assert!(times.iter().all(|time| stated.iter().any(|event| event.event_id == time.event_id)));
    let kind = |event: &Event| event.places.iter().find(|place| place.role == 1).map(|place| place.kind);
    let kinds: BTreeSet<(String, Option<i32>, Classifier)> =
        stated.iter().map(|event| (event.publisher.clone(), kind(event), event.classifier())).collect();
    assert_eq!(times.len(), kinds.len(), "GetPortCall rows for {name} at {un_locode}");
}
