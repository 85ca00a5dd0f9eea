//! `tradelane events`: what is stored, by id, filter, subject or port call. It only asks and shows.

// The comments of arguments are their help, where a person would see the marks.
#![allow(clippy::doc_markdown)]

use clap::{Args, Subcommand};
use tonic::transport::Channel;

use super::{
    Failure,
    connect::DECODE_BYTES_MAX,
    filter_flags::{FilterFlags, parse_subject},
    json,
    origins::Missing,
    settings::{ClientFlags, ClientSettings},
    table::{Cell, Table},
    terminal::{Style, Terminal, note},
    words,
};
use crate::wire::proto::{
    ExplainEventRequest, GetEventRequest, GetPortCallRequest, GetTimelineRequest, ListEventsRequest, ListOrder,
    Subject, event_service_client::EventServiceClient,
};

mod show;

/// A page of a long list: large enough that a full list takes few calls, small enough to come at once.
const PAGE_SIZE: u32 = 500;

/// `tradelane events`
#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// Show one event.
    #[command(
        after_help = "Examples:\n  tradelane events get 0198c5a2-7b1e-7c3d-9f00-5a1b2c3d4e5f\n  tradelane events get \
                            0198c5a2-7b1e-7c3d-9f00-5a1b2c3d4e5f \\\n    --publisher spiffe://customs.gov.pk/agency/karachi"
    )]
    Get(EventName),
    /// List stored events that match, newest first.
    #[command(
        after_help = "Examples:\n  tradelane events list --type hold --country PK\n  tradelane events list --subject \
                            MSKU9070323 --oldest-first --output jsonl\n  tradelane events list --hs 8703 --accepted-from \
                            2026-11-24T00:00:00Z --limit 1000"
    )]
    List(Box<ListArguments>),
    /// Show all that is known of one container, bill, declaration, ..., in order of time.
    #[command(
        after_help = "Examples:\n  tradelane events timeline container:MSKU9070323\n  tradelane events timeline \
                            declaration:KAPW-HC-000007@PK --depth 2\n  tradelane events timeline bill_of_lading:584000007@MAEU \
                            --exclude-associated --output json"
    )]
    Timeline(TimelineArguments),
    /// Show the planned, estimated, requested and actual times of one port call, side by side.
    #[command(
        after_help = "Examples:\n  tradelane events port-call vessel_imo:9321483 --locode PKKHI\n  tradelane events \
                            port-call port_call:KHI-2026-1187@PKKHI"
    )]
    PortCall(PortCallArguments),
    /// Explain what became of one event: where it is stored, which views and readers it reached, and why not the others.
    #[command(
        after_help = "Needs to be the event's publisher, or a grant to operate.\n\nExample:\n  tradelane events explain \
                            0198c5a2-7b1e-7c3d-9f00-5a1b2c3d4e5f"
    )]
    Explain(EventName),
}

/// Names one event.
#[derive(Debug, Args)]
pub struct EventName {
    /// The event's id.
    pub event_id: String,
    /// Its publisher's SPIFFE ID [default: our own]
    #[arg(long, value_name = "SPIFFE-ID", default_value = "", hide_default_value = true)]
    pub publisher: String,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// `tradelane events list`
#[derive(Debug, Args)]
pub struct ListArguments {
    /// How many events at the most.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Begin at the oldest.
    #[arg(long)]
    pub oldest_first: bool,
    /// Which events.
    #[command(flatten)]
    pub filter: FilterFlags,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// `tradelane events timeline`
#[derive(Debug, Args)]
pub struct TimelineArguments {
    /// What: its kind and value, with the issuer of numbers that are not global.
    #[arg(value_name = "KIND:VALUE[@ISSUER]")]
    pub subject: String,
    /// How many associations to follow.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=3))]
    pub depth: u32,
    /// Leave out events of associated subjects.
    #[arg(long, conflicts_with = "depth")]
    pub exclude_associated: bool,
    /// Show events that were corrected or retracted since, too.
    #[arg(long)]
    pub include_revised: bool,
    /// How many events at the most.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// `tradelane events port-call`
#[derive(Debug, Args)]
pub struct PortCallArguments {
    /// The call (port_call:..., terminal_call:... with its issuer), or a vessel or voyage together with --locode.
    #[arg(value_name = "KIND:VALUE[@ISSUER]")]
    pub subject: String,
    /// The port of a vessel's or voyage's call.
    #[arg(long, value_name = "LOCODE", default_value = "", hide_default_value = true)]
    pub locode: String,
    /// Only times at or after this.
    #[arg(long, value_name = "TIME")]
    pub event_from: Option<String>,
    /// Only times before this.
    #[arg(long, value_name = "TIME")]
    pub event_until: Option<String>,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// A node and where to show its answers.
struct Asking {
    settings: ClientSettings,
    client: EventServiceClient<Channel>,
    terminal: Terminal,
}

/// Runs `tradelane events`.
///
/// # Errors
/// The node refuses or cannot be reached; output cannot be written.
pub async fn run(command: &EventsCommand) -> Result<(), Failure> {
    match command {
        EventsCommand::Get(arguments) => get(arguments).await,
        EventsCommand::List(arguments) => list(arguments).await,
        EventsCommand::Timeline(arguments) => timeline(arguments).await,
        EventsCommand::PortCall(arguments) => port_call(arguments).await,
        EventsCommand::Explain(arguments) => explain(arguments).await,
    }
}

async fn ask(flags: &ClientFlags) -> Result<Asking, Failure> {
    let settings = flags.settings()?;
    let client = EventServiceClient::new(settings.channel().await?).max_decoding_message_size(DECODE_BYTES_MAX);
    let terminal = Terminal::new(settings.output);
    Ok(Asking { settings, client, terminal })
}

async fn get(arguments: &EventName) -> Result<(), Failure> {
    let Asking { settings, mut client, mut terminal } = ask(&arguments.client).await?;
    let request = GetEventRequest { event_id: arguments.event_id.clone(), publisher: arguments.publisher.clone() };
    let answer = client.get_event(settings.call(request)).await?.into_inner();
    if terminal.for_people() {
        show::event(&mut terminal, &answer)?;
    } else {
        terminal.json(&json::from_message("GetEventResponse", &answer))?;
    }
    Ok(terminal.flush()?)
}

async fn list(arguments: &ListArguments) -> Result<(), Failure> {
    let filters = arguments.filter.filters()?;
    let Asking { settings, mut client, mut terminal } = ask(&arguments.client).await?;
    let order = if arguments.oldest_first { ListOrder::OldestFirst } else { ListOrder::NewestFirst };
    let mut remaining = arguments.limit;
    let mut request = ListEventsRequest { filters, order: order.into(), ..ListEventsRequest::default() };
    // A page's token belongs to its request: the size stays the same for all pages.
    request.page_size = remaining.clamp(1, PAGE_SIZE);
    let mut table = show::event_table();
    let (mut told_narrowed, mut missing) = (false, Missing::default());
    while remaining > 0 {
        let answer = client.list_events(settings.call(request.clone())).await?.into_inner();
        for event in answer.events.iter().take(remaining as usize) {
            if terminal.for_people() {
                table.row(show::event_row(event));
            } else {
                terminal.json(&json::recorded_event(event))?;
            }
        }
        remaining = remaining.saturating_sub(answer.events.len() as u32);
        if answer.narrowed && !told_narrowed {
            told_narrowed = true;
            note("your grants hide some of what you ask for");
        }
        missing.tell(&answer.origins);
        if answer.next_page_token.is_empty() {
            break;
        }
        request.page_token = answer.next_page_token;
    }
    if terminal.for_people() {
        if table.is_empty() {
            note("no events match, among those that you may read");
        } else {
            table.print(&mut terminal)?;
        }
    }
    Ok(terminal.flush()?)
}

async fn timeline(arguments: &TimelineArguments) -> Result<(), Failure> {
    let subject = whole_subject(&arguments.subject)?;
    let Asking { settings, mut client, mut terminal } = ask(&arguments.client).await?;
    let mut request = GetTimelineRequest {
        subject: Some(subject),
        association_depth: arguments.depth,
        exclude_associated: arguments.exclude_associated,
        include_revised: arguments.include_revised,
        page_size: arguments.limit.clamp(1, PAGE_SIZE),
        page_token: String::new(),
    };
    let mut whole = client.get_timeline(settings.call(request.clone())).await?.into_inner();
    while !whole.next_page_token.is_empty() && (whole.entries.len() as u32) < arguments.limit {
        request.page_token = std::mem::take(&mut whole.next_page_token);
        let page = client.get_timeline(settings.call(request.clone())).await?.into_inner();
        whole.entries.extend(page.entries);
        whole.next_page_token = page.next_page_token;
    }
    Missing::default().tell(&whole.origins);
    let left_out = whole.entries.len() as u32 > arguments.limit || !whole.next_page_token.is_empty();
    whole.entries.truncate(arguments.limit as usize);
    if terminal.for_people() {
        show::timeline(&mut terminal, &whole)?;
    } else {
        terminal.json(&json::from_message("GetTimelineResponse", &whole))?;
    }
    if left_out {
        note(&format!("only the first {} events are shown; --limit shows more", arguments.limit));
    }
    Ok(terminal.flush()?)
}

async fn port_call(arguments: &PortCallArguments) -> Result<(), Failure> {
    let time = |flag: &str, text: &Option<String>| {
        let parsed = text.as_deref().map(words::parse_time).transpose();
        parsed.map_err(|error| Failure::usage(format!("{flag}: {error}")))
    };
    let request = GetPortCallRequest {
        subject: Some(whole_subject(&arguments.subject)?),
        un_locode: arguments.locode.to_ascii_uppercase(),
        start_time: time("--event-from", &arguments.event_from)?,
        end_time: time("--event-until", &arguments.event_until)?,
    };
    let Asking { settings, mut client, mut terminal } = ask(&arguments.client).await?;
    let answer = client.get_port_call(settings.call(request)).await?.into_inner();
    Missing::default().tell(&answer.origins);
    if terminal.for_people() {
        show::port_call(&mut terminal, &answer)?;
    } else {
        terminal.json(&json::from_message("GetPortCallResponse", &answer))?;
    }
    Ok(terminal.flush()?)
}

async fn explain(arguments: &EventName) -> Result<(), Failure> {
    let Asking { settings, mut client, mut terminal } = ask(&arguments.client).await?;
    let request = ExplainEventRequest { event_id: arguments.event_id.clone(), publisher: arguments.publisher.clone() };
    let answer = client.explain_event(settings.call(request)).await?.into_inner();
    if terminal.for_people() {
        show::explanation(&mut terminal, &answer)?;
    } else {
        terminal.json(&json::from_message("ExplainEventResponse", &answer))?;
    }
    Ok(terminal.flush()?)
}

/// A subject whose kind is given: a timeline is of one thing.
///
/// # Errors
/// It has none, or is written otherwise.
pub fn whole_subject(text: &str) -> Result<Subject, Failure> {
    let subject = parse_subject(text).map_err(|error| Failure::usage(format!("{text}: {error}")))?;
    if subject.kind == 0 {
        return Err(Failure::usage(format!("{text}: say what it is, such as container:{text}")));
    }
    Ok(subject)
}

/// The column of names takes as much as the longest of them, "dead letters max".
const FACT_NAME_WIDTH: usize = 16;

/// Writes a name and its value on one line, the names in a column; nothing where there is no value.
///
/// # Errors
/// Standard output is closed or full.
pub fn fact(terminal: &mut Terminal, name: &str, value: &str) -> std::io::Result<()> {
    if value.is_empty() {
        return Ok(());
    }
    let padding = " ".repeat(FACT_NAME_WIDTH.saturating_sub(name.chars().count()));
    let name = terminal.style(Style::Bold, name).into_owned();
    let value = super::terminal::printable(value).into_owned();
    // A name as long as its column still stands apart from its value.
    terminal.line(&format!("{name}{padding} {value}"))
}

/// Writes a table under its heading; nothing where it has no rows.
///
/// # Errors
/// Standard output is closed or full.
pub fn titled(terminal: &mut Terminal, title: &str, table: &Table) -> std::io::Result<()> {
    if table.is_empty() {
        return Ok(());
    }
    terminal.line("")?;
    let title = terminal.style(Style::Bold, title).into_owned();
    terminal.line(&title)?;
    table.print(terminal)
}

/// A cell in the style of names.
pub fn name_cell(text: impl AsRef<str>) -> Cell {
    Cell::styled(text, Style::Name)
}
