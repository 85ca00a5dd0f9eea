//! `PostgreSQL` with a table that is indexed as a node indexes: one entry an event for its identity and its place, and a GIN index over the
//! very terms of a node. A request is one INSERT of as many rows, and so one transaction; a reader LISTENs and reads by place.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use rustix::process::Signal;
use tokio::{
    process::Command,
    sync::{Mutex, Notify},
};
use tokio_postgres::{AsyncMessage, Statement, config::SslMode, error::SqlState, types::ToSql};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    events::Event,
    material::{HOST, Prepared},
    server::{Server, directory, free_port},
    system::{Client, Deliveries, Facts, Purpose, Running, Start, System, version},
};

const PUBLISHER: &str = "spiffe://port-community.example/system/pcs";
/// From taking connections to serving them.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a reader looks whom nobody tells anything.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Rows of one read.
const PAGE_ROWS: i64 = 1_000;
/// The identity and the order are unique B-trees. Rows are read in the order in which their transactions began, and only up to the oldest one
/// that is still open: without this a reader could pass a row that is committed later than its neighbours.
const SCHEMA: &str = "CREATE TABLE events (xid bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint, \
     position bigint NOT NULL GENERATED ALWAYS AS IDENTITY, accepted_time timestamptz NOT NULL DEFAULT clock_timestamp(), \
     publisher text NOT NULL, event_id uuid NOT NULL, event bytea NOT NULL, terms bigint[] NOT NULL, \
     PRIMARY KEY (xid, position), UNIQUE (publisher, event_id)); CREATE INDEX ON events USING gin (terms);";
const PAGE: &str = "SELECT xid, position, event FROM events WHERE (xid, position) > ($1, $2) \
     AND xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint ORDER BY xid, position LIMIT $3";

/// The programs.
#[derive(Debug)]
pub struct Postgres {
    /// The folder in which `initdb` and `postgres` are.
    pub programs: PathBuf,
    /// The run's material.
    pub prepared: Arc<Prepared>,
    /// Where its directories are made.
    pub parent: PathBuf,
}

struct Cluster {
    server: Server,
    prepared: Arc<Prepared>,
}

struct PostgresClient {
    client: Arc<tokio_postgres::Client>,
    /// Whether those who LISTEN are told of what is stored.
    notifies: bool,
    /// An INSERT for each number of rows.
    inserts: Mutex<HashMap<usize, Statement>>,
    /// Told of every NOTIFY.
    notified: Arc<Notify>,
}

struct Reader {
    client: Arc<tokio_postgres::Client>,
    notified: Arc<Notify>,
    page: Statement,
    /// The last row that was read.
    place: (i64, i64),
}

impl System for Postgres {
    fn facts(&self) -> Facts {
        Facts {
            name: "postgresql".to_owned(),
            version: version(&self.programs.join("postgres"), "--version").unwrap_or_else(|error| error.to_string()),
            durability: "synchronous_commit on: its log is fdatasynced before each acknowledgement",
            settings: "max_connections 400, max_wal_size 4GB; unique B-trees over (publisher, event_id) and (xid, position), GIN over \
                       the node's own terms"
                .to_owned(),
            not_alike: "one connection for each request in flight; a reader LISTENs and reads pages of 1,000 rows; a transaction \
                        NOTIFYs only where somebody reads; checks no content and no right",
        }
    }

    fn start(&self) -> BoxFuture<'_, Result<Box<dyn Running>>> {
        async {
            let (directory, port) = (directory(&self.parent, "postgresql")?, free_port()?);
            let data = directory.path().join("data");
            fs::create_dir(&data)?;
            let owner = owner(&data)?;
            own(&data, owner)?;
            let mut initdb = self.command("initdb", owner);
            initdb.arg("--pgdata").arg(&data).args(["--username", "postgres", "--auth", "trust", "--encoding", "UTF8"]);
            let output = initdb.arg("--no-locale").output().await.context("cannot run initdb")?;
            ensure!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
            let files = &self.prepared.files;
            // It wants a key that only its own user may read.
            let copies = [(&files.server_certificate, "server.crt"), (&files.server_key, "server.key")];
            for (from, name) in copies.into_iter().chain([(&files.client_authority, "clients.crt")]) {
                let to = data.join(name);
                fs::copy(from, &to)?;
                fs::set_permissions(&to, fs::Permissions::from_mode(0o600))?;
                own(&to, owner)?;
            }
            fs::write(data.join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 trust clientcert=verify-ca\n")?;
            let settings = format!(
                "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\nssl = on\nssl_ca_file = 'clients.crt'\n\
                 max_connections = 400\nmax_wal_size = 4GB\nsynchronous_commit = on\nfsync = on\n"
            );
            fs::write(data.join("postgresql.auto.conf"), settings)?;
            let mut command = self.command("postgres", owner);
            command.arg("-D").arg(&data);
            let server = Server::start(command, directory, port, Signal::INT).await?;
            let cluster = Cluster { server, prepared: Arc::clone(&self.prepared) };
            cluster.connect_once_ready().await?.client.batch_execute(SCHEMA).await?;
            Ok(Box::new(cluster) as Box<dyn Running>)
        }
        .boxed()
    }
}

impl Postgres {
    /// One of its programs, run as somebody whom it accepts.
    fn command(&self, name: &str, owner: Option<(u32, u32)>) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir("/").env("LC_ALL", "C");
        if let Some((user, group)) = owner {
            command.uid(user).gid(group);
        }
        command
    }
}

/// It refuses to run as root: then everything is the user's whom Debian's package makes.
fn owner(data: &Path) -> Result<Option<(u32, u32)>> {
    if fs::metadata(data)?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == "postgres");
    let fields = fields.context("PostgreSQL does not run as root, and there is no user postgres")?;
    Ok(Some((fields[2].parse()?, fields[3].parse()?)))
}

fn own(path: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    owner.map_or(Ok(()), |(user, group)| Ok(chown(path, Some(user), Some(group))?))
}

impl Cluster {
    /// It takes connections before it serves them.
    async fn connect_once_ready(&self) -> Result<PostgresClient> {
        let started = Instant::now();
        loop {
            let connected = self.connect(false).await;
            let code = connected.as_ref().err().and_then(|error| error.downcast_ref::<tokio_postgres::Error>()?.code());
            if code != Some(&SqlState::CANNOT_CONNECT_NOW) || READY_TIMEOUT < started.elapsed() {
                return connected;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn connect(&self, notifies: bool) -> Result<PostgresClient> {
        let mut config = tokio_postgres::Config::new();
        config.host(HOST).hostaddr([127, 0, 0, 1].into()).port(self.server.port).user("postgres").dbname("postgres");
        config.ssl_mode(SslMode::Require);
        let (client, mut connection) = config.connect(MakeRustlsConnect::new(self.prepared.client_tls()?)).await?;
        let told = Arc::new(Notify::new());
        let tell = Arc::clone(&told);
        // Ends with the client; what fails here fails each of its calls.
        tokio::spawn(async move {
            while let Some(Ok(message)) = stream::poll_fn(|context| connection.poll_message(context)).next().await {
                if matches!(message, AsyncMessage::Notification(_)) {
                    tell.notify_one();
                }
            }
        });
        Ok(PostgresClient { client: Arc::new(client), notifies, inserts: Mutex::default(), notified: told })
    }
}

impl Running for Cluster {
    fn clients(&self, at_once: usize, purpose: Purpose) -> BoxFuture<'_, Result<Vec<Arc<dyn Client>>>> {
        async move {
            let mut clients: Vec<Arc<dyn Client>> = Vec::new();
            for _ in 0..at_once {
                clients.push(Arc::new(self.connect(purpose == Purpose::Deliver).await?));
            }
            Ok(clients)
        }
        .boxed()
    }

    fn stop(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        self.server.stop().boxed()
    }
}

impl PostgresClient {
    async fn insert(&self, rows: usize) -> Result<Statement> {
        let mut inserts = self.inserts.lock().await;
        if let Some(insert) = inserts.get(&rows) {
            return Ok(insert.clone());
        }
        let row = |at: usize| format!("('{PUBLISHER}', ${}, ${}, ${})", 3 * at + 1, 3 * at + 2, 3 * at + 3);
        let values: Vec<_> = (0..rows).map(row).collect();
        let told = if self.notifies { ", pg_notify('events', '')" } else { "" };
        let text = format!(
            "WITH stored AS (INSERT INTO events (publisher, event_id, event, terms) VALUES {} RETURNING 1) \
             SELECT count(*){told} FROM stored",
            values.join(", ")
        );
        let insert = self.client.prepare(&text).await?;
        inserts.insert(rows, insert.clone());
        Ok(insert)
    }
}

impl Client for PostgresClient {
    fn publish(&self, events: Arc<[Event]>) -> BoxFuture<'_, Result<()>> {
        async move {
            let insert = self.insert(events.len()).await?;
            let columns: Vec<(&[u8], &[i64])> = events.iter().map(|event| (&*event.bytes, &*event.terms)).collect();
            let rows = events.iter().zip(&columns);
            let values: Vec<&(dyn ToSql + std::marker::Sync)> =
                rows.flat_map(|(event, (bytes, terms))| [&event.id as _, bytes as _, terms as _]).collect();
            let stored: i64 = self.client.query_one(&insert, &values).await?.get(0);
            ensure!(usize::try_from(stored)? == events.len(), "not everything was stored");
            Ok(())
        }
        .boxed()
    }

    fn follow(&self, start: Start) -> BoxFuture<'_, Result<Deliveries>> {
        async move {
            self.client.batch_execute("LISTEN events").await?;
            let last = "SELECT xid, position FROM events ORDER BY xid DESC, position DESC LIMIT 1";
            let after = match start {
                Start::Earliest => None,
                Start::Latest => self.client.query_opt(last, &[]).await?,
            };
            let place = after.map_or((0, 0), |row| (row.get(0), row.get(1)));
            let page = self.client.prepare(PAGE).await?;
            let reader = Reader { client: Arc::clone(&self.client), notified: Arc::clone(&self.notified), page, place };
            Ok(stream::try_unfold(reader, |reader| reader.next().map(|next| next.map(Some))).boxed() as Deliveries)
        }
        .boxed()
    }
}

impl Reader {
    /// The next rows, once there are some.
    async fn next(mut self) -> Result<(Vec<Bytes>, Self)> {
        loop {
            let (xid, position): (i64, i64) = self.place;
            let rows = self.client.query(&self.page, &[&xid, &position, &PAGE_ROWS]).await?;
            if let Some(last) = rows.last() {
                self.place = (last.get(0), last.get(1));
                return Ok((rows.iter().map(|row| Bytes::copy_from_slice(row.get(2))).collect(), self));
            }
            // Nobody is told when a transaction ends that stored nothing and still hid younger ones: so it looks again by itself too.
            tokio::time::timeout(LOOK_AGAIN, self.notified.notified()).await.ok();
        }
    }
}
