//! From a filter as somebody wrote it to one that matches fast: names become numbers, values their canonical form. It never ignores
//! what it does not know, since that would widen the filter.

use std::{borrow::Borrow, sync::Arc};

use super::{
    FILTER_VALUES_MAX, Filter, FilterProblem, FilterSpec, NumberSet, Participant, PartyPattern, PartySpec,
    PlacePattern, PlaceSpec, SubjectPattern, SubjectSpec, TimeRange, TimeRangeSpec, TypePattern,
};
use crate::domain::{
    SpiffeId, SpiffePattern,
    codes::{self, Codes},
    freight::{self, country_names},
};

/// How a grant's party names whoever asks.
pub(super) const CALLER: &str = "$caller";

impl Filter {
    /// Checks and compiles a filter. `in_grant` is true for grants and agreements: there a party may say "$caller", and a filter that
    /// means everything must say so by `all`.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn compile(spec: &FilterSpec, in_grant: bool) -> Result<Self, Vec<FilterProblem>> {
        let mut compiler = Compiler { problems: Vec::new(), in_grant };
        let filter = compiler.filter(spec);
        if compiler.problems.is_empty() { Ok(filter) } else { Err(compiler.problems) }
    }
}

struct Compiler {
    problems: Vec<FilterProblem>,
    in_grant: bool,
}

impl Compiler {
    fn filter(&mut self, spec: &FilterSpec) -> Filter {
        let says_nothing = *spec == FilterSpec { all: spec.all, ..FilterSpec::default() };
        if self.in_grant && says_nothing && !spec.all {
            self.problem(
                "all",
                "FILTER_EMPTY",
                "must be true for a filter that means everything; or set another field".into(),
            );
        }
        if spec.all && !says_nothing {
            self.problem("all", "FILTER_CONTRADICTS", "must stand alone: the other fields narrow the filter".into());
        }
        Filter {
            spec: Arc::new(spec.clone()),
            types: self.each("types", &spec.types, Self::type_pattern),
            classifiers: self.numbers("classifiers", &codes::CLASSIFIER, &spec.classifiers),
            subjects: self.each("subjects", &spec.subjects, Self::subject),
            places: self.each("places", &spec.places, Self::place),
            parties: self.each("parties", &spec.parties, Self::party),
            commodity_prefixes: self.each("commodity_prefixes", &spec.commodity_prefixes, Self::commodity_prefix),
            procedures: self.numbers("procedures", &codes::PROCEDURE, &spec.procedures),
            modes: self.numbers("modes", &codes::TRANSPORT_MODE, &spec.modes),
            publishers: self.each("publishers", &spec.publishers, Self::pattern),
            origins: self.each("origins", &spec.origins, Self::pattern),
            event_time: self.time_range("event_time", spec.event_time.as_ref()),
            accepted_time: self.time_range("accepted_time", spec.accepted_time.as_ref()),
        }
    }

    fn problem(&mut self, field: &str, reason: &'static str, description: String) {
        self.problems.push(FilterProblem { field: field.to_owned(), reason, description });
    }

    /// Compiles each value of a field; what one value says wrong hides no other's fault.
    fn each<S: Borrow<V>, V: ?Sized, T>(
        &mut self,
        field: &str,
        values: &[S],
        one: fn(&mut Self, &str, &V) -> Option<T>,
    ) -> Vec<T> {
        if values.len() > FILTER_VALUES_MAX {
            let description = format!("must have at most {FILTER_VALUES_MAX} values, not {}", values.len());
            self.problem(field, "TOO_MANY_VALUES", description);
            return Vec::new();
        }
        (0_usize..)
            .zip(values)
            .filter_map(|(index, value)| one(self, &format!("{field}[{index}]"), value.borrow()))
            .collect()
    }

    fn numbers(&mut self, field: &str, codes: &'static Codes, names: &[String]) -> NumberSet {
        let numbers: Vec<u8> = if names.len() > FILTER_VALUES_MAX {
            let description = format!("must have at most {FILTER_VALUES_MAX} values, not {}", names.len());
            self.problem(field, "TOO_MANY_VALUES", description);
            Vec::new()
        } else {
            (0_usize..)
                .zip(names)
                .filter_map(|(index, name)| self.number(&format!("{field}[{index}]"), codes, name))
                .collect()
        };
        NumberSet(numbers.into_iter().fold(0, |set, number| set | 1 << number))
    }

    fn number(&mut self, field: &str, codes: &'static Codes, name: &str) -> Option<u8> {
        let found = codes.number(name);
        if found.is_none() {
            let known: Vec<_> = codes.values().map(|(_, name)| name).collect();
            let description = format!("must be one of {}, not {name:?}", known.join(", "));
            self.problem(field, "VALUE_UNKNOWN", description);
        }
        found
    }

    /// As [`Self::number`], where an empty name means that nothing was asked for.
    fn optional_number(&mut self, field: &str, codes: &'static Codes, name: &str) -> Option<u8> {
        if name.is_empty() { None } else { self.number(field, codes, name) }
    }

    fn type_pattern(&mut self, field: &str, name: &str) -> Option<TypePattern> {
        let (body, step) = match name.split_once('.') {
            Some((body, step)) => (body, Some(step)),
            None => (name, None),
        };
        let Some(body) = codes::body_named(body) else {
            let known: Vec<_> = codes::BODIES.iter().map(|body| body.name).collect();
            let description = format!("must begin with one of {}, not {body:?}", known.join(", "));
            self.problem(field, "VALUE_UNKNOWN", description);
            return None;
        };
        match (step, body.steps) {
            (None, _) => Some(TypePattern { body: body.number, step: None }),
            (Some(step), Some(codes)) => {
                let step = self.number(field, codes, step)?;
                Some(TypePattern { body: body.number, step: Some(step) })
            }
            (Some(_), None) => {
                let description = format!("must be {:?} alone, since that has no steps", body.name);
                self.problem(field, "VALUE_UNKNOWN", description);
                None
            }
        }
    }

    fn subject(&mut self, field: &str, spec: &SubjectSpec) -> Option<SubjectPattern> {
        if *spec == SubjectSpec::default() {
            self.problem(field, "VALUE_EMPTY", "must have at least one field set".into());
            return None;
        }
        let kind = self.optional_number(&format!("{field}.kind"), &codes::IDENTIFIER_KIND, &spec.kind);
        let role = self.optional_number(&format!("{field}.role"), &codes::SUBJECT_ROLE, &spec.role);
        let values = match kind {
            _ if spec.value.is_empty() => Vec::new(),
            Some(kind) => vec![freight::canonical(kind, &spec.value).into_owned()],
            None => freight::canonical_forms(&spec.value),
        };
        if let (Some(kind), [value]) = (kind, &*values)
            && let Err(fault) = freight::check(kind, value)
        {
            self.problem(&format!("{field}.value"), fault.reason, fault.description);
        }
        if !spec.date.is_empty() && spec.date.parse::<chrono::NaiveDate>().is_err() {
            let description = format!("must be a day as YYYY-MM-DD, not {:?}", spec.date);
            self.problem(&format!("{field}.date"), "VALUE_MALFORMED", description);
        }
        let issuer = freight::canonical_issuer(&spec.issuer).into_owned();
        Some(SubjectPattern { kind, role, values, issuer, date: spec.date.clone() })
    }

    fn place(&mut self, field: &str, spec: &PlaceSpec) -> Option<PlacePattern> {
        if *spec == PlaceSpec::default() {
            self.problem(field, "VALUE_EMPTY", "must have at least one field set".into());
            return None;
        }
        let un_locode = freight::compact(&spec.un_locode).into_owned();
        if !un_locode.is_empty() && !freight::is_locode(&un_locode) {
            let description = format!("must be a UN/LOCODE such as PKKHI, not {:?}", spec.un_locode);
            self.problem(&format!("{field}.un_locode"), "LOCODE_MALFORMED", description);
        }
        let country_code = freight::compact(&spec.country_code).into_owned();
        if !country_code.is_empty() && !freight::is_country(&country_code) {
            let (code, hint) = (&spec.country_code, country_names::hint(&spec.country_code));
            let description = format!("must be a country of ISO 3166-1 such as PK, not {code:?}{hint}");
            self.problem(&format!("{field}.country_code"), "COUNTRY_UNKNOWN", description);
        }
        let scheme_field = format!("{field}.facility_scheme");
        Some(PlacePattern {
            role: self.optional_number(&format!("{field}.role"), &codes::PLACE_ROLE, &spec.role),
            kind: self.optional_number(&format!("{field}.kind"), &codes::PLACE_KIND, &spec.kind),
            un_locode,
            country_code,
            facility_scheme: self.optional_number(&scheme_field, &codes::FACILITY_SCHEME, &spec.facility_scheme),
            facility_code: freight::canonical_issuer(&spec.facility_code).into_owned(),
        })
    }

    fn party(&mut self, field: &str, spec: &PartySpec) -> Option<PartyPattern> {
        if *spec == PartySpec::default() {
            self.problem(field, "VALUE_EMPTY", "must have at least one field set".into());
            return None;
        }
        let participant_field = format!("{field}.participant");
        let participant = match spec.participant.as_str() {
            "" => Participant::Any,
            CALLER if self.in_grant => Participant::Caller,
            CALLER => {
                let description = "must be a SPIFFE ID: $caller has a meaning in grants alone".into();
                self.problem(&participant_field, "VALUE_MALFORMED", description);
                return None;
            }
            name => {
                if let Err(malformed) = SpiffeId::parse(name) {
                    self.problem(&participant_field, "VALUE_MALFORMED", malformed.to_string());
                }
                Participant::Named(name.to_owned())
            }
        };
        Some(PartyPattern {
            role: self.optional_number(&format!("{field}.role"), &codes::PARTY_ROLE, &spec.role),
            participant,
            scheme: spec.scheme.clone(),
            id: spec.id.clone(),
        })
    }

    fn commodity_prefix(&mut self, field: &str, prefix: &str) -> Option<String> {
        let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
        if digits && (2..=6).contains(&prefix.len()) {
            return Some(prefix.to_owned());
        }
        let description = format!("must be 2 to 6 digits of the Harmonized System, not {prefix:?}");
        self.problem(field, "HS_MALFORMED", description);
        None
    }

    fn pattern(&mut self, field: &str, text: &str) -> Option<SpiffePattern> {
        SpiffePattern::parse(text)
            .map_err(|malformed| self.problem(field, "VALUE_MALFORMED", format!("{malformed}, not be {text:?}")))
            .ok()
    }

    fn time_range(&mut self, field: &str, spec: Option<&TimeRangeSpec>) -> TimeRange {
        let Some(spec) = spec else { return TimeRange::ALL };
        if *spec == TimeRangeSpec::default() {
            self.problem(field, "VALUE_EMPTY", "must have a start_time, an end_time or both".into());
        }
        let mut edge = |name: &str, time: Option<chrono::DateTime<chrono::Utc>>, unset: i64| match time {
            None => unset,
            Some(time) => time.timestamp_nanos_opt().unwrap_or_else(|| {
                let description = format!("must lie between the years 1678 and 2261, not be {time}");
                self.problem(&format!("{field}.{name}"), "TIME_OUT_OF_RANGE", description);
                unset
            }),
        };
        let range = TimeRange {
            from_ns: edge("start_time", spec.start_time, i64::MIN),
            to_ns: edge("end_time", spec.end_time, i64::MAX),
        };
        if range.from_ns >= range.to_ns {
            self.problem(field, "TIME_RANGE_EMPTY", "must have a start_time before its end_time (exclusive)".into());
        }
        range
    }
}
