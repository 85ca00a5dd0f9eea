//! References that their issuers form as they like: bookings, bills, voyages, calls, seals, trains, consignments, UCR, LRN, national
//! declarations. Only length and alphabet are known of them.

use super::{IdentifierFault, VALUE_CHARACTERS_MAX, malformed};

/// Checks a reference: 1 to 35 printable characters of ASCII without spaces and lower-case letters.
///
/// # Errors
/// It is empty, longer, or has another character.
pub fn check(value: &str) -> Result<(), IdentifierFault> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_lowercase();
    if (1..=VALUE_CHARACTERS_MAX).contains(&value.len()) && value.bytes().all(allowed) {
        return Ok(());
    }
    Err(malformed(format!(
        "must be 1 to {VALUE_CHARACTERS_MAX} upper-case letters, digits and punctuation without spaces, not {value:?}"
    )))
}
