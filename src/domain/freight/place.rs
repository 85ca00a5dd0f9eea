//! Places: the shape of UN/LOCODE (UN/ECE Recommendation 16) and of facility codes by their scheme. It never knows which codes exist;
//! lists that an operator loads do.

use super::{IdentifierFault, canonical::canonical_issuer, digits, gs1, malformed, reference};

/// Numbers of `FacilityScheme` that have a shape of their own.
mod scheme {
    pub const SMDG: u8 = 1;
    pub const BIC: u8 = 2;
    pub const GLN: u8 = 3;
    pub const CUSTOMS_OFFICE: u8 = 4;
    pub const UIC_STATION: u8 = 5;
    pub const IATA_AIRPORT: u8 = 6;
}

/// Whether a canonical text has the shape of a UN/LOCODE: a country and three letters, or digits from 2 to 9.
#[must_use]
pub fn is_locode(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 5
        && bytes[..2].iter().all(u8::is_ascii_uppercase)
        && bytes[2..].iter().all(|byte| byte.is_ascii_uppercase() || (b'2'..=b'9').contains(byte))
}

/// Checks a facility's code by its scheme.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn check_facility(scheme: u8, code: &str) -> Result<(), IdentifierFault> {
    if canonical_issuer(code) != code {
        return Err(malformed(format!("must be written {}, not {code:?}", canonical_issuer(code))));
    }
    let between = |least: usize, most: usize| (least..=most).contains(&code.len()) && digits::are_alphanumeric(code);
    let (shaped, example) = match scheme {
        scheme::GLN => return gs1::check_gln(code),
        scheme::SMDG => (between(2, 6), "an SMDG terminal code of two to six letters and digits such as KICT"),
        scheme::BIC => (between(9, 9), "a BIC facility code of nine letters and digits such as PKKHIA5B2"),
        scheme::CUSTOMS_OFFICE => (
            between(8, 8) && digits::are_letters(&code[..2]),
            "a customs office of a country and six letters and digits such as GB000060",
        ),
        scheme::UIC_STATION => (
            between(7, 8) && digits::are_digits(code, code.len()),
            "a railway location of seven digits, or eight with its check digit, such as 8704100",
        ),
        scheme::IATA_AIRPORT => (code.len() == 3 && digits::are_letters(code), "an IATA airport such as KHI"),
        _ => return reference::check(code),
    };
    if shaped { Ok(()) } else { Err(malformed(format!("must be {example}, not {code:?}"))) }
}
