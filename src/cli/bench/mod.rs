//! `tradelane bench`: measures a node in a process of its own over real mutual TLS on loopback, beside limits that are measured in the same
//! run. Bounded in count and time; it never measures or touches another node than the one that it starts.

// The comments of arguments are their help, where a person would see the marks.
#![allow(clippy::doc_markdown)]

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use serde_json::json;

use self::{
    child::{Server, disk_bytes},
    exchange::Exchange,
    raw::RawClient,
    report::Report,
    scenario::Story,
};
use super::{
    ExitCode, Failure,
    config::SettingsArguments,
    connect::NodeAddress,
    settings::ClientFlags,
    terminal::{OutputFormat, Terminal, note},
};
use crate::{
    clock::{Clock, SystemClock},
    telemetry,
};

mod child;
mod clearances;
mod drive;
mod durable;
mod exchange;
mod federation;
mod limits;
mod live;
mod prepare;
mod publish;
mod queries;
mod raw;
mod report;
mod scenario;
mod stored;

/// `tradelane bench`
#[derive(Debug, Args)]
#[command(after_help = "\
Starts a node in a process of its own with a development PKI and mutual TLS on loopback, and for comparison, in the same run, a server \
that does nothing over the same TLS and a plain file that is appended to and fdatasynced. What compares is the ratio of one run on one \
machine; other figures tell as much about the machine. The file system measured is the one of --dir.

Latencies at a fixed rate count from the moment at which a request was to be sent, so that a stall is not hidden by requests that it kept \
from being sent. S/M is processor seconds for a million events.

Examples:
  tradelane bench
  tradelane bench --quick
  tradelane bench --workload publish --rounds 5 --seconds 5
  tradelane bench -w query -w restart --events 1000000 --events 10000000
  tradelane bench --output json > bench.json")]
pub struct BenchArguments {
    /// What to measure; may be given again [default: everything]
    #[arg(long, short = 'w', value_name = "NAME")]
    pub workload: Vec<Workload>,
    /// Only see that everything runs: small counts, one round. The figures mean nothing.
    #[arg(long)]
    pub quick: bool,
    /// How often each comparison is repeated, its sides in turn.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// How long each single measurement may last.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// How many events are stored for replays, queries and restarts; may be given again, to see what grows with it.
    #[arg(long, value_name = "COUNT", default_value = "200000", value_parser = clap::value_parser!(u32).range(1_000..=20_000_000))]
    pub events: Vec<u32>,
    /// Where the node keeps its log; a new directory is made in it and removed at the end.
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    pub dir: PathBuf,
    /// How to show the results.
    #[arg(long, short = 'o', value_name = "FORMAT", default_value = "table")]
    pub output: OutputFormat,
    /// Be the server that does nothing, with a node's configuration.
    #[arg(long, hide = true, value_name = "FILE")]
    pub serve_limits: Option<PathBuf>,
    /// Only make the exchange's files and --events events in a new directory, for a comparison with other systems.
    #[arg(long, hide = true, value_name = "DIRECTORY")]
    pub prepare: Option<PathBuf>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Durable publishing by calls of 1, 16, 256 and 1,000 events with 1, 16, 64 and 256 in flight.
    Publish,
    /// Durable publishing of single events in one stream, 1,024 outstanding, beside unary calls with 256 in flight.
    PublishStream,
    /// From a publisher to a subscriber, single events at 2,000 and 20,000 a second.
    Latency,
    /// Replay to one subscriber from the beginning, of everything and through a filter that 1 in 1,000 events pass.
    Replay,
    /// Deliveries to 10, to 100 and to 1,000 subscribers.
    FanOut,
    /// What each of 1,000 and of 10,000 subscribers costs that gets nothing.
    Idle,
    /// What each of 10,000 durable subscriptions costs, 1,000 of them consumed and idle, and consuming with acknowledgements.
    Durable,
    /// Queries by id, by container, by place and time, and timelines; quiet and while events are published.
    Query,
    /// Clearances of declarations and containers, pages of them, and a watch from the beginning.
    Clearance,
    /// From start to the first answer, after an orderly stop and after kill -9.
    Restart,
    /// One link between two nodes: what was stored before, and how much later than at the node an event arrives at the other.
    Federation,
}

/// What a node's defaults would bound while it is measured.
const SETTINGS: [&str; 8] = [
    "quotas.events_per_second_max=0",
    "quotas.streams_max=100000",
    "subscriptions.sessions_max=100000",
    "subscriptions.durable_per_participant_max=100000",
    "subscriptions.consumers_max=100000",
    "identity.connections_per_address_max=1024",
    "telemetry.log=warn,tradelane::node=info,tradelane::cli=info",
    "telemetry.log_format=json",
];
/// As many calls as a node allows at one time on one connection.
const CALLS_PER_CONNECTION: usize = 64;

/// Everything that the workloads share.
struct Bench {
    exchange: Exchange,
    story: Story,
    report: Report,
    rounds: u32,
    /// The longest that one measurement lasts.
    limit: Duration,
    /// How long what is short in itself is repeated; it is done once at least.
    repeat_for: Duration,
    /// Counts are divided by this.
    shrink: usize,
    /// How many events are stored for replays, queries and restarts: measured for each.
    stored_events: Vec<usize>,
    node_count: u32,
}

/// A node of this measurement.
struct BenchNode {
    server: Server,
    data_dir: PathBuf,
    exchange: Exchange,
}

/// Runs `tradelane bench`.
///
/// # Errors
/// A server cannot be started, or does not answer as it should.
pub async fn run(arguments: &BenchArguments) -> Result<(), Failure> {
    if let Some(config) = &arguments.serve_limits {
        return limits::serve(&settings_of(config)).await;
    }
    if let Some(directory) = &arguments.prepare {
        let events = arguments.events.iter().map(|count| *count as usize).sum();
        return prepare::prepare(directory, events);
    }
    let fresh = &SystemClock.fresh_uuid().simple().to_string()[24..];
    let directory = arguments.dir.join(format!("tradelane-bench-{fresh}"));
    let measured = tokio::select! {
        measured = measure(arguments, &directory) => measured,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(ExitCode::Failure, "ended by Ctrl-C")),
    };
    if let Err(error) = std::fs::remove_dir_all(&directory)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        note(&format!("cannot remove {}: {error}", directory.display()));
    }
    measured
}

async fn measure(arguments: &BenchArguments, directory: &Path) -> Result<(), Failure> {
    let now_ns = SystemClock.now_ns();
    let mut bench = Bench {
        exchange: Exchange::create(directory, now_ns)?,
        story: Story::new(scenario::CONTAINERS, now_ns),
        report: Report::default(),
        rounds: if arguments.quick { 1 } else { arguments.rounds },
        limit: Duration::from_secs(arguments.seconds),
        repeat_for: if arguments.quick { Duration::ZERO } else { Duration::from_secs(arguments.seconds) },
        shrink: if arguments.quick { 500 } else { 1 },
        stored_events: arguments.events.iter().map(|count| *count as usize).collect(),
        node_count: 0,
    };
    let workloads = if arguments.workload.is_empty() { Workload::value_variants() } else { &arguments.workload };
    for workload in workloads {
        match workload {
            Workload::Publish => publish::unary(&mut bench).await?,
            Workload::PublishStream => publish::streams(&mut bench).await?,
            Workload::Latency => live::latency(&mut bench).await?,
            Workload::Replay => stored::replay(&mut bench).await?,
            Workload::FanOut => live::fan_out(&mut bench).await?,
            Workload::Idle => live::idle(&mut bench).await?,
            Workload::Durable => durable::durable(&mut bench).await?,
            Workload::Query => queries::queries(&mut bench).await?,
            Workload::Clearance => clearances::clearances(&mut bench).await?,
            Workload::Restart => queries::restart(&mut bench).await?,
            Workload::Federation => federation::federation(&mut bench).await?,
        }
    }
    let settings = json!({
        "version": telemetry::version(),
        "cpus": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "rounds": bench.rounds,
        "seconds": arguments.seconds,
        "stored_events": bench.stored_counts(),
        "quick": arguments.quick,
        "optimised": !cfg!(debug_assertions),
    });
    let mut terminal = Terminal::new(arguments.output);
    if terminal.for_people() {
        if cfg!(debug_assertions) {
            note("this program was built without optimisation: its figures mean nothing (cargo build --release)");
        }
        bench.report.print(&mut terminal)?;
    } else {
        terminal.json(&bench.report.document(&settings))?;
    }
    Ok(terminal.flush()?)
}

impl Bench {
    /// So many of something, or fewer where only a look is wanted; never none.
    fn count(&self, full: usize) -> usize {
        (full / self.shrink).max(1)
    }

    /// How many events are stored, one time after the other.
    fn stored_counts(&self) -> Vec<usize> {
        self.stored_events.iter().map(|full| self.count(*full)).collect()
    }

    /// A node with an empty log.
    async fn fresh_node(&mut self) -> Result<BenchNode, Failure> {
        self.node_count += 1;
        let data_dir = self.exchange.directory.join(format!("data-{}", self.node_count));
        BenchNode::start(&self.exchange, data_dir).await
    }

    /// The server that does nothing.
    async fn limit_server(&self) -> Result<Server, Failure> {
        // Where its audit log goes: the same layer refuses strangers there.
        let data_dir = self.exchange.directory.join("data");
        std::fs::create_dir_all(&data_dir).map_err(|error| Failure::file("make", &data_dir, &error))?;
        let arguments =
            ["bench".to_owned(), "--serve-limits".to_owned(), self.exchange.config_file.to_string_lossy().into_owned()];
        Server::start(&arguments, &self.exchange.directory.join("limits.log")).await
    }
}

impl BenchNode {
    async fn start(exchange: &Exchange, data_dir: PathBuf) -> Result<Self, Failure> {
        let config = exchange.config_file.to_string_lossy().into_owned();
        let mut arguments = vec!["serve".to_owned(), "--config".to_owned(), config];
        let data_setting = format!("node.data_dir={}", data_dir.display());
        for setting in SETTINGS.iter().map(|setting| (*setting).to_owned()).chain([data_setting]) {
            arguments.extend(["--set".to_owned(), setting]);
        }
        let server = Server::start(&arguments, &exchange.directory.join("node.log")).await?;
        Ok(Self { server, data_dir, exchange: exchange.clone() })
    }

    /// Connections, as many as so many calls at one time need.
    async fn clients(&self, in_flight: usize) -> Result<Vec<RawClient>, Failure> {
        clients(&self.exchange, &self.server, in_flight).await
    }

    fn disk_bytes(&self) -> u64 {
        disk_bytes(&self.data_dir)
    }

    /// Ends it in order and removes its log.
    async fn discard(self) -> Result<(), Failure> {
        self.server.stop().await?;
        std::fs::remove_dir_all(&self.data_dir).map_err(|error| Failure::file("remove", &self.data_dir, &error))
    }
}

async fn clients(exchange: &Exchange, server: &Server, in_flight: usize) -> Result<Vec<RawClient>, Failure> {
    let profile = exchange.profile(&NodeAddress::from(server.address))?;
    // By the profile alone: what is in this process's environment is for other nodes.
    let settings = ClientFlags { profile: Some(profile), ..ClientFlags::default() }.settings()?;
    let mut clients = Vec::new();
    for _ in 0..in_flight.div_ceil(CALLS_PER_CONNECTION) {
        clients.push(RawClient::new(settings.channel().await?));
    }
    Ok(clients)
}

fn settings_of(config: &Path) -> SettingsArguments {
    let set = SETTINGS.iter().filter_map(|setting| setting.split_once('='));
    SettingsArguments {
        config: Some(config.to_owned()),
        set: set.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
    }
}
