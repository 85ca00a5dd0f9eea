//! Flags that say which events: one filter from short flags, or any filters as JSON. It never widens: what it cannot read is an error.

// The comments of arguments are their help, where a person would see the marks.
#![allow(clippy::doc_markdown)]

use clap::Args;

use super::{Failure, json, words};
use crate::{
    domain::freight::country_names,
    wire::proto::{EventFilter, Party, Place, Subject, TimeRange},
};

/// Which events. Different flags narrow (AND), values of one flag widen (OR).
#[derive(Debug, Clone, Default, Args)]
#[command(
    next_help_heading = "Which events (different flags narrow, one flag given again widens; none: all that you may read)"
)]
pub struct FilterFlags {
    /// What happens: a body, or a body and its step, such as "hold" or "handling.discharged".
    #[arg(long = "type", value_name = "BODY[.STEP]")]
    pub types: Vec<String>,
    /// planned, estimated, requested or actual.
    #[arg(long, value_name = "WORD")]
    pub classifier: Vec<String>,
    /// What it is about: MSKU9070323, or with its kind and issuer: container:MSKU9070323, declaration:KAPR-1@PK.
    #[arg(long, value_name = "[KIND:]VALUE[@ISSUER]")]
    pub subject: Vec<String>,
    /// A country of any place of the event: PK, or in one role: loading:CN.
    #[arg(long, value_name = "[ROLE:]CC")]
    pub country: Vec<String>,
    /// A UN/LOCODE of any place of the event: PKKHI, or in one role: discharge:PKKHI.
    #[arg(long, value_name = "[ROLE:]LOCODE")]
    pub locode: Vec<String>,
    /// A participant named as a party: its SPIFFE ID, or in one role: declarant=spiffe://...
    #[arg(long, value_name = "[ROLE=]SPIFFE-ID")]
    pub party: Vec<String>,
    /// Goods, as the first 2 to 6 digits of their HS code.
    #[arg(long, value_name = "DIGITS")]
    pub hs: Vec<String>,
    /// import, export, transit, ...
    #[arg(long, value_name = "WORD")]
    pub procedure: Vec<String>,
    /// maritime, rail, road, air, ...
    #[arg(long, value_name = "WORD")]
    pub mode: Vec<String>,
    /// Who published it: a SPIFFE ID, or all below a prefix: spiffe://customs.gov.pk/*
    #[arg(long, value_name = "SPIFFE-ID")]
    pub publisher: Vec<String>,
    /// At which node it was first accepted: a SPIFFE ID.
    #[arg(long, value_name = "SPIFFE-ID")]
    pub origin: Vec<String>,
    /// It happened, or is to happen, at or after this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub event_from: Option<String>,
    /// It happened, or is to happen, before this time.
    #[arg(long, value_name = "TIME")]
    pub event_until: Option<String>,
    /// The node accepted it at or after this time.
    #[arg(long, value_name = "TIME")]
    pub accepted_from: Option<String>,
    /// The node accepted it before this time.
    #[arg(long, value_name = "TIME")]
    pub accepted_until: Option<String>,
    /// A whole filter as JSON (message EventFilter); given again: events that match any of them.
    #[arg(long, value_name = "JSON", conflicts_with_all = ["types", "classifier", "subject", "country", "locode", "party", "hs",
        "procedure", "mode", "publisher", "origin", "event_from", "event_until", "accepted_from", "accepted_until"])]
    pub filter: Vec<String>,
}

impl FilterFlags {
    /// The filters of a request; none where no flag is given.
    ///
    /// # Errors
    /// A flag's value is malformed.
    pub fn filters(&self) -> Result<Vec<EventFilter>, Failure> {
        if !self.filter.is_empty() {
            return self.filter.iter().map(|text| from_json(text)).collect();
        }
        let filter = EventFilter {
            types: self.types.clone(),
            classifiers: numbers("--classifier", "Classifier", &self.classifier)?,
            subjects: all("--subject", &self.subject, parse_subject)?,
            places: {
                let mut places = all("--country", &self.country, |text| parse_place(text, false))?;
                places.extend(all("--locode", &self.locode, |text| parse_place(text, true))?);
                places
            },
            parties: all("--party", &self.party, parse_party)?,
            commodity_prefixes: self.hs.clone(),
            procedures: numbers("--procedure", "Procedure", &self.procedure)?,
            modes: numbers("--mode", "TransportMode", &self.mode)?,
            publishers: self.publisher.clone(),
            origins: self.origin.clone(),
            event_time: range("--event", self.event_from.as_ref(), self.event_until.as_ref())?,
            accepted_time: range("--accepted", self.accepted_from.as_ref(), self.accepted_until.as_ref())?,
            all: false,
        };
        Ok(if filter == EventFilter::default() { Vec::new() } else { vec![filter] })
    }
}

fn from_json(text: &str) -> Result<EventFilter, Failure> {
    json::read_typed("EventFilter", text)
        .map_err(|error| Failure::usage(format!("--filter, column {}: {error}", error.column)))
}

/// Reads a subject from `[KIND:]VALUE[@ISSUER]`.
///
/// # Errors
/// The kind is unknown, or there is no value.
pub fn parse_subject(text: &str) -> Result<Subject, String> {
    // A value may hold a colon of its own (EPC URNs): only a known kind before the first one is split off.
    let (kind, rest) = match text.split_once(':') {
        Some((kind, rest)) if kind.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter)) => {
            match words::number("IdentifierKind", kind) {
                Ok(number) => (number, rest),
                Err(_) if matches!(kind, "urn" | "https" | "http") => (0, text),
                Err(error) => return Err(format!("the kind {error}")),
            }
        }
        _ => (0, text),
    };
    let (value, issuer) = rest.rsplit_once('@').unwrap_or((rest, ""));
    if value.is_empty() {
        return Err("there is no value".to_owned());
    }
    Ok(Subject { kind, value: value.to_owned(), issuer: issuer.to_owned(), ..Subject::default() })
}

fn parse_place(text: &str, is_locode: bool) -> Result<Place, String> {
    let (role, code) = match text.split_once(':') {
        Some((role, code)) => (words::number("PlaceRole", role).map_err(|error| format!("the role {error}"))?, code),
        None => (0, text),
    };
    let (written, code) = (code, code.to_ascii_uppercase());
    let wanted = if is_locode { 5 } else { 2 };
    if code.len() != wanted || !code.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        let hint = if is_locode { String::new() } else { country_names::hint(written) };
        return Err(format!("{code:?} is not {wanted} letters{hint}"));
    }
    let place = Place { role, ..Place::default() };
    Ok(if is_locode { Place { un_locode: code, ..place } } else { Place { country_code: code, ..place } })
}

fn parse_party(text: &str) -> Result<Party, String> {
    let (role, participant) = match text.split_once('=') {
        Some((role, participant)) => {
            (words::number("PartyRole", role).map_err(|error| format!("the role {error}"))?, participant)
        }
        None => (0, text),
    };
    Ok(Party { role, participant: participant.to_owned(), ..Party::default() })
}

fn numbers(flag: &str, enum_name: &str, given: &[String]) -> Result<Vec<i32>, Failure> {
    all(flag, given, |word| words::number(enum_name, word))
}

fn all<T>(flag: &str, given: &[String], parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Failure> {
    let one = |text: &String| parse(text).map_err(|error| Failure::usage(format!("{flag} {text}: {error}")));
    given.iter().map(one).collect()
}

fn range(flag: &str, from: Option<&String>, until: Option<&String>) -> Result<Option<TimeRange>, Failure> {
    let read = |edge: &str, text: Option<&String>| {
        text.map(|text| words::parse_time(text))
            .transpose()
            .map_err(|error| Failure::usage(format!("{flag}-{edge}: {error}")))
    };
    let (start_time, end_time) = (read("from", from)?, read("until", until)?);
    Ok((start_time.is_some() || end_time.is_some()).then_some(TimeRange { start_time, end_time }))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        filter: FilterFlags,
    }

    fn filters(arguments: &[&str]) -> Result<Vec<EventFilter>, String> {
        let all = std::iter::once("tradelane").chain(arguments.iter().copied());
        let command = Command::try_parse_from(all).map_err(|error| error.to_string())?;
        command.filter.filters().map_err(|failure| failure.message)
    }

    #[test]
    fn flags_and_json_say_the_same() {
        let by_flags = filters(&[
            "--type",
            "hold",
            "--subject",
            "container:MSKU9070323",
            "--subject",
            "declaration:K-1@PK",
            "--country",
            "pk",
            "--locode",
            "discharge:PKKHI",
            "--classifier",
            "actual",
            "--accepted-from",
            "2026-11-24T00:00:00Z",
        ]);
        let by_json = filters(&[
            "--filter",
            r#"{"types": ["hold"], "classifiers": ["CLASSIFIER_ACTUAL"], "subjects": [
                {"kind": "IDENTIFIER_KIND_CONTAINER", "value": "MSKU9070323"},
                {"kind": "IDENTIFIER_KIND_DECLARATION", "value": "K-1", "issuer": "PK"}],
                "places": [{"countryCode": "PK"}, {"role": "PLACE_ROLE_DISCHARGE", "unLocode": "PKKHI"}],
                "acceptedTime": {"startTime": "2026-11-24T00:00:00Z"}}"#,
        ]);
        assert_eq!(by_flags, by_json);
        assert_eq!(filters(&[]), Ok(Vec::new()));
    }

    #[test]
    fn a_value_may_hold_colons_of_its_own() {
        let subject = parse_subject("urn:epc:id:bic:CSQU3054383").unwrap();
        assert_eq!((subject.kind, subject.value.as_str()), (0, "urn:epc:id:bic:CSQU3054383"));
    }

    #[test]
    fn malformed_flags_are_named() {
        for (arguments, words) in [
            (vec!["--subject", "contaner:X"], "--subject contaner:X: the kind \"contaner\" is none of: container"),
            (vec!["--country", "PAK"], "--country PAK: \"PAK\" is not 2 letters; PK is Pakistan"),
            (vec!["--country", "loading:china"], "--country loading:china: \"CHINA\" is not 2 letters; CN is China"),
            (vec!["--country", "Karachi"], "--country Karachi: \"KARACHI\" is not 2 letters"),
            (vec!["--locode", "discharged:PKKHI"], "the role \"discharged\" is none of: event"),
            (vec!["--filter", "{\"type\": []}"], "--filter, column 2: unknown field 'type'; did you mean types?"),
            (vec!["--filter", "{}", "--type", "hold"], "cannot be used with"),
            (vec!["--event-from", "today"], "--event-from: \"today\" is no RFC 3339 time"),
        ] {
            let error = filters(&arguments).unwrap_err();
            assert!(error.contains(words), "{error:?} should say {words:?}");
        }
    }
}
