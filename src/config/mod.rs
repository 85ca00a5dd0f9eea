//! Settings in two steps: what the operator wrote ([`settings`]), then what the program means ([`Config`]). It never reads certificates
//! or opens data: whether a file is there is for the room that needs it to say.

mod limits;
pub mod nearest;
mod read;
pub mod settings;
pub mod units;

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{domain::code_lists::ListMode, telemetry::LogForm};
pub use limits::{StorageConfig, SubscriptionsConfig};
use read::Reader;
pub use settings::{Problem, Setting, Settings, Source, Value};

/// Everything that a node is told at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The process.
    pub node: NodeConfig,
    /// Addresses.
    pub listen: ListenConfig,
    /// Certificates, trust and policy.
    pub identity: IdentityConfig,
    /// Limits of calls.
    pub api: ApiConfig,
    /// What one participant may do.
    pub quotas: QuotasConfig,
    /// What live readers may cost.
    pub subscriptions: SubscriptionsConfig,
    /// Disk and memory of the log.
    pub storage: StorageConfig,
    /// Code lists.
    pub code_lists: CodeListsConfig,
    /// Logs.
    pub telemetry: TelemetryConfig,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Where the node keeps its data.
    pub data_dir: PathBuf,
    /// How long stopping takes at most.
    pub stop_timeout: Duration,
}

/// `[listen]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenConfig {
    /// gRPC over mutual TLS.
    pub address: SocketAddr,
    /// Plain HTTP for probes and metrics, where wanted.
    pub operations_address: Option<SocketAddr>,
}

/// `[identity]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityConfig {
    /// Certificate chain in PEM.
    pub certificate_file: PathBuf,
    /// Private key in PEM.
    pub private_key_file: PathBuf,
    /// Trust domains.
    pub trust_file: PathBuf,
    /// Grants.
    pub policy_file: PathBuf,
    /// Other nodes, where there are any.
    pub peers_file: Option<PathBuf>,
    /// Where denials and administrative changes are appended.
    pub audit_file: PathBuf,
    /// How often the files are looked at.
    pub poll_interval: Duration,
    /// Limit of one TLS handshake.
    pub handshake_timeout: Duration,
    /// TLS handshakes at one time.
    pub handshakes_max: usize,
    /// Connections at one time.
    pub connections_max: usize,
    /// Connections at one time from one address.
    pub connections_per_address_max: usize,
}

/// `[api]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiConfig {
    /// Calls and streams at one time on one connection.
    pub streams_per_connection_max: u32,
    /// Limit of one unary call.
    pub unary_timeout: Duration,
    /// Largest request of the publishing calls.
    pub publish_request_bytes_max: usize,
    /// Largest request of every other call.
    pub control_request_bytes_max: usize,
    /// Whether reflection is served.
    pub reflection: bool,
}

/// `[quotas]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotasConfig {
    /// Events a second that one participant may publish, on average; 0: no quota.
    pub events_per_second_max: u32,
    /// Events that one participant may publish at once after a pause.
    pub events_burst_max: u32,
    /// Streams that one participant may hold open.
    pub streams_max: usize,
}

/// `[code_lists]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeListsConfig {
    /// UN/LOCODE.
    pub un_locode: CodeListConfig,
    /// Harmonized System.
    pub hs: CodeListConfig,
    /// Units of UN/ECE Recommendation 20.
    pub unit: CodeListConfig,
}

/// One code list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeListConfig {
    /// The file, where there is one.
    pub file: Option<PathBuf>,
    /// What a code that is not on the list means.
    pub mode: ListMode,
}

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// Tracing directives.
    pub log: String,
    /// How log lines look.
    pub log_format: LogForm,
}

/// Where settings come from besides the defaults.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The file, where one is given.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// The command line: (the flag as written, key, value).
    pub flags: Vec<(String, String, String)>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// All that is wrong, at once.
    #[error("{}", one_per_line(.0))]
    Invalid(Vec<Problem>),
}

impl Config {
    /// Reads all layers and checks every value. Returns what was written too, for showing.
    ///
    /// # Errors
    /// The file cannot be read, or something in one of the layers is wrong: then everything that is.
    pub fn load(layers: &Layers) -> Result<(Self, Settings), ConfigError> {
        let (mut settings, mut problems) = (Settings::defaults(), Vec::new());
        if let Some(path) = &layers.file {
            let text =
                fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { path: path.clone(), error })?;
            settings.apply_file(path, &text, &mut problems);
        }
        settings.apply_environment(layers.environment.iter().cloned(), &mut problems);
        for (flag, key, text) in &layers.flags {
            settings.apply_flag(flag, key, text, &mut problems);
        }
        let config = Self::read(&Reader::new(&settings, &mut problems));
        if problems.is_empty() { Ok((config, settings)) } else { Err(ConfigError::Invalid(problems)) }
    }

    /// The defaults with a data directory and a folder that holds certificates, trust and policy under their usual names; ports are
    /// chosen by the system on the loopback address. For the demonstration and for tests.
    #[must_use]
    pub fn local(data_dir: &Path, files_dir: &Path) -> Self {
        let settings = Settings::defaults();
        let mut config = Self::read(&Reader::new(&settings, &mut Vec::new()));
        data_dir.clone_into(&mut config.node.data_dir);
        config.listen.address = SocketAddr::from(([127, 0, 0, 1], 0));
        config.listen.operations_address = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        config.identity.certificate_file = files_dir.join("node.crt");
        config.identity.private_key_file = files_dir.join("node.key");
        config.identity.trust_file = files_dir.join("trust.toml");
        config.identity.policy_file = files_dir.join("policy.toml");
        config.identity.audit_file = data_dir.join(AUDIT_FILE);
        config
    }

    fn read(reader: &Reader<'_>) -> Self {
        let data_dir = reader.path("node.data_dir");
        Self {
            identity: IdentityConfig {
                certificate_file: reader.path("identity.certificate_file"),
                private_key_file: reader.path("identity.private_key_file"),
                trust_file: reader.path("identity.trust_file"),
                policy_file: reader.path("identity.policy_file"),
                peers_file: reader.optional_path("identity.peers_file"),
                audit_file: reader.optional_path("identity.audit_file").unwrap_or_else(|| data_dir.join(AUDIT_FILE)),
                poll_interval: reader.duration("identity.poll_interval", Duration::from_secs(1)),
                handshake_timeout: reader.duration("identity.handshake_timeout", Duration::from_millis(100)),
                handshakes_max: reader.count("identity.handshakes_max") as usize,
                connections_max: reader.count("identity.connections_max") as usize,
                connections_per_address_max: reader.count("identity.connections_per_address_max") as usize,
            },
            node: NodeConfig { data_dir, stop_timeout: reader.duration("node.stop_timeout", Duration::from_secs(1)) },
            listen: ListenConfig {
                address: reader.address("listen.address"),
                operations_address: reader.optional_address("listen.operations_address"),
            },
            api: ApiConfig {
                streams_per_connection_max: reader.count("api.streams_per_connection_max"),
                unary_timeout: reader.duration("api.unary_timeout", Duration::from_millis(100)),
                publish_request_bytes_max: reader.size_bytes("api.publish_request_bytes_max", 64 << 10, 64 << 20),
                control_request_bytes_max: reader.size_bytes("api.control_request_bytes_max", 4 << 10, 4 << 20),
                reflection: reader.boolean("api.reflection"),
            },
            quotas: QuotasConfig {
                events_per_second_max: reader.number("quotas.events_per_second_max"),
                events_burst_max: reader.count("quotas.events_burst_max"),
                streams_max: reader.count("quotas.streams_max") as usize,
            },
            subscriptions: SubscriptionsConfig::read(reader),
            storage: StorageConfig::read(reader),
            code_lists: CodeListsConfig {
                un_locode: reader.code_list("code_lists.un_locode_file", "code_lists.un_locode_mode"),
                hs: reader.code_list("code_lists.hs_file", "code_lists.hs_mode"),
                unit: reader.code_list("code_lists.unit_file", "code_lists.unit_mode"),
            },
            telemetry: TelemetryConfig {
                log: reader.log_directives("telemetry.log"),
                log_format: reader.one_of(
                    "telemetry.log_format",
                    &[("auto", LogForm::Auto), ("pretty", LogForm::Pretty), ("json", LogForm::Json)],
                ),
            },
        }
    }
}

/// The audit log's name in the data directory, where no other is given.
const AUDIT_FILE: &str = "audit.log";

fn one_per_line(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}
