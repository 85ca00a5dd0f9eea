//! `tradelane backup`: a consistent copy of a running node's log in one file. It never leaves a file under the final name that is not
//! whole and on disk, and never writes over one.

// The comments of arguments are their help, where a person would see the marks.
#![allow(clippy::doc_markdown)]

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;
use tonic::{Status, Streaming, transport::Channel};

use super::{
    ExitCode, Failure,
    operate::{advance, bar},
    settings::ClientFlags,
    terminal::Terminal,
    words,
};
use crate::wire::proto::{CreateBackupRequest, CreateBackupResponse, node_service_client::NodeServiceClient};

/// A piece is at most 1 MiB of the file, and a little around it.
const PIECE_BYTES_MAX: usize = 4 << 20;

/// `tradelane backup`
#[derive(Debug, Args)]
#[command(after_help = "\
The node goes on working; the copy ends at the event that was the last when it began, and has what the node remembers of its peers. It lacks \
what the operator wrote (settings, trust, policy, peers file) and the node's key: keep those beside it. `tradelane restore` makes a data \
directory of it.

Example:
  tradelane backup /backup/khi-1-2026-11-24.tradelane")]
pub struct BackupArguments {
    /// The file to write; it must not exist.
    pub file: PathBuf,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Written {
    bytes: u64,
    sequence: u64,
    head_sequence: u64,
}

/// Runs `tradelane backup`.
///
/// # Errors
/// The node refuses, cannot be reached or ends early; the file exists or cannot be written.
pub async fn run(arguments: &BackupArguments) -> Result<(), Failure> {
    let settings = arguments.client.settings()?;
    let path = &arguments.file;
    if path.exists() {
        return Err(Failure::new(
            ExitCode::Usage,
            format!("{} exists; a backup never writes over a file", path.display()),
        ));
    }
    let channel = settings.channel().await?;
    let beside = beside(path);
    let written = match copy(channel, &beside).await {
        Ok(written) => written,
        Err(failure) => {
            // A part of a backup is of no use; that it stays behind where it cannot be removed is no second failure.
            let _ = std::fs::remove_file(&beside);
            return Err(failure);
        }
    };
    publish_name(&beside, path).map_err(|error| Failure::file("finish", path, &error))?;
    let mut terminal = Terminal::new(settings.output);
    if terminal.for_people() {
        let size = words::size(written.bytes);
        terminal.line(&format!("{}: the log up to sequence {}, {size}", path.display(), written.sequence))?;
    } else {
        terminal.json(&json!({ "file": path, "sequence": written.sequence.to_string(), "bytes": written.bytes }))?;
    }
    Ok(terminal.flush()?)
}

async fn copy(channel: Channel, beside: &Path) -> Result<Written, Failure> {
    let mut client = NodeServiceClient::new(channel).max_decoding_message_size(PIECE_BYTES_MAX);
    let pieces = client.create_backup(CreateBackupRequest {}).await?.into_inner();
    let failed = |error: io::Error| Failure::file("write", beside, &error);
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(beside).map_err(failed)?;
    let written = write_pieces(pieces, &file, &failed).await?;
    file.sync_all().map_err(failed)?;
    if written.sequence < written.head_sequence {
        let words = format!("the node ended the backup at sequence {} of {}", written.sequence, written.head_sequence);
        return Err(Failure::new(ExitCode::Unavailable, words));
    }
    Ok(written)
}

async fn write_pieces(
    mut pieces: Streaming<CreateBackupResponse>,
    file: &File,
    failed: &impl Fn(io::Error) -> Failure,
) -> Result<Written, Failure> {
    let mut out = BufWriter::new(file);
    let mut written = Written::default();
    let bar = bar("copied");
    while let Some(piece) = pieces.message().await.map_err(ended_early)? {
        out.write_all(&piece.data).map_err(failed)?;
        written.bytes += piece.data.len() as u64;
        written.sequence = piece.sequence;
        written.head_sequence = piece.head_sequence;
        advance(&bar, piece.sequence, piece.head_sequence);
    }
    out.flush().map_err(failed)?;
    bar.finish_and_clear();
    Ok(written)
}

fn ended_early(status: Status) -> Failure {
    let failure = Failure::from(status);
    Failure::new(failure.code, format!("the backup is not complete and was removed: {failure}"))
}

/// The name under which the file grows, in the same directory so that it can be renamed.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Gives the finished file its name, durably, and never over another: a link fails where the name is taken.
fn publish_name(beside: &Path, path: &Path) -> io::Result<()> {
    std::fs::hard_link(beside, path)?;
    std::fs::remove_file(beside)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_backup_takes_its_name_but_never_that_of_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.tradelane");
        let partial = beside(&path);
        assert_eq!(partial, directory.path().join("log.tradelane.partial"));
        std::fs::write(&partial, "one").unwrap();
        publish_name(&partial, &path).unwrap();
        std::fs::write(&partial, "two").unwrap();
        assert!(publish_name(&partial, &path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
    }
}
