//! `tradelane serve`: settings, logs, the node, signals, and word to the service manager. It never does the node's work.

use std::{io, time::Duration};

use clap::Args;
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Interval,
};

use super::{ExitCode, Failure, config::SettingsArguments};
use crate::{
    config::Config,
    node::{Node, RunningNode, StartError, StopReport},
    telemetry,
};

/// Run a node.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tradelane serve --config /etc/tradelane/tradelane.toml\n  \
                        tradelane serve --set node.data_dir=/tmp/data --set listen.address=127.0.0.1:7443\n\n\
                        A node needs its certificate and key, a trust file (whom it believes) and a policy file (who may do what): \
                        `tradelane config example --help` has the commands for a first try. `tradelane config check` says whether \
                        settings and files are good.\n\n\
                        SIGHUP reads certificates, trust and policy anew. SIGINT and SIGTERM stop the node in order; a second one ends \
                        it at once, which loses nothing that was acknowledged.\n\n\
                        Exit codes: 0 stopped, 1 a part of the node failed, 74 storage, 78 configuration.")]
pub struct ServeArguments {
    /// Where the settings come from.
    #[command(flatten)]
    pub settings: SettingsArguments,
}

/// Runs a node until it is told to stop or cannot go on.
///
/// # Errors
/// With 78 where something that the operator set up is wrong, 74 where storage is, 1 where a part of the node failed.
pub async fn run(arguments: &ServeArguments) -> Result<(), Failure> {
    let (config, _) = arguments.settings.load()?;
    telemetry::start_logging(&config.telemetry.log, config.telemetry.log_format)
        .map_err(|error| Failure::new(ExitCode::Configuration, error))?;
    let mut signals = Signals::listen().map_err(|error| Failure::new(ExitCode::Failure, error))?;
    let node = tokio::select! {
        started = start(config) => started?,
        () = signals.stop() => return Ok(()),
    };
    tell(&[NotifyState::Ready]);
    let mut beat = watchdog_beat();
    let reason = loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => break None,
                Asked::Reload => tell_reload(),
            },
            failure = node.failed() => break Some(failure),
            () = next_beat(&mut beat) => tell(&[NotifyState::Watchdog]),
        }
    };
    tell(&[NotifyState::Stopping]);
    if let Some(failure) = &reason {
        tracing::error!(%failure, "the node cannot go on");
    }
    tokio::select! {
        report = node.stop() => ended(report),
        () = signals.stop() => Err(Failure::new(ExitCode::Failure, "ended at once by a second signal")),
    }
}

async fn start(config: Config) -> Result<RunningNode, Failure> {
    Node::start(config).await.map_err(|error| {
        let code = match &error {
            StartError::DataDir { .. }
            | StartError::Identity(_)
            | StartError::CodeList { .. }
            | StartError::Listen { .. } => ExitCode::Configuration,
            StartError::Log(error) if error.is_configuration() => ExitCode::Configuration,
            StartError::Log(_) | StartError::Peers(_) | StartError::Subscriptions(_) => ExitCode::Storage,
        };
        Failure::new(code, error)
    })
}

fn ended(report: StopReport) -> Result<(), Failure> {
    match (report.failure, report.unfinished.as_slice()) {
        (Some(failure), _) => Err(Failure::new(ExitCode::Failure, failure)),
        (None, []) => Ok(()),
        (None, unfinished) => {
            let message = format!("stopped, but these did not end in time: {}", unfinished.join(", "));
            Err(Failure::new(ExitCode::Failure, message))
        }
    }
}

/// The signals that a node listens to. What SIGHUP does is the identity room's; here it only tells the service manager.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// Waits for a signal that means stop.
    async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Stop,
    Reload,
}

/// Ticks when it is time to tell the service manager that we live: at half of the time that it allows. None, where it does not ask.
fn watchdog_beat() -> Option<Interval> {
    let limit = sd_notify::watchdog_enabled()?;
    Some(tokio::time::interval((limit / 2).max(Duration::from_millis(100))))
}

async fn next_beat(beat: &mut Option<Interval>) {
    match beat {
        Some(beat) => {
            beat.tick().await;
        }
        None => std::future::pending().await,
    }
}

fn tell_reload() {
    // Reading the files takes milliseconds, and what came of it stands in the log: the manager need not wait for it.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
    tell(&[NotifyState::Ready]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told how the node is");
    }
}
