//! `tradelane demo`: a whole exchange on this machine: two nodes with real mutual TLS, a terminal, a carrier and customs agencies that speak
//! to them over gRPC. It never listens beyond the loopback address.

// The comments of arguments are their help, where a person would see the marks.
#![allow(clippy::doc_markdown)]

use std::{path::PathBuf, time::Duration};

use clap::Args;

use self::{commands::PrintedCommand, customs::Customs, gate::Gate, setup::Setup, stage::Stage};
use super::{
    ExitCode, Failure,
    connect::NodeAddress,
    terminal::{OutputFormat, Style, Terminal, note},
};
use crate::{
    clock::{Clock, SystemClock},
    config::{Config, Layers},
    node::{Node, RunningNode},
};

mod commands;
mod customs;
mod gate;
mod neighbour;
pub(super) mod scenario;
pub(super) mod setup;
mod stage;

/// `tradelane demo`
#[derive(Debug, Args)]
#[command(after_help = "\
Everything is made anew: certificates, configuration, grants, data. Without --dir it is removed at the end.

Examples:
  tradelane demo
  tradelane demo --dir /tmp/karachi
  tradelane demo --once --pace 0")]
pub struct DemoArguments {
    /// Where to keep the demonstration's files; must be empty or not there yet [default: a temporary directory]
    #[arg(long, value_name = "DIRECTORY")]
    pub dir: Option<PathBuf>,
    /// End after the voyage instead of staying up.
    #[arg(long)]
    pub once: bool,
    /// How long to pause after each event, in milliseconds.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 800)]
    pub pace: u64,
}

/// Runs `tradelane demo`.
///
/// # Errors
/// The node does not start, or a part of the demonstration does not do what it shows.
pub async fn run(arguments: &DemoArguments) -> Result<(), Failure> {
    // A short name, since every printed command has it several times; the last digits of a fresh id are random.
    let fresh = &SystemClock.fresh_uuid().simple().to_string()[24..];
    let temporary = || std::env::temp_dir().join(format!("tradelane-{fresh}"));
    let directory = arguments.dir.clone().unwrap_or_else(temporary);
    let played = play(arguments, &directory).await;
    if arguments.dir.is_none()
        && let Err(error) = std::fs::remove_dir_all(&directory)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        note(&format!("cannot remove {}: {error}", directory.display()));
    }
    played
}

async fn play(arguments: &DemoArguments, directory: &std::path::Path) -> Result<(), Failure> {
    let setup = Setup::create(directory, SystemClock.now_ns())?;
    let node = start(&setup.config_file).await?;
    let other = setup.neighbour.start(&setup, &node).await?;
    let address = NodeAddress::from(node.address);
    let failed = |failure| Err(Failure::new(ExitCode::Failure, format!("a node failed: {failure}")));
    let played = tokio::select! {
        played = show(arguments, &setup, &address) => played,
        failure = node.failed() => failed(failure),
        failure = other.failed() => failed(failure),
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    note("stopping the nodes");
    for node in [other, node] {
        let report = node.stop().await;
        if !report.unfinished.is_empty() {
            note(&format!("did not end in time: {}", report.unfinished.join(", ")));
        }
    }
    played
}

/// A node as `tradelane serve --config` would start it.
async fn start(config_file: &std::path::Path) -> Result<RunningNode, Failure> {
    let layers = Layers { file: Some(config_file.to_owned()), ..Layers::default() };
    let (config, _) = Config::load(&layers).map_err(|error| Failure::new(ExitCode::Configuration, error))?;
    Node::start(config)
        .await
        .map_err(|error| Failure::new(ExitCode::Configuration, format!("the node does not start: {error}")))
}

async fn show(arguments: &DemoArguments, setup: &Setup, address: &NodeAddress) -> Result<(), Failure> {
    setup.write_profiles(address)?;
    let mut terminal = Terminal::new(OutputFormat::Table);
    introduce(&mut terminal, setup, address)?;
    let stage = Stage::open(setup).await?;
    let mut customs = Customs::open(setup).await?;
    let mut gate = Gate::open(setup).await?;
    let steps = scenario::steps(SystemClock.now_ns());
    for (index, step) in steps.iter().enumerate() {
        if index == steps.len() / 2 {
            customs.go_away(&mut terminal)?;
        }
        stage.publish(&mut terminal, step).await?;
        customs.show_until(&mut terminal, &step.event.event_id).await?;
        gate.show_change(&mut terminal, step).await?;
        tokio::time::sleep(Duration::from_millis(arguments.pace)).await;
    }
    customs.sum_up(&mut terminal)?;
    // They leave: whoever consumes by the printed commands is the only one.
    drop(customs);
    let last = steps.last().map(|step| step.event.event_id.clone()).unwrap_or_default();
    neighbour::show(&mut setup.neighbour.stream().await?, &mut terminal, &last).await?;
    print_commands(&mut terminal, setup, address, &steps)?;
    if arguments.once {
        return Ok(());
    }
    let end = terminal.style(Style::Bold, "The nodes stay up. Ctrl-C ends them.").into_owned();
    terminal.line(&format!("\n{end}"))?;
    terminal.flush()?;
    std::future::pending().await
}

fn introduce(terminal: &mut Terminal, setup: &Setup, address: &NodeAddress) -> std::io::Result<()> {
    let title = terminal.style(Style::Bold, "A node of the exchange at Karachi").into_owned();
    terminal.line(&title)?;
    terminal
        .line(&format!("  listens at {address}, mutual TLS 1.3; its files are in {}", setup.directory.display()))?;
    terminal.line("  A terminal, a carrier and customs publish a voyage; below each event is what the customs agency's durable\n  \
                   subscription brings, and what the terminal's gate is told: which container may leave.\n")?;
    terminal.flush()
}

fn print_commands(
    terminal: &mut Terminal,
    setup: &Setup,
    address: &NodeAddress,
    steps: &[scenario::Step],
) -> Result<(), Failure> {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("tradelane"));
    let last = steps.last().expect("the scenario has steps");
    print_list(terminal, "Try it with this program", &commands::of_this_program(&program, setup))?;
    let container = format!("container:{}", scenario::HELD_CONTAINER);
    let both = setup.neighbour.commands(&program, setup, &last.event.event_id, &container);
    print_list(terminal, "The two nodes together", &both)?;
    print_list(terminal, "Or with grpcurl", &commands::of_grpcurl(setup, address, last))?;
    Ok(terminal.flush()?)
}

fn print_list(terminal: &mut Terminal, title: &str, commands: &[PrintedCommand]) -> std::io::Result<()> {
    let title = terminal.style(Style::Bold, title).into_owned();
    terminal.line(&format!("\n{title}"))?;
    for command in commands {
        let purpose = terminal.style(Style::Dim, &format!("# {}", command.purpose)).into_owned();
        terminal.line(&purpose)?;
        terminal.line(&command.line)?;
    }
    Ok(())
}
