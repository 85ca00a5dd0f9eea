//! A node with so many events stored: replays of all or of few of them, queries, restarts. It never measures how they got there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message;
use tokio_stream::StreamExt;

use super::{
    Bench, BenchNode,
    child::own_usage,
    clients,
    drive::{self, Driven},
    limits::{STREAM, StreamSize},
    raw::{PUBLISH, RawClient, SUBSCRIBE, delivered, fields, stored_in_response},
    report::{Measurement, System},
    scenario::{Story, Told, WATCHED_COMMODITY},
};
use crate::{
    cli::{ExitCode, Failure},
    clock::{Clock, SystemClock},
    wire::proto::{EventFilter, StartAt, SubscribeRequest, subscribe_request::Start},
};

/// Events of one request while the log is filled.
const FILL_EVENTS_PER_REQUEST: usize = 500;
/// Requests that are ready at one time meanwhile, so that ten million events do not stand in memory.
const FILL_REQUESTS: usize = 100;
/// Of so many events one is remembered, to be asked for.
const REMEMBERED_EVERY: usize = 97;
/// Filling may take this long.
const FILL_LIMIT: Duration = Duration::from_secs(3_600);
/// The field of `SubscribeResponse` that says that all that was stored has been seen.
const CAUGHT_UP: u32 = 4;

/// A node with events, and some of what is in it.
pub struct Filled {
    /// The node.
    pub node: BenchNode,
    /// How many events it has.
    pub events: u64,
    /// How many concern the watched commodity.
    pub watched: u64,
    /// Some of them.
    pub remembered: Vec<Told>,
    /// What it takes on disk for each event, once it is quiet.
    pub disk_bytes_per_event: f64,
    /// How they were stored: the rate, the longest wait for an answer, and what the node cost.
    pub filling: Measurement,
}

/// Starts a node and stores so many events in it; each container has about a hundred.
///
/// # Errors
/// The node fails.
pub async fn fill(bench: &mut Bench, count: usize) -> Result<Filled, Failure> {
    let mut story = Story::new((count as u64 / 100).max(10), SystemClock.now_ns());
    let node = bench.fresh_node().await?;
    let empty_bytes = node.disk_bytes();
    let clients = node.clients(4).await?;
    let (mut watched, mut remembered, mut told_count) = (0, Vec::new(), 0);
    let (mut filling, before) = (Driven::default(), (node.server.usage(), own_usage()));
    while told_count < count {
        let mut requests = Vec::with_capacity(FILL_REQUESTS);
        while requests.len() < FILL_REQUESTS && told_count < count {
            let told: Vec<_> = (0..FILL_EVENTS_PER_REQUEST.min(count - told_count)).map(|_| story.tell()).collect();
            watched += told.iter().filter(|told| told.is_watched).count() as u64;
            remembered.extend(
                told.iter()
                    .enumerate()
                    .filter(|(at, _)| (told_count + at) % REMEMBERED_EVERY == 0)
                    .map(|(_, told)| told.clone()),
            );
            told_count += told.len();
            requests.push(super::scenario::Encoded::of(&told));
        }
        let requests = Arc::new(requests);
        let driven =
            drive::unary(&clients, PUBLISH, &requests, 4, FILL_LIMIT, |_, answer| stored_in_response(answer)).await?;
        filling.events += driven.events;
        filling.elapsed += driven.elapsed;
        filling.latencies_ns.extend(driven.latencies_ns);
    }
    node.server.quiet().await;
    let after = (node.server.usage(), own_usage());
    let (events, taken) = (filling.events, node.disk_bytes().saturating_sub(empty_bytes));
    let disk_bytes_per_event = taken as f64 / events.max(1) as f64;
    let case = format!("storing {events} events, {FILL_EVENTS_PER_REQUEST} a call");
    let filling = Measurement {
        disk_bytes_per_event: Some(disk_bytes_per_event),
        ..Measurement::driven("storing", &case, System::Tradelane, 1, filling).used(before, after)
    };
    Ok(Filled { node, events, watched, remembered, disk_bytes_per_event, filling })
}

/// Measures replays from the beginning to one subscriber, without a filter and with one that few events pass, beside a bare stream.
///
/// # Errors
/// A server fails, or a replay brings other events than are stored.
pub async fn replay(bench: &mut Bench) -> Result<(), Failure> {
    for count in bench.stored_counts() {
        replay_of(bench, count).await?;
    }
    Ok(())
}

async fn replay_of(bench: &mut Bench, count: usize) -> Result<(), Failure> {
    let filled = fill(bench, count).await?;
    bench.report.add(filled.filling.clone());
    let limit_server = bench.limit_server().await?;
    let all_case = format!("replay of {} events", filled.events);
    let few_case = format!(
        "replay of {} events through a filter that 1 in {} pass",
        filled.events,
        super::scenario::WATCHED_EVERY
    );
    let mut to_node = filled.node.clients(1).await?.remove(0);
    let mut to_limit = clients(&bench.exchange, &limit_server, 1).await?.remove(0);
    for round in 1..=bench.rounds {
        filled.node.server.quiet().await;
        let mut size = MessageSizes::default();
        for filter in
            [None, Some(EventFilter { commodity_prefixes: vec![WATCHED_COMMODITY.into()], ..EventFilter::default() })]
        {
            let (case, expected) =
                if filter.is_some() { (&few_case, filled.watched) } else { (&all_case, filled.events) };
            let request = from_the_beginning(filter.clone());
            let before = (filled.node.server.usage(), own_usage());
            let (mut examined, started) = (0, Instant::now());
            while examined == 0 || started.elapsed() < bench.repeat_for {
                let seen = replay_once(&mut to_node, request.clone()).await?;
                if seen.events != expected {
                    let words = format!("a replay brought {} events instead of {expected}", seen.events);
                    return Err(Failure::new(ExitCode::Failure, words));
                }
                examined += filled.events;
                if filter.is_none() {
                    size = seen;
                }
            }
            let elapsed = started.elapsed();
            let after = (filled.node.server.usage(), own_usage());
            bench.report.add(Measurement {
                disk_bytes_per_event: Some(filled.disk_bytes_per_event),
                ..Measurement::new("replay", case, System::Tradelane, round, examined, elapsed).used(before, after)
            });
        }
        let bare = bare_stream(bench.repeat_for, &mut to_limit, size).await?;
        bench.report.add(Measurement::new("replay", &all_case, System::BareStream, round, bare.events, bare.elapsed));
    }
    let report = &mut bench.report;
    let (ours, theirs) = (report.rates(&all_case, System::Tradelane), report.rates(&all_case, System::BareStream));
    report.compare(format!("{all_case}: to a bare stream of as many bytes"), Some(0.5), &ours, &theirs);
    let few = report.rates(&few_case, System::Tradelane);
    report.compare(format!("{few_case}: events examined, to events replayed"), Some(3.0), &few, &ours);
    limit_server.stop().await?;
    filled.node.discard().await
}

/// What a replay brought.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MessageSizes {
    pub(super) events: u64,
    messages: u64,
    bytes: u64,
}

pub(super) fn from_the_beginning(filter: Option<EventFilter>) -> Bytes {
    let start = Some(Start::StartAt(StartAt::Earliest.into()));
    SubscribeRequest { start, filters: filter.into_iter().collect() }.encode_to_vec().into()
}

/// Reads until everything that was stored has been seen.
pub(super) async fn replay_once(client: &mut RawClient, request: Bytes) -> Result<MessageSizes, Failure> {
    let mut messages = client.server_stream(SUBSCRIBE, request).await?;
    let mut seen = MessageSizes::default();
    while let Some(message) = messages.next().await {
        let message = message?;
        let events = delivered(&message).count() as u64;
        seen.events += events;
        if events > 0 {
            seen.messages += 1;
            seen.bytes += message.len() as u64;
        }
        if fields(&message).any(|(number, _)| number == CAUGHT_UP) {
            return Ok(seen);
        }
    }
    Err(Failure::new(ExitCode::Unavailable, "the node ended a replay"))
}

/// As many bytes in as many messages, from a server that does nothing else. Its events are those that the bytes would have been.
async fn bare_stream(repeat_for: Duration, client: &mut RawClient, size: MessageSizes) -> Result<Driven, Failure> {
    let message_bytes = (size.bytes / size.messages.max(1)) as u32;
    let request = StreamSize { message_bytes, messages: size.messages as u32 }.encode();
    let (mut events, started) = (0, Instant::now());
    while events == 0 || started.elapsed() < repeat_for {
        let mut messages = client.server_stream(STREAM, request.clone()).await?;
        let mut count = 0;
        while let Some(message) = messages.next().await {
            message?;
            count += 1;
        }
        if count != size.messages {
            return Err(Failure::new(ExitCode::Failure, format!("a bare stream brought {count} messages")));
        }
        events += size.events;
    }
    Ok(Driven { events, elapsed: started.elapsed(), latencies_ns: Vec::new() })
}
