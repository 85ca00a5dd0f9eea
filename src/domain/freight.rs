//! Identifiers of freight: canonical forms, shapes and check digits. Pure and always strict: shapes and check digits never age, so no
//! configuration switches them off. It never knows which events an identifier may appear in.

pub mod air;
pub mod canonical;
pub mod container;
pub mod country;
pub mod country_names;
pub mod customs;
mod digits;
pub mod goods;
pub mod gs1;
pub mod place;
pub mod rail;
pub mod reference;
pub mod vehicle;
pub mod vessel;

#[cfg(test)]
mod tests;

pub use canonical::{canonical, canonical_forms, canonical_issuer, compact};
pub use country::is_country;
pub use place::is_locode;

use super::codes::kind;

/// The longest value of an identifier that is no URI, in characters: the longest reference of the standards, the UCR, has 35.
pub const VALUE_CHARACTERS_MAX: usize = 35;

/// What is wrong with an identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentifierFault {
    /// `UPPER_SNAKE`.
    pub reason: &'static str,
    /// What would be right, in words.
    pub description: String,
}

/// What an issuer is to a kind of identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssuerRule {
    /// The number is unique in the world: an issuer beside it would give one thing two names.
    None,
    /// The number is an issuer's, who may be left out where the publisher does not know it.
    Optional,
    /// Without it the number means nothing.
    Required,
    /// As [`Self::Required`], and a country of ISO 3166-1.
    RequiredCountry,
    /// As [`Self::Optional`], and a country of ISO 3166-1.
    OptionalCountry,
    /// As [`Self::Required`], and a UN/LOCODE.
    RequiredLocode,
}

/// Checks a canonical value's shape and check digit. A kind that is not known passes: whoever takes events decides about unknown kinds.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn check(kind: u8, value: &str) -> Result<(), IdentifierFault> {
    match kind {
        kind::CONTAINER => container::check(value),
        kind::VESSEL_IMO => vessel::check_imo(value),
        kind::VESSEL_MMSI => vessel::check_mmsi(value),
        kind::VESSEL_CALL_SIGN => vessel::check_call_sign(value),
        kind::VESSEL_ENI => vessel::check_eni(value),
        kind::FLIGHT => air::check_flight(value),
        kind::AIR_WAYBILL => air::check_waybill(value),
        kind::ULD => air::check_uld(value),
        kind::WAGON => rail::check_wagon(value),
        kind::ROAD_VEHICLE => vehicle::check_plate(value),
        kind::VIN => vehicle::check_vin(value),
        kind::MRN => customs::check_mrn(value),
        kind::SSCC => gs1::check_sscc(value),
        kind::GS1_URI => gs1::check_uri(value),
        _ => reference::check(value),
    }
}

/// What an issuer is to a kind and value.
#[must_use]
pub fn issuer_rule(kind: u8, value: &str) -> IssuerRule {
    match kind {
        // A wagon number of the 1520 mm railways has eight digits and repeats among other numberings.
        kind::WAGON if value.len() == rail::WAGON_1520_DIGITS => IssuerRule::Required,
        kind::CONTAINER
        | kind::VESSEL_IMO
        | kind::VESSEL_MMSI
        | kind::VESSEL_CALL_SIGN
        | kind::VESSEL_ENI
        | kind::AIR_WAYBILL
        | kind::UCR
        | kind::MRN
        | kind::SSCC
        | kind::GS1_URI
        | kind::VIN
        | kind::ULD
        | kind::WAGON => IssuerRule::None,
        kind::OTHER_EQUIPMENT | kind::TERMINAL_CALL => IssuerRule::Required,
        kind::DECLARATION => IssuerRule::RequiredCountry,
        kind::ROAD_VEHICLE => IssuerRule::OptionalCountry,
        kind::PORT_CALL => IssuerRule::RequiredLocode,
        _ => IssuerRule::Optional,
    }
}

/// Whether numbers of this kind repeat daily, so that a date belongs to them.
#[must_use]
pub fn repeats_daily(kind: u8) -> bool {
    matches!(kind, kind::FLIGHT | kind::TRAIN)
}

fn malformed(description: String) -> IdentifierFault {
    IdentifierFault { reason: "IDENTIFIER_MALFORMED", description }
}

/// Refuses a value whose last character is not the check digit that the rest asks for.
fn expect_check_digit(value: &str, expected: u32) -> Result<(), IdentifierFault> {
    let found = value.chars().last().unwrap_or_default();
    if found.to_digit(10) == Some(expected) {
        return Ok(());
    }
    let description = format!("check digit of {value} is {expected}, not {found}");
    Err(IdentifierFault { reason: "CHECK_DIGIT_WRONG", description })
}
