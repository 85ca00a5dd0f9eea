//! A realistic voyage as events: a container is discharged at Karachi, its declaration is lodged, held, inspected and released, and it
//! leaves through the gate. Every event is valid by the rules of the publish door; ids are derived from what an event says, so that the
//! same call gives the same events again. It never reads a clock.

use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;
use uuid::Uuid;

use crate::wire::{
    SignedEvent,
    proto::{
        Association, AssociationStep, Audience, Classifier, Clearance, ClearanceStep, Event, Facility, FacilityScheme,
        Handling, HandlingStep, Hold, HoldKind, HoldStep, IdentifierKind, Inspection, InspectionKind, InspectionResult,
        InspectionStep, LoadStatus, Movement, MovementStep, Party, PartyRole, Place, PlaceKind, PlaceRole, Procedure,
        Reach, Reason, Revision, RevisionKind, RevisionReason, Subject, SubjectRole, Traffic, TransportMode,
        event::Body,
    },
};

/// The terminal that discharges and opens the gate.
pub const TERMINAL: &str = "spiffe://port.karachi.pk/terminal/kict";
/// The customs agency.
pub const CUSTOMS: &str = "spiffe://customs.gov.pk/agency/karachi";
/// The ocean carrier.
pub const CARRIER: &str = "spiffe://maersk.example/line/maeu";
/// The importer's broker, who declares the goods.
pub const BROKER: &str = "spiffe://indus-brokers.pk/broker/khi";

/// One second, one minute and one hour, in nanoseconds.
pub const SECOND_NS: i64 = 1_000_000_000;
/// One minute in nanoseconds.
pub const MINUTE_NS: i64 = 60 * SECOND_NS;
/// One hour in nanoseconds.
pub const HOUR_NS: i64 = 60 * MINUTE_NS;

/// One container on its way through the port. Its first event happens at `start_ns`, its last [`Voyage::LASTS_NS`] later.
#[derive(Debug, Clone)]
pub struct Voyage {
    /// The container, with its check digit.
    pub container: String,
    /// The carrier's bill of lading, with the carrier's code as issuer.
    pub bill: String,
    /// The national declaration.
    pub declaration: String,
    /// When the vessel arrives, nanoseconds since 1970.
    pub start_ns: i64,
}

impl Voyage {
    /// From the vessel's arrival to the gate.
    pub const LASTS_NS: i64 = 30 * HOUR_NS;

    /// The voyage of the n-th container; `n` below a million.
    #[must_use]
    pub fn new(n: u32, start_ns: i64) -> Self {
        let declaration = format!("KAPW-HC-{:06}", n % 1_000_000);
        Self { container: container_number(n), bill: format!("{}", 584_000_000 + n), declaration, start_ns }
    }

    /// The whole voyage in order of time.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        vec![
            self.vessel_arrived(),
            self.attached(),
            self.discharged(),
            self.lodged(),
            self.held(),
            self.inspection_ordered(),
            self.inspected(),
            self.lifted(),
            self.released(),
            self.gated_out(),
        ]
    }

    /// The vessel arrives.
    #[must_use]
    pub fn vessel_arrived(&self) -> Event {
        let subjects = vec![
            subject(IdentifierKind::VesselImo, "9321483", "", SubjectRole::Primary),
            subject(IdentifierKind::Voyage, "447W", "MAEU", SubjectRole::Primary),
        ];
        let movement = Movement { step: MovementStep::Arrived.into(), ..Movement::default() };
        let event = event(TERMINAL, self.start_ns, subjects, Body::Movement(movement));
        Event { places: vec![terminal(PlaceRole::Event)], mode: TransportMode::Maritime.into(), ..event }.with_id()
    }

    /// The bill covers the container and the declaration, and names the broker.
    #[must_use]
    pub fn attached(&self) -> Event {
        let association = Association {
            step: AssociationStep::Attached.into(),
            parent: Some(self.bill_subject()),
            children: vec![self.container_subject(), self.declaration_subject()],
            parties: vec![Party { role: PartyRole::Declarant.into(), participant: BROKER.into(), ..Party::default() }],
            complete: true,
        };
        let event = event(CARRIER, self.start_ns + HOUR_NS, vec![self.bill_subject()], Body::Association(association));
        event.with_id()
    }

    /// The container is discharged.
    #[must_use]
    pub fn discharged(&self) -> Event {
        self.handling(HandlingStep::Discharged, 4 * HOUR_NS)
    }

    /// The declaration is lodged.
    #[must_use]
    pub fn lodged(&self) -> Event {
        self.clearance(ClearanceStep::Lodged, 6 * HOUR_NS)
    }

    /// Customs hold the goods.
    #[must_use]
    pub fn held(&self) -> Event {
        self.hold(HoldStep::Placed, 7 * HOUR_NS)
    }

    /// Customs order a scan.
    #[must_use]
    pub fn inspection_ordered(&self) -> Event {
        self.inspection(InspectionStep::Ordered, InspectionResult::Unspecified, 8 * HOUR_NS)
    }

    /// The scan shows nothing wrong.
    #[must_use]
    pub fn inspected(&self) -> Event {
        self.inspection(InspectionStep::Completed, InspectionResult::Satisfactory, 20 * HOUR_NS)
    }

    /// The hold is lifted.
    #[must_use]
    pub fn lifted(&self) -> Event {
        self.hold(HoldStep::Lifted, 21 * HOUR_NS)
    }

    /// The goods are released.
    #[must_use]
    pub fn released(&self) -> Event {
        self.clearance(ClearanceStep::Released, 22 * HOUR_NS)
    }

    /// The container leaves through the gate.
    #[must_use]
    pub fn gated_out(&self) -> Event {
        self.handling(HandlingStep::GatedOut, Self::LASTS_NS)
    }

    /// The container as a subject.
    #[must_use]
    pub fn container_subject(&self) -> Subject {
        subject(IdentifierKind::Container, &self.container, "", SubjectRole::Primary)
    }

    /// The bill of lading as a subject.
    #[must_use]
    pub fn bill_subject(&self) -> Subject {
        subject(IdentifierKind::BillOfLading, &self.bill, "MAEU", SubjectRole::Primary)
    }

    /// The declaration as a subject.
    #[must_use]
    pub fn declaration_subject(&self) -> Subject {
        subject(IdentifierKind::Declaration, &self.declaration, "PK", SubjectRole::Primary)
    }

    fn handling(&self, step: HandlingStep, after_ns: i64) -> Event {
        let handling = Handling {
            step: step.into(),
            size_type: "45G1".into(),
            load_status: LoadStatus::Laden.into(),
            traffic: Traffic::Import.into(),
            gross_mass_grams: 21_480_000,
            ..Handling::default()
        };
        let subjects = vec![self.container_subject(), self.bill_subject()];
        let event = event(TERMINAL, self.start_ns + after_ns, subjects, Body::Handling(handling));
        let loaded_at = Place { un_locode: "CNSHA".into(), ..place(PlaceRole::Loading) };
        Event { places: vec![terminal(PlaceRole::Event), loaded_at], ..event }.with_id()
    }

    fn clearance(&self, step: ClearanceStep, after_ns: i64) -> Event {
        let clearance = Clearance { step: step.into(), ..Clearance::default() };
        let subjects = vec![self.declaration_subject(), self.container_subject()];
        let event = event(CUSTOMS, self.start_ns + after_ns, subjects, Body::Clearance(clearance));
        Event {
            places: vec![office()],
            commodity_codes: vec!["870323".into()],
            procedure: Procedure::Import.into(),
            ..event
        }
        .with_id()
    }

    fn hold(&self, step: HoldStep, after_ns: i64) -> Event {
        let hold = Hold {
            step: step.into(),
            hold_id: format!("H-{}", self.declaration),
            kind: HoldKind::Customs.into(),
            reasons: vec![Reason {
                scheme: "UNCL7365".into(),
                code: "7".into(),
                text: "Selected by risk profile".into(),
            }],
        };
        let subjects = vec![self.declaration_subject(), self.container_subject()];
        let event = event(CUSTOMS, self.start_ns + after_ns, subjects, Body::Hold(hold));
        Event { places: vec![office()], ..event }.with_id()
    }

    fn inspection(&self, step: InspectionStep, result: InspectionResult, after_ns: i64) -> Event {
        let inspection = Inspection {
            step: step.into(),
            kind: InspectionKind::Scan.into(),
            result: result.into(),
            ..Inspection::default()
        };
        let subjects = vec![self.container_subject(), self.declaration_subject()];
        let event = event(CUSTOMS, self.start_ns + after_ns, subjects, Body::Inspection(inspection));
        Event { places: vec![terminal(PlaceRole::Event), office()], ..event }.with_id()
    }
}

impl Event {
    /// Gives the event the id that follows from what it says, after something in it was changed.
    #[must_use]
    pub fn with_id(mut self) -> Self {
        self.event_id.clear();
        self.event_id = Uuid::new_v5(&Uuid::NAMESPACE_URL, &self.encode_to_vec()).to_string();
        self
    }

    /// A correction of the event: the same statement, with what `change` changes, one minute later.
    #[must_use]
    pub fn corrected(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut correction = Self { revision: Some(self.revision(RevisionKind::Correct)), ..self.clone() };
        correction.created_time = Some(timestamp(self.created_ns() + MINUTE_NS));
        change(&mut correction);
        correction.with_id()
    }

    /// A retraction of the event, one minute later.
    #[must_use]
    pub fn retracted(&self) -> Self {
        Self {
            revision: Some(self.revision(RevisionKind::Retract)),
            created_time: Some(timestamp(self.created_ns() + MINUTE_NS)),
            body: None,
            ..self.clone()
        }
        .with_id()
    }

    /// The event as it travels, without a signature.
    #[must_use]
    pub fn unsigned(&self) -> SignedEvent {
        SignedEvent { event: Bytes::from(self.encode_to_vec()), signature: None }
    }

    fn revision(&self, kind: RevisionKind) -> Revision {
        Revision {
            kind: kind.into(),
            event_id: self.event_id.clone(),
            reason: RevisionReason::IncorrectData.into(),
            note: String::new(),
        }
    }

    fn created_ns(&self) -> i64 {
        self.created_time.map_or(0, |time| time.seconds * SECOND_NS + i64::from(time.nanos))
    }
}

/// An actual event for the whole network, created a minute after it happened and still without an id.
#[must_use]
pub fn event(publisher: &str, event_time_ns: i64, subjects: Vec<Subject>, body: Body) -> Event {
    Event {
        publisher: publisher.into(),
        event_time: Some(timestamp(event_time_ns)),
        utc_offset_minutes: Some(300),
        created_time: Some(timestamp(event_time_ns + MINUTE_NS)),
        classifier: Classifier::Actual.into(),
        subjects,
        audience: Some(Audience { reach: Reach::Network.into(), participants: Vec::new() }),
        body: Some(body),
        ..Event::default()
    }
}

/// A subject.
#[must_use]
pub fn subject(kind: IdentifierKind, value: &str, issuer: &str, role: SubjectRole) -> Subject {
    Subject { kind: kind.into(), value: value.into(), issuer: issuer.into(), date: String::new(), role: role.into() }
}

/// The terminal at Karachi, by its SMDG code.
#[must_use]
pub fn terminal(role: PlaceRole) -> Place {
    Place {
        kind: PlaceKind::Terminal.into(),
        un_locode: "PKKHI".into(),
        facility: Some(Facility { scheme: FacilityScheme::Smdg.into(), code: "KICT".into() }),
        ..place(role)
    }
}

/// The customs office that is responsible.
#[must_use]
pub fn office() -> Place {
    Place { kind: PlaceKind::CustomsOffice.into(), un_locode: "PKKHI".into(), ..place(PlaceRole::Office) }
}

/// A place with nothing but its role.
#[must_use]
pub fn place(role: PlaceRole) -> Place {
    Place { role: role.into(), ..Place::default() }
}

/// A time as protobuf has it.
#[must_use]
pub fn timestamp(time_ns: i64) -> Timestamp {
    Timestamp { seconds: time_ns.div_euclid(SECOND_NS), nanos: time_ns.rem_euclid(SECOND_NS) as i32 }
}

/// The n-th container number of an owner (`TLNU`), with its check digit (ISO 6346); `n` below a million.
#[must_use]
pub fn container_number(n: u32) -> String {
    let number = format!("TLNU{:06}", n % 1_000_000);
    // A = 10, B = 12 ... without the multiples of eleven: T = 31, L = 23, N = 25, U = 32.
    let letters = [31_u32, 23, 25, 32];
    let digits = number[4..].bytes().map(|digit| u32::from(digit - b'0'));
    let sum: u32 = letters.into_iter().chain(digits).zip(0..).map(|(value, power)| value << power).sum();
    format!("{number}{}", sum % 11 % 10)
}
