//! Rail wagons: twelve digits by UIC leaflet 438-2, or eight on the 1520 mm railways. It never looks keepers up.

use super::{IdentifierFault, digits, expect_check_digit, malformed};

/// Digits of a wagon number of the 1520 mm railways.
pub(super) const WAGON_1520_DIGITS: usize = 8;

/// Checks a wagon number: twelve digits of which the last is a check digit, or eight digits of the 1520 mm railways.
///
/// # Errors
/// The shape or the check digit is wrong.
pub fn check_wagon(value: &str) -> Result<(), IdentifierFault> {
    if digits::are_digits(value, WAGON_1520_DIGITS) {
        // Their own numbering has a check digit too; no source of it could be verified, so the shape alone is asked for.
        return Ok(());
    }
    if !digits::are_digits(value, 12) {
        return Err(malformed(format!(
            "must be a wagon of twelve digits such as 318166502860, or of eight with its railway as issuer, not {value:?}"
        )));
    }
    expect_check_digit(value, digits::luhn(&value[..11]))
}
