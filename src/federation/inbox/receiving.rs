//! A stream from a source that has begun: each batch is checked, passes the peer door, goes to the log and is acknowledged. It never moves the
//! position on before what the batch holds is durable.

use futures::StreamExt;
use prost::Message;
use tokio::time::timeout;

use super::{
    CREDIT_BYTES, Inbox, Responses, SILENCE_MAX,
    append::{Appended, append},
    check,
};
use crate::{
    domain::Sequence,
    federation::{
        door::{Fault, peek},
        ended::Ended,
        messages,
        position::LinkPosition,
        progress::{QUARANTINE_MAX, Quarantined},
        table::Direction,
    },
    log::NewEvent,
    telemetry,
    wire::{
        ReplicaBatch,
        proto::{ReplicateRequest, ReplicatedEvent, replicate_response},
    },
};

/// A stream that has begun.
pub(super) struct Receiving<'a> {
    pub(super) inbox: &'a Inbox,
    /// The end of the last batch that was taken.
    pub(super) position: LinkPosition,
    /// The end of the source's log when the stream began.
    pub(super) head_at_start: u64,
    /// Both speak a version with revisions that stand before their originals.
    pub(super) takes_early_revisions: bool,
    pub(super) credit_owed: u64,
    pub(super) acknowledged: bool,
    /// A message of the source could not be read.
    pub(super) is_unreadable: &'a mut bool,
}

impl Receiving<'_> {
    pub(super) async fn run(&mut self, responses: &mut Responses) -> Ended {
        loop {
            let said = match timeout(SILENCE_MAX, responses.next()).await {
                Err(_) => return Ended::Broken(format!("the source has said nothing for {SILENCE_MAX:?}")),
                Ok(None) => return Ended::Broken("the source closed the stream".to_owned()),
                Ok(Some(Err(status))) => {
                    *self.is_unreadable = true;
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

    fn quarantined(&self, brought: &ReplicatedEvent, fault: (&str, String)) -> Quarantined {
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
