//! GS1 keys (GS1 General Specifications): serial shipping container codes, global location numbers, and URIs of EPC or Digital Link.

use super::{IdentifierFault, digits, expect_check_digit, malformed};

/// The longest URI, in bytes.
pub const URI_BYTES_MAX: usize = 256;

/// Checks a serial shipping container code: eighteen digits, the last a check digit.
///
/// # Errors
/// The shape or the check digit is wrong.
pub fn check_sscc(value: &str) -> Result<(), IdentifierFault> {
    if !digits::are_digits(value, 18) {
        return Err(malformed(format!("must be an SSCC of eighteen digits such as 106141412345678908, not {value:?}")));
    }
    expect_check_digit(value, digits::gs1(&value[..17]))
}

/// Checks a global location number: thirteen digits, the last a check digit.
///
/// # Errors
/// The shape or the check digit is wrong.
pub fn check_gln(value: &str) -> Result<(), IdentifierFault> {
    if !digits::are_digits(value, 13) {
        return Err(malformed(format!("must be a GLN of thirteen digits such as 0614141000005, not {value:?}")));
    }
    expect_check_digit(value, digits::gs1(&value[..12]))
}

/// Checks a URI: an EPC URN or a web URI of GS1 Digital Link, printable ASCII without spaces, at most 256 bytes.
///
/// # Errors
/// The shape is wrong.
pub fn check_uri(value: &str) -> Result<(), IdentifierFault> {
    let schemed = ["urn:epc:", "https://", "http://"]
        .iter()
        .any(|scheme| value.len() > scheme.len() && value.starts_with(scheme));
    if schemed && value.len() <= URI_BYTES_MAX && value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(malformed(format!(
        "must be an EPC URN or a GS1 Digital Link of at most {URI_BYTES_MAX} bytes, such as urn:epc:id:sscc:0614141.1234567890, not {value:?}"
    )))
}
