//! What the node remembers of each peer over a restart: how far it has taken from it, how far the peer has acknowledged, what it refused,
//! and whether an operator paused the link. One small file beside the log, replaced whole. It may lag behind the log and never leads it:
//! what is taken twice is absorbed as duplicates.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use futures::{FutureExt, future::BoxFuture};
use serde::{Deserialize, Serialize};

use super::{history::Version, position::LinkPosition, stretches::Stretches};
use crate::{
    domain::SpiffeId,
    log::Companion,
    storage::{StorageError, durable},
};

/// The file's name in the data directory.
pub const FILE_NAME: &str = "peers.json";
/// At most so many events of one peer are in quarantine: more than a few mean that something is wrong with all, and then the link stops
/// rather than passing over a log.
pub const QUARANTINE_MAX: usize = 64;

/// What is remembered of one peer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerProgress {
    /// How far we have taken from it.
    pub received: Option<LinkPosition>,
    /// The nodes of which it sends every clearance, hold and association, as it last said.
    #[serde(default)]
    pub whole_origins: std::collections::BTreeSet<String>,
    /// The end of its log as it last told it. What a node that is gone never handed over is at least what is missing up to there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<TailTold>,
    /// How far it has acknowledged ours.
    pub acknowledged: Option<LinkPosition>,
    /// The versions of the agreement with it, oldest first.
    #[serde(default)]
    pub versions: Vec<Version>,
    /// An operator has paused the link.
    pub paused: bool,
    /// What an operator should know of the direction to us and of the one from us, such as that the source was restored from a backup; kept
    /// until she says something of the peer, since she may look only after a restart.
    #[serde(default)]
    pub notices: [String; 2],
    /// Its events that we did not take, oldest first.
    pub quarantine: Vec<Quarantined>,
    /// Which of this node's own events, by their places here, it has handed back after a restore though others had handed them back before:
    /// it holds them.
    #[serde(default, skip_serializing_if = "Stretches::is_empty")]
    pub handed_back: Stretches,
    /// The life of our log in which everything was taken that it held when that life began; for this node itself: in which publishing was
    /// opened after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<TakenBack>,
}

/// The end of a peer's log, as the peer told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TailTold {
    /// The last sequence of its log.
    pub head_sequence: u64,
    /// When it told so, nanoseconds since 1970.
    pub time_ns: i64,
}

/// What came back after a restore from a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakenBack {
    /// The life that the restore opened.
    pub epoch: String,
    /// What was lost and came back, in words; said by this node of itself only.
    #[serde(default)]
    pub report: String,
}

/// An event that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantined {
    /// Its sequence in the source's log.
    pub source_sequence: u64,
    /// Its publisher, as far as it could be read.
    pub publisher: String,
    /// Its id, as far as it could be read.
    pub event_id: String,
    /// Why, for programs.
    pub reason: String,
    /// Why, for people.
    pub detail: String,
    /// When, nanoseconds since 1970.
    pub time_ns: i64,
    /// Where the link stood before the batch that brought it: to try again from there.
    pub before: Option<LinkPosition>,
}

/// Where what is remembered is kept.
pub trait ProgressStore: Send + Sync + 'static {
    /// Replaces what is kept by this, as a whole, and returns when it is durable.
    fn keep(&self, all: BTreeMap<SpiffeId, PeerProgress>) -> BoxFuture<'static, Result<(), StorageError>>;
}

/// The file.
#[derive(Debug, Clone)]
pub struct ProgressFile {
    data_dir: PathBuf,
}

impl ProgressFile {
    /// The file of a data directory.
    #[must_use]
    pub fn in_dir(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned() }
    }

    /// What is remembered; nothing where there is no file yet. Blocking.
    ///
    /// # Errors
    /// The file cannot be read, or is not what this program writes.
    pub fn load(&self) -> Result<BTreeMap<SpiffeId, PeerProgress>, StorageError> {
        let path = self.data_dir.join(FILE_NAME);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(StorageError::io(format!("cannot read {}", path.display()))(error)),
        };
        let damaged = |why: String| {
            StorageError::Damaged(format!(
                "{} is damaged: {why}; without it every peer's events are taken again from the beginning, which is harmless: move it aside",
                path.display()
            ))
        };
        let by_name: BTreeMap<String, PeerProgress> =
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        let parse = |(name, progress): (String, PeerProgress)| Ok((SpiffeId::parse(&name)?, progress));
        let parsed: Result<_, crate::domain::spiffe::SpiffeIdMalformed> = by_name.into_iter().map(parse).collect();
        parsed.map_err(|error| damaged(format!("a peer's name {error}")))
    }

    /// Replaces the file, durably. Blocking.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, all: &BTreeMap<SpiffeId, PeerProgress>) -> Result<(), StorageError> {
        let text = encode(all)?;
        durable::replace_file(&self.data_dir, FILE_NAME, &text)
            .map_err(StorageError::io(format!("cannot write {FILE_NAME} in {}", self.data_dir.display())))
    }
}

/// The file's bytes.
fn encode(all: &BTreeMap<SpiffeId, PeerProgress>) -> Result<Vec<u8>, StorageError> {
    let by_name: BTreeMap<&str, &PeerProgress> = all.iter().map(|(name, kept)| (name.as_str(), kept)).collect();
    serde_json::to_vec_pretty(&by_name).map_err(|error| StorageError::Damaged(error.to_string()))
}

/// What is remembered, for a backup of the log that begins after this.
///
/// # Errors
/// It cannot be said in the file's words.
pub fn companion(all: &BTreeMap<SpiffeId, PeerProgress>) -> Result<Companion, StorageError> {
    Ok(Companion { name: FILE_NAME, bytes: encode(all)? })
}

impl ProgressStore for ProgressFile {
    fn keep(&self, all: BTreeMap<SpiffeId, PeerProgress>) -> BoxFuture<'static, Result<(), StorageError>> {
        let file = self.clone();
        async move {
            let saving = tokio::task::spawn_blocking(move || file.save(&all));
            saving.await.map_err(|panic| StorageError::io(format!("cannot write {FILE_NAME}"))(panic.into()))?
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{Epoch, Sequence};

    #[test]
    fn what_is_remembered_comes_back_and_damage_is_said() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = ProgressFile::in_dir(directory.path());
        assert_eq!(file.load().expect("nothing yet"), BTreeMap::new());
        let position = LinkPosition { epoch: Epoch(Uuid::from_u128(3)), sequence: Sequence(9), chain: [7; 32] };
        let quarantined = Quarantined {
            source_sequence: 8,
            publisher: "spiffe://a.example/x".to_owned(),
            event_id: String::new(),
            reason: "EVENT_UNREADABLE".to_owned(),
            detail: "must be an Event".to_owned(),
            time_ns: 5,
            before: Some(position),
        };
        let kept = PeerProgress { received: Some(position), quarantine: vec![quarantined], ..PeerProgress::default() };
        let all = BTreeMap::from([(SpiffeId::parse("spiffe://a.example/node/a").expect("a name"), kept)]);
        file.save(&all).expect("saved");
        assert_eq!(file.load().expect("read"), all);
        fs::write(directory.path().join(FILE_NAME), "{").expect("written");
        assert!(file.load().expect_err("damaged").to_string().contains("move it aside"));
    }
}
