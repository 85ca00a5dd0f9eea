//! `tradelane publish`: events from JSON, over one pipelined stream. It never publishes what it could not read, and says of every line
//! what became of it.

// The comments of arguments are their help, where a person would see the marks.
#![allow(clippy::doc_markdown)]

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use tokio::sync::mpsc;

use self::{
    input::{InputFormat, Pieces},
    prepare::{Preparation, Prepared},
    report::{Fault, Report},
    session::{Pace, Session},
};
use super::{
    ExitCode, Failure,
    json::JsonMalformed,
    settings::ClientFlags,
    terminal::{Terminal, note},
};
use crate::{
    clock::{Clock, SystemClock},
    domain::{SpiffeId, code_lists::CodeLists},
    wire::{
        SignedEvent,
        door::{ValidationContext, parse_event},
        violations::Violation,
    },
};

mod input;
mod prepare;
mod report;
mod session;
#[cfg(test)]
mod tests;

/// Items read ahead of the stream: a few requests' worth, so that the stream never waits for the reader.
const READ_AHEAD_ITEMS: usize = 1024;

/// `tradelane publish`
#[derive(Debug, Args)]
#[command(after_help = "\
Each event is a JSON object, message Event in protobuf's JSON mapping: field names in camelCase, codes by their names, times in RFC 3339. \
Left out, `publisher` is taken from our certificate, `createdTime` from the clock, and `eventId` is made: a fresh UUID, or with \
--derive-ids one that stands for what the event says.

Publishing is idempotent by eventId: running a file again stores nothing twice, and an interrupted run is resumed by running it again. \
Events without an eventId need --derive-ids for that.

Exit code: 0 all stored (now or before), 65 some refused, 69 the node is away, 77 not permitted.

Examples:
  tradelane publish discharge.ndjson
  tradelane publish --derive-ids export.json
  terminal-system --follow | tradelane publish --derive-ids -
  tradelane publish events.ndjson --output jsonl > results.jsonl
  tradelane publish --dry-run events.ndjson")]
pub struct PublishArguments {
    /// The file to read; - or none for standard input.
    pub file: Option<PathBuf>,
    /// How the input is laid out: NDJSON (one event a line), or JSON (an array, or events one after the other).
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    pub input_format: InputFormat,
    /// Give each event without an id one that is derived from what it says, so that the same event gets the same id again.
    #[arg(long)]
    pub derive_ids: bool,
    /// Read and check the events here, and publish nothing. The node checks more: grants, revisions, ids that are in use. With --output
    /// json or jsonl, each event is told of: "keepsRules", or the error as the node would word it.
    #[arg(long)]
    pub dry_run: bool,
    /// Events in one request at the most.
    #[arg(long, value_name = "COUNT", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub batch: u16,
    /// Requests sent ahead of their answers at the most.
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub in_flight: u16,
    /// How long to go on trying when the node is lost on the way, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub retry_for: u64,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// One event of the input as the reader hands it on.
#[derive(Debug)]
pub struct Item {
    /// Its line.
    pub line: usize,
    /// The event, or why there is none.
    pub event: Result<Prepared, Fault>,
    /// How much of the input was read by then.
    pub read_bytes: u64,
}

/// Runs `tradelane publish`.
///
/// # Errors
/// Some events were refused, or the run could not go on.
pub async fn run(arguments: &PublishArguments) -> Result<(), Failure> {
    let settings = arguments.client.settings()?;
    let publisher = settings.own_id()?;
    let preparation = Preparation { publisher: publisher.clone(), derive_ids: arguments.derive_ids };
    let (source, total_bytes) = open(arguments.file.as_deref())?;
    let mut report = Report::new(Terminal::new(settings.output), total_bytes);
    let (sender, input) = mpsc::channel(READ_AHEAD_ITEMS);
    let format = arguments.input_format;
    let reader = tokio::task::spawn_blocking(move || read(source, format, &preparation, &sender));
    if arguments.dry_run {
        check(input, &publisher, &mut report).await?;
        joined(reader.await)?;
        report.finish_dry_run()?;
        return verdict(&report);
    }
    let channel = settings.channel().await?;
    let pace = Pace {
        batch_events_max: arguments.batch.into(),
        in_flight_max: arguments.in_flight.into(),
        retry_for: Duration::from_secs(arguments.retry_for),
    };
    let mut session = Session::new(channel, pace, input, &mut report);
    let (ended, unanswered) = tokio::select! {
        ended = session.run() => (Some(ended), session.unanswered_events()),
        _ = tokio::signal::ctrl_c() => (None, session.unanswered_events()),
    };
    drop(session);
    match ended {
        Some(Ok(())) => {
            joined(reader.await)?;
            report.finish("done")?;
            verdict(&report)
        }
        stopped => {
            report.finish("stopped")?;
            resume_advice(&report, unanswered);
            match stopped {
                Some(ended) => ended,
                None => Err(Failure::new(ExitCode::Failure, "")),
            }
        }
    }
}

fn open(file: Option<&std::path::Path>) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    match file {
        None => Ok((Box::new(io::stdin()), None)),
        Some(path) if path.as_os_str() == "-" => Ok((Box::new(io::stdin()), None)),
        Some(path) => {
            let failed =
                |error: io::Error| Failure::new(ExitCode::Data, format!("cannot read {}: {error}", path.display()));
            let file = File::open(path).map_err(failed)?;
            let metadata = file.metadata().map_err(failed)?;
            Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
        }
    }
}

/// Reads the input on a thread of its own, until it ends or nobody takes the events any more.
fn read(
    source: Box<dyn Read + Send>,
    format: InputFormat,
    preparation: &Preparation,
    sender: &mpsc::Sender<Item>,
) -> io::Result<()> {
    for piece in Pieces::new(BufReader::new(source), format)? {
        let piece = piece?;
        let event = match piece.text {
            Ok(text) => preparation.prepare(&text).map_err(|error| {
                let JsonMalformed { line, column, reason } = error;
                // An event may begin on one line and be wrong on another; its first line may begin in the middle of one.
                let before = if line == 1 { piece.column - 1 } else { 0 };
                let place = (line > 0).then_some((piece.line + line - 1, before + column));
                Fault::Unreadable { place, reason }
            }),
            Err(reason) => Err(Fault::Unreadable { place: Some((piece.line, piece.column)), reason }),
        };
        let item = Item { line: piece.line, event, read_bytes: piece.read_bytes };
        if sender.blocking_send(item).is_err() {
            break;
        }
    }
    Ok(())
}

fn joined(reader: Result<io::Result<()>, tokio::task::JoinError>) -> Result<(), Failure> {
    match reader {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure::new(ExitCode::Data, format!("cannot read the input: {error}"))),
        Err(error) => Err(Failure::new(ExitCode::Failure, format!("the reader of the input failed: {error}"))),
    }
}

async fn check(mut input: mpsc::Receiver<Item>, publisher: &SpiffeId, report: &mut Report) -> Result<(), Failure> {
    while let Some(item) = input.recv().await {
        report.progress(item.read_bytes);
        match item.event.and_then(|prepared| keeps_the_rules(prepared, publisher)) {
            Ok(event_id) => report.keeps_rules(item.line, &event_id)?,
            Err(fault) => report.refused_here(item.line, &fault)?,
        }
    }
    Ok(())
}

/// Whether the node would find fault with the event by itself, by the same rules and without an operator's code lists; the event's id.
fn keeps_the_rules(prepared: Prepared, publisher: &SpiffeId) -> Result<String, Fault> {
    let event_id = prepared.event_id;
    let signed = SignedEvent { event: prepared.bytes, signature: None };
    let context = ValidationContext { now_ns: SystemClock.now_ns(), lists: &CodeLists::default() };
    let violations = match parse_event(&signed, "event", &context) {
        Ok(parsed) if parsed.publisher == *publisher => return Ok(event_id),
        Ok(parsed) => vec![Violation {
            field: "publisher".to_owned(),
            reason: "PUBLISHER_MISMATCH",
            description: format!("{} is not who our certificate says we are, {publisher}", parsed.publisher),
        }],
        Err(violations) => violations
            .into_iter()
            .map(|one| Violation { field: one.field.strip_prefix("event.").unwrap_or(&one.field).to_owned(), ..one })
            .collect(),
    };
    Err(Fault::BreaksRules { event_id, violations })
}

fn verdict(report: &Report) -> Result<(), Failure> {
    // Each refusal has been told.
    if report.counts.refused == 0 { Ok(()) } else { Err(Failure::data("")) }
}

fn resume_advice(report: &Report, unanswered: usize) {
    if unanswered > 0 {
        note(&format!("without an answer, so stored or not: {unanswered}"));
    }
    match report.counts.fresh_ids {
        0 => note("run the same command again to go on: what is stored already is not stored twice"),
        count => note(&format!(
            "events without an eventId that got a fresh one: {count}. Running this again would publish them again; --derive-ids prevents it"
        )),
    }
}
