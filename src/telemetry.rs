//! Logs and metrics: one list of every metric with its name, unit, labels and meaning. It never decides what is worth saying.
//!
//! Whoever counts something writes `metrics::counter!(telemetry::EVENTS_DELIVERED_TOTAL).increment(1)` and the like. Labels are bounded:
//! methods, codes, reasons and file roles, never identifiers of events or connections.

use std::{
    io::{self, IsTerminal},
    sync::{LazyLock, OnceLock},
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, which carries the unit.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! metrics_list {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*

        /// Every metric of the program.
        pub const ALL: &[Metric] = &[
            $(Metric { name: $constant, kind: Kind::$kind, labels: &[$($label),*], help: $help }),*
        ];
    };
}

metrics_list! {
    GRPC_HANDLED_TOTAL = Counter "grpc_server_handled_total" ["grpc_service", "grpc_method", "grpc_code"]
        "Calls that ended, by their status.";
    GRPC_HANDLING_SECONDS = Histogram "grpc_server_handling_seconds" ["grpc_service", "grpc_method"]
        "How long calls took; of streams, how long they lived.";
    HANDLER_PANICS_TOTAL = Counter "tradelane_handler_panics_total" ["grpc_method"]
        "Calls answered INTERNAL since their handler panicked: each is a bug.";
    CONNECTIONS = Gauge "tradelane_connections" []
        "Live connections of participants.";
    HANDSHAKE_FAILURES_TOTAL = Counter "tradelane_handshake_failures_total" ["reason"]
        "Connections refused before or in their TLS handshake.";
    DENIALS_TOTAL = Counter "tradelane_denials_total" ["reason"]
        "Calls and events refused for want of rights.";
    RELOADS_TOTAL = Counter "tradelane_reloads_total" ["outcome"]
        "Readings of certificates, trust and policy, by outcome: changed, unchanged or failed.";
    CERTIFICATE_EXPIRY_TIMESTAMP_SECONDS = Gauge "tradelane_certificate_expiry_timestamp_seconds" ["role", "trust_domain"]
        "When the first certificate or revocation list of a role and domain ends, seconds since 1970.";
    EVENTS_PUBLISHED_TOTAL = Counter "tradelane_events_published_total" []
        "Events stored for the first time.";
    EVENTS_DUPLICATE_TOTAL = Counter "tradelane_events_duplicate_total" []
        "Events that were stored before.";
    EVENTS_REJECTED_TOTAL = Counter "tradelane_events_rejected_total" ["reason"]
        "Events refused at the publish door.";
    EVENTS_DELIVERED_TOTAL = Counter "tradelane_events_delivered_total" []
        "Events sent to subscribers.";
    EVENTS_REDELIVERED_TOTAL = Counter "tradelane_events_redelivered_total" []
        "Events sent to consumers of durable subscriptions once more, after an attempt that failed.";
    SETTLEMENTS_TOTAL = Counter "tradelane_settlements_total" ["verb", "outcome"]
        "What consumers of durable subscriptions said of deliveries, and what became of it.";
    DURABLE_SUBSCRIPTIONS = Gauge "tradelane_durable_subscriptions" []
        "Durable subscriptions that there are.";
    DURABLE_CONSUMERS = Gauge "tradelane_durable_consumers" []
        "Consumers of durable subscriptions that are connected.";
    DURABLE_LAG_EVENTS = Gauge "tradelane_durable_lag_events" []
        "How many events the slowest durable subscription that somebody consumes is behind the end of the log.";
    DEAD_LETTERS = Gauge "tradelane_dead_letters" []
        "Dead letters of all durable subscriptions.";
    SUBSCRIBERS = Gauge "tradelane_subscribers" []
        "Live streams of Subscribe.";
    SUBSCRIBER_LAG_EVENTS = Gauge "tradelane_subscriber_lag_events" []
        "How many events the slowest live subscriber is behind the end of the log.";
    LOG_HEAD_SEQUENCE = Gauge "tradelane_log_head_sequence" []
        "The last durable sequence.";
    LOG_FDATASYNC_SECONDS = Histogram "tradelane_log_fdatasync_seconds" []
        "How long each fdatasync of the journal took.";
    DATA_USED_BYTES = Gauge "tradelane_data_used_bytes" []
        "What the node's files take.";
    DATA_FREE_BYTES = Gauge "tradelane_data_free_bytes" []
        "What the file system of the data directory has left for the node.";
    INDEX_MERGES_WAITING = Gauge "tradelane_index_merges_waiting" ["index"]
        "1 while runs of an index wait to be merged because the disk has too little room above the limit of publishing.";
    VIEW_LAG_EVENTS = Gauge "tradelane_view_lag_events" ["view"]
        "How many events a view is behind the end of the log.";
    PEER_EVENTS_TOTAL = Counter "tradelane_peer_events_total" ["direction"]
        "Events that went over links to peers.";
    PEER_EVENTS_QUARANTINED_TOTAL = Counter "tradelane_peer_events_quarantined_total" []
        "Events of peers that were not taken, one by one.";
    PEER_REVISIONS_UNDECIDED_TOTAL = Counter "tradelane_peer_revisions_undecided_total" []
        "Revisions that were not sent to a peer since they could not be followed back to their originals, and events of which revisions that \
         stand before them may not have been sent.";
    PEER_LINK_CHANGES_TOTAL = Counter "tradelane_peer_link_changes_total" ["direction", "state"]
        "Changes of the state of links to peers, by the state that they came to.";
    PEER_LINK_STATE = Gauge "tradelane_peer_link_state" ["direction", "peer", "state"]
        "1 for the state that a link to a peer is in, 0 for the others.";
    PEER_LAST_CONTACT_SECONDS = Gauge "tradelane_peer_last_contact_timestamp_seconds" ["direction", "peer"]
        "When a peer last said something over a link, seconds since 1970; 0: never.";
    PEER_LAST_ERROR = Gauge "tradelane_peer_last_error" ["class", "direction", "peer"]
        "1 for the class of the last failure of a link to a peer, also once it has recovered, 0 for the others.";
    PEER_BYTES_TOTAL = Counter "tradelane_peer_bytes_total" ["direction", "peer"]
        "Bytes of batches that went over a link to a peer.";
    PEER_LAG_EVENTS = Gauge "tradelane_peer_lag_events" ["direction", "peer"]
        "How many events a link to a peer is behind the end of its source's log.";
    PEER_LAG_SECONDS = Gauge "tradelane_peer_lag_seconds" ["direction", "peer"]
        "For how long a link to a peer has not been at the end of its source's log.";
    PEER_QUARANTINE_EVENTS = Gauge "tradelane_peer_quarantine_events" ["peer"]
        "Events of a peer that are in quarantine.";
    BUILD_INFO = Gauge "tradelane_build_info" ["version"]
        "Always 1.";
}

/// From what a commit to memory takes to what a node that is about to fail takes.
const SECONDS_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogForm {
    /// Pretty where standard error is a terminal, JSON otherwise.
    Auto,
    /// For people.
    Pretty,
    /// For machines.
    Json,
}

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogSetupError {
    /// The directives cannot be read.
    #[error("the log directives cannot be read: {0}")]
    Directives(#[from] tracing_subscriber::filter::ParseError),
    /// Somebody did so before.
    #[error("the log was set up before")]
    Twice,
}

/// Sends what is logged to standard error. Once a process, by the program's main.
///
/// # Errors
/// The directives cannot be read, or this was called before.
pub fn start_logging(directives: &str, form: LogForm) -> Result<(), LogSetupError> {
    let filter = EnvFilter::try_new(directives)?;
    let people = io::stderr().is_terminal();
    let pretty = match form {
        LogForm::Auto => people,
        LogForm::Pretty => true,
        LogForm::Json => false,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(people);
    let started = if pretty {
        registry.with(lines.with_target(false)).try_init()
    } else {
        registry.with(lines.json().flatten_event(true).with_current_span(false)).try_init()
    };
    started.map_err(|_| LogSetupError::Twice)
}

/// The metrics of this process, described and ready to be rendered. The first call installs the recorder; metrics counted before it are
/// lost, so a node calls it before anything else.
///
/// # Panics
/// Another part of the process has installed a recorder of its own.
pub fn metrics_recorder() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS_BUCKETS)
            .and_then(PrometheusBuilder::install_recorder)
            .expect("the buckets are not empty, and nothing else of this program installs a recorder");
        describe();
        metrics::gauge!(BUILD_INFO, "version" => version()).set(1.0);
        recorder
    })
}

/// Renders what `set` sets, and nothing else: for series of things that come and go, such as peers. The recorder of the process never
/// forgets a series, and would tell the last value of one that is gone for ever. A metric is set here or there, never in both.
#[must_use]
pub fn rendered_once(set: impl FnOnce()) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        describe();
        set();
    });
    recorder.handle().render()
}

/// Tells the present recorder what every metric says.
fn describe() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
}

/// The program's version, with the commit where the build knew it (the variable `TRADELANE_COMMIT` at compile time).
#[must_use]
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| match option_env!("TRADELANE_COMMIT") {
        Some(commit) => format!("{}+{commit}", env!("CARGO_PKG_VERSION")),
        None => env!("CARGO_PKG_VERSION").to_owned(),
    });
    &VERSION
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_carry_prefix_and_unit() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            assert!(
                metric.name.starts_with("tradelane_") || metric.name.starts_with("grpc_server_"),
                "{}",
                metric.name
            );
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert!(metric.kind != Kind::Histogram || metric.name.ends_with("_seconds"), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn what_was_counted_is_rendered_with_its_help() {
        let recorder = metrics_recorder();
        metrics::histogram!(LOG_FDATASYNC_SECONDS).record(0.003);
        let text = recorder.render();
        assert!(text.contains("# HELP tradelane_build_info Always 1."), "{text}");
        assert!(text.contains("tradelane_log_fdatasync_seconds_bucket{le=\"0.005\"} "), "{text}");
    }
}
