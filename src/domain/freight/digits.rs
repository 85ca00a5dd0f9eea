//! The arithmetic that several check digits share. Inputs are canonical and of checked shape; it never judges a shape.

/// The sum of ISO 6346:2022, annex A, over letters and digits: a letter counts 10 to 38 without the multiples of eleven, place i counts
/// 2^i; the check digit is the sum modulo 11, and 0 for a remainder of 10. Movement reference numbers use the same (Commission
/// Implementing Regulation (EU) 2015/2447, annex on the MRN).
pub(super) fn iso_6346(characters: &str) -> u32 {
    let sum: u64 = characters.bytes().zip(0..).map(|(byte, place)| u64::from(letter_value(byte)) << place).sum();
    (sum % 11 % 10) as u32
}

fn letter_value(byte: u8) -> u32 {
    if byte.is_ascii_digit() {
        return u32::from(byte - b'0');
    }
    let letter = u32::from(byte - b'A');
    // A is 10; 11, 22 and 33 are left out, so letters from B, L and V on are moved up by one more each.
    letter + 10 + u32::from(letter >= 1) + u32::from(letter >= 11) + u32::from(letter >= 21)
}

/// The check digit of GS1 General Specifications, section 7.9: weights 3 and 1 in turn from the right, up to the next ten.
pub(super) fn gs1(digits: &str) -> u32 {
    let weighted = digits.bytes().rev().zip([3, 1].into_iter().cycle());
    let sum: u32 = weighted.map(|(byte, weight)| u32::from(byte - b'0') * weight).sum();
    (10 - sum % 10) % 10
}

/// The check digit of UIC leaflet 438-2: weights 2 and 1 in turn from the right, digits of the products summed, up to the next ten.
pub(super) fn luhn(digits: &str) -> u32 {
    let weighted = digits.bytes().rev().zip([2, 1].into_iter().cycle());
    let sum: u32 =
        weighted.map(|(byte, weight)| u32::from(byte - b'0') * weight).map(|product| product / 10 + product % 10).sum();
    (10 - sum % 10) % 10
}

/// Whether a text is so many digits.
pub(super) fn are_digits(text: &str, count: usize) -> bool {
    text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text is nothing but upper-case letters and digits.
pub(super) fn are_alphanumeric(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// Whether a text is nothing but upper-case letters.
pub(super) fn are_letters(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_uppercase())
}
