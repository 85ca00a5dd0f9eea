//! A stored routing header, read in place: checked once, then iterated without allocation. It never trusts a length that it has not
//! checked, and never panics on damaged bytes.

use super::{
    AudienceTerm, HeaderMalformed, PartyTerm, PlaceTerm, RevisionTerm, RoutingHeader, SubjectTerm, TypeStep,
    entries::Entries,
    layout::{self, SHAPES, section},
};
use crate::domain::{EventId, SpiffeId, SpiffePattern, bindings::SubjectKey, spiffe::pattern_matches};

/// An encoded header, read in place: matching and indexing allocate nothing.
#[derive(Debug, Clone, Copy)]
pub struct HeaderRef<'a> {
    bytes: &'a [u8],
    text: &'a str,
    sections: [Section; section::COUNT],
}

/// Where a section stands.
#[derive(Debug, Clone, Copy, Default)]
struct Section {
    at: u32,
    text_at: u32,
    count: u32,
}

/// One subject, in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubjectRef<'a> {
    /// `IdentifierKind` by enum value.
    pub kind: u8,
    /// `SubjectRole` by enum value.
    pub role: u8,
    /// The canonical value.
    pub value: &'a str,
    /// The scope of the number, or empty.
    pub issuer: &'a str,
    /// `YYYY-MM-DD`, or empty.
    pub date: &'a str,
}

/// One place, in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaceRef<'a> {
    /// `PlaceRole` by enum value.
    pub role: u8,
    /// `PlaceKind` by enum value.
    pub kind: u8,
    /// `FacilityScheme` by enum value, or 0.
    pub facility_scheme: u8,
    /// UN/LOCODE, or empty.
    pub un_locode: &'a str,
    /// ISO 3166-1 alpha-2, or empty.
    pub country_code: &'a str,
    /// The facility's code, or empty.
    pub facility_code: &'a str,
}

/// One party, in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartyRef<'a> {
    /// `PartyRole` by enum value.
    pub role: u8,
    /// SPIFFE ID, or empty.
    pub participant: &'a str,
    /// Identifier scheme, or empty.
    pub scheme: &'a str,
    /// Identifier, or empty.
    pub id: &'a str,
}

/// Who may see the event at most, in place.
#[derive(Debug, Clone, Copy)]
pub enum AudienceRef<'a> {
    /// Its publisher, and whom a grant for private events allows.
    Private,
    /// Those named (SPIFFE IDs, or prefixes that end in `/*`), and the publisher.
    Named(Entries<'a, &'a str>),
    /// Whoever the grants allow.
    Network,
}

impl<'a> SubjectRef<'a> {
    /// The subject as bindings know it: what it is, without its role.
    #[must_use]
    pub const fn key(&self) -> SubjectKey<'a> {
        SubjectKey { kind: self.kind, value: self.value, issuer: self.issuer, date: self.date }
    }
}

impl AudienceRef<'_> {
    /// Whether the audience names this participant, exactly or by a prefix; false unless it is a named audience.
    #[must_use]
    pub fn names(self, participant: &str) -> bool {
        match self {
            Self::Named(mut patterns) => patterns.any(|pattern| pattern_matches(pattern, participant)),
            Self::Private | Self::Network => false,
        }
    }
}

impl<'a> HeaderRef<'a> {
    /// Checks a stored header and reads it in place.
    ///
    /// # Errors
    /// The bytes are cut short, too long, or of an unknown version.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HeaderMalformed> {
        let malformed = |at: usize| HeaderMalformed { at };
        let [version, flags, ..] = *bytes else { return Err(malformed(bytes.len())) };
        if version != layout::VERSION {
            return Err(malformed(0));
        }
        if (flags >> layout::AUDIENCE_SHIFT) & layout::AUDIENCE_MASK > layout::AUDIENCE_NETWORK {
            return Err(malformed(1));
        }
        let mut at = if flags & layout::FLAG_REVISES == 0 { 18 } else { 34 };
        let mut sections = [Section { count: 1, ..Section::default() }; section::COUNT];
        for counted in &mut sections[section::TYPES..] {
            let (count, taken) = bytes.get(at..).and_then(layout::read_number).ok_or(malformed(at))?;
            counted.count = count as u32;
            at += taken;
        }
        let mut text_at = 0;
        for (found, shape) in sections.iter_mut().zip(SHAPES) {
            found.at = at as u32;
            found.text_at = text_at as u32;
            if shape.texts == 0 {
                at += shape.bytes * found.count as usize;
                continue;
            }
            for _ in 0..found.count {
                at += shape.bytes;
                for _ in 0..shape.texts {
                    let (length, taken) = bytes.get(at..).and_then(layout::read_number).ok_or(malformed(at))?;
                    at += taken;
                    text_at += length;
                }
            }
        }
        let (_, text) = bytes.split_at_checked(at).ok_or(malformed(bytes.len()))?;
        if text.len() != text_at {
            return Err(malformed(at));
        }
        let text = std::str::from_utf8(text).map_err(|_| malformed(at))?;
        let header = Self { bytes, text, sections };
        if text.is_ascii() || header.texts_are_whole() { Ok(header) } else { Err(malformed(at)) }
    }

    /// The header as a value.
    ///
    /// # Errors
    /// A name in it is not a SPIFFE ID: the bytes were not written by this program.
    pub fn to_header(&self) -> Result<RoutingHeader, HeaderMalformed> {
        let not_a_name = |_| HeaderMalformed { at: self.sections[section::PUBLISHER].at as usize };
        let audience = match self.audience() {
            AudienceRef::Private => AudienceTerm::Private,
            AudienceRef::Network => AudienceTerm::Network,
            AudienceRef::Named(patterns) => {
                AudienceTerm::Named(patterns.map(SpiffePattern::parse).collect::<Result<_, _>>().map_err(not_a_name)?)
            }
        };
        Ok(RoutingHeader {
            publisher: SpiffeId::parse(self.publisher()).map_err(not_a_name)?,
            event_id: self.event_id(),
            types: self.types().collect(),
            classifiers: self.classifiers().to_vec(),
            event_times_ns: self.event_times_ns().collect(),
            subjects: self.subjects().map(Into::into).collect(),
            places: self.places().map(Into::into).collect(),
            parties: self.parties().map(Into::into).collect(),
            commodity_codes: self.commodity_codes().map(Into::into).collect(),
            procedures: self.procedures().to_vec(),
            modes: self.modes().to_vec(),
            audience,
            revises: self.revises(),
            revision_unresolved: self.revision_unresolved(),
        })
    }

    /// The publisher's name.
    #[must_use]
    pub fn publisher(&self) -> &'a str {
        self.entries::<&'a str>(section::PUBLISHER).next().unwrap_or_default()
    }

    /// The event's id.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        self.id_at(2)
    }

    /// What it revises.
    #[must_use]
    pub fn revises(&self) -> Option<RevisionTerm> {
        let flags = self.flags();
        (flags & layout::FLAG_REVISES != 0)
            .then(|| RevisionTerm { retract: flags & layout::FLAG_RETRACTS != 0, event_id: self.id_at(18) })
    }

    /// True where it is a revision that could not be resolved to the head of a known chain.
    #[must_use]
    pub fn revision_unresolved(&self) -> bool {
        self.flags() & layout::FLAG_UNRESOLVED != 0
    }

    /// Who may see it at most.
    #[must_use]
    pub fn audience(&self) -> AudienceRef<'a> {
        match (self.flags() >> layout::AUDIENCE_SHIFT) & layout::AUDIENCE_MASK {
            layout::AUDIENCE_NETWORK => AudienceRef::Network,
            layout::AUDIENCE_NAMED => AudienceRef::Named(self.entries(section::NAMED)),
            _ => AudienceRef::Private,
        }
    }

    /// Body types and steps.
    #[must_use]
    pub fn types(&self) -> Entries<'a, TypeStep> {
        self.entries(section::TYPES)
    }

    /// Classifiers by enum value.
    #[must_use]
    pub fn classifiers(&self) -> &'a [u8] {
        self.numbers(section::CLASSIFIERS)
    }

    /// Procedures by enum value.
    #[must_use]
    pub fn procedures(&self) -> &'a [u8] {
        self.numbers(section::PROCEDURES)
    }

    /// Modes of transport by enum value.
    #[must_use]
    pub fn modes(&self) -> &'a [u8] {
        self.numbers(section::MODES)
    }

    /// Event times, nanoseconds since 1970.
    #[must_use]
    pub fn event_times_ns(&self) -> Entries<'a, i64> {
        self.entries(section::EVENT_TIMES)
    }

    /// HS codes.
    #[must_use]
    pub fn commodity_codes(&self) -> Entries<'a, &'a str> {
        self.entries(section::COMMODITY_CODES)
    }

    /// Subjects.
    #[must_use]
    pub fn subjects(&self) -> Entries<'a, SubjectRef<'a>> {
        self.entries(section::SUBJECTS)
    }

    /// Places.
    #[must_use]
    pub fn places(&self) -> Entries<'a, PlaceRef<'a>> {
        self.entries(section::PLACES)
    }

    /// Parties.
    #[must_use]
    pub fn parties(&self) -> Entries<'a, PartyRef<'a>> {
        self.entries(section::PARTIES)
    }

    fn flags(&self) -> u8 {
        self.bytes.get(1).copied().unwrap_or_default()
    }

    fn id_at(&self, at: usize) -> EventId {
        EventId::from_bytes(self.bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default())
    }

    fn numbers(&self, index: usize) -> &'a [u8] {
        let Section { at, count, .. } = self.sections[index];
        self.bytes.get(at as usize..(at + count) as usize).unwrap_or_default()
    }

    fn entries<T>(&self, index: usize) -> Entries<'a, T> {
        let Section { at, text_at, count } = self.sections[index];
        let bytes = self.bytes.get(at as usize..).unwrap_or_default();
        let text = self.text.get(text_at as usize..).unwrap_or_default();
        Entries::new(bytes, text, count)
    }

    /// Whether every text begins and ends between characters. Only asked where some text is not ASCII.
    fn texts_are_whole(&self) -> bool {
        let whole = |index: usize, count: usize| self.sections[index].count as usize == count;
        whole(section::PUBLISHER, self.entries::<&str>(section::PUBLISHER).count())
            && whole(section::COMMODITY_CODES, self.commodity_codes().count())
            && whole(section::SUBJECTS, self.subjects().count())
            && whole(section::PLACES, self.places().count())
            && whole(section::PARTIES, self.parties().count())
            && whole(section::NAMED, self.entries::<&str>(section::NAMED).count())
    }
}

impl From<SubjectRef<'_>> for SubjectTerm {
    fn from(one: SubjectRef<'_>) -> Self {
        let SubjectRef { kind, role, value, issuer, date } = one;
        Self { kind, role, value: value.into(), issuer: issuer.into(), date: date.into() }
    }
}

impl From<PlaceRef<'_>> for PlaceTerm {
    fn from(one: PlaceRef<'_>) -> Self {
        Self {
            role: one.role,
            kind: one.kind,
            un_locode: one.un_locode.into(),
            country_code: one.country_code.into(),
            facility_scheme: one.facility_scheme,
            facility_code: one.facility_code.into(),
        }
    }
}

impl From<PartyRef<'_>> for PartyTerm {
    fn from(one: PartyRef<'_>) -> Self {
        let PartyRef { role, participant, scheme, id } = one;
        Self { role, participant: participant.into(), scheme: scheme.into(), id: id.into() }
    }
}
