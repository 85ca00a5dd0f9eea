//! What kind of thing a number names when goods are cleared: equipment, a consignment, or a declaration. It never says which belong
//! together.

use crate::domain::codes::kind;

/// Declarations cover consignments, and consignments travel in equipment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// A container, other equipment, or a vehicle that is goods itself.
    Equipment,
    /// Goods under one contract of carriage or one reference: bills, waybills, consignment notes, bookings, UCR.
    Consignment,
    /// A declaration, by its number of customs or of the declarant.
    Declaration,
}

impl Level {
    /// The level of an `IdentifierKind`; none for kinds by which nothing is cleared.
    #[must_use]
    pub const fn of(identifier_kind: u8) -> Option<Self> {
        match identifier_kind {
            kind::CONTAINER | kind::OTHER_EQUIPMENT | kind::VIN => Some(Self::Equipment),
            kind::BILL_OF_LADING
            | kind::HOUSE_BILL_OF_LADING
            | kind::AIR_WAYBILL
            | kind::HOUSE_AIR_WAYBILL
            | kind::RAIL_CONSIGNMENT
            | kind::ROAD_CONSIGNMENT
            | kind::BOOKING
            | kind::UCR => Some(Self::Consignment),
            kind::LRN | kind::MRN | kind::DECLARATION => Some(Self::Declaration),
            _ => None,
        }
    }
}
