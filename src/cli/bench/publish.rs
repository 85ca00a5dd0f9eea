//! Durable publishing: unary calls of several sizes with several in flight beside a plain file and a server that does nothing, and single
//! events in a stream. It never publishes an event twice.

use std::{sync::Arc, time::Duration};

use super::{
    Bench, BenchNode,
    child::{Server, own_usage},
    clients,
    drive::{self, Driven, StreamRequest},
    limits::{self, NO_OP},
    raw::{PUBLISH, RawClient, stored_in_response},
    report::{Measurement, System},
    scenario::Encoded,
};
use crate::cli::{ExitCode, Failure};

/// Sizes of requests and how many are in flight.
const CASES: [(usize, usize); 9] =
    [(1, 1), (1, 16), (1, 64), (1, 256), (16, 1), (16, 64), (256, 1), (256, 64), (1_000, 16)];
/// No measurement publishes more: what is ready to be sent is kept in memory, 500 bytes an event.
const EVENTS_MAX: usize = 400_000;
/// Nor more requests.
const REQUESTS_MAX: usize = 100_000;
/// Before the first measurement, so that it does not pay for what is made once.
const WARM_UP_EVENTS: usize = 20_000;
/// How many requests of a stream are unanswered at one time: as many as the node allows.
const OUTSTANDING: usize = 1_024;
/// What the goals of single publishing are stated for.
const SINGLE_IN_FLIGHT: usize = 256;

/// Measures unary calls.
///
/// # Errors
/// A server fails.
pub async fn unary(bench: &mut Bench) -> Result<(), Failure> {
    let (node, limit) = (bench.fresh_node().await?, bench.limit_server().await?);
    let empty_bytes = node.disk_bytes();
    let mut stored = warm_up(bench, &node).await?;
    for (size, in_flight) in CASES {
        let case = case_name(size, in_flight);
        let (to_node, to_limit) = (node.clients(in_flight).await?, clients(&bench.exchange, &limit, in_flight).await?);
        for round in 1..=bench.rounds {
            let requests = prepared(bench, size);
            // The sides take turns in being first: what the first leaves behind is then no side's gain.
            for is_node in [round % 2 == 0, round % 2 == 1] {
                node.server.quiet().await;
                if is_node {
                    let driven = call(&to_node, PUBLISH, &requests, in_flight, bench.limit, |_, answer| {
                        stored_in_response(answer)
                    });
                    let mut measured = measured(&node.server, &case, System::Tradelane, round, driven).await?;
                    stored += measured.count;
                    measured.disk_bytes_per_event =
                        Some(node.disk_bytes().saturating_sub(empty_bytes) as f64 / stored.max(1) as f64);
                    bench.report.add(measured);
                    continue;
                }
                plain_file(bench, &case, round, &requests)?;
                // With many in flight, small requests are not the file's matter but the call's.
                if size == 1 {
                    let driven = call(&to_limit, NO_OP, &requests, in_flight, bench.limit, |request, _| request.events);
                    let measured = measured(&limit, &case, System::NoOpServer, round, driven).await?;
                    bench.report.add(measured);
                }
            }
        }
        compare(bench, size, in_flight, &case);
    }
    limit.stop().await?;
    node.discard().await
}

/// Measures single events in a stream beside single events by calls.
///
/// # Errors
/// A server fails.
pub async fn streams(bench: &mut Bench) -> Result<(), Failure> {
    let node = bench.fresh_node().await?;
    warm_up(bench, &node).await?;
    let (unary_case, stream_case) = ("single events, unary, 256 in flight", "single events, stream, 1,024 outstanding");
    let mut clients = node.clients(SINGLE_IN_FLIGHT).await?;
    for round in 1..=bench.rounds {
        let requests = prepared(bench, 1);
        node.server.quiet().await;
        let driven =
            call(&clients, PUBLISH, &requests, SINGLE_IN_FLIGHT, bench.limit, |_, answer| stored_in_response(answer));
        let unary = measured(&node.server, unary_case, System::Tradelane, round, driven).await?;
        let requests: Vec<_> =
            (1..).zip(prepared(bench, 1).iter()).map(|(id, one)| StreamRequest::new(id, one)).collect();
        let driven = drive::publish_stream(&mut clients[0], &requests, OUTSTANDING, bench.limit);
        node.server.quiet().await;
        let stream = measured(&node.server, stream_case, System::Tradelane, round, driven).await?;
        bench.report.add(unary);
        bench.report.add(stream);
    }
    let (ours, theirs) =
        (bench.report.rates(stream_case, System::Tradelane), bench.report.rates(unary_case, System::Tradelane));
    bench.report.compare("single events: stream to unary".to_owned(), Some(3.0), &ours, &theirs);
    node.discard().await
}

/// Requests that nobody has sent yet.
fn prepared(bench: &mut Bench, size: usize) -> Arc<Vec<Encoded>> {
    let count = bench.count((EVENTS_MAX / size).min(REQUESTS_MAX));
    Arc::new((0..count).map(|_| bench.story.request(size)).collect())
}

async fn warm_up(bench: &mut Bench, node: &BenchNode) -> Result<u64, Failure> {
    let count = bench.count(WARM_UP_EVENTS / 100);
    let requests = Arc::new((0..count).map(|_| bench.story.request(100)).collect());
    let clients = node.clients(4).await?;
    let limit = Duration::from_secs(60);
    Ok(drive::unary(&clients, PUBLISH, &requests, 4, limit, |_, answer| stored_in_response(answer)).await?.events)
}

fn call<'run>(
    clients: &'run [RawClient],
    path: &'static str,
    requests: &'run Arc<Vec<Encoded>>,
    in_flight: usize,
    limit: Duration,
    accounted: drive::Accounted,
) -> impl Future<Output = Result<Driven, Failure>> + 'run {
    drive::unary(clients, path, requests, in_flight, limit, accounted)
}

/// Drives, and takes what the server and this process used meanwhile.
async fn measured(
    server: &Server,
    case: &str,
    system: System,
    round: u32,
    driving: impl Future<Output = Result<Driven, Failure>>,
) -> Result<Measurement, Failure> {
    let before = (server.usage(), own_usage());
    let driven = driving.await?;
    let after = (server.usage(), own_usage());
    Ok(Measurement::driven("publish", case, system, round, driven).used(before, after))
}

fn plain_file(bench: &mut Bench, case: &str, round: u32, requests: &[Encoded]) -> Result<(), Failure> {
    let path = bench.exchange.directory.join("plain-file");
    let failed = |error| Failure::file("append to", &path, &error);
    // The runtime has other threads, and nothing else is measured meanwhile.
    let limit = bench.limit;
    let (latencies_ns, elapsed) =
        tokio::task::block_in_place(|| limits::plain_file(&path, requests, limit)).map_err(failed)?;
    std::fs::remove_file(&path).map_err(|error| Failure::new(ExitCode::Storage, error))?;
    let events = requests[..latencies_ns.len()].iter().map(|request| request.events as u64).sum();
    let driven = Driven { events, elapsed, latencies_ns };
    bench.report.add(Measurement::driven("publish", case, System::PlainFile, round, driven));
    Ok(())
}

fn compare(bench: &mut Bench, size: usize, in_flight: usize, case: &str) {
    let report = &mut bench.report;
    let ours = report.rates(case, System::Tradelane);
    if size == 1 {
        let goal = (in_flight == SINGLE_IN_FLIGHT).then_some(0.7);
        let theirs = report.rates(case, System::NoOpServer);
        report.compare(format!("{case}: to a server that does nothing"), goal, &ours, &theirs);
    }
    let goal = (size == 256 && in_flight > 1).then_some(0.4);
    let theirs = report.rates(case, System::PlainFile);
    report.compare(format!("{case}: to a plain file"), goal, &ours, &theirs);
}

fn case_name(size: usize, in_flight: usize) -> String {
    let events = if size == 1 { "event" } else { "events" };
    format!("publish {size} {events}, {in_flight} in flight")
}
