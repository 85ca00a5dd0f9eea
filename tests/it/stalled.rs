//! A live reader, and a watch of clearances, that stops reading, over real connections: she costs the node her window and no more, is ended with her resume point while
//! she still does not read, and goes on from it without missing an event or getting one twice.

use std::time::Duration;

use prost::Message as _;
use tokio::time::timeout;
use tonic::{Code, Streaming, transport::Channel};
use tonic_types::StatusExt;
use tradelane::{
    clock::{Clock, SystemClock},
    testing::{
        events::{HOUR_NS, Voyage},
        pki::CUSTOMS,
    },
    wire::{
        PublishRequest,
        proto::{
            Event, ExplainEventRequest, Extension, ListConnectionsRequest, StartAt, SubscribeRequest,
            SubscribeResponse, WatchClearancesRequest, WatchClearancesResponse,
            clearance_service_client::ClearanceServiceClient, subscribe_request::Start, subscribe_response::Message,
            watch_clearances_request::Start as WatchStart, watch_clearances_response::Message as Told,
        },
    },
};

use crate::harness::{Harness, PATIENCE, POLICY};

/// Large events, so that a few hundred are much more than what lies between a node and a reader.
const EVENT_BYTES: usize = 16_000;
const EVENTS: usize = 600;
/// A request is below 4 MiB.
const EVENTS_PER_REQUEST: usize = 200;
/// What a client lets a server send on a stream before it reads: the default of hyper, on which tonic's clients stand.
const CLIENT_WINDOW_BYTES: usize = 2 * 1024 * 1024;
/// What a message of the stream takes at the most: a batch is closed at 128 KiB, by one event more.
const MESSAGE_BYTES: usize = 128 * 1024 + EVENT_BYTES;
/// Messages that wait at the node: four in the window, one that is being sent, and one on its way between the two.
const MESSAGES: usize = 6;

/// Publishes as the port, and answers the ids in order.
async fn publish(harness: &Harness, which: fn(&Voyage) -> Event, numbers: std::ops::Range<usize>) -> Vec<String> {
    let mut events = harness.events(&harness.port).await;
    let made = |n: usize| {
        let event = which(&Voyage::new(n as u32, SystemClock.now_ns() - Voyage::LASTS_NS - HOUR_NS));
        let extension = Extension { schema: "urn:tradelane:test".into(), data: vec![n as u8; EVENT_BYTES].into() };
        Event { publisher: harness.port.id.to_string(), extensions: vec![extension], ..event }.with_id()
    };
    let all: Vec<Event> = numbers.map(made).collect();
    for some in all.chunks(EVENTS_PER_REQUEST) {
        let request = PublishRequest { events: some.iter().map(Event::unsigned).collect(), on_invalid: 0 };
        events.publish(request).await.expect("stored");
    }
    all.into_iter().map(|event| event.event_id).collect()
}

async fn follow(harness: &Harness, start: Start) -> Streaming<SubscribeResponse> {
    let request = SubscribeRequest { start: Some(start), filters: Vec::new() };
    harness.events(&harness.customs).await.subscribe(request).await.expect("a stream").into_inner()
}

/// Whom an event reaches live, as the operator is told.
async fn readers(harness: &Harness, event_id: &str) -> usize {
    let ask = ExplainEventRequest { event_id: event_id.to_owned(), publisher: harness.port.id.to_string() };
    let mut events = harness.events(&harness.operator).await;
    events.explain_event(ask).await.expect("explained").into_inner().subscribers.len()
}

/// How many events were prepared for the reader, as the operator is told.
async fn prepared(harness: &Harness) -> u64 {
    let listed = harness.operate().await.list_connections(ListConnectionsRequest::default()).await.expect("listed");
    let connections = listed.into_inner().connections;
    let hers = connections.iter().filter(|connection| connection.participant == CUSTOMS);
    let streams = hers.flat_map(|connection| &connection.streams);
    streams.filter(|stream| stream.method.ends_with("/Subscribe")).map(|stream| stream.event_count).sum()
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}: not within the patience of the test"))
}

/// Reads until all was told or the stream ends: the ids that came, and how it ended.
async fn read(stream: &mut Streaming<SubscribeResponse>) -> (Vec<String>, Option<tonic::Status>) {
    let reading = async {
        let mut ids = Vec::new();
        loop {
            match stream.message().await {
                Ok(Some(SubscribeResponse { message: Some(Message::Events(batch)) })) => {
                    ids.extend(batch.events.into_iter().map(|event| {
                        let signed = event.signed.expect("whole");
                        Event::decode(signed.event).expect("an event").event_id
                    }));
                }
                Ok(Some(SubscribeResponse { message: Some(Message::CaughtUp(_)) })) => return (ids, None),
                Ok(Some(_)) => {}
                Ok(None) => panic!("a stream ends with its reason"),
                Err(status) => return (ids, Some(status)),
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("an end, or everything, within the patience of the test")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_reading_costs_her_window_and_is_ended_with_her_resume_point() {
    let stall_timeout = Duration::from_secs(3);
    let harness = Harness::start_with(POLICY, |config| config.subscriptions.stall_timeout = stall_timeout).await;
    let ids = publish(&harness, Voyage::discharged, 0..EVENTS).await;
    let mut stream = follow(&harness, Start::StartAt(StartAt::Earliest.into())).await;
    assert!(matches!(stream.message().await, Ok(Some(SubscribeResponse { message: Some(Message::Started(_)) }))));

    // She reads no more. What is prepared for her is looked at until she is ended, and never grows beyond her window.
    let mut most = 0;
    until("the reader begins", async || (0 < prepared(&harness).await).then_some(())).await;
    until("the stalled reader is ended", async || {
        most = most.max(prepared(&harness).await);
        (readers(&harness, &ids[0]).await == 0).then_some(())
    })
    .await;
    let bytes = most as usize * EVENT_BYTES;
    let window_bytes = CLIENT_WINDOW_BYTES + MESSAGES * MESSAGE_BYTES;
    assert!(window_bytes < EVENTS * EVENT_BYTES / 2, "there is much more than fits");
    assert!(bytes <= window_bytes, "{most} events of {EVENT_BYTES} bytes were prepared, the window is {window_bytes}");

    // When she reads again she gets what was under way, and then is told why it ended and where to go on.
    let (before, end) = read(&mut stream).await;
    let end = end.expect("she was ended");
    let info = end.get_details_error_info().unwrap_or_else(|| panic!("no details: {end:?}"));
    assert_eq!((end.code(), info.reason.as_str()), (Code::ResourceExhausted, "READER_STALLED"), "{end:?}");
    let resume = info.metadata.get("resume_position").expect("where to go on").clone();
    assert!(!before.is_empty() && before.len() < EVENTS);
    let mut stream = follow(&harness, Start::AfterPosition(resume)).await;
    let (after, end) = read(&mut stream).await;
    assert!(end.is_none(), "{end:?}");
    assert_eq!([before, after].concat(), ids, "nothing is missing, nothing comes twice");
    harness.stop().await;
}

async fn watch(client: &mut ClearanceServiceClient<Channel>, start: WatchStart) -> Streaming<WatchClearancesResponse> {
    let request = WatchClearancesRequest { start: Some(start), subjects: Vec::new() };
    let mut stream = client.watch_clearances(request).await.expect("a stream").into_inner();
    let first = timeout(PATIENCE, stream.message()).await.expect("it begins").expect("it begins").expect("it begins");
    assert!(matches!(first.message, Some(Told::Started(_))));
    stream
}

/// Reads until so many changes were told, or the stream ends: the ids of their events, and how it ended.
async fn changes(
    stream: &mut Streaming<WatchClearancesResponse>,
    count_max: usize,
) -> (Vec<String>, Option<tonic::Status>) {
    let reading = async {
        let mut ids = Vec::new();
        while ids.len() < count_max {
            match stream.message().await {
                Ok(Some(WatchClearancesResponse { message: Some(Told::Changes(told)) })) => {
                    let signed = told.event.and_then(|event| event.signed).expect("she may read it");
                    ids.push(Event::decode(signed.event).expect("an event").event_id);
                }
                Ok(Some(_)) => {}
                Ok(None) => panic!("a stream ends with its reason"),
                Err(status) => return (ids, Some(status)),
            }
        }
        (ids, None)
    };
    timeout(PATIENCE, reading).await.expect("an end, or everything, within the patience of the test")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_clearances_that_is_not_read_holds_up_nobody_and_is_ended_with_its_resume_point() {
    let stall_timeout = Duration::from_secs(3);
    let harness = Harness::start_with(POLICY, |config| config.subscriptions.stall_timeout = stall_timeout).await;
    let mut ids = publish(&harness, Voyage::lodged, 0..EVENTS).await;
    let mut customs = ClearanceServiceClient::new(harness.connect(&harness.customs).await.expect("a connection"));
    let mut port = ClearanceServiceClient::new(harness.connect(&harness.port).await.expect("a connection"));
    let mut stream = watch(&mut customs, WatchStart::StartAt(StartAt::Earliest.into())).await;
    until("the watch follows", async || (readers(&harness, &ids[0]).await == 1).then_some(())).await;
    // Others publish and are told meanwhile.
    let mut other = watch(&mut port, WatchStart::StartAt(StartAt::Latest.into())).await;
    ids.extend(publish(&harness, Voyage::lodged, EVENTS..EVENTS + 1).await);
    assert_eq!(changes(&mut other, 1).await.0, ids[EVENTS..]);
    drop(other);
    until("the stalled watch is ended", async || (readers(&harness, &ids[0]).await == 0).then_some(())).await;

    let (before, end) = changes(&mut stream, ids.len()).await;
    let end = end.expect("it was ended");
    let info = end.get_details_error_info().unwrap_or_else(|| panic!("no details: {end:?}"));
    assert_eq!((end.code(), info.reason.as_str()), (Code::ResourceExhausted, "READER_STALLED"), "{end:?}");
    let window_bytes = CLIENT_WINDOW_BYTES + MESSAGES * MESSAGE_BYTES;
    let bytes = before.len() * EVENT_BYTES;
    assert!(0 < bytes && bytes <= window_bytes, "{bytes} bytes were told, the window is {window_bytes}");
    let resume = info.metadata.get("resume_position").expect("where to go on").clone();
    let mut stream = watch(&mut customs, WatchStart::AfterPosition(resume)).await;
    let (after, end) = changes(&mut stream, ids.len() - before.len()).await;
    assert!(end.is_none(), "{end:?}");
    assert_eq!([before, after].concat(), ids, "nothing is missing, nothing comes twice");

    // Nothing happens any more, and it hears all the same that the node is there, again and again.
    let mut heard = 0;
    while heard < 2 {
        let message = timeout(PATIENCE, stream.message()).await.expect("the node says that it is there");
        let message = message.expect("it goes on").expect("it goes on").message;
        heard += usize::from(matches!(message, Some(Told::Progress(_))));
    }
    harness.stop().await;
}
