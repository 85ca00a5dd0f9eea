//! Tells what became of each event while publishing goes on, and sums it up. It never stops a run.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    cli::{
        failure::{describe_message, is_retryable, to_status},
        json,
        terminal::{Terminal, note, printable},
    },
    wire::{proto::PublishResult, violations::Violation},
};

/// What a run has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Stored by this run.
    pub stored: u64,
    /// Stored already, with the same content.
    pub duplicate: u64,
    /// Refused, by this program or by the node.
    pub refused: u64,
    /// How often the connection was made anew.
    pub reconnections: u64,
    /// Events that got a fresh id here.
    pub fresh_ids: u64,
}

/// Why a piece of the input is no event that can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be read.
    Unreadable {
        /// Line and column of the fault in the input, from 1, where they are known.
        place: Option<(usize, usize)>,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// It is an event, and the node would refuse it.
    BreaksRules {
        /// The event's id.
        event_id: String,
        /// What is wrong, by the field, and what would be right.
        violations: Vec<Violation>,
    },
}

/// Writes results and progress.
#[derive(Debug)]
pub struct Report {
    terminal: Terminal,
    progress: ProgressBar,
    /// What has come of it so far.
    pub counts: Counts,
}

impl Report {
    /// A report with a progress bar where standard error is a terminal; `total_bytes` where the size of the input is known.
    #[must_use]
    pub fn new(terminal: Terminal, total_bytes: Option<u64>) -> Self {
        let target =
            if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let progress = ProgressBar::with_draw_target(total_bytes, target);
        let template = match total_bytes {
            Some(_) => "{bar:30} {percent:>3}%  {msg}  {elapsed_precise}",
            None => "{spinner} {msg}  {elapsed_precise}",
        };
        progress.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
        Self { terminal, progress, counts: Counts::default() }
    }

    /// A line of the input that is no event, or whose event was refused before it was sent.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn refused_here(&mut self, line: usize, fault: &Fault) -> io::Result<()> {
        self.counts.refused += 1;
        if self.terminal.for_people() {
            self.say(&fault.in_words(line));
            return Ok(());
        }
        self.terminal.json(&fault.in_json(line))
    }

    /// An event of a dry run that keeps the rules.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn keeps_rules(&mut self, line: usize, event_id: &str) -> io::Result<()> {
        self.counts.stored += 1;
        if self.terminal.for_people() {
            return Ok(());
        }
        self.terminal.json(&json!({ "line": line, "eventId": event_id, "keepsRules": true }))
    }

    /// The node's answer for one event.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn answered(&mut self, line: usize, result: &PublishResult) -> io::Result<()> {
        if let Some(status) = &result.error {
            return self.refused(line, &result.event_id, status);
        }
        if result.duplicate {
            self.counts.duplicate += 1;
        } else {
            self.counts.stored += 1;
        }
        if self.terminal.for_people() {
            return Ok(());
        }
        let duplicate = result.duplicate;
        self.terminal.json(
            &json!({ "line": line, "eventId": result.event_id, "position": result.position, "duplicate": duplicate }),
        )
    }

    /// An event that the node refused.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn refused(&mut self, line: usize, event_id: &str, status: &tonic_types::Status) -> io::Result<()> {
        self.counts.refused += 1;
        if self.terminal.for_people() {
            let words = without_event_index(&describe_message(status));
            self.say(&format!("line {line}: refused: {words}"));
            return Ok(());
        }
        self.terminal.json(&json!({ "line": line, "eventId": event_id, "error": json::status(status) }))
    }

    /// A word beside the results: a lost connection, a new try.
    pub fn say(&self, text: &str) {
        self.progress.suspend(|| note(text));
    }

    /// Shows how far the run is.
    pub fn progress(&self, read_bytes: u64) {
        let Counts { stored, duplicate, refused, .. } = self.counts;
        self.progress.set_position(read_bytes);
        self.progress.set_message(format!("{stored} stored, {duplicate} duplicate, {refused} refused"));
    }

    /// Ends the report: the sum, for people on standard error so that standard output holds nothing but results.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn finish(&mut self, done: &str) -> io::Result<()> {
        self.progress.finish_and_clear();
        self.terminal.flush()?;
        let Counts { stored, duplicate, refused, reconnections, .. } = self.counts;
        let counts = format!("{done}: {stored} stored, {duplicate} duplicate, {refused} refused");
        // An event whose answer was lost with the connection is a duplicate when it is sent again.
        if reconnections > 0 && duplicate > 0 {
            note(&format!("{counts} (connected anew {reconnections} times, so some duplicates may be of this run)"));
        } else {
            note(&counts);
        }
        Ok(())
    }

    /// Ends the report of a run that published nothing.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn finish_dry_run(&mut self) -> io::Result<()> {
        self.progress.finish_and_clear();
        self.terminal.flush()?;
        note(&format!(
            "nothing was published: events that keep the rules: {}, that do not: {}",
            self.counts.stored, self.counts.refused
        ));
        Ok(())
    }

    /// Hands results on to whoever reads them.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn flush(&mut self) -> io::Result<()> {
        self.terminal.flush()
    }
}

impl Fault {
    /// For people: where it is in the input, and what is wrong.
    fn in_words(&self, line: usize) -> String {
        let (place, reason) = match self {
            Self::Unreadable { place, reason } => {
                let place = match place {
                    None => format!("line {line}"),
                    Some((at, column)) if *at == line => format!("line {line}, column {column}"),
                    Some((at, column)) => {
                        format!("line {at}, column {column} (of the event that begins on line {line})")
                    }
                };
                (place, reason.clone())
            }
            Self::BreaksRules { violations, .. } => {
                let lines = violations.iter().map(|violation| format!("\n  {violation}"));
                (format!("line {line}"), format!("breaks the rules:{}", lines.collect::<String>()))
            }
        };
        // A reason may have several lines; each is made safe for itself.
        let reason = reason.lines().map(printable).collect::<Vec<_>>().join("\n");
        format!("{place}: {reason}")
    }

    /// For machines. Broken rules are said as the node says them when it refuses an event.
    fn in_json(&self, line: usize) -> Value {
        match self {
            Self::Unreadable { place, reason } => {
                let mut error = json!({ "message": reason });
                if let Some((line, column)) = place {
                    error["line"] = json!(line);
                    error["column"] = json!(column);
                }
                json!({ "line": line, "error": error })
            }
            Self::BreaksRules { event_id, violations } => {
                let fields: Vec<Value> = violations
                    .iter()
                    .map(|one| json!({ "field": one.field, "description": one.description, "reason": one.reason }))
                    .collect();
                let details =
                    json!([{ "@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": fields }]);
                let code = Code::InvalidArgument as i32;
                let error = json!({ "code": code, "message": "the event breaks the rules", "details": details });
                json!({ "line": line, "eventId": event_id, "error": error })
            }
        }
    }
}

/// Field paths of the node name the event's place in a request, which is none of the user's: she knows lines.
fn without_event_index(text: &str) -> String {
    let strip = |line: &str| {
        let said = line.trim_start();
        match said.strip_prefix("events[").and_then(|rest| rest.split_once("].")) {
            Some((index, rest)) if index.bytes().all(|byte| byte.is_ascii_digit()) => {
                format!("{}{rest}", &line[..line.len() - said.len()])
            }
            _ => line.to_owned(),
        }
    };
    text.lines().map(strip).collect::<Vec<_>>().join("\n")
}

/// Where a status inside an answer means that the same request may succeed later: after how long at the least.
#[must_use]
pub fn retry_after(status: &tonic_types::Status) -> Option<Duration> {
    let status = to_status(status);
    let asked_for = status.get_details_retry_info().and_then(|info| info.retry_delay);
    is_retryable(status.code()).then(|| asked_for.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_in_a_request_is_not_shown() {
        let text =
            "1 of 3 events is invalid (INVALID_ARGUMENT)\n  events[2].subjects[0].value: bad\n  events[x].y: kept";
        assert_eq!(
            without_event_index(text),
            "1 of 3 events is invalid (INVALID_ARGUMENT)\n  subjects[0].value: bad\n  events[x].y: kept"
        );
        assert_eq!(without_event_index("events[2].audience: bad"), "audience: bad");
    }

    #[test]
    fn only_what_may_succeed_later_is_tried_again() {
        let status = |code: Code| tonic_types::Status { code: code as i32, ..Default::default() };
        assert_eq!(retry_after(&status(Code::ResourceExhausted)), Some(Duration::ZERO));
        assert_eq!(retry_after(&status(Code::PermissionDenied)), None);
    }
}
