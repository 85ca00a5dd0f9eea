//! etcd, one member. Each event is a key of its own; a request of several is one transaction of puts; a reader is a watch. The messages are
//! those of its public API, with what is measured in them.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use http::uri::PathAndQuery;
use prost::Message;
use rustix::process::Signal;
use tokio::{process::Command, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

use crate::{
    events::Event,
    material::Prepared,
    server::{Server, directory, free_port},
    system::{Client, Deliveries, Facts, Purpose, Running, Start, System, version},
};

/// What one connection carries at one time here: the same as of a node.
const AT_ONCE_PER_CONNECTION: usize = 64;
const DECODE_BYTES_MAX: usize = 512 << 20;
/// All keys begin with this, and none with the other.
const KEYS: (&[u8], &[u8]) = (b"events/", b"events0");

/// The program.
#[derive(Debug)]
pub struct Etcd {
    /// Where it is.
    pub program: PathBuf,
    /// The run's material.
    pub prepared: Arc<Prepared>,
    /// Where its directories are made.
    pub parent: PathBuf,
}

struct Member {
    server: Server,
    prepared: Arc<Prepared>,
}

struct EtcdClient(Grpc<Channel>);

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(int64, tag = "3")]
    revision: i64,
}

#[derive(Clone, PartialEq, Message)]
struct RequestOp {
    #[prost(message, optional, tag = "2")]
    request_put: Option<PutRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct TxnRequest {
    #[prost(message, repeated, tag = "2")]
    success: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, Message)]
struct TxnResponse {
    #[prost(bool, tag = "2")]
    succeeded: bool,
}

#[derive(Clone, PartialEq, Message)]
struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    create_request: Option<WatchCreateRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct WatchCreateRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    range_end: Bytes,
    #[prost(int64, tag = "3")]
    start_revision: i64,
}

#[derive(Clone, PartialEq, Message)]
struct WatchResponse {
    #[prost(bool, tag = "3")]
    created: bool,
    #[prost(bool, tag = "4")]
    canceled: bool,
    #[prost(message, repeated, tag = "11")]
    events: Vec<WatchEvent>,
}

#[derive(Clone, PartialEq, Message)]
struct WatchEvent {
    #[prost(message, optional, tag = "2")]
    kv: Option<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

impl System for Etcd {
    fn facts(&self) -> Facts {
        Facts {
            name: "etcd".to_owned(),
            version: version(&self.program, "--version").unwrap_or_else(|error| error.to_string()),
            durability: "its log is fdatasynced before each acknowledgement",
            settings: "one member, --max-txn-ops 1024, --quota-backend-bytes 8 GiB".to_owned(),
            not_alike: "keeps every key in memory and no index beside it, checks no content and no right; made for small state, not for logs",
        }
    }

    fn start(&self) -> BoxFuture<'_, Result<Box<dyn Running>>> {
        async {
            let (directory, port, peers) = (directory(&self.parent, "etcd")?, free_port()?, free_port()?);
            let files = &self.prepared.files;
            let (clients, peers) = (format!("https://127.0.0.1:{port}"), format!("http://127.0.0.1:{peers}"));
            let mut command = Command::new(&self.program);
            command.arg("--data-dir").arg(directory.path().join("data"));
            command.args(["--name", "default", "--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
            command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
            command.arg("--initial-cluster").arg(format!("default={peers}"));
            command.arg("--cert-file").arg(&files.server_certificate).arg("--key-file").arg(&files.server_key);
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&files.client_authority);
            command.args(["--max-txn-ops", "1024", "--quota-backend-bytes", "8589934592"]);
            command.args(["--logger", "zap", "--log-level", "warn"]);
            let server = Server::start(command, directory, port, Signal::TERM).await?;
            let member = Member { server, prepared: Arc::clone(&self.prepared) };
            // It takes connections before it has elected itself; this waits for that.
            let ready = member.clients(1, Purpose::Store).await?;
            drop(ready[0].follow(Start::Latest).await?);
            Ok(Box::new(member) as Box<dyn Running>)
        }
        .boxed()
    }
}

impl Running for Member {
    fn clients(&self, at_once: usize, _purpose: Purpose) -> BoxFuture<'_, Result<Vec<Arc<dyn Client>>>> {
        async move {
            let mut clients: Vec<Arc<dyn Client>> = Vec::new();
            for _ in 0..at_once.div_ceil(AT_ONCE_PER_CONNECTION) {
                let channel = self.prepared.channel(self.server.port).await?;
                clients.push(Arc::new(EtcdClient(Grpc::new(channel).max_decoding_message_size(DECODE_BYTES_MAX))));
            }
            Ok(clients)
        }
        .boxed()
    }

    fn stop(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        self.server.stop().boxed()
    }
}

fn put(event: &Event) -> PutRequest {
    let key = [KEYS.0, event.id.simple().to_string().as_bytes()].concat();
    PutRequest { key: key.into(), value: event.bytes.clone() }
}

impl Client for EtcdClient {
    fn publish(&self, events: Arc<[Event]>) -> BoxFuture<'_, Result<()>> {
        let mut client = self.0.clone();
        async move {
            client.ready().await?;
            if let [event] = &*events {
                let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
                let codec = ProstCodec::<PutRequest, PutResponse>::default();
                let answer = client.unary(Request::new(put(event)), path, codec).await?.into_inner();
                ensure!(answer.header.is_some_and(|header| header.revision > 0), "an event was not stored");
            } else {
                let puts = events.iter().map(|event| RequestOp { request_put: Some(put(event)) });
                let path = PathAndQuery::from_static("/etcdserverpb.KV/Txn");
                let codec = ProstCodec::<TxnRequest, TxnResponse>::default();
                let request = Request::new(TxnRequest { success: puts.collect() });
                ensure!(client.unary(request, path, codec).await?.into_inner().succeeded, "events were not stored");
            }
            Ok(())
        }
        .boxed()
    }

    fn follow(&self, start: Start) -> BoxFuture<'_, Result<Deliveries>> {
        let mut client = self.0.clone();
        async move {
            let start_revision = i64::from(start == Start::Earliest);
            let (key, range_end) = (Bytes::from_static(KEYS.0), Bytes::from_static(KEYS.1));
            let create = WatchCreateRequest { key, range_end, start_revision };
            let (sender, receiver) = mpsc::channel(1);
            sender.send(WatchRequest { create_request: Some(create) }).await?;
            let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
            client.ready().await?;
            let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
            let request = Request::new(ReceiverStream::new(receiver));
            let mut stream = client.streaming(request, path, codec).await?.into_inner();
            let first = stream.message().await?.context("a watch ended at once")?;
            ensure!(first.created && !first.canceled, "a watch was refused");
            let deliveries = stream.map(move |message| {
                // The watch lives as long as its requests may go on.
                let _open = &sender;
                Ok(message?.events.into_iter().filter_map(|event| Some(event.kv?.value)).collect())
            });
            Ok(deliveries.boxed() as Deliveries)
        }
        .boxed()
    }
}
