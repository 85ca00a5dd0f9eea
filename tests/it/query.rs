//! Queries of a whole node over mutual TLS and its own log: what was published is found, paged, told in order, and by nobody else.

use prost::Message;
use tonic::{Code, transport::Channel};
use tonic_types::StatusExt;
use tradelane::{
    clock::{Clock, SystemClock},
    testing::{
        events::{self, HOUR_NS, Voyage},
        pki::{CUSTOMS, TERMINAL},
    },
    wire::{
        PublishRequest,
        proto::{self, Audience, Event, EventFilter, ListOrder, Reach, event_service_client::EventServiceClient},
    },
};

use crate::harness::Harness;

/// Customs see what happens in Pakistan, and what names them; the port sees and publishes everything.
const POLICY: &str = r#"
[[grant]]
id = "port"
who = ["spiffe://port.valparaiso.cl/*"]
actions = ["publish", "read", "share"]
all = true

[[grant]]
id = "customs"
who = ["spiffe://customs.gov.pk/*"]
actions = ["read"]
filters = [{ types = ["handling.gated_out"] }, { parties = [{ participant = "$caller" }] }]

[[grant]]
id = "operators"
who = ["spiffe://exchange.gov.pk/operator/*"]
actions = ["operate"]
all = true
"#;

type Events = EventServiceClient<Channel>;

/// A voyage that ended an hour ago, as the terminal publishes all of it.
fn voyage(n: u32) -> (Voyage, Vec<Event>) {
    let voyage = Voyage::new(n, SystemClock.now_ns() - Voyage::LASTS_NS - HOUR_NS);
    let events =
        voyage.events().into_iter().map(|event| Event { publisher: TERMINAL.into(), ..event }.with_id()).collect();
    (voyage, events)
}

async fn publish(client: &mut Events, events: &[Event]) -> Vec<proto::PublishResult> {
    let events = events.iter().map(Event::unsigned).collect();
    let request = PublishRequest { events, ..PublishRequest::default() };
    client.publish(request).await.expect("published").into_inner().results
}

fn id_of(recorded: &proto::RecordedEvent) -> String {
    let signed = recorded.signed.clone().expect("an event");
    Event::decode(signed.event).expect("a good event").event_id
}

/// Reads a list to its end.
async fn list_all(client: &mut Events, mut request: proto::ListEventsRequest) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let page = client.list_events(request.clone()).await.expect("a page").into_inner();
        ids.extend(page.events.iter().map(id_of));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return ids;
        }
    }
}

fn container(n: u32) -> EventFilter {
    let subject = proto::Subject { value: events::container_number(n), ..proto::Subject::default() };
    EventFilter { subjects: vec![subject], ..EventFilter::default() }
}

#[tokio::test]
async fn who_published_finds_it_at_once_and_others_only_what_is_theirs() {
    let harness = Harness::start_with(POLICY, |_| {}).await;
    let (mut port, mut customs) = (harness.events(&harness.port).await, harness.events(&harness.customs).await);
    for n in 0..20 {
        let (voyage, events) = voyage(n);
        publish(&mut port, &events[1..]).await;
        // Without waiting for anything: each publisher reads her own writes.
        let request = proto::ListEventsRequest { filters: vec![container(n)], ..Default::default() };
        let mut found = list_all(&mut port, request).await;
        found.reverse();
        assert_eq!(found, events[1..].iter().map(|event| event.event_id.clone()).collect::<Vec<_>>());
        let subject = Some(voyage.container_subject());
        let timeline = port.get_timeline(proto::GetTimelineRequest { subject, ..Default::default() }).await;
        assert_eq!(timeline.expect("a timeline").get_ref().entries.len(), 9);
    }
    // Customs have a grant for gate-outs alone; whatever they ask, and whichever way, they see no more.
    for (filters, count) in [
        (Vec::new(), 20),
        (vec![container(3)], 1),
        (vec![EventFilter { types: vec!["hold".into()], ..Default::default() }], 0),
    ] {
        for order in [ListOrder::NewestFirst, ListOrder::OldestFirst] {
            let request = proto::ListEventsRequest {
                filters: filters.clone(),
                page_size: 7,
                order: order.into(),
                ..Default::default()
            };
            assert_eq!(list_all(&mut customs, request).await.len(), count);
        }
    }
    let (voyage, events) = voyage(3);
    let timeline = proto::GetTimelineRequest {
        subject: Some(voyage.container_subject()),
        association_depth: 3,
        ..Default::default()
    };
    let timeline = customs.get_timeline(timeline).await.expect("a timeline").into_inner();
    assert_eq!((timeline.entries.len(), timeline.associated.len()), (1, 0));
    let hidden = proto::GetEventRequest { event_id: events[2].event_id.clone(), publisher: TERMINAL.into() };
    let refused = customs.get_event(hidden).await.expect_err("not hers");
    let unknown = proto::GetEventRequest { event_id: uuid::Uuid::now_v7().to_string(), publisher: TERMINAL.into() };
    let absent = customs.get_event(unknown).await.expect_err("not there");
    assert_eq!(
        (refused.code(), refused.message(), refused.details()),
        (absent.code(), absent.message(), absent.details())
    );
    assert_eq!(refused.code(), Code::NotFound);
    harness.stop().await;
}

#[tokio::test]
async fn what_was_stored_is_found_after_a_restart_and_after_a_rebuild() {
    let harness = Harness::start_with(POLICY, |_| {}).await;
    let (_, mut events) = voyage(1);
    if let Some(proto::event::Body::Association(association)) = &mut events[1].body {
        association.parties[0].participant = CUSTOMS.into();
    }
    events[1] = std::mem::take(&mut events[1]).with_id();
    let positions = publish(&mut harness.events(&harness.port).await, &events).await;
    let harness = Box::pin(harness.stop().await.start_again()).await;
    let request = proto::ListEventsRequest { order: ListOrder::OldestFirst.into(), page_size: 4, ..Default::default() };
    let seen_by_port = list_all(&mut harness.events(&harness.port).await, request.clone()).await;
    assert_eq!(seen_by_port, events.iter().map(|event| event.event_id.clone()).collect::<Vec<_>>());
    // By the association that names them they see all of the container and the declaration, but not the vessel.
    let mut customs = harness.events(&harness.customs).await;
    let seen_by_customs = list_all(&mut customs, request.clone()).await;
    assert_eq!(seen_by_customs, seen_by_port[1..]);
    for view in ["search", "associations"] {
        let request = proto::RebuildViewRequest { view: view.to_owned() };
        let mut progress = harness.operate().await.rebuild_view(request).await.expect("begun").into_inner();
        let mut last = None;
        while let Some(step) = progress.message().await.expect("a step") {
            last = Some(step);
        }
        let last = last.expect("an end");
        assert!(last.done && last.applied_sequence == events.len() as u64, "{view}: {last:?}");
    }
    assert_eq!(list_all(&mut customs, request).await, seen_by_customs);
    let ask = proto::ExplainEventRequest { event_id: events[0].event_id.clone(), publisher: TERMINAL.into() };
    let mut operator = EventServiceClient::new(harness.connect(&harness.operator).await.expect("a connection"));
    let explained = operator.explain_event(ask).await.expect("explained").into_inner();
    assert_eq!(
        (explained.position, explained.publish_grant_ids),
        (positions[0].position.clone(), vec!["port".to_owned()])
    );
    assert!(explained.views.iter().all(|view| view.applied), "{:?}", explained.views);
    harness.stop().await;
}

#[tokio::test]
async fn what_a_query_cannot_mean_is_said_by_field() {
    let harness = Harness::start_with(POLICY, |_| {}).await;
    let mut port = harness.events(&harness.port).await;
    let (_, mut events) = voyage(1);
    events[2].audience = Some(Audience { reach: Reach::Private.into(), participants: Vec::new() });
    publish(&mut port, &[events[2].clone().with_id(), events[3].clone()]).await;
    let filter = EventFilter { types: vec!["handling.flown".into()], ..EventFilter::default() };
    let request = proto::ListEventsRequest { filters: vec![EventFilter::default(), filter], ..Default::default() };
    let refused = port.list_events(request).await.expect_err("no such step");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let details = refused.get_details_bad_request().expect("details");
    assert!(details.field_violations.iter().any(|one| one.field == "filters[1].types[0]"), "{details:?}");
    let first = proto::ListEventsRequest { page_size: 1, ..Default::default() };
    let page = port.list_events(first.clone()).await.expect("a page").into_inner();
    let other = proto::ListEventsRequest { page_size: 2, page_token: page.next_page_token, ..first };
    let refused = port.list_events(other).await.expect_err("another request's token");
    assert_eq!(refused.get_details_bad_request().expect("details").field_violations[0].field, "page_token");
    harness.stop().await;
}

#[tokio::test]
async fn a_page_token_outlives_a_restart_and_fits_only_its_own_request_and_caller() {
    let harness = Harness::start_with(POLICY, |_| {}).await;
    let (voyage, events) = voyage(1);
    publish(&mut harness.events(&harness.port).await, &events[1..]).await;
    let list = proto::ListEventsRequest { order: ListOrder::OldestFirst.into(), page_size: 4, ..Default::default() };
    let timeline =
        proto::GetTimelineRequest { subject: Some(voyage.container_subject()), page_size: 4, ..Default::default() };
    let mut port = harness.events(&harness.port).await;
    let listed = port.list_events(list.clone()).await.expect("a page").into_inner();
    let told = port.get_timeline(timeline.clone()).await.expect("a page").into_inner();
    drop(port);

    let harness = Box::pin(harness.stop().await.start_again()).await;
    let (mut port, mut customs) = (harness.events(&harness.port).await, harness.events(&harness.customs).await);
    let token = listed.next_page_token;
    let next = proto::ListEventsRequest { page_token: token.clone(), ..list.clone() };
    let mut ids: Vec<String> = listed.events.iter().map(id_of).collect();
    ids.extend(list_all(&mut port, next.clone()).await);
    assert_eq!(ids, events[1..].iter().map(|event| event.event_id.clone()).collect::<Vec<_>>());
    let next_told = proto::GetTimelineRequest { page_token: told.next_page_token, page_size: 9, ..timeline.clone() };
    let refused = port.get_timeline(next_told.clone()).await.expect_err("another page size");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let rest = port.get_timeline(proto::GetTimelineRequest { page_size: 4, ..next_told }).await.expect("a page");
    let shown = |entries: &[proto::TimelineEntry]| {
        entries.iter().filter_map(|entry| entry.event.as_ref()).map(id_of).collect::<Vec<_>>()
    };
    let whole = proto::GetTimelineRequest { page_size: 100, ..timeline };
    let whole = port.get_timeline(whole).await.expect("a timeline").into_inner();
    assert_eq!([shown(&told.entries), shown(&rest.get_ref().entries)].concat(), shown(&whole.entries)[..8]);

    let mut altered = token.clone().into_bytes();
    let last = altered.last_mut().expect("a token is not empty");
    *last = if *last == b'0' { b'1' } else { b'0' };
    let altered = String::from_utf8(altered).expect("still digits");
    for (who, wrong) in [
        (&mut customs, next.clone()),
        (&mut port, proto::ListEventsRequest { order: ListOrder::NewestFirst.into(), ..next.clone() }),
    ] {
        let refused = who.list_events(wrong).await.expect_err("not hers, or not this order");
        assert_eq!(refused.get_details_bad_request().expect("details").field_violations[0].field, "page_token");
    }
    let wrongs = [
        proto::ListEventsRequest { filters: vec![container(1)], ..next.clone() },
        proto::ListEventsRequest { page_token: altered, ..next.clone() },
    ];
    for wrong in wrongs {
        assert_eq!(port.list_events(wrong).await.expect_err("altered").code(), Code::InvalidArgument);
    }
    harness.stop().await;
}
