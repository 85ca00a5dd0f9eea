//! Texts of an event: lengths in characters, no control characters. Protobuf has checked already that they are UTF-8.

use prost_types::Timestamp;

use super::{Checker, Path};

/// The longest code of a scheme, or document number, in characters.
pub(super) const CODE_CHARACTERS_MAX: usize = 35;
/// The longest name of a system, device, method or schema part, in characters.
pub(super) const NAME_CHARACTERS_MAX: usize = 64;
/// The longest name of a place, in characters.
pub(super) const PLACE_NAME_CHARACTERS_MAX: usize = 200;
/// The longest note, in characters.
pub(super) const NOTE_CHARACTERS_MAX: usize = 500;
/// The longest URI, in characters.
pub(super) const URI_CHARACTERS_MAX: usize = 500;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

impl Checker<'_> {
    /// Checks a text that may be empty.
    pub(super) fn text(&mut self, text: &str, characters_max: usize, at: &Path<'_>) {
        // A text cannot have more characters than bytes.
        if characters_max < text.len() {
            let characters = text.chars().count();
            if characters_max < characters {
                let description = format!("must have at most {characters_max} characters, not {characters}");
                self.report.add(at, "TEXT_TOO_LONG", description);
            }
        }
        if text.chars().any(char::is_control) {
            self.report.add(at, "TEXT_MALFORMED", "must have no control characters, line breaks among them");
        }
    }

    /// Checks a text that must not be empty.
    pub(super) fn required_text(&mut self, text: &str, characters_max: usize, at: &Path<'_>) {
        if text.is_empty() {
            self.report.add(at, "TEXT_MISSING", format!("must have 1 to {characters_max} characters"));
        }
        self.text(text, characters_max, at);
    }

    /// Checks a SHA-256 that may be absent.
    pub(super) fn sha256(&mut self, digest: &[u8], at: &Path<'_>) {
        if !matches!(digest.len(), 0 | 32) {
            self.report.add(at, "SHA256_MALFORMED", format!("must be absent or have 32 bytes, not {}", digest.len()));
        }
    }

    /// A time in nanoseconds since 1970, where protobuf's rules are kept and it lies between 1970 and 2262.
    pub(super) fn time_ns(&mut self, time: Timestamp, at: &Path<'_>) -> Option<i64> {
        let nanos = i64::from(time.nanos);
        if !(0..NANOS_PER_SECOND).contains(&nanos) {
            self.report.add(at, "TIME_OUT_OF_RANGE", format!("must have nanos from 0 to 999,999,999, not {nanos}"));
            return None;
        }
        let time_ns = time.seconds.checked_mul(NANOS_PER_SECOND).and_then(|time_ns| time_ns.checked_add(nanos));
        let time_ns = time_ns.filter(|time_ns| 0 <= *time_ns);
        if time_ns.is_none() {
            self.report.add(at, "TIME_OUT_OF_RANGE", "must lie between the years 1970 and 2262");
        }
        time_ns
    }
}

/// A time as people read it, for descriptions.
pub(super) fn show(time_ns: i64) -> String {
    chrono::DateTime::from_timestamp_nanos(time_ns).to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}
