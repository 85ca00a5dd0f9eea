//! Says where a JSON text is wrong, what stands there and what would be right, in the words of whoever wrote the text. It never corrects
//! anything.

use prost_reflect::DescriptorPool;
use serde_json::error::Category;

use super::{JsonMalformed, nearest};

/// So much of what stands at the fault is quoted.
const QUOTED_CHARACTERS_MAX: usize = 40;

/// The fault that the JSON reader met in this text, which should be a message of the API by its short name.
pub(super) fn of(pool: &DescriptorPool, short_name: &str, text: &str, error: &serde_json::Error) -> JsonMalformed {
    let said = error.to_string();
    // The reader appends the place, which stands in fields of its own here.
    let reason = said.rsplit_once(" at line ").map_or(said.as_str(), |(reason, _)| reason);
    let (mut line, mut column) = (error.line(), error.column());
    if column == 0 && line > 1 {
        // The line break itself is the fault: it belongs to the line that it ends.
        line -= 1;
        column = text.lines().nth(line - 1).map_or(0, str::len) + 1;
    }
    let Some(line_start) = start_of(text, line) else {
        return JsonMalformed { line: 0, column: 0, reason: nearest::with_suggestion(pool, reason.to_owned()) };
    };
    let wanted = if short_name == "Event" { "event" } else { "filter" };
    let at = (line_start + column).saturating_sub(1).min(text.len().saturating_sub(1));
    match error.classify() {
        Category::Eof => {
            let reason = format!("the text ends before the {wanted} does, expected a closing brace, bracket or quote");
            JsonMalformed { line, column, reason }
        }
        Category::Data => {
            // What was only looked at, not read, begins behind the reader's place.
            let is_before = |byte: &u8| byte.is_ascii_whitespace() || *byte == b':';
            let behind = text.as_bytes()[at.min(text.len())..].iter().take_while(|byte| is_before(byte)).count();
            let token = token_ending(text, (at + behind).max(line_start));
            let reason = data(reason, token.text, is_first(text, token.start).then_some(wanted));
            JsonMalformed { line, column: token.column(line_start), reason: nearest::with_suggestion(pool, reason) }
        }
        Category::Syntax | Category::Io => {
            let token = token_around(text, at.max(line_start), line_start);
            let reason = syntax(reason, token.text, is_first(text, token.start).then_some(wanted));
            JsonMalformed { line, column: token.column(line_start), reason }
        }
    }
}

/// What stands at a place of the text.
#[derive(Debug, Clone, Copy)]
struct Token<'text> {
    text: &'text str,
    start: usize,
}

impl Token<'_> {
    /// The column of its first byte, from 1.
    const fn column(&self, line_start: usize) -> usize {
        self.start.saturating_sub(line_start) + 1
    }
}

/// Where a line begins, from 1; none for the line 0, which the reader gives where the whole is wrong.
fn start_of(text: &str, line: usize) -> Option<usize> {
    let before = line.checked_sub(1)?;
    Some(
        text.bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .nth(before.wrapping_sub(1))
            .map_or(0, |(at, _)| at + 1),
    )
}

const fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'.') || !byte.is_ascii()
}

/// The word around a place, or the text in quotes or the signs that begin there.
fn token_around(text: &str, at: usize, line_start: usize) -> Token<'_> {
    let bytes = text.as_bytes();
    let Some(first) = bytes.get(at).copied() else { return Token { text: "", start: at } };
    let (mut start, mut end) = (at, at);
    if is_of_word(first) {
        while line_start < start && is_of_word(bytes[start - 1]) {
            start -= 1;
        }
        while bytes.get(end).copied().is_some_and(is_of_word) {
            end += 1;
        }
    } else {
        end += 1;
        let ends = |byte: u8| if first == b'"' { byte == b'"' } else { byte.is_ascii_whitespace() || is_of_word(byte) };
        while bytes.get(end).copied().is_some_and(|byte| byte != b'\n' && !ends(byte)) {
            end += 1;
        }
        if first == b'"' && bytes.get(end) == Some(&b'"') {
            end += 1;
        }
    }
    Token { text: text.get(start..end).unwrap_or_default(), start }
}

/// The value or name whose last byte stands at a place.
fn token_ending(text: &str, at: usize) -> Token<'_> {
    let bytes = text.as_bytes();
    let mut start = at;
    match bytes.get(at) {
        Some(b'"') => {
            let is_escaped =
                |quote: usize| bytes[..quote].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
            start = (0..at).rev().find(|at| bytes[*at] == b'"' && !is_escaped(*at)).unwrap_or(at);
        }
        Some(byte) if is_of_word(*byte) => {
            while 0 < start && is_of_word(bytes[start - 1]) {
                start -= 1;
            }
        }
        _ => {}
    }
    Token { text: text.get(start..=at).unwrap_or_default(), start }
}

fn is_first(text: &str, start: usize) -> bool {
    text.get(..start).is_some_and(|before| before.trim().is_empty())
}

fn with_article(wanted: &str) -> String {
    format!("{} {wanted}", if wanted == "event" { "an" } else { "a" })
}

fn quoted(found: &str) -> String {
    let cut: String = found.chars().take(QUOTED_CHARACTERS_MAX).collect();
    if cut.len() < found.len() { format!("{cut}…") } else { cut }
}

/// `first`: what the text should be, where the fault is its beginning.
fn syntax(reason: &str, found: &str, first: Option<&str>) -> String {
    let found = quoted(found);
    if let (Some(wanted), "expected value" | "expected ident" | "invalid number") = (first, reason) {
        return format!("found {found}, expected {}: {{...}}", with_article(wanted));
    }
    match reason {
        "expected value" => format!(
            "found {found}, expected a value: a text in double quotes, a number, true, false, null, an object or a list"
        ),
        "expected ident" => format!("found {found}, expected true, false or null; a text stands in double quotes"),
        "key must be a string" => format!("found {found}, expected the name of a field in double quotes"),
        "trailing comma" => format!("found {found} after a comma, expected one more field or value"),
        "trailing characters" => format!("found {found} after its end, expected nothing more (one event a line)"),
        "control character (\\u0000-\\u001F) found while parsing a string" => {
            "found a line break or another control character in a text, expected its escape (\\n, \\t, \\u000d)"
                .to_owned()
        }
        expected if expected.starts_with("expected ") => format!("found {found}, {expected}"),
        other => format!("{other}: {found}"),
    }
}

fn data(reason: &str, found: &str, first: Option<&str>) -> String {
    let found = quoted(found);
    if let (Some(wanted), true) = (first, reason.starts_with("invalid type")) {
        return format!("found {found}, expected {}: {{...}}", with_article(wanted));
    }
    let expected = match reason {
        _ if reason.starts_with("invalid rfc3339 timestamp") => "a time as RFC 3339 writes it: 2026-11-25T10:39:03Z",
        _ if reason.starts_with("invalid base64") => "bytes in base64",
        "invalid digit found in string" | "expected integer value" | "cannot parse integer from empty string" => {
            "a whole number"
        }
        "number too large to fit in target type"
        | "number too small to fit in target type"
        | "out of range integral type conversion attempted"
        | "float value out of range" => "a number within the field's range",
        "invalid float literal" | "cannot parse float from empty string" => "a number",
        _ => match reason.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected ")) {
            Some((is, wanted)) => return format!("found {}, expected {}", kind(is, &found), kind(wanted, wanted)),
            None => return reason.to_owned(),
        },
    };
    format!("found {found}, expected {expected}")
}

/// A kind of JSON value as its writer calls it; for a value, what it is.
fn kind<'word>(word: &'word str, otherwise: &'word str) -> &'word str {
    match word {
        "map" => "an object, {...}",
        "sequence" => "a list, [...]",
        "a map" => "an object: {...}",
        "a list" => "a list: [...]",
        "a string" => "a text in double quotes",
        _ => otherwise,
    }
}
