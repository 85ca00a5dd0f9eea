//! Movement of means of transport, and handling of equipment and cargo.

use super::{Checker, Path, bodies::is_consignment};
use crate::{
    domain::freight::container::is_size_type,
    wire::proto::{
        DangerousGoods, Event, Handling, HandlingStep, IdentifierKind as Kind, LoadStatus, Movement, MovementStep,
        PlaceRole, PortService, Traffic,
    },
};

impl Checker<'_> {
    pub(super) fn movement(&mut self, event: &Event, movement: &Movement, root: &Path<'_>, at: &Path<'_>) {
        self.required_enum::<MovementStep>(movement.step, &at.field("step"), "MovementStep", "STEP_MISSING");
        let service_at = &at.field("service");
        self.optional_enum::<PortService>(movement.service, service_at, "PortService");
        let served = matches!(movement.step(), MovementStep::Started | MovementStep::Completed);
        if served && movement.service == 0 {
            self.report.add(service_at, "SERVICE_MISSING", "must say which service is STARTED or COMPLETED");
        }
        let serves = served || movement.step() == MovementStep::Omitted;
        if !serves && movement.service != 0 {
            self.report.add(
                service_at,
                "SERVICE_NOT_ALLOWED",
                "must be unset: only STARTED, COMPLETED and OMITTED speak of a service",
            );
        }
        let reason = &movement.delay_reason_code;
        let shaped = reason.len() <= 3 && reason.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        let description = "must be an SMDG delay reason of at most three letters and digits, such as WEA";
        self.report.require(shaped, &at.field("delay_reason_code"), "DELAY_REASON_MALFORMED", description);
        self.subject_of(
            event,
            root,
            is_conveyance,
            "movement needs a means of transport: a vessel, voyage, call, flight, train, wagon or road vehicle",
        );
        let (roles, description): (&[PlaceRole], _) = if movement.step() == MovementStep::CrossedBorder {
            (
                &[PlaceRole::Event, PlaceRole::Exit, PlaceRole::Entry],
                "must have the country left (EXIT), entered (ENTRY) or the crossing (EVENT)",
            )
        } else {
            (&[PlaceRole::Event], "must have a place in the role EVENT: where it happens")
        };
        let somewhere = Self::has_place(event, roles, |_| true);
        self.report.require(somewhere, &root.field("places"), "LOCATION_MISSING", description);
    }

    pub(super) fn handling(&mut self, event: &Event, handling: &Handling, root: &Path<'_>, at: &Path<'_>) {
        self.required_enum::<HandlingStep>(handling.step, &at.field("step"), "HandlingStep", "STEP_MISSING");
        self.optional_enum::<LoadStatus>(handling.load_status, &at.field("load_status"), "LoadStatus");
        self.optional_enum::<Traffic>(handling.traffic, &at.field("traffic"), "Traffic");
        let size_type = &handling.size_type;
        if !size_type.is_empty() && !is_size_type(size_type) {
            let description = format!("must be a size and type of ISO 6346 such as 45G1, not {size_type:?}");
            self.report.add(&at.field("size_type"), "SIZE_TYPE_MALFORMED", description);
        }
        let position = &handling.stowage_position;
        let shaped =
            position.len() <= 10 && position.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        let description = "must be bay, row and tier as at most ten letters and digits, such as 0380886";
        self.report.require(shaped, &at.field("stowage_position"), "STOWAGE_MALFORMED", description);
        let weighed = !handling.verified_gross_mass || 0 < handling.gross_mass_grams;
        self.report.require(
            weighed,
            &at.field("gross_mass_grams"),
            "INCONSISTENT",
            "must be set where verified_gross_mass is true",
        );
        let counted = handling.total_pieces == 0 || handling.piece_count <= handling.total_pieces;
        self.report.require(counted, &at.field("piece_count"), "INCONSISTENT", "must be at most total_pieces");
        self.dangerous_goods(&handling.dangerous_goods, at);
        self.subject_of(event, root, is_handled, "handling needs equipment, a wagon, a vehicle or a consignment");
        let somewhere = Self::has_place(event, &[PlaceRole::Event], |_| true);
        self.report.require(
            somewhere,
            &root.field("places"),
            "LOCATION_MISSING",
            "must have a place in the role EVENT: where it happens",
        );
    }

    fn dangerous_goods(&mut self, goods: &[DangerousGoods], body: &Path<'_>) {
        if !self.at_most(goods.len(), DANGEROUS_GOODS_MAX, &body.field("dangerous_goods")) {
            return;
        }
        for (index, DangerousGoods { un_number, hazard_class }) in goods.iter().enumerate() {
            let at = &body.element("dangerous_goods", index);
            let numbered = un_number.len() == 4 && un_number.bytes().all(|byte| byte.is_ascii_digit());
            let description = "must be a UN number of four digits, such as 2735";
            self.report.require(numbered, &at.field("un_number"), "DANGEROUS_GOODS_MALFORMED", description);
            let classed = hazard_class.is_empty() || is_hazard_class(hazard_class);
            let description = "must be a class or division with its compatibility group, such as 8, 5.1 or 1.4S";
            self.report.require(classed, &at.field("hazard_class"), "DANGEROUS_GOODS_MALFORMED", description);
        }
    }
}

/// The most dangerous goods of one handling.
const DANGEROUS_GOODS_MAX: usize = 64;

/// Class 1 to 9, a division of one digit, and for explosives a compatibility group of one letter (UN Model Regulations, chapter 2.0).
fn is_hazard_class(text: &str) -> bool {
    matches!(
        *text.as_bytes(),
        [b'1'..=b'9'] | [b'1'..=b'9', b'.', b'1'..=b'9'] | [b'1', b'.', b'1'..=b'6', b'A'..=b'S']
    )
}

fn is_conveyance(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::VesselImo
            | Kind::VesselMmsi
            | Kind::VesselCallSign
            | Kind::VesselEni
            | Kind::Voyage
            | Kind::PortCall
            | Kind::TerminalCall
            | Kind::Flight
            | Kind::Train
            | Kind::Wagon
            | Kind::RoadVehicle
    )
}

fn is_handled(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Container
            | Kind::OtherEquipment
            | Kind::Uld
            | Kind::Wagon
            | Kind::RoadVehicle
            | Kind::Vin
            | Kind::Sscc
            | Kind::Gs1Uri
    ) || is_consignment(kind)
}
