//! Codes, times and events in short words for people, and the way back from words to codes. It never decides anything by them.

use chrono::{DateTime, SecondsFormat, Utc};
use prost::Message;
use prost_types::Timestamp;

use super::json::enumeration;
use crate::wire::proto::{self, RecordedEvent, event::Body};

/// The short word of an enumeration's number: `discharged` for `HANDLING_STEP_DISCHARGED`; empty for the unspecified, the number itself
/// where this program is older than the code.
#[must_use]
pub fn word(enum_name: &str, number: i32) -> String {
    let descriptor = enumeration(enum_name);
    if number == 0 {
        return String::new();
    }
    match descriptor.get_value(number) {
        Some(value) => value.name().trim_start_matches(prefix(enum_name).as_str()).to_ascii_lowercase(),
        None => number.to_string(),
    }
}

/// The number of a short or long word: `discharged`, `DISCHARGED`, `rail-station` or `HANDLING_STEP_DISCHARGED`.
///
/// # Errors
/// No value is called so; the words that there are.
pub fn number(enum_name: &str, word: &str) -> Result<i32, String> {
    let descriptor = enumeration(enum_name);
    let prefix = prefix(enum_name);
    let upper = word.trim().to_ascii_uppercase().replace('-', "_");
    let full = if upper.starts_with(&prefix) { upper } else { format!("{prefix}{upper}") };
    let found = descriptor.get_value_by_name(&full).map(|value| value.number());
    found.filter(|number| *number != 0).ok_or_else(|| {
        let known: Vec<_> = descriptor.values().filter(|value| value.number() != 0).collect();
        let known: Vec<_> = known.iter().map(|value| self::word(enum_name, value.number())).collect();
        format!("{word:?} is none of: {}", known.join(", "))
    })
}

/// `IDENTIFIER_KIND_` for `IdentifierKind`, from its zero value.
fn prefix(enum_name: &str) -> String {
    let zero = enumeration(enum_name).get_value(0);
    zero.map(|value| value.name().trim_end_matches("UNSPECIFIED").to_owned()).unwrap_or_default()
}

/// A time as RFC 3339 to the second in UTC; empty where unset.
#[must_use]
pub fn time(time: Option<&Timestamp>) -> String {
    let Some(time) = time else { return String::new() };
    match DateTime::<Utc>::from_timestamp(time.seconds, u32::try_from(time.nanos).unwrap_or(0)) {
        Some(moment) => moment.to_rfc3339_opts(SecondsFormat::Secs, true),
        // A publisher may state any number of seconds.
        None => format!("{} s", time.seconds),
    }
}

/// Reads an RFC 3339 time.
///
/// # Errors
/// The text is another form.
pub fn parse_time(text: &str) -> Result<Timestamp, String> {
    let moment = DateTime::parse_from_rfc3339(text)
        .map_err(|_| format!("{text:?} is no RFC 3339 time such as 2026-11-24T06:15:00Z"))?;
    Ok(Timestamp { seconds: moment.timestamp(), nanos: moment.timestamp_subsec_nanos().cast_signed() })
}

/// A size in the binary unit that fits.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let exponent = (bytes.ilog2() / 10).min(5);
    format!("{:.1} {}", bytes as f64 / 1024_f64.powi(exponent.cast_signed()), units[exponent as usize - 1])
}

/// A name without its scheme: `customs.gov.pk/agency/karachi`.
#[must_use]
pub fn short_id(id: &str) -> &str {
    id.strip_prefix("spiffe://").unwrap_or(id)
}

/// A subject as people write it: `MSKU9070323`, or with its issuer `PK:KAPR-HC-1234`.
#[must_use]
pub fn subject(subject: &proto::Subject) -> String {
    let kind = kind_words(subject.kind);
    match subject.issuer.as_str() {
        "" => format!("{kind} {}", subject.value),
        issuer => format!("{kind} {issuer}:{}", subject.value),
    }
}

/// The kind of an identifier in words, with its abbreviations as people write them: `vessel IMO`.
fn kind_words(kind: i32) -> String {
    const ABBREVIATIONS: [&str; 11] = ["imo", "mmsi", "eni", "ucr", "lrn", "mrn", "sscc", "gs1", "uri", "vin", "uld"];
    let code = word("IdentifierKind", kind);
    let words = code
        .split('_')
        .map(|part| if ABBREVIATIONS.contains(&part) { part.to_ascii_uppercase() } else { part.to_owned() });
    words.collect::<Vec<_>>().join(" ")
}

/// What a person wants to see of an event at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Glance {
    /// When it happened or is to happen.
    pub event_time: String,
    /// Body and step: `handling.discharged`.
    pub kind: String,
    /// `planned`, `estimated`, `requested`; empty for what has happened.
    pub classifier: String,
    /// Its first subject, and how many more there are.
    pub subject: String,
    /// Where: the place of the event, or the office.
    pub place: String,
    /// What else matters: a hold's kind, an inspection's result, a revision.
    pub remark: String,
    /// Who says so, without the scheme.
    pub publisher: String,
    /// The event's own id.
    pub event_id: String,
}

/// A recorded event at a glance. Bytes that are no event (which no node of ours stores) give a glance that says so.
#[must_use]
pub fn glance(recorded: &RecordedEvent) -> Glance {
    let bytes = recorded.signed.as_ref().map(|signed| signed.event.clone()).unwrap_or_default();
    match proto::Event::decode(bytes) {
        Ok(event) => glance_at(&event),
        Err(_) => Glance { kind: "unreadable".to_owned(), ..Glance::default() },
    }
}

/// An event at a glance.
#[must_use]
pub fn glance_at(event: &proto::Event) -> Glance {
    let (kind, remark) = kind_and_remark(event);
    let classifier = match proto::Classifier::try_from(event.classifier) {
        Ok(proto::Classifier::Actual | proto::Classifier::Unspecified) => String::new(),
        _ => word("Classifier", event.classifier),
    };
    let more = event.subjects.len().saturating_sub(1);
    let subject = match event.subjects.first() {
        None => String::new(),
        Some(first) if more == 0 => subject(first),
        Some(first) => format!("{} +{more}", subject(first)),
    };
    Glance {
        event_time: time(event.event_time.as_ref()),
        kind,
        classifier,
        subject,
        place: place_of(event),
        remark,
        publisher: short_id(&event.publisher).to_owned(),
        event_id: event.event_id.clone(),
    }
}

fn place_of(event: &proto::Event) -> String {
    use proto::PlaceRole;
    let rank = |place: &&proto::Place| match PlaceRole::try_from(place.role) {
        Ok(PlaceRole::Event) => 0,
        Ok(PlaceRole::Office) => 1,
        _ => 2,
    };
    event.places.iter().min_by_key(rank).map(place).unwrap_or_default()
}

/// A place in few words: its UN/LOCODE or else its country, and its code in a list of facilities; by its name where it has neither.
#[must_use]
pub fn place(place: &proto::Place) -> String {
    let facility = place.facility.as_ref().map(|facility| facility.code.as_str()).unwrap_or_default();
    let locode = if place.un_locode.is_empty() { &place.country_code } else { &place.un_locode };
    match (locode.is_empty(), facility.is_empty()) {
        (false, false) => format!("{locode}/{facility}"),
        (false, true) => locode.clone(),
        (true, false) => facility.to_owned(),
        (true, true) => place.name.clone(),
    }
}

fn kind_and_remark(event: &proto::Event) -> (String, String) {
    let step = |body: &str, enum_name: &str, step: i32| format!("{body}.{}", word(enum_name, step));
    let (kind, mut remark) = match &event.body {
        None => ("retraction".to_owned(), String::new()),
        Some(Body::Movement(body)) => (step("movement", "MovementStep", body.step), word("PortService", body.service)),
        Some(Body::Handling(body)) => {
            (step("handling", "HandlingStep", body.step), word("LoadStatus", body.load_status))
        }
        Some(Body::Clearance(body)) => {
            (step("clearance", "ClearanceStep", body.step), word("Procedure", event.procedure))
        }
        Some(Body::Hold(body)) => (step("hold", "HoldStep", body.step), word("HoldKind", body.kind)),
        Some(Body::Inspection(body)) => {
            let words = [word("InspectionKind", body.kind), word("InspectionResult", body.result)];
            let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
            (step("inspection", "InspectionStep", body.step), words.join(", "))
        }
        Some(Body::Document(body)) => (step("document", "DocumentStep", body.step), body.number.clone()),
        Some(Body::Association(body)) => {
            let parent = body.parent.as_ref().map(subject).unwrap_or_default();
            (step("association", "AssociationStep", body.step), format!("{} to {parent}", body.children.len()))
        }
        Some(Body::Condition(body)) => ("condition".to_owned(), word("Alarm", body.alarm)),
        Some(Body::Emission(_)) => ("emission".to_owned(), String::new()),
    };
    if let Some(revision) = &event.revision {
        let words = format!("{}s {}", word("RevisionKind", revision.kind), revision.event_id);
        remark = if remark.is_empty() { words } else { format!("{remark}; {words}") };
    }
    (kind, remark.replace('_', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_words_go_both_ways() {
        assert_eq!(word("HandlingStep", 4), "discharged");
        assert_eq!((word("HandlingStep", 0), word("HandlingStep", 999)), (String::new(), "999".to_owned()));
        for text in ["discharged", "DISCHARGED", "HANDLING_STEP_DISCHARGED"] {
            assert_eq!(number("HandlingStep", text), Ok(4));
        }
        assert_eq!(number("PlaceKind", "rail-station"), Ok(7));
        let error = number("LoadStatus", "full").unwrap_err();
        assert_eq!(error, "\"full\" is none of: empty, laden");
        assert!(number("LoadStatus", "unspecified").is_err());
    }

    #[test]
    fn times_and_sizes_read_well() {
        let noon = parse_time("2026-11-24T12:00:00+05:00").unwrap();
        assert_eq!(time(Some(&noon)), "2026-11-24T07:00:00Z");
        assert!(parse_time("24.11.2026").unwrap_err().contains("RFC 3339"));
        assert_eq!((size(17), size(1536), size(3 << 30)), ("17 B".into(), "1.5 KiB".into(), "3.0 GiB".into()));
    }

    #[test]
    fn an_event_at_a_glance() {
        let text = r#"{"eventTime": "2026-11-23T06:15:00Z", "publisher": "spiffe://port.gov.pk/kict",
            "classifier": "CLASSIFIER_ESTIMATED",
            "subjects": [{"kind": "IDENTIFIER_KIND_BILL_OF_LADING", "value": "X1", "issuer": "MSK"}, {"value": "Y"}],
            "places": [{"role": "PLACE_ROLE_LOADING", "unLocode": "CNSHA"},
                       {"role": "PLACE_ROLE_EVENT", "unLocode": "PKKHI", "facility": {"code": "KICT"}}],
            "hold": {"step": "HOLD_STEP_PLACED", "kind": "HOLD_KIND_CUSTOMS"}}"#;
        let event: proto::Event = super::super::json::read_typed("Event", text).unwrap();
        let glance = glance_at(&event);
        assert_eq!(glance.kind, "hold.placed");
        assert_eq!(glance.classifier, "estimated");
        assert_eq!(glance.subject, "bill of lading MSK:X1 +1");
        assert_eq!((glance.place.as_str(), glance.remark.as_str()), ("PKKHI/KICT", "customs"));
        assert_eq!(glance.publisher, "port.gov.pk/kict");
    }
}
