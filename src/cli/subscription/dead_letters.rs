//! `tradelane subscription dead-letters`: what is delivered no more. It never replays or drops more than it was told to.

// The comments of arguments are their help, where a person would see the marks.
#![allow(clippy::doc_markdown)]

use clap::{Args, Subcommand};

use super::{Asking, OneOfOwner, ask, show};
use crate::{
    cli::{Failure, json, terminal::note},
    wire::proto::{DropDeadLettersRequest, ListDeadLettersRequest, ReplayDeadLettersRequest},
};

/// `tradelane subscription dead-letters`
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// List dead letters: why, since when, after how many attempts.
    #[command(
        after_help = "Examples:\n  tradelane subscription dead-letters list gate\n  tradelane subscription dead-letters list gate --output \
                      jsonl | jq -r .eventId"
    )]
    List(OneOfOwner),
    /// Deliver dead letters again. Each stays one until it is acknowledged.
    #[command(
        after_help = "Examples:\n  tradelane subscription dead-letters replay gate --all\n  tradelane subscription dead-letters replay gate \
                      0f3c...-42 0f3c...-43"
    )]
    Replay(Chosen),
    /// Forget dead letters.
    #[command(after_help = "Example:\n  tradelane subscription dead-letters drop gate 0f3c...-42")]
    Drop(Chosen),
}

/// Some dead letters of a subscription.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["positions", "all"]))]
pub struct Chosen {
    /// Which subscription.
    #[command(flatten)]
    pub of: OneOfOwner,
    /// These, by their positions, at most 1000.
    #[arg(value_name = "POSITION")]
    pub positions: Vec<String>,
    /// All that are there now.
    #[arg(long)]
    pub all: bool,
}

pub(super) async fn run(command: &DeadLettersCommand) -> Result<(), Failure> {
    match command {
        DeadLettersCommand::List(of) => list(of).await,
        DeadLettersCommand::Replay(chosen) => {
            let Asking { settings, mut client, mut terminal } = ask(&chosen.of.client).await?;
            let (name, owner) = (chosen.of.name.clone(), chosen.of.owner.clone());
            let request = ReplayDeadLettersRequest { name, positions: chosen.positions.clone(), owner };
            let answer = client.replay_dead_letters(settings.call(request)).await?.into_inner();
            let words = format!("{} dead letters of {} are delivered again", answer.count, chosen.of.name);
            terminal.done("ReplayDeadLettersResponse", &answer, &words)?;
            Ok(terminal.flush()?)
        }
        DeadLettersCommand::Drop(chosen) => {
            let Asking { settings, mut client, mut terminal } = ask(&chosen.of.client).await?;
            let (name, owner) = (chosen.of.name.clone(), chosen.of.owner.clone());
            let request = DropDeadLettersRequest { name, positions: chosen.positions.clone(), owner };
            let answer = client.drop_dead_letters(settings.call(request)).await?.into_inner();
            let words = format!("{} dead letters of {} are forgotten", answer.count, chosen.of.name);
            terminal.done("DropDeadLettersResponse", &answer, &words)?;
            Ok(terminal.flush()?)
        }
    }
}

async fn list(of: &OneOfOwner) -> Result<(), Failure> {
    let Asking { settings, mut client, mut terminal } = ask(&of.client).await?;
    let mut request = ListDeadLettersRequest {
        name: of.name.clone(),
        owner: of.owner.clone(),
        page_size: 1_000,
        page_token: String::new(),
    };
    let mut table = show::dead_letters();
    // A subscription keeps at most 10,000.
    loop {
        let answer = client.list_dead_letters(settings.call(request.clone())).await?.into_inner();
        for letter in &answer.dead_letters {
            if terminal.for_people() {
                table.row(show::dead_letter(letter));
            } else {
                terminal.json(&json::from_message("DeadLetter", letter))?;
            }
        }
        if answer.next_page_token.is_empty() {
            break;
        }
        request.page_token = answer.next_page_token;
    }
    if terminal.for_people() {
        if table.is_empty() {
            note(&format!("{} has no dead letters", of.name));
        } else {
            table.print(&mut terminal)?;
        }
    }
    Ok(terminal.flush()?)
}
