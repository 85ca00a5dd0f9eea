//! One link between two nodes: how fast a node that joins takes what was stored before, beside a replay of the same events to a subscriber;
//! and how much later than at the node itself an event reaches a subscriber at the other. Times count from when its publisher's request was
//! answered. It never measures a network: both nodes are on this machine.

use std::time::Instant;

use super::{
    Bench, BenchNode,
    child::{Usage, own_usage},
    drive::{Driven, StreamRequest},
    exchange::Exchange,
    live::{arrivals, count_deliveries, paced, subscribe},
    report::{LatencyUs, Measurement, System},
    scenario::Encoded,
    stored::{Filled, fill, from_the_beginning, replay_once},
};
use crate::{
    cli::{ExitCode, Failure},
    clock::{Clock, SystemClock},
    wire::proto::StartAt,
};

/// Events a second of the steady stream.
const RATE: u32 = 2_000;

/// Measures one link.
///
/// # Errors
/// A node fails, or other events arrive than were published.
pub async fn federation(bench: &mut Bench) -> Result<(), Failure> {
    let peer = bench.exchange.with_peer(SystemClock.now_ns())?;
    let count = bench.stored_counts().into_iter().max().unwrap_or(1);
    let filled = fill(bench, count).await?;
    peer.take_from(filled.node.server.address)?;
    backlog(bench, &peer, &filled).await?;
    let receiver = BenchNode::start(&peer, peer.directory.join("data")).await?;
    steady(bench, &filled, &receiver).await?;
    receiver.discard().await?;
    filled.node.discard().await
}

/// A node that joins takes everything from the beginning.
async fn backlog(bench: &mut Bench, peer: &Exchange, filled: &Filled) -> Result<(), Failure> {
    let local = format!("backlog of {} events, replayed to a subscriber", filled.events);
    let link = format!("backlog of {} events over a link, durable and delivered there", filled.events);
    for round in 1..=bench.rounds {
        let mut client = filled.node.clients(1).await?.remove(0);
        let (before, started) = (filled.node.server.usage(), Instant::now());
        let seen = replay_once(&mut client, from_the_beginning(None)).await?;
        let elapsed = started.elapsed();
        if seen.events != filled.events {
            return Err(wrong(format!("a replay brought {} of {} events", seen.events, filled.events)));
        }
        bench.report.add(Measurement {
            server_cpu_seconds_per_million: Some(cpu(&filled.node, before, filled.events)),
            ..Measurement::new("federation", &local, System::Tradelane, round, seen.events, elapsed)
        });

        let receiver = BenchNode::start(peer, peer.directory.join("data")).await?;
        let (before, started) = (filled.node.server.usage(), Instant::now());
        let mut client = receiver.clients(1).await?.remove(0);
        let stream = subscribe(&mut client, StartAt::Earliest, None).await?;
        count_deliveries(stream, filled.events as usize).await?;
        let elapsed = started.elapsed();
        let there = receiver.server.usage();
        let taking = there.cpu_seconds_per_million_since(Usage::default(), filled.events);
        let both = cpu(&filled.node, before, filled.events) + taking;
        bench.report.add(Measurement {
            server_cpu_seconds_per_million: Some(both),
            rss_bytes: Some(there.rss_bytes),
            ..Measurement::new("federation", &link, System::Tradelane, round, filled.events, elapsed)
        });
        receiver.discard().await?;
    }
    let report = &mut bench.report;
    let (ours, theirs) = (report.rates(&link, System::Tradelane), report.rates(&local, System::Tradelane));
    report.compare("backlog over a link: to a replay of the same events".to_owned(), None, &ours, &theirs);
    Ok(())
}

/// Single events at a steady rate, to a subscriber at the node and to one at the other.
async fn steady(bench: &mut Bench, filled: &Filled, receiver: &BenchNode) -> Result<(), Failure> {
    caught_up(receiver, filled.events).await?;
    let here = format!("single events at {RATE}/s, acknowledged to delivered at the node");
    let there = format!("single events at {RATE}/s, acknowledged to delivered at the other node");
    let mut medians: [Vec<f64>; 2] = Default::default();
    for round in 1..=bench.rounds {
        let count = bench.count(RATE as usize * bench.limit.as_secs() as usize);
        let told: Vec<_> = (0..count).map(|_| bench.story.tell()).collect();
        let requests =
            (1..).zip(&told).map(|(id, told)| StreamRequest::new(id, &Encoded::of(std::slice::from_ref(told))));
        let requests: Vec<_> = requests.collect();
        let ids: Vec<_> = told.into_iter().map(|told| told.event_id).collect();
        let mut publisher = filled.node.clients(1).await?.remove(0);
        let (mut near, mut far) = (filled.node.clients(1).await?.remove(0), receiver.clients(1).await?.remove(0));
        let near = subscribe(&mut near, StartAt::Latest, None).await?;
        let far = subscribe(&mut far, StartAt::Latest, None).await?;
        let before = (filled.node.server.usage(), receiver.server.usage(), own_usage());
        let started = Instant::now();
        let (acks, near, far) = tokio::join!(
            paced(&mut publisher, requests, RATE, started),
            arrivals(near, &ids, RATE, started),
            arrivals(far, &ids, RATE, started),
        );
        let (acks, near, far) = (acks?, near?, far?);
        let after = (filled.node.server.usage(), receiver.server.usage(), own_usage());
        let events = acks.events;
        let [near_medians, far_medians] = &mut medians;
        for (case, driven, (before, after), medians) in
            [(&here, near, (before.0, after.0), near_medians), (&there, far, (before.1, after.1), far_medians)]
        {
            let driven = since(&acks, driven);
            medians.push(LatencyUs::of(driven.latencies_ns.clone()).p50);
            bench.report.add(Measurement {
                server_cpu_seconds_per_million: Some(after.cpu_seconds_per_million_since(before, events)),
                rss_bytes: Some(after.rss_bytes),
                ..Measurement::driven("federation", case, System::Tradelane, round, driven)
            });
        }
    }
    let name = "p50 to a subscriber at the other node: to one at the node itself".to_owned();
    bench.report.compare(name, None, &medians[1], &medians[0]);
    Ok(())
}

/// Waits until the other node has taken what was stored before.
async fn caught_up(receiver: &BenchNode, events: u64) -> Result<(), Failure> {
    let mut client = receiver.clients(1).await?.remove(0);
    count_deliveries(subscribe(&mut client, StartAt::Earliest, None).await?, events as usize).await
}

/// How long after its request was answered each event arrived; one that arrived before its answer took no time.
fn since(acks: &Driven, mut arrivals: Driven) -> Driven {
    for (arrived, answered) in arrivals.latencies_ns.iter_mut().zip(&acks.latencies_ns) {
        *arrived = arrived.saturating_sub(*answered);
    }
    arrivals
}

fn cpu(node: &BenchNode, before: Usage, events: u64) -> f64 {
    node.server.usage().cpu_seconds_per_million_since(before, events)
}

fn wrong(what: String) -> Failure {
    Failure::new(ExitCode::Failure, what)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_counts_from_the_answer_to_the_arrival() {
        let driven =
            |latencies_ns: &[u64]| Driven { latencies_ns: latencies_ns.to_vec(), events: 3, elapsed: Duration::ZERO };
        assert_eq!(since(&driven(&[5, 9, 7]), driven(&[15, 9, 6])).latencies_ns, [10, 0, 0]);
    }
}
