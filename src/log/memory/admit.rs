//! What becomes of each event of a batch: duplicate, conflict, revision, place. It never changes the log where the batch is refused.

use bytes::Bytes;

use super::{ContentEqual, Revising, State, stores_nothing};
use crate::{
    domain::{EventId, HeaderRef, RoutingHeader, Sequence, SpiffeId, header::HEADER_BYTES_MAX},
    log::{
        chain_after,
        contract::{
            AppendBatch, AppendError, Appended, CHAIN_START, NewEvent, REVISIONS_FOLLOWED_MAX, Record, Refusal,
            UNRESOLVED_REVISIONS_MAX, Verdict,
        },
    },
};

/// The events of a batch that are to be stored, in order, beside the log that they are checked against.
struct Draft<'a> {
    state: &'a State,
    records: Vec<(NewEvent, Record, Option<Revising>)>,
}

/// Decides a batch and, where it is taken, places it.
pub(super) fn admit(
    state: &mut State,
    batch: AppendBatch,
    content_equal: ContentEqual,
    now_ns: i64,
) -> Result<Vec<Verdict>, AppendError> {
    let mut draft = Draft { state, records: Vec::new() };
    let mut verdicts = Vec::with_capacity(batch.events.len());
    for event in batch.events {
        verdicts.push(draft.decide(event, content_equal, now_ns)?);
    }
    let records = draft.records;
    if stores_nothing(batch.mode, &verdicts) {
        for verdict in &mut verdicts {
            if matches!(verdict, Verdict::Stored(_)) {
                *verdict = Verdict::Withheld;
            }
        }
        return Ok(verdicts);
    }
    for (event, record, revising) in records {
        state.last = record.sequence;
        state.accepted_time_ns = record.accepted_time_ns;
        state.by_identity.insert((event.publisher.clone(), event.event_id), record.sequence);
        if let (Some(revising), Some(revises)) = (revising, revises(&event)?) {
            state.revisions.entry((event.publisher, revises.event_id)).or_default().push(revising);
        }
        let before = state.chain.last().copied().unwrap_or(CHAIN_START);
        state.chain.push(chain_after(&before, &record));
        state.records.push(record);
    }
    Ok(verdicts)
}

impl Draft<'_> {
    fn decide(&mut self, event: NewEvent, content_equal: ContentEqual, now_ns: i64) -> Result<Verdict, AppendError> {
        if let Some(known) = self.find(&event.publisher, event.event_id) {
            let same = known.signed == event.signed || content_equal(&known.signed, &event.signed);
            let accepted_time_ns = known.accepted_time_ns;
            return Ok(if same {
                Verdict::Stored(Appended { sequence: known.sequence, duplicate: true, accepted_time_ns })
            } else {
                Verdict::Refused(Refusal::EventIdConflict { first: known.sequence })
            });
        }
        let sequence = Sequence(self.state.last.get() + self.records.len() as u64 + 1);
        let mut header = event.header.clone();
        let mut revising = None;
        if let Some(revises) = revises(&event)? {
            let resolved = match self.predecessor(&event.publisher, revises.event_id) {
                Ok(predecessor) => {
                    let own = owned(&event.header)?;
                    let union = own.revising(&owned(&predecessor)?).encode();
                    let (bytes, bytes_max) = (union.len(), HEADER_BYTES_MAX);
                    if bytes > bytes_max {
                        return Ok(Verdict::Refused(Refusal::RevisionTooLarge { bytes, bytes_max }));
                    }
                    header = union.into();
                    true
                }
                // What another node has accepted is a fact: it is kept and flagged.
                Err(_) if event.origin.is_some() => {
                    let kept = self.revisions(&event.publisher, revises.event_id).filter(|one| !one.resolved).count();
                    if kept >= UNRESOLVED_REVISIONS_MAX {
                        return Ok(Verdict::Refused(Refusal::TooManyUnresolved));
                    }
                    let unresolved = RoutingHeader { revision_unresolved: true, ..owned(&event.header)? };
                    header = Bytes::from(unresolved.encode());
                    false
                }
                Err(refusal) => return Ok(Verdict::Refused(refusal)),
            };
            revising = Some(Revising { sequence, event_id: event.event_id, retracts: revises.retract, resolved });
        }
        let origin = event.origin.clone().map(std::sync::Arc::new);
        let record = Record { sequence, accepted_time_ns: now_ns, origin, header, signed: event.signed.clone() };
        self.records.push((event, record, revising));
        Ok(Verdict::Stored(Appended { sequence, duplicate: false, accepted_time_ns: now_ns }))
    }

    /// The stored header of the event to revise, where it is the head of its chain.
    fn predecessor(&self, publisher: &SpiffeId, event_id: EventId) -> Result<Bytes, Refusal> {
        let revised = self.find(publisher, event_id).ok_or(Refusal::RevisedEventUnknown)?;
        let mut head = event_id;
        let mut retracted =
            HeaderRef::parse(&revised.header).is_ok_and(|header| header.revises().is_some_and(|term| term.retract));
        let mut followed = 0;
        while let Some(next) = self.revision(publisher, head) {
            if followed == REVISIONS_FOLLOWED_MAX {
                return Err(Refusal::RevisedOften { later: head });
            }
            followed += 1;
            head = next.event_id;
            retracted = next.retracts;
        }
        match (retracted, head == event_id) {
            (true, _) => Err(Refusal::AlreadyRetracted { by: head }),
            (false, false) => Err(Refusal::RevisionConflict { head }),
            (false, true) => Ok(revised.header.clone()),
        }
    }

    fn find(&self, publisher: &SpiffeId, event_id: EventId) -> Option<&Record> {
        let drafted =
            self.records.iter().find(|(event, ..)| event.event_id == event_id && event.publisher == *publisher);
        if let Some((_, record, _)) = drafted {
            return Some(record);
        }
        let sequence = self.state.by_identity.get(&(publisher.clone(), event_id))?;
        self.state.record(*sequence)
    }

    /// The revision that took the place of an event.
    fn revision(&self, publisher: &SpiffeId, event_id: EventId) -> Option<Revising> {
        self.revisions(publisher, event_id).find(|revising| revising.resolved)
    }

    /// Every revision of an event, resolved or not.
    fn revisions<'a>(&'a self, publisher: &SpiffeId, event_id: EventId) -> impl Iterator<Item = Revising> + 'a {
        let publisher = publisher.clone();
        let stored = self.state.revisions.get(&(publisher.clone(), event_id)).into_iter().flatten().copied();
        let drafted = self.records.iter().filter_map(move |(event, _, revising)| {
            let revises = HeaderRef::parse(&event.header).ok()?.revises()?;
            revising.filter(|_| event.publisher == publisher && revises.event_id == event_id)
        });
        stored.chain(drafted)
    }
}

fn revises(event: &NewEvent) -> Result<Option<crate::domain::header::RevisionTerm>, AppendError> {
    Ok(HeaderRef::parse(&event.header).map_err(|fault| AppendError::Storage(fault.to_string()))?.revises())
}

fn owned(header: &[u8]) -> Result<RoutingHeader, AppendError> {
    HeaderRef::parse(header)
        .and_then(|header| header.to_header())
        .map_err(|fault| AppendError::Storage(fault.to_string()))
}
