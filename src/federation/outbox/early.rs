//! Revisions that stand before their originals: another node brought them here earlier, over another link or after a restore. By itself such
//! a revision may be nothing for the peer, and nobody can know what it follows before the original has come; so it goes behind the original.
//! It never sends a revision of what the peer does not have.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::sending::Sending;
use crate::{
    domain::{EventId, HeaderRef, Sequence, SpiffeId},
    federation::{
        ended::{Ended, cannot_read},
        history::CHAIN_MAX,
    },
    log::{LogError, Record},
    wire::proto::ReplicatedEvent,
};

/// Of some records, the places of those that came after revisions of theirs, each with the places of these.
pub(super) type Early = HashMap<Sequence, Vec<Sequence>>;

impl Sending {
    /// Which of some records came after revisions of theirs.
    pub(super) async fn early_revisions(&self, records: Arc<[Record]>) -> Result<Early, Ended> {
        let found = self.outbox.parts.log.revised_before(records).await.map_err(|error| cannot_read(&error))?;
        Ok(found.into_iter().map(|found| (found.original, found.revisions)).collect())
    }

    /// Sends what the last stream may have left out: it may have ended behind an original and before the revisions that stand before it.
    pub(super) async fn resume(&mut self) -> Result<(), Ended> {
        let place = self.position.sequence;
        let at = self.outbox.parts.log.get(vec![place]).await.map_err(|error| cannot_read(&error))?;
        let mut early = self.early_revisions(at.clone().into()).await?;
        for original in at {
            if let Some(places) = early.remove(&original.sequence) {
                self.send_early(&original, places, false).await?;
            }
        }
        Ok(())
    }

    /// Sends the revisions of an event that stand before it, and theirs, where the peer has the event: where it goes now, or has gone.
    pub(super) async fn send_early(
        &mut self,
        original: &Record,
        places: Vec<Sequence>,
        goes: bool,
    ) -> Result<(), Ended> {
        let now_ns = self.outbox.parts.clock.now_ns();
        let went = || self.history.went(&self.agreement, &self.outbox.parts.table, original, now_ns);
        if !goes && !went().map_err(|error| cannot_read(&error))? {
            return Ok(());
        }
        if !self.takes_early_revisions {
            self.say_left_out(original, "the peer's program is too old to take it");
            return Ok(());
        }
        for revision in self.gather(original, places).await? {
            // It may go by itself in the same batch.
            let is_gathered = |event: &ReplicatedEvent| event.source_sequence == revision.sequence.get();
            if self.events.iter().any(is_gathered) {
                continue;
            }
            let goes = match self.agreement.judge(&revision, now_ns).map_err(|error| cannot_read(&error))? {
                Ok(()) => true,
                Err(why) => why.may_follow_its_original(),
            };
            if goes {
                let message = self.agreement.message(&revision).map_err(|error| cannot_read(&error))?;
                self.put(ReplicatedEvent { follows_sequence: original.sequence.get(), ..message }).await?;
            }
        }
        Ok(())
    }

    /// The revisions at some places, and those of these in turn that stand before the original too, in the log's order.
    async fn gather(&self, original: &Record, places: Vec<Sequence>) -> Result<Vec<Record>, Ended> {
        let log = &self.outbox.parts.log;
        let mut next: BTreeSet<Sequence> = places.into_iter().collect();
        let mut all = BTreeMap::new();
        // Whoever revises comes after what she revises, but for the first: so the smallest place is always next.
        while let Some(place) = next.pop_first() {
            if all.len() == CHAIN_MAX {
                self.say_left_out(original, &format!("more than {CHAIN_MAX} revisions stand before it"));
                break;
            }
            for revision in log.get(vec![place]).await.map_err(|error| cannot_read(&error))? {
                let (publisher, event_id) = identity(&revision).map_err(|error| cannot_read(&error))?;
                let later = log.revisions_of(vec![(publisher, event_id)]).await.map_err(|error| cannot_read(&error))?;
                let later = later.into_iter().filter(|later| *later < original.sequence && !all.contains_key(later));
                next.extend(later);
                all.insert(place, revision);
            }
        }
        Ok(all.into_values().collect())
    }

    fn say_left_out(&self, original: &Record, why: &str) {
        let notice = format!(
            "revisions of the event at sequence {} stand before it, and some may not have been sent: {why}; tell the peer's operator",
            original.sequence
        );
        self.say_stays(original.sequence, &notice);
    }
}

fn identity(record: &Record) -> Result<(SpiffeId, EventId), LogError> {
    let damaged = |why: String| LogError::Damaged(format!("event at sequence {}: {why}", record.sequence));
    let header = HeaderRef::parse(&record.header).map_err(|fault| damaged(fault.to_string()))?;
    let publisher = SpiffeId::parse(header.publisher()).map_err(|why| damaged(format!("its publisher {why}")))?;
    Ok((publisher, header.event_id()))
}
