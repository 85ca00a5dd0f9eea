//! Clearances over a log with many events: one, a page of them, and a watch of all from the beginning. They are folded when they are asked
//! for, so that what they cost is the asking: on disk and in memory nothing is kept for them beside what every query uses.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use prost::Message;
use tokio_stream::StreamExt;

use super::{
    Bench,
    child::own_usage,
    drive::{self, Driven},
    queries::container,
    raw::{RawClient, fields},
    report::{Measurement, System},
    scenario::{Encoded, Told},
    stored::{Filled, fill},
};
use crate::{
    cli::{ExitCode, Failure},
    domain::Position,
    wire::proto::{
        GetClearanceRequest, IdentifierKind, ListClearancesRequest, StartAt, Subject, WatchClearancesRequest,
        WatchClearancesResponse, watch_clearances_request::Start, watch_clearances_response::Message as Says,
    },
};

const GET: &str = "/tradelane.v1.ClearanceService/GetClearance";
const LIST: &str = "/tradelane.v1.ClearanceService/ListClearances";
const WATCH: &str = "/tradelane.v1.ClearanceService/WatchClearances";
/// The most queries of one kind.
const QUERIES_MAX: usize = 20_000;

/// One kind of query.
struct Kind {
    name: &'static str,
    path: &'static str,
    request: fn(&Told) -> Vec<u8>,
}

const KINDS: [Kind; 3] = [
    Kind { name: "of a declaration", path: GET, request: of_declaration },
    // It goes round, and has the bill and the declaration of each of its journeys.
    Kind { name: "of a container", path: GET, request: of_container },
    Kind { name: "a page of 50", path: LIST, request: page },
];

/// Measures queries one after the other, and a watch.
///
/// # Errors
/// The node fails, or an answer is empty.
pub async fn clearances(bench: &mut Bench) -> Result<(), Failure> {
    for count in bench.stored_counts() {
        clearances_of(bench, count).await?;
    }
    Ok(())
}

async fn clearances_of(bench: &mut Bench, count: usize) -> Result<(), Failure> {
    let filled = fill(bench, count).await?;
    bench.report.add(Measurement { workload: "clearance", ..filled.filling.clone() });
    let clients = filled.node.clients(1).await?;
    for round in 1..=bench.rounds {
        for Kind { name, path, request } in &KINDS {
            let asked = filled.remembered.iter().cycle().take(bench.count(QUERIES_MAX));
            // What it is counted in is queries: each has one answer.
            let requests = Arc::new(asked.map(|told| Encoded { bytes: request(told).into(), events: 1 }).collect());
            let case = format!("clearance {name}, {} events stored", filled.events);
            measure(bench, &filled, &case, round, async |bench| {
                drive::unary(&clients, path, &requests, 1, bench.limit, says_something).await
            })
            .await?;
        }
        let mut client = clients[0].clone();
        let case = format!("events of a watch from the beginning, {} events stored", filled.events);
        measure(bench, &filled, &case, round, async |bench| watch(bench, &mut client).await).await?;
    }
    filled.node.discard().await
}

async fn measure(
    bench: &mut Bench,
    filled: &Filled,
    case: &str,
    round: u32,
    ask: impl AsyncFnOnce(&Bench) -> Result<Driven, Failure>,
) -> Result<(), Failure> {
    let before = (filled.node.server.usage(), own_usage());
    let driven = ask(bench).await?;
    let after = (filled.node.server.usage(), own_usage());
    bench.report.add(Measurement::driven("clearance", case, System::Tradelane, round, driven).used(before, after));
    Ok(())
}

/// Reads what each event changed until all is told, or for as long as a measurement may last; answers how many events were looked at.
async fn watch(bench: &Bench, client: &mut RawClient) -> Result<Driven, Failure> {
    let start = Some(Start::StartAt(StartAt::Earliest.into()));
    let request: Bytes = WatchClearancesRequest { start, subjects: Vec::new() }.encode_to_vec().into();
    let started = Instant::now();
    let mut messages = client.server_stream(WATCH, request).await?;
    while let Some(message) = messages.next().await {
        let told = WatchClearancesResponse::decode(message?).ok().and_then(|response| response.message);
        let (position, is_all) = match told {
            Some(Says::Changes(changes)) => (changes.position, false),
            Some(Says::CaughtUp(caught_up)) => (caught_up.position, true),
            _ => continue,
        };
        if is_all || bench.limit <= started.elapsed() {
            let malformed = |_| Failure::new(ExitCode::Failure, format!("{position} is no position"));
            let events = position.parse::<Position>().map_err(malformed)?.sequence.get();
            return Ok(Driven { events, elapsed: started.elapsed(), latencies_ns: Vec::new() });
        }
    }
    Err(Failure::new(ExitCode::Unavailable, "the node ended a watch"))
}

fn of_declaration(told: &Told) -> Vec<u8> {
    let kind = IdentifierKind::Declaration.into();
    let subject = Subject { kind, value: told.declaration.clone(), issuer: "PK".to_owned(), ..Subject::default() };
    GetClearanceRequest { subject: Some(subject) }.encode_to_vec()
}

fn of_container(told: &Told) -> Vec<u8> {
    GetClearanceRequest { subject: Some(container(told)) }.encode_to_vec()
}

fn page(_: &Told) -> Vec<u8> {
    ListClearancesRequest { page_size: 50, ..ListClearancesRequest::default() }.encode_to_vec()
}

/// A subject of which nothing is known is an error; a page may be empty where the story has not come to any step yet.
fn says_something(_: &Encoded, answer: &[u8]) -> usize {
    usize::from(fields(answer).next().is_some())
}
