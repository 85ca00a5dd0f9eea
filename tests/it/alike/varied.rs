//! What else events may say, so that each term of a filter finds some and misses others: places, parties, subjects, goods and bodies
//! beyond those of the voyage. It keeps to what the publish door takes.

use tradelane::{
    testing::events,
    wire::proto::{
        Alarm, Condition, Document, DocumentStep, Emission, Event, Facility, FacilityScheme, IdentifierKind, Party,
        PartyRole, Place, PlaceKind, PlaceRole, Procedure, Subject, SubjectRole, TransportMode, event::Body,
    },
};

use super::made::Maker;

impl Maker {
    /// Adds to an event, or changes, what its body leaves open.
    pub fn vary(&mut self, event: &mut Event) {
        if self.one_in(3) {
            event.commodity_codes = vec![self.pick(&["870323", "870410", "010121"]).to_owned()];
        }
        if self.one_in(3) {
            event.procedure = self.pick(&[Procedure::Import, Procedure::Export, Procedure::Transit]).into();
        }
        if self.one_in(3) {
            event.mode = self.pick(&[TransportMode::Maritime, TransportMode::Rail, TransportMode::Air]).into();
        }
        if self.one_in(3) {
            let train = self.train();
            event.subjects.retain(|known| known.kind() != IdentifierKind::Train);
            event.subjects.push(train);
        }
        if self.one_in(3) {
            let role = self.pick(&[PlaceRole::Loading, PlaceRole::Discharge, PlaceRole::Destination]);
            event.places.push(Place { role: role.into(), ..self.place() });
        }
    }

    /// Numbers of trains repeat: by railway and by day.
    fn train(&mut self) -> Subject {
        let role = self.pick(&[SubjectRole::Unspecified, SubjectRole::CarriedBy]);
        let issuer = self.pick(&["PKR", "DBC"]);
        let date = self.pick(&["2026-01-01", "2026-01-02"]).to_owned();
        Subject { date, ..events::subject(IdentifierKind::Train, "T788", issuer, role) }
    }

    /// Where something happens: a place with its code, or a country alone.
    pub fn place(&mut self) -> Place {
        let un_locode = self.pick(&["PKKHI", "CLVAP", "CNSHA", ""]);
        let country_code = if un_locode.is_empty() { self.pick(&["PK", "CN"]) } else { "" };
        let kind = self.pick(&[PlaceKind::Unspecified, PlaceKind::Port, PlaceKind::Terminal]);
        let scheme = self.pick(&[FacilityScheme::Smdg, FacilityScheme::National]);
        let facility = Facility { scheme: scheme.into(), code: self.pick(&["KICT", "TPS"]).to_owned() };
        Place {
            kind: kind.into(),
            un_locode: un_locode.to_owned(),
            country_code: country_code.to_owned(),
            facility: self.one_in(2).then_some(facility),
            ..events::place(PlaceRole::Event)
        }
    }

    /// Named as a participant, by an identifier, or by both.
    pub fn party(&mut self) -> Party {
        let role = self.pick(&[PartyRole::Declarant, PartyRole::Carrier]);
        let (scheme, id) = self.pick(&[("", ""), ("SCAC", "MAEU"), ("SCAC", "OOLU"), ("EORI", "MAEU")]);
        let participant = if scheme.is_empty() || self.one_in(2) { self.caller() } else { String::new() };
        Party { role: role.into(), participant, scheme: scheme.to_owned(), id: id.to_owned() }
    }

    /// Bodies that the voyage has none of, for an event about a container.
    pub fn other_body(&mut self) -> Body {
        match self.rng.u32(..3) {
            0 => {
                let step = self.pick(&[DocumentStep::Issued, DocumentStep::Drafted]);
                Body::Document(Document { step: step.into(), type_code: "705".to_owned(), ..Document::default() })
            }
            1 => Body::Condition(Condition { alarm: Alarm::Condition.into(), ..Condition::default() }),
            _ => Body::Emission(Emission { method: "ISO 14083:2023".to_owned(), ..Emission::default() }),
        }
    }
}
