//! Filters made from a seed: every term that a filter has, alone and together, in the spellings in which people write. It never decides
//! what a filter finds.

use tradelane::{
    domain::filter::{FilterSpec, PartySpec, PlaceSpec, SubjectSpec, TimeRangeSpec},
    testing::events::{HOUR_NS, Voyage},
};

use super::made::Maker;

/// Bodies and steps that filters ask for.
const TYPES: [&str; 11] = [
    "handling",
    "clearance",
    "hold",
    "association",
    "document",
    "condition",
    "emission",
    "handling.discharged",
    "movement.arrived",
    "clearance.released",
    "document.issued",
];

impl Maker {
    /// A filter of one or two terms; in a grant a party may be "$caller".
    pub fn filter(&mut self, in_grant: bool) -> FilterSpec {
        let mut spec = FilterSpec::default();
        for _ in 0..self.rng.usize(1..=2) {
            match self.rng.u32(..15) {
                0 | 1 => spec.types.push(self.pick(&TYPES).to_owned()),
                2 => {
                    spec.classifiers.push(self.pick(&["actual", "actual", "estimated", "planned", "requested"]).into());
                }
                3 | 4 => spec.subjects.push(self.subject_wish()),
                5 | 6 => spec.places.push(self.place_wish()),
                7..=9 => spec.parties.push(self.party_wish(in_grant)),
                10 => spec.publishers.push(self.who()),
                11 => spec.origins.push(match self.rng.u32(..4) {
                    0 => "spiffe://exchange.gov.pk/node/khi-9".to_owned(),
                    1 => "spiffe://exchange.gov.pk/*".to_owned(),
                    _ => self.node.clone(),
                }),
                12 => match self.rng.u32(..3) {
                    0 => spec.commodity_prefixes.push(self.pick(&["87", "8703", "870410", "01"]).to_owned()),
                    1 => spec.procedures.push(self.pick(&["import", "export", "transit"]).to_owned()),
                    _ => spec.modes.push(self.pick(&["maritime", "rail", "air"]).to_owned()),
                },
                13 => spec.event_time = Some(self.while_it_happened()),
                // Said beside nothing else, and then it says nothing.
                _ if spec == FilterSpec::default() && self.one_in(4) => return FilterSpec { all: true, ..spec },
                _ => spec.types.push(self.pick(&["handling", "clearance"]).to_owned()),
            }
        }
        spec
    }

    /// What a caller asks by: none, one or two filters.
    pub fn filters(&mut self) -> Vec<FilterSpec> {
        (0..self.rng.usize(..3))
            .map(|_| {
                let mut filter = self.filter(false);
                if self.one_in(6) && !filter.all {
                    filter.accepted_time = Some(self.while_running());
                }
                filter
            })
            .collect()
    }

    fn subject_wish(&mut self) -> SubjectSpec {
        let kinds = ["container", "container", "", "", "bill_of_lading", "declaration", "vessel_imo", "train", "train"];
        let kind = self.pick(&kinds);
        let voyage = Voyage::new(self.rng.u32(..2), 0);
        let known = match kind {
            "bill_of_lading" => voyage.bill,
            "declaration" => voyage.declaration,
            "vessel_imo" => "9321483".to_owned(),
            "train" => "T788".to_owned(),
            "" => self.pick(&[voyage.container, "9321483".to_owned(), voyage.declaration]),
            _ => voyage.container,
        };
        let mut wish = SubjectSpec { kind: kind.to_owned(), ..SubjectSpec::default() };
        if !self.one_in(4) || kind.is_empty() {
            wish.value = self.spelled(&known);
        }
        match kind {
            "bill_of_lading" if self.one_in(2) => self.pick(&["MAEU", "maeu", "OOLU"]).clone_into(&mut wish.issuer),
            "train" => {
                if self.one_in(2) {
                    self.pick(&["PKR", "pkr", "DBC"]).clone_into(&mut wish.issuer);
                }
                if self.one_in(2) {
                    self.pick(&["2026-01-01", "2026-01-02"]).clone_into(&mut wish.date);
                }
                if self.one_in(2) {
                    self.pick(&["primary", "carried_by"]).clone_into(&mut wish.role);
                }
            }
            _ if self.one_in(4) => self.pick(&["primary", "carried_by"]).clone_into(&mut wish.role),
            _ => {}
        }
        wish
    }

    /// An identifier as it stands on a paper.
    fn spelled(&mut self, value: &str) -> String {
        match self.rng.u32(..3) {
            0 if value == "9321483" => format!("IMO {value}"),
            0 => format!("{} {}", &value[..4], &value[4..]),
            1 => value.to_lowercase(),
            _ => value.to_owned(),
        }
    }

    fn place_wish(&mut self) -> PlaceSpec {
        let mut wish = PlaceSpec::default();
        while wish == PlaceSpec::default() {
            let mut set = |field: &mut String, of: &[&str]| {
                if self.one_in(4) {
                    self.pick(of).clone_into(field);
                }
            };
            set(&mut wish.role, &["event", "office", "loading", "discharge"]);
            set(&mut wish.kind, &["port", "terminal", "customs_office"]);
            set(&mut wish.un_locode, &["CNSHA", "CLVAP", "pk khi"]);
            set(&mut wish.country_code, &["PK", "pk", "CL", "CN"]);
            set(&mut wish.facility_scheme, &["smdg", "national"]);
            set(&mut wish.facility_code, &["KICT", "tps"]);
        }
        wish
    }

    fn party_wish(&mut self, in_grant: bool) -> PartySpec {
        let mut wish = PartySpec::default();
        if self.one_in(4) {
            self.pick(&["declarant", "carrier"]).clone_into(&mut wish.role);
        }
        if self.one_in(3) {
            self.pick(&["SCAC", "EORI"]).clone_into(&mut wish.scheme);
        }
        if self.one_in(3) {
            self.pick(&["MAEU", "OOLU"]).clone_into(&mut wish.id);
        }
        if wish == PartySpec::default() || self.one_in(2) {
            wish.participant = if in_grant && self.one_in(2) { "$caller".to_owned() } else { self.caller() };
        }
        wish
    }

    /// A span of the time of which events speak; its ends are now and then those of events.
    fn while_it_happened(&mut self) -> TimeRangeSpec {
        let mut end = || {
            let exact = self.event_times_ns.clone();
            if exact.is_empty() || self.one_in(2) {
                self.now_ns - self.rng.i64(30..70) * HOUR_NS
            } else {
                self.pick(&exact)
            }
        };
        range(end(), end(), self.rng.u32(..3))
    }

    /// A time while the node runs, at which some events have come and others not. Only what is asked may say one: a grant that begins or
    /// ends in the middle of a publish would be judged by two clocks.
    fn while_running(&mut self) -> TimeRangeSpec {
        let mut end = || {
            let exact = self.accepted_times_ns.clone();
            if exact.is_empty() || self.one_in(2) {
                self.now_ns + self.rng.i64(0..8_000) * 1_000_000
            } else {
                self.pick(&exact)
            }
        };
        range(end(), end(), self.rng.u32(..3))
    }
}

/// Open at one end, or at none.
fn range(one_ns: i64, other_ns: i64, open: u32) -> TimeRangeSpec {
    let time = |ns: i64| Some(chrono::DateTime::from_timestamp_nanos(ns));
    match open {
        0 => TimeRangeSpec { start_time: time(one_ns), end_time: None },
        1 => TimeRangeSpec { start_time: None, end_time: time(one_ns) },
        // One that is empty is refused.
        _ => TimeRangeSpec {
            start_time: time(one_ns.min(other_ns)),
            end_time: time(one_ns.max(other_ns).max(one_ns.min(other_ns) + 1)),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost_reflect::{Kind, MessageDescriptor};
    use serde_json::{Value, json};
    use tradelane::{
        cli::json,
        testing::pki::{CUSTOMS, NODE, TERMINAL},
        wire::{filter, proto::EventFilter},
    };

    use super::*;
    use crate::alike::{
        model::Stored,
        wanted::{self, Asking},
    };

    /// What the API refuses to filter by, and what says nothing by itself.
    const LEFT_OUT: [&str; 4] = ["places.latitudeDegrees", "places.longitudeDegrees", "places.name", "all"];

    /// The paths of every term in the API's own description, so that a new one cannot be forgotten here.
    fn terms_of(message: &MessageDescriptor, path: &str, terms: &mut Vec<String>) {
        for field in message.fields() {
            let path = format!("{path}{}", field.json_name());
            match field.kind() {
                Kind::Message(part) if part.full_name().starts_with("tradelane.") => {
                    terms_of(&part, &format!("{path}."), terms);
                }
                _ => terms.push(path),
            }
        }
    }

    /// Each set field of a filter by its path, as a filter that says nothing else.
    fn alone(value: &Value, path: &str, wrap: &dyn Fn(Value) -> Value, terms: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(fields) => {
                for (name, part) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    alone(part, &path, &|part| wrap(json!({ name.as_str(): part })), terms);
                }
            }
            Value::Array(parts) => parts.iter().for_each(|part| alone(part, path, &|part| wrap(json!([part])), terms)),
            _ => terms.push((path.to_owned(), wrap(value.clone()))),
        }
    }

    #[test]
    fn every_term_of_a_filter_is_asked_for_and_finds_some_events_and_misses_others() {
        let now_ns = 1_790_000_000_000_000_000;
        let mut maker = Maker::new(7, now_ns, vec![TERMINAL.into(), CUSTOMS.into()], NODE.into());
        let mut stored: Vec<Stored> = Vec::new();
        for number in 0..200 {
            let event = maker.event(&[]);
            let accepted_ns = now_ns + number * 7_000_000;
            maker.accepted_times_ns.push(accepted_ns);
            stored.push(Stored { event, chain: Vec::new(), accepted_ns });
        }
        let asking = Asking { node: NODE, caller: TERMINAL, bound: &|_, _| false };
        let mut seen: BTreeMap<String, (bool, bool)> = BTreeMap::new();
        for _ in 0..3_000 {
            for spec in maker.filters() {
                let filter = filter::spec_to_proto(&spec);
                let mut terms = Vec::new();
                alone(&json::from_message("EventFilter", &filter), "", &|value| value, &mut terms);
                for (path, term) in terms {
                    let term: EventFilter = json::read_typed("EventFilter", &term.to_string()).expect("a filter");
                    let term = filter::spec_from_proto(&term).expect("as it was made");
                    let found = stored.iter().filter(|one| wanted::asks_for(&term, one, &asking)).count();
                    let told = seen.entry(path).or_default();
                    told.0 |= 0 < found;
                    told.1 |= found < stored.len();
                }
            }
        }
        let mut terms = Vec::new();
        terms_of(&json::descriptor("EventFilter"), "", &mut terms);
        assert!(seen.contains_key("all"));
        for term in terms.iter().filter(|term| !LEFT_OUT.contains(&term.as_str())) {
            assert_eq!(seen.get(term), Some(&(true, true)), "{term}: (finds some, misses some)");
        }
    }
}
