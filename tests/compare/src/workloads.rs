//! What is measured of one running system, the same of each. Every answer is awaited and every delivery counted; it never retries, and every
//! wait has an end.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use tokio::{sync::mpsc, task::JoinSet};
use uuid::Uuid;

use crate::{
    events::{Event, Supply, id_of},
    report::Run,
    system::{Client, Deliveries, Purpose, Running, Start},
};

/// Events of a request, and requests in flight.
pub const PUBLISH: [(usize, usize); 9] =
    [(1, 1), (1, 16), (1, 256), (16, 1), (16, 16), (16, 256), (256, 1), (256, 16), (256, 256)];
/// Events a second at which times from publisher to reader are measured.
pub const RATE: u32 = 2_000;
/// Calls that publish at that rate share so many connections.
const PACED_AT_ONCE: usize = 16;
/// Readers among whom events are fanned out, how many each gets, and how many a request has meanwhile.
pub const READERS: usize = 100;
const FAN_OUT_EVENTS: usize = 5_000;
const FAN_OUT_EVENTS_PER_REQUEST: usize = 100;
/// No measurement publishes more: what is ready to be sent is kept in memory.
const EVENTS_MAX: usize = 150_000;
/// What a delivery may take before the measurement is given up.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// How long one measurement of a rate lasts.
    pub limit: Duration,
    /// Counts are divided by this.
    pub shrink: usize,
}

impl Extent {
    fn count(self, full: usize) -> usize {
        (full / self.shrink).max(1)
    }
}

/// Requests of so many events with so many in flight. Answers with the run and how many events it stored in all.
pub async fn publish(
    running: &dyn Running,
    supply: &mut Supply,
    extent: Extent,
    (events, in_flight): (usize, usize),
) -> Result<(Run, usize)> {
    let clients = running.clients(in_flight, Purpose::Store).await?;
    // A request of each connection first, so that nobody pays for what is made once.
    let first = supply.requests(clients.len(), events);
    futures::future::try_join_all(clients.iter().zip(first).map(|(client, request)| client.publish(request))).await?;
    let warmed = clients.len() * events;
    let requests = Arc::new(supply.requests(extent.count(EVENTS_MAX / events), events));
    let (next, started) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let mut callers = JoinSet::new();
    for number in 0..in_flight {
        let client = Arc::clone(&clients[number % clients.len()]);
        let (requests, next, limit) = (Arc::clone(&requests), Arc::clone(&next), extent.limit);
        callers.spawn(async move {
            let mut latencies = Vec::new();
            while started.elapsed() < limit {
                let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                let asked = Instant::now();
                client.publish(Arc::clone(request)).await?;
                latencies.push(asked.elapsed());
            }
            Ok::<_, anyhow::Error>(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(called) = callers.join_next().await {
        latencies.extend(called??);
    }
    let count = latencies.len() * events;
    Ok((Run::new(count, started.elapsed(), latencies), warmed + count))
}

/// Reads everything that is stored from the beginning.
pub async fn replay(running: &dyn Running, stored: usize) -> Result<Run> {
    let client = running.clients(1, Purpose::Store).await?.remove(0);
    let started = Instant::now();
    let mut deliveries = client.follow(Start::Earliest).await?;
    let mut count = 0;
    while count < stored {
        count += next(&mut deliveries).await?.len();
    }
    ensure!(count == stored, "{count} events were replayed of {stored}");
    Ok(Run::new(count, started.elapsed(), Vec::new()))
}

/// Single events at a fixed rate: until each has reached a reader, and until each is acknowledged. Times count from when an event was to be
/// sent, so that a stall is not hidden by events that it kept from being sent.
pub async fn latency(running: &dyn Running, supply: &mut Supply, extent: Extent) -> Result<(Run, Run)> {
    let count = extent.count(RATE as usize * extent.limit.as_secs().max(1) as usize);
    let publishers = running.clients(PACED_AT_ONCE, Purpose::Deliver).await?;
    let reader = running.clients(1, Purpose::Deliver).await?.remove(0);
    // Each connection once beforehand, as above.
    for client in &publishers {
        client.publish(supply.requests(1, 1).remove(0)).await?;
    }
    let deliveries = reader.follow(Start::Latest).await?;
    let events: Vec<Event> = (0..count).map(|_| supply.event()).collect();
    let numbers: HashMap<Uuid, usize> = events.iter().enumerate().map(|(number, event)| (event.id, number)).collect();
    let started = Instant::now() + Duration::from_millis(50);
    let (acknowledged, arrived) =
        tokio::join!(paced(publishers, events, started), arrivals(deliveries, &numbers, started));
    let (acknowledged, arrived) = (acknowledged?, arrived?);
    Ok((Run::new(count, started.elapsed(), arrived), Run::new(count, started.elapsed(), acknowledged)))
}

async fn paced(clients: Vec<Arc<dyn Client>>, events: Vec<Event>, started: Instant) -> Result<Vec<Duration>> {
    let (sender, mut due_events) = mpsc::unbounded_channel();
    // A thread of its own, since the runtime's clock goes by milliseconds.
    let clock = tokio::task::spawn_blocking(move || {
        for (number, event) in events.into_iter().enumerate() {
            let due = due(started, number);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.send((number, event)).is_err() {
                return;
            }
        }
    });
    let mut calls = JoinSet::new();
    while let Some((number, event)) = due_events.recv().await {
        let client = Arc::clone(&clients[number % clients.len()]);
        calls.spawn(async move {
            client.publish([event].into()).await?;
            Ok::<_, anyhow::Error>(Instant::now().saturating_duration_since(due(started, number)))
        });
    }
    clock.await?;
    let mut latencies = Vec::new();
    while let Some(call) = calls.join_next().await {
        latencies.push(call??);
    }
    Ok(latencies)
}

fn due(started: Instant, number: usize) -> Instant {
    started + Duration::from_secs(number as u64) / RATE
}

async fn arrivals(
    mut deliveries: Deliveries,
    numbers: &HashMap<Uuid, usize>,
    started: Instant,
) -> Result<Vec<Duration>> {
    let mut latencies = vec![None; numbers.len()];
    let mut left = numbers.len();
    while left > 0 {
        let events = next(&mut deliveries).await?;
        let arrived = Instant::now();
        for event in events {
            let number = *numbers.get(&id_of(&event)?).context("an event was delivered that was not published now")?;
            let first = latencies[number].replace(arrived.saturating_duration_since(due(started, number)));
            ensure!(first.is_none(), "an event was delivered twice");
            left -= 1;
        }
    }
    Ok(latencies.into_iter().flatten().collect())
}

/// Many readers of the same events.
pub async fn fan_out(running: &dyn Running, supply: &mut Supply, extent: Extent) -> Result<Run> {
    let requests = extent.count(FAN_OUT_EVENTS / FAN_OUT_EVENTS_PER_REQUEST);
    let expected = requests * FAN_OUT_EVENTS_PER_REQUEST;
    let clients = running.clients(READERS, Purpose::Deliver).await?;
    let mut readers = JoinSet::new();
    for number in 0..READERS {
        let mut deliveries = clients[number % clients.len()].follow(Start::Latest).await?;
        readers.spawn(async move {
            let mut count = 0;
            while count < expected {
                count += next(&mut deliveries).await?.len();
            }
            ensure!(count == expected, "a reader got {count} events of {expected}");
            Ok::<_, anyhow::Error>(())
        });
    }
    let publisher = running.clients(1, Purpose::Deliver).await?.remove(0);
    let requests = supply.requests(requests, FAN_OUT_EVENTS_PER_REQUEST);
    let started = Instant::now();
    let publishing = async {
        let calls = futures::stream::iter(requests).map(|request| publisher.publish(request));
        let mut calls = calls.buffer_unordered(4);
        while let Some(call) = calls.next().await {
            call?;
        }
        Ok::<_, anyhow::Error>(())
    };
    let reading = async {
        while let Some(read) = readers.join_next().await {
            read??;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::try_join!(publishing, reading)?;
    Ok(Run::new(expected * READERS, started.elapsed(), Vec::new()))
}

async fn next(deliveries: &mut Deliveries) -> Result<Vec<bytes::Bytes>> {
    let next = tokio::time::timeout(DELIVERY_TIMEOUT, deliveries.next()).await;
    next.context("nothing was delivered for too long")?.context("a reader's stream ended")?
}
