//! How far a stream to a peer may have sent by the agreement in force, whether or not the peer ever said so: what was sent and never
//! acknowledged may be held there, and its revisions have to reach it. The number is exact in memory; the file has one that lies ahead, so
//! that a write is not needed for every batch. It never says that something arrived.

use std::sync::Arc;

use super::PeerTable;
use crate::{
    domain::{Epoch, Sequence, SpiffeId},
    federation::{
        history::{self, VersionGrant},
        position::LinkPosition,
        progress::PeerProgress,
    },
};

/// The file says that so many places more may have been sent than were: it is written once for so many. After a crash as many places of the
/// log, at most, count as sent that were not.
const STRIDE: u64 = 65_536;

/// What the table knows of the streams to one peer.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Counts streams: only the latest may send.
    stream: u64,
    /// The latest has not ended.
    is_open: bool,
    /// The file has this place as sent while the stream lasts.
    reserved_through: u64,
}

/// The leave of one stream to send up to a place. When it is dropped the stream is at its end, and what was sent is known exactly.
#[derive(Debug)]
pub(in crate::federation) struct Reservation {
    table: Arc<PeerTable>,
    node: SpiffeId,
    stream: u64,
    /// The file is known to have this place as sent.
    durable_through: u64,
    /// A place that the file will have, after so many changes.
    asked: Option<(u64, u64)>,
}

/// A later stream of the same receiver has taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::federation) struct TakenOver;

impl Sent {
    /// What is remembered, as the file gets it.
    pub(super) fn written(&self, progress: &PeerProgress) -> PeerProgress {
        let mut written = progress.clone();
        if let Some(version) = written.versions.last_mut() {
            version.sent_through = version.sent_through.max(self.reserved_through);
        }
        written
    }
}

impl PeerTable {
    /// A stream to a peer begins; those before it may send no more.
    pub(in crate::federation) fn begin_stream(self: &Arc<Self>, node: &SpiffeId) -> Reservation {
        let mut entries = self.entries();
        let sent = &mut self.entry(&mut entries, node).sent;
        *sent = Sent { stream: sent.stream + 1, is_open: true, reserved_through: 0 };
        Reservation { table: self.clone(), node: node.clone(), stream: sent.stream, durable_through: 0, asked: None }
    }

    /// Notes, at the start of a restored log with this life, that nobody knows how much went to a peer since the backup: of what the backup
    /// holds by the agreement that was in force then and by the present one, with these grants; of what was said since and lost by the
    /// present one alone, since the other may have ended before. Answers whether that matters: whether the two differ, so that what was said
    /// since may have gone by the other all the same.
    pub(in crate::federation) fn doubt_sent(
        &self,
        node: &SpiffeId,
        grants: Vec<VersionGrant>,
        (life, fork): (Epoch, Sequence),
    ) -> bool {
        let life = life.to_string();
        let mut entries = self.entries();
        let progress = &mut self.entry(&mut entries, node).progress;
        let versions = &mut progress.versions;
        if versions.iter().any(|version| version.restored_life.as_ref() == Some(&life)) {
            // It started before: what was noted since is known.
            return false;
        }
        let has_changed = versions.last().is_some_and(|last| last.grants != grants);
        if let Some(last) = versions.last_mut() {
            last.sent_through = fork.get();
            if progress.acknowledged.is_none() {
                // The first stream may have begun after the backup, and at the beginning.
                last.after = 0;
            }
        }
        let known = progress.acknowledged.map_or(0, |position| position.sequence.get());
        history::note(versions, grants, known, progress.acknowledged);
        if let Some(present) = versions.last_mut() {
            (present.sent_through, present.restored_life) = (fork.get(), Some(life));
        }
        has_changed
    }

    /// Notes by which grants an agreement decides from now on, with the end of the log, where no stream is open that would note it. While
    /// there has been none, nothing is decided yet.
    pub(in crate::federation) fn note_between_streams(
        &self,
        node: &SpiffeId,
        grants: Vec<VersionGrant>,
        tail: Sequence,
    ) {
        {
            let mut entries = self.entries();
            let entry = self.entry(&mut entries, node);
            let progress = &mut entry.progress;
            let last = progress.versions.last();
            if entry.sent.is_open || last.is_some_and(|last| last.grants == grants) {
                return;
            }
            let known = progress.acknowledged.map(|position| position.sequence.get());
            let from = known.or(last.map(|last| last.after)).unwrap_or(tail.get());
            history::note(&mut progress.versions, grants, from, progress.acknowledged);
        }
        self.remembered.send_modify(|changes| *changes += 1);
    }

    /// Nothing after the end of the log has ever been sent, whatever the file had to say ahead.
    pub(in crate::federation) fn clamp_sent(&self, tail: Sequence) {
        for entry in self.entries().values_mut() {
            for version in &mut entry.progress.versions {
                version.sent_through = version.sent_through.min(tail.get());
            }
        }
    }

    /// Has the file say that a place may have been sent; returns after which change it does.
    fn reserve(&self, node: &SpiffeId, stream: u64, through: u64) -> Result<u64, TakenOver> {
        {
            let mut entries = self.entries();
            let sent = &mut self.entry(&mut entries, node).sent;
            if sent.stream != stream {
                return Err(TakenOver);
            }
            sent.reserved_through = sent.reserved_through.max(through);
        }
        let mut count = 0;
        self.remembered.send_modify(|changes| {
            *changes += 1;
            count = *changes;
        });
        Ok(count)
    }

    /// Notes, in memory, that a place may have been sent. The file says so already.
    fn note_sent(&self, node: &SpiffeId, stream: u64, through: u64) -> Result<(), TakenOver> {
        let mut entries = self.entries();
        let entry = self.entry(&mut entries, node);
        if entry.sent.stream != stream {
            return Err(TakenOver);
        }
        if let Some(version) = entry.progress.versions.last_mut() {
            version.sent_through = version.sent_through.max(through);
        }
        Ok(())
    }
}

impl Reservation {
    /// Changes what is remembered of the receiver, in one step with seeing that this stream is still the latest: one that was taken over
    /// from must not set back what its successor has noted. It is written soon after.
    ///
    /// # Errors
    /// A later stream has taken over: nothing is changed.
    pub(in crate::federation) fn remember<T>(
        &self,
        change: impl FnOnce(&mut PeerProgress) -> T,
    ) -> Result<T, TakenOver> {
        let changed = {
            let mut entries = self.table.entries();
            let entry = self.table.entry(&mut entries, &self.node);
            if entry.sent.stream != self.stream {
                return Err(TakenOver);
            }
            change(&mut entry.progress)
        };
        self.table.remembered.send_modify(|changes| *changes += 1);
        Ok(changed)
    }

    /// Notes how far the receiver has acknowledged.
    ///
    /// # Errors
    /// A later stream has taken over: nothing is noted.
    pub(in crate::federation) fn acknowledged(&self, position: LinkPosition) -> Result<(), TakenOver> {
        self.remember(|progress| progress.acknowledged = Some(position))
    }

    /// Notes durably that everything up to a place may have been sent; to be called before it is. A call that is dropped has noted nothing.
    ///
    /// # Errors
    /// A later stream has taken over: nothing may be sent.
    pub(in crate::federation) async fn cover(&mut self, through: Sequence) -> Result<(), TakenOver> {
        let (through, table) = (through.get(), self.table.clone());
        if let Some((asked, _)) = self.asked.filter(|(_, count)| table.is_kept(*count)) {
            (self.durable_through, self.asked) = (asked, None);
        }
        // In good time, so that a stream in steady flow never waits for the file.
        if self.asked.is_none() && self.durable_through < through.saturating_add(STRIDE / 2) {
            let ahead = through.saturating_add(STRIDE);
            self.asked = Some((ahead, table.reserve(&self.node, self.stream, ahead)?));
        }
        while self.durable_through < through {
            let (asked, count) = match self.asked {
                Some(asked) => asked,
                None => (through, table.reserve(&self.node, self.stream, through)?),
            };
            table.kept_through(count).await;
            (self.durable_through, self.asked) = (asked, None);
        }
        table.note_sent(&self.node, self.stream, through)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let settled = {
            let mut entries = self.table.entries();
            let sent = &mut self.table.entry(&mut entries, &self.node).sent;
            // A later stream has its own.
            sent.stream == self.stream && {
                sent.is_open = false;
                std::mem::take(&mut sent.reserved_through) != 0
            }
        };
        if settled {
            self.table.remembered.send_modify(|changes| *changes += 1);
        }
        self.table.streams_ended.send_modify(|count| *count += 1);
    }
}
