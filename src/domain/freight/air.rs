//! Air cargo: air waybill numbers (IATA Cargo Services Conference Resolution 600a), unit load devices (IATA ULD Regulations, section 3)
//! and flight designators (IATA SSIM, chapter 2). It never looks airlines up.

use super::{IdentifierFault, digits, expect_check_digit, malformed};

/// Checks an air waybill number: airline prefix of three digits, serial of seven, and the serial modulo 7 as its check digit.
///
/// # Errors
/// The shape or the check digit is wrong.
pub fn check_waybill(value: &str) -> Result<(), IdentifierFault> {
    if !digits::are_digits(value, 11) {
        return Err(malformed(format!("must be an air waybill of eleven digits such as 17612345675, not {value:?}")));
    }
    let serial = value[3..10].bytes().fold(0, |sum, byte| sum * 10 + u32::from(byte - b'0'));
    expect_check_digit(value, serial % 7)
}

/// Checks a unit load device: type of three letters and digits that begins with a letter, serial of four or five digits, owner of two
/// letters and digits.
///
/// # Errors
/// The shape is wrong.
pub fn check_uld(value: &str) -> Result<(), IdentifierFault> {
    let length = value.len();
    let shaped = digits::are_alphanumeric(value)
        && (9..=10).contains(&length)
        && value.as_bytes()[0].is_ascii_uppercase()
        && digits::are_digits(&value[3..length - 2], length - 5);
    if shaped {
        return Ok(());
    }
    Err(malformed(format!("must be a unit load device such as AKE12345LH, not {value:?}")))
}

/// Checks a flight: airline of two or three letters and digits, one to four digits, an optional suffix letter.
///
/// # Errors
/// The shape is wrong.
pub fn check_flight(value: &str) -> Result<(), IdentifierFault> {
    let shaped = |airline: usize| {
        let Some((airline, rest)) = value.split_at_checked(airline) else { return false };
        let number = rest.strip_suffix(|last: char| last.is_ascii_uppercase()).unwrap_or(rest);
        airline.bytes().any(|byte| byte.is_ascii_uppercase())
            && (1..=4).contains(&number.len())
            && digits::are_digits(number, number.len())
    };
    if digits::are_alphanumeric(value) && (shaped(2) || shaped(3)) {
        return Ok(());
    }
    Err(malformed(format!("must be a flight such as PK788 (airline, one to four digits), not {value:?}")))
}
