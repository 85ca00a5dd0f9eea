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
    Facility, FacilityScheme, GetClearanceRequest, ListClearancesRequest, Place, TimeRange,
    clearance_service_client::ClearanceServiceClient,
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
                      --office PKKHI\n  tradelane clearance list --office GB000060 --office national:KAPE\n  tradelane clearance list --state \
                      released --since 2026-11-24T00:00:00Z --output jsonl"
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
    /// Only where this office said so: its UN/LOCODE (PKKHI), its reference number among the customs offices of the EU and of common
    /// transit (GB000060), its code in another list (national:KAPE), or all of a country (PK). Several: any of them.
    #[arg(long, value_name = "CODE | LIST:CODE")]
    pub office: Vec<String>,
    /// Only what came into its state at or after this time.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only what came into its state before this time.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// How many at the most.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
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
    let mut remaining = arguments.limit;
    let mut request = ListClearancesRequest {
        states: arguments.state.iter().map(state).collect::<Result<_, _>>()?,
        held: arguments.held,
        offices: arguments.office.iter().map(|text| office(text)).collect::<Result<_, _>>()?,
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

/// An office as people write it: codes without a list are told apart by their length.
fn office(text: &str) -> Result<Place, Failure> {
    let in_list = |scheme: i32, code: &str| Place {
        facility: Some(Facility { scheme, code: code.to_ascii_uppercase() }),
        ..Place::default()
    };
    if let Some((list, code)) = text.split_once(':') {
        let scheme = words::number("FacilityScheme", list)
            .map_err(|error| Failure::usage(format!("--office {text}: the list {error}")))?;
        return Ok(in_list(scheme, code));
    }
    let code = text.to_ascii_uppercase();
    match text.len() {
        2 => Ok(Place { country_code: code, ..Place::default() }),
        5 => Ok(Place { un_locode: code, ..Place::default() }),
        8 => Ok(in_list(FacilityScheme::CustomsOffice.into(), &code)),
        _ => Err(Failure::usage(format!(
            "--office {text}: neither a country (2 letters), a UN/LOCODE (5), nor a customs office's reference number (8); write any other \
             code with its list, such as national:{code}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_office_is_named_by_country_locode_reference_number_or_a_list() {
        let facility = |scheme: FacilityScheme, code: &str| Place {
            facility: Some(Facility { scheme: scheme.into(), code: code.into() }),
            ..Place::default()
        };
        for (text, expected) in [
            ("pk", Place { country_code: "PK".into(), ..Place::default() }),
            ("pkkhi", Place { un_locode: "PKKHI".into(), ..Place::default() }),
            ("gb000060", facility(FacilityScheme::CustomsOffice, "GB000060")),
            ("customs-office:GB000060", facility(FacilityScheme::CustomsOffice, "GB000060")),
            ("national:kape", facility(FacilityScheme::National, "KAPE")),
        ] {
            assert_eq!(office(text).map_err(|failure| failure.message), Ok(expected), "{text}");
        }
        for (text, words) in [("KAPE", "national:KAPE"), ("desk:KAPE", "the list \"desk\" is none of")] {
            let failure = office(text).expect_err("refused");
            assert!(failure.message.contains(words), "{failure}");
        }
    }
}
