//! `tradelane subscribe`: events as they come, from any position, over lost connections. It never skips an event silently: where the node
//! cannot go on from a position, the command ends and says why.

// The comments of arguments are their help, where a person would see the marks.
#![allow(clippy::doc_markdown)]

use std::path::PathBuf;

use clap::Args;
use tonic::{Status, transport::Channel};

use self::cursor::Cursor;
use super::{
    Failure,
    filter_flags::FilterFlags,
    json,
    origins::Missing,
    retrying::Retrying,
    settings::ClientFlags,
    terminal::{Style, Terminal, note, printable},
    words,
};
use crate::{
    domain::Position,
    wire::proto::{
        EventFilter, RecordedEvent, StartAt, SubscribeRequest, SubscribeResponse, SubscriptionStarted,
        VisibilityWidened, event_service_client::EventServiceClient, subscribe_request::Start,
        subscribe_response::Message,
    },
};

pub mod cursor;
#[cfg(test)]
mod tests;

/// `tradelane subscribe`
#[derive(Debug, Args)]
#[command(after_help = "\
With --cursor-file the position of the last event written is kept in that file (synced to disk at most a second later), and the next run \
goes on from there: every event is written at least once.

Examples:
  tradelane subscribe
  tradelane subscribe --from earliest --type clearance --type hold --country PK
  tradelane subscribe --subject MSKU9070323 --output jsonl | jq .signed.event.eventTime
  tradelane subscribe --output jsonl --cursor-file customs.cursor >> events.jsonl
  tradelane subscribe --from 2026-11-24T00:00:00Z \\
    --filter '{\"types\": [\"handling.discharged\"], \"places\": [{\"unLocode\": \"PKKHI\"}]}'")]
pub struct SubscribeArguments {
    /// Where to begin: earliest, latest, a position (the events after it), or an RFC 3339 time. A cursor file that exists comes before it
    /// [default: latest]
    #[arg(long, value_name = "WHERE")]
    pub from: Option<String>,
    /// Keep the position of the last event written in this file, and go on from there.
    #[arg(long, value_name = "FILE")]
    pub cursor_file: Option<PathBuf>,
    /// End after this many events.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End when everything that was stored has been written, instead of waiting for what comes.
    #[arg(long)]
    pub until_caught_up: bool,
    /// How long to go on trying when the node is lost, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    pub retry_for: u64,
    /// Which events.
    #[command(flatten)]
    pub filter: FilterFlags,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// Runs `tradelane subscribe`.
///
/// # Errors
/// The node refuses, cannot go on from the position, or stays away for too long; output cannot be written.
pub async fn run(arguments: &SubscribeArguments) -> Result<(), Failure> {
    let settings = arguments.client.settings()?;
    let cursor = arguments.cursor_file.as_deref().map(Cursor::open).transpose()?;
    let start = match cursor.as_ref().and_then(Cursor::position) {
        Some(position) => Start::AfterPosition(position.to_owned()),
        None => parse_start(arguments.from.as_deref().unwrap_or("latest"))?,
    };
    let mut reader = Reader {
        channel: settings.channel().await?,
        filters: arguments.filter.filters()?,
        start,
        reached: None,
        cursor,
        terminal: Terminal::new(settings.output),
        remaining: arguments.count,
        until_caught_up: arguments.until_caught_up,
        missing: Missing::default(),
    };
    let retry_for = std::time::Duration::from_secs(arguments.retry_for);
    let ended = tokio::select! {
        ended = reader.run(retry_for) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    // What was written must be in the file before the command says that it is done.
    reader.terminal.flush()?;
    reader.store_cursor()?;
    ended
}

/// One reader over all its connections.
struct Reader {
    channel: Channel,
    filters: Vec<EventFilter>,
    start: Start,
    /// The last position written or known to have been examined.
    reached: Option<String>,
    cursor: Option<Cursor>,
    terminal: Terminal,
    remaining: Option<u64>,
    until_caught_up: bool,
    missing: Missing,
}

impl Reader {
    async fn run(&mut self, retry_for: std::time::Duration) -> Result<(), Failure> {
        let mut retrying = Retrying::new(retry_for);
        loop {
            let before = self.reached.clone();
            let Err(status) = self.stream().await? else { return Ok(()) };
            retrying.wait_after(status, before != self.reached).await?;
        }
    }

    /// One stream: ends well when enough was read, with the node's status otherwise.
    async fn stream(&mut self) -> Result<Result<(), Status>, Failure> {
        let start = match &self.reached {
            Some(position) => Start::AfterPosition(position.clone()),
            None => self.start.clone(),
        };
        let request = SubscribeRequest { start: Some(start), filters: self.filters.clone() };
        let mut client =
            EventServiceClient::new(self.channel.clone()).max_decoding_message_size(super::connect::DECODE_BYTES_MAX);
        let mut messages = match client.subscribe(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return Ok(Err(status)),
        };
        loop {
            match messages.message().await {
                Ok(Some(message)) => {
                    if self.take(message)? {
                        return Ok(Ok(()));
                    }
                }
                Ok(None) => return Ok(Err(Status::unavailable("the node ended the stream"))),
                Err(status) => return Ok(Err(status)),
            }
        }
    }

    /// Writes what a message brings; true where that is enough.
    fn take(&mut self, response: SubscribeResponse) -> Result<bool, Failure> {
        match response.message {
            Some(Message::Started(started)) => self.started(&started),
            Some(Message::Events(batch)) => {
                for event in &batch.events {
                    self.write(event)?;
                    self.reached = Some(event.position.clone());
                    if let Some(remaining) = &mut self.remaining {
                        *remaining = remaining.saturating_sub(1);
                        if *remaining == 0 {
                            return Ok(true);
                        }
                    }
                }
                self.flush_and_advance()?;
            }
            Some(Message::Progress(progress)) => {
                self.missing.tell(&progress.origins);
                self.progressed(progress.position)?;
            }
            Some(Message::CaughtUp(caught_up)) => {
                self.missing.tell(&caught_up.origins);
                self.progressed(caught_up.position)?;
                return Ok(self.until_caught_up);
            }
            Some(Message::FellBehind(behind)) => {
                note(&format!(
                    "reading more slowly than events come: {} positions behind, nothing is lost",
                    behind.lag_events
                ));
            }
            Some(Message::VisibilityWidened(widened)) => {
                if widened.incomplete {
                    note(SEEN_MORE_UNNAMED);
                }
                note(&seen_more(&widened));
            }
            // A newer node says something that this program has no word for; positions come with every event all the same.
            None => {}
        }
        Ok(false)
    }

    fn started(&mut self, started: &SubscriptionStarted) {
        // From here on a lost connection goes on from the position that the node began with, not from "latest" anew.
        if self.reached.is_none() && !started.after_position.is_empty() {
            self.reached = Some(started.after_position.clone());
        }
        if started.narrowed {
            let by = if started.grant_ids.is_empty() { "no grant".to_owned() } else { started.grant_ids.join(", ") };
            note(&format!("you see less than you ask for: your grants ({}) do not cover all of it", printable(&by)));
        }
    }

    fn progressed(&mut self, position: String) -> Result<(), Failure> {
        if !position.is_empty() {
            self.reached = Some(position);
        }
        self.flush_and_advance()
    }

    fn write(&mut self, event: &RecordedEvent) -> Result<(), Failure> {
        if self.terminal.for_people() {
            let line = event_line(&self.terminal, event);
            self.terminal.line(&line)?;
        } else {
            self.terminal.json(&json::recorded_event(event))?;
        }
        Ok(())
    }

    /// What was written is out of our hands first; only then may the file say so.
    fn flush_and_advance(&mut self) -> Result<(), Failure> {
        self.terminal.flush()?;
        match (&mut self.cursor, &self.reached) {
            (Some(cursor), Some(reached)) => cursor.advance(reached),
            _ => Ok(()),
        }
    }

    fn store_cursor(&mut self) -> Result<(), Failure> {
        match (&mut self.cursor, &self.reached) {
            (Some(cursor), Some(reached)) => cursor.store(reached),
            _ => Ok(()),
        }
    }
}

/// What is said where the node does not name all of which somebody sees more.
pub const SEEN_MORE_UNNAMED: &str =
    "you see more of other subjects too, which the node does not name: look with `tradelane events list`";

/// That somebody sees more of a subject, and how she comes to what was withheld before.
#[must_use]
pub fn seen_more(widened: &VisibilityWidened) -> String {
    let subject = widened.subject.as_ref().map(words::subject).unwrap_or_default();
    let subject = printable(&subject);
    format!("from here on you see more of {subject}; fetch what came before with `tradelane events timeline`")
}

/// One event as a line for people.
#[must_use]
pub fn event_line(terminal: &Terminal, event: &RecordedEvent) -> String {
    let glance = words::glance(event);
    let style = match glance.kind.split_once('.') {
        Some((_, "released" | "cleared" | "lifted" | "gated_out" | "waived")) => Style::Good,
        Some((_, "placed" | "rejected" | "refused" | "release_revoked" | "invalidated")) => Style::Bad,
        Some(("inspection" | "hold", _) | (_, "documents_required" | "payment_required")) => Style::Warning,
        _ => Style::Plain,
    };
    let kind = format!("{:<21}", printable(&glance.kind));
    let remarks = [glance.classifier, glance.remark].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
    let remark = if remarks.is_empty() { String::new() } else { format!("  {}", remarks.join(", ")) };
    let line = [
        terminal.style(Style::Dim, &glance.event_time).into_owned(),
        terminal.style(style, &kind).into_owned(),
        terminal.style(Style::Name, &printable(&format!("{:<30}", glance.subject))).into_owned(),
        format!("{:<11}", printable(&glance.place)),
        format!("{}{}", terminal.style(Style::Dim, &printable(&glance.publisher)), printable(&remark)),
    ];
    line.join("  ")
}

/// Where to begin, as people write it.
///
/// # Errors
/// It is none of the forms.
pub fn parse_start(text: &str) -> Result<Start, Failure> {
    match text {
        "earliest" => Ok(Start::StartAt(StartAt::Earliest.into())),
        "latest" => Ok(Start::StartAt(StartAt::Latest.into())),
        _ if text.parse::<Position>().is_ok() => Ok(Start::AfterPosition(text.to_owned())),
        _ => match words::parse_time(text) {
            Ok(time) => Ok(Start::SinceTime(time)),
            Err(_) => Err(Failure::usage(format!(
                "--from {text:?} is none of: earliest, latest, a position as a node gave it, an RFC 3339 time such as 2026-11-24T06:15:00Z"
            ))),
        },
    }
}
