//! Filters between the wire and the domain. It never drops what a filter says: what cannot be filtered by is refused, with its path.

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

use super::{
    proto::{EventFilter, Facility, Party, Place, Subject, TimeRange},
    violations::{Path, Report, Violation},
};
use crate::domain::{
    Filter,
    codes::{self, Codes},
    filter::{FILTERS_MAX, FilterSpec, PartySpec, PlaceSpec, SubjectSpec, TimeRangeSpec},
};

/// Checks and compiles the filters of a request's field, such as `filters`.
///
/// # Errors
/// Every fault of every filter, each with its path from the request: `filters[0].places[1].un_locode`.
pub fn compile(filters: &[EventFilter], field: &'static str) -> Result<Vec<Filter>, Vec<Violation>> {
    let root = Path::Root("");
    if FILTERS_MAX < filters.len() {
        let mut report = Report::default();
        let description = format!("must be at most {FILTERS_MAX} filters, not {}", filters.len());
        report.add(&root.field(field), "TOO_MANY_VALUES", description);
        return Err(report.into_violations());
    }
    let mut compiled = Vec::with_capacity(filters.len());
    let mut violations = Vec::new();
    for (index, filter) in filters.iter().enumerate() {
        let path = root.element(field, index);
        match spec_at(filter, &path) {
            Err(mut found) => violations.append(&mut found),
            Ok(spec) => match Filter::compile(&spec, false) {
                Ok(filter) => compiled.push(filter),
                Err(problems) => violations.extend(problems.into_iter().map(|problem| Violation {
                    field: format!("{path}.{}", problem.field.replace(".facility_", ".facility.")),
                    reason: problem.reason,
                    description: problem.description,
                })),
            },
        }
    }
    if violations.is_empty() { Ok(compiled) } else { Err(violations) }
}

/// A filter as the domain writes it, not yet compiled.
///
/// # Errors
/// Enum values without a name, times that are none, and fields of a place that cannot be filtered by; paths begin at the filter.
pub fn spec_from_proto(filter: &EventFilter) -> Result<FilterSpec, Vec<Violation>> {
    spec_at(filter, &Path::Root(""))
}

fn spec_at(filter: &EventFilter, at: &Path<'_>) -> Result<FilterSpec, Vec<Violation>> {
    let mut reader = Reader { report: Report::default() };
    let spec = FilterSpec {
        types: filter.types.clone(),
        classifiers: reader.names(&filter.classifiers, &codes::CLASSIFIER, at, "classifiers"),
        subjects: reader.each(&filter.subjects, at, "subjects", Reader::subject),
        places: reader.each(&filter.places, at, "places", Reader::place),
        parties: reader.each(&filter.parties, at, "parties", Reader::party),
        commodity_prefixes: filter.commodity_prefixes.clone(),
        procedures: reader.names(&filter.procedures, &codes::PROCEDURE, at, "procedures"),
        modes: reader.names(&filter.modes, &codes::TRANSPORT_MODE, at, "modes"),
        publishers: filter.publishers.clone(),
        origins: filter.origins.clone(),
        event_time: filter.event_time.as_ref().map(|range| reader.time_range(range, &at.field("event_time"))),
        accepted_time: filter.accepted_time.as_ref().map(|range| reader.time_range(range, &at.field("accepted_time"))),
        all: filter.all,
    };
    if reader.report.is_clean() { Ok(spec) } else { Err(reader.report.into_violations()) }
}

struct Reader {
    report: Report,
}

impl Reader {
    fn each<P, S>(
        &mut self,
        values: &[P],
        at: &Path<'_>,
        field: &'static str,
        one: fn(&mut Self, &P, &Path<'_>) -> S,
    ) -> Vec<S> {
        values.iter().enumerate().map(|(index, value)| one(self, value, &at.element(field, index))).collect()
    }

    fn names(&mut self, numbers: &[i32], known: &'static Codes, at: &Path<'_>, field: &'static str) -> Vec<String> {
        let mut names = Vec::with_capacity(numbers.len());
        for (index, number) in numbers.iter().enumerate() {
            match u8::try_from(*number).ok().and_then(|number| known.name(number)) {
                Some(name) => names.push(name.to_owned()),
                None => self.unknown(known, *number, &at.element(field, index)),
            }
        }
        names
    }

    /// A name of a single field, where 0 means that it is not set.
    fn name(&mut self, number: i32, known: &'static Codes, at: &Path<'_>) -> String {
        match u8::try_from(number).ok().and_then(|number| known.name(number)) {
            Some(name) => name.to_owned(),
            None if number == 0 => String::new(),
            None => {
                self.unknown(known, number, at);
                String::new()
            }
        }
    }

    fn unknown(&mut self, known: &'static Codes, number: i32, at: &Path<'_>) {
        let description = format!("must be a value of {} that this node knows, not {number}", known.enumeration);
        self.report.add(at, "ENUM_UNKNOWN", description);
    }

    fn subject(&mut self, subject: &Subject, at: &Path<'_>) -> SubjectSpec {
        SubjectSpec {
            kind: self.name(subject.kind, &codes::IDENTIFIER_KIND, &at.field("kind")),
            value: subject.value.clone(),
            issuer: subject.issuer.clone(),
            date: subject.date.clone(),
            role: self.name(subject.role, &codes::SUBJECT_ROLE, &at.field("role")),
        }
    }

    fn place(&mut self, place: &Place, at: &Path<'_>) -> PlaceSpec {
        for (set, field) in [
            (place.latitude_degrees.is_some(), "latitude_degrees"),
            (place.longitude_degrees.is_some(), "longitude_degrees"),
            (!place.name.is_empty(), "name"),
        ] {
            let description = "must not be set: places are filtered by role, kind, UN/LOCODE, country and facility";
            self.report.require(!set, &at.field(field), "NOT_FILTERABLE", description);
        }
        let facility = place.facility.clone().unwrap_or_default();
        PlaceSpec {
            role: self.name(place.role, &codes::PLACE_ROLE, &at.field("role")),
            kind: self.name(place.kind, &codes::PLACE_KIND, &at.field("kind")),
            un_locode: place.un_locode.clone(),
            country_code: place.country_code.clone(),
            facility_scheme: self.name(facility.scheme, &codes::FACILITY_SCHEME, &at.field("facility").field("scheme")),
            facility_code: facility.code,
        }
    }

    fn party(&mut self, party: &Party, at: &Path<'_>) -> PartySpec {
        PartySpec {
            role: self.name(party.role, &codes::PARTY_ROLE, &at.field("role")),
            participant: party.participant.clone(),
            scheme: party.scheme.clone(),
            id: party.id.clone(),
        }
    }

    fn time_range(&mut self, range: &TimeRange, at: &Path<'_>) -> TimeRangeSpec {
        let mut time = |time: Option<Timestamp>, field: &'static str| {
            let time = time?;
            let read = u32::try_from(time.nanos).ok().and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos));
            if read.is_none() {
                self.report.add(
                    &at.field(field),
                    "TIME_MALFORMED",
                    "must be a time of protobuf: nanos from 0 to 999,999,999",
                );
            }
            read
        };
        TimeRangeSpec { start_time: time(range.start_time, "start_time"), end_time: time(range.end_time, "end_time") }
    }
}

/// A filter as the wire writes it, for showing grants. A name that is no enum value is left out; compiled filters have none.
#[must_use]
pub fn spec_to_proto(spec: &FilterSpec) -> EventFilter {
    let number = |codes: &'static Codes, name: &str| codes.number(name).map_or(0, i32::from);
    let numbers = |codes: &'static Codes, names: &[String]| {
        names.iter().filter_map(|name| codes.number(name)).map(i32::from).collect()
    };
    let subject = |subject: &SubjectSpec| Subject {
        kind: number(&codes::IDENTIFIER_KIND, &subject.kind),
        value: subject.value.clone(),
        issuer: subject.issuer.clone(),
        date: subject.date.clone(),
        role: number(&codes::SUBJECT_ROLE, &subject.role),
    };
    let place = |place: &PlaceSpec| Place {
        role: number(&codes::PLACE_ROLE, &place.role),
        kind: number(&codes::PLACE_KIND, &place.kind),
        un_locode: place.un_locode.clone(),
        country_code: place.country_code.clone(),
        facility: (!place.facility_scheme.is_empty() || !place.facility_code.is_empty()).then(|| Facility {
            scheme: number(&codes::FACILITY_SCHEME, &place.facility_scheme),
            code: place.facility_code.clone(),
        }),
        ..Place::default()
    };
    let party = |party: &PartySpec| Party {
        role: number(&codes::PARTY_ROLE, &party.role),
        participant: party.participant.clone(),
        scheme: party.scheme.clone(),
        id: party.id.clone(),
    };
    let time =
        |time: DateTime<Utc>| Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos() as i32 };
    let range = |range: &TimeRangeSpec| TimeRange {
        start_time: range.start_time.map(time),
        end_time: range.end_time.map(time),
    };
    EventFilter {
        types: spec.types.clone(),
        classifiers: numbers(&codes::CLASSIFIER, &spec.classifiers),
        subjects: spec.subjects.iter().map(subject).collect(),
        places: spec.places.iter().map(place).collect(),
        parties: spec.parties.iter().map(party).collect(),
        commodity_prefixes: spec.commodity_prefixes.clone(),
        procedures: numbers(&codes::PROCEDURE, &spec.procedures),
        modes: numbers(&codes::TRANSPORT_MODE, &spec.modes),
        publishers: spec.publishers.clone(),
        origins: spec.origins.clone(),
        event_time: spec.event_time.as_ref().map(range),
        accepted_time: spec.accepted_time.as_ref().map(range),
        all: spec.all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_goes_there_and_back() {
        let spec: FilterSpec = toml::from_str(
            "types = ['handling.discharged']
            classifiers = ['actual']
            subjects = [{ kind = 'container', value = 'MSKU9070323', role = 'primary' }, { issuer = 'MAEU', date = '2026-01-01' }]
            places = [{ role = 'event', kind = 'terminal', un_locode = 'PKKHI', country_code = 'PK' }, { facility_scheme = 'smdg', facility_code = 'KICT' }]
            parties = [{ role = 'carrier', participant = 'spiffe://maersk.example/line/maeu' }, { scheme = 'SCAC', id = 'MAEU' }]
            commodity_prefixes = ['8703']
            procedures = ['import']
            modes = ['maritime']
            publishers = ['spiffe://port.karachi.pk/*']
            origins = ['spiffe://exchange.gov.pk/node/khi-1']
            event_time = { start_time = '2026-01-01T00:00:00.5Z' }
            accepted_time = { end_time = '2026-01-01T00:00:00Z' }",
        )
        .expect("a filter in TOML");
        assert_eq!(spec_from_proto(&spec_to_proto(&spec)), Ok(spec.clone()));
        assert!(compile(&[spec_to_proto(&spec)], "filters").is_ok());
    }

    #[test]
    fn every_fault_is_named_with_its_path() {
        let good = EventFilter { types: vec!["handling".into()], ..EventFilter::default() };
        let unreadable = EventFilter {
            classifiers: vec![4, 9],
            places: vec![
                Place { country_code: "PK".into(), ..Place::default() },
                Place { name: "Karachi".into(), role: 99, ..Place::default() },
            ],
            event_time: Some(TimeRange { start_time: Some(Timestamp { seconds: 0, nanos: -1 }), end_time: None }),
            ..EventFilter::default()
        };
        let wrong = EventFilter {
            places: vec![
                Place { country_code: "PK".into(), ..Place::default() },
                Place { un_locode: "KHI".into(), ..Place::default() },
            ],
            subjects: vec![Subject { kind: 1, value: "MSKU9070320".into(), ..Subject::default() }],
            ..EventFilter::default()
        };
        let violations = compile(&[good, unreadable, wrong], "filters").expect_err("two are wrong");
        let said: Vec<_> = violations.iter().map(|one| (one.field.as_str(), one.reason)).collect();
        assert_eq!(
            said,
            [
                ("filters[1].classifiers[1]", "ENUM_UNKNOWN"),
                ("filters[1].places[1].name", "NOT_FILTERABLE"),
                ("filters[1].places[1].role", "ENUM_UNKNOWN"),
                ("filters[1].event_time.start_time", "TIME_MALFORMED"),
                ("filters[2].subjects[0].value", "CHECK_DIGIT_WRONG"),
                ("filters[2].places[1].un_locode", "LOCODE_MALFORMED"),
            ]
        );
    }

    #[test]
    fn at_most_16_filters() {
        assert_eq!(compile(&vec![EventFilter::default(); 17], "filters").expect_err("17 filters")[0].field, "filters");
        assert!(compile(&vec![EventFilter::default(); 16], "filters").is_ok());
    }
}
