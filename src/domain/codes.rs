//! Names and numbers of the event model's enums, as filters and policies write them and routing headers store them. The numbers are those
//! of `event.proto`, and a test of the wire room proves it. It never decides which codes an event may carry.

mod numbers;

pub use numbers::{body, kind};

/// One enum of the event model: its values' names without the enum's prefix, in lower case, at the place of their number. Unused numbers
/// and the unspecified value have no name.
#[derive(Debug)]
pub struct Codes {
    /// The enum's name in `event.proto`.
    pub enumeration: &'static str,
    names: &'static [&'static str],
}

impl Codes {
    /// The number of a name.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u8> {
        if name.is_empty() {
            return None;
        }
        self.names.iter().position(|known| *known == name).map(|number| number as u8)
    }

    /// The name of a number.
    #[must_use]
    pub fn name(&self, number: u8) -> Option<&'static str> {
        self.names.get(usize::from(number)).copied().filter(|name| !name.is_empty())
    }

    /// Every name with its number, in the order of the numbers.
    pub fn values(&self) -> impl Iterator<Item = (u8, &'static str)> + use<> {
        (0_u8..).zip(self.names.iter().copied()).filter(|(_, name)| !name.is_empty())
    }
}

/// One body of the event model.
#[derive(Debug)]
pub struct BodyCodes {
    /// Its field number in `Event`.
    pub number: u8,
    /// Its field name in `Event`.
    pub name: &'static str,
    /// Its steps; none for a body without.
    pub steps: Option<&'static Codes>,
}

/// `Classifier`.
pub static CLASSIFIER: Codes =
    Codes { enumeration: "Classifier", names: &["", "planned", "estimated", "requested", "actual"] };

/// `SubjectRole`.
pub static SUBJECT_ROLE: Codes = Codes {
    enumeration: "SubjectRole",
    names: &["", "primary", "from", "to", "carried_by", "serving", "previous", "seal"],
};

/// `IdentifierKind`.
pub static IDENTIFIER_KIND: Codes = Codes {
    enumeration: "IdentifierKind",
    names: &[
        "",
        "container",
        "vessel_imo",
        "vessel_mmsi",
        "vessel_call_sign",
        "vessel_eni",
        "voyage",
        "port_call",
        "terminal_call",
        "flight",
        "train",
        "wagon",
        "road_vehicle",
        "booking",
        "bill_of_lading",
        "house_bill_of_lading",
        "air_waybill",
        "house_air_waybill",
        "rail_consignment",
        "road_consignment",
        "ucr",
        "lrn",
        "mrn",
        "declaration",
        "seal",
        "sscc",
        "gs1_uri",
        "vin",
        "uld",
        "other_equipment",
    ],
};

/// `PlaceRole`.
pub static PLACE_ROLE: Codes = Codes {
    enumeration: "PlaceRole",
    names: &[
        "",
        "event",
        "receipt",
        "loading",
        "transshipment",
        "discharge",
        "delivery",
        "origin",
        "destination",
        "exit",
        "entry",
        "office",
        "office_of_departure",
        "office_of_destination",
    ],
};

/// `PlaceKind`.
pub static PLACE_KIND: Codes = Codes {
    enumeration: "PlaceKind",
    names: &[
        "",
        "port",
        "terminal",
        "berth",
        "pilot_boarding_place",
        "anchorage",
        "depot",
        "rail_station",
        "airport",
        "border_crossing",
        "customs_office",
        "waypoint",
    ],
};

/// `FacilityScheme`.
pub static FACILITY_SCHEME: Codes = Codes {
    enumeration: "FacilityScheme",
    names: &["", "smdg", "bic", "gln", "customs_office", "uic_station", "iata_airport", "national"],
};

/// `PartyRole`.
pub static PARTY_ROLE: Codes = Codes {
    enumeration: "PartyRole",
    names: &[
        "",
        "reporter",
        "carrier",
        "agent",
        "terminal_operator",
        "forwarder",
        "declarant",
        "shipper",
        "consignee",
        "notify",
        "authority",
        "equipment_operator",
    ],
};

/// `TransportMode`; the numbers are those of UN/CEFACT Recommendation 19.
pub static TRANSPORT_MODE: Codes = Codes {
    enumeration: "TransportMode",
    names: &["", "maritime", "rail", "road", "air", "mail", "multimodal", "fixed_installation", "inland_waterway"],
};

/// `Procedure`.
pub static PROCEDURE: Codes = Codes {
    enumeration: "Procedure",
    names: &[
        "",
        "import",
        "export",
        "transit",
        "entry_summary",
        "exit_summary",
        "warehousing",
        "temporary_admission",
        "temporary_storage",
    ],
};

/// `MovementStep`.
pub static MOVEMENT_STEP: Codes = Codes {
    enumeration: "MovementStep",
    names: &["", "arrived", "departed", "crossed_border", "passed", "started", "completed", "omitted", "suspended"],
};

/// `HandlingStep`.
pub static HANDLING_STEP: Codes = Codes {
    enumeration: "HandlingStep",
    names: &[
        "",
        "gated_in",
        "gated_out",
        "loaded",
        "discharged",
        "stuffed",
        "stripped",
        "picked_up",
        "dropped_off",
        "available_for_pickup",
        "available_for_drop_off",
        "sealed",
        "resealed",
        "seal_removed",
        "transferred",
        "weighed",
        "stored",
        "received",
        "delivered",
    ],
};

/// `ClearanceStep`; from 20 on they are notices.
pub static CLEARANCE_STEP: Codes = Codes {
    enumeration: "ClearanceStep",
    names: &[
        "",
        "lodged",
        "accepted",
        "rejected",
        "documents_required",
        "released",
        "release_revoked",
        "cleared",
        "in_transit",
        "transit_discharged",
        "exited",
        "refused",
        "invalidated",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "amended",
        "amendment_refused",
        "invalidation_refused",
        "assessed",
        "payment_required",
        "reminded",
    ],
};

/// `HoldStep`.
pub static HOLD_STEP: Codes = Codes { enumeration: "HoldStep", names: &["", "placed", "lifted"] };

/// `InspectionStep`.
pub static INSPECTION_STEP: Codes =
    Codes { enumeration: "InspectionStep", names: &["", "ordered", "started", "completed", "waived"] };

/// `DocumentStep`.
pub static DOCUMENT_STEP: Codes = Codes {
    enumeration: "DocumentStep",
    names: &[
        "",
        "drafted",
        "submitted",
        "received",
        "approved",
        "rejected",
        "confirmed",
        "issued",
        "surrendered",
        "voided",
    ],
};

/// `AssociationStep`.
pub static ASSOCIATION_STEP: Codes = Codes { enumeration: "AssociationStep", names: &["", "attached", "detached"] };

/// Every enum above.
pub static ALL: [&Codes; 16] = [
    &CLASSIFIER,
    &SUBJECT_ROLE,
    &IDENTIFIER_KIND,
    &PLACE_ROLE,
    &PLACE_KIND,
    &FACILITY_SCHEME,
    &PARTY_ROLE,
    &TRANSPORT_MODE,
    &PROCEDURE,
    &MOVEMENT_STEP,
    &HANDLING_STEP,
    &CLEARANCE_STEP,
    &HOLD_STEP,
    &INSPECTION_STEP,
    &DOCUMENT_STEP,
    &ASSOCIATION_STEP,
];

/// The bodies of an event.
pub static BODIES: [BodyCodes; 9] = [
    BodyCodes { number: body::MOVEMENT, name: "movement", steps: Some(&MOVEMENT_STEP) },
    BodyCodes { number: body::HANDLING, name: "handling", steps: Some(&HANDLING_STEP) },
    BodyCodes { number: body::CLEARANCE, name: "clearance", steps: Some(&CLEARANCE_STEP) },
    BodyCodes { number: body::HOLD, name: "hold", steps: Some(&HOLD_STEP) },
    BodyCodes { number: body::INSPECTION, name: "inspection", steps: Some(&INSPECTION_STEP) },
    BodyCodes { number: body::DOCUMENT, name: "document", steps: Some(&DOCUMENT_STEP) },
    BodyCodes { number: body::ASSOCIATION, name: "association", steps: Some(&ASSOCIATION_STEP) },
    BodyCodes { number: body::CONDITION, name: "condition", steps: None },
    BodyCodes { number: body::EMISSION, name: "emission", steps: None },
];

/// The body of a name.
#[must_use]
pub fn body_named(name: &str) -> Option<&'static BodyCodes> {
    BODIES.iter().find(|body| body.name == name)
}
