//! An event as the API hands it out: the publisher's bytes as they are, and beside them what this node knows. It never looks into the
//! event.

use std::{io::Write, sync::Arc};

use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len, message, string},
};
use prost_types::Timestamp;

use crate::{
    domain::{Epoch, Position, Sequence, SpiffeId},
    log::{EventLog, LogError, OriginFacts, Record, contract::EpochFacts},
    wire::{EventBatch, SignedEvent, proto, raw::EVENTS_TAG},
};

/// What a recorded event takes beside its own bytes, about.
const FACTS_BYTES: usize = 256;

/// The numbers of `RecordedEvent`'s fields.
mod tag {
    pub const SIGNED: u32 = 1;
    pub const POSITION: u32 = 2;
    pub const ACCEPTED_TIME: u32 = 3;
    pub const ORIGIN: u32 = 4;
    pub const VIA: u32 = 5;
}

/// Writes records of one node's log.
#[derive(Debug, Clone)]
pub struct Recorder {
    node: SpiffeId,
    epochs: Arc<[EpochFacts]>,
}

impl Recorder {
    /// Writes records of a node's log.
    #[must_use]
    pub fn new(node: SpiffeId, log: &dyn EventLog) -> Self {
        Self { node, epochs: log.epochs() }
    }

    /// The position of a place of the log, as readers are given it: in the log's present life.
    #[must_use]
    pub fn position(&self, sequence: Sequence) -> Position {
        let present = self.epochs.first().expect("a log has at least its present epoch");
        Position { epoch: present.epoch, sequence }
    }

    /// The event with what this node knows of it.
    ///
    /// # Errors
    /// The stored bytes are not what the publish door stores.
    pub fn recorded(&self, record: &Record) -> Result<proto::RecordedEvent, LogError> {
        let signed = SignedEvent::decode(record.signed.clone())
            .map_err(|fault| LogError::Damaged(format!("event at sequence {}: {fault}", record.sequence)))?;
        Ok(proto::RecordedEvent {
            signed: Some(signed),
            position: self.position(record.sequence).to_string(),
            accepted_time: Some(timestamp(record.accepted_time_ns)),
            origin: Some(self.origin(record)),
            via: record.origin.as_ref().map(|origin| via(origin)).unwrap_or_default(),
        })
    }

    /// Events with what this node knows of them, as [`Self::recorded`] says it, encoded at once: their bytes are copied from the log's
    /// once, and not looked into.
    #[must_use]
    pub fn batch(&self, records: &[Record]) -> EventBatch {
        let bytes = records.iter().map(|record| record.signed.len() + FACTS_BYTES).sum();
        let (mut encoded, mut facts) = (Vec::with_capacity(bytes), Vec::with_capacity(FACTS_BYTES));
        let mut own = None;
        for record in records {
            facts.clear();
            self.put_facts(record, &mut own, &mut facts);
            let signed = record.signed.len();
            let whole = key_len(tag::SIGNED) + encoded_len_varint(signed as u64) + signed + facts.len();
            encode_key(EVENTS_TAG, WireType::LengthDelimited, &mut encoded);
            encode_varint(whole as u64, &mut encoded);
            encode_key(tag::SIGNED, WireType::LengthDelimited, &mut encoded);
            encode_varint(signed as u64, &mut encoded);
            encoded.extend_from_slice(&record.signed);
            encoded.extend_from_slice(&facts);
        }
        EventBatch { events: Vec::new(), encoded: encoded.into() }
    }

    /// Everything of a `RecordedEvent` but the event. `own` keeps what the origins of this node's own events have in common.
    fn put_facts(&self, record: &Record, own: &mut Option<(Epoch, proto::Origin)>, into: &mut Vec<u8>) {
        let mut position = [0; 64];
        let mut rest = &mut position[..];
        write!(rest, "{}", self.position(record.sequence)).expect("a position takes 53 bytes at most");
        let length = 64 - rest.len();
        encode_key(tag::POSITION, WireType::LengthDelimited, into);
        encode_varint(length as u64, into);
        into.extend_from_slice(&position[..length]);
        message::encode(tag::ACCEPTED_TIME, &timestamp(record.accepted_time_ns), into);
        if let Some(origin) = &record.origin {
            message::encode(tag::ORIGIN, &self.origin(record), into);
            string::encode_repeated(tag::VIA, &via(origin), into);
            return;
        }
        let life = self.life_of(record.sequence);
        let (_, origin) = match own.take() {
            Some(known) if known.0 == life => own.insert(known),
            _ => own.insert((life, self.origin(record))),
        };
        origin.sequence = record.sequence.get();
        origin.accepted_time = Some(timestamp(record.accepted_time_ns));
        message::encode(tag::ORIGIN, origin, into);
    }

    /// Where the event was first admitted.
    #[must_use]
    pub fn origin(&self, record: &Record) -> proto::Origin {
        match &record.origin {
            Some(origin) => proto::Origin {
                node: origin.node.to_string(),
                epoch: origin.epoch.to_string(),
                sequence: origin.sequence.get(),
                accepted_time: Some(timestamp(origin.accepted_time_ns)),
            },
            None => proto::Origin {
                node: self.node.to_string(),
                epoch: self.life_of(record.sequence).to_string(),
                sequence: record.sequence.get(),
                accepted_time: Some(timestamp(record.accepted_time_ns)),
            },
        }
    }

    /// The life of this log in which a place was written: what stands up to a fork was taken over from the life before.
    fn life_of(&self, sequence: Sequence) -> Epoch {
        let written_in = self.epochs.iter().find(|life| life.fork < sequence || life.parent.is_none());
        written_in.or(self.epochs.last()).expect("a log has at least its present epoch").epoch
    }
}

fn via(origin: &OriginFacts) -> Vec<String> {
    origin.via.iter().map(ToString::to_string).collect()
}

/// A time of ours as protobuf has it.
#[must_use]
pub fn timestamp(time_ns: i64) -> Timestamp {
    const SECOND_NS: i64 = 1_000_000_000;
    Timestamp { seconds: time_ns.div_euclid(SECOND_NS), nanos: time_ns.rem_euclid(SECOND_NS) as i32 }
}

/// A time of protobuf as ours, nanoseconds since 1970; none where it is malformed or beyond the years that 64 bits hold (1677 to 2262).
#[must_use]
pub fn time_ns(time: &Timestamp) -> Option<i64> {
    if !(0..1_000_000_000).contains(&time.nanos) {
        return None;
    }
    time.seconds.checked_mul(1_000_000_000)?.checked_add(i64::from(time.nanos))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::{clock::TestClock, log::MemoryLog};

    fn epoch(number: u128) -> Epoch {
        Epoch(Uuid::from_u128(number))
    }

    fn recorder() -> Recorder {
        let life =
            |number, parent, fork| EpochFacts { epoch: epoch(number), parent, fork: Sequence(fork), open_time_ns: 0 };
        let lives = vec![life(2, Some(epoch(1)), 10), life(1, None, 0)];
        let log = MemoryLog::with_epochs(Arc::new(TestClock::at_ns(0)), |a, b| a == b, lives);
        Recorder::new(SpiffeId::parse("spiffe://exchange.gov.pk/node/khi-1").expect("a good name"), &log)
    }

    fn record(sequence: u64, signed: &[u8]) -> Record {
        Record {
            sequence: Sequence(sequence),
            accepted_time_ns: 1_500_000_000,
            origin: None,
            header: Bytes::new(),
            signed: Bytes::copy_from_slice(signed),
        }
    }

    #[test]
    fn positions_are_of_the_present_life_and_origins_of_the_life_that_admitted() {
        let signed = SignedEvent { event: Bytes::from_static(b"raw bytes"), signature: None };
        let recorder = recorder();
        for (sequence, life) in [(10, 1), (11, 2)] {
            let recorded = recorder.recorded(&record(sequence, &signed.encode_to_vec())).expect("well formed");
            assert_eq!(recorded.signed.as_ref(), Some(&signed));
            assert_eq!(recorded.position, format!("{}-{sequence}", epoch(2)));
            assert_eq!(recorded.origin.expect("always said").epoch, epoch(life).to_string());
            assert_eq!(recorded.accepted_time, Some(Timestamp { seconds: 1, nanos: 500_000_000 }));
        }
        assert!(matches!(recorder.recorded(&record(1, b"\xff")), Err(LogError::Damaged(_))));
    }

    #[test]
    fn a_batch_says_what_its_events_say_one_by_one() {
        let name = |name: &str| SpiffeId::parse(name).expect("a good name");
        let signed = |bytes: &'static [u8]| SignedEvent { event: Bytes::from_static(bytes), signature: None };
        let origin = OriginFacts {
            node: name("spiffe://exchange.gov.cl/node/vap-1"),
            epoch: epoch(7),
            sequence: Sequence(99),
            accepted_time_ns: -1,
            via: vec![name("spiffe://exchange.gov.pk/node/a"), name("spiffe://exchange.gov.pk/node/b")],
        };
        let taken = Record { origin: Some(Arc::new(origin)), ..record(u64::MAX, &signed(&[9; 9_000]).encode_to_vec()) };
        let records = [record(10, b""), taken, record(11, &signed(b"raw").encode_to_vec())];
        let recorder = recorder();
        let events = records.iter().map(|record| recorder.recorded(record).expect("well formed")).collect();
        let one_by_one = EventBatch { events, ..EventBatch::default() };
        let batch = recorder.batch(&records);
        assert_eq!(EventBatch::decode(&*batch.encode_to_vec()).expect("well formed"), one_by_one);
        assert_eq!(
            (batch.encode_to_vec(), batch.encoded_len()),
            (one_by_one.encode_to_vec(), one_by_one.encoded_len())
        );
    }

    #[test]
    fn times_go_there_and_back() {
        for time in [0, -1, 1_790_000_000_123_456_789, i64::MIN, i64::MAX] {
            if let Some(back) = time_ns(&timestamp(time)) {
                assert_eq!(back, time);
            } else {
                assert_eq!(time, i64::MIN, "only the very first second cannot be computed");
            }
        }
        assert_eq!(time_ns(&Timestamp { seconds: 1, nanos: -1 }), None);
        assert_eq!(time_ns(&Timestamp { seconds: i64::MAX, nanos: 0 }), None);
    }
}
