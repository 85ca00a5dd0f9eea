//! `tradelane clearance watch`: changes as they come, from any position, over lost connections. It never tells a change twice, nor misses
//! one: where the node cannot go on from a position, the command ends and says why.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use tonic::{Status, transport::Channel};

use super::show;
use crate::{
    cli::{
        Failure,
        connect::DECODE_BYTES_MAX,
        events::whole_subject,
        json,
        origins::Missing,
        retrying::Retrying,
        settings::ClientFlags,
        subscribe::{cursor::Cursor, parse_start},
        terminal::{Style, Terminal, note, printable},
        words,
    },
    wire::proto::{
        ClearanceChanges, Subject, WatchClearancesRequest, WatchClearancesResponse,
        clearance_service_client::ClearanceServiceClient, subscribe_request, watch_clearances_request::Start,
        watch_clearances_response::Message,
    },
};

/// `tradelane clearance watch`
#[derive(Debug, Args)]
#[command(after_help = "\
Without a subject, every declaration is watched, and goods that are cleared or held by their own number.

Examples:
  tradelane clearance watch
  tradelane clearance watch container:MSKU9070323 container:CSQU3054383
  tradelane clearance watch --from earliest --until-caught-up --output jsonl
  tradelane clearance watch --cursor-file gate.cursor --output jsonl | ./gate-system")]
pub struct WatchArguments {
    /// What to watch, at most 64: kind and value, with the issuer of numbers that are not global.
    #[arg(value_name = "KIND:VALUE[@ISSUER]")]
    pub subjects: Vec<String>,
    /// Where to begin: earliest, latest, a position (the changes after it), or an RFC 3339 time. A cursor file that exists comes before it
    /// [default: latest]
    #[arg(long, value_name = "WHERE")]
    pub from: Option<String>,
    /// Keep the position of the last change written in this file, and go on from there.
    #[arg(long, value_name = "FILE")]
    pub cursor_file: Option<PathBuf>,
    /// End when everything that was stored has been looked at, instead of waiting for what comes.
    #[arg(long)]
    pub until_caught_up: bool,
    /// How long to go on trying when the node is lost, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    pub retry_for: u64,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// One watch over all its connections.
struct Watcher {
    channel: Channel,
    subjects: Vec<Subject>,
    start: Start,
    /// The last position told, or known to have been looked at.
    reached: Option<String>,
    cursor: Option<Cursor>,
    terminal: Terminal,
    until_caught_up: bool,
    missing: Missing,
}

/// Runs `tradelane clearance watch`.
pub(super) async fn run(arguments: &WatchArguments) -> Result<(), Failure> {
    let settings = arguments.client.settings()?;
    let cursor = arguments.cursor_file.as_deref().map(Cursor::open).transpose()?;
    let start = match cursor.as_ref().and_then(Cursor::position) {
        Some(position) => Start::AfterPosition(position.to_owned()),
        None => own_start(parse_start(arguments.from.as_deref().unwrap_or("latest"))?),
    };
    let mut watcher = Watcher {
        subjects: arguments.subjects.iter().map(|text| whole_subject(text)).collect::<Result<_, _>>()?,
        channel: settings.channel().await?,
        start,
        reached: None,
        cursor,
        terminal: Terminal::new(settings.output),
        until_caught_up: arguments.until_caught_up,
        missing: Missing::default(),
    };
    let retry_for = Duration::from_secs(arguments.retry_for);
    let ended = tokio::select! {
        ended = watcher.run(retry_for) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    // What was written must be in the file before the command says that it is done.
    watcher.terminal.flush()?;
    watcher.store_cursor()?;
    ended
}

impl Watcher {
    async fn run(&mut self, retry_for: Duration) -> Result<(), Failure> {
        let mut retrying = Retrying::new(retry_for);
        loop {
            let before = self.reached.clone();
            let Err(status) = self.stream().await? else { return Ok(()) };
            retrying.wait_after(status, before != self.reached).await?;
        }
    }

    /// One stream: ends well when enough was told, with the node's status otherwise.
    async fn stream(&mut self) -> Result<Result<(), Status>, Failure> {
        let start = self.reached.clone().map_or_else(|| self.start.clone(), Start::AfterPosition);
        let request = WatchClearancesRequest { start: Some(start), subjects: self.subjects.clone() };
        let mut client = ClearanceServiceClient::new(self.channel.clone()).max_decoding_message_size(DECODE_BYTES_MAX);
        let mut messages = match client.watch_clearances(request).await {
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
    fn take(&mut self, response: WatchClearancesResponse) -> Result<bool, Failure> {
        match response.message {
            // From here on a lost connection goes on from the position that the node began with, not from "latest" anew.
            Some(Message::Started(started)) => {
                self.reached.get_or_insert(started.after_position);
            }
            Some(Message::Changes(changes)) => {
                self.write(&changes)?;
                self.reach(changes.position)?;
            }
            Some(Message::Progress(progress)) => {
                self.missing.tell(&progress.origins);
                self.reach(progress.position)?;
            }
            Some(Message::CaughtUp(caught_up)) => {
                self.missing.tell(&caught_up.origins);
                self.reach(caught_up.position)?;
                return Ok(self.until_caught_up);
            }
            Some(Message::FellBehind(behind)) => {
                note(&format!(
                    "changes come more slowly than events: {} positions behind, nothing is lost",
                    behind.lag_events
                ));
            }
            Some(Message::VisibilityWidened(widened)) => {
                if widened.incomplete {
                    note(
                        "you see more of other subjects too, which the node does not name: look with `tradelane clearance list`",
                    );
                }
                let subject = widened.subject.as_ref().map(words::subject).unwrap_or_default();
                note(&format!("from here on you see more of {}", printable(&subject)));
            }
            // A newer node says something that this program has no word for; positions come with every change all the same.
            None => {}
        }
        Ok(false)
    }

    fn write(&mut self, changes: &ClearanceChanges) -> Result<(), Failure> {
        if !self.terminal.for_people() {
            return Ok(self.terminal.json(&json::from_message("ClearanceChanges", changes))?);
        }
        let cause = changes.event.as_ref().map(words::glance);
        let time = cause.as_ref().map_or_else(String::new, |cause| cause.event_time.clone());
        let kind = cause.map_or_else(|| "withheld".to_owned(), |cause| cause.kind);
        for change in &changes.changes {
            let line = [
                self.terminal.style(Style::Dim, &format!("{time:<20}")).into_owned(),
                format!("{:<21}", printable(&kind)),
                show::change_line(&self.terminal, change),
            ];
            self.terminal.line(&line.join("  "))?;
        }
        if changes.incomplete {
            note("the hold is on more than one message tells of: look at the others with `tradelane clearance list`");
        }
        Ok(())
    }

    /// What was written is out of our hands first; only then may the file say so.
    fn reach(&mut self, position: String) -> Result<(), Failure> {
        self.terminal.flush()?;
        if let Some(cursor) = &mut self.cursor {
            cursor.advance(&position)?;
        }
        self.reached = Some(position);
        Ok(())
    }

    fn store_cursor(&mut self) -> Result<(), Failure> {
        match (&mut self.cursor, &self.reached) {
            (Some(cursor), Some(reached)) => cursor.store(reached),
            _ => Ok(()),
        }
    }
}

fn own_start(start: subscribe_request::Start) -> Start {
    match start {
        subscribe_request::Start::StartAt(at) => Start::StartAt(at),
        subscribe_request::Start::AfterPosition(position) => Start::AfterPosition(position),
        subscribe_request::Start::SinceTime(time) => Start::SinceTime(time),
    }
}
