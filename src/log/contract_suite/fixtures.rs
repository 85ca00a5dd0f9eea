//! Events with ids, contents and places that a test can name by number. It never looks at a log.

use crate::{
    domain::{
        Epoch, EventId, HeaderRef, RoutingHeader, Sequence, SpiffeId,
        header::{PlaceTerm, RevisionTerm},
    },
    log::{Appended, NewEvent, OriginFacts, Record, Verdict},
};

/// Two contents are equal up to what stands behind a bar: as where a gateway stamps anew.
pub fn same_but_for_stamp(a: &[u8], b: &[u8]) -> bool {
    a.split(|byte| *byte == b'|').next() == b.split(|byte| *byte == b'|').next()
}

pub fn publisher() -> SpiffeId {
    SpiffeId::parse("spiffe://port.example/terminal/a").unwrap()
}

pub fn other_publisher() -> SpiffeId {
    SpiffeId::parse("spiffe://port.example/terminal/b").unwrap()
}

pub fn id(number: u16) -> EventId {
    let mut bytes = [7; 16];
    bytes[14..].copy_from_slice(&number.to_be_bytes());
    EventId::from_bytes(bytes)
}

/// The place that an event of this number names.
pub fn locode(number: u16) -> String {
    format!("PK{:03}", number % 1_000)
}

pub fn header(number: u16) -> RoutingHeader {
    let place = PlaceTerm::port(&locode(number), "PK");
    RoutingHeader { places: vec![place], ..RoutingHeader::bare(publisher(), id(number)) }
}

pub fn event_of(header: &RoutingHeader, content: &str) -> NewEvent {
    NewEvent {
        publisher: header.publisher.clone(),
        event_id: header.event_id,
        header: header.encode().into(),
        signed: content.to_owned().into(),
        origin: None,
    }
}

pub fn event(number: u16) -> NewEvent {
    event_of(&header(number), &format!("content {number}"))
}

/// An event large enough that some hundreds leave memory.
pub fn large_event(number: u16) -> NewEvent {
    event_of(&header(number), &format!("content {number} {}", "x".repeat(3_000)))
}

pub fn revision(number: u16, of: u16, retract: bool) -> NewEvent {
    let revises = Some(RevisionTerm { retract, event_id: id(of) });
    event_of(&RoutingHeader { revises, ..header(number) }, &format!("content {number}"))
}

/// The same event as it arrives from another node.
pub fn from_peer(event: NewEvent, sequence: u64) -> NewEvent {
    let origin = OriginFacts {
        node: SpiffeId::parse("spiffe://y.example/node/m").unwrap(),
        epoch: Epoch(uuid::Uuid::from_u128(9)),
        sequence: Sequence(sequence),
        accepted_time_ns: 500,
        via: Vec::new(),
    };
    NewEvent { origin: Some(origin), ..event }
}

/// Where a verdict stored its event.
pub fn stored(verdict: &Verdict) -> Option<Appended> {
    match verdict {
        Verdict::Stored(appended) => Some(*appended),
        Verdict::Refused(_) | Verdict::Withheld => None,
    }
}

/// Each verdict as (sequence, duplicate).
pub fn places(verdicts: &[Verdict]) -> Vec<Option<(u64, bool)>> {
    verdicts.iter().map(|verdict| stored(verdict).map(|at| (at.sequence.get(), at.duplicate))).collect()
}

/// A record's header as a value.
pub fn header_of(record: &Record) -> RoutingHeader {
    HeaderRef::parse(&record.header).and_then(|header| header.to_header()).expect("stored headers are whole")
}
