//! What happens in the demonstration: a vessel brings three containers under one bill of lading to Karachi; one declaration is released at
//! once, the other is held, scanned and then released. It never reads a clock: times are relative to the one given.

use prost::Message;
use prost_types::Timestamp;
use uuid::Uuid;

use super::setup::{BROKER, CARRIER, CUSTOMS, TERMINAL};
use crate::wire::{
    SignedEvent,
    proto::{
        Association, AssociationStep, Audience, Classifier, Clearance, ClearanceStep, Event, Facility, FacilityScheme,
        Handling, HandlingStep, Hold, HoldKind, HoldStep, IdentifierKind, Inspection, InspectionKind, InspectionResult,
        InspectionStep, LoadStatus, Movement, MovementStep, Party, PartyRole, Place, PlaceKind, PlaceRole, Procedure,
        Reach, Reason, Subject, Traffic, TransportMode, event::Body,
    },
};

/// The container that is held, with its check digit (ISO 6346).
pub const HELD_CONTAINER: &str = "CSQU3054383";
/// The containers that go through at once.
pub const FREE_CONTAINERS: [&str; 2] = ["MSKU9070323", "TLNU0000010"];
/// The vessel's IMO number, with its check digit.
pub const VESSEL: &str = "9321483";
/// The declaration of the held container.
pub const HELD_DECLARATION: &str = "KAPW-HC-104512";
const FREE_DECLARATION: &str = "KAPW-HC-104511";
const BILL: &str = "58412907";
const CARRIER_CODE: &str = "OCEU";
const VOYAGE: &str = "447W";

const MINUTE_NS: i64 = 60_000_000_000;
const HOUR_NS: i64 = 60 * MINUTE_NS;
/// From the first event of the scenario to its last.
const LASTS_NS: i64 = 31 * HOUR_NS;

/// One statement: in which participant's name, and the event.
#[derive(Debug, Clone)]
pub struct Step {
    /// The member who publishes it.
    pub member: &'static str,
    /// What happens, for the onlooker.
    pub narration: String,
    /// The event.
    pub event: Event,
}

impl Step {
    /// The event as it travels.
    #[must_use]
    pub fn signed(&self) -> SignedEvent {
        SignedEvent { event: self.event.encode_to_vec().into(), ..SignedEvent::default() }
    }
}

/// The whole scenario; its last event has happened a moment before `now_ns`. Ids are fresh: the same call again tells another voyage.
#[must_use]
pub fn steps(now_ns: i64) -> Vec<Step> {
    let story = Story { start_ns: now_ns - LASTS_NS - MINUTE_NS };
    let [first, second] = FREE_CONTAINERS;
    let held = HELD_CONTAINER;
    let free_declaration = [FREE_DECLARATION, first, second];
    let held_declaration = [HELD_DECLARATION, held];
    vec![
        story.consignment(),
        story.vessel(Classifier::Estimated, 0, "is expected at Karachi"),
        story.vessel(Classifier::Actual, 60, "has arrived at Karachi"),
        story.handling(HandlingStep::Discharged, first, 200, "is discharged"),
        story.handling(HandlingStep::Discharged, second, 206, "is discharged"),
        story.handling(HandlingStep::Discharged, held, 213, "is discharged"),
        story.clearance(ClearanceStep::Lodged, &free_declaration, 300, "a declaration for two containers is lodged"),
        story.clearance(ClearanceStep::Lodged, &held_declaration, 304, "a declaration for the third is lodged"),
        story.clearance(ClearanceStep::Accepted, &free_declaration, 330, "the first declaration is accepted"),
        story.hold(HoldStep::Placed, 342, "the third container is held: selected by risk profile"),
        story.inspection(InspectionStep::Ordered, InspectionResult::Unspecified, 350, "a scan is ordered"),
        story.clearance(ClearanceStep::Released, &free_declaration, 400, "two containers are released"),
        story.handling(HandlingStep::GatedOut, first, 520, "leaves through the gate"),
        story.handling(HandlingStep::GatedOut, second, 531, "leaves through the gate"),
        story.inspection(
            InspectionStep::Completed,
            InspectionResult::Satisfactory,
            1_500,
            "the scan shows nothing wrong",
        ),
        story.hold(HoldStep::Lifted, 1_520, "the hold is lifted"),
        story.clearance(ClearanceStep::Released, &held_declaration, 1_530, "the third container is released"),
        story.handling(HandlingStep::GatedOut, held, LASTS_NS / MINUTE_NS, "leaves through the gate"),
    ]
}

struct Story {
    start_ns: i64,
}

impl Story {
    /// What belongs together, and who is a party of it: from here on the broker sees the consignment.
    fn consignment(&self) -> Step {
        let containers = [FREE_CONTAINERS[0], FREE_CONTAINERS[1], HELD_CONTAINER].map(container);
        let declarations = [FREE_DECLARATION, HELD_DECLARATION].map(declaration);
        let association = Association {
            step: AssociationStep::Attached.into(),
            parent: Some(bill()),
            children: containers.into_iter().chain(declarations).collect(),
            parties: vec![Party {
                role: PartyRole::Declarant.into(),
                participant: BROKER.to_owned(),
                ..Party::default()
            }],
            complete: true,
        };
        let body = Body::Association(association);
        let mut event = self.event(CARRIER, -600, vec![bill()], body);
        event.places = vec![
            Place { un_locode: "CNSHA".to_owned(), ..place(PlaceRole::Loading) },
            Place { un_locode: "PKKHI".to_owned(), ..place(PlaceRole::Discharge) },
        ];
        Step {
            member: "carrier",
            narration: format!("bill {BILL} covers three containers and two declarations"),
            event,
        }
    }

    fn vessel(&self, classifier: Classifier, after_minutes: i64, narration: &str) -> Step {
        let movement = Movement { step: MovementStep::Arrived.into(), ..Movement::default() };
        let subjects =
            vec![subject(IdentifierKind::VesselImo, VESSEL, ""), subject(IdentifierKind::Voyage, VOYAGE, CARRIER_CODE)];
        let mut event = self.event(TERMINAL, after_minutes, subjects, Body::Movement(movement));
        event.classifier = classifier.into();
        event.mode = TransportMode::Maritime.into();
        event.places = vec![terminal()];
        if classifier == Classifier::Estimated {
            // Stated half a day ahead.
            event.created_time = Some(self.at(after_minutes - 720));
        }
        Step { member: "terminal", narration: format!("vessel IMO {VESSEL}, voyage {VOYAGE}, {narration}"), event }
    }

    fn handling(&self, step: HandlingStep, number: &str, after_minutes: i64, narration: &str) -> Step {
        let handling = Handling {
            step: step.into(),
            size_type: "45G1".to_owned(),
            load_status: LoadStatus::Laden.into(),
            traffic: Traffic::Import.into(),
            gross_mass_grams: 21_480_000,
            ..Handling::default()
        };
        let subjects = vec![container(number), bill()];
        let mut event = self.event(TERMINAL, after_minutes, subjects, Body::Handling(handling));
        event.places = vec![terminal()];
        Step { member: "terminal", narration: format!("container {number} {narration}"), event }
    }

    /// `about` is the declaration, then its containers.
    fn clearance(&self, step: ClearanceStep, about: &[&str], after_minutes: i64, narration: &str) -> Step {
        let clearance = Clearance { step: step.into(), ..Clearance::default() };
        let subjects = std::iter::once(declaration(about[0])).chain(about[1..].iter().map(|number| container(number)));
        let mut event = self.event(CUSTOMS, after_minutes, subjects.collect(), Body::Clearance(clearance));
        event.commodity_codes = vec!["870323".to_owned()];
        event.procedure = Procedure::Import.into();
        event.places = vec![office()];
        Step { member: "customs", narration: narration.to_owned(), event }
    }

    fn hold(&self, step: HoldStep, after_minutes: i64, narration: &str) -> Step {
        let reason =
            Reason { scheme: "UNCL7365".to_owned(), code: "7".to_owned(), text: "Selected by risk profile".to_owned() };
        let hold = Hold {
            step: step.into(),
            hold_id: format!("H-{HELD_DECLARATION}"),
            kind: HoldKind::Customs.into(),
            reasons: vec![reason],
        };
        let subjects = vec![declaration(HELD_DECLARATION), container(HELD_CONTAINER)];
        let mut event = self.event(CUSTOMS, after_minutes, subjects, Body::Hold(hold));
        event.places = vec![office()];
        Step { member: "customs", narration: narration.to_owned(), event }
    }

    fn inspection(&self, step: InspectionStep, result: InspectionResult, after_minutes: i64, narration: &str) -> Step {
        let inspection = Inspection {
            step: step.into(),
            kind: InspectionKind::Scan.into(),
            result: result.into(),
            ..Inspection::default()
        };
        let subjects = vec![container(HELD_CONTAINER), declaration(HELD_DECLARATION)];
        let mut event = self.event(CUSTOMS, after_minutes, subjects, Body::Inspection(inspection));
        event.places = vec![terminal(), office()];
        Step { member: "customs", narration: narration.to_owned(), event }
    }

    /// What is the same for all: an actual statement to the network, made when it happened.
    fn event(&self, publisher: &str, after_minutes: i64, subjects: Vec<Subject>, body: Body) -> Event {
        Event {
            event_id: Uuid::now_v7().to_string(),
            publisher: publisher.to_owned(),
            event_time: Some(self.at(after_minutes)),
            utc_offset_minutes: Some(300),
            created_time: Some(self.at(after_minutes)),
            classifier: Classifier::Actual.into(),
            subjects,
            audience: Some(Audience { reach: Reach::Network.into(), participants: Vec::new() }),
            body: Some(body),
            ..Event::default()
        }
    }

    fn at(&self, after_minutes: i64) -> Timestamp {
        let time_ns = self.start_ns + after_minutes * MINUTE_NS;
        Timestamp { seconds: time_ns.div_euclid(1_000_000_000), nanos: 0 }
    }
}

/// A subject without a role.
#[must_use]
pub fn subject(kind: IdentifierKind, value: &str, issuer: &str) -> Subject {
    Subject { kind: kind.into(), value: value.to_owned(), issuer: issuer.to_owned(), ..Subject::default() }
}

/// A container as a subject.
#[must_use]
pub fn container(number: &str) -> Subject {
    subject(IdentifierKind::Container, number, "")
}

fn declaration(number: &str) -> Subject {
    subject(IdentifierKind::Declaration, number, "PK")
}

fn bill() -> Subject {
    subject(IdentifierKind::BillOfLading, BILL, CARRIER_CODE)
}

/// A place with nothing but its role.
#[must_use]
pub fn place(role: PlaceRole) -> Place {
    Place { role: role.into(), ..Place::default() }
}

fn terminal() -> Place {
    Place {
        kind: PlaceKind::Terminal.into(),
        un_locode: "PKKHI".to_owned(),
        facility: Some(Facility { scheme: FacilityScheme::Smdg.into(), code: "KICT".to_owned() }),
        ..place(PlaceRole::Event)
    }
}

fn office() -> Place {
    Place { kind: PlaceKind::CustomsOffice.into(), un_locode: "PKKHI".to_owned(), ..place(PlaceRole::Office) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{codes, freight};

    #[test]
    fn identifiers_have_their_check_digits() {
        for number in FREE_CONTAINERS.into_iter().chain([HELD_CONTAINER]) {
            assert!(freight::check(codes::kind::CONTAINER, number).is_ok(), "{number}");
        }
        assert!(freight::check(codes::kind::VESSEL_IMO, VESSEL).is_ok());
    }

    #[test]
    fn every_event_keeps_the_rules_of_the_door() {
        use crate::{domain::code_lists::CodeLists, wire::door};
        let now_ns = crate::clock::Clock::now_ns(&crate::clock::SystemClock);
        let context = door::ValidationContext { now_ns, lists: &CodeLists::default() };
        for step in steps(now_ns) {
            let faults = door::parse_event(&step.signed(), "event", &context).err();
            assert!(faults.is_none(), "{}: {faults:?}", step.narration);
        }
    }

    #[test]
    fn everything_has_happened_by_now_and_each_publisher_speaks_for_herself() {
        let now_ns = 1_795_478_400_000_000_000;
        let steps = steps(now_ns);
        for step in &steps {
            assert!(step.event.event_time.unwrap().seconds <= now_ns / 1_000_000_000, "{}", step.narration);
            let publisher = match step.member {
                "carrier" => CARRIER,
                "terminal" => TERMINAL,
                "customs" => CUSTOMS,
                other => panic!("{other} publishes nothing"),
            };
            assert_eq!(step.event.publisher, publisher);
        }
        assert_eq!(steps.last().unwrap().event.event_time.unwrap().seconds, now_ns / 1_000_000_000 - 60);
    }
}
