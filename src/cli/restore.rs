//! `tradelane restore`: a data directory from a backup, for a node that is not running. It never touches a directory that holds anything.

// The comments of arguments are their help, where a person would see the marks.
#![allow(clippy::doc_markdown)]

use std::{io::Write, path::PathBuf};

use clap::Args;
use serde_json::json;

use super::{
    ExitCode, Failure,
    answer::{Answer, OutputFlag},
    config::SettingsArguments,
    connect::{Pem, uri_names_of},
};
use crate::{
    clock::SystemClock,
    config::Config,
    domain::SpiffeId,
    log::sled_log::{RestoreError, restore},
    node::{self, log_options},
};

/// `tradelane restore`
#[derive(Debug, Args)]
#[command(after_help = "\
The node's settings say where its data directory is (node.data_dir, which must be empty or not there) and, by its certificate, whose log \
it is to be. A restored log opens a new epoch, so that no reader goes on from a position that this log never had: readers are told where \
the epochs part.

What the log lost after the backup is taken back from the node's peers when it starts, before anything new is published: until every peer \
that it dials has handed over what it holds, publishing answers UNAVAILABLE and says for whom it waits. `tradelane peers pause NODE` opens \
without a peer that is gone. `tradelane node show` then says what came back, and what no peer holds.

What the node remembers of its peers is in the backup: how far it had taken from each, which agreements it had sent by, quarantine, and which \
links are paused. What was changed of these after the backup is not known to it: pause again what was paused since. Each peer is sent \
everything after the place where the backup knew it once more, by the policy that is in force now, and absorbs what it has. Nobody \
remembers which agreement an event went by that was published after the backup: where that agreement ended before the restore, and the \
peer is one that nothing is taken back from, the event's revisions do not follow it by themselves. `tradelane peers list` shows a notice \
of each such peer with which the agreement has changed since the backup.

Exit code: 0 restored, 64 the directory is not empty, 65 the file is no whole backup, 74 storage, 78 settings.

Example:
  tradelane restore --config /etc/tradelane/tradelane.toml /backup/khi-1-2026-11-24.tradelane")]
pub struct RestoreArguments {
    /// The backup.
    pub file: PathBuf,
    /// The settings of the node that is to have the log.
    #[command(flatten)]
    pub settings: SettingsArguments,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputFlag,
}

/// Runs `tradelane restore`.
///
/// # Errors
/// The settings or the backup are unusable, the directory is in use, or storage fails.
pub fn run(arguments: &RestoreArguments, out: &mut impl Write) -> Result<(), Failure> {
    let (config, _) = arguments.settings.load()?;
    let options = log_options(&config, node_id(&config)?);
    let data_dir = config.node.data_dir.display();
    if !arguments.file.is_file() {
        return Err(Failure::data(format!("there is no backup file {}", arguments.file.display())));
    }
    let last = restore(&arguments.file, &options, node::COMPANIONS, &SystemClock).map_err(|error| {
        let file = arguments.file.display();
        let remains = format!("what was written into {data_dir} is of no use: remove it");
        match &error {
            RestoreError::NotEmpty(_) => Failure::new(ExitCode::Usage, &error),
            // Told before anything was written.
            RestoreError::NotABackup | RestoreError::OtherVersion { .. } => Failure::data(format!("{file}: {error}")),
            RestoreError::NotWhole(_) => Failure::new(ExitCode::Data, format!("{file}: {error}; {remains}")),
            RestoreError::Storage(_) => Failure::new(ExitCode::Storage, format!("{file}: {error}; {remains}")),
        }
    })?;
    let answer = Answer {
        lines: vec![format!("restored up to sequence {last} into {data_dir}; the log goes on in a new epoch")],
        document: json!({ "lastSequence": last.to_string(), "dataDirectory": data_dir.to_string() }),
    };
    Ok(answer.write(arguments.output.output, out)?)
}

/// The node's name, from its certificate.
fn node_id(config: &Config) -> Result<SpiffeId, Failure> {
    let file = &config.identity.certificate_file;
    let names = uri_names_of(&Pem::File(file.clone()))?;
    let words = |reason: String| {
        Failure::new(ExitCode::Configuration, format!("the node's certificate {}: {reason}", file.display()))
    };
    match names.as_slice() {
        [name] => SpiffeId::parse(name).map_err(|error| words(format!("its URI name {name:?} {error}"))),
        names => Err(words(format!("must have exactly one URI name, not {}", names.len()))),
    }
}
