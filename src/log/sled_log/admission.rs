//! Decides, on the commit thread, what becomes of each event of a batch: duplicate, conflict, revision, or a place of its own. It never
//! writes; a batch that is refused leaves nothing behind.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    RECORD_BYTES_MAX, RECORD_MARGIN_BYTES, codec,
    meant::{self, header_of},
    shared::Shared,
};
use crate::{
    domain::{
        EventId, HeaderRef, RoutingHeader, Sequence, SpiffeId,
        header::{HEADER_BYTES_MAX, identity_term, revises_term},
        term::{TermHash, TermMap},
    },
    log::contract::{
        AppendBatch, AppendError, AppendMode, Appended, NewEvent, REVISIONS_FOLLOWED_MAX, Record, Refusal,
        UNRESOLVED_REVISIONS_MAX, Verdict,
    },
    storage::{StorageError, runs::RunFamily},
};

/// How two encoded `SignedEvent`s are compared where their bytes differ.
pub type ContentEqual = fn(&[u8], &[u8]) -> bool;

/// What a commit may take once revisions have grown by their predecessors' terms: the queue can only count what publishers sent.
#[derive(Debug, Clone, Copy)]
pub struct CommitLimits {
    /// One batch.
    pub batch_bytes_max: usize,
    /// All batches of a commit, which are one frame of the journal.
    pub frame_bytes_max: usize,
}

/// What is decided so far of one commit.
#[derive(Debug)]
pub struct Admission<'a> {
    shared: &'a Shared,
    identities: &'a RunFamily,
    content_equal: ContentEqual,
    next: Sequence,
    now_ns: i64,
    /// What the records take in the journal at most.
    bytes: usize,
    limits: CommitLimits,
    /// The records to commit, in order.
    pub records: Vec<Record>,
    /// Their terms in the identity index.
    pub entries: Vec<(TermHash, Sequence)>,
    by_term: TermMap<Vec<Sequence>>,
}

impl<'a> Admission<'a> {
    /// Begins a commit whose first event takes the place `next`; every event of it is accepted at `now_ns`.
    pub fn new(
        shared: &'a Shared,
        identities: &'a RunFamily,
        content_equal: ContentEqual,
        (next, now_ns): (Sequence, i64),
        limits: CommitLimits,
    ) -> Self {
        Self {
            shared,
            identities,
            content_equal,
            next,
            now_ns,
            bytes: 0,
            limits,
            records: Vec::new(),
            entries: Vec::new(),
            by_term: TermMap::default(),
        }
    }

    /// Decides a batch. The inner error: the batch has grown too large for a commit, or for the room that earlier batches leave in this
    /// one; nothing of it is kept.
    ///
    /// # Errors
    /// Stored data cannot be read: nothing can be told from nothing then, and the process must end.
    pub fn decide(&mut self, batch: AppendBatch) -> Result<Result<Vec<Verdict>, AppendError>, StorageError> {
        let (records_before, entries_before, bytes_before) = (self.records.len(), self.entries.len(), self.bytes);
        let mut verdicts = Vec::with_capacity(batch.events.len());
        for event in batch.events {
            verdicts.push(self.decide_one(event)?);
        }
        let refused = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Refused(_)));
        if refused && batch.mode == AppendMode::AllOrNothing {
            self.forget_after(records_before, entries_before, bytes_before);
            for verdict in &mut verdicts {
                if matches!(verdict, Verdict::Stored(_)) {
                    *verdict = Verdict::Withheld;
                }
            }
        }
        let (bytes, bytes_max) = (self.bytes - bytes_before, self.limits.batch_bytes_max);
        if bytes > bytes_max {
            self.forget_after(records_before, entries_before, bytes_before);
            return Ok(Err(AppendError::BatchTooLarge { bytes, bytes_max }));
        }
        if self.bytes > self.limits.frame_bytes_max {
            self.forget_after(records_before, entries_before, bytes_before);
            return Ok(Err(AppendError::Overloaded));
        }
        Ok(Ok(verdicts))
    }

    fn forget_after(&mut self, records: usize, entries: usize, bytes: usize) {
        self.records.truncate(records);
        for (term, sequence) in self.entries.drain(entries..) {
            if let Some(places) = self.by_term.get_mut(&term) {
                places.retain(|place| *place != sequence);
            }
        }
        self.bytes = bytes;
    }

    fn decide_one(&mut self, event: NewEvent) -> Result<Verdict, StorageError> {
        let identity = identity_term(event.publisher.as_str(), &event.event_id);
        if let Some(known) = self.find(identity, &event.publisher, event.event_id)? {
            let same = known.signed == event.signed || (self.content_equal)(&known.signed, &event.signed);
            return Ok(if same {
                let accepted_time_ns = known.accepted_time_ns;
                Verdict::Stored(Appended { sequence: known.sequence, duplicate: true, accepted_time_ns })
            } else {
                Verdict::Refused(Refusal::EventIdConflict { first: known.sequence })
            });
        }
        let sequence = Sequence(self.next.get() + self.records.len() as u64);
        let own = header_of(&event.header)?;
        let mut header = event.header.clone();
        let mut entries = vec![(identity, sequence)];
        if let Some(revises) = own.revises() {
            match self.predecessor(&event.publisher, revises.event_id)? {
                Ok(predecessor) => {
                    let union = owned(&own)?.revising(&owned(&header_of(&predecessor)?)?).encode();
                    let room = RECORD_BYTES_MAX - RECORD_MARGIN_BYTES - event.signed.len();
                    let (bytes, bytes_max) = (union.len(), HEADER_BYTES_MAX.min(room));
                    if bytes > bytes_max {
                        return Ok(Verdict::Refused(Refusal::RevisionTooLarge { bytes, bytes_max }));
                    }
                    header = union.into();
                }
                // What another node has accepted is a fact: it is kept and flagged.
                Err(_) if event.origin.is_some() => {
                    if self.unresolved(&event.publisher, revises.event_id)? >= UNRESOLVED_REVISIONS_MAX {
                        return Ok(Verdict::Refused(Refusal::TooManyUnresolved));
                    }
                    header = RoutingHeader { revision_unresolved: true, ..owned(&own)? }.encode().into();
                }
                Err(refusal) => return Ok(Verdict::Refused(refusal)),
            }
            entries.push((revises_term(event.publisher.as_str(), &revises.event_id), sequence));
        }
        let origin = event.origin.map(Arc::new);
        let record = Record { sequence, accepted_time_ns: self.now_ns, origin, header, signed: event.signed };
        let bytes = codec::stored_bytes_at_most(&record);
        assert!(bytes <= RECORD_BYTES_MAX, "the queue refuses larger events, and the lines above larger revisions");
        self.bytes += bytes;
        for (term, sequence) in &entries {
            self.by_term.entry(*term).or_default().push(*sequence);
        }
        self.entries.extend(entries);
        self.records.push(record);
        Ok(Verdict::Stored(Appended { sequence, duplicate: false, accepted_time_ns: self.now_ns }))
    }

    /// The stored header of the event to revise, where it is the head of its chain.
    fn predecessor(&self, publisher: &SpiffeId, event_id: EventId) -> Result<Result<Bytes, Refusal>, StorageError> {
        let identity = identity_term(publisher.as_str(), &event_id);
        let Some(revised) = self.find(identity, publisher, event_id)? else {
            return Ok(Err(Refusal::RevisedEventUnknown));
        };
        let mut retracted = retracts(&revised)?;
        let mut head = event_id;
        let mut followed = 0;
        // A chain cannot run in a circle: a revision is only ever resolved to an event that was stored before it.
        while let Some(next) = self.revision(publisher, head)? {
            if followed == REVISIONS_FOLLOWED_MAX {
                return Ok(Err(Refusal::RevisedOften { later: head }));
            }
            followed += 1;
            retracted = retracts(&next)?;
            head = header_of(&next.header)?.event_id();
        }
        Ok(match (retracted, head == event_id) {
            (true, _) => Err(Refusal::AlreadyRetracted { by: head }),
            (false, false) => Err(Refusal::RevisionConflict { head }),
            (false, true) => Ok(revised.header),
        })
    }

    fn find(&self, term: TermHash, publisher: &SpiffeId, event_id: EventId) -> Result<Option<Record>, StorageError> {
        for sequence in self.places(term)? {
            let record = self.record(sequence)?;
            if meant::is_event(&record, publisher, event_id)? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// The revision that took the place of an event.
    fn revision(&self, publisher: &SpiffeId, event_id: EventId) -> Result<Option<Record>, StorageError> {
        for sequence in self.places(revises_term(publisher.as_str(), &event_id))? {
            let record = self.record(sequence)?;
            let resolved = !header_of(&record.header)?.revision_unresolved();
            if resolved && meant::revises(&record, publisher.as_str(), event_id)? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// How many revisions of an event are kept that fit no chain.
    fn unresolved(&self, publisher: &SpiffeId, event_id: EventId) -> Result<usize, StorageError> {
        let mut count = 0;
        for sequence in self.places(revises_term(publisher.as_str(), &event_id))? {
            let record = self.record(sequence)?;
            let unresolved = header_of(&record.header)?.revision_unresolved();
            count += usize::from(unresolved && meant::revises(&record, publisher.as_str(), event_id)?);
        }
        Ok(count)
    }

    /// Where a term may stand: hashes can collide, so whoever asks looks at the record.
    fn places(&self, term: TermHash) -> Result<Vec<Sequence>, StorageError> {
        let mut places = self.identities.lookup(term, Sequence::ZERO, self.next, false, usize::MAX)?;
        places.extend(self.by_term.get(&term).into_iter().flatten());
        Ok(places)
    }

    fn record(&self, sequence: Sequence) -> Result<Record, StorageError> {
        if sequence >= self.next {
            let index = (sequence.get() - self.next.get()) as usize;
            return Ok(self.records[index].clone());
        }
        self.shared.record(sequence)?.ok_or_else(|| {
            StorageError::Damaged(format!("the identity index names sequence {sequence}, which the log does not hold"))
        })
    }
}

fn retracts(record: &Record) -> Result<bool, StorageError> {
    Ok(header_of(&record.header)?.revises().is_some_and(|revises| revises.retract))
}

fn owned(header: &HeaderRef<'_>) -> Result<RoutingHeader, StorageError> {
    header.to_header().map_err(|fault| StorageError::Damaged(fault.to_string()))
}
