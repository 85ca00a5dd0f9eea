//! Durable subscriptions: what each costs that nobody consumes and each that is consumed and gets nothing, what they cost a publisher, and
//! how many events consumers take and acknowledge. An event counts when its acknowledgement was answered, which is when it is durable.

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
    drive::{self, joined},
    raw::{PUBLISH, RawClient, stored_in_response},
    report::{Measurement, System},
    scenario::Encoded,
};
use crate::{
    cli::{ExitCode, Failure},
    wire::proto::{
        Acknowledge, ConsumeRequest, ConsumeResponse, ConsumeStart, ConsumerHeartbeat, CreateSubscriptionRequest,
        DeliveryName, EventFilter, Settlement, SettlementOutcome, StartAt, SubscriptionDefinition, SubscriptionMode,
        consume_request, consume_response, create_subscription_request::Start, settlement,
    },
};

const CREATE: &str = "/tradelane.v1.SubscriptionService/CreateSubscription";
const CONSUME: &str = "/tradelane.v1.SubscriptionService/Consume";
/// Subscriptions that are created, and how many of them are consumed.
const SUBSCRIPTIONS: usize = 10_000;
const CONSUMED: usize = 1_000;
/// Events of a request, and requests in flight, while they are published beside idle subscriptions.
const PUBLISHED_TOGETHER: usize = 100;
const IN_FLIGHT: usize = 4;
/// No measurement publishes more requests than this.
const REQUESTS_MAX: usize = 4_000;
/// Events that each measurement of consumers takes.
const CONSUMED_EVENTS: usize = 50_000;
/// Events that a consumer may have at once.
const CREDIT: u32 = 1_000;
/// What an answer may take before the measurement is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a consumer that gets nothing says that it is there; the node waits for 30 s.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);

/// Measures durable subscriptions.
///
/// # Errors
/// The node fails, or delivers or answers otherwise than it should.
pub async fn durable(bench: &mut Bench) -> Result<(), Failure> {
    idle(bench).await?;
    consuming(bench).await
}

async fn idle(bench: &mut Bench) -> Result<(), Failure> {
    let (without, with) = (bench.fresh_node().await?, bench.fresh_node().await?);
    let (count, consumed) = (bench.count(SUBSCRIPTIONS), bench.count(CONSUMED));
    let before = with.server.usage().rss_bytes;
    create_all(&with, count).await?;
    let created = with.server.usage().rss_bytes;
    let mut consumers = JoinSet::new();
    let mut clients = with.clients(consumed).await?;
    for number in 0..consumed {
        let at = number % clients.len();
        let consumer = Consumer::start(&mut clients[at], &format!("idle-{number}"), CREDIT).await?;
        consumers.spawn(consumer.stay());
    }
    let connected = with.server.usage().rss_bytes;
    let each = |grown: u64, count: usize| grown as f64 / 1_024.0 / count as f64;
    bench.report.figure(
        format!("memory of each of {count} durable subscriptions that nobody consumes"),
        each(created.saturating_sub(before), count),
        "KiB",
        Some(8.0),
    );
    bench.report.figure(
        format!("memory of each of {consumed} idle consumers of durable subscriptions, connections included"),
        each(connected.saturating_sub(created), consumed),
        "KiB",
        Some(64.0),
    );
    let beside = format!("publishing beside {count} durable subscriptions, {consumed} of them consumed and idle");
    let alone = "publishing beside no durable subscription";
    for round in 1..=bench.rounds {
        publish(bench, &without, alone, round).await?;
        publish(bench, &with, &beside, round).await?;
    }
    let (ours, theirs) = (bench.report.rates(&beside, System::Tradelane), bench.report.rates(alone, System::Tradelane));
    bench.report.compare(format!("{beside}: beside none"), Some(0.8), &ours, &theirs);
    consumers.shutdown().await;
    with.discard().await?;
    without.discard().await
}

async fn publish(bench: &mut Bench, node: &BenchNode, case: &str, round: u32) -> Result<(), Failure> {
    let requests: Vec<Encoded> =
        (0..bench.count(REQUESTS_MAX)).map(|_| bench.story.request(PUBLISHED_TOGETHER)).collect();
    let requests = Arc::new(requests);
    let clients = node.clients(IN_FLIGHT).await?;
    let before = (node.server.usage(), own_usage());
    let driven =
        drive::unary(&clients, PUBLISH, &requests, IN_FLIGHT, bench.limit, |_, answer| stored_in_response(answer));
    let driven = driven.await?;
    let after = (node.server.usage(), own_usage());
    bench.report.add(Measurement::driven("durable", case, System::Tradelane, round, driven).used(before, after));
    Ok(())
}

/// Subscriptions to what never comes.
async fn create_all(node: &BenchNode, count: usize) -> Result<(), Failure> {
    let mut callers = JoinSet::new();
    let clients = node.clients(64).await?;
    for first in 0..64.min(count) {
        let mut client = clients[first % clients.len()].clone();
        callers.spawn(async move {
            for number in (first..count).step_by(64) {
                let filter = EventFilter { commodity_prefixes: vec!["999999".to_owned()], ..EventFilter::default() };
                let definition = SubscriptionDefinition { filters: vec![filter], ..SubscriptionDefinition::default() };
                create(&mut client, &format!("idle-{number}"), definition, StartAt::Latest).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(created) = callers.join_next().await {
        joined(created)?;
    }
    Ok(())
}

async fn create(
    client: &mut RawClient,
    name: &str,
    definition: SubscriptionDefinition,
    start: StartAt,
) -> Result<(), Failure> {
    let start = Some(Start::StartAt(start.into()));
    let request = CreateSubscriptionRequest { name: name.to_owned(), definition: Some(definition), start };
    client.unary(CREATE, request.encode_to_vec().into()).await?;
    Ok(())
}

async fn consuming(bench: &mut Bench) -> Result<(), Failure> {
    let node = bench.fresh_node().await?;
    let count = bench.count(CONSUMED_EVENTS);
    let requests = (0..count.div_ceil(PUBLISHED_TOGETHER)).map(|_| bench.story.request(PUBLISHED_TOGETHER));
    let requests = Arc::new(requests.collect::<Vec<_>>());
    let clients = node.clients(IN_FLIGHT).await?;
    let stored =
        drive::unary(&clients, PUBLISH, &requests, IN_FLIGHT, ANSWER_TIMEOUT, |_, answer| stored_in_response(answer));
    let stored = stored.await?.events;
    let mut client = node.clients(1).await?.remove(0);
    for (case, mode, consumers) in [
        ("ordered, 1 consumer, every batch acknowledged", SubscriptionMode::Ordered, 1),
        ("shared, 1 consumer, every batch acknowledged", SubscriptionMode::Shared, 1),
        ("shared, 4 consumers, every batch acknowledged", SubscriptionMode::Shared, 4),
    ] {
        for round in 1..=bench.rounds {
            let name =
                format!("{}-{consumers}-{round}", if mode == SubscriptionMode::Ordered { "line" } else { "work" });
            let definition = SubscriptionDefinition { mode: mode.into(), ..SubscriptionDefinition::default() };
            create(&mut client, &name, definition, StartAt::Earliest).await?;
            let mut connected = Vec::new();
            for client in &mut node.clients(consumers * super::CALLS_PER_CONNECTION).await? {
                connected.push(Consumer::start(client, &name, CREDIT / consumers as u32).await?);
            }
            let before = (node.server.usage(), own_usage());
            let started = Instant::now();
            let taken = take(connected, mode, stored).await?;
            let elapsed = started.elapsed();
            let after = (node.server.usage(), own_usage());
            let measured = Measurement::new("durable", case, System::Tradelane, round, taken, elapsed);
            bench.report.add(measured.used(before, after));
        }
    }
    node.discard().await
}

/// Consumers take and acknowledge until so many events are acknowledged.
async fn take(consumers: Vec<Consumer>, mode: SubscriptionMode, expected: u64) -> Result<u64, Failure> {
    let (counted, mut counts) = mpsc::channel(64);
    let mut taking = JoinSet::new();
    for consumer in consumers {
        taking.spawn(consumer.take(mode, counted.clone()));
    }
    drop(counted);
    let mut taken = 0;
    while taken < expected {
        tokio::select! {
            count = counts.recv() => taken += count.ok_or_else(|| wrong("the consumers are gone".to_owned()))?,
            Some(ended) = taking.join_next() => joined(ended)?,
        }
    }
    taking.shutdown().await;
    if taken == expected { Ok(taken) } else { Err(wrong(format!("{taken} events of {expected} were acknowledged"))) }
}

/// One consumer.
struct Consumer {
    say: mpsc::Sender<Bytes>,
    heard: Streaming<Bytes>,
}

impl Consumer {
    async fn start(client: &mut RawClient, name: &str, credit: u32) -> Result<Self, Failure> {
        let (say, said) = mpsc::channel(1_024);
        let start = ConsumeStart { name: name.to_owned(), credit };
        tell(&say, consume_request::Message::Start(start)).await?;
        let heard = client.both_streams(CONSUME, ReceiverStream::new(said)).await?;
        let mut consumer = Self { say, heard };
        match consumer.next().await? {
            consume_response::Message::Started(_) => Ok(consumer),
            other => Err(wrong(format!("the first message is {other:?}"))),
        }
    }

    async fn next(&mut self) -> Result<consume_response::Message, Failure> {
        let message = tokio::time::timeout(ANSWER_TIMEOUT, self.heard.next()).await;
        let message = message.map_err(|_| wrong(format!("nothing arrived within {} s", ANSWER_TIMEOUT.as_secs())))?;
        let bytes = message.ok_or_else(|| wrong("the node ended a consumer's stream".to_owned()))??;
        let response = ConsumeResponse::decode(bytes).map_err(|error| wrong(error.to_string()))?;
        response.message.ok_or_else(|| wrong("a message says nothing".to_owned()))
    }

    /// Gets nothing, and says that it is there.
    async fn stay(mut self) -> Result<(), Failure> {
        let mut due = tokio::time::interval(HEARTBEAT_INTERVAL);
        loop {
            tokio::select! {
                _ = due.tick() => tell(&self.say, consume_request::Message::Heartbeat(ConsumerHeartbeat {})).await?,
                message = self.next() => drop(message?),
            }
        }
    }

    /// Takes and acknowledges batch by batch, and counts what was answered.
    async fn take(mut self, mode: SubscriptionMode, counted: mpsc::Sender<u64>) -> Result<(), Failure> {
        let mut batches = std::collections::VecDeque::new();
        let mut correlation_id = 0;
        loop {
            match self.next().await? {
                consume_response::Message::Deliveries(batch) => {
                    let names = batch.deliveries.iter().filter_map(|delivery| delivery.event.as_ref());
                    let names =
                        names.map(|event| DeliveryName { position: event.position.clone(), delivery_attempt: 0 });
                    let mut deliveries: Vec<DeliveryName> = names.collect();
                    batches.push_back(deliveries.len() as u64);
                    if mode == SubscriptionMode::Ordered {
                        // The last one stands for all before it.
                        deliveries.drain(..deliveries.len().saturating_sub(1));
                    }
                    correlation_id += 1;
                    let verb = Some(settlement::Verb::Acknowledge(Acknowledge {}));
                    let settlement = Settlement { correlation_id, deliveries, verb };
                    tell(&self.say, consume_request::Message::Settlement(settlement)).await?;
                }
                consume_response::Message::Settled(answer) => {
                    if let Some(outcome) = answer.outcomes().find(|outcome| *outcome != SettlementOutcome::Done) {
                        return Err(wrong(format!("an acknowledgement was answered {}", outcome.as_str_name())));
                    }
                    // Whoever counts has enough, where nobody listens.
                    let _ = counted.send(batches.pop_front().unwrap_or_default()).await;
                }
                _ => {}
            }
        }
    }
}

async fn tell(say: &mpsc::Sender<Bytes>, message: consume_request::Message) -> Result<(), Failure> {
    let bytes = ConsumeRequest { message: Some(message) }.encode_to_vec();
    say.send(bytes.into()).await.map_err(|_| wrong("the node ended a consumer's stream".to_owned()))
}

fn wrong(what: String) -> Failure {
    Failure::new(ExitCode::Failure, what)
}
