//! Drives a server: as fast as so many calls in flight allow, or a stream with so many requests outstanding. Every answer is counted; one
//! that does not say what it should ends the measurement. It never retries.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};

use super::{
    raw::{PUBLISH_STREAM, RawClient, stored_in_stream_response},
    scenario::Encoded,
};
use crate::cli::{ExitCode, Failure};

/// How many events an answer accounts for.
pub type Accounted = fn(&Encoded, &[u8]) -> usize;

/// What to ask next where an answer does not have all that was asked for; none where it has, or nothing is left.
pub type GoesOn = fn(&Encoded, &[u8]) -> Option<Bytes>;

/// No request takes more calls: many times as many as the pages of the largest log that is measured.
const CALLS_PER_REQUEST_MAX: usize = 10_000;

/// What a drive did.
#[derive(Debug, Clone, Default)]
pub struct Driven {
    /// Events accounted for by answers.
    pub events: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// How long each request waited for its answer, in nanoseconds.
    pub latencies_ns: Vec<u64>,
}

/// Calls with so many in flight over these connections, until the requests are used up or the time is.
///
/// # Errors
/// A call fails, or its answer does not account for all of its events.
pub async fn unary(
    clients: &[RawClient],
    path: &'static str,
    requests: &Arc<Vec<Encoded>>,
    in_flight: usize,
    limit: Duration,
    accounted: Accounted,
) -> Result<Driven, Failure> {
    unary_in_pages(clients, path, requests, in_flight, limit, accounted, |_, _| None).await
}

/// As [`unary`], with more calls for a request whose answer says that it goes on: what a request took counts until the last of them.
///
/// # Errors
/// A call fails, or the last answer does not account for all events of its request.
pub async fn unary_in_pages(
    clients: &[RawClient],
    path: &'static str,
    requests: &Arc<Vec<Encoded>>,
    in_flight: usize,
    limit: Duration,
    accounted: Accounted,
    goes_on: GoesOn,
) -> Result<Driven, Failure> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    let started = Instant::now();
    for number in 0..in_flight {
        let (mut client, requests, next) = (clients[number % clients.len()].clone(), requests.clone(), next.clone());
        callers.spawn(async move {
            let mut driven = Driven::default();
            while started.elapsed() < limit {
                let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                let asked = Instant::now();
                let mut answer = client.unary(path, request.bytes.clone()).await?;
                for _ in 1..CALLS_PER_REQUEST_MAX {
                    let Some(further) = goes_on(request, &answer) else { break };
                    answer = client.unary(path, further).await?;
                }
                driven.latencies_ns.push(nanoseconds(asked.elapsed()));
                driven.events += check(request, accounted(request, &answer))?;
            }
            Ok::<_, Failure>(driven)
        });
    }
    let mut all = Driven::default();
    while let Some(driven) = callers.join_next().await {
        let driven = joined(driven)?;
        all.events += driven.events;
        all.latencies_ns.extend(driven.latencies_ns);
    }
    all.elapsed = started.elapsed();
    Ok(all)
}

/// Publishes in one stream with so many requests outstanding, until the requests are used up or the time is.
///
/// # Errors
/// The stream fails, or an answer does not account for all events of its request.
pub async fn publish_stream(
    client: &mut RawClient,
    requests: &[StreamRequest],
    outstanding: usize,
    limit: Duration,
) -> Result<Driven, Failure> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let room = Semaphore::new(outstanding);
    let (asked_sender, mut asked) = mpsc::unbounded_channel::<(usize, Instant)>();
    let started = Instant::now();
    let sending = async {
        for (number, request) in requests.iter().enumerate() {
            // Never closed while this waits.
            if let Ok(permit) = room.acquire().await {
                permit.forget();
            }
            // Whoever reads the answers says why the stream is gone.
            let is_gone =
                asked_sender.send((number, Instant::now())).is_err() || sender.send(request.0.bytes.clone()).is_err();
            if is_gone || limit < started.elapsed() {
                break;
            }
        }
        drop((sender, asked_sender));
    };
    let reading = async {
        let mut driven = Driven::default();
        let mut answers = client.both_streams(PUBLISH_STREAM, UnboundedReceiverStream::new(receiver)).await?;
        while let Some(answer) = answers.next().await {
            let answer = answer?;
            let (number, sent) = asked.recv().await.ok_or_else(|| wrong("more answers than requests".to_owned()))?;
            driven.latencies_ns.push(nanoseconds(sent.elapsed()));
            driven.events += check(&requests[number].0, stored_in_stream_response(&answer))?;
            room.add_permits(1);
        }
        asked.close();
        match asked.recv().await {
            None => Ok(driven),
            Some(_) => Err(wrong("the stream ended before everything was answered".to_owned())),
        }
    };
    let ((), driven) = tokio::join!(sending, reading);
    Ok(Driven { elapsed: started.elapsed(), ..driven? })
}

/// A request of a publishing stream, ready to be sent.
#[derive(Debug, Clone)]
pub struct StreamRequest(pub Encoded);

impl StreamRequest {
    /// Puts a number and the envelope of the stream around a request.
    #[must_use]
    pub fn new(correlation_id: u64, request: &Encoded) -> Self {
        use prost::encoding::{WireType, encode_key, encode_varint};
        let mut bytes = Vec::with_capacity(request.bytes.len() + 24);
        encode_key(1, WireType::Varint, &mut bytes);
        encode_varint(correlation_id, &mut bytes);
        encode_key(2, WireType::LengthDelimited, &mut bytes);
        encode_varint(request.bytes.len() as u64, &mut bytes);
        bytes.extend_from_slice(&request.bytes);
        Self(Encoded { bytes: bytes.into(), events: request.events })
    }
}

/// A finished task's answer.
///
/// # Errors
/// Its own failure, or it panicked.
pub fn joined<T>(joined: Result<Result<T, Failure>, tokio::task::JoinError>) -> Result<T, Failure> {
    joined.unwrap_or_else(|error| Err(Failure::new(ExitCode::Failure, format!("a task of the measurement: {error}"))))
}

/// Nanoseconds of a time that a measurement can last.
#[must_use]
pub fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos() as u64
}

fn check(request: &Encoded, accounted: usize) -> Result<u64, Failure> {
    if accounted == request.events {
        Ok(accounted as u64)
    } else {
        Err(wrong(format!("an answer accounts for {accounted} of {} events", request.events)))
    }
}

fn wrong(what: String) -> Failure {
    Failure::new(ExitCode::Failure, what)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::wire::{PublishRequest, SignedEvent, proto::PublishStreamRequest};

    #[test]
    fn a_stream_request_is_what_the_node_reads() {
        let event = SignedEvent { event: vec![7; 300].into(), signature: None };
        let publish = PublishRequest { events: vec![event], on_invalid: 0 };
        let encoded = Encoded { bytes: publish.encode_to_vec().into(), events: 1 };
        let read = PublishStreamRequest::decode(StreamRequest::new(99, &encoded).0.bytes).unwrap();
        assert_eq!(read, PublishStreamRequest { correlation_id: 99, publish: Some(publish) });
    }
}
