//! `tradelane peers`: the links to other nodes as their operator sees and steers them. It never shows what an event says.

// The comments of arguments are their help, where a person would see the marks.
#![allow(clippy::doc_markdown)]

use std::io;

use clap::{Args, Subcommand, ValueEnum};

use super::{Asking, Plain, ask};
use crate::{
    cli::{
        ExitCode, Failure,
        events::{fact, name_cell, titled},
        json,
        settings::ClientFlags,
        table::{Cell, Table},
        terminal::{Style, Terminal, note},
        words::{self, short_id, word},
    },
    wire::proto::{
        EventQuarantined, ListPeersRequest, ListQuarantineRequest, ListQuarantineResponse, PausePeerRequest, PeerLink,
        PeerLinkState, PeerState, ResumePeerFrom, ResumePeerRequest,
    },
};

/// `tradelane peers`
#[derive(Debug, Subcommand)]
pub enum PeersCommand {
    /// List the peers with the state of both directions of each link.
    #[command(after_help = "Examples:\n  tradelane peers list\n  tradelane peers list --output json")]
    List(Plain),
    /// Show everything about one peer.
    #[command(after_help = "Example:\n  tradelane peers show spiffe://exchange.cl/node/vlp-1")]
    Show(OnePeer),
    /// Stop both directions of a link until it is resumed; nothing is lost.
    #[command(after_help = "Example:\n  tradelane peers pause spiffe://exchange.cl/node/vlp-1")]
    Pause(OnePeer),
    /// Let a link go on that was paused, or that stands still since it diverged, lapsed or was refused.
    #[command(
        after_help = "Examples:\n  tradelane peers resume spiffe://exchange.cl/node/vlp-1\n  tradelane peers resume \
                            spiffe://exchange.cl/node/vlp-1 --from beginning"
    )]
    Resume(ResumeArguments),
    /// List the events that one side of a link did not take.
    #[command(
        after_help = "To try them again: tradelane peers resume NODE --from quarantine\n\nExample:\n  tradelane \
                            peers quarantine spiffe://exchange.cl/node/vlp-1"
    )]
    Quarantine(OnePeer),
}

/// A command about one peer.
#[derive(Debug, Args)]
pub struct OnePeer {
    /// The peer's SPIFFE ID.
    #[arg(value_name = "NODE")]
    pub node: String,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// `tradelane peers resume`
#[derive(Debug, Args)]
pub struct ResumeArguments {
    /// The peer's SPIFFE ID.
    #[arg(value_name = "NODE")]
    pub node: String,
    /// From where the link goes on.
    #[arg(long, value_enum, default_value_t = From::Position)]
    pub from: From,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// From where a link goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// Where it stands.
    Position,
    /// The beginning of the peer's log, as far back as the agreement there reaches; what is here already is absorbed.
    Beginning,
    /// Before the oldest event in quarantine, which is tried again.
    Quarantine,
}

/// Runs `tradelane peers`.
///
/// # Errors
/// The node refuses or cannot be reached; output cannot be written.
pub async fn run_peers(command: &PeersCommand) -> Result<(), Failure> {
    let client = match command {
        PeersCommand::List(plain) => &plain.client,
        PeersCommand::Show(one) | PeersCommand::Pause(one) | PeersCommand::Quarantine(one) => &one.client,
        PeersCommand::Resume(resume) => &resume.client,
    };
    let Asking { settings, mut client, mut terminal } = ask(client).await?;
    match command {
        PeersCommand::List(_) => {
            let answer = client.list_peers(settings.call(ListPeersRequest {})).await?.into_inner();
            if terminal.for_people() {
                list(&mut terminal, &answer.peers)?;
            } else {
                terminal.json(&json::from_message("ListPeersResponse", &answer))?;
            }
        }
        PeersCommand::Show(one) => {
            let answer = client.list_peers(settings.call(ListPeersRequest {})).await?.into_inner();
            let peer = answer.peers.iter().find(|peer| peer.node == one.node).ok_or_else(|| {
                Failure::new(ExitCode::Failure, format!("{} is not in the node's peers file", one.node))
            })?;
            if terminal.for_people() {
                show(&mut terminal, peer)?;
            } else {
                terminal.json(&json::from_message("PeerState", peer))?;
            }
        }
        PeersCommand::Pause(one) => {
            let request = PausePeerRequest { node: one.node.clone() };
            let answer = client.pause_peer(settings.call(request)).await?.into_inner();
            let words = format!("the link to {} is paused, over restarts too", one.node);
            terminal.done("PausePeerResponse", &answer, &words)?;
        }
        PeersCommand::Resume(resume) => {
            let from = match resume.from {
                From::Position => ResumePeerFrom::Position,
                From::Beginning => ResumePeerFrom::Beginning,
                From::Quarantine => ResumePeerFrom::Quarantine,
            };
            let request = ResumePeerRequest { node: resume.node.clone(), from: from.into() };
            let answer = client.resume_peer(settings.call(request)).await?.into_inner();
            terminal.done("ResumePeerResponse", &answer, &format!("the link to {} goes on", resume.node))?;
        }
        PeersCommand::Quarantine(one) => {
            let request = ListQuarantineRequest { node: one.node.clone() };
            let answer = client.list_quarantine(settings.call(request)).await?.into_inner();
            if terminal.for_people() {
                quarantine(&mut terminal, &answer)?;
            } else {
                terminal.json(&json::from_message("ListQuarantineResponse", &answer))?;
            }
        }
    }
    Ok(terminal.flush()?)
}

fn list(terminal: &mut Terminal, peers: &[PeerState]) -> io::Result<()> {
    if peers.is_empty() {
        note("the node has no peers");
        return Ok(());
    }
    let mut table = Table::new(&["PEER", "FROM IT", "BEHIND>", "TO IT", "BEHIND>", "QUARANTINE>", "LAST ERROR"]);
    for peer in peers {
        let (inbound, outbound) = (peer.inbound.clone().unwrap_or_default(), peer.outbound.clone().unwrap_or_default());
        let quarantined = if peer.quarantined_count == 0 { Style::Plain } else { Style::Warning };
        let last_error = if inbound.last_error.is_empty() { &outbound.last_error } else { &inbound.last_error };
        table.row(vec![
            name_cell(short_id(&peer.node)),
            state(&inbound),
            inbound.lag_events.to_string().into(),
            state(&outbound),
            outbound.lag_events.to_string().into(),
            Cell::styled(peer.quarantined_count.to_string(), quarantined),
            last_error.into(),
        ]);
    }
    table.print(terminal)
}

fn show(terminal: &mut Terminal, peer: &PeerState) -> io::Result<()> {
    fact(terminal, "peer", &peer.node)?;
    fact(terminal, "address", if peer.address.is_empty() { "(none: it only takes from here)" } else { &peer.address })?;
    fact(terminal, "at home there", &peer.homes.join(", "))?;
    if !peer.behind.is_empty() {
        fact(terminal, "behind it", &peer.behind.join(", "))?;
    }
    fact(terminal, "transit", if peer.transit { "yes" } else { "no" })?;
    fact(terminal, "paused", if peer.paused { "yes" } else { "no" })?;
    fact(terminal, "quarantine", &format!("{} here, {} there", peer.quarantined_count, peer.refused_there_count))?;
    for (title, link) in [("From it", &peer.inbound), ("To it", &peer.outbound)] {
        let link = link.clone().unwrap_or_default();
        terminal.line("")?;
        let title = terminal.style(Style::Bold, title).into_owned();
        terminal.line(&title)?;
        fact(terminal, "state", &word("PeerLinkState", link.state))?;
        fact(terminal, "since", &words::time(link.since_time.as_ref()))?;
        for (name, text) in [("why", &link.detail), ("notice", &link.notice), ("last error", &link.last_error)] {
            if !text.is_empty() {
                fact(terminal, name, text)?;
            }
        }
        fact(terminal, "last contact", &words::time(link.last_contact_time.as_ref()))?;
        fact(terminal, "position", if link.position.is_empty() { "(nothing yet)" } else { &link.position })?;
        let seconds = link.lag.as_ref().map_or(0, |lag| lag.seconds);
        fact(terminal, "behind", &format!("{} sequences, for {seconds} s", link.lag_events))?;
        let (events, bytes) = (link.event_count, words::size(link.byte_count));
        fact(terminal, "events", &format!("{events} ({} known before), {bytes}", link.duplicate_count))?;
    }
    Ok(())
}

fn quarantine(terminal: &mut Terminal, answer: &ListQuarantineResponse) -> io::Result<()> {
    if answer.quarantined.is_empty() && answer.refused_there.is_empty() {
        note("every event was taken, here and there");
        return Ok(());
    }
    titled(terminal, "Of the peer, not taken here", &events(&answer.quarantined))?;
    titled(terminal, "Of this node, not taken there", &events(&answer.refused_there))
}

fn events(events: &[EventQuarantined]) -> Table {
    let mut table = Table::new(&["TIME", "SEQUENCE>", "PUBLISHER", "EVENT", "REASON", "DETAIL"]);
    for event in events {
        table.row(vec![
            Cell::styled(words::time(event.time.as_ref()), Style::Dim),
            event.source_sequence.to_string().into(),
            name_cell(short_id(&event.publisher)),
            (&event.event_id).into(),
            Cell::styled(&event.reason, Style::Warning),
            (&event.detail).into(),
        ]);
    }
    table
}

fn state(link: &PeerLink) -> Cell {
    let style = match link.state() {
        PeerLinkState::CaughtUp | PeerLinkState::Streaming => Style::Good,
        PeerLinkState::Unspecified | PeerLinkState::Idle | PeerLinkState::Connecting => Style::Plain,
        PeerLinkState::Paused | PeerLinkState::Backoff => Style::Warning,
        PeerLinkState::Diverged | PeerLinkState::Cloned | PeerLinkState::Lapsed | PeerLinkState::Refused => Style::Bad,
    };
    Cell::styled(word("PeerLinkState", link.state), style)
}
