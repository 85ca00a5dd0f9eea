//! Promised state beside the events: the contract of a store over the queue of the commit thread. It never waits for room in the queue, and
//! shows only what is durable.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, ready};
use tokio::sync::oneshot;

use super::{
    committer::Waiting,
    handle::{QueueRefusal, SledLog},
    shared::Shared,
};
use crate::{
    storage::{
        RESTORE_ADVICE, StorageError,
        durable::SyncReason,
        keys,
        state::{StateChange, StateDigest, TABLE_BYTES_MAX, VALUE_BYTES_MAX},
        store::{SLICE_BYTES_MAX, Writer},
    },
    store::{Change, StateStore, Table, WriteError, checked, whole_key},
};

/// What one change may count for in a slice: a value with its pieces, and those of the value whose place it takes.
const CHANGE_BYTES_MAX: usize = 2 * (VALUE_BYTES_MAX + 16 * 1024);

/// Changes that wait for their commit.
#[derive(Debug)]
pub struct WaitingState {
    /// The changes, checked against the limits.
    pub changes: Vec<StateChange>,
    /// About how many bytes they take.
    pub bytes: usize,
    /// Who waits.
    pub reply: oneshot::Sender<Result<(), WriteError>>,
}

impl StateStore for SledLog {
    fn load(&self, table: Table, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        let state = self.shared().state();
        state.table.with_prefix(&whole_key(table, prefix)).map(|(key, value)| (key.slice(1..), value.clone())).collect()
    }

    fn get(&self, table: Table, key: &[u8]) -> Option<Bytes> {
        self.shared().state().table.get(&whole_key(table, key)).cloned()
    }

    fn write(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<(), WriteError>> {
        if changes.is_empty() {
            return ready(Ok(())).boxed();
        }
        let (reply, answer) = oneshot::channel();
        let queued = checked(changes).and_then(|(changes, bytes)| {
            let waiting = Waiting::State(WaitingState { changes, bytes, reply });
            self.push(waiting).map_err(|refusal| match refusal {
                QueueRefusal::Full => WriteError::Overloaded,
                QueueRefusal::Closed => WriteError::Closing,
            })
        });
        match queued {
            Err(refused) => ready(Err(refused)).boxed(),
            Ok(()) => async move {
                let failed = || WriteError::Storage("the commit thread has ended".to_owned());
                answer.await.unwrap_or_else(|_| Err(failed()))
            }
            .boxed(),
        }
    }
}

/// Which of the changes that wait for a commit have room in the table; the others are refused.
pub(super) fn admitted(
    shared: &Shared,
    waiting: Vec<WaitingState>,
) -> (Vec<StateChange>, Vec<oneshot::Sender<Result<(), WriteError>>>) {
    let state = shared.state();
    let (mut changes, mut replies, mut growth) = (Vec::new(), Vec::new(), 0);
    for waiting in waiting {
        let its_growth = state.table.growth_bytes(&waiting.changes);
        if its_growth > 0 && state.table.bytes() + growth + its_growth > TABLE_BYTES_MAX {
            // Whoever hung up does not want to know.
            let _ = waiting.reply.send(Err(WriteError::Full { bytes_max: TABLE_BYTES_MAX }));
            continue;
        }
        growth += its_growth;
        changes.extend(waiting.changes);
        replies.push(waiting.reply);
    }
    (changes, replies)
}

/// State that sled is to hold: every entry that changed since it was last written, and what the table is with them.
pub(super) struct Unstored {
    entries: Vec<(Bytes, Option<Bytes>)>,
    pub(super) digest: StateDigest,
    pub(super) frames: u64,
}

impl Unstored {
    /// Takes what has gathered. From now on what changes gathers anew.
    pub(super) fn take(shared: &Shared) -> Self {
        let mut state = shared.state();
        state.storing = std::mem::take(&mut state.unstored);
        state.unstored_bytes = 0;
        let entries = state.storing.iter().map(|key| (key.clone(), state.table.get(key).cloned())).collect();
        Self { entries, digest: state.table.digest(), frames: state.frames }
    }

    /// Writes it in slices, each synced, and reads it back: only then may the journal forget it.
    pub(super) fn store(&self, writer: &mut Writer) -> Result<(), StorageError> {
        for (key, value) in &self.entries {
            match value {
                Some(value) => writer.put(&keys::state(key), &in_sled(value))?,
                None => drop(writer.delete(&keys::state(key))?),
            }
            if writer.unsynced_bytes() > SLICE_BYTES_MAX - CHANGE_BYTES_MAX {
                writer.sync(SyncReason::Blocks)?;
            }
        }
        writer.sync(SyncReason::Blocks)?;
        for (key, value) in &self.entries {
            let stored = writer.store().get(&keys::state(key))?;
            if stored.as_deref() != value.as_ref().map(|value| in_sled(value)).as_deref() {
                return Err(StorageError::Damaged("promised state cannot be read back as written".to_owned()));
            }
        }
        Ok(())
    }
}

/// A value as sled holds it.
pub(super) fn in_sled(value: &[u8]) -> Vec<u8> {
    [&crc32fast::hash(value).to_le_bytes()[..], value].concat()
}

/// Every entry that sled holds.
pub(super) fn read_sled(store: &crate::storage::store::Store) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
    let mut entries = Vec::new();
    for entry in store.scan(keys::STATE_PREFIX) {
        let (key, stored) = entry.map_err(|error| match error {
            error if error.is_damage() => StorageError::Damaged(format!(
                "subscriptions and their acknowledged positions cannot be read ({}); {RESTORE_ADVICE}",
                error.with_cause()
            )),
            other => other,
        })?;
        let value =
            stored.split_first_chunk::<4>().filter(|(crc, value)| crc32fast::hash(value).to_le_bytes() == **crc);
        let Some((_, value)) = value else {
            return Err(StorageError::Damaged(format!(
                "an entry of subscriptions and their acknowledged positions is altered; {RESTORE_ADVICE}"
            )));
        };
        entries.push((Bytes::copy_from_slice(&key[keys::STATE_PREFIX.len()..]), Bytes::copy_from_slice(value)));
    }
    Ok(entries)
}

/// Compares what sled holds with what is durable. What changes meanwhile is left to the next check.
pub(super) fn verify(shared: &Shared) -> Result<Vec<String>, StorageError> {
    let entries = match read_sled(&shared.store) {
        Ok(entries) => entries,
        Err(StorageError::Damaged(what)) => return Ok(vec![what]),
        Err(other) => return Err(other),
    };
    let in_sled: BTreeMap<Bytes, Bytes> = entries.into_iter().collect();
    let state = shared.state();
    let is_changing = |key: &Bytes| state.unstored.contains(key) || state.storing.contains(key);
    let mut problems = Vec::new();
    let expected = state.table.with_prefix(b"").map(|(key, value)| (key, Some(value)));
    let removed = in_sled.keys().filter(|key| state.table.get(key).is_none()).map(|key| (key, None));
    for (key, value) in expected.chain(removed) {
        if in_sled.get(key) == value || is_changing(key) {
            continue;
        }
        // Written to sled after it was looked at above, or wrong: a second look at this entry tells, since nothing of it changes now.
        let again = shared.store.get(&keys::state(key))?;
        if again.as_deref() != value.map(|value| self::in_sled(value)).as_deref() {
            problems.push("an entry of promised state is missing from sled or altered there".to_owned());
        }
    }
    Ok(problems)
}
