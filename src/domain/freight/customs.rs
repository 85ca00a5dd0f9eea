//! Customs references: the movement reference number of the European Union, the common transit countries and the United Kingdom. Other
//! declarations' numbers are national, so their shape is [`super::reference`]'s.

use super::{IdentifierFault, digits, expect_check_digit, malformed};

/// Checks a movement reference number: year of two digits, country of two letters, thirteen letters and digits, and a check digit
/// reckoned as ISO 6346 does (Delegated Regulation (EU) 2015/2446, annex B, data element 2/1).
///
/// # Errors
/// The shape or the check digit is wrong.
pub fn check_mrn(value: &str) -> Result<(), IdentifierFault> {
    let shaped = value.is_ascii()
        && value.len() == 18
        && digits::are_digits(&value[..2], 2)
        && digits::are_letters(&value[2..4])
        && digits::are_alphanumeric(&value[4..17])
        && digits::are_digits(&value[17..], 1);
    if !shaped {
        return Err(malformed(format!(
            "must be a movement reference number of 18 characters such as 20GB1OJPU2P01FGVR4, not {value:?}; another country's number is \
             a DECLARATION with that country as issuer"
        )));
    }
    expect_check_digit(value, digits::iso_6346(&value[..17]))
}
