//! Canonical forms: the one spelling under which an identifier is published and found. It never checks shapes.

use std::borrow::Cow;

use crate::domain::codes::kind;

/// The canonical form of a value of a kind, as events carry it: upper case, spaces and hyphens removed. Punctuation is kept where it is
/// part of the reference (UCR, LRN, declarations, calls, consignments), and a GS1 URI is left as it is. "IMO" before a ship's number goes.
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
        | kind::ROAD_CONSIGNMENT => rewrite(value, char::is_whitespace),
        kind::VESSEL_IMO => match compact(value) {
            Cow::Borrowed(plain) => Cow::Borrowed(plain.strip_prefix("IMO").unwrap_or(plain)),
            Cow::Owned(plain) => match plain.strip_prefix("IMO") {
                Some(number) => Cow::Owned(number.to_owned()),
                None => Cow::Owned(plain),
            },
        },
        _ => compact(value),
    }
}

/// Every form that a value may have in an event, where its kind is not known.
#[must_use]
pub fn canonical_forms(value: &str) -> Vec<String> {
    let mut forms = vec![value.to_owned()];
    for kind in [kind::UCR, kind::CONTAINER, kind::VESSEL_IMO] {
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
    // Most values are canonical already, and ASCII: nothing is copied then.
    if text.chars().all(|character| !drop(character) && !character.is_lowercase()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().filter(|character| !drop(*character)).flat_map(char::to_uppercase).collect())
}
