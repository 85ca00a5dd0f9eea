//! Readers: what a subscriber is shown, noted as she is shown it, and the whole log as it can be read after a start. They read through the
//! public API alone, and never look at a file.

use std::{net::SocketAddr, sync::PoisonError};

use prost::Message as _;
use tonic::transport::Channel;
use tradelane::{
    domain::Position,
    wire::proto::{
        Event, RebuildViewRequest, RecordedEvent, StartAt, SubscribeRequest, VerifyLogRequest,
        event_service_client::EventServiceClient, node_service_client::NodeServiceClient, subscribe_request::Start,
        subscribe_response::Message,
    },
};
use uuid::Uuid;

use super::{
    child::World,
    load::{Shared, digest_of},
    promises::{Entry, Identity, Witness},
};

/// A batch of a stream is at most 256 events of 64 KiB.
const DECODE_BYTES_MAX: usize = 20 * 1024 * 1024;

/// A subscriber who comes back after each start, and goes on where she was.
pub struct Reader {
    promises: Shared,
    resume: Option<String>,
    last: u64,
}

impl Reader {
    pub fn new(promises: &Shared) -> Self {
        Self { promises: promises.clone(), resume: None, last: 0 }
    }

    /// Reads until the node is gone.
    pub async fn read(&mut self, world: &World, address: SocketAddr) {
        let Ok(channel) = world.connect(address, &world.customs).await else { return };
        let start = self.resume.clone().map_or(Start::StartAt(StartAt::Earliest.into()), Start::AfterPosition);
        let asked = SubscribeRequest { start: Some(start), filters: Vec::new() };
        let stream = match events(channel).subscribe(asked).await {
            Ok(stream) => stream,
            // A position that is refused was taken back: what she read up to there has vanished.
            Err(status) if status.code() == tonic::Code::OutOfRange => panic!("a reader's place is gone: {status:?}"),
            Err(_) => return,
        };
        let mut stream = stream.into_inner();
        while let Ok(Some(message)) = stream.message().await {
            let Some(Message::Events(batch)) = message.message else { continue };
            let mut promises = self.promises.lock().unwrap_or_else(PoisonError::into_inner);
            for recorded in &batch.events {
                let entry = entry_of(recorded);
                assert!(entry.sequence > self.last, "a reader was sent back to sequence {}", entry.sequence);
                self.last = entry.sequence;
                promises.told(&entry, Witness::Reader).unwrap_or_else(|fault| panic!("{fault}"));
                self.resume = Some(recorded.position.clone());
            }
        }
    }
}

/// The whole log, from its first event until the node says that there is no more.
///
/// # Errors
/// The node ended the stream, with its reason.
pub async fn whole_log(world: &World, address: SocketAddr) -> Result<Vec<Entry>, String> {
    let channel = world.connect(address, &world.customs).await?;
    let asked = SubscribeRequest { start: Some(Start::StartAt(StartAt::Earliest.into())), filters: Vec::new() };
    let mut stream = events(channel).subscribe(asked).await.map_err(|status| status.to_string())?.into_inner();
    let mut log = Vec::new();
    loop {
        let message = stream.message().await.map_err(|status| status.to_string())?;
        match message.and_then(|message| message.message) {
            Some(Message::Events(batch)) => log.extend(batch.events.iter().map(entry_of)),
            Some(Message::CaughtUp(_)) => return Ok(log),
            Some(_) => {}
            None => return Err("the stream ended before it had caught up".to_owned()),
        }
    }
}

/// What the operator's verification finds wrong.
///
/// # Errors
/// It was not finished.
pub async fn verify(world: &World, address: SocketAddr) -> Result<Vec<String>, String> {
    let mut client = NodeServiceClient::new(world.connect(address, &world.operator).await?);
    let answer = client.verify_log(VerifyLogRequest { from_sequence: 0 }).await;
    let mut stream = answer.map_err(|status| status.to_string())?.into_inner();
    loop {
        match stream.message().await.map_err(|status| status.to_string())? {
            Some(last) if last.done => return Ok(last.problems),
            Some(_) => {}
            None => return Err("the verification ended without a verdict".to_owned()),
        }
    }
}

/// Has the operator build the search view anew, again and again: index runs are written, merged and removed, and no event is.
pub async fn rebuild_for_ever(world: &World, address: SocketAddr) {
    let Ok(channel) = world.connect(address, &world.operator).await else { return };
    let mut client = NodeServiceClient::new(channel);
    while let Ok(answer) = client.rebuild_view(RebuildViewRequest { view: "search".to_owned() }).await {
        let mut stream = answer.into_inner();
        while let Ok(Some(_)) = stream.message().await {}
    }
}

fn events(channel: Channel) -> EventServiceClient<Channel> {
    EventServiceClient::new(channel).max_decoding_message_size(DECODE_BYTES_MAX)
}

fn entry_of(recorded: &RecordedEvent) -> Entry {
    let position: Position = recorded.position.parse().expect("a position");
    let bytes = &recorded.signed.as_ref().expect("an event").event;
    let event = Event::decode(bytes.clone()).expect("what was published");
    let event_id = Uuid::parse_str(&event.event_id).expect("a UUID");
    let identity = Identity { publisher: event.publisher, event_id };
    Entry { sequence: position.sequence.get(), identity, digest: digest_of(bytes) }
}
