//! NATS `JetStream` with file storage. Each event is a message of one subject; a request of several is either as many messages whose
//! acknowledgements are awaited together, or, where the server can, one atomic batch. It sets no message id, so that the server looks for
//! no duplicates.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use async_nats::{
    ConnectOptions, HeaderMap,
    jetstream::{
        Context,
        consumer::{DeliverPolicy, push},
        context::ContextBuilder,
        stream::{Config, StorageType},
    },
};
use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture};
use rustix::process::Signal;
use tokio::process::Command;
use uuid::Uuid;

use crate::{
    events::Event,
    material::{HOST, Prepared},
    server::{Server, directory, free_port},
    system::{Client, Deliveries, Facts, Purpose, Running, Start, System, version},
};

const STREAM: &str = "EVENTS";
const SUBJECT: &str = "events";
/// What one connection carries at one time here: the same as of a node.
const AT_ONCE_PER_CONNECTION: usize = 64;
/// The server lets so many atomic batches of one stream be unfinished.
const BATCHES_MAX: usize = 50;
/// Where each message is synced by itself, no more of them wait at one time: at a millisecond each they take seconds already.
const SYNCS_MAX: usize = 4_096;
/// Events that wait for a reader, so that none counts as slow while it catches up.
const READER_EVENTS_MAX: usize = 1 << 20;

/// When the server makes what it acknowledges safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// `sync_interval: always`, from 2.10 on.
    Always,
    /// Its default: every two minutes.
    Default,
}

/// How a request of several events is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Several {
    /// As messages, each acknowledged.
    Messages,
    /// As one atomic batch, from 2.12 on.
    Batch,
}

/// The program and how it is used.
#[derive(Debug)]
pub struct Nats {
    /// Its name in the tables.
    pub name: &'static str,
    /// Where it is.
    pub program: PathBuf,
    /// When it syncs.
    pub sync: Sync,
    /// How several events are published.
    pub several: Several,
    /// The run's material.
    pub prepared: Arc<Prepared>,
    /// Where its directories are made.
    pub parent: PathBuf,
}

struct NatsServer {
    server: Server,
    sync: Sync,
    several: Several,
    prepared: Arc<Prepared>,
}

struct NatsClient {
    context: Context,
    several: Several,
}

impl System for Nats {
    fn facts(&self) -> Facts {
        let several = match self.several {
            Several::Messages => "a request of several is as many messages, each acknowledged",
            Several::Batch => "a request of several is one atomic batch, acknowledged once",
        };
        let (durability, sync) = match self.sync {
            Sync::Always => ("each message or batch is synced before it is acknowledged", "sync_interval: always; "),
            Sync::Default => ("NONE: acknowledged from the page cache, synced every two minutes", ""),
        };
        Facts {
            name: self.name.to_owned(),
            version: version(&self.program, "--version").unwrap_or_else(|error| error.to_string()),
            durability,
            settings: format!("file storage, one stream, one subject; {sync}{several}"),
            not_alike: "keeps no index beside the subject, looks for no duplicates (no message id is set), checks no content and no right",
        }
    }

    fn only_several(&self) -> bool {
        self.several == Several::Batch
    }

    fn start(&self) -> BoxFuture<'_, Result<Box<dyn Running>>> {
        async {
            let (directory, port) = (directory(&self.parent, "nats")?, free_port()?);
            let files = &self.prepared.files;
            let sync = if self.sync == Sync::Always { "sync_interval: always" } else { "" };
            // JSON's strings are strings of its configuration too.
            let path = |path: &Path| serde_json::to_string(path);
            let text = format!(
                "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {}, max_file_store: 32GB\n{sync} }}\ntls {{ cert_file: {}, \
                 key_file: {}, ca_file: {}, verify: true }}\n",
                path(&directory.path().join("data"))?,
                path(&files.server_certificate)?,
                path(&files.server_key)?,
                path(&files.client_authority)?,
            );
            let config = directory.path().join("nats.conf");
            fs::write(&config, text)?;
            let mut command = Command::new(&self.program);
            command.arg("--config").arg(config);
            let server = Server::start(command, directory, port, Signal::TERM).await?;
            let running = NatsServer { server, sync: self.sync, several: self.several, prepared: Arc::clone(&self.prepared) };
            let stream = Config {
                name: STREAM.to_owned(),
                subjects: vec![SUBJECT.to_owned()],
                storage: StorageType::File,
                allow_atomic_publish: self.several == Several::Batch,
                ..Config::default()
            };
            running.connect().await?.create_stream(stream).await?;
            Ok(Box::new(running) as Box<dyn Running>)
        }
        .boxed()
    }
}

impl NatsServer {
    async fn connect(&self) -> Result<Context> {
        let options = ConnectOptions::new()
            .require_tls(true)
            .tls_client_config(self.prepared.client_tls()?)
            .subscription_capacity(READER_EVENTS_MAX)
            .ignore_discovered_servers();
        let client = options.connect(format!("tls://{HOST}:{}", self.server.port)).await?;
        Ok(ContextBuilder::new().timeout(Duration::from_secs(30)).build(client))
    }
}

impl Running for NatsServer {
    fn clients(&self, at_once: usize, _purpose: Purpose) -> BoxFuture<'_, Result<Vec<Arc<dyn Client>>>> {
        async move {
            let mut clients: Vec<Arc<dyn Client>> = Vec::new();
            for _ in 0..at_once.div_ceil(AT_ONCE_PER_CONNECTION) {
                clients.push(Arc::new(NatsClient { context: self.connect().await?, several: self.several }));
            }
            Ok(clients)
        }
        .boxed()
    }

    fn in_flight_max(&self, events: usize) -> usize {
        match (self.several, self.sync) {
            (Several::Batch, _) if events > 1 => BATCHES_MAX,
            (Several::Messages, Sync::Always) => SYNCS_MAX / events,
            (Several::Batch | Several::Messages, _) => usize::MAX,
        }
    }

    fn stop(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        self.server.stop().boxed()
    }
}

impl NatsClient {
    async fn messages(&self, events: &[Event]) -> Result<()> {
        let mut acknowledgements = Vec::with_capacity(events.len());
        for event in events {
            acknowledgements.push(self.context.publish(SUBJECT, event.bytes.clone()).await?);
        }
        for acknowledgement in acknowledgements {
            acknowledgement.await?;
        }
        Ok(())
    }

    /// ADR-50: all but the last message are sent without asking for an answer; the last commits.
    async fn batch(&self, events: &[Event]) -> Result<()> {
        let id = Uuid::now_v7().simple().to_string();
        let client = self.context.client();
        for (number, event) in (1..).zip(events) {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Batch-Id", id.as_str());
            headers.insert("Nats-Batch-Sequence", number.to_string());
            if number < events.len() {
                client.publish_with_headers(SUBJECT, headers, event.bytes.clone()).await?;
            } else {
                headers.insert("Nats-Batch-Commit", "1");
                let answer = self.context.publish_with_headers(SUBJECT, headers, event.bytes.clone()).await?.await?;
                ensure!(answer.batch_size == Some(events.len() as u64), "a batch was not stored as one: {answer:?}");
            }
        }
        Ok(())
    }
}

impl Client for NatsClient {
    fn publish(&self, events: Arc<[Event]>) -> BoxFuture<'_, Result<()>> {
        async move {
            match self.several {
                Several::Batch if events.len() > 1 => self.batch(&events).await,
                Several::Batch | Several::Messages => self.messages(&events).await,
            }
        }
        .boxed()
    }

    fn follow(&self, start: Start) -> BoxFuture<'_, Result<Deliveries>> {
        async move {
            let stream = self.context.get_stream(STREAM).await?;
            let config = push::OrderedConfig {
                deliver_subject: self.context.client().new_inbox(),
                deliver_policy: if start == Start::Earliest { DeliverPolicy::All } else { DeliverPolicy::New },
                ..push::OrderedConfig::default()
            };
            let messages = stream.create_consumer(config).await?.messages().await?;
            // What is here already comes at once, as with the others, whose messages hold several events.
            let payloads = messages.map_ok(|message| message.payload.clone()).ready_chunks(256);
            let deliveries =
                payloads.map(|chunk| chunk.into_iter().collect::<Result<_, _>>().context("a reader failed"));
            Ok(deliveries.boxed() as Deliveries)
        }
        .boxed()
    }
}
