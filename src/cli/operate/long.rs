//! `tradelane log verify` and `tradelane views rebuild`: calls that take as long as the log is, with their progress. They never change
//! the log.

// The comments of arguments are their help, where a person would see the marks.
#![allow(clippy::doc_markdown)]

use std::io::IsTerminal;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Asking, ask};
use crate::{
    cli::{ExitCode, Failure, json, settings::ClientFlags, terminal::printable},
    wire::proto::{RebuildViewRequest, VerifyLogRequest},
};

/// `tradelane log`
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Read the whole log of the node and check every checksum, hash and sequence.
    #[command(
        after_help = "Exit code: 0 the log is whole, 74 it is not.\n\nExamples:\n  tradelane log verify\n  tradelane log \
                            verify --from-sequence 1000000"
    )]
    Verify(VerifyArguments),
}

/// `tradelane log verify`
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// Begin at this sequence instead of the first.
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0, hide_default_value = true)]
    pub from_sequence: u64,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// `tradelane views`
#[derive(Debug, Subcommand)]
pub enum ViewsCommand {
    /// Build a view anew from the log; the old one answers until the new one is done.
    #[command(after_help = "Examples:\n  tradelane views rebuild search\n  tradelane views rebuild associations")]
    Rebuild(RebuildArguments),
}

/// `tradelane views rebuild`
#[derive(Debug, Args)]
pub struct RebuildArguments {
    /// Which view: search or associations.
    pub view: String,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// Runs `tradelane log`.
///
/// # Errors
/// The log is damaged; or the node refuses, cannot be reached or ends early.
pub async fn run_log(command: &LogCommand) -> Result<(), Failure> {
    let LogCommand::Verify(arguments) = command;
    let Asking { mut client, mut terminal, .. } = ask(&arguments.client).await?;
    let request = VerifyLogRequest { from_sequence: arguments.from_sequence };
    let mut progress = client.verify_log(request).await?.into_inner();
    let bar = bar("verified");
    let mut problems = Vec::new();
    while let Some(step) = progress.message().await? {
        advance(&bar, step.verified_sequence, step.head_sequence);
        if !terminal.for_people() {
            terminal.json(&json::from_message("VerifyLogResponse", &step))?;
        }
        problems.extend(step.problems.iter().cloned());
        if !step.done {
            continue;
        }
        bar.finish_and_clear();
        if terminal.for_people() {
            for problem in &problems {
                terminal.line(&printable(problem))?;
            }
            if problems.is_empty() {
                let from = match arguments.from_sequence {
                    0 | 1 => String::new(),
                    from => format!(" from sequence {from}"),
                };
                terminal.line(&format!("the log is whole{from} up to sequence {}", step.verified_sequence))?;
            }
        }
        terminal.flush()?;
        return match problems.len() {
            0 => Ok(()),
            count => Err(Failure::new(ExitCode::Storage, format!("the log is damaged; problems found: {count}"))),
        };
    }
    Err(Failure::new(ExitCode::Unavailable, "the node ended the verification before it was done"))
}

/// Runs `tradelane views`.
///
/// # Errors
/// The node refuses, cannot be reached or ends early.
pub async fn run_views(command: &ViewsCommand) -> Result<(), Failure> {
    let ViewsCommand::Rebuild(arguments) = command;
    let Asking { mut client, mut terminal, .. } = ask(&arguments.client).await?;
    let mut progress = client.rebuild_view(RebuildViewRequest { view: arguments.view.clone() }).await?.into_inner();
    let bar = bar("applied");
    while let Some(step) = progress.message().await? {
        advance(&bar, step.applied_sequence, step.head_sequence);
        if !terminal.for_people() {
            terminal.json(&json::from_message("RebuildViewResponse", &step))?;
        }
        if step.done {
            bar.finish_and_clear();
            if terminal.for_people() {
                terminal.line(&format!("{} is rebuilt up to sequence {}", arguments.view, step.applied_sequence))?;
            }
            return Ok(terminal.flush()?);
        }
    }
    Err(Failure::new(
        ExitCode::Unavailable,
        "the node ended the rebuild before it was done; the old view still answers",
    ))
}

/// A bar over sequences on standard error, where a person looks on.
#[must_use]
pub fn bar(verb: &str) -> ProgressBar {
    let is_terminal = std::io::stderr().is_terminal();
    let target = if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let template = format!("{{bar:30}} {{percent:>3}}%  {verb} {{human_pos}} of {{human_len}}  {{elapsed_precise}}");
    let style = ProgressStyle::with_template(&template).expect("the template is well formed");
    ProgressBar::with_draw_target(Some(0), target).with_style(style)
}

/// Moves a bar.
pub fn advance(bar: &ProgressBar, sequence: u64, head_sequence: u64) {
    bar.set_length(head_sequence);
    bar.set_position(sequence);
}
