//! One stream from a source: batches come in, pass the peer door, go to the log, and are acknowledged when they are durable. It never
//! acknowledges before that, never passes over a gap, and stores nothing of a batch that holds something forged.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use prost::Message;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    FederationParts,
    door::{Fault, PeerDoor, peek},
    ended::Ended,
    lives, messages,
    opening::{EARLY_REVISIONS_SINCE, VERSION_MAX, VERSION_MIN},
    outbox::HEARTBEAT,
    position::LinkPosition,
    progress::{PeerProgress, QUARANTINE_MAX, Quarantined, TailTold, TakenBack},
    sources::is_heard,
    table::{Direction, LinkState},
};
use crate::{
    domain::Sequence,
    identity::Peer,
    log::NewEvent,
    telemetry,
    wire::{
        ReplicaBatch,
        proto::{
            ReceiverEpoch, ReceiverHello, ReplicateRequest, ReplicateResponse, ReplicationEndReason, SourceHello,
            replicate_request, replicate_response,
        },
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

use append::{Appended, append};

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
        let ended = match self.begin(&mut responses).await {
            Err(ended) => ended,
            Ok((position, hello)) => {
                let mut receiving = Receiving {
                    inbox: &self,
                    position,
                    head_at_start: hello.head_sequence,
                    takes_early_revisions: EARLY_REVISIONS_SINCE <= hello.version,
                    credit_owed: 0,
                    acknowledged: false,
                    is_unreadable: false,
                };
                let ended = tokio::select! {
                    biased;
                    () = stop.cancelled() => Ended::stopping(why),
                    ended = receiving.run(&mut responses) => ended,
                };
                (acknowledged, is_unreadable) = (receiving.acknowledged, receiving.is_unreadable);
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

    /// Where the source goes on, and what else it said.
    async fn begin(&self, responses: &mut Responses) -> Result<(LinkPosition, SourceHello), Ended> {
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
            Some(Err(status)) => Err(Ended::broken(&status)),
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

/// A stream that has begun.
struct Receiving<'a> {
    inbox: &'a Inbox,
    /// The end of the last batch that was taken.
    position: LinkPosition,
    /// The end of the source's log when the stream began.
    head_at_start: u64,
    /// Both speak a version with revisions that stand before their originals.
    takes_early_revisions: bool,
    credit_owed: u64,
    acknowledged: bool,
    /// A message of the source could not be read.
    is_unreadable: bool,
}

impl Receiving<'_> {
    async fn run(&mut self, responses: &mut Responses) -> Ended {
        loop {
            let said = match timeout(SILENCE_MAX, responses.next()).await {
                Err(_) => return Ended::Broken(format!("the source has said nothing for {SILENCE_MAX:?}")),
                Ok(None) => return Ended::Broken("the source closed the stream".to_owned()),
                Ok(Some(Err(status))) => {
                    self.is_unreadable = true;
                    return Ended::broken(&status);
                }
                Ok(Some(Ok(response))) => response.message,
            };
            self.inbox.parts.table.contact(&self.inbox.peer.node, Direction::Inbound);
            let step = match said {
                None | Some(replicate_response::Message::Hello(_)) => {
                    Err(Ended::protocol("a second hello, or nothing"))
                }
                Some(replicate_response::Message::End(end)) => Err(Ended::there(&end)),
                Some(replicate_response::Message::Batch(batch)) => self.take(batch).await,
            };
            if let Err(ended) = step {
                return ended;
            }
        }
    }

    async fn take(&mut self, batch: ReplicaBatch) -> Result<(), Ended> {
        let bytes = batch.encoded_len() as u64;
        let through = check::check(&batch, &self.position, self.takes_early_revisions)?;
        let (events, mut bad) = self.admit(&batch)?;
        let (count, sequences) = (batch.events.len() as u64, events.0);
        let Appended { duplicates, own, refused } =
            append(&self.inbox.parts, &self.inbox.peer.node, &sequences, events.1).await?;
        bad.extend(refused.into_iter().filter_map(|(sequence, fault)| {
            let brought = batch.events.iter().find(|event| event.source_sequence == sequence)?;
            Some(self.quarantined(brought, fault))
        }));
        bad.sort_by_key(|event| event.source_sequence);
        self.advance(through, (&bad, &own), &batch)?;
        let table = &self.inbox.parts.table;
        metrics::counter!(telemetry::PEER_EVENTS_TOTAL, "direction" => Direction::Inbound.word()).increment(count);
        table.change(&self.inbox.peer.node, Direction::Inbound, |link| {
            link.event_count += count;
            link.duplicate_count += duplicates;
            link.byte_count += bytes;
            link.head_sequence = batch.head_sequence;
        });
        self.inbox.note_state(through, batch.head_sequence);
        for event in &bad {
            metrics::counter!(telemetry::PEER_EVENTS_QUARANTINED_TOTAL).increment(1);
            self.send(messages::quarantined(event)).await?;
        }
        self.send(messages::acknowledgement(&through)).await?;
        self.acknowledged = true;
        self.credit_owed += bytes;
        // Given back in pieces, so that small batches don't cost a message each.
        if CREDIT_BYTES / 4 <= self.credit_owed {
            let bytes = std::mem::take(&mut self.credit_owed);
            self.send(messages::credit(bytes)).await?;
        }
        Ok(())
    }

    /// Passes every event through the door before anything is stored. Of what may go to the log: its sequences at the source, and the events.
    #[allow(clippy::type_complexity, reason = "two lists side by side, and what is bad")]
    fn admit(&self, batch: &ReplicaBatch) -> Result<((Vec<u64>, Vec<NewEvent>), Vec<Quarantined>), Ended> {
        let (mut sequences, mut events, mut bad) = (Vec::new(), Vec::new(), Vec::new());
        for brought in &batch.events {
            match self.inbox.door.admit(brought) {
                Ok(event) => {
                    sequences.push(brought.source_sequence);
                    events.push(event);
                }
                Err(Fault::Forged { reason, detail }) => {
                    let (publisher, event_id) = peek(brought);
                    let sequence = brought.source_sequence;
                    let detail = format!("event {event_id:?} of {publisher:?}, sequence {sequence} there: {detail}");
                    return Err(Ended::refused(reason, &detail));
                }
                Err(Fault::Bad { reason, detail }) => bad.push(self.quarantined(brought, (reason, detail))),
            }
        }
        Ok(((sequences, events), bad))
    }

    /// Moves the position on, with what was put into quarantine on the way and where what was handed back again stands here.
    fn advance(
        &mut self,
        through: LinkPosition,
        (bad, own): (&[Quarantined], &[Sequence]),
        batch: &ReplicaBatch,
    ) -> Result<(), Ended> {
        let peer = &self.inbox.peer;
        let before = self.position;
        let fits = self.inbox.remember(|progress| {
            let again = |event: &Quarantined| bad.iter().any(|new| new.source_sequence == event.source_sequence);
            progress.quarantine.retain(|event| !again(event));
            if QUARANTINE_MAX < progress.quarantine.len() + bad.len() {
                return false;
            }
            progress.quarantine.extend(bad.iter().map(|event| Quarantined { before: Some(before), ..event.clone() }));
            progress.received = Some(through);
            for place in own {
                progress.handed_back.insert(*place);
            }
            self.inbox.note_taken_back(progress, through, self.head_at_start);
            progress.told = Some(self.inbox.told(batch.head_sequence));
            true
        })?;
        if !fits {
            let detail = format!(
                "more than {QUARANTINE_MAX} events of this source cannot be taken; nothing is passed over unseen"
            );
            return Err(Ended::refused("QUARANTINE_FULL", &detail));
        }
        // Of whom it may bring nothing it may say nothing either.
        let brings = |name: &&String| peer.brings(name);
        let whole_origins = batch.whole_origins.iter().filter(brings).cloned().collect();
        self.inbox.parts.table.note_whole(&peer.node, whole_origins);
        self.position = through;
        Ok(())
    }

    fn quarantined(&self, brought: &crate::wire::proto::ReplicatedEvent, fault: (&str, String)) -> Quarantined {
        let ((publisher, event_id), (reason, detail)) = (peek(brought), fault);
        let peer = &self.inbox.peer.node;
        tracing::warn!(%peer, sequence = brought.source_sequence, event_id, publisher, reason, detail, "put an event of a peer into quarantine");
        Quarantined {
            source_sequence: brought.source_sequence,
            publisher,
            event_id,
            reason: reason.to_owned(),
            detail,
            time_ns: self.inbox.parts.clock.now_ns(),
            before: None,
        }
    }

    async fn send(&self, request: ReplicateRequest) -> Result<(), Ended> {
        let sent = self.inbox.requests.send(request).await;
        sent.map_err(|_| Ended::Broken("the source went away".to_owned()))
    }
}
