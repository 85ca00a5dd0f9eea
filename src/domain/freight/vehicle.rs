//! Road vehicles: registration plates and vehicle identification numbers (ISO 3779). It never knows a country's plate formats.

use super::{IdentifierFault, VALUE_CHARACTERS_MAX, malformed};

/// Checks a plate: letters of whatever script and digits, without spaces and hyphens.
///
/// # Errors
/// The shape is wrong.
pub fn check_plate(value: &str) -> Result<(), IdentifierFault> {
    let characters = value.chars().count();
    if (1..=VALUE_CHARACTERS_MAX).contains(&characters) && value.chars().all(char::is_alphanumeric) {
        return Ok(());
    }
    Err(malformed(format!("must be a plate of letters and digits such as JU4521, not {value:?}")))
}

/// Checks a vehicle identification number: seventeen letters and digits without I, O and Q. Its ninth place is a check digit in North
/// America alone, so it is not asked for.
///
/// # Errors
/// The shape is wrong.
pub fn check_vin(value: &str) -> Result<(), IdentifierFault> {
    let allowed = |byte: u8| (byte.is_ascii_uppercase() && !b"IOQ".contains(&byte)) || byte.is_ascii_digit();
    if value.len() == 17 && value.bytes().all(allowed) {
        return Ok(());
    }
    Err(malformed(format!("must be a VIN of seventeen letters and digits without I, O and Q, not {value:?}")))
}
