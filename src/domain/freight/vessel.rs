//! Ships: IMO numbers (IMO resolution A.1117(30)), MMSI (ITU-R M.585), call signs (ITU Radio Regulations, article 19) and the European
//! number of inland vessels (ES-TRIN, article 18.02). It never looks registers up.

use super::{IdentifierFault, digits, expect_check_digit, malformed};

/// Checks an IMO ship identification number: seven digits; the last digit of the sum of the first six, weighted 7 to 2, is the seventh.
///
/// # Errors
/// The shape or the check digit is wrong.
pub fn check_imo(value: &str) -> Result<(), IdentifierFault> {
    if !digits::are_digits(value, 7) {
        return Err(malformed(format!("must be an IMO number of seven digits such as 9321483, not {value:?}")));
    }
    let sum: u32 = value.bytes().zip((2..=7).rev()).map(|(byte, weight)| u32::from(byte - b'0') * weight).sum();
    expect_check_digit(value, sum % 10)
}

/// Checks a maritime mobile service identity of a ship station: nine digits that begin with a region, 2 to 7.
///
/// # Errors
/// The shape is wrong.
pub fn check_mmsi(value: &str) -> Result<(), IdentifierFault> {
    if digits::are_digits(value, 9) && matches!(value.as_bytes()[0], b'2'..=b'7') {
        return Ok(());
    }
    Err(malformed(format!(
        "must be a ship's MMSI of nine digits that begin with 2 to 7, such as 463012345, not {value:?}"
    )))
}

/// Checks a call sign: three to seven letters and digits, at least one of them a letter.
///
/// # Errors
/// The shape is wrong.
pub fn check_call_sign(value: &str) -> Result<(), IdentifierFault> {
    let has_letter = value.bytes().any(|byte| byte.is_ascii_uppercase());
    if (3..=7).contains(&value.len()) && digits::are_alphanumeric(value) && has_letter {
        return Ok(());
    }
    Err(malformed(format!("must be a call sign of three to seven letters and digits such as 9V8264, not {value:?}")))
}

/// Checks a European vessel identification number: eight digits.
///
/// # Errors
/// The shape is wrong.
pub fn check_eni(value: &str) -> Result<(), IdentifierFault> {
    if digits::are_digits(value, 8) {
        return Ok(());
    }
    Err(malformed(format!("must be a European vessel number of eight digits such as 02324957, not {value:?}")))
}
