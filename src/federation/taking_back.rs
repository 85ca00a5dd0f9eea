//! After a restore from a backup: what the log lost is taken back from the peers before anything new is published here, so that nothing new
//! contradicts what others already hold. A peer that cannot be reached is waited for until its operator's counterpart here pauses the link;
//! what nobody holds is named. It never opens for a part of the peers.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Federation, FederationParts, history, lives, noting, progress::TakenBack, table::Direction};
use crate::{
    domain::{Epoch, Sequence, SpiffeId},
    log::{EventLog, LogError, contract::EpochFacts},
};

/// What is read of the log at once.
const CHUNK_BYTES: usize = 1 << 20;
/// At most so many stretches of places are named; a longer list helps nobody.
const STRETCHES_NAMED_MAX: usize = 32;

/// Why publishing is closed, in words; none: it is open.
pub type Closed = Option<Arc<str>>;

impl Federation {
    /// Why publishing is closed for now.
    #[must_use]
    pub fn closed(&self) -> watch::Receiver<Closed> {
        self.closed.subscribe()
    }

    /// What came back after the latest restore, in words, or for whom publishing waits; empty where the log was never restored.
    #[must_use]
    pub fn restored(&self) -> String {
        if let Some(why) = &*self.closed.borrow() {
            return why.to_string();
        }
        self.parts().table.progress(&self.parts().node).taken_back.map(|taken| taken.report).unwrap_or_default()
    }
}

/// Sets right, as the node starts, what is remembered of how far peers were sent to. Answers why publishing is closed.
pub(super) fn at_start(parts: &FederationParts) -> Closed {
    parts.table.clamp_sent(*parts.log.tail().borrow());
    if let Some(life) = unopened_life(parts) {
        let (policy, now_ns, fork) = (parts.access.policy(), parts.clock.now_ns(), parts.log.epochs()[0].fork);
        for peer in &parts.peers.borrow().peers {
            let grants = history::in_force(&policy.rights(&peer.node), now_ns);
            let has_changed = parts.table.doubt_sent(&peer.node, grants, (life, fork));
            // One that is dialled hands back what it holds, so that it is known what went to it.
            if has_changed && peer.address.is_none() {
                tracing::warn!(peer = %peer.node, notice = CHANGED_SINCE, "a log was restored from a backup");
                parts.table.notice(&peer.node, Direction::Outbound, CHANGED_SINCE);
            }
        }
    }
    noting::at_once(parts);
    let waiting = waits_for(parts);
    (!waiting.is_empty()).then(|| words(&waiting))
}

/// What an operator is told of a peer of which nobody knows what it holds.
const CHANGED_SINCE: &str = "this log was restored from a backup, the agreement with the peer has changed since the backup was made, and nothing \
     is taken back from the peer: what was published after the backup and went to it by the former agreement is not known, and later \
     revisions of that do not follow it; if the peer needs them, tell its operator";

/// Keeps publishing closed until every peer has handed back what it held, then says what came.
pub(super) async fn run(
    parts: Arc<FederationParts>,
    closed: watch::Sender<Closed>,
    stopping: CancellationToken,
) -> Result<(), String> {
    let (mut files, mut changes) = (parts.peers.clone(), parts.table.remembered());
    loop {
        files.borrow_and_update();
        changes.borrow_and_update();
        let waiting = waits_for(&parts);
        if waiting.is_empty() {
            break;
        }
        closed.send_if_modified(|now| {
            let words = Some(words(&waiting));
            let changed = *now != words;
            *now = words;
            changed
        });
        let gone = tokio::select! {
            () = stopping.cancelled() => return Ok(()),
            changed = files.changed() => changed.is_err(),
            changed = changes.changed() => changed.is_err(),
        };
        if gone {
            return Ok(());
        }
    }
    if let Some(epoch) = unopened_life(&parts) {
        let report = report(&parts).await.map_err(|error| error.to_string())?;
        if !report.is_empty() {
            tracing::warn!(report, "this log was restored from a backup");
        }
        let taken = TakenBack { epoch: epoch.to_string(), report };
        parts.table.remember(&parts.node, |progress| progress.taken_back = Some(taken));
    }
    closed.send_replace(None);
    Ok(())
}

/// The present life, where a restore opened it and nothing was published in it yet.
fn unopened_life(parts: &FederationParts) -> Option<Epoch> {
    let epochs = parts.log.epochs();
    (1 < epochs.len()).then(|| epochs[0].epoch).filter(|epoch| !has_taken_back(parts, &parts.node, *epoch))
}

fn has_taken_back(parts: &FederationParts, node: &SpiffeId, epoch: Epoch) -> bool {
    parts.table.progress(node).taken_back.is_some_and(|taken| taken.epoch == epoch.to_string())
}

/// The peers that may still hold what this log lost: those that are dialled, and that nobody has paused.
fn waits_for(parts: &FederationParts) -> Vec<SpiffeId> {
    let Some(epoch) = unopened_life(parts) else { return Vec::new() };
    let peers = Arc::clone(&parts.peers.borrow());
    let asked = peers.peers.iter().filter(|peer| peer.address.is_some() && !peer.paused).map(|peer| peer.node.clone());
    asked.filter(|node| !parts.table.progress(node).paused && !has_taken_back(parts, node, epoch)).collect()
}

fn words(waiting: &[SpiffeId]) -> Arc<str> {
    let names: Vec<_> = waiting.iter().map(SpiffeId::as_str).collect();
    format!(
        "this node was restored from a backup and takes back from its peers what its log lost; nothing is published before that. It waits for \
         {}; `tradelane peers pause NODE` opens without one, and what only that one holds stays lost until the link is resumed",
        names.join(", ")
    )
    .into()
}

/// What was lost of each earlier life, as far as any peer knows, and what of it came back.
async fn report(parts: &FederationParts) -> Result<String, LogError> {
    let epochs = parts.log.epochs();
    let mut returned = came_back(&*parts.log, &parts.node, epochs[0].fork).await?;
    let shown = parts.table.shown();
    let lines = (1..epochs.len()).filter_map(|at| line(&epochs, at, returned.remove(&epochs[at].epoch), &shown));
    Ok(lines.collect::<Vec<_>>().join("; "))
}

/// Of each life, the places of this node's own events that came back.
async fn came_back(
    log: &dyn EventLog,
    own: &SpiffeId,
    fork: Sequence,
) -> Result<HashMap<Epoch, BTreeSet<u64>>, LogError> {
    let mut places: HashMap<Epoch, BTreeSet<u64>> = HashMap::new();
    let mut after = fork;
    while let Some(chunk) = log.read(after, CHUNK_BYTES, None).await? {
        for origin in chunk.records.iter().filter_map(|record| record.origin.as_ref()) {
            if origin.node == *own {
                places.entry(origin.epoch).or_default().insert(origin.sequence.get());
            }
        }
        after = chunk.through;
    }
    Ok(places)
}

fn line(
    epochs: &[EpochFacts],
    at: usize,
    returned: Option<BTreeSet<u64>>,
    shown: &[(Epoch, Sequence)],
) -> Option<String> {
    let (life, kept) = (epochs[at].epoch, lives::kept(epochs, at).get());
    let returned = returned.unwrap_or_default();
    let seen = shown.iter().filter(|(epoch, _)| *epoch == life).map(|(_, sequence)| sequence.get());
    let end = seen.chain(returned.last().copied()).max().filter(|end| kept < *end)?;
    let missing = stretches((kept + 1..=end).filter(|place| !returned.contains(place)));
    let came = format!(
        "of the lost end of life {life}, places {} to {end} as far as any peer knows, {} events of this node came back",
        kept + 1,
        returned.len()
    );
    if missing.is_empty() {
        return Some(came);
    }
    Some(format!(
        "{came}; places {missing} held what peers had brought, which comes again from them, or what no peer holds: its publishers have to \
         publish it again"
    ))
}

/// Numbers as a person writes them: `4, 7 to 9`.
fn stretches(numbers: impl Iterator<Item = u64>) -> String {
    let mut all: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        if let Some((_, last)) = all.last_mut().filter(|(_, last)| *last + 1 == number) {
            *last = number;
        } else if all.len() < STRETCHES_NAMED_MAX {
            all.push((number, number));
        } else {
            return format!("{} and more", in_words(&all));
        }
    }
    in_words(&all)
}

fn in_words(stretches: &[(u64, u64)]) -> String {
    let word =
        |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first} to {last}") };
    stretches.iter().map(word).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_named_and_bounded() {
        assert_eq!(stretches([4, 7, 8, 9].into_iter()), "4, 7 to 9");
        assert_eq!(stretches([].into_iter()), "");
        let many = stretches((0..1_000).map(|number| number * 2));
        assert!(many.ends_with("62 and more"), "{many}");
    }
}
