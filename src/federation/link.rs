//! The link that takes events from one peer: dials, follows, and tries again after a pause that only a delivered acknowledgement makes
//! short. A link that met something which time does not mend stands still until an operator says otherwise.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    FederationParts,
    dial::{self, Dial, Line},
    ended::Ended,
    inbox::{Inbox, Received},
    table::{Direction, LinkState},
};
use crate::{
    clock::Clock,
    domain::SpiffeId,
    identity::Peer,
    wire::proto::{ReplicationEndReason, peer_service_client::PeerServiceClient},
};

/// The first pause after a failure is at most this long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// A dead peer costs one attempt in this time at the most.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Requests that wait for HTTP/2 to take them; each is small.
const REQUESTS_MAX: usize = 64;

/// The link to one peer.
pub(super) struct Link {
    pub(super) parts: Arc<FederationParts>,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) peer: Arc<Peer>,
    /// Cancelled when the peer's table of the file changed, or the node stops.
    pub(super) stop: CancellationToken,
}

/// How long to wait before the next attempt.
#[derive(Debug, Default)]
struct Pauses {
    failures: u32,
}

impl Link {
    /// Keeps the link up until it is stopped.
    pub(super) async fn run(self) {
        let (table, node) = (self.parts.table.clone(), self.peer.node.clone());
        let mut told = table.told();
        let mut pauses = Pauses::default();
        while !self.stop.is_cancelled() {
            told.borrow_and_update();
            let paused = self.peer.paused || table.progress(&node).paused;
            if paused {
                table.set_state(&node, Direction::Inbound, LinkState::Paused, "paused here");
            }
            if paused || table.status(&node).inbound.state.is_stopped() {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return,
                    changed = told.changed() => if changed.is_err() { return },
                }
                // An operator's word begins a new series of attempts.
                pauses = Pauses::default();
                continue;
            }
            table.set_state(&node, Direction::Inbound, LinkState::Connecting, "");
            let Received { ended, acknowledged } = self.once().await;
            if acknowledged {
                pauses = Pauses::default();
            }
            if self.stop.is_cancelled() {
                table.set_state(&node, Direction::Inbound, LinkState::Idle, "");
                return;
            }
            // Asked to begin anew at once, by an operator's word here.
            if matches!(&ended, Ended::Here(ReplicationEndReason::Stopping, _)) {
                continue;
            }
            if ended.state() != LinkState::Paused {
                table.failed(&node, Direction::Inbound, &ended);
            }
            table.set_state(&node, Direction::Inbound, ended.state(), &ended.in_words());
            if ended.state().is_stopped() {
                continue;
            }
            let pause = pauses.next(&*self.parts.clock);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                changed = told.changed() => if changed.is_err() { return } else { pauses = Pauses::default() },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One connection from its beginning to its end.
    async fn once(&self) -> Received {
        let broken = |why: String| Received { ended: Ended::Broken(why), acknowledged: false };
        let Some(address) = &self.peer.address else {
            return broken("the peers file has no address for it".to_owned());
        };
        let dialled = tokio::select! {
            biased;
            () = self.stop.cancelled() => return broken("stopped".to_owned()),
            dialled = self.dial.dial(address.clone(), self.peer.node.clone()) => dialled,
        };
        let Line { io, disbelieved } = match dialled {
            Ok(line) => line,
            Err(why) => return broken(why),
        };
        let channel = match dial::channel(io, address).await {
            Ok(channel) => channel,
            Err(why) => return broken(why),
        };
        let (requests, outgoing) = mpsc::channel(REQUESTS_MAX);
        let inbox = Inbox::new(self.parts.clone(), self.peer.clone(), requests.clone());
        // The stream is opened with it on the way, so that the source has it first.
        if requests.try_send(inbox.hello()).is_err() {
            return broken("the queue of requests is closed".to_owned());
        }
        let mut client = PeerServiceClient::new(channel).max_decoding_message_size(super::outbox::FRAME_BYTES_MAX);
        let responses = match client.replicate(ReceiverStream::new(outgoing)).await {
            Ok(response) => Box::pin(response.into_inner()),
            Err(status) => return Received { ended: Ended::broken(&status), acknowledged: false },
        };
        let ending = self.stop.child_token();
        let watch = async {
            tokio::select! {
                biased;
                () = self.told(&self.peer.node) => "an operator asked the link to begin anew",
                () = disbelieved => "the node's certificate is no longer believed",
            }
        };
        let receiving = inbox.run(responses, &ending, "the link begins anew, or the node stops");
        tokio::pin!(receiving);
        tokio::select! {
            biased;
            received = &mut receiving => received,
            why = watch => {
                tracing::info!(peer = %self.peer.node, why, "a link begins anew");
                ending.cancel();
                receiving.await
            }
        }
    }

    /// Resolves when an operator has said something about this link.
    async fn told(&self, node: &SpiffeId) {
        let table = &self.parts.table;
        let mut told = table.told();
        let words = table.words(node);
        while table.words(node) == words {
            if told.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Pauses {
    /// Half to the whole of a limit that doubles with every failure, so that a node that comes back is not met by all at once.
    fn next(&mut self, clock: &dyn Clock) -> Duration {
        let limit = PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        self.failures += 1;
        // The last 32 bits of a fresh id are random, and only the clock may be asked for randomness.
        let random = clock.fresh_uuid().as_u64_pair().1 as u32;
        limit.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn pauses_grow_from_a_second_to_five_minutes() {
        let mut pauses = Pauses::default();
        let first = pauses.next(&SystemClock);
        assert!((PAUSE_MIN / 2..=PAUSE_MIN).contains(&first), "{first:?}");
        for _ in 0..100 {
            assert!(pauses.next(&SystemClock) <= PAUSE_MAX);
        }
        let last = pauses.next(&SystemClock);
        assert!(PAUSE_MAX / 2 <= last, "{last:?}");
    }
}
