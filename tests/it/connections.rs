//! What an operator is told of streams: how many events each carried and how far its reader is, whichever call it is and however many share
//! its connection.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Streaming, transport::Channel};
use tradelane::{
    clock::{Clock, SystemClock},
    testing::{
        events::{HOUR_NS, Voyage},
        pki::CUSTOMS,
    },
    wire::{
        PublishRequest,
        proto::{
            CreateSubscriptionRequest, Event, EventFilter, ListConnectionsRequest, PublishStreamRequest, StreamState,
            SubscribeRequest, SubscriptionDefinition, WatchClearancesRequest,
            clearance_service_client::ClearanceServiceClient, create_subscription_request,
            event_service_client::EventServiceClient, subscribe_request,
            subscription_service_client::SubscriptionServiceClient, watch_clearances_request,
        },
    },
};

use crate::{
    consumer::Consumer,
    harness::{Harness, PATIENCE},
};

/// Events of the port, about a container each.
const DISCHARGES: u32 = 6;

/// All live streams of one participant, as the operator is told.
async fn streams_of(harness: &Harness, participant: &str) -> Vec<StreamState> {
    let listed = harness.operate().await.list_connections(ListConnectionsRequest::default()).await.expect("listed");
    let connections = listed.into_inner().connections.into_iter();
    connections.filter(|one| one.participant == participant).flat_map(|one| one.streams).collect()
}

/// Waits until the operator is told so of each stream: its method's last word, events carried, last sequence examined, lag.
async fn are_told(harness: &Harness, participant: &str, expected: &[(&str, u64, u64, u64)]) {
    let mut told = Vec::new();
    let becomes_so = async {
        loop {
            told = streams_of(harness, participant).await;
            let of = |stream: &StreamState| {
                let method = stream.method.rsplit('/').next().unwrap_or_default().to_owned();
                (method, stream.event_count, stream.examined_sequence, stream.lag_events)
            };
            let seen: Vec<_> = told.iter().map(of).collect();
            if seen.iter().map(|(method, a, b, c)| (method.as_str(), *a, *b, *c)).eq(expected.iter().copied()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let in_time = timeout(PATIENCE, becomes_so).await.is_ok();
    assert!(in_time, "expected {expected:?}, told {told:#?}");
}

/// Reads whatever comes, so that the node is not held up.
fn drain<T: Send + 'static>(mut stream: Streaming<T>) {
    tokio::spawn(async move { while let Ok(Some(_)) = stream.message().await {} });
}

fn discharges(harness: &Harness) -> PublishRequest {
    let made = |number| {
        let event = Voyage::new(number, SystemClock.now_ns() - Voyage::LASTS_NS - HOUR_NS).discharged();
        Event { publisher: harness.port.id.to_string(), ..event }.with_id().unsigned()
    };
    PublishRequest { events: (0..DISCHARGES).map(made).collect(), on_invalid: 0 }
}

async fn watch(channel: &Channel) {
    let start = Some(watch_clearances_request::Start::StartAt(tradelane::wire::proto::StartAt::Earliest.into()));
    let request = WatchClearancesRequest { start, ..WatchClearancesRequest::default() };
    let watch = ClearanceServiceClient::new(channel.clone()).watch_clearances(request).await.expect("a watch");
    drain(watch.into_inner());
}

async fn subscribe(channel: &Channel, filters: Vec<EventFilter>) {
    let start = Some(subscribe_request::Start::StartAt(tradelane::wire::proto::StartAt::Earliest.into()));
    let request = SubscribeRequest { start, filters };
    let stream = EventServiceClient::new(channel.clone()).subscribe(request).await.expect("a stream");
    drain(stream.into_inner());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stream_shows_what_it_carried_and_how_far_its_reader_is() {
    let harness = Harness::start().await;
    // Over one connection: a watch, two readers and a consumer. None is taken for another.
    let channel = harness.connect(&harness.customs).await.expect("a connection");
    watch(&channel).await;
    subscribe(&channel, Vec::new()).await;
    let gated = EventFilter { types: vec!["handling.gated_out".into()], ..EventFilter::default() };
    subscribe(&channel, vec![gated]).await;
    let start = Some(create_subscription_request::Start::StartAt(tradelane::wire::proto::StartAt::Earliest.into()));
    let definition = Some(SubscriptionDefinition::default());
    let create = CreateSubscriptionRequest { name: "all".into(), definition, start };
    SubscriptionServiceClient::new(channel.clone()).create_subscription(create).await.expect("created");
    let mut consumer = Consumer::start(channel.clone(), "all", 100).await.expect("a consumer");

    // Published over a stream that stays open, and once more: what was stored before is carried too.
    let (say, said) = tokio::sync::mpsc::channel(4);
    let requests = tokio_stream::wrappers::ReceiverStream::new(said);
    let mut port = harness.events(&harness.port).await;
    let mut answers = port.publish_stream(requests).await.expect("a stream").into_inner();
    let request = discharges(&harness);
    for correlation_id in 1..=2 {
        let publish = Some(request.clone());
        say.send(PublishStreamRequest { correlation_id, publish }).await.expect("there is room");
        answers.message().await.expect("goes on").expect("an answer");
    }
    let all = u64::from(DISCHARGES);
    are_told(&harness, harness.port.id.as_str(), &[("PublishStream", 2 * all, 0, 0)]).await;

    let of_customs = |changes, all| {
        [
            ("WatchClearances", changes, all, 0),
            ("Subscribe", all, all, 0),
            ("Subscribe", 0, all, 0),
            ("Consume", all, all, 0),
        ]
    };
    // A discharge changes no clearance.
    consumer.deliveries(DISCHARGES as usize).await;
    are_told(&harness, CUSTOMS, &of_customs(0, all)).await;

    // A declaration is lodged: that is a change, told with its event.
    let lodged = Voyage::new(1, SystemClock.now_ns() - Voyage::LASTS_NS - HOUR_NS).lodged();
    let lodged = Event { publisher: harness.customs.id.to_string(), ..lodged }.with_id().unsigned();
    let request = PublishRequest { events: vec![lodged], on_invalid: 0 };
    harness.events(&harness.customs).await.publish(request).await.expect("stored");
    let all = all + 1;
    are_told(&harness, CUSTOMS, &of_customs(1, all)).await;
}
