//! Numbers of the event model that code names one by one. It never lists what nothing but a filter needs.

/// Field numbers of the bodies in `Event`.
pub mod body {
    /// A means of transport moves.
    pub const MOVEMENT: u8 = 20;
    /// Equipment or cargo is handled.
    pub const HANDLING: u8 = 21;
    /// A declaration takes a step.
    pub const CLEARANCE: u8 = 22;
    /// A hold is placed or lifted.
    pub const HOLD: u8 = 23;
    /// An inspection is ordered or done.
    pub const INSPECTION: u8 = 24;
    /// A document takes a step.
    pub const DOCUMENT: u8 = 25;
    /// Subjects, or parties and a subject, belong together.
    pub const ASSOCIATION: u8 = 26;
    /// A device measured something.
    pub const CONDITION: u8 = 27;
    /// Emissions of a movement.
    pub const EMISSION: u8 = 28;
}

/// Numbers of `IdentifierKind`.
#[allow(missing_docs, reason = "the kinds are described once, in event.proto")]
pub mod kind {
    pub const CONTAINER: u8 = 1;
    pub const VESSEL_IMO: u8 = 2;
    pub const VESSEL_MMSI: u8 = 3;
    pub const VESSEL_CALL_SIGN: u8 = 4;
    pub const VESSEL_ENI: u8 = 5;
    pub const VOYAGE: u8 = 6;
    pub const PORT_CALL: u8 = 7;
    pub const TERMINAL_CALL: u8 = 8;
    pub const FLIGHT: u8 = 9;
    pub const TRAIN: u8 = 10;
    pub const WAGON: u8 = 11;
    pub const ROAD_VEHICLE: u8 = 12;
    pub const BOOKING: u8 = 13;
    pub const BILL_OF_LADING: u8 = 14;
    pub const HOUSE_BILL_OF_LADING: u8 = 15;
    pub const AIR_WAYBILL: u8 = 16;
    pub const HOUSE_AIR_WAYBILL: u8 = 17;
    pub const RAIL_CONSIGNMENT: u8 = 18;
    pub const ROAD_CONSIGNMENT: u8 = 19;
    pub const UCR: u8 = 20;
    pub const LRN: u8 = 21;
    pub const MRN: u8 = 22;
    pub const DECLARATION: u8 = 23;
    pub const SEAL: u8 = 24;
    pub const SSCC: u8 = 25;
    pub const GS1_URI: u8 = 26;
    pub const VIN: u8 = 27;
    pub const ULD: u8 = 28;
    pub const OTHER_EQUIPMENT: u8 = 29;
}
