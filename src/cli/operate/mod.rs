//! The operator's commands: `tradelane node`, `peers`, `check-access`, `log verify`, `views rebuild`. They never do more than one administrative
//! call, which the node writes to its audit log.

// The comments of arguments are their help, where a person would see the marks.
#![allow(clippy::doc_markdown)]

use clap::{Args, Subcommand};
use tonic::transport::Channel;

use super::{
    ExitCode, Failure, json,
    settings::{ClientFlags, ClientSettings},
    terminal::{Terminal, note},
};
use crate::wire::{
    SignedEvent,
    proto::{
        CheckAccessRequest, GetNodeRequest, ListConnectionsRequest, ListDenialsRequest, ListGrantsRequest,
        ListParticipantsRequest, ListTrustRequest, ReloadRequest, check_access_request::Target,
        node_service_client::NodeServiceClient,
    },
};

mod long;
mod peers;
mod show;

pub use long::{LogCommand, ViewsCommand, advance, bar, run_log, run_views};
pub use peers::{PeersCommand, run_peers};

/// `tradelane node`
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Show the node: identity, version, log, disk, views.
    #[command(after_help = "Examples:\n  tradelane node show\n  tradelane node show --output json | jq .headSequence")]
    Show(Plain),
    /// List the live connections with their certificates and streams.
    #[command(after_help = "Example:\n  tradelane node connections")]
    Connections(Paged),
    /// List the participants seen since the node started.
    #[command(after_help = "Example:\n  tradelane node participants --output jsonl")]
    Participants(Paged),
    /// List the grants, the only source of access.
    #[command(after_help = "Examples:\n  tradelane node grants\n  tradelane node grants --participant \
                            spiffe://customs.gov.pk/agency/karachi")]
    Grants(About),
    /// List recent refusals, newest first: of connections, calls and events.
    #[command(after_help = "Examples:\n  tradelane node denials\n  tradelane node denials --limit 10 --output json")]
    Denials(About),
    /// List every certificate and revocation list that the node relies on, the soonest end first.
    #[command(after_help = "Example:\n  tradelane node trust")]
    Trust(Plain),
    /// Have the node read certificates, trust bundles, revocation lists and policy anew.
    #[command(after_help = "A bad file leaves everything as it was and is named.\n\nExample:\n  tradelane node reload")]
    Reload(Plain),
}

/// A command without arguments of its own.
#[derive(Debug, Args)]
pub struct Plain {
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// A list.
#[derive(Debug, Args)]
pub struct Paged {
    /// How many at the most.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// A list that may be about one participant.
#[derive(Debug, Args)]
pub struct About {
    /// Only what concerns this SPIFFE ID.
    #[arg(long, value_name = "SPIFFE-ID", default_value = "", hide_default_value = true)]
    pub participant: String,
    /// How many at the most.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// `tradelane check-access`
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 allowed, 77 not allowed.

Examples:
  tradelane check-access spiffe://customs.gov.pk/agency/karachi read
  tradelane check-access spiffe://customs.gov.pk/agency/karachi read --position 0f3c...-42
  tradelane check-access spiffe://port.karachi.pk/terminal/kict publish --event discharge.json")]
pub struct CheckAccessArguments {
    /// Whose access: a SPIFFE ID.
    pub participant: String,
    /// To do what: publish, read, share, forward, operate or audit.
    pub action: String,
    /// About this stored event.
    #[arg(long, value_name = "POSITION", conflicts_with = "event")]
    pub position: Option<String>,
    /// About this event, which need not be stored: a JSON file.
    #[arg(long, value_name = "FILE")]
    pub event: Option<std::path::PathBuf>,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// A node and where to show its answers.
struct Asking {
    settings: ClientSettings,
    client: NodeServiceClient<Channel>,
    terminal: Terminal,
}

async fn ask(flags: &ClientFlags) -> Result<Asking, Failure> {
    let settings = flags.settings()?;
    let client = NodeServiceClient::new(settings.channel().await?);
    let terminal = Terminal::new(settings.output);
    Ok(Asking { settings, client, terminal })
}

/// Runs `tradelane node`.
///
/// # Errors
/// The node refuses or cannot be reached; output cannot be written.
pub async fn run_node(command: &NodeCommand) -> Result<(), Failure> {
    let client = match command {
        NodeCommand::Show(plain) | NodeCommand::Trust(plain) | NodeCommand::Reload(plain) => &plain.client,
        NodeCommand::Connections(paged) | NodeCommand::Participants(paged) => &paged.client,
        NodeCommand::Grants(about) | NodeCommand::Denials(about) => &about.client,
    };
    let Asking { settings, mut client, mut terminal } = ask(client).await?;
    // Each answer as a table, or as the JSON of its message.
    macro_rules! answer {
        ($call:ident, $request:expr, $message:literal, $show:path) => {{
            let answer = client.$call(settings.call($request)).await?.into_inner();
            if terminal.for_people() {
                $show(&mut terminal, &answer)?;
            } else {
                terminal.json(&json::from_message($message, &answer))?;
            }
        }};
    }
    match command {
        NodeCommand::Show(_) => answer!(get_node, GetNodeRequest {}, "GetNodeResponse", show::node),
        NodeCommand::Trust(_) => answer!(list_trust, ListTrustRequest {}, "ListTrustResponse", show::trust),
        NodeCommand::Reload(_) => answer!(reload, ReloadRequest {}, "ReloadResponse", show::reload),
        NodeCommand::Connections(paged) => {
            let request = ListConnectionsRequest { page_size: paged.limit, ..ListConnectionsRequest::default() };
            answer!(list_connections, request, "ListConnectionsResponse", show::connections);
        }
        NodeCommand::Participants(paged) => {
            let request = ListParticipantsRequest { page_size: paged.limit, ..ListParticipantsRequest::default() };
            answer!(list_participants, request, "ListParticipantsResponse", show::participants);
        }
        NodeCommand::Grants(about) => {
            let participant = about.participant.clone();
            let request = ListGrantsRequest { participant, page_size: about.limit, page_token: String::new() };
            answer!(list_grants, request, "ListGrantsResponse", show::grants);
        }
        NodeCommand::Denials(about) => {
            let participant = about.participant.clone();
            let request = ListDenialsRequest { participant, page_size: about.limit, page_token: String::new() };
            answer!(list_denials, request, "ListDenialsResponse", show::denials);
        }
    }
    Ok(terminal.flush()?)
}

/// Runs `tradelane check-access`.
///
/// # Errors
/// It is not allowed; or the node refuses or cannot be reached.
pub async fn run_check_access(arguments: &CheckAccessArguments) -> Result<(), Failure> {
    let target = match (&arguments.position, &arguments.event) {
        (Some(position), _) => Some(Target::Position(position.clone())),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
            let event = json::read("Event", &text).map_err(|error| {
                Failure::data(format!("{}: line {}, column {}: {error}", path.display(), error.line, error.column))
            })?;
            Some(Target::Event(SignedEvent { event: json::event_bytes(&event), ..SignedEvent::default() }))
        }
        (None, None) => None,
    };
    let request =
        CheckAccessRequest { participant: arguments.participant.clone(), action: arguments.action.clone(), target };
    let Asking { settings, mut client, mut terminal } = ask(&arguments.client).await?;
    let answer = client.check_access(settings.call(request)).await?.into_inner();
    if terminal.for_people() {
        show::access(&mut terminal, &answer)?;
    } else {
        terminal.json(&json::from_message("CheckAccessResponse", &answer))?;
    }
    terminal.flush()?;
    // The verdict has been shown; scripts read it from the exit code.
    if answer.allowed { Ok(()) } else { Err(Failure::new(ExitCode::NotPermitted, "")) }
}

/// Says on standard error that a list goes on.
fn more(next_page_token: &str) {
    if !next_page_token.is_empty() {
        note("there are more; --limit shows up to 1000");
    }
}
