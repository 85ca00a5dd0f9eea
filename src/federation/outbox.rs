//! One stream to a receiver: it follows the log from where the receiver stands, and sends what the agreement allows in batches that
//! cover the log without a gap. It never sends beyond the receiver's credit, and keeps nothing of what it has sent.

mod early;
mod sending;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use self::sending::Sending;
use super::{
    FederationParts,
    agreement::Agreement,
    changes::Changes,
    ended::Ended,
    history::{self, History},
    messages, opening,
    position::LinkPosition,
    sources,
    table::{Direction, LinkState, Reservation, TakenOver},
};
use crate::{
    identity::{Caller, Peers},
    log::Follower,
    wire::proto::{self, ReplicateRequest, ReplicateResponse, ReplicationEndReason, replicate_request},
};

/// A receiver that has opened a stream says hello within this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A line that looks broken from one side is not waited for on the other longer than this.
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(1);
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
    pub(super) async fn serve(self, requests: Requests, reservation: Reservation) {
        let mut requests: Requests = Box::pin(requests.fuse());
        let (parts, peer, responses) = (self.parts.clone(), self.caller.id.clone(), self.responses.clone());
        let superseded = self.superseded.clone();
        let table = &parts.table;
        table.set_state(&peer, Direction::Outbound, LinkState::Connecting, "");
        let ended = match self.begin(&mut requests, reservation).await {
            Ok(sending) => sending.run(&mut requests).await,
            Err(ended) => ended,
        };
        // It may have said why before it went, while this side was busy with sending.
        let last_word = if matches!(ended, Ended::Broken(_)) { last_word(&mut requests).await } else { None };
        let ended = last_word.unwrap_or(ended);
        if let Ended::Here(reason, detail) = &ended {
            // A receiver that has gone does not want to know.
            let told = responses.send(Ok(messages::source_end(*reason, detail.clone())));
            let _ = timeout(HELLO_TIMEOUT, told).await;
        }
        // Another stream of the same receiver has taken over the line.
        if superseded.is_cancelled() || matches!(ended, Ended::Here(ReplicationEndReason::Superseded, _)) {
            return;
        }
        // The receiver dials again: here is nothing to do but to wait for it.
        let state = if ended.state() == LinkState::Backoff { LinkState::Idle } else { ended.state() };
        table.failed(&peer, Direction::Outbound, &ended);
        table.set_state(&peer, Direction::Outbound, state, &format!("not connected: {}", ended.in_words()));
    }

    async fn begin(self, requests: &mut Requests, reservation: Reservation) -> Result<Sending, Ended> {
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
        let known = self.parts.table.progress(&self.caller.id).acknowledged;
        let start = opening::start(&**log, read.position, known, agreement.peer.from_time_ns).await?;
        let follower = Follower::new(log.clone(), start.position.sequence, CHUNK_BYTES, None);
        let answer = proto::SourceHello {
            version: read.version,
            node: self.parts.node.to_string(),
            start: Some(start.position.message()),
            forked: start.forked,
            head_sequence: follower.tail().get(),
        };
        self.send(messages::source_hello(answer)).await?;
        if let Some(shown) = read.position.filter(|_| start.forked) {
            self.parts.table.lost(&self.caller.id, shown);
            let notice = format!(
                "this log was restored from a backup that was made before the receiver came to {shown}; it goes on from {}",
                start.position
            );
            tracing::warn!(peer = %self.caller.id, notice, "a receiver knows more of this log than it holds");
            self.parts.table.notice(&self.caller.id, Direction::Outbound, &notice);
        }
        let history = self.note(&agreement, read.position, start.position, &reservation).await?;
        let sends_whole = self.sends_whole(&agreement);
        Ok(Sending {
            takes_early_revisions: opening::EARLY_REVISIONS_SINCE <= read.version,
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
            reservation,
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

    /// Remembers how far the receiver has come by what it shows, which agreement decides what follows, and gives all that ever did. Nothing
    /// goes by an agreement that is not remembered durably: after a crash nobody would know what its revisions have to follow.
    async fn note(
        &self,
        agreement: &Agreement,
        shown: Option<LinkPosition>,
        start: LinkPosition,
        reservation: &Reservation,
    ) -> Result<History, Ended> {
        let grants = history::in_force(&agreement.rights, self.parts.clock.now_ns());
        let (peer, table) = (&agreement.peer.node, &self.parts.table);
        let versions = reservation.remember(|progress| {
            progress.acknowledged = shown.map(|_| start).or(progress.acknowledged);
            history::note(&mut progress.versions, grants, start.sequence.get(), progress.acknowledged);
            progress.versions.clone()
        })?;
        tokio::select! {
            biased;
            ended = self.must_end() => return Err(ended),
            () = table.kept() => {}
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
            () = self.superseded.cancelled() => TakenOver.into(),
            () = self.caller.closing.cancelled() => {
                Ended::stopping(self.caller.ending().unwrap_or("the connection is ending").to_owned())
            }
        }
    }
}

/// How a receiver that is gone ended the stream, if it said so: what it said and nobody has read yet is there at once.
async fn last_word(requests: &mut Requests) -> Option<Ended> {
    let reading = async {
        loop {
            if let Some(replicate_request::Message::End(end)) = requests.next().await?.ok()?.message {
                return Some(Ended::there(&end));
            }
        }
    };
    timeout(LAST_WORD_TIMEOUT, reading).await.ok().flatten()
}

impl From<TakenOver> for Ended {
    fn from(TakenOver: TakenOver) -> Self {
        Self::Here(ReplicationEndReason::Superseded, "the same receiver has opened another stream".to_owned())
    }
}
