//! One stream to a receiver: it follows the log from where the receiver stands, and sends what the agreement allows in batches that
//! cover the log without a gap. It never sends beyond the receiver's credit, and keeps nothing of what it has sent.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use prost::Message;
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    FederationParts,
    agreement::Agreement,
    changes::Changes,
    ended::{Ended, cannot_read},
    history::{self, History},
    messages, opening,
    position::LinkPosition,
    sources,
    table::{Direction, LinkState},
};
use crate::{
    domain::Sequence,
    identity::{Caller, Peers},
    log::{Chunk, FollowError, Follower, LogError, Record, chain_after},
    telemetry,
    wire::{
        ReplicaBatch,
        proto::{self, ReplicateRequest, ReplicateResponse, ReplicationEndReason, replicate_request},
        raw::EVENTS_PER_BATCH_MAX,
    },
};

/// A receiver that has opened a stream says hello within this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A quiet source says so often that it is alive, and how far it has looked.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// A batch is sent once its events have so many bytes: one commit of the receiver takes several.
const BATCH_BYTES: usize = 512 * 1024;
/// One event adds at most so many bytes to a frame, its origin and the nodes passed included.
const EVENT_FRAME_BYTES_MAX: usize = 96 * 1024;
/// No frame is larger.
pub const FRAME_BYTES_MAX: usize = BATCH_BYTES + EVENT_FRAME_BYTES_MAX;
/// What is read of the log at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// More credit than this is not counted: it bounds what is on its way to a receiver.
const CREDIT_BYTES_MAX: u64 = 64 << 20;

/// What a receiver says.
pub type Requests = Pin<Box<dyn Stream<Item = Result<ReplicateRequest, Status>> + Send>>;
/// Where the answers go.
pub type Responses = mpsc::Sender<Result<ReplicateResponse, Status>>;

/// One stream to one receiver.
pub(super) struct Outbox {
    parts: Arc<FederationParts>,
    caller: Caller,
    responses: Responses,
    superseded: CancellationToken,
}

/// A stream that has begun.
struct Sending {
    outbox: Outbox,
    changes: Changes,
    agreement: Agreement,
    history: History,
    follower: Follower,
    /// The place that the follower has come to.
    position: LinkPosition,
    /// Whether the receiver is sent every clearance, hold and association that the agreement decides about.
    sends_whole: bool,
    /// The end of the last batch.
    sent: Sequence,
    events: Vec<proto::ReplicatedEvent>,
    events_bytes: usize,
    credit_bytes: u64,
}

impl Outbox {
    pub(super) const fn new(
        parts: Arc<FederationParts>,
        caller: Caller,
        responses: Responses,
        superseded: CancellationToken,
    ) -> Self {
        Self { parts, caller, responses, superseded }
    }

    /// Serves the stream to its end, which is told to the receiver and to the operators.
    pub(super) async fn serve(self, mut requests: Requests) {
        let (parts, peer, responses) = (self.parts.clone(), self.caller.id.clone(), self.responses.clone());
        let table = &parts.table;
        table.set_state(&peer, Direction::Outbound, LinkState::Connecting, "");
        let ended = match self.begin(&mut requests).await {
            Ok(sending) => sending.run(&mut requests).await,
            Err(ended) => ended,
        };
        if let Ended::Here(reason, detail) = &ended {
            // A receiver that has gone does not want to know.
            let told = responses.send(Ok(messages::source_end(*reason, detail.clone())));
            let _ = timeout(HELLO_TIMEOUT, told).await;
        }
        // Another stream of the same receiver has taken over the line.
        if matches!(ended, Ended::Here(ReplicationEndReason::Superseded, _)) {
            return;
        }
        let (state, words) = (ended.state(), ended.in_words());
        // The receiver dials again: here is nothing to do but to wait for it.
        let state = if state == LinkState::Backoff { LinkState::Idle } else { state };
        table.set_state(&peer, Direction::Outbound, state, &format!("not connected: {words}"));
        table.change(&peer, Direction::Outbound, |link| link.last_error = words);
    }

    async fn begin(self, requests: &mut Requests) -> Result<Sending, Ended> {
        let first = timeout(HELLO_TIMEOUT, requests.next())
            .await
            .map_err(|_| Ended::protocol(format!("no hello within {HELLO_TIMEOUT:?}")))?;
        let hello = match first {
            Some(Ok(ReplicateRequest { message: Some(replicate_request::Message::Hello(hello)) })) => hello,
            Some(Ok(_)) => return Err(Ended::protocol("the first message must be the hello")),
            Some(Err(status)) => return Err(Ended::broken(&status)),
            None => return Err(Ended::Broken("closed before a hello".to_owned())),
        };
        let read = opening::read_hello(&hello, &self.caller.id)?;
        self.parts
            .table
            .met(&self.caller.id, read.run)
            .map_err(|twice| Ended::Here(ReplicationEndReason::Cloned, format!("{}: {twice}", self.caller.id)))?;
        // Looked at from before the agreement is read: one that changes while the stream begins is read anew.
        let changes = Changes::of(&self.parts);
        let mut agreement = self.agreement()?;
        agreement.peer_epochs = read.epochs;
        self.parts.table.contact(&self.caller.id, Direction::Outbound);
        let log = &self.parts.log;
        let start = opening::start(&**log, read.position, agreement.peer.from_time_ns).await?;
        let follower = Follower::new(log.clone(), start.position.sequence, CHUNK_BYTES, None);
        let answer = proto::SourceHello {
            version: opening::VERSION,
            node: self.parts.node.to_string(),
            start: Some(start.position.message()),
            forked: start.forked,
            head_sequence: follower.tail().get(),
        };
        self.send(messages::source_hello(answer)).await?;
        if let Some(shown) = read.position.filter(|_| start.forked) {
            self.parts.table.lost(&self.caller.id, shown);
            let notice = format!(
                "this log was restored from a backup that ended before where the receiver stood; it goes on from {}",
                start.position
            );
            tracing::warn!(peer = %self.caller.id, notice, "a receiver knows more of this log than it holds");
            self.parts.table.change(&self.caller.id, Direction::Outbound, |link| link.notice = notice);
        }
        if read.position.is_some() {
            self.parts.table.acknowledged(&self.caller.id, start.position);
        }
        let history = self.note(&agreement, start.position).await?;
        let sends_whole = self.sends_whole(&agreement);
        Ok(Sending {
            changes,
            sends_whole,
            agreement,
            history,
            follower,
            position: start.position,
            sent: start.position.sequence,
            events: Vec::new(),
            events_bytes: 0,
            credit_bytes: hello.credit_bytes.min(CREDIT_BYTES_MAX),
            outbox: self,
        })
    }

    /// The agreement with the receiver under the files as they are now.
    fn agreement(&self) -> Result<Agreement, Ended> {
        let peers: Arc<Peers> = Arc::clone(&self.parts.peers.borrow());
        let peer = peers.get(&self.caller.id).cloned().ok_or_else(|| {
            Ended::Here(ReplicationEndReason::NotAPeer, "you do not stand in this node's peers file".to_owned())
        })?;
        if peer.paused || self.parts.table.progress(&peer.node).paused {
            return Err(Ended::Here(ReplicationEndReason::Paused, "the link is paused here".to_owned()));
        }
        Ok(Agreement {
            own: self.parts.node.clone(),
            epochs: self.parts.log.epochs(),
            rights: self.parts.access.policy().rights(&peer.node),
            peers,
            peer,
            peer_epochs: Vec::new(),
            bindings: self.parts.bindings.clone(),
        })
    }

    /// Remembers which agreement decides what follows a place, and gives all that ever did. Nothing goes by an agreement that is not
    /// remembered durably: after a crash nobody would know what its revisions have to follow.
    async fn note(&self, agreement: &Agreement, position: LinkPosition) -> Result<History, Ended> {
        let grants = history::in_force(&agreement.rights, self.parts.clock.now_ns());
        let (peer, table) = (&agreement.peer.node, &self.parts.table);
        let before = table.progress(peer).versions;
        let versions = table.remember(peer, |progress| {
            history::note(&mut progress.versions, grants, position.sequence.get(), progress.acknowledged);
            progress.versions.clone()
        });
        if versions != before {
            tokio::select! {
                biased;
                ended = self.must_end() => return Err(ended),
                () = table.kept() => {}
            }
        }
        Ok(History::new(&versions, peer))
    }

    fn sends_whole(&self, agreement: &Agreement) -> bool {
        let versions = self.parts.table.progress(&agreement.peer.node).versions;
        let begin = self.parts.log.first_retained().get().saturating_sub(1);
        agreement.peer.from_time_ns.is_none() && sources::decides_wholly(&versions, begin)
    }

    /// Sends a message, however long the receiver takes, unless the stream has to end.
    async fn send(&self, message: ReplicateResponse) -> Result<(), Ended> {
        tokio::select! {
            biased;
            ended = self.must_end() => Err(ended),
            sent = self.responses.send(Ok(message)) => {
                sent.map_err(|_| Ended::Broken("the receiver went away".to_owned()))
            }
        }
    }

    async fn must_end(&self) -> Ended {
        tokio::select! {
            biased;
            () = self.parts.draining.cancelled() => Ended::stopping("the node is stopping"),
            () = self.superseded.cancelled() => {
                Ended::Here(ReplicationEndReason::Superseded, "the same receiver has opened another stream".to_owned())
            }
            () = self.caller.closing.cancelled() => {
                Ended::stopping(self.caller.ending().unwrap_or("the connection is ending").to_owned())
            }
        }
    }
}

impl Sending {
    async fn run(mut self, requests: &mut Requests) -> Ended {
        let mut heartbeat: Interval = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let grants_change = self.grants_change();
            let step = tokio::select! {
                biased;
                ended = self.outbox.must_end() => Err(ended),
                () = self.changes.next() => self.look_again().await,
                () = grants_change => self.look_again().await,
                said = requests.next() => self.hear(said),
                chunk = self.follower.next(), if self.credit_bytes > 0 => self.take(chunk).await,
                _ = heartbeat.tick() => self.flush().await,
            };
            if let Err(ended) = step {
                return ended;
            }
        }
    }

    /// Resolves when the next grant begins or ends.
    fn grants_change(&self) -> impl Future<Output = ()> + use<> {
        let now_ns = self.outbox.parts.clock.now_ns();
        let wait = self.agreement.rights.next_change_ns(now_ns).map(|at_ns| at_ns.saturating_sub(now_ns).max(0) as u64);
        let until = wait.map(|wait_ns| Instant::now() + Duration::from_nanos(wait_ns.min(LOOK_AGAIN_MAX_NS)));
        async move {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        }
    }

    /// The agreement anew. What lies behind stays as it was decided: a wider agreement counts from here on.
    async fn look_again(&mut self) -> Result<(), Ended> {
        let peer_epochs = std::mem::take(&mut self.agreement.peer_epochs);
        self.agreement = Agreement { peer_epochs, ..self.outbox.agreement()? };
        self.history = self.outbox.note(&self.agreement, self.position).await?;
        self.sends_whole = self.outbox.sends_whole(&self.agreement);
        Ok(())
    }

    fn hear(&mut self, said: Option<Result<ReplicateRequest, Status>>) -> Result<(), Ended> {
        let message = match said {
            None => return Err(Ended::Broken("the receiver closed the stream".to_owned())),
            Some(Err(status)) => return Err(Ended::broken(&status)),
            Some(Ok(request)) => request.message,
        };
        let (table, peer) = (&self.outbox.parts.table, &self.outbox.caller.id);
        table.contact(peer, Direction::Outbound);
        match message {
            None | Some(replicate_request::Message::Hello(_)) => Err(Ended::protocol("a second hello, or nothing")),
            Some(replicate_request::Message::Credit(credit)) => {
                self.credit_bytes = self.credit_bytes.saturating_add(credit.bytes).min(CREDIT_BYTES_MAX);
                Ok(())
            }
            Some(replicate_request::Message::Acknowledgement(acknowledged)) => {
                let position = acknowledged.position.as_ref().and_then(LinkPosition::read);
                let known = position.filter(|at| at.epoch == self.position.epoch && at.sequence <= self.sent);
                let position = known.ok_or_else(|| Ended::protocol("acknowledges what was never sent"))?;
                table.acknowledged(peer, position);
                let head = self.follower.tail();
                table.change(peer, Direction::Outbound, |link| link.head_sequence = head.get());
                let at_end = head <= position.sequence;
                let state = if at_end { LinkState::CaughtUp } else { LinkState::Streaming };
                table.set_state(peer, Direction::Outbound, state, "");
                Ok(())
            }
            Some(replicate_request::Message::Quarantined(event)) => {
                let event = messages::read_quarantined(event);
                tracing::warn!(%peer, sequence = event.source_sequence, event_id = event.event_id, reason = event.reason,
                    detail = event.detail, "a peer does not take an event of this node");
                table.refused_there(peer, event);
                Ok(())
            }
            Some(replicate_request::Message::End(end)) => Err(Ended::there(&end)),
        }
    }

    async fn take(&mut self, chunk: Result<Chunk, FollowError>) -> Result<(), Ended> {
        let chunk = chunk.map_err(|error| match error {
            FollowError::Closed => Ended::stopping("the log is closed"),
            FollowError::Log(error) => cannot_read(&error),
        })?;
        if self.agreement.needs_bindings() {
            let mut progress = self.agreement.bindings.progress();
            tokio::select! {
                biased;
                ended = self.outbox.must_end() => return Err(ended),
                reached = progress.wait_for(|reached| *reached >= chunk.through) => {
                    reached.map_err(|_| Ended::stopping("the view of associations has stopped"))?;
                }
            }
        }
        for record in chunk.records.iter() {
            let chain = chain_after(&self.position.chain, record);
            let goes = self.goes(record).await.map_err(|error| cannot_read(&error))?;
            self.position = LinkPosition { sequence: record.sequence, chain, ..self.position };
            if goes {
                let event = self.agreement.message(record).map_err(|error| cannot_read(&error))?;
                self.events_bytes += event.encoded_len();
                self.events.push(event);
                if EVENTS_PER_BATCH_MAX <= self.events.len() || BATCH_BYTES <= self.events_bytes {
                    self.flush().await?;
                }
            }
        }
        // A place without an event has no hash of its own: the link stands at the last event before it.
        debug_assert!(self.position.sequence <= chunk.through, "the log returned records beyond the chunk's end");
        let at_end = self.follower.tail() <= self.follower.cursor();
        if at_end && !self.events.is_empty() { self.flush().await } else { Ok(()) }
    }

    /// Whether an event goes to the peer: by the agreement, or behind an original that went by an earlier one.
    async fn goes(&self, record: &Record) -> Result<bool, LogError> {
        let now_ns = self.outbox.parts.clock.now_ns();
        match self.agreement.judge(record, now_ns)? {
            Ok(()) => Ok(true),
            Err(why) if why.may_follow_its_original() => {
                let log = &*self.outbox.parts.log;
                self.history.sent_original_of(&self.agreement, log, record, now_ns).await
            }
            Err(_) => Ok(false),
        }
    }

    /// Sends what is gathered, or the sign of life that nothing is.
    async fn flush(&mut self) -> Result<(), Ended> {
        let events = std::mem::take(&mut self.events);
        self.events_bytes = 0;
        let count = events.len() as u64;
        let batch = ReplicaBatch {
            after_sequence: self.sent.get(),
            through: Some(self.position.message()),
            events,
            head_sequence: self.follower.tail().get(),
            whole_origins: sources::sent_wholly(&self.outbox.parts, &self.agreement.peer, self.sends_whole),
        };
        let bytes = batch.encoded_len() as u64;
        // Before the message is on its way: its acknowledgement may come back at once.
        self.sent = self.position.sequence;
        self.credit_bytes = self.credit_bytes.saturating_sub(bytes);
        self.outbox.send(messages::batch(batch)).await?;
        metrics::counter!(telemetry::PEER_EVENTS_TOTAL, "direction" => Direction::Outbound.word()).increment(count);
        self.outbox.parts.table.change(&self.outbox.caller.id, Direction::Outbound, |link| {
            link.event_count += count;
            link.byte_count += bytes;
            link.head_sequence = self.follower.tail().get();
        });
        Ok(())
    }
}

/// A grant that begins or ends later than this is looked at again then: timers hold no longer times.
const LOOK_AGAIN_MAX_NS: u64 = 3_600_000_000_000;
