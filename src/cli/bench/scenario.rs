//! The events of a measurement: the voyage of the demonstration scaled up to thousands of containers and consignments that pass through
//! tens of ports, told by one port community system. The same number gives the same story; only ids are fresh. It never reads a clock.

use bytes::Bytes;
use prost::Message;
use uuid::Uuid;

use crate::{
    cli::demo::scenario::{place, subject},
    domain::freight,
    wire::{
        PublishRequest, SignedEvent,
        proto::{
            Association, AssociationStep, Audience, Classifier, Clearance, ClearanceStep, Event, Facility,
            FacilityScheme, Handling, HandlingStep, Hold, HoldKind, HoldStep, IdentifierKind, Inspection,
            InspectionKind, InspectionResult, InspectionStep, LoadStatus, Movement, MovementStep, Party, PartyRole,
            Place, PlaceKind, PlaceRole, Procedure, Reach, Reason, Source, Subject, Traffic, TransportMode,
            event::Body,
        },
    },
};

/// Who publishes: a port community system speaks for terminals, lines and customs alike.
pub const PUBLISHER: &str = "spiffe://port-community.example/system/pcs";
/// The commodity of one event in [`WATCHED_EVERY`]: what a selective filter looks for.
pub const WATCHED_COMMODITY: &str = "930630";
/// One event in so many concerns the watched commodity.
pub const WATCHED_EVERY: u64 = 1_000;
/// How many containers go round where nothing else is asked for.
pub const CONTAINERS: u64 = 8_000;
/// Between one event and the next: ten million fit into the days between [`LEAD_NS`] and now.
pub const STEP_NS: i64 = 20_000_000;
/// How long before the present the story begins.
pub const LEAD_NS: i64 = 4 * 86_400_000_000_000;

/// So many consignments are under way at once, so that the events of one lie apart, as in life.
const UNDER_WAY: u64 = 1_000;
/// What happens to one consignment.
const STEPS: u64 = 12;

const PORTS: [&str; 40] = [
    "PKKHI", "PKBQM", "CNSHA", "CNNGB", "CNSZX", "CNTAO", "CNXMN", "HKHKG", "SGSIN", "MYPKG", "MYTPP", "KRPUS",
    "JPTYO", "JPYOK", "VNSGN", "THLCH", "IDJKT", "INNSA", "INMUN", "LKCMB", "AEJEA", "AEKHL", "OMSLL", "SAJED",
    "EGPSD", "GRPIR", "MTMAR", "ITGOA", "ESVLC", "ESALG", "MAPTM", "FRLEH", "BEANR", "NLRTM", "DEHAM", "GBFXT",
    "USLAX", "USNYC", "BRSSZ", "CLVAP",
];
const COMMODITIES: [&str; 12] = [
    "870323", "847130", "851713", "610910", "940360", "020130", "080810", "300490", "390120", "520100", "720839",
    "100630",
];

/// Tells the story event by event.
#[derive(Debug, Clone)]
pub struct Story {
    /// The number of the next event.
    next: u64,
    containers: u64,
    start_ns: i64,
}

/// One event with what a query may ask for.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its id.
    pub event_id: String,
    /// The container of its consignment.
    pub container: String,
    /// The declaration of its consignment.
    pub declaration: String,
    /// Where its consignment is discharged.
    pub port: &'static str,
    /// When it happened, nanoseconds since 1970.
    pub event_time_ns: i64,
    /// Whether it concerns the watched commodity.
    pub is_watched: bool,
    /// The encoded event.
    pub bytes: Bytes,
}

/// A request, ready to be sent.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The encoded request.
    pub bytes: Bytes,
    /// How many events it has.
    pub events: usize,
}

impl Story {
    /// A story with so many containers. Its first event happens [`LEAD_NS`] before `now_ns`.
    #[must_use]
    pub const fn new(containers: u64, now_ns: i64) -> Self {
        Self { next: 0, containers, start_ns: now_ns - LEAD_NS }
    }

    /// The next event.
    pub fn tell(&mut self) -> Told {
        let number = self.next;
        self.next += 1;
        let scene = Scene::of(number, self.containers, self.start_ns);
        let event = scene.event();
        Told {
            bytes: event.encode_to_vec().into(),
            event_id: event.event_id,
            container: scene.container_number(),
            declaration: scene.declaration().value,
            port: scene.port(),
            event_time_ns: scene.time_ns,
            is_watched: scene.is_watched(),
        }
    }

    /// A request with the next events.
    pub fn request(&mut self, events: usize) -> Encoded {
        Encoded::of(&(0..events).map(|_| self.tell()).collect::<Vec<_>>())
    }
}

impl Encoded {
    /// A request to publish these.
    #[must_use]
    pub fn of(told: &[Told]) -> Self {
        let signed = told.iter().map(|told| SignedEvent { event: told.bytes.clone(), signature: None });
        let request = PublishRequest { events: signed.collect(), on_invalid: 0 };
        Self { bytes: request.encode_to_vec().into(), events: told.len() }
    }
}

/// One event's place in the story.
struct Scene {
    number: u64,
    consignment: u64,
    step: u64,
    container: u64,
    time_ns: i64,
}

impl Scene {
    fn of(number: u64, containers: u64, start_ns: i64) -> Self {
        let round = number / (UNDER_WAY * STEPS);
        let step = number / UNDER_WAY % STEPS;
        let consignment = round * UNDER_WAY + number % UNDER_WAY;
        let time_ns = start_ns + number.cast_signed() * STEP_NS;
        Self { number, consignment, step, container: consignment % containers.max(1), time_ns }
    }

    fn event(&self) -> Event {
        let (body, subjects, places) = self.statement();
        let usual = COMMODITIES[(self.consignment % 12) as usize];
        let commodity = if self.is_watched() { WATCHED_COMMODITY } else { usual };
        Event {
            event_id: Uuid::now_v7().to_string(),
            publisher: PUBLISHER.to_owned(),
            event_time: Some(self.time()),
            utc_offset_minutes: Some(300),
            created_time: Some(self.time()),
            classifier: Classifier::Actual.into(),
            subjects,
            places,
            parties: vec![
                party(PartyRole::Carrier, format!("spiffe://line-{0:02}.example/line/l{0:02}", self.consignment % 20)),
                party(PartyRole::Declarant, format!("spiffe://broker-{:03}.example/desk/1", self.consignment % 300)),
                party(PartyRole::Forwarder, format!("spiffe://forwarder-{:03}.example/desk/1", self.consignment % 150)),
                party(PartyRole::Shipper, format!("spiffe://exporter-{:03}.example/desk/1", self.consignment % 900)),
                party(PartyRole::Consignee, format!("spiffe://importer-{:03}.example/desk/1", self.consignment % 700)),
            ],
            commodity_codes: vec![commodity.to_owned()],
            mode: TransportMode::Maritime.into(),
            procedure: Procedure::Import.into(),
            audience: Some(Audience { reach: Reach::Network.into(), participants: Vec::new() }),
            sources: vec![Source {
                standard: "UN/EDIFACT COARRI D.95B".to_owned(),
                message_id: format!("PCS{:010}", self.number),
                sha256: self.digest(),
            }],
            body: Some(body),
            ..Event::default()
        }
    }

    fn is_watched(&self) -> bool {
        self.number.is_multiple_of(WATCHED_EVERY)
    }

    fn statement(&self) -> (Body, Vec<Subject>, Vec<Place>) {
        let (container, bill, declaration) = (self.container(), self.bill(), self.declaration());
        let routed = || vec![self.terminal(PlaceRole::Event), self.loaded_at()];
        match self.step {
            0 => {
                let association = Association {
                    step: AssociationStep::Attached.into(),
                    parent: Some(bill.clone()),
                    children: vec![container, declaration],
                    complete: true,
                    ..Association::default()
                };
                (
                    Body::Association(association),
                    vec![bill],
                    vec![self.loaded_at(), self.terminal(PlaceRole::Discharge)],
                )
            }
            1 => {
                let movement = Movement { step: MovementStep::Arrived.into(), ..Movement::default() };
                let vessel = subject(IdentifierKind::VesselImo, "9321483", "");
                let voyage =
                    subject(IdentifierKind::Voyage, &format!("{:03}W", self.consignment / 500 % 1_000), "OCEU");
                (Body::Movement(movement), vec![vessel, voyage, bill], routed())
            }
            2 => (handling(HandlingStep::Discharged), vec![container, bill], routed()),
            3 => (clearance(ClearanceStep::Lodged), vec![declaration, container], vec![self.office()]),
            4 => (clearance(ClearanceStep::Accepted), vec![declaration, container], vec![self.office()]),
            5 => (self.hold(HoldStep::Placed), vec![declaration, container], vec![self.office()]),
            6 => {
                let body = inspection(InspectionStep::Ordered, InspectionResult::Unspecified);
                (body, vec![container, declaration], vec![self.terminal(PlaceRole::Event), self.office()])
            }
            7 => {
                let body = inspection(InspectionStep::Completed, InspectionResult::Satisfactory);
                (body, vec![container, declaration], vec![self.terminal(PlaceRole::Event), self.office()])
            }
            8 => (self.hold(HoldStep::Lifted), vec![declaration, container], vec![self.office()]),
            9 => (clearance(ClearanceStep::Released), vec![declaration, container], vec![self.office()]),
            10 => (handling(HandlingStep::GatedOut), vec![container, bill], routed()),
            _ => (handling(HandlingStep::Delivered), vec![container, bill], routed()),
        }
    }

    fn hold(&self, step: HoldStep) -> Body {
        let reason =
            Reason { scheme: "UNCL7365".to_owned(), code: "7".to_owned(), text: "Selected by risk profile".to_owned() };
        Body::Hold(Hold {
            step: step.into(),
            hold_id: format!("H-{:07}", self.consignment),
            kind: HoldKind::Customs.into(),
            reasons: vec![reason],
        })
    }

    fn container(&self) -> Subject {
        subject(IdentifierKind::Container, &self.container_number(), "")
    }

    fn container_number(&self) -> String {
        freight::container::numbered(&format!("TLNU{:06}", self.container % 1_000_000))
    }

    fn bill(&self) -> Subject {
        subject(IdentifierKind::BillOfLading, &format!("OCEU{:09}", self.consignment), "OCEU")
    }

    fn declaration(&self) -> Subject {
        subject(IdentifierKind::Declaration, &format!("KAPW-HC-{:08}", self.consignment), "PK")
    }

    fn port(&self) -> &'static str {
        PORTS[(self.consignment * 7 % 40) as usize]
    }

    fn terminal(&self, role: PlaceRole) -> Place {
        Place {
            kind: PlaceKind::Terminal.into(),
            un_locode: self.port().to_owned(),
            facility: Some(Facility { scheme: FacilityScheme::Smdg.into(), code: "KICT".to_owned() }),
            ..place(role)
        }
    }

    fn loaded_at(&self) -> Place {
        let port = PORTS[((self.consignment * 7 + 11) % 40) as usize];
        Place { kind: PlaceKind::Port.into(), un_locode: port.to_owned(), ..place(PlaceRole::Loading) }
    }

    fn office(&self) -> Place {
        Place { kind: PlaceKind::CustomsOffice.into(), un_locode: self.port().to_owned(), ..place(PlaceRole::Office) }
    }

    fn time(&self) -> prost_types::Timestamp {
        let (seconds, nanos) = (self.time_ns.div_euclid(1_000_000_000), self.time_ns.rem_euclid(1_000_000_000));
        prost_types::Timestamp { seconds, nanos: nanos as i32 }
    }

    /// Bytes that look like a hash: what they are of is nobody's business here.
    fn digest(&self) -> Bytes {
        let halves = [self.number.to_be_bytes(), self.consignment.to_le_bytes()];
        let hash = |half: &[u8; 8]| Uuid::new_v5(&Uuid::NAMESPACE_OID, half).into_bytes();
        halves.iter().flat_map(hash).collect::<Vec<_>>().into()
    }
}

fn handling(step: HandlingStep) -> Body {
    Body::Handling(Handling {
        step: step.into(),
        size_type: "45G1".to_owned(),
        load_status: LoadStatus::Laden.into(),
        traffic: Traffic::Import.into(),
        gross_mass_grams: 21_480_000,
        ..Handling::default()
    })
}

fn clearance(step: ClearanceStep) -> Body {
    Body::Clearance(Clearance { step: step.into(), ..Clearance::default() })
}

fn inspection(step: InspectionStep, result: InspectionResult) -> Body {
    Body::Inspection(Inspection {
        step: step.into(),
        kind: InspectionKind::Scan.into(),
        result: result.into(),
        ..Inspection::default()
    })
}

fn party(role: PartyRole, participant: String) -> Party {
    Party { role: role.into(), participant, ..Party::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::code_lists::CodeLists, wire::door};

    const NOW_NS: i64 = 1_795_478_400_000_000_000;

    #[test]
    fn every_step_keeps_the_rules_of_the_door_and_events_are_about_500_bytes() {
        // The ids are of this moment.
        let now_ns = crate::clock::Clock::now_ns(&crate::clock::SystemClock);
        let context = door::ValidationContext { now_ns, lists: &CodeLists::default() };
        let mut story = Story::new(CONTAINERS, now_ns);
        let count = UNDER_WAY * STEPS + 1;
        let mut bytes = 0;
        for number in 0..count {
            let told = story.tell();
            bytes += told.bytes.len() as u64;
            let signed = SignedEvent { event: told.bytes, signature: None };
            let faults = door::parse_event(&signed, "event", &context).err();
            assert!(faults.is_none(), "event {number}: {faults:?}");
        }
        assert!((450..550).contains(&(bytes / count)), "{} bytes an event", bytes / count);
    }

    #[test]
    fn ten_million_events_have_happened_by_now() {
        let last = Scene::of(10_000_000, CONTAINERS, NOW_NS - LEAD_NS);
        assert!(last.time_ns < NOW_NS);
    }
}
