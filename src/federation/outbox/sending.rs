//! A stream that has begun: it follows the log, gathers what goes, and sends it within the receiver's credit. It never sends an event
//! before it is noted durably that the event may have gone.

use std::time::Duration;

use futures::StreamExt;
use prost::Message;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tonic::Status;

use super::{BATCH_BYTES, CREDIT_BYTES_MAX, HEARTBEAT, Outbox, Requests};
use crate::{
    domain::Sequence,
    federation::{
        agreement::Agreement,
        changes::Changes,
        ended::{Ended, cannot_read},
        history::{CHAIN_MAX, Followed, History},
        messages,
        position::LinkPosition,
        sources,
        table::{Direction, LinkState, Reservation},
    },
    log::{Chunk, FollowError, Follower, LogError, Record, chain_after},
    telemetry,
    wire::{
        ReplicaBatch,
        proto::{self, ReplicateRequest, replicate_request},
        raw::EVENTS_PER_BATCH_MAX,
    },
};

/// A grant that begins or ends later than this is looked at again then: timers hold no longer times.
const LOOK_AGAIN_MAX_NS: u64 = 3_600_000_000_000;

/// A stream that has begun.
pub(super) struct Sending {
    pub(super) outbox: Outbox,
    /// The receiver takes revisions that stand before their originals.
    pub(super) takes_early_revisions: bool,
    pub(super) changes: Changes,
    pub(super) agreement: Agreement,
    pub(super) history: History,
    pub(super) follower: Follower,
    /// The place that the follower has come to.
    pub(super) position: LinkPosition,
    /// Whether the receiver is sent every clearance, hold and association that the agreement decides about.
    pub(super) sends_whole: bool,
    /// The end of the last batch.
    pub(super) sent: Sequence,
    pub(super) events: Vec<proto::ReplicatedEvent>,
    pub(super) events_bytes: usize,
    pub(super) credit_bytes: u64,
    pub(super) reservation: Reservation,
}

impl Sending {
    /// Sends until the stream ends.
    pub(super) async fn run(mut self, requests: &mut Requests) -> Ended {
        let mut heartbeat: Interval = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if let Err(ended) = self.resume().await {
            return ended;
        }
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
        self.history = self.outbox.note(&self.agreement, None, self.position, &self.reservation).await?;
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
                self.reservation.acknowledged(position)?;
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
        let mut early = self.early_revisions(chunk.records.clone()).await?;
        for record in chunk.records.iter() {
            let chain = chain_after(&self.position.chain, record);
            let goes = self.goes(record).await.map_err(|error| cannot_read(&error))?;
            self.position = LinkPosition { sequence: record.sequence, chain, ..self.position };
            if goes {
                let event = self.agreement.message(record).map_err(|error| cannot_read(&error))?;
                self.put(event).await?;
            }
            if let Some(places) = early.remove(&record.sequence) {
                self.send_early(record, places, goes).await?;
            }
        }
        // A place without an event has no hash of its own: the link stands at the last event before it.
        debug_assert!(self.position.sequence <= chunk.through, "the log returned records beyond the chunk's end");
        let at_end = self.follower.tail() <= self.follower.cursor();
        if at_end && !self.events.is_empty() { self.flush().await } else { Ok(()) }
    }

    /// Adds an event to what is gathered, and sends that where it is full.
    pub(super) async fn put(&mut self, event: proto::ReplicatedEvent) -> Result<(), Ended> {
        self.events_bytes += event.encoded_len();
        self.events.push(event);
        if EVENTS_PER_BATCH_MAX <= self.events.len() || BATCH_BYTES <= self.events_bytes {
            self.flush().await?;
        }
        Ok(())
    }

    /// Whether an event goes to the peer: by the agreement, or behind an original that went by an earlier one. A revision that stands before
    /// its original goes behind that.
    async fn goes(&self, record: &Record) -> Result<bool, LogError> {
        let now_ns = self.outbox.parts.clock.now_ns();
        match self.agreement.judge(record, now_ns)? {
            Ok(()) => Ok(true),
            Err(why) if why.may_follow_its_original() => {
                let known = (&*self.outbox.parts.log, &*self.outbox.parts.table);
                Ok(match self.history.sent_original_of(&self.agreement, known, record, now_ns).await? {
                    Followed::Nothing => false,
                    Followed::Original(place) => place < record.sequence || !self.takes_early_revisions,
                    Followed::Unknown => {
                        let notice = format!(
                            "the event at sequence {} was not sent: the agreement does not cover it, and its original, which may have \
                             been sent, lies more than {CHAIN_MAX} revisions back; if the peer holds the original, tell its operator",
                            record.sequence
                        );
                        self.say_stays(record.sequence, &notice);
                        false
                    }
                })
            }
            Err(_) => Ok(false),
        }
    }

    /// Says that a revision of an event stays, or may have: to the operator of this node, who has to tell that of the peer.
    pub(super) fn say_stays(&self, sequence: Sequence, notice: &str) {
        let (table, peer) = (&self.outbox.parts.table, &self.outbox.caller.id);
        metrics::counter!(telemetry::PEER_REVISIONS_UNDECIDED_TOTAL).increment(1);
        tracing::error!(%peer, %sequence, notice, "a revision does not go to a peer that may hold its original");
        table.notice(peer, Direction::Outbound, notice);
    }

    /// Notes durably that what is gathered may have gone, before it goes: whatever becomes of the acknowledgement, its revisions follow it.
    async fn reserve(&mut self) -> Result<(), Ended> {
        tokio::select! {
            biased;
            ended = self.outbox.must_end() => Err(ended),
            covered = self.reservation.cover(self.position.sequence) => covered.map_err(Ended::from),
        }
    }

    /// Sends what is gathered, or the sign of life that nothing is.
    async fn flush(&mut self) -> Result<(), Ended> {
        if !self.events.is_empty() {
            self.reserve().await?;
        }
        let events = std::mem::take(&mut self.events);
        self.events_bytes = 0;
        let count = events.len() as u64;
        let batch = ReplicaBatch {
            after_sequence: self.sent.get(),
            through: Some(self.position.message()),
            events,
            head_sequence: self.follower.tail().get(),
            whole_origins: sources::sent_wholly(
                &self.outbox.parts,
                &self.agreement.peer,
                self.sends_whole,
                self.position.sequence,
            ),
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
