//! The queries as a caller meets them: pages, tokens, rights, and what must not be told apart.

use std::sync::{Arc, OnceLock};

use prost::Message;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    clock::{SystemClock, TestClock},
    domain::EventId,
    log::Lookout,
    store::MemoryStore,
    subscribe::durable::{DurableLimits, DurableParts},
    tasks::Tasks,
    testing::events::{self, BROKER, CARRIER, CUSTOMS, HOUR_NS, TERMINAL, Voyage},
    views::{
        page_token::PageKey,
        test_node::{NODE, NOW_NS, TestNode, policy, spiffe},
    },
    wire::proto::{
        Audience, Event, EventFilter, ExplainEventRequest, GetEventRequest, GetPortCallRequest, GetTimelineRequest,
        ListEventsRequest, ListOrder, Reach, Subject, SubjectRole,
    },
};

pub(super) const STRANGER: &str = "spiffe://stranger.example/nobody";
pub(super) const OPERATOR: &str = "spiffe://exchange.gov.pk/operator/1";
const POLICY: &str = "
[[grant]]
id = 'network'
who = ['spiffe://port.karachi.pk/*', 'spiffe://customs.gov.pk/*', 'spiffe://maersk.example/*']
actions = ['publish', 'read']
all = true
[[grant]]
id = 'consignments'
who = ['spiffe://indus-brokers.pk/*']
actions = ['read']
filters = [{ parties = [{ participant = '$caller' }] }]
[[grant]]
id = 'operator'
who = ['spiffe://exchange.gov.pk/operator/*']
actions = ['operate']
all = true
";

pub(super) fn caller(name: &str) -> Caller {
    Caller {
        id: spiffe(name),
        connection_id: 1,
        remote_address: "127.0.0.1:1".parse().expect("an address"),
        certificate_not_after_ns: i64::MAX,
        closing: CancellationToken::new(),
        closing_reason: Arc::new(OnceLock::new()),
    }
}

pub(super) fn queries(node: &TestNode) -> Queries {
    let (log, bindings) = (Arc::clone(&node.log) as _, Arc::clone(&node.associations) as _);
    queries_beside(node, Federation::alone(log, bindings, spiffe(NODE)), Arc::new(TestClock::at_ns(NOW_NS)))
}

/// The queries of a node that has links to others.
pub(super) fn queries_beside(node: &TestNode, federation: Federation, clock: Arc<TestClock>) -> Queries {
    let access = Arc::new(Access::new(policy(POLICY)));
    let durable = DurableSubscriptions::open(DurableParts {
        log: Arc::clone(&node.log) as _,
        lookout: Lookout::new(Arc::clone(&node.log) as _, Tasks::new()),
        store: Arc::new(MemoryStore::default()),
        access: Arc::clone(&access),
        bindings: Arc::clone(&node.associations) as _,
        clock: Arc::clone(&clock) as _,
        node: spiffe(NODE),
        tasks: Tasks::new(),
        draining: CancellationToken::new(),
        limits: DurableLimits::default(),
    });
    Queries::new(QueriesParts {
        log: Arc::clone(&node.log) as _,
        search_index: Arc::clone(&node.index) as _,
        associations: Arc::clone(&node.associations),
        search_view: node.search_view.clone(),
        associations_view: node.associations_view.clone(),
        access,
        acknowledged: Arc::default(),
        sessions: Arc::default(),
        durable: Arc::new(durable.expect("readable")),
        federation: Arc::new(federation),
        clock,
        node: spiffe(NODE),
        tokens: Arc::new(PageTokens::new(&PageKey::fresh(&SystemClock), &SystemClock)),
    })
}

fn decoded(event: &proto::RecordedEvent) -> Event {
    let signed = event.signed.clone().expect("an event");
    Event::decode(signed.event).expect("a good event")
}

pub(super) fn private(mut event: Event) -> Event {
    event.audience = Some(Audience { reach: Reach::Private.into(), participants: Vec::new() });
    event.with_id()
}

pub(super) fn violations(error: Option<QueryError>) -> Vec<(String, &'static str)> {
    match error {
        Some(QueryError::Invalid(violations)) => {
            violations.into_iter().map(|violation| (violation.field, violation.reason)).collect()
        }
        other => panic!("not refused as invalid: {other:?}"),
    }
}

#[tokio::test]
async fn an_event_is_got_by_its_names_and_only_by_who_may_read_it() {
    let node = TestNode::start();
    let queries = queries(&node);
    let voyage = Voyage::new(1, NOW_NS);
    let secret = private(voyage.discharged());
    let corrected = voyage.gated_out().corrected(|event| event.utc_offset_minutes = Some(0));
    let places = node.store(&[secret.clone(), voyage.gated_out(), corrected.clone()]).await;
    let get =
        |publisher: &str, event_id: &str| GetEventRequest { event_id: event_id.into(), publisher: publisher.into() };

    let own = queries.get_event(&caller(TERMINAL), get("", &secret.event_id)).await.expect("her own event");
    let recorded = own.event.expect("an event");
    assert_eq!(decoded(&recorded), secret);
    assert_eq!(recorded.position, queries.position(places[0]));
    let origin = recorded.origin.expect("an origin");
    assert_eq!((&*origin.node, origin.sequence), (NODE, 1));

    let revised = queries.get_event(&caller(CUSTOMS), get(TERMINAL, &voyage.gated_out().event_id)).await;
    assert_eq!(revised.expect("for the network").revised_by, corrected.event_id);

    // What is hidden and what is not there get the same answer.
    let unknown = EventId::from_bytes([7; 16]).to_string();
    for (who, publisher, event_id) in [
        (CUSTOMS, TERMINAL, &secret.event_id),
        (CUSTOMS, TERMINAL, &unknown),
        (CUSTOMS, STRANGER, &secret.event_id),
        (CUSTOMS, "", &secret.event_id),
        (BROKER, TERMINAL, &corrected.event_id),
    ] {
        let answer = queries.get_event(&caller(who), get(publisher, event_id)).await;
        assert_eq!(answer, Err(QueryError::NotFound), "{who} asks for {event_id} of {publisher}");
    }
    let answer = queries.get_event(&caller(STRANGER), get(TERMINAL, &secret.event_id)).await;
    assert_eq!(answer, Err(QueryError::NotGranted(Action::Read)));
    let answer = queries.get_event(&caller(CUSTOMS), get("terminal", "1")).await;
    assert_eq!(
        violations(answer.err()),
        [("event_id".into(), "EVENT_ID_MALFORMED"), ("publisher".into(), "SPIFFE_ID_MALFORMED")]
    );
}

#[tokio::test]
async fn pages_join_to_the_whole_and_stay_while_events_arrive() {
    let node = TestNode::start();
    let queries = queries(&node);
    for n in 0..30 {
        node.store(&[Voyage::new(n, NOW_NS).discharged(), private(Voyage::new(n, NOW_NS).gated_out())]).await;
    }
    for order in [ListOrder::NewestFirst, ListOrder::OldestFirst] {
        let mut request = ListEventsRequest { page_size: 7, order: order.into(), ..ListEventsRequest::default() };
        let mut found = Vec::new();
        let mut as_of = None;
        for page in 0.. {
            let answer = queries.list_events(&caller(CUSTOMS), request.clone()).await.expect("a page");
            // What arrives between the pages belongs to none of them.
            node.store(&[Voyage::new(100 + page, NOW_NS + order as i64).discharged()]).await;
            assert!(answer.events.len() <= 7);
            assert_eq!(*as_of.get_or_insert(answer.as_of.clone()), answer.as_of);
            found.extend(answer.events.iter().map(|event| event.origin.clone().expect("an origin").sequence));
            request.page_token = answer.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        let mut expected: Vec<u64> = (0..30).map(|n| 2 * n + 1).collect();
        if order == ListOrder::NewestFirst {
            expected.reverse();
            // The first round added events before the second one began, not here.
            assert_eq!(found, expected);
        } else {
            assert_eq!(found[..30], expected);
        }
    }
}

#[tokio::test]
async fn a_token_serves_only_its_own_request_and_caller() {
    let node = TestNode::start();
    let queries = queries(&node);
    node.store(&[Voyage::new(1, NOW_NS).discharged(), Voyage::new(2, NOW_NS).discharged()]).await;
    let request = ListEventsRequest { page_size: 1, ..ListEventsRequest::default() };
    let first = queries.list_events(&caller(CUSTOMS), request.clone()).await.expect("a page");
    assert_eq!((first.events.len(), first.next_page_token.is_empty()), (1, false));
    let token = first.next_page_token;
    let next = ListEventsRequest { page_token: token.clone(), ..request.clone() };
    assert!(queries.list_events(&caller(CUSTOMS), next.clone()).await.is_ok());
    let filter = EventFilter { types: vec!["handling".into()], ..EventFilter::default() };
    for (who, wrong) in [
        (CUSTOMS, ListEventsRequest { filters: vec![filter], ..next.clone() }),
        (CUSTOMS, ListEventsRequest { order: ListOrder::OldestFirst.into(), ..next.clone() }),
        (CUSTOMS, ListEventsRequest { page_size: 2, ..next.clone() }),
        (CUSTOMS, ListEventsRequest { page_token: "00".into(), ..next.clone() }),
        (CARRIER, next),
    ] {
        let answer = queries.list_events(&caller(who), wrong).await;
        assert_eq!(violations(answer.err()), [("page_token".into(), "PAGE_TOKEN_INVALID")]);
    }
    let timeline = GetTimelineRequest {
        subject: Some(Voyage::new(1, NOW_NS).container_subject()),
        page_token: token,
        ..GetTimelineRequest::default()
    };
    let answer = queries.get_timeline(&caller(CUSTOMS), timeline).await;
    assert_eq!(violations(answer.err()), [("page_token".into(), "PAGE_TOKEN_INVALID")]);
}

#[tokio::test]
async fn a_page_of_large_events_stays_below_what_clients_take() {
    let node = TestNode::start();
    let queries = queries(&node);
    let large = |n: u32| {
        let mut event = Voyage::new(n, NOW_NS).discharged();
        event.extensions = vec![proto::Extension { schema: "urn:x".into(), data: vec![1; 60_000].into() }];
        event.with_id()
    };
    node.store(&(0..100).map(large).collect::<Vec<_>>()).await;
    let mut request = ListEventsRequest { page_size: 1_000, ..ListEventsRequest::default() };
    let mut count = 0;
    for _ in 0..10 {
        let answer = queries.list_events(&caller(CUSTOMS), request.clone()).await.expect("a page");
        assert!(answer.encoded_len() < 4 * 1024 * 1024, "{} bytes", answer.encoded_len());
        count += answer.events.len();
        request.page_token = answer.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(count, 100);
}

#[tokio::test]
async fn accepted_times_bound_a_list() {
    let node = TestNode::start();
    let queries = queries(&node);
    node.store(&[Voyage::new(1, NOW_NS).discharged()]).await;
    let at = |seconds: i64| Some(prost_types::Timestamp { seconds: NOW_NS / 1_000_000_000 + seconds, nanos: 0 });
    for (start, end, count) in [(-10, 10, 1), (-10, 0, 0), (0, 1, 1), (1, 10, 0)] {
        let range = proto::TimeRange { start_time: at(start), end_time: at(end) };
        let filter = EventFilter { accepted_time: Some(range), ..EventFilter::default() };
        for order in [ListOrder::NewestFirst, ListOrder::OldestFirst] {
            let request = ListEventsRequest {
                filters: vec![filter.clone()],
                order: order.into(),
                ..ListEventsRequest::default()
            };
            let answer = queries.list_events(&caller(CUSTOMS), request).await.expect("a page");
            assert_eq!(answer.events.len(), count, "from {start} to {end}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_published_waits_for_the_views_and_others_do_not() {
    let node = TestNode::start();
    let queries = queries(&node);
    let places = node.store(&[Voyage::new(1, NOW_NS).discharged()]).await;
    queries.parts.acknowledged.note(&spiffe(TERMINAL), places[0].next());
    let answer = queries.list_events(&caller(TERMINAL), ListEventsRequest::default()).await;
    assert!(matches!(answer, Err(QueryError::Behind(_))), "{answer:?}");
    let answer = queries.list_events(&caller(CUSTOMS), ListEventsRequest::default()).await.expect("a page");
    assert_eq!((answer.events.len(), answer.narrowed), (1, false));
}

#[tokio::test]
async fn a_party_finds_her_consignment_and_is_told_that_her_view_is_narrowed() {
    let node = TestNode::start();
    let queries = queries(&node);
    let (voyage, other) = (Voyage::new(1, NOW_NS), Voyage::new(2, NOW_NS));
    let mut strange = other.attached();
    if let Some(proto::event::Body::Association(association)) = &mut strange.body {
        association.parties.clear();
    }
    node.store(&[voyage.attached(), voyage.discharged(), strange.with_id(), other.discharged()]).await;
    let answer = queries.list_events(&caller(BROKER), ListEventsRequest::default()).await.expect("a page");
    let ids: Vec<String> = answer.events.iter().map(|event| decoded(event).event_id).collect();
    assert_eq!(ids, [voyage.discharged().event_id, voyage.attached().event_id]);
    assert!(answer.narrowed);
}

#[tokio::test]
async fn a_timeline_comes_in_pages_that_join_to_the_whole() {
    let node = TestNode::start();
    let queries = queries(&node);
    let voyage = Voyage::new(1, NOW_NS);
    let gone = voyage.gated_out();
    let mut events = voyage.events();
    events.push(gone.retracted());
    node.store(&events).await;
    let all = GetTimelineRequest {
        subject: Some(Subject { value: voyage.container.to_lowercase(), ..voyage.container_subject() }),
        include_revised: true,
        ..GetTimelineRequest::default()
    };
    let whole = queries.get_timeline(&caller(CUSTOMS), all.clone()).await.expect("a timeline");
    assert_eq!((whole.entries.len(), &*whole.next_page_token), (9, ""));
    assert_eq!(whole.entries[8].revised_by, gone.retracted().event_id);
    assert_eq!(whole.associated.len(), 1);
    let mut request = GetTimelineRequest { page_size: 2, ..all };
    let mut paged = Vec::new();
    loop {
        let page = queries.get_timeline(&caller(CUSTOMS), request.clone()).await.expect("a page");
        paged.extend(page.entries);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, whole.entries);
    let in_force = GetTimelineRequest { include_revised: false, page_size: 0, ..request };
    let in_force = queries.get_timeline(&caller(CUSTOMS), in_force).await.expect("a timeline");
    assert_eq!(in_force.entries[..], whole.entries[..8]);
}

#[tokio::test]
async fn what_a_timeline_cannot_be_asked_is_said_by_field() {
    let node = TestNode::start();
    let queries = queries(&node);
    let container = Voyage::new(1, NOW_NS).container_subject();
    let ask = |subject: Option<Subject>, depth: u32| GetTimelineRequest {
        subject,
        association_depth: depth,
        ..GetTimelineRequest::default()
    };
    let wrong_digit = Subject { value: "MSKU9070320".into(), ..container.clone() };
    for (request, field) in [
        (ask(None, 0), "subject"),
        (ask(Some(Subject { kind: 0, ..container.clone() }), 0), "subject.kind"),
        (ask(Some(Subject { value: String::new(), ..container.clone() }), 0), "subject.value"),
        (ask(Some(wrong_digit), 0), "subject.value"),
        (ask(Some(container), 4), "association_depth"),
    ] {
        let answer = queries.get_timeline(&caller(CUSTOMS), request).await;
        assert_eq!(violations(answer.err())[0].0, field);
    }
}

#[tokio::test]
async fn a_port_call_is_asked_for_by_call_or_by_vessel_and_port() {
    let node = TestNode::start();
    let queries = queries(&node);
    let voyage = Voyage::new(1, NOW_NS);
    node.store(&[voyage.vessel_arrived()]).await;
    let vessel = events::subject(proto::IdentifierKind::VesselImo, "9321483", "", SubjectRole::Primary);
    let ask = |subject: Subject, un_locode: &str| GetPortCallRequest {
        subject: Some(subject),
        un_locode: un_locode.into(),
        ..GetPortCallRequest::default()
    };
    let answer = queries.get_port_call(&caller(CUSTOMS), ask(vessel.clone(), "pkkhi")).await.expect("a call");
    let [row] = &answer.rows[..] else { panic!("one row, not {:?}", answer.rows) };
    assert_eq!((&*row.reporter, row.step()), (TERMINAL, proto::MovementStep::Arrived));
    assert_eq!(row.actual.clone().expect("an actual time").event_id, voyage.vessel_arrived().event_id);
    let elsewhere = queries.get_port_call(&caller(CUSTOMS), ask(vessel.clone(), "AEJEA")).await.expect("an empty call");
    assert!(elsewhere.rows.is_empty());
    // A caller whose grants show her nothing of it cannot tell that there was a call.
    let hidden = queries.get_port_call(&caller(BROKER), ask(vessel.clone(), "PKKHI")).await.expect("an empty call");
    assert!(hidden.rows.is_empty());
    let call = events::subject(proto::IdentifierKind::PortCall, "KHI-1", "", SubjectRole::Primary);
    for (request, field) in [
        (ask(vessel.clone(), ""), "un_locode"),
        (ask(vessel, "KARACHI"), "un_locode"),
        (ask(call, ""), "subject.issuer"),
        (ask(voyage.container_subject(), "PKKHI"), "subject.kind"),
    ] {
        let answer = queries.get_port_call(&caller(CUSTOMS), request).await;
        assert_eq!(violations(answer.err())[0].0, field);
    }
}

#[tokio::test]
async fn an_event_is_explained_to_its_publisher_and_to_operators() {
    let node = TestNode::start();
    let queries = queries(&node);
    let voyage = Voyage::new(1, NOW_NS + HOUR_NS);
    let event = private(voyage.discharged());
    node.store(&[event.clone(), event.retracted()]).await;
    let ask = || ExplainEventRequest { event_id: event.event_id.clone(), publisher: TERMINAL.into() };
    for who in [TERMINAL, OPERATOR] {
        let answer = queries.explain_event(&caller(who), ask()).await.expect("an explanation");
        assert_eq!(
            (answer.position, answer.publish_grant_ids),
            (queries.position(Sequence(1)), vec!["network".to_owned()])
        );
        assert_eq!(answer.size_bytes, event.encoded_len() as u64);
        assert_eq!(answer.revised_by, [event.retracted().event_id]);
        let views: Vec<(&str, bool)> = answer.views.iter().map(|view| (&*view.view, view.applied)).collect();
        assert_eq!(views, [("search", true), ("associations", true)]);
    }
    // Nobody else learns whether it is there.
    let unknown = ExplainEventRequest { event_id: EventId::from_bytes([7; 16]).to_string(), ..ask() };
    for request in [ask(), unknown.clone()] {
        let answer = queries.explain_event(&caller(CUSTOMS), request).await;
        assert_eq!(answer, Err(QueryError::NotGranted(Action::Operate)));
    }
    assert_eq!(queries.explain_event(&caller(OPERATOR), unknown).await, Err(QueryError::NotFound));
}
