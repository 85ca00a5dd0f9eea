//! The commands of the program: the node, its operators' and participants' client commands, development PKI, demo. It never opens a
//! node's data but by the rooms that own it.

use std::{future::Future, io};

use clap::{Parser, Subcommand};

pub mod answer;
pub mod backoff;
pub mod backup;
pub mod bench;
pub mod clearance;
pub mod config;
pub mod connect;
pub mod demo;
pub mod doctor;
pub mod events;
pub mod exit;
pub mod failure;
#[cfg(test)]
mod fake_node;
pub mod filter_flags;
pub mod json;
pub mod operate;
pub mod origins;
pub mod pki;
pub mod promote;
pub mod publish;
pub mod restore;
pub mod retrying;
pub mod serve;
pub mod settings;
pub mod shell;
pub mod subscribe;
pub mod subscription;
pub mod table;
pub mod terminal;
pub mod words;

pub use exit::{ExitCode, Failure};

/// Help is broken into lines of at most so many columns.
const HELP_COLUMNS: usize = 100;

/// A shared logistics-information exchange: ports, carriers and customs agencies publish, subscribe to and query shipment and clearance
/// events over mutual TLS.
#[derive(Debug, Parser)]
#[command(name = "tradelane", version = crate::telemetry::version(), max_term_width = HELP_COLUMNS, subcommand_required = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands. Each has its own module, with its arguments and a function that runs it.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node.
    Serve(serve::ServeArguments),
    /// Publish events from a file or standard input.
    Publish(publish::PublishArguments),
    /// Follow events as they come.
    Subscribe(Box<subscribe::SubscribeArguments>),
    /// Durable subscriptions: named readers whose place the node keeps; create, consume, seek, look after what failed.
    #[command(subcommand)]
    Subscription(Box<subscription::SubscriptionCommand>),
    /// Query what is stored: one event, lists, timelines, port calls.
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// May it go on? Clearances of declarations, bills, waybills, containers and consignments.
    #[command(subcommand)]
    Clearance(clearance::ClearanceCommand),
    /// Look at a node and operate it.
    #[command(subcommand)]
    Node(operate::NodeCommand),
    /// Look at the links to other nodes and steer them.
    #[command(subcommand)]
    Peers(operate::PeersCommand),
    /// Ask whether an identity would be allowed an action, and which grant decides.
    CheckAccess(operate::CheckAccessArguments),
    /// Check the node's log.
    #[command(subcommand)]
    Log(operate::LogCommand),
    /// Rebuild what is derived from the log.
    #[command(subcommand)]
    Views(operate::ViewsCommand),
    /// Make certificates for development and tests.
    #[command(subcommand)]
    Pki(pki::PkiCommand),
    /// Copy a running node's log into a file.
    Backup(backup::BackupArguments),
    /// Make a data directory from a backup.
    Restore(restore::RestoreArguments),
    /// Make a standby the home of a lost node's publishers.
    Promote(promote::PromoteArguments),
    /// Run a whole exchange on this machine: two nodes, a terminal, customs, and a voyage.
    Demo(demo::DemoArguments),
    /// Measure a node on this machine, beside the limits of the same machine.
    Bench(bench::BenchArguments),
    /// Print a script that completes commands in a shell.
    Completions(shell::CompletionsArguments),
    /// Print the manual, or write its pages.
    Man(shell::ManArguments),
    /// Say why a connection to a node fails, step by step, and what to do.
    Doctor(doctor::DoctorArguments),
    /// Check or show a node's settings.
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// With the exit code and the words for the user.
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Serve(arguments) => block_on(serve::run(&arguments)),
            Command::Publish(arguments) => block_on(publish::run(&arguments)),
            Command::Subscribe(arguments) => block_on(subscribe::run(&arguments)),
            Command::Subscription(command) => block_on(subscription::run(&command)),
            Command::Events(command) => block_on(events::run(&command)),
            Command::Clearance(command) => block_on(clearance::run(&command)),
            Command::Node(command) => block_on(operate::run_node(&command)),
            Command::Peers(command) => block_on(operate::run_peers(&command)),
            Command::CheckAccess(arguments) => block_on(operate::run_check_access(&arguments)),
            Command::Log(command) => block_on(operate::run_log(&command)),
            Command::Views(command) => block_on(operate::run_views(&command)),
            Command::Pki(command) => pki::run(&command, &mut io::stdout().lock()),
            Command::Backup(arguments) => block_on(backup::run(&arguments)),
            Command::Restore(arguments) => restore::run(&arguments, &mut io::stdout().lock()),
            Command::Promote(arguments) => block_on(promote::run(&arguments)),
            Command::Demo(arguments) => block_on(demo::run(&arguments)),
            Command::Bench(arguments) => block_on(bench::run(&arguments)),
            Command::Completions(arguments) => shell::run_completions(&arguments, &mut io::stdout().lock()),
            Command::Man(arguments) => shell::run_man(&arguments, &mut io::stdout().lock()),
            Command::Doctor(arguments) => block_on(doctor::run(&arguments)),
            Command::Config(command) => config::run(&command, &mut io::stdout().lock()),
        }
    }
}

/// Runs a command that waits for things: on all cores, with worker threads that a person finds in `top`.
///
/// # Errors
/// The command's own, or the threads cannot be started.
pub fn block_on(future: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tradelane")
        .build()
        .map_err(|error| Failure::new(ExitCode::Failure, format_args!("cannot start threads: {error}")))?;
    let ended = runtime.block_on(future);
    if let Err(Failure { code: ExitCode::Interrupted | ExitCode::Terminated, .. }) = &ended {
        // Whoever asked to end at once does not wait for a thread that writes where nobody reads.
        runtime.shutdown_background();
    }
    ended
}
