//! Subscribers at the tail: how long an event takes from its publisher to a subscriber at fixed rates, how many deliveries many subscribers
//! get, and what one costs that gets nothing. Times at a fixed rate count from when an event was to be sent, whenever it was.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::Streaming;

use super::{
    Bench, BenchNode,
    child::own_usage,
    drive::{self, Driven, StreamRequest, joined, nanoseconds},
    raw::{
        PUBLISH, PUBLISH_STREAM, RawClient, SUBSCRIBE, delivered, id_of, stored_in_response, stored_in_stream_response,
    },
    report::{Measurement, System},
    scenario::Encoded,
};
use crate::{
    cli::{ExitCode, Failure},
    wire::proto::{EventFilter, StartAt, SubscribeRequest, subscribe_request::Start},
};

/// Events a second at which end-to-end times are measured.
const RATES: [u32; 2] = [2_000, 20_000];
/// Subscribers among whom events are fanned out, and how many events each gets.
const FAN_OUT: [(usize, usize); 3] = [(10, 100_000), (100, 20_000), (1_000, 2_000)];
/// Events of one request while they are fanned out.
const FAN_OUT_EVENTS_PER_REQUEST: usize = 100;
/// Subscribers that get nothing.
const IDLE: [usize; 2] = [1_000, 10_000];
/// What a delivery may take before the measurement is given up.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Requests between the clock that sends and the connection.
const PACED_AHEAD_MAX: usize = 1_024;

/// Measures times from publisher to subscriber.
///
/// # Errors
/// The node fails, or delivers other events than were published.
pub async fn latency(bench: &mut Bench) -> Result<(), Failure> {
    let node = bench.fresh_node().await?;
    for rate in RATES {
        let (end_to_end, acknowledged) = (
            format!("single events at {rate}/s, publisher to subscriber"),
            format!("single events at {rate}/s, until acknowledged"),
        );
        for round in 1..=bench.rounds {
            let count = bench.count(rate as usize * bench.limit.as_secs() as usize);
            let told: Vec<_> = (0..count).map(|_| bench.story.tell()).collect();
            let requests =
                (1..).zip(&told).map(|(id, told)| StreamRequest::new(id, &Encoded::of(std::slice::from_ref(told))));
            let requests: Vec<_> = requests.collect();
            let mut publisher = node.clients(1).await?.remove(0);
            let mut subscriber = node.clients(1).await?.remove(0);
            let stream = subscribe(&mut subscriber, StartAt::Latest, None).await?;
            let ids = told.into_iter().map(|told| told.event_id).collect::<Vec<_>>();
            let before = (node.server.usage(), own_usage());
            let started = Instant::now();
            let (acks, arrivals) =
                tokio::join!(paced(&mut publisher, requests, rate, started), arrivals(stream, &ids, rate, started));
            let after = (node.server.usage(), own_usage());
            for (case, driven) in [(&end_to_end, arrivals?), (&acknowledged, acks?)] {
                let measured = Measurement::driven("latency", case, System::Tradelane, round, driven);
                bench.report.add(measured.used(before, after));
            }
        }
    }
    node.discard().await
}

/// Publishes at a fixed rate, however long answers take: request n at `started` + n / `rate`. Its latencies count from then.
///
/// # Errors
/// The node refuses an event, or the stream fails.
pub async fn paced(
    client: &mut RawClient,
    requests: Vec<StreamRequest>,
    rate: u32,
    started: Instant,
) -> Result<Driven, Failure> {
    let (sender, receiver) = mpsc::channel(PACED_AHEAD_MAX);
    let count = requests.len();
    // A thread of its own, since the runtime's clock goes by milliseconds.
    let clock = tokio::task::spawn_blocking(move || {
        for (number, request) in requests.into_iter().enumerate() {
            let due = due(started, number, rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.blocking_send(request.0.bytes).is_err() {
                // Whoever reads the answers says why the stream is gone.
                return;
            }
        }
    });
    let mut driven = Driven::default();
    let mut answers = client.both_streams(PUBLISH_STREAM, ReceiverStream::new(receiver)).await?;
    while let Some(answer) = answers.next().await {
        let answer = answer?;
        let number = driven.latencies_ns.len();
        driven.latencies_ns.push(nanoseconds(due(started, number, rate).elapsed()));
        driven.events += stored_in_stream_response(&answer) as u64;
    }
    clock.await.map_err(|error| Failure::new(ExitCode::Failure, error))?;
    driven.elapsed = started.elapsed();
    if driven.events == count as u64 {
        Ok(driven)
    } else {
        Err(Failure::new(ExitCode::Failure, format!("{} of {count} events were stored", driven.events)))
    }
}

pub(super) fn due(started: Instant, number: usize, rate: u32) -> Instant {
    started + Duration::from_secs(number as u64) / rate
}

/// When the events of these ids arrive, in this order.
pub(super) async fn arrivals(
    mut stream: Streaming<Bytes>,
    ids: &[String],
    rate: u32,
    started: Instant,
) -> Result<Driven, Failure> {
    let mut driven = Driven::default();
    while driven.latencies_ns.len() < ids.len() {
        let message = next_within(&mut stream).await?;
        let arrived = Instant::now();
        for recorded in delivered(&message) {
            let number = driven.latencies_ns.len();
            if ids.get(number).map(String::as_bytes) != id_of(recorded) {
                return Err(Failure::new(ExitCode::Failure, format!("event {number} arrived out of turn")));
            }
            driven.latencies_ns.push(nanoseconds(arrived.saturating_duration_since(due(started, number, rate))));
            driven.events += 1;
        }
    }
    Ok(Driven { elapsed: started.elapsed(), ..driven })
}

/// Measures how many deliveries many subscribers get at once.
///
/// # Errors
/// The node fails.
pub async fn fan_out(bench: &mut Bench) -> Result<(), Failure> {
    let node = bench.fresh_node().await?;
    for (subscribers, events_each) in FAN_OUT {
        let case = fan_out_case(subscribers);
        for round in 1..=bench.rounds {
            let request_count = bench.count(events_each / FAN_OUT_EVENTS_PER_REQUEST);
            let requests: Vec<_> =
                (0..request_count).map(|_| bench.story.request(FAN_OUT_EVENTS_PER_REQUEST)).collect();
            let (requests, event_count) = (Arc::new(requests), request_count * FAN_OUT_EVENTS_PER_REQUEST);
            let mut readers = JoinSet::new();
            for stream in subscribe_all(&node, subscribers, None).await? {
                readers.spawn(count_deliveries(stream, event_count));
            }
            let publishers = node.clients(4).await?;
            let before = (node.server.usage(), own_usage());
            let started = Instant::now();
            let publishing = drive::unary(&publishers, PUBLISH, &requests, 4, DELIVERY_TIMEOUT, |_, answer| {
                stored_in_response(answer)
            });
            let reading = async {
                while let Some(read) = readers.join_next().await {
                    joined(read)?;
                }
                Ok::<_, Failure>(started.elapsed())
            };
            let (published, elapsed) = tokio::join!(publishing, reading);
            let (_, elapsed) = (published?, elapsed?);
            let after = (node.server.usage(), own_usage());
            let count = (subscribers * event_count) as u64;
            let measured = Measurement::new("fan_out", &case, System::Tradelane, round, count, elapsed);
            bench.report.add(measured.used(before, after));
        }
    }
    let deliveries = |subscribers| bench.report.rates(&fan_out_case(subscribers), System::Tradelane);
    let (hundred, thousand) = (deliveries(100), deliveries(1_000));
    bench.report.compare("deliveries to 1,000 subscribers: to 100".to_owned(), Some(0.8), &thousand, &hundred);
    node.discard().await
}

fn fan_out_case(subscribers: usize) -> String {
    format!("deliveries to {subscribers} subscribers")
}

pub(super) async fn count_deliveries(mut stream: Streaming<Bytes>, expected: usize) -> Result<(), Failure> {
    let mut count = 0;
    while count < expected {
        count += delivered(&next_within(&mut stream).await?).count();
    }
    Ok(())
}

/// Measures the memory of subscribers that get nothing.
///
/// # Errors
/// The node fails.
pub async fn idle(bench: &mut Bench) -> Result<(), Failure> {
    for full in IDLE {
        // Not one node for both: the second would find the memory that the first left.
        let node = bench.fresh_node().await?;
        idle_of(bench, node, bench.count(full)).await?;
    }
    Ok(())
}

async fn idle_of(bench: &mut Bench, node: BenchNode, count: usize) -> Result<(), Failure> {
    let filter = EventFilter { commodity_prefixes: vec!["999999".to_owned()], ..EventFilter::default() };
    let before = node.server.usage();
    let streams = subscribe_all(&node, count, Some(&filter)).await?;
    let grown = node.server.usage().rss_bytes.saturating_sub(before.rss_bytes);
    let kibibytes = grown as f64 / 1_024.0 / count as f64;
    bench.report.figure(
        format!("memory of each of {count} idle subscribers, connections included"),
        kibibytes,
        "KiB",
        Some(40.0),
    );
    drop(streams);
    node.discard().await
}

/// So many subscriptions to what comes from now on, over as few connections as carry them. The connections live as long as the streams.
async fn subscribe_all(
    node: &BenchNode,
    count: usize,
    filter: Option<&EventFilter>,
) -> Result<Vec<Streaming<Bytes>>, Failure> {
    let clients = node.clients(count).await?;
    let mut streams = Vec::with_capacity(count);
    for number in 0..count {
        let mut client = clients[number % clients.len()].clone();
        streams.push(subscribe(&mut client, StartAt::Latest, filter.cloned()).await?);
    }
    Ok(streams)
}

/// Subscribes, and waits until the node has begun.
pub(super) async fn subscribe(
    client: &mut RawClient,
    start: StartAt,
    filter: Option<EventFilter>,
) -> Result<Streaming<Bytes>, Failure> {
    let start = Some(Start::StartAt(start.into()));
    let request = SubscribeRequest { start, filters: filter.into_iter().collect() };
    let mut stream = client.server_stream(SUBSCRIBE, request.encode_to_vec().into()).await?;
    next_within(&mut stream).await?;
    Ok(stream)
}

async fn next_within(stream: &mut Streaming<Bytes>) -> Result<Bytes, Failure> {
    match tokio::time::timeout(DELIVERY_TIMEOUT, stream.next()).await {
        Ok(Some(message)) => Ok(message?),
        Ok(None) => Err(Failure::new(ExitCode::Unavailable, "the node ended a subscription")),
        Err(_) => {
            let words = format!("nothing arrived within {} s", DELIVERY_TIMEOUT.as_secs());
            Err(Failure::new(ExitCode::Unavailable, words))
        }
    }
}
