//! The publish door's reading of one event: decode, check every rule of the event model, and build the routing header. It never changes
//! the event's bytes, never looks at the log, and never decides who may say what.
//!
//! Values are refused where they are not in the canonical form of their kind, and the refusal says that form: the stored bytes are the
//! publisher's for ever, so what others will search for must stand in them.

mod bodies;
mod envelope;
mod freight;
mod goods;
mod header;
mod measures;
mod places;
mod subjects;
#[cfg(test)]
mod tests;
mod text;

use prost::Message;

pub use self::header::routing_header;
use super::{
    SignedEvent,
    proto::Event,
    violations::{Path, Report, Violation},
};
pub use crate::domain::code_lists::{CodeList, CodeLists, ListMode};
use crate::domain::{EventId, RoutingHeader, SpiffeId};

/// The largest event in bytes, its signature left out.
pub const EVENT_BYTES_MAX: usize = 64 * 1024;

/// What an event is validated against.
#[derive(Debug, Clone, Copy)]
pub struct ValidationContext<'a> {
    /// This node's time, nanoseconds since 1970.
    pub now_ns: i64,
    /// The operator's code lists.
    pub lists: &'a CodeLists,
}

/// An event that keeps every rule.
#[derive(Debug, Clone)]
pub struct ParsedEvent {
    /// Its id.
    pub event_id: EventId,
    /// Who says it; whether the caller is that one is the door's to check.
    pub publisher: SpiffeId,
    /// Its own routing header; the log unites it with its predecessor's where it is a revision.
    pub header: RoutingHeader,
    /// The event, decoded.
    pub event: Event,
    /// True where it is an association that binds parties: that needs the action "share".
    pub binds_parties: bool,
    /// Codes that are not on a list which only warns.
    pub warnings: Vec<Violation>,
}

/// Reads one event that stands at a path of its request, such as `events[3]`.
///
/// # Errors
/// Every rule that it breaks, at most 32, each with its field's path.
pub fn parse_event(
    signed: &SignedEvent,
    path: &str,
    context: &ValidationContext<'_>,
) -> Result<ParsedEvent, Vec<Violation>> {
    let root = Path::Root(path);
    let mut checker = Checker { report: Report::default(), warnings: Report::default(), context: *context };
    if EVENT_BYTES_MAX < signed.event.len() {
        let description = format!("must be at most {EVENT_BYTES_MAX} bytes long, not {}", signed.event.len());
        checker.report.add(&root, "EVENT_TOO_LARGE", description);
        return Err(checker.report.into_violations());
    }
    let event = match Event::decode(signed.event.clone()) {
        Ok(event) => event,
        Err(error) => {
            checker.report.add(&root, "EVENT_UNREADABLE", format!("must be an Event of protobuf: {error}"));
            return Err(checker.report.into_violations());
        }
    };
    checker.signature(signed, &root);
    let identity = checker.envelope(&event, &root);
    checker.body(&event, &root);
    match identity {
        Some((event_id, publisher)) if checker.report.is_clean() => {
            let header = routing_header(&event, event_id, publisher.clone());
            let binds_parties = header::association(&event).is_some_and(|association| !association.parties.is_empty());
            let warnings = checker.warnings.into_violations();
            Ok(ParsedEvent { event_id, publisher, header, event, binds_parties, warnings })
        }
        _ => Err(checker.report.into_violations()),
    }
}

/// One event's check: what it is checked against, and what was found.
struct Checker<'a> {
    report: Report,
    warnings: Report,
    context: ValidationContext<'a>,
}

impl Checker<'_> {
    /// Notes a number that is no value of its enum.
    fn unknown_enum(&mut self, at: &Path<'_>, enumeration: &str, number: i32) {
        let description = format!("must be a value of {enumeration} that this node knows, not {number}");
        self.report.add(at, "ENUM_UNKNOWN", description);
    }

    /// Checks an enum that may be left unset.
    fn optional_enum<E: TryFrom<i32>>(&mut self, number: i32, at: &Path<'_>, enumeration: &str) {
        if E::try_from(number).is_err() {
            self.unknown_enum(at, enumeration, number);
        }
    }

    /// Checks an enum that must be set. `reason` says what is missing where it is not.
    fn required_enum<E: TryFrom<i32>>(&mut self, number: i32, at: &Path<'_>, enumeration: &str, reason: &'static str) {
        if number == 0 {
            self.report.add(at, reason, format!("must be set to a value of {enumeration}"));
        } else {
            self.optional_enum::<E>(number, at, enumeration);
        }
    }

    /// Checks how many values a repeated field has; false where there are too many to look at each.
    fn at_most(&mut self, count: usize, count_max: usize, at: &Path<'_>) -> bool {
        if count_max < count {
            self.report.add(at, "TOO_MANY_VALUES", format!("must have at most {count_max} values, not {count}"));
        }
        count <= count_max
    }
}
