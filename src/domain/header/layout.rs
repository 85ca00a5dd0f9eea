//! The stored form of a routing header. It never changes within a version: headers are kept for ever beside their events.
//!
//! ```text
//! version (1) | flags | event id (16) | revised event id (16, only where flags say so) | ten counts | entries | text
//! ```
//! Counts, and the lengths of texts, are LEB128 numbers of at most three bytes. An entry has its plain bytes first, then the lengths of
//! its texts; the texts themselves stand together at the end, in the order of the entries, so that one check proves them to be UTF-8 and
//! reading in place needs no copy. The publisher's name is the first text and has no count, since there is always one.
//!
//! A new version gets a new first byte and a reader of its own beside this one.

use super::{AudienceTerm, RoutingHeader};

/// The version that is written.
pub(super) const VERSION: u8 = 1;

/// It is a revision: the revised event's id follows.
pub(super) const FLAG_REVISES: u8 = 0b0000_0001;
/// The revision is a retraction.
pub(super) const FLAG_RETRACTS: u8 = 0b0000_0010;
/// The revision could not be resolved.
pub(super) const FLAG_UNRESOLVED: u8 = 0b0000_0100;
/// Where the audience's two bits begin: 0 private, 1 named, 2 network.
pub(super) const AUDIENCE_SHIFT: u8 = 3;
/// The audience's two bits.
pub(super) const AUDIENCE_MASK: u8 = 0b11;
/// Audience: private.
pub(super) const AUDIENCE_PRIVATE: u8 = 0;
/// Audience: those named.
pub(super) const AUDIENCE_NAMED: u8 = 1;
/// Audience: the network.
pub(super) const AUDIENCE_NETWORK: u8 = 2;

/// What one entry of a section is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Plain bytes.
    pub bytes: usize,
    /// Texts.
    pub texts: usize,
}

/// The sections in their order; the numbers index [`SHAPES`].
pub(super) mod section {
    pub const PUBLISHER: usize = 0;
    pub const TYPES: usize = 1;
    pub const CLASSIFIERS: usize = 2;
    pub const PROCEDURES: usize = 3;
    pub const MODES: usize = 4;
    pub const EVENT_TIMES: usize = 5;
    pub const COMMODITY_CODES: usize = 6;
    pub const SUBJECTS: usize = 7;
    pub const PLACES: usize = 8;
    pub const PARTIES: usize = 9;
    pub const NAMED: usize = 10;
    pub const COUNT: usize = 11;
}

/// What each section's entries are made of.
pub(super) const SHAPES: [Shape; section::COUNT] = [
    Shape { bytes: 0, texts: 1 },
    Shape { bytes: 2, texts: 0 },
    Shape { bytes: 1, texts: 0 },
    Shape { bytes: 1, texts: 0 },
    Shape { bytes: 1, texts: 0 },
    Shape { bytes: 8, texts: 0 },
    Shape { bytes: 0, texts: 1 },
    Shape { bytes: 2, texts: 3 },
    Shape { bytes: 3, texts: 3 },
    Shape { bytes: 1, texts: 3 },
    Shape { bytes: 0, texts: 1 },
];

/// The largest number that three LEB128 bytes hold: far above what an event of 64 KiB can contain.
const NUMBER_MAX: usize = (1 << 21) - 1;

/// Where a header is encoded: its room serves one header after the other.
#[derive(Debug, Default)]
pub struct HeaderWriter {
    bytes: Vec<u8>,
    text: String,
}

pub(super) fn encode<'a>(header: &RoutingHeader, writer: &'a mut HeaderWriter) -> &'a [u8] {
    let named: &[_] = match &header.audience {
        AudienceTerm::Named(patterns) => patterns,
        AudienceTerm::Private | AudienceTerm::Network => &[],
    };
    writer.bytes.clear();
    writer.text.clear();
    writer.bytes.extend([VERSION, flags(header)]);
    writer.bytes.extend(header.event_id.as_bytes());
    if let Some(revised) = header.revises {
        writer.bytes.extend(revised.event_id.as_bytes());
    }
    for count in [
        header.types.len(),
        header.classifiers.len(),
        header.procedures.len(),
        header.modes.len(),
        header.event_times_ns.len(),
        header.commodity_codes.len(),
        header.subjects.len(),
        header.places.len(),
        header.parties.len(),
        named.len(),
    ] {
        writer.number(count);
    }
    writer.text(header.publisher.as_str());
    header.types.iter().for_each(|one| writer.bytes.extend([one.body, one.step]));
    writer.bytes.extend(&header.classifiers);
    writer.bytes.extend(&header.procedures);
    writer.bytes.extend(&header.modes);
    header.event_times_ns.iter().for_each(|time_ns| writer.bytes.extend(time_ns.to_le_bytes()));
    header.commodity_codes.iter().for_each(|code| writer.text(code));
    for subject in &header.subjects {
        writer.bytes.extend([subject.kind, subject.role]);
        writer.texts([&subject.value, &subject.issuer, &subject.date]);
    }
    for place in &header.places {
        writer.bytes.extend([place.role, place.kind, place.facility_scheme]);
        writer.texts([&place.un_locode, &place.country_code, &place.facility_code]);
    }
    for party in &header.parties {
        writer.bytes.push(party.role);
        writer.texts([&party.participant, &party.scheme, &party.id]);
    }
    for pattern in named {
        writer.text(pattern.as_str());
    }
    writer.bytes.extend_from_slice(writer.text.as_bytes());
    &writer.bytes
}

fn flags(header: &RoutingHeader) -> u8 {
    let audience = match header.audience {
        AudienceTerm::Private => AUDIENCE_PRIVATE,
        AudienceTerm::Named(_) => AUDIENCE_NAMED,
        AudienceTerm::Network => AUDIENCE_NETWORK,
    };
    let revision = match header.revises {
        None => 0,
        Some(revised) if revised.retract => FLAG_REVISES | FLAG_RETRACTS,
        Some(_) => FLAG_REVISES,
    };
    let unresolved = if header.revision_unresolved { FLAG_UNRESOLVED } else { 0 };
    audience << AUDIENCE_SHIFT | revision | unresolved
}

impl HeaderWriter {
    fn number(&mut self, value: usize) {
        put_number(&mut self.bytes, value);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.text.push_str(text);
    }

    fn texts(&mut self, texts: [&String; 3]) {
        for text in texts {
            self.text(text);
        }
    }
}

/// Appends one number.
pub(super) fn put_number(into: &mut Vec<u8>, mut value: usize) {
    // Events and headers take 64 KiB at the most, so nothing in a header can be counted higher.
    debug_assert!(value <= NUMBER_MAX, "a header cannot hold {value} of anything");
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// Reads one number at the front of the bytes, and says how many bytes it took.
pub(super) fn read_number(bytes: &[u8]) -> Option<(usize, usize)> {
    let first = usize::from(*bytes.first()?);
    if first < 0x80 {
        return Some((first, 1));
    }
    let second = usize::from(*bytes.get(1)?);
    let low = first & 0x7f | (second & 0x7f) << 7;
    if second < 0x80 {
        return Some((low, 2));
    }
    let third = usize::from(*bytes.get(2)?);
    (third < 0x80).then_some((low | third << 14, 3))
}
