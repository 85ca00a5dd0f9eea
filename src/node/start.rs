//! Starting in order: what is wrong with files, directory and ports shows before the log is opened, and nothing is answered before the
//! views follow the log. It never serves a call itself.

use std::{fs::DirBuilder, io, net::SocketAddr, os::unix::fs::DirBuilderExt, path::Path, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};
use tonic_health::ServingStatus;

use super::{
    Node, RunningNode, StartError, code_lists,
    gauges::Gauges,
    page_key,
    services::{Services, Shared},
    stop::services,
};
use crate::{
    api::{AuthorizeLayer, CallRules, CallsLayer, LiveCalls, methods::Methods, operations},
    clock::{Clock, SystemClock},
    config::{ApiConfig, Config},
    domain::{SpiffeId, code_lists::CodeLists},
    federation::{Federation, PeerTable, ProgressFile, TlsDial, progress},
    identity::{Identity, OpenError},
    log::{
        EventLog,
        sled_log::{self, LogOptions, OpenedLog},
    },
    subscribe::{SessionLimits, durable::DurableLimits},
    tasks::{OnFailure, Tasks},
    telemetry,
    views::page_token::PageKey,
    wire,
};

/// How often a quiet connection is probed, and how long a probe may stay unanswered: a client that is gone is noticed within 30 s.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// All headers of one call: no client of ours needs 2 KiB.
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;
/// A client that makes the node reset so many streams by faults of its own is cut off (HTTP/2's rapid resets).
const ERROR_RESETS_MAX: usize = 256;
/// What a client may send ahead on one stream and on one connection: enough for a batch of 4 MiB in flight at 10 ms, and a bound on what
/// a connection costs.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

impl Node {
    /// Looks at everything that the operator wrote, as a start does before it opens anything, and keeps nothing of it.
    ///
    /// # Errors
    /// What would keep a node from starting: in its files, not in its data directory or ports.
    pub fn check(config: &Config, now_ns: i64) -> Result<(), StartError> {
        Identity::check(&config.identity, now_ns).map_err(OpenError::Files)?;
        code_lists::load(&config.code_lists).map_err(|(path, fault)| StartError::CodeList { path, fault })?;
        Ok(())
    }

    /// Starts a node with its log in the data directory.
    ///
    /// # Errors
    /// Whatever keeps it from working, said so that the operator knows what to mend.
    pub async fn start(config: Config) -> Result<RunningNode, StartError> {
        telemetry::metrics_recorder();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let data_dir_fails = |error| StartError::DataDir { path: config.node.data_dir.clone(), error };
        make_private_dir(&config.node.data_dir).map_err(data_dir_fails)?;
        let identity = Identity::open(&config.identity, clock.clone())?;
        let lists =
            code_lists::load(&config.code_lists).map_err(|(path, fault)| StartError::CodeList { path, fault })?;
        let listeners = Listeners::bind(&config).await?;
        let log = open_log(&config, &identity, clock.clone()).await?;
        // The log's opening has taken the directory, so no other process makes the key at the same time.
        let page_key = page_key::load_or_make(&config.node.data_dir, &*clock).map_err(data_dir_fails)?;
        let remembered = Federation::remembered(&config.node.data_dir, clock.clone()).map_err(StartError::Peers)?;
        let composing = compose(config, clock, identity, Arc::new(lists), page_key, listeners, (log, remembered));
        Box::pin(composing).await
    }
}

/// The sockets, bound before anything takes long.
struct Listeners {
    participants: (TcpListener, SocketAddr),
    operations: Option<(TcpListener, SocketAddr)>,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, StartError> {
        let participants = bind("listen.address", config.listen.address).await?;
        let operations = match config.listen.operations_address {
            Some(address) => Some(bind("listen.operations_address", address).await?),
            None => None,
        };
        Ok(Self { participants, operations })
    }
}

async fn bind(setting: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen { setting, address, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Makes the data directory for this user alone, where it is not there yet. The folder above must be there: where it is missing, the
/// setting is misspelt or a disk is not mounted, and an empty log would begin beside the one that is meant.
fn make_private_dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if path.is_dir() {
                Ok(())
            } else {
                Err(io::Error::new(error.kind(), "it is no directory"))
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(io::Error::new(error.kind(), "the directory that it is to be made in does not exist"))
        }
        made => made,
    }
}

/// Opens the log on a thread of its own, since walking it after a crash takes time.
async fn open_log(config: &Config, identity: &Identity, clock: Arc<dyn Clock>) -> Result<OpenedLog, StartError> {
    let options = log_options(config, identity.own_id());
    let opening = tokio::task::spawn_blocking(move || sled_log::open(&options, clock, wire::content_equal));
    match opening.await {
        Ok(opened) => Ok(opened?),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// The files beside the log that a backup carries along, and that a restore puts back.
pub const COMPANIONS: &[&str] = &[progress::FILE_NAME];

/// How a node's log is opened.
#[must_use]
pub fn log_options(config: &Config, node: SpiffeId) -> LogOptions {
    let storage = &config.storage;
    LogOptions {
        journal_half_bytes: storage.journal_half_bytes,
        refuse_below_bytes: storage.refuse_below_free_bytes,
        tail_bytes_max: storage.tail_bytes_max,
        queue_bytes_max: storage.queue_bytes_max,
        block_cache_bytes_max: storage.block_cache_bytes_max,
        page_cache_bytes: storage.page_cache_bytes,
        index_memory_entries_max: storage.index_memory_entries_max,
        ..LogOptions::new(config.node.data_dir.clone(), node)
    }
}

/// What live subscriptions may cost.
pub(super) const fn session_limits(config: &Config) -> SessionLimits {
    let subscriptions = &config.subscriptions;
    SessionLimits {
        stalled_max: subscriptions.stall_timeout,
        progress_interval: subscriptions.progress_interval,
        window_messages_max: subscriptions.window_messages_max,
        sessions_max: subscriptions.sessions_max,
    }
}

/// What durable subscriptions may cost.
pub(super) const fn durable_limits(config: &Config) -> DurableLimits {
    let subscriptions = &config.subscriptions;
    DurableLimits {
        per_participant_max: subscriptions.durable_per_participant_max,
        consumers_max: subscriptions.consumers_max,
        stalled_max: subscriptions.stall_timeout,
        progress_interval: subscriptions.progress_interval,
    }
}

async fn compose(
    config: Config,
    clock: Arc<dyn Clock>,
    identity: Identity,
    lists: Arc<CodeLists>,
    page_key: PageKey,
    listeners: Listeners,
    (opened, peer_table): (OpenedLog, Arc<PeerTable>),
) -> Result<RunningNode, StartError> {
    let (tasks, draining, cut) = (Tasks::new(), CancellationToken::new(), CancellationToken::new());
    let own_id = identity.own_id();
    let live = LiveCalls::new();
    let (health, health_service) = tonic_health::server::health_reporter();
    for service in services() {
        health.set_service_status(service, ServingStatus::Serving).await;
    }
    let health_service = health_service.max_decoding_message_size(config.api.control_request_bytes_max);
    let shared = Shared {
        config: &config,
        clock: &clock,
        identity: &identity,
        code_lists: lists,
        opened: &opened,
        peer_table,
        tasks: &tasks,
        live: &live,
        draining: &draining,
        page_key,
    };
    let services = shared.build(Routes::new(health_service)).map_err(StartError::Subscriptions)?;
    let Services { routes, views, sessions, durable, federation } = services;
    let OpenedLog { log, search_index: _, state: _, admin } = opened;
    let rules = CallRules {
        methods: Methods::served(),
        live: live.clone(),
        draining: draining.clone(),
        cut: cut.clone(),
        unary_timeout: config.api.unary_timeout,
        control_request_bytes_max: config.api.control_request_bytes_max,
        clock: clock.clone(),
    };
    let readers = (sessions, durable);
    let gauges = Gauges::new(log.clone(), admin.clone(), views, readers, federation.clone(), draining.clone());
    let (listener, address) = listeners.participants;
    serve_participants(&config.api, &identity, listener, routes, rules, &tasks);
    let operations_address = listeners.operations.map(|(listener, address)| {
        let serving =
            operations::serve(listener, gauges.readiness(), gauges.refresh(), tasks.stopping().cancelled_owned());
        tasks.spawn("operations address", OnFailure::StopNode, serving);
        address
    });
    tasks.spawn("watch files", OnFailure::StopNode, identity.clone().watch(tasks.stopping()));
    watch_log(&tasks, admin.failed());
    let dial = TlsDial::new(identity.clone(), clock.clone());
    let progress = ProgressFile::in_dir(&config.node.data_dir);
    federation.start(Arc::new(dial), Arc::new(progress), &tasks);
    announce(&config, &own_id, address, operations_address, &*log);
    Ok(RunningNode {
        id: own_id,
        address,
        operations_address,
        identity,
        admin,
        tasks,
        live,
        health,
        draining,
        cut,
        stop_timeout: config.node.stop_timeout,
    })
}

/// HTTP/2 as a node speaks it, without any service.
#[must_use]
pub fn transport(config: &ApiConfig) -> Server {
    Server::builder()
        .max_concurrent_streams(config.streams_per_connection_max)
        .http2_max_local_error_reset_streams(Some(ERROR_RESETS_MAX))
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
}

fn serve_participants(
    config: &ApiConfig,
    identity: &Identity,
    listener: TcpListener,
    routes: Routes,
    rules: CallRules,
    tasks: &Tasks,
) {
    let draining = rules.draining.clone();
    let authorize =
        AuthorizeLayer::new(identity.access().clone(), identity.peers(), identity.audit().clone(), rules.clock.clone());
    let server = transport(config)
        // The first layer is the outermost: refusals are counted too.
        .layer(CallsLayer::new(rules))
        .layer(authorize)
        .add_routes(routes);
    let incoming = identity.acceptor().incoming(listener, tasks);
    tasks.spawn("grpc", OnFailure::StopNode, server.serve_with_incoming_shutdown(incoming, draining.cancelled_owned()));
}

/// Storage that has failed for good stops the node.
fn watch_log(tasks: &Tasks, failed: impl Future<Output = String> + Send + 'static) {
    let stopping = tasks.stopping();
    tasks.spawn("watch log", OnFailure::StopNode, async move {
        tokio::select! {
            () = stopping.cancelled() => Ok(()),
            reason = failed => Err(reason),
        }
    });
}

/// One line each, so that an operator finds them.
fn announce(
    config: &Config,
    own_id: &SpiffeId,
    address: SocketAddr,
    operations_address: Option<SocketAddr>,
    log: &dyn EventLog,
) {
    tracing::info!(version = telemetry::version(), node = %own_id, "identity");
    tracing::info!(%address, "listening for participants");
    if let Some(address) = operations_address {
        tracing::info!(%address, "listening for probes and metrics");
    } else {
        tracing::info!("no operations address");
    }
    tracing::info!(path = %config.node.data_dir.display(), "data directory");
    if let Some(epoch) = log.epochs().first() {
        tracing::info!(epoch = %epoch.epoch, parent = epoch.parent.map(tracing::field::display), "epoch");
    }
    tracing::info!(head_sequence = log.tail().borrow().get(), first_sequence = log.first_retained().get(), "log");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_file_says_what_the_rooms_do_where_nothing_is_said() {
        let config = Config::local(Path::new("/data"), Path::new("/files"));
        let node = SpiffeId::parse("spiffe://x.example/node/n").unwrap();
        let (told, untold) = (log_options(&config, node.clone()), LogOptions::new("/data", node));
        assert_eq!(format!("{told:?}"), format!("{untold:?}"));
        assert_eq!(session_limits(&config), SessionLimits::default());
        assert_eq!(durable_limits(&config), DurableLimits::default());
    }
}
