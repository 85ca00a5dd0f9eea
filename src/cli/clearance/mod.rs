//! `tradelane clearance`: may it go on, and why not. It only asks and shows.

// The comments of arguments are their help, where a person would see the marks.
#![allow(clippy::doc_markdown)]

use clap::{Args, Subcommand};
use tonic::transport::Channel;

use super::{
    Failure,
    connect::DECODE_BYTES_MAX,
    events::whole_subject,
    json,
    settings::{ClientFlags, ClientSettings},
    terminal::{Terminal, note},
    words,
};
use crate::wire::proto::{
    GetClearanceRequest, ListClearancesRequest, Place, TimeRange, clearance_service_client::ClearanceServiceClient,
};

pub mod show;
mod watch;

pub use watch::WatchArguments;

/// `tradelane clearance`
#[derive(Debug, Subcommand)]
pub enum ClearanceCommand {
    /// Show whether one declaration, bill, waybill, container or consignment may go on, and why not.
    #[command(after_help = "Examples:\n  tradelane clearance get container:MSKU9070323\n  tradelane clearance get \
                      declaration:KAPW-HC-104512@PK\n  tradelane clearance get bill_of_lading:58412907@OCEU --output json")]
    Get(GetArguments),
    /// List declarations, and goods that are cleared or held by their own number, latest first.
    #[command(
        after_help = "Examples:\n  tradelane clearance list --held\n  tradelane clearance list --state lodged --state accepted \
                      --office PKKHI\n  tradelane clearance list --state released --since 2026-11-24T00:00:00Z --output jsonl"
    )]
    List(ListArguments),
    /// Follow changes of clearances as they come.
    Watch(WatchArguments),
}

/// `tradelane clearance get`
#[derive(Debug, Args)]
pub struct GetArguments {
    /// What: its kind and value, with the issuer of numbers that are not global.
    #[arg(value_name = "KIND:VALUE[@ISSUER]")]
    pub subject: String,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// `tradelane clearance list`
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only in this state: lodged, accepted, released, ... Several: any of them.
    #[arg(long, value_name = "STATE")]
    pub state: Vec<String>,
    /// Only with an open hold.
    #[arg(long)]
    pub held: bool,
    /// Only where this office said so, by its UN/LOCODE. Several: any of them.
    #[arg(long, value_name = "LOCODE")]
    pub office: Vec<String>,
    /// Only what came into its state at or after this time.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only what came into its state before this time.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// How many at the most.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 50)]
    pub limit: u32,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// Runs `tradelane clearance`.
///
/// # Errors
/// The node refuses or cannot be reached; output cannot be written.
pub async fn run(command: &ClearanceCommand) -> Result<(), Failure> {
    match command {
        ClearanceCommand::Get(arguments) => get(arguments).await,
        ClearanceCommand::List(arguments) => list(arguments).await,
        ClearanceCommand::Watch(arguments) => watch::run(arguments).await,
    }
}

async fn ask(settings: &ClientSettings) -> Result<ClearanceServiceClient<Channel>, Failure> {
    Ok(ClearanceServiceClient::new(settings.channel().await?).max_decoding_message_size(DECODE_BYTES_MAX))
}

async fn get(arguments: &GetArguments) -> Result<(), Failure> {
    let subject = whole_subject(&arguments.subject)?;
    let settings = arguments.client.settings()?;
    let mut client = ask(&settings).await?;
    let mut terminal = Terminal::new(settings.output);
    let request = GetClearanceRequest { subject: Some(subject) };
    let answer = client.get_clearance(settings.call(request)).await?.into_inner();
    if terminal.for_people() {
        show::clearance(&mut terminal, &answer)?;
    } else {
        terminal.json(&json::from_message("GetClearanceResponse", &answer))?;
    }
    Ok(terminal.flush()?)
}

async fn list(arguments: &ListArguments) -> Result<(), Failure> {
    let time = |flag: &str, text: &Option<String>| {
        let parsed = text.as_deref().map(words::parse_time).transpose();
        parsed.map_err(|error| Failure::usage(format!("{flag}: {error}")))
    };
    let state_time =
        TimeRange { start_time: time("--since", &arguments.since)?, end_time: time("--until", &arguments.until)? };
    let state = |word: &String| {
        words::number("ClearanceStep", word).map_err(|error| Failure::usage(format!("--state: {error}")))
    };
    let office = |locode: &String| Place { un_locode: locode.to_ascii_uppercase(), ..Place::default() };
    let mut remaining = arguments.limit;
    let mut request = ListClearancesRequest {
        states: arguments.state.iter().map(state).collect::<Result<_, _>>()?,
        held: arguments.held,
        offices: arguments.office.iter().map(office).collect(),
        state_time: Some(state_time).filter(|range| *range != TimeRange::default()),
        // A page's token belongs to its request: the size stays the same for all pages.
        page_size: remaining.clamp(1, 200),
        page_token: String::new(),
    };
    let settings = arguments.client.settings()?;
    let mut client = ask(&settings).await?;
    let mut terminal = Terminal::new(settings.output);
    let mut table = show::table();
    while remaining > 0 {
        let answer = client.list_clearances(settings.call(request.clone())).await?.into_inner();
        for clearance in answer.clearances.iter().take(remaining as usize) {
            if terminal.for_people() {
                table.row(show::row(clearance));
            } else {
                terminal.json(&json::from_message("ClearanceStatus", clearance))?;
            }
        }
        remaining = remaining.saturating_sub(answer.clearances.len() as u32);
        if answer.next_page_token.is_empty() {
            break;
        }
        request.page_token = answer.next_page_token;
    }
    if terminal.for_people() {
        if table.is_empty() {
            note("no clearances match, among those that you may read");
        } else {
            table.print(&mut terminal)?;
        }
    }
    Ok(terminal.flush()?)
}
