//! Notes when an agreement changes while no stream to its peer is there to note it: else what is said meanwhile would count, after a restore
//! from a backup, as sent by the agreement before. It never touches what a stream decides: whoever sends notes by itself.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{FederationParts, changes::Changes, history};

/// A grant that begins or ends by its own time is seen within this.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Notes the agreements in force with the peers of the file.
pub(super) fn at_once(parts: &FederationParts) {
    let (policy, now_ns, tail) = (parts.access.policy(), parts.clock.now_ns(), *parts.log.tail().borrow());
    for peer in &parts.peers.borrow().peers {
        parts.table.note_between_streams(&peer.node, history::in_force(&policy.rights(&peer.node), now_ns), tail);
    }
}

/// Notes them whenever they may have changed, and when a stream may have ended without noting a change.
pub(super) async fn run(parts: Arc<FederationParts>, stopping: CancellationToken) -> Result<(), String> {
    let (mut changes, mut ended) = (Changes::of(&parts), parts.table.streams_ended());
    loop {
        at_once(&parts);
        tokio::select! {
            biased;
            () = stopping.cancelled() => return Ok(()),
            () = changes.next() => {}
            changed = ended.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}
