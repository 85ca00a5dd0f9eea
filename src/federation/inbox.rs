//! One stream from a source: batches come in, pass the peer door, go to the log, and are acknowledged when they are durable. It never
//! acknowledges before that, never passes over a gap, and stores nothing of a batch that holds something forged.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    FederationParts,
    door::PeerDoor,
    ended::Ended,
    lives, messages,
    opening::{EARLY_REVISIONS_SINCE, VERSION_MAX, VERSION_MIN},
    outbox::HEARTBEAT,
    position::LinkPosition,
    progress::{PeerProgress, TailTold, TakenBack},
    sources::is_heard,
    table::{Direction, LinkState},
};
use crate::{
    identity::Peer,
    wire::proto::{
        ReceiverEpoch, ReceiverHello, ReplicateRequest, ReplicateResponse, ReplicationEndReason, SourceHello,
        replicate_request, replicate_response,
    },
};

/// The source answers the hello within this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(15);
/// A source that says nothing for so long has gone, whatever TCP believes: six signs of life are missing.
const SILENCE_MAX: Duration = Duration::from_secs(6 * HEARTBEAT.as_secs());
/// What the source may have on its way: enough for a fast link over half the world (16 MiB at 200 ms are 80 MB/s).
const CREDIT_BYTES: u64 = 16 << 20;
/// The source closes the stream within this time once it was told that it ends.
const TELL_TIMEOUT: Duration = Duration::from_secs(1);
/// A hello names at most so many lives of the log; older ones were asked back long ago.
const EPOCHS_MAX: usize = 64;

mod append;
mod check;
mod receiving;

use receiving::Receiving;

/// What a source says.
pub type Responses = Pin<Box<dyn Stream<Item = Result<ReplicateResponse, Status>> + Send>>;
/// Where the requests go.
pub type Requests = mpsc::Sender<ReplicateRequest>;

/// One stream from one source.
pub(super) struct Inbox {
    parts: Arc<FederationParts>,
    peer: Arc<Peer>,
    door: PeerDoor,
    requests: Requests,
    /// What operators had said of the peer when the stream began.
    words: u64,
    shown: Option<LinkPosition>,
}

/// How a stream went.
#[derive(Debug)]
pub(super) struct Received {
    /// How it ended.
    pub(super) ended: Ended,
    /// True where at least one acknowledgement went out: only then the next failure is a first one.
    pub(super) acknowledged: bool,
}

impl Inbox {
    /// A stream that goes on from what is remembered. The first request is put on its way at once.
    pub(super) fn new(parts: Arc<FederationParts>, peer: Arc<Peer>, requests: Requests) -> Self {
        let door = PeerDoor {
            own: parts.node.clone(),
            epochs: parts.log.epochs(),
            peers: Arc::clone(&parts.peers.borrow()),
            peer: peer.clone(),
        };
        // Counted first: a word that comes in between then ends this stream.
        let words = parts.table.words(&peer.node);
        let shown = parts.table.progress(&peer.node).received;
        Self { parts, peer, door, requests, words, shown }
    }

    /// The first request.
    pub(super) fn hello(&self) -> ReplicateRequest {
        let lives = &self.door.epochs;
        let epochs = lives.iter().enumerate().take(EPOCHS_MAX).map(|(at, life)| ReceiverEpoch {
            epoch: life.epoch.to_string(),
            kept_sequence: if at == 0 { 0 } else { lives::kept(lives, at).get() },
        });
        let hello = ReceiverHello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            node: self.door.own.to_string(),
            epochs: epochs.collect(),
            position: self.shown.as_ref().map(LinkPosition::message),
            credit_bytes: CREDIT_BYTES,
            run: self.parts.table.run().to_string(),
        };
        ReplicateRequest { message: Some(replicate_request::Message::Hello(hello)) }
    }

    /// Takes events until the stream ends; `stop` ends it in order, with the words to say.
    pub(super) async fn run(self, mut responses: Responses, stop: &CancellationToken, why: &str) -> Received {
        let (mut acknowledged, mut is_unreadable) = (false, false);
        let ended = match self.begin(&mut responses, &mut is_unreadable).await {
            Err(ended) => ended,
            Ok((position, hello)) => {
                let mut receiving = Receiving {
                    inbox: &self,
                    position,
                    head_at_start: hello.head_sequence,
                    takes_early_revisions: EARLY_REVISIONS_SINCE <= hello.version,
                    credit_owed: 0,
                    acknowledged: false,
                    is_unreadable: &mut is_unreadable,
                };
                let ended = tokio::select! {
                    biased;
                    () = stop.cancelled() => Ended::stopping(why),
                    ended = receiving.run(&mut responses) => ended,
                };
                acknowledged = receiving.acknowledged;
                ended
            }
        };
        if let Ended::Here(reason, detail) = &ended {
            // A stream that is dropped takes along what was not yet sent: so until the source, told, has closed it. One that has gone, or
            // does not read, does not want to know. After a message that could not be read nothing more is, and only our own side of the stream
            // shows that it has been closed.
            let telling = async {
                let told = self.requests.send(messages::receiver_end(*reason, detail.clone())).await;
                if is_unreadable {
                    self.requests.closed().await;
                }
                while told.is_ok() && responses.next().await.is_some_and(|said| said.is_ok()) {}
            };
            let _ = timeout(TELL_TIMEOUT, telling).await;
        }
        Received { ended, acknowledged }
    }

    /// Where the source goes on, and what else it said; and whether it could be read at all.
    async fn begin(
        &self,
        responses: &mut Responses,
        is_unreadable: &mut bool,
    ) -> Result<(LinkPosition, SourceHello), Ended> {
        let first = timeout(HELLO_TIMEOUT, responses.next())
            .await
            .map_err(|_| Ended::protocol(format!("no hello within {HELLO_TIMEOUT:?}")))?;
        self.parts.table.contact(&self.peer.node, Direction::Inbound);
        match first {
            Some(Ok(ReplicateResponse { message: Some(replicate_response::Message::Hello(hello)) })) => {
                Ok((self.start(&hello)?, hello))
            }
            Some(Ok(ReplicateResponse { message: Some(replicate_response::Message::End(end)) })) => {
                Err(Ended::there(&end))
            }
            Some(Ok(_)) => Err(Ended::protocol("the first message must be the hello")),
            Some(Err(status)) => {
                *is_unreadable = true;
                Err(Ended::broken(&status))
            }
            None => Err(Ended::Broken("closed before a hello".to_owned())),
        }
    }

    /// Changes what is remembered, unless an operator has said something since.
    fn remember<T>(&self, change: impl FnOnce(&mut PeerProgress) -> T) -> Result<T, Ended> {
        let changed = self.parts.table.remember_unless_told(&self.peer.node, self.words, change);
        changed.ok_or_else(|| Ended::stopping("an operator asked the link to begin anew"))
    }

    /// Notes, after a restore, that everything was taken that the source held when the stream began.
    fn note_taken_back(&self, progress: &mut PeerProgress, through: LinkPosition, head_at_start: u64) {
        if 1 < self.door.epochs.len() && head_at_start <= through.sequence.get() {
            let epoch = self.door.epochs[0].epoch.to_string();
            progress.taken_back = Some(TakenBack { epoch, report: String::new() });
        }
    }

    /// Where the source goes on, if that fits where we stand.
    fn start(&self, hello: &SourceHello) -> Result<LinkPosition, Ended> {
        if hello.node != self.peer.node.as_str() {
            return Err(Ended::protocol(format!("the hello is of {}, not of {}", hello.node, self.peer.node)));
        }
        if !(VERSION_MIN..=VERSION_MAX).contains(&hello.version) {
            let detail = format!(
                "the source speaks version {}, and this node versions {VERSION_MIN} to {VERSION_MAX}",
                hello.version
            );
            return Err(Ended::Here(ReplicationEndReason::Version, detail));
        }
        let start = hello.start.as_ref().and_then(LinkPosition::read);
        let start =
            start.ok_or_else(|| Ended::protocol("the hello says no place to go on from, or a malformed one"))?;
        match self.shown {
            None => {}
            Some(shown) if hello.forked && start.sequence < shown.sequence && start.epoch != shown.epoch => {
                let notice = format!(
                    "{} was restored from a backup that was made before this node came to {shown}; it goes on from {start}, and what this node \
                     holds of what it lost goes back to it over its own link",
                    self.peer.node
                );
                tracing::warn!(peer = %self.peer.node, notice, "a source was restored from a backup");
                self.parts.table.notice(&self.peer.node, Direction::Inbound, &notice);
            }
            // A later life of the same log goes on under its own name; the place and its hash are the same.
            Some(shown) if !hello.forked && start.sequence == shown.sequence && start.chain == shown.chain => {}
            Some(shown) => {
                let detail = format!("this node showed {shown}, and the source goes on from {start}");
                return Err(Ended::refused("GAP", &detail));
            }
        }
        self.parts.table.change(&self.peer.node, Direction::Inbound, |link| {
            link.head_sequence = hello.head_sequence;
            if start.sequence.get() < link.caught_up_sequence {
                link.caught_up_ns = 0;
            }
        });
        self.remember(|progress| {
            progress.received = Some(start);
            progress.told = Some(self.told(hello.head_sequence));
            self.note_taken_back(progress, start, hello.head_sequence);
        })?;
        self.note_state(start, hello.head_sequence);
        Ok(start)
    }

    fn told(&self, head_sequence: u64) -> TailTold {
        TailTold { head_sequence, time_ns: self.parts.clock.now_ns() }
    }

    /// Notes whether a place is the end of the source's log.
    fn note_state(&self, covered: LinkPosition, head_sequence: u64) {
        let (table, peer) = (&self.parts.table, &self.peer.node);
        let at_end = head_sequence <= covered.sequence.get();
        if at_end {
            let now_ns = self.parts.clock.now_ns();
            // All that came is in the log by now, and not yet in what answers are read from.
            let log_end = *self.parts.log.tail().borrow();
            table.change(peer, Direction::Inbound, |link| {
                if !is_heard(link.caught_up_ns, now_ns) {
                    link.complete_from = log_end;
                }
                (link.caught_up_ns, link.caught_up_sequence) = (now_ns, covered.sequence.get());
            });
        }
        let state = if at_end { LinkState::CaughtUp } else { LinkState::Streaming };
        table.set_state(peer, Direction::Inbound, state, "");
    }
}
