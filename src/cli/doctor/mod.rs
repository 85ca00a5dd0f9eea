//! `tradelane doctor`: says why a connection to a node fails, step by step, and what to do. A TLS 1.3 client sees of a refusal no more
//! than an alert, so each is read together with what is known on this side. It changes nothing, here or at the node.

use std::{fmt, io};

use clap::Args;
use serde_json::json;

use super::{ExitCode, Failure, answer::Answer, connect::ConnectOptions, settings::ClientFlags};
use crate::clock::{Clock, SystemClock};

mod files;
mod network;

#[cfg(test)]
mod tests;

/// What `tradelane doctor` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tradelane doctor --address exchange.gov.pk:7443 --cert karachi.pem --key karachi.key --ca ca.pem\n  \
                        tradelane doctor --profile karachi\n\n\
                        Exit codes: 0 all is well, 69 the node cannot be reached, 77 one side does not accept the other's certificate, \
                        78 a setting or file on this side is wrong."
)]
pub struct DoctorArguments {
    /// The connection to look at.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// How one step went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Good,
    /// Not as it should; the exit code that it means, and what to do.
    Bad(ExitCode, String),
}

/// One step of the examination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was looked at, in a word or two.
    pub name: &'static str,
    /// What was found.
    pub found: String,
    /// How it went.
    pub outcome: Outcome,
}

impl Step {
    fn good(name: &'static str, found: impl fmt::Display) -> Self {
        Self { name, found: found.to_string(), outcome: Outcome::Good }
    }

    fn bad(name: &'static str, code: ExitCode, found: impl fmt::Display, advice: &str) -> Self {
        Self { name, found: found.to_string(), outcome: Outcome::Bad(code, advice.to_owned()) }
    }

    /// The exit code that it means, where it is bad.
    #[must_use]
    pub const fn code(&self) -> Option<ExitCode> {
        match &self.outcome {
            Outcome::Good => None,
            Outcome::Bad(code, _) => Some(*code),
        }
    }
}

/// Looks at our files, then at the network, then shakes hands. Ends at the first step without which the next cannot be done.
pub async fn examine(options: &ConnectOptions, now_ns: i64) -> Vec<Step> {
    let mut steps = files::examine(options, now_ns);
    // An expired certificate does not keep us from looking further; a missing one does.
    if !steps.iter().any(|step| step.code() == Some(ExitCode::Configuration)) {
        network::examine(options, now_ns, &mut steps).await;
    }
    steps
}

/// Runs `tradelane doctor`.
///
/// # Errors
/// Something is wrong: with the exit code of the first bad step.
pub async fn run(arguments: &DoctorArguments) -> Result<(), Failure> {
    let settings = arguments.client.settings()?;
    let steps = examine(&settings.connect, SystemClock.now_ns()).await;
    answer(&steps).write(settings.output, &mut io::stdout().lock())?;
    match steps.iter().find_map(Step::code) {
        None => Ok(()),
        Some(code) => Err(Failure::new(code, "")),
    }
}

fn answer(steps: &[Step]) -> Answer {
    let mut lines = Vec::new();
    for step in steps {
        match &step.outcome {
            Outcome::Good => lines.push(format!("ok      {:<18} {}", step.name, step.found)),
            Outcome::Bad(_, advice) => {
                lines.push(format!("FAILED  {:<18} {}", step.name, step.found));
                lines.push(format!("        {:<18} what to do: {advice}", ""));
            }
        }
    }
    let told = steps.iter().map(|step| match &step.outcome {
        Outcome::Good => json!({ "step": step.name, "good": true, "found": step.found }),
        Outcome::Bad(code, advice) => {
            json!({ "step": step.name, "good": false, "found": step.found, "advice": advice, "exitCode": *code as u8 })
        }
    });
    let document = json!({ "good": steps.iter().all(|step| step.code().is_none()), "steps": told.collect::<Vec<_>>() });
    Answer { lines, document }
}
