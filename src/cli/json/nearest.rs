//! Says what a misspelt field or value of a JSON text was probably meant to be. It never corrects anything.

use std::collections::BTreeSet;

use prost_reflect::DescriptorPool;

use crate::config::nearest::nearest;

/// A longer word is no slip of one of ours, and comparing it would only cost time.
const WORD_LENGTH_MAX: usize = 64;

/// Adds "did you mean" to a reason that quotes an unknown field or value, where one is near.
pub fn with_suggestion(pool: &DescriptorPool, reason: String) -> String {
    let (word, known) = if let Some(word) = quoted(&reason, "unrecognized field name '") {
        (word, field_names(pool))
    } else if let Some(word) = quoted(&reason, "unrecognized enum value '") {
        (word, value_names(pool))
    } else {
        return reason;
    };
    let near = meant(&word, &known);
    let said = reason
        .replace("unrecognized field name '", "unknown field '")
        .replace("unrecognized enum value '", "unknown value '");
    if near.is_empty() { said } else { format!("{said}; did you mean {}?", near.join(" or ")) }
}

fn quoted(reason: &str, opening: &str) -> Option<String> {
    let rest = reason.split_once(opening)?.1;
    Some(rest.split_once('\'')?.0.to_owned())
}

fn field_names(pool: &DescriptorPool) -> BTreeSet<String> {
    let ours = pool.all_messages().filter(|message| message.package_name() == "tradelane.v1");
    ours.flat_map(|message| message.fields().map(|field| field.json_name().to_owned()).collect::<Vec<_>>()).collect()
}

fn value_names(pool: &DescriptorPool) -> BTreeSet<String> {
    let ours = pool.all_enums().filter(|candidate| candidate.package_name() == "tradelane.v1");
    ours.flat_map(|found| found.values().map(|value| value.name().to_owned()).collect::<Vec<_>>()).collect()
}

/// At most three: those that end in the word as people shorten it (`DISCHARGED`), else the one that is a slip away.
fn meant(word: &str, known: &BTreeSet<String>) -> Vec<String> {
    if word.is_empty() || word.len() > WORD_LENGTH_MAX {
        return Vec::new();
    }
    let ending = format!("_{}", word.to_ascii_uppercase());
    let shortened: Vec<_> = known.iter().filter(|name| name.ends_with(&ending)).take(3).cloned().collect();
    if !shortened.is_empty() {
        return shortened;
    }
    nearest(word, known.iter().map(String::as_str)).map(ToOwned::to_owned).into_iter().collect()
}
