//! Freight containers: ISO 6346:2022 (coding, identification and marking), clause 3 and annex A. It never looks owners up: the register
//! of owner codes is licensed by the Bureau International des Containers.

use super::{IdentifierFault, digits, expect_check_digit, malformed};

/// Checks a container number: owner code of three letters, category U (container), J (detachable equipment) or Z (trailer and chassis),
/// six digits and a check digit.
///
/// # Errors
/// The shape or the check digit is wrong.
pub fn check(value: &str) -> Result<(), IdentifierFault> {
    let shaped = value.is_ascii()
        && value.len() == 11
        && digits::are_letters(&value[..3])
        && matches!(value.as_bytes()[3], b'U' | b'J' | b'Z')
        && digits::are_digits(&value[4..], 7);
    if !shaped {
        return Err(malformed(format!(
            "must be an ISO 6346 number such as MSKU9070323 (three letters, U, J or Z, seven digits), not {value:?}; equipment without \
             such a number is OTHER_EQUIPMENT with its issuer"
        )));
    }
    expect_check_digit(value, digits::iso_6346(&value[..10]))
}

/// The number of a container: owner code, category and serial number (ten characters), then their check digit.
#[must_use]
pub fn numbered(first_ten: &str) -> String {
    format!("{first_ten}{}", digits::iso_6346(first_ten))
}

/// Whether a text is a size and type code of ISO 6346:2022, clause 4: four letters or digits, such as 45G1.
#[must_use]
pub fn is_size_type(text: &str) -> bool {
    text.len() == 4 && digits::are_alphanumeric(text)
}
