//! Queries and restarts over a log with many events. Every answer must have what was asked for.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use prost::{Message, encoding::string};
use prost_types::Timestamp;

use super::{
    Bench, BenchNode,
    child::own_usage,
    drive::{self, GoesOn, StreamRequest},
    live::paced,
    raw::{PUBLISH, RawClient, fields, stored_in_response},
    report::{Measurement, System, median},
    scenario::{Encoded, PUBLISHER, STEP_NS, Told},
    stored::{Filled, fill},
};
use crate::{
    cli::{ExitCode, Failure},
    wire::proto::{
        EventFilter, GetEventRequest, GetTimelineRequest, IdentifierKind, ListEventsRequest, Place, Subject, TimeRange,
    },
};

const GET: &str = "/tradelane.v1.EventService/GetEvent";
const LIST: &str = "/tradelane.v1.EventService/ListEvents";
const TIMELINE: &str = "/tradelane.v1.EventService/GetTimeline";
/// What is published meanwhile, events a second.
const BACKGROUND_RATE: u32 = 5_000;
/// The field of `ListEventsResponse` that says where the next page begins.
const NEXT_PAGE_TOKEN: u32 = 2;
/// The field of `ListEventsRequest` that asks for it.
const PAGE_TOKEN: u32 = 3;
/// The most queries of one kind.
const QUERIES_MAX: usize = 20_000;
/// Around an event's time, for the query by place and time: some hundreds of events at any place.
const HALF_WINDOW_NS: i64 = 100 * 40 * STEP_NS / 2;

/// One kind of query.
struct Kind {
    name: &'static str,
    path: &'static str,
    request: fn(&Told) -> Vec<u8>,
    goes_on: GoesOn,
    /// The longest that 99 of 100 may take.
    goal_p99_us: Option<f64>,
}

const KINDS: [Kind; 4] = [
    Kind { name: "by id", path: GET, request: by_id, goes_on: is_all, goal_p99_us: Some(300.0) },
    Kind { name: "by container", path: LIST, request: by_container, goes_on: next_page, goal_p99_us: Some(2_000.0) },
    Kind { name: "by place and time", path: LIST, request: by_place_and_time, goes_on: next_page, goal_p99_us: None },
    Kind { name: "timeline of a container", path: TIMELINE, request: timeline, goes_on: is_all, goal_p99_us: None },
];

/// Measures queries one after the other, while nothing is published and while events are.
///
/// # Errors
/// The node fails, or an answer is empty.
pub async fn queries(bench: &mut Bench) -> Result<(), Failure> {
    for count in bench.stored_counts() {
        queries_of(bench, count).await?;
    }
    Ok(())
}

async fn queries_of(bench: &mut Bench, count: usize) -> Result<(), Failure> {
    let filled = fill(bench, count).await?;
    let clients = filled.node.clients(1).await?;
    for round in 1..=bench.rounds {
        for (kind, is_publishing) in KINDS.iter().flat_map(|kind| [(kind, false), (kind, true)]) {
            let meanwhile = if is_publishing { format!("publishing {BACKGROUND_RATE}/s") } else { "quiet".to_owned() };
            let case = format!("query {}, {} events stored, {meanwhile}", kind.name, filled.events);
            let asked = filled.remembered.iter().cycle().take(bench.count(QUERIES_MAX));
            // What it is counted in is queries: each has one answer.
            let requests = asked.map(|told| Encoded { bytes: (kind.request)(told).into(), events: 1 }).collect();
            let requests = Arc::new(requests);
            let (mut publisher, published) = background(bench, &filled.node, is_publishing).await?;
            let publishing = paced(&mut publisher, published, BACKGROUND_RATE, Instant::now());
            let before = (filled.node.server.usage(), own_usage());
            let (limit, goes_on) = (bench.limit, kind.goes_on);
            let asking = drive::unary_in_pages(&clients, kind.path, &requests, 1, limit, has_something, goes_on);
            let (published, driven) = tokio::join!(publishing, asking);
            let (_, driven) = (published?, driven?);
            let after = (filled.node.server.usage(), own_usage());
            let mut measured =
                Measurement::driven("query", &case, System::Tradelane, round, driven).used(before, after);
            if is_publishing {
                // It is what the publishing took, too.
                (measured.server_cpu_seconds_per_million, measured.client_cpu_seconds_per_million) = (None, None);
            }
            bench.report.add(measured);
            if let (Some(goal), true) = (kind.goal_p99_us, round == bench.rounds) {
                let p99 = bench.report.p99_us(&case);
                bench.report.figure(format!("{case}: 99 of 100 take at most"), p99, "µs", Some(goal));
            }
        }
    }
    filled.node.discard().await
}

/// What is published beside the queries: as much as lasts as long as they may; nothing, where it is to be quiet.
async fn background(
    bench: &mut Bench,
    node: &BenchNode,
    is_publishing: bool,
) -> Result<(RawClient, Vec<StreamRequest>), Failure> {
    let client = node.clients(1).await?.remove(0);
    let full = BACKGROUND_RATE as usize * bench.limit.as_secs() as usize;
    let count = if is_publishing { bench.count(full) } else { 0 };
    let requests = (1..=count as u64).map(|id| StreamRequest::new(id, &bench.story.request(1)));
    Ok((client, requests.collect()))
}

/// Measures how long a node takes to its first answer after an orderly stop, and after a kill in the middle of publishing.
///
/// # Errors
/// The node fails, or has lost what it held.
pub async fn restart(bench: &mut Bench) -> Result<(), Failure> {
    for count in bench.stored_counts() {
        restart_of(bench, count).await?;
    }
    Ok(())
}

async fn restart_of(bench: &mut Bench, count: usize) -> Result<(), Failure> {
    let Filled { mut node, events, remembered, .. } = fill(bench, count).await?;
    let probe = remembered.last().expect("something is stored");
    let mut stopped = Vec::new();
    let mut killed = Vec::new();
    for _ in 1..=bench.rounds {
        let data_dir = node.data_dir.clone();
        node.server.stop().await?;
        let restarting = Instant::now();
        node = BenchNode::start(&bench.exchange, data_dir.clone()).await?;
        first_answer(&node, probe).await?;
        stopped.push(restarting.elapsed().as_secs_f64() * 1_000.0);

        let requests = Arc::new((0..bench.count(200)).map(|_| bench.story.request(100)).collect());
        let clients = node.clients(16).await?;
        drive::unary(&clients, PUBLISH, &requests, 16, bench.limit, |_, answer| stored_in_response(answer)).await?;
        node.server.kill().await?;
        let restarting = Instant::now();
        node = BenchNode::start(&bench.exchange, data_dir).await?;
        first_answer(&node, probe).await?;
        killed.push(restarting.elapsed().as_secs_f64() * 1_000.0);
    }
    for (how, times) in [("an orderly stop", stopped), ("kill -9", killed)] {
        let name = format!("restart with {events} events after {how}: to the first answer");
        bench.report.figure(name, median(&times), "ms", Some(2_000.0));
    }
    node.discard().await
}

/// Connects, and asks for an event that is stored.
async fn first_answer(node: &BenchNode, probe: &Told) -> Result<(), Failure> {
    let answer = node.clients(1).await?.remove(0).unary(GET, by_id(probe).into()).await?;
    match has_something(&Encoded { bytes: answer.clone(), events: 1 }, &answer) {
        1 => Ok(()),
        _ => Err(Failure::new(ExitCode::Failure, "an event that was stored is gone")),
    }
}

fn by_id(told: &Told) -> Vec<u8> {
    GetEventRequest { event_id: told.event_id.clone(), publisher: PUBLISHER.to_owned() }.encode_to_vec()
}

fn by_container(told: &Told) -> Vec<u8> {
    let filter = EventFilter { subjects: vec![container(told)], ..EventFilter::default() };
    ListEventsRequest { filters: vec![filter], page_size: 100, ..ListEventsRequest::default() }.encode_to_vec()
}

fn by_place_and_time(told: &Told) -> Vec<u8> {
    let place = Place { un_locode: told.port.to_owned(), ..Place::default() };
    let time = |time_ns: i64| Timestamp {
        seconds: time_ns.div_euclid(1_000_000_000),
        nanos: time_ns.rem_euclid(1_000_000_000) as i32,
    };
    let range = TimeRange {
        start_time: Some(time(told.event_time_ns - HALF_WINDOW_NS)),
        end_time: Some(time(told.event_time_ns + HALF_WINDOW_NS)),
    };
    let filter = EventFilter { places: vec![place], event_time: Some(range), ..EventFilter::default() };
    ListEventsRequest { filters: vec![filter], page_size: 100, ..ListEventsRequest::default() }.encode_to_vec()
}

fn timeline(told: &Told) -> Vec<u8> {
    let subject = Some(container(told));
    GetTimelineRequest { subject, page_size: 100, ..GetTimelineRequest::default() }.encode_to_vec()
}

pub(super) fn container(told: &Told) -> Subject {
    Subject { kind: IdentifierKind::Container.into(), value: told.container.clone(), ..Subject::default() }
}

/// In all these answers the first field is what was asked for.
fn has_something(_: &Encoded, answer: &[u8]) -> usize {
    usize::from(fields(answer).any(|(number, _)| number == 1))
}

fn is_all(_: &Encoded, _: &[u8]) -> Option<Bytes> {
    None
}

/// The request for the next page of a list where this one is empty and not the last: a page looks at so many events at most, and in a large
/// log none of the first ones may match. Whoever asks has an answer only then.
fn next_page(request: &Encoded, answer: &[u8]) -> Option<Bytes> {
    let token = fields(answer).find_map(|(number, field)| (number == NEXT_PAGE_TOKEN).then_some(field))?;
    if has_something(request, answer) > 0 {
        return None;
    }
    let token = std::str::from_utf8(token).ok()?.to_owned();
    // A field that comes later joins the message before it.
    let mut bytes = request.bytes.to_vec();
    string::encode(PAGE_TOKEN, &token, &mut bytes);
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proto::{ListEventsResponse, RecordedEvent};

    #[test]
    fn an_empty_page_of_a_list_is_followed_and_no_other() {
        let asked = ListEventsRequest { page_size: 100, ..ListEventsRequest::default() };
        let request = Encoded { bytes: asked.encode_to_vec().into(), events: 1 };
        let page = |events: Vec<RecordedEvent>, token: &str| {
            ListEventsResponse { events, next_page_token: token.into(), ..ListEventsResponse::default() }
                .encode_to_vec()
        };
        let further = next_page(&request, &page(Vec::new(), "further")).expect("an empty page that is not the last");
        let wanted = ListEventsRequest { page_token: "further".into(), ..asked };
        assert_eq!(ListEventsRequest::decode(further).unwrap(), wanted);
        let found = RecordedEvent { position: "p".into(), ..RecordedEvent::default() };
        assert_eq!(next_page(&request, &page(vec![found], "further")), None);
        assert_eq!(next_page(&request, &page(Vec::new(), "")), None);
    }
}
