//! What an operator says of a link: pause, go on, take again. It never changes what is stored, only where a link stands.

use std::{sync::Arc, time::Duration};

use super::{
    Federation,
    table::{Direction, PeerStatus},
};
use crate::{domain::SpiffeId, identity::Peer};

/// From where a link goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResumeFrom {
    /// From where it stands.
    Position,
    /// From the beginning of the source's log, as far as the agreement there reaches back; what is here already is absorbed.
    Beginning,
    /// From before the oldest event in quarantine, which is emptied: what still cannot be taken comes back into it.
    Quarantine,
}

/// Why a link does not go on as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResumeRefused {
    /// The peers file itself pauses it.
    #[error("the peers file pauses the link; change it there")]
    PausedByFile,
    /// There is nothing to try again.
    #[error("no event of this peer is in quarantine")]
    QuarantineEmpty,
}

/// How far a receiver is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Sequences of the source's log that it has not covered.
    pub events: u64,
    /// For how long it has not been at the end; zero where it is.
    pub time: Duration,
}

impl Federation {
    /// How far the receiver of a direction is behind its source, as far as is known here.
    #[must_use]
    pub fn lag(&self, status: &PeerStatus, direction: Direction) -> Lag {
        let parts = self.parts();
        let (link, position, head) = match direction {
            Direction::Inbound => (&status.inbound, status.progress.received, status.inbound.head_sequence),
            Direction::Outbound => (&status.outbound, status.progress.acknowledged, parts.log.tail().borrow().get()),
        };
        let covered = position.map_or(0, |position| position.sequence.get());
        let since_ns = parts.clock.now_ns().saturating_sub(link.behind_since_ns).max(0).unsigned_abs();
        // Who is not connected is behind by an unknown number, for a known time.
        let time = if link.behind_since_ns == 0 { Duration::ZERO } else { Duration::from_nanos(since_ns) };
        Lag { events: head.saturating_sub(covered), time }
    }

    /// Every peer of the file, with the state of its links.
    #[must_use]
    pub fn list(&self) -> Vec<(Arc<Peer>, PeerStatus)> {
        let peers = Arc::clone(&self.parts().peers.borrow());
        peers.peers.iter().map(|peer| (peer.clone(), self.table().status(&peer.node))).collect()
    }

    /// Stops both directions until they are resumed, over restarts too.
    pub fn pause(&self, node: &SpiffeId) {
        let order = self.table().order(node, |progress| {
            progress.paused = true;
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(()) = order;
    }

    /// Lets both directions go on.
    ///
    /// # Errors
    /// The peers file pauses the link, or there is nothing to try again.
    pub fn resume(&self, node: &SpiffeId, from: ResumeFrom) -> Result<(), ResumeRefused> {
        if self.parts().peers.borrow().get(node).is_some_and(|peer| peer.paused) {
            return Err(ResumeRefused::PausedByFile);
        }
        self.table().order(node, |progress| {
            match from {
                ResumeFrom::Position => {}
                ResumeFrom::Beginning => {
                    progress.received = None;
                    progress.quarantine.clear();
                }
                ResumeFrom::Quarantine => {
                    let oldest = progress.quarantine.first().ok_or(ResumeRefused::QuarantineEmpty)?;
                    progress.received = oldest.before;
                    progress.quarantine.clear();
                }
            }
            progress.paused = false;
            Ok(())
        })
    }
}
