//! Publishers: each sends batches of varied sizes over mutual TLS, events sent before and corrections among them, and notes what was
//! acknowledged only when the answer has arrived. What was not answered is sent again after the next start, as it was. They never give up
//! over a broken connection, and never take a wrong answer for one.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use fastrand::Rng;
use prost::Message;
use ring::digest;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};
use tradelane::{
    clock::{Clock, SystemClock},
    domain::Position,
    identity::dev_pki::Issued,
    testing::events::{HOUR_NS, Voyage},
    wire::{
        PublishRequest, SignedEvent,
        proto::{
            Event, PublishResponse, PublishStreamRequest, event_service_client::EventServiceClient,
            publish_stream_response::Answer,
        },
    },
};
use uuid::Uuid;

use super::{
    child::World,
    promises::{Digest, Entry, Identity, Promises, Witness},
};

/// Requests on a stream that are not answered yet.
const IN_FLIGHT_MAX: usize = 8;
/// Acknowledged events that a publisher keeps to send again and to correct.
const KEPT_MAX: usize = 400;
/// A field that no version of the event has: bytes that pass through.
const UNKNOWN_FIELD_TAG: u64 = (20_000 << 3) | 2;

/// Promises that publishers and readers write at one time.
pub type Shared = Arc<Mutex<Promises>>;

/// How a publisher calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// One request after another.
    Unary,
    /// Several requests on one stream.
    Pipelined,
}

/// One publisher. Lives as long as the log that it publishes to.
pub struct Publisher {
    who: Issued,
    way: Way,
    random: Rng,
    /// Sent and not answered, oldest first.
    pending: VecDeque<Batch>,
    kept: Vec<Sent>,
    /// Acknowledged events that nothing corrects yet.
    heads: Vec<Event>,
    next_container: u32,
    promises: Shared,
}

/// A request's events.
#[derive(Clone)]
struct Batch {
    events: Vec<Sent>,
    attempts: u32,
}

/// An event as it was sent.
#[derive(Clone)]
struct Sent {
    identity: Identity,
    digest: Digest,
    bytes: Bytes,
    event: Event,
    /// False where it was acknowledged before it stood in this batch.
    is_new: bool,
}

impl Publisher {
    pub fn new(who: &Issued, way: Way, seed: u64, promises: &Shared) -> Self {
        let (pending, kept, heads) = (VecDeque::new(), Vec::new(), Vec::new());
        let (random, promises) = (Rng::with_seed(seed), Arc::clone(promises));
        Self { who: who.clone(), way, random, pending, kept, heads, next_container: 0, promises }
    }

    /// Publishes until told to stop, when everything is answered, or until the node is gone.
    pub async fn publish(&mut self, world: &World, address: SocketAddr, stop: &watch::Receiver<bool>) {
        let Ok(channel) = world.connect(address, &self.who).await else { return };
        let mut client = EventServiceClient::new(channel);
        match self.way {
            Way::Unary => self.publish_one_by_one(&mut client, stop).await,
            Way::Pipelined => self.publish_pipelined(&mut client, stop).await,
        }
    }

    /// Sends acknowledged events again: each must be answered as a duplicate, with its first place.
    pub async fn send_again(&mut self, world: &World, address: SocketAddr) {
        let mut events = self.kept.clone();
        self.random.shuffle(&mut events);
        // The last acknowledged ones are those that a crash would take first.
        let mut batch: Vec<Sent> = self.kept.iter().rev().take(20).cloned().collect();
        batch.extend(events.into_iter().take(20));
        if batch.is_empty() {
            return;
        }
        let channel = world.connect(address, &self.who).await.expect("the node has just started");
        let batch = Batch { events: batch, attempts: 1 };
        let answer = EventServiceClient::new(channel).publish(request(&batch)).await.expect("duplicates are answered");
        self.note(batch, &answer.into_inner());
    }

    async fn publish_one_by_one(&mut self, client: &mut EventServiceClient<Channel>, stop: &watch::Receiver<bool>) {
        while !(*stop.borrow() && self.pending.is_empty()) {
            if self.pending.is_empty() {
                let batch = self.next_batch();
                self.pending.push_back(batch);
            }
            let batch = &mut self.pending[0];
            batch.attempts += 1;
            match client.publish(request(batch)).await {
                Ok(answer) => {
                    let batch = self.pending.pop_front().expect("put there above");
                    self.note(batch, &answer.into_inner());
                }
                Err(status) if is_no_answer(&status) => return,
                Err(status) => panic!("a good request was refused: {status:?}"),
            }
        }
    }

    async fn publish_pipelined(&mut self, client: &mut EventServiceClient<Channel>, stop: &watch::Receiver<bool>) {
        let (requests, sent) = mpsc::channel(IN_FLIGHT_MAX);
        let Ok(answers) = client.publish_stream(ReceiverStream::new(sent)).await else { return };
        let mut answers = answers.into_inner();
        let (mut in_flight, mut answered) = (0, 0_u64);
        loop {
            while in_flight < IN_FLIGHT_MAX && !(*stop.borrow() && in_flight == self.pending.len()) {
                if in_flight == self.pending.len() {
                    let batch = self.next_batch();
                    self.pending.push_back(batch);
                }
                let batch = &mut self.pending[in_flight];
                batch.attempts += 1;
                let request =
                    PublishStreamRequest { correlation_id: answered + in_flight as u64, publish: Some(request(batch)) };
                if requests.send(request).await.is_err() {
                    return;
                }
                in_flight += 1;
            }
            if in_flight == 0 {
                return;
            }
            let Ok(Some(answer)) = answers.message().await else { return };
            assert_eq!(answer.correlation_id, answered, "answers come in the order of the requests");
            match answer.answer.expect("an answer says something") {
                Answer::Response(response) => {
                    let batch = self.pending.pop_front().expect("it is in flight");
                    self.note(batch, &response);
                }
                Answer::Error(status) => {
                    let status = Status::new(Code::from(status.code), status.message);
                    assert!(is_no_answer(&status), "a good request was refused: {status:?}");
                    return;
                }
            }
            in_flight -= 1;
            answered += 1;
        }
    }

    fn note(&mut self, batch: Batch, answer: &PublishResponse) {
        assert_eq!(answer.results.len(), batch.events.len(), "one result an event");
        let mut promises = self.promises.lock().unwrap_or_else(PoisonError::into_inner);
        for (sent, result) in batch.events.into_iter().zip(&answer.results) {
            let position: Position = result.position.parse().expect("a position");
            let entry =
                Entry { sequence: position.sequence.get(), identity: sent.identity.clone(), digest: sent.digest };
            let may_be_duplicate = !sent.is_new || batch.attempts > 1;
            assert!(!result.duplicate || may_be_duplicate, "{} was called a duplicate when it was new", sent.identity);
            assert!(result.duplicate || sent.is_new, "{} was stored a second time", sent.identity);
            promises.told(&entry, Witness::Publisher).unwrap_or_else(|fault| panic!("{fault}"));
            if sent.is_new {
                self.heads.push(sent.event.clone());
                self.kept.push(Sent { is_new: false, ..sent });
            }
        }
        // The oldest are forgotten in bulk: they stay promised all the same.
        if self.kept.len() > 2 * KEPT_MAX {
            self.kept.drain(..KEPT_MAX);
        }
        if self.heads.len() > 2 * KEPT_MAX {
            self.heads.drain(..KEPT_MAX);
        }
    }

    fn next_batch(&mut self) -> Batch {
        // Mostly small, sometimes large; large events come in small batches.
        let count = match self.random.u32(0..10) {
            0..5 => 1,
            5..8 => self.random.usize(2..20),
            _ => self.random.usize(20..120),
        };
        let mut events = Vec::with_capacity(count + 1);
        for _ in 0..count {
            let event = match self.random.u32(0..8) {
                0 if !self.heads.is_empty() => {
                    let original = self.heads.swap_remove(self.random.usize(..self.heads.len()));
                    original.corrected(|event| event.created_time = original.created_time)
                }
                _ => self.new_event(),
            };
            let padding_bytes = match self.random.u32(0..20) {
                0 if count < 20 => self.random.usize(8_000..40_000),
                1..5 => self.random.usize(200..2_000),
                _ => 0,
            };
            events.push(self.as_sent(&event, padding_bytes));
        }
        let new: Vec<(Identity, Digest)> = events.iter().map(|sent| (sent.identity.clone(), sent.digest)).collect();
        self.promises.lock().unwrap_or_else(PoisonError::into_inner).sends(&new);
        if self.random.u32(0..4) == 0
            && let Some(again) = self.random.choice(&self.kept)
        {
            events.push(again.clone());
        }
        Batch { events, attempts: 0 }
    }

    fn new_event(&mut self) -> Event {
        self.next_container += 1;
        let start_ns = SystemClock.now_ns() - Voyage::LASTS_NS - HOUR_NS - self.random.i64(0..HOUR_NS);
        let voyage = Voyage::new(self.next_container + self.random.u32(0..4) * 200_000, start_ns);
        let event = if self.random.bool() { voyage.discharged() } else { voyage.gated_out() };
        let event_id = uuid::Builder::from_random_bytes(self.random.u128(..).to_be_bytes()).into_uuid().to_string();
        Event { publisher: self.who.id.to_string(), event_id, ..event }
    }

    fn as_sent(&mut self, event: &Event, padding_bytes: usize) -> Sent {
        let mut bytes = event.encode_to_vec();
        if padding_bytes > 0 {
            prost::encoding::encode_varint(UNKNOWN_FIELD_TAG, &mut bytes);
            prost::encoding::encode_varint(padding_bytes as u64, &mut bytes);
            bytes.extend(std::iter::repeat_with(|| self.random.u8(..)).take(padding_bytes));
        }
        let event_id = Uuid::parse_str(&event.event_id).expect("made above");
        let identity = Identity { publisher: event.publisher.clone(), event_id };
        Sent { identity, digest: digest_of(&bytes), bytes: bytes.into(), event: event.clone(), is_new: true }
    }
}

/// SHA-256 of an event's bytes.
pub fn digest_of(bytes: &[u8]) -> Digest {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn request(batch: &Batch) -> PublishRequest {
    let signed = |sent: &Sent| SignedEvent { event: sent.bytes.clone(), signature: None };
    PublishRequest { events: batch.events.iter().map(signed).collect(), on_invalid: 0 }
}

/// Whether the fate of a request is unknown: the node is gone, stops, or has too much to do.
fn is_no_answer(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded | Code::ResourceExhausted
    ) || std::error::Error::source(status).is_some()
}
