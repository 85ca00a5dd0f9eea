//! Commodity codes: the Harmonized System of the World Customs Organization. It never knows which codes an edition has.

/// Whether a text has the shape of an HS code: a chapter (2 digits), heading (4) or subheading (6). National digits beyond six are not
/// carried, since they mean different goods in different countries.
#[must_use]
pub fn is_hs_code(text: &str) -> bool {
    matches!(text.len(), 2 | 4 | 6) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text has the shape of a unit of UN/ECE Recommendation 20: two or three letters and digits.
#[must_use]
pub fn is_unit_code(text: &str) -> bool {
    matches!(text.len(), 2 | 3) && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}
