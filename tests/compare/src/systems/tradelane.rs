//! A node, through its public API, with the messages that a client of any language would generate. Only what is measured is in them.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use http::uri::PathAndQuery;
use prost::Message;
use rustix::process::Signal;
use tokio::process::Command;
use tonic::{Request, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

use crate::{
    events::Event,
    material::Prepared,
    server::{Server, directory, free_port},
    system::{Client, Deliveries, Facts, Purpose, Running, Start, System},
};

/// Calls at one time on one connection: a node's own limit.
const CALLS_PER_CONNECTION: usize = 64;
const DECODE_BYTES_MAX: usize = 8 << 20;

/// The program.
#[derive(Debug)]
pub struct Tradelane {
    /// Where it is.
    pub program: PathBuf,
    /// The run's material.
    pub prepared: Arc<Prepared>,
    /// Where its directories are made.
    pub parent: PathBuf,
}

struct Node {
    server: Server,
    prepared: Arc<Prepared>,
}

struct NodeClient(Grpc<Channel>);

#[derive(Clone, PartialEq, Message)]
struct SignedEvent {
    #[prost(bytes = "bytes", tag = "1")]
    event: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct PublishRequest {
    #[prost(message, repeated, tag = "1")]
    events: Vec<SignedEvent>,
}

#[derive(Clone, PartialEq, Message)]
struct PublishResponse {
    #[prost(message, repeated, tag = "1")]
    results: Vec<PublishResult>,
}

#[derive(Clone, PartialEq, Message)]
struct PublishResult {
    #[prost(string, tag = "1")]
    event_id: String,
    #[prost(string, tag = "2")]
    position: String,
    #[prost(bool, tag = "3")]
    duplicate: bool,
}

#[derive(Clone, PartialEq, Message)]
struct SubscribeRequest {
    /// `StartAt`: 1 earliest, 2 latest.
    #[prost(int32, tag = "1")]
    start_at: i32,
}

#[derive(Clone, PartialEq, Message)]
struct SubscribeResponse {
    #[prost(message, optional, tag = "2")]
    events: Option<EventBatch>,
}

#[derive(Clone, PartialEq, Message)]
struct EventBatch {
    #[prost(message, repeated, tag = "1")]
    events: Vec<RecordedEvent>,
}

#[derive(Clone, PartialEq, Message)]
struct RecordedEvent {
    #[prost(message, optional, tag = "1")]
    signed: Option<SignedEvent>,
    #[prost(string, tag = "2")]
    position: String,
}

impl System for Tradelane {
    fn facts(&self) -> Facts {
        Facts {
            name: "tradelane".to_owned(),
            version: self.prepared.version.clone(),
            durability: "fdatasync before each acknowledgement",
            settings: self.prepared.settings.join(", "),
            not_alike: "looks every event's identity up for ever, validates every event against the event model and decides every delivery \
                        by grants: none of the others does",
        }
    }

    fn start(&self) -> BoxFuture<'_, Result<Box<dyn Running>>> {
        async {
            let (directory, port) = (directory(&self.parent, "tradelane")?, free_port()?);
            let mut command = Command::new(&self.program);
            command.arg("serve").arg("--config").arg(&self.prepared.files.config);
            let own = [
                format!("node.data_dir={}", directory.path().join("data").display()),
                format!("listen.address=127.0.0.1:{port}"),
            ];
            for setting in self.prepared.settings.iter().chain(&own) {
                command.args(["--set", setting]);
            }
            let server = Server::start(command, directory, port, Signal::TERM).await?;
            Ok(Box::new(Node { server, prepared: Arc::clone(&self.prepared) }) as Box<dyn Running>)
        }
        .boxed()
    }
}

impl Running for Node {
    fn clients(&self, at_once: usize, _purpose: Purpose) -> BoxFuture<'_, Result<Vec<Arc<dyn Client>>>> {
        async move {
            let mut clients: Vec<Arc<dyn Client>> = Vec::new();
            for _ in 0..at_once.div_ceil(CALLS_PER_CONNECTION) {
                let channel = self.prepared.channel(self.server.port).await?;
                clients.push(Arc::new(NodeClient(Grpc::new(channel).max_decoding_message_size(DECODE_BYTES_MAX))));
            }
            Ok(clients)
        }
        .boxed()
    }

    fn stop(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        self.server.stop().boxed()
    }
}

impl Client for NodeClient {
    fn publish(&self, events: Arc<[Event]>) -> BoxFuture<'_, Result<()>> {
        let mut client = self.0.clone();
        async move {
            let count = events.len();
            let signed = events.iter().map(|event| SignedEvent { event: event.bytes.clone() });
            let request = Request::new(PublishRequest { events: signed.collect() });
            let path = PathAndQuery::from_static("/tradelane.v1.EventService/Publish");
            client.ready().await?;
            let codec = ProstCodec::<PublishRequest, PublishResponse>::default();
            let results = client.unary(request, path, codec).await?.into_inner().results;
            let is_stored = |result: &PublishResult| !result.position.is_empty() && !result.duplicate;
            ensure!(results.len() == count && results.iter().all(is_stored), "not everything was stored");
            Ok(())
        }
        .boxed()
    }

    fn follow(&self, start: Start) -> BoxFuture<'_, Result<Deliveries>> {
        let mut client = self.0.clone();
        async move {
            let start_at = if start == Start::Earliest { 1 } else { 2 };
            let path = PathAndQuery::from_static("/tradelane.v1.EventService/Subscribe");
            client.ready().await?;
            let codec = ProstCodec::<SubscribeRequest, SubscribeResponse>::default();
            let mut stream =
                client.server_streaming(Request::new(SubscribeRequest { start_at }), path, codec).await?.into_inner();
            // The first message says where the subscription has begun.
            stream.message().await?.context("a subscription ended at once")?;
            let events = |message: SubscribeResponse| {
                let events = message.events.unwrap_or_default().events;
                events.into_iter().filter_map(|recorded| Some(recorded.signed?.event)).collect()
            };
            Ok(stream.map(move |message| Ok(events(message?))).boxed() as Deliveries)
        }
        .boxed()
    }
}
