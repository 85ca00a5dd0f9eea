//! Filters match what they say and nothing else; what does not compile says every fault; term plans and coverage never promise too much.

use super::*;
use crate::domain::{
    EventId, HeaderRef, RoutingHeader, SpiffeId,
    header::{PartyTerm, PlaceTerm, SubjectTerm, TypeStep, origin_term},
};

const NODE: &str = "spiffe://exchange.gov.pk/node/khi-1";
const CUSTOMS: &str = "spiffe://customs.gov.pk/agency/karachi";

fn header() -> RoutingHeader {
    let subject = |kind, value: &str, issuer: &str| SubjectTerm {
        kind,
        role: 1,
        value: value.into(),
        issuer: issuer.into(),
        date: String::new(),
    };
    let place = |role, locode: &str, country: &str| PlaceTerm {
        role,
        kind: 1,
        un_locode: locode.into(),
        country_code: country.into(),
        facility_scheme: 0,
        facility_code: String::new(),
    };
    RoutingHeader {
        types: vec![TypeStep { body: 21, step: 4 }],
        classifiers: vec![4],
        event_times_ns: vec![1_767_225_600_000_000_000],
        subjects: vec![subject(1, "MSKU9070323", ""), subject(14, "584293", "MAEU")],
        places: vec![place(5, "PKKHI", "PK"), place(3, "CNSHA", "CN")],
        parties: vec![PartyTerm { role: 2, participant: String::new(), scheme: "SCAC".into(), id: "MAEU".into() }],
        commodity_codes: vec!["870323".into()],
        procedures: vec![1],
        modes: vec![1],
        ..RoutingHeader::bare(
            SpiffeId::parse("spiffe://port.example/terminal/south").expect("a good name"),
            EventId::parse("0198c5a2-7b1e-7c3d-9f00-5a1b2c3d4e5f").expect("a good id"),
        )
    }
}

struct BoundToBill;

impl PartyBindings for BoundToBill {
    fn is_bound(&self, participant: &str, subject: &SubjectKey<'_>) -> bool {
        participant == CUSTOMS && *subject == SubjectKey { kind: 14, value: "584293", issuer: "MAEU", date: "" }
    }
}

fn spec(toml: &str) -> FilterSpec {
    toml::from_str(toml).expect("a filter in TOML")
}

fn matches_with(toml: &str, caller: &str, bindings: &dyn PartyBindings) -> bool {
    let filter = Filter::compile(&spec(toml), true).expect("a good filter");
    let bytes = header().encode();
    let header = HeaderRef::parse(&bytes).expect("a good header");
    let context = MatchContext { accepted_time_ns: 5_000, origin_node: NODE, caller, bindings };
    let matches = filter.matches(&header, &context);
    if matches {
        plan_is_met(&filter, &header, caller);
    }
    matches
}

/// What matches must have a term of every OR-list of the plan, or an index would lose it.
fn plan_is_met(filter: &Filter, header: &HeaderRef<'_>, caller: &str) {
    let mut terms = vec![origin_term(NODE)];
    header.for_each_term(&mut |term| terms.push(term));
    for any_of in filter.term_plan(&SpiffeId::parse(caller).expect("a good name")) {
        assert!(any_of.iter().any(|term| terms.contains(term)), "{:?}", filter.spec());
    }
}

#[test]
fn filters_match_what_they_say() {
    for toml in [
        "all = true",
        "types = ['handling']",
        "types = ['movement', 'handling.discharged']",
        "classifiers = ['planned', 'actual']",
        "subjects = [{ value = 'msku 907032-3' }]",
        "subjects = [{ kind = 'container', value = 'MSKU 907032 3' }]",
        "subjects = [{ kind = 'bill_of_lading' }]",
        "subjects = [{ kind = 'bill_of_lading', issuer = 'maeu', role = 'primary' }]",
        "places = [{ country_code = 'PK' }]",
        "places = [{ role = 'discharge', un_locode = 'PK KHI', kind = 'port' }]",
        "parties = [{ scheme = 'SCAC', id = 'MAEU', role = 'carrier' }]",
        "commodity_prefixes = ['02', '8703']",
        "procedures = ['import']",
        "modes = ['maritime', 'rail']",
        "publishers = ['spiffe://port.example/*']",
        "origins = ['spiffe://exchange.gov.pk/node/khi-1']",
        "event_time = { start_time = '2026-01-01T00:00:00Z', end_time = '2026-01-01T00:00:01Z' }",
        "accepted_time = { end_time = '1970-01-01T00:00:01Z' }",
    ] {
        assert!(matches_with(toml, CUSTOMS, &NoBindings), "{toml}");
    }
}

#[test]
fn filters_match_nothing_else() {
    for toml in [
        "types = ['handling.loaded']",
        "types = ['movement']",
        "classifiers = ['planned']",
        "subjects = [{ value = '584294' }]",
        "subjects = [{ kind = 'booking', value = '584293' }]",
        "subjects = [{ kind = 'bill_of_lading', issuer = 'MSCU' }]",
        "subjects = [{ value = '584293', role = 'from' }]",
        "subjects = [{ value = '584293', date = '2026-01-01' }]",
        "places = [{ country_code = 'AE' }]",
        // One place must have all that is asked for: discharge was in Pakistan, loading in China.
        "places = [{ role = 'discharge', country_code = 'CN' }]",
        "parties = [{ scheme = 'SCAC', id = 'MAEU', role = 'agent' }]",
        "commodity_prefixes = ['8704']",
        "procedures = ['export']",
        "modes = ['rail']",
        "publishers = ['spiffe://port.example/terminal']",
        "origins = ['spiffe://exchange.gov.pk/node/lhe-1']",
        "event_time = { end_time = '2026-01-01T00:00:00Z' }",
        "accepted_time = { start_time = '1970-01-01T00:00:01Z' }",
        "classifiers = ['actual']\nmodes = ['rail']",
    ] {
        assert!(!matches_with(toml, CUSTOMS, &NoBindings), "{toml}");
    }
}

#[test]
fn a_party_is_found_through_an_association_too() {
    let named_or_caller = "parties = [{ participant = '$caller' }]";
    assert!(matches_with(named_or_caller, CUSTOMS, &BoundToBill));
    assert!(!matches_with(named_or_caller, NODE, &BoundToBill));
    assert!(!matches_with(named_or_caller, CUSTOMS, &NoBindings));
    assert!(matches_with(&format!("parties = [{{ participant = '{CUSTOMS}' }}]"), NODE, &BoundToBill));
    // In which role an association binds is not known here, so a role must be said by the event.
    assert!(!matches_with("parties = [{ participant = '$caller', role = 'declarant' }]", CUSTOMS, &BoundToBill));
}

#[test]
fn every_fault_is_named_with_its_path() {
    let wrong = spec(
        "types = ['handling.discharge', 'shipping', 'condition.x']
        classifiers = ['real']
        subjects = [{}, { kind = 'box', date = '2026-02-30' }]
        places = [{ un_locode = 'KHI' }, { country_code = 'Pakistan' }]
        parties = [{ participant = '$caller' }, { participant = 'customs' }]
        commodity_prefixes = ['8', '87032310', '87 03']
        publishers = ['*']
        event_time = { start_time = '2026-01-01T00:00:00Z', end_time = '2026-01-01T00:00:00Z' }
        accepted_time = {}
        all = true",
    );
    let problems = Filter::compile(&wrong, false).expect_err("every field is wrong");
    let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
    for field in [
        "types[0]",
        "types[1]",
        "types[2]",
        "classifiers[0]",
        "subjects[0]",
        "subjects[1].kind",
        "subjects[1].date",
        "places[0].un_locode",
        "places[1].country_code",
        "parties[0].participant",
        "parties[1].participant",
        "commodity_prefixes[0]",
        "commodity_prefixes[1]",
        "commodity_prefixes[2]",
        "publishers[0]",
        "event_time",
        "accepted_time",
        "all",
    ] {
        assert!(fields.contains(&field), "{field} is missing in {fields:?}");
    }
    assert_eq!(problems.len(), 18, "{problems:#?}");
}

#[test]
fn a_grant_that_means_everything_must_say_so() {
    assert!(Filter::compile(&FilterSpec::default(), false).is_ok());
    let problems = Filter::compile(&FilterSpec::default(), true).expect_err("an empty grant");
    assert_eq!(problems[0].reason, "FILTER_EMPTY");
}

#[test]
fn a_field_has_at_most_64_values() {
    let many = FilterSpec { types: vec!["handling".into(); 65], ..FilterSpec::default() };
    assert_eq!(Filter::compile(&many, false).expect_err("65 values")[0].reason, "TOO_MANY_VALUES");
    let just = FilterSpec { types: vec!["handling".into(); 64], ..FilterSpec::default() };
    assert!(Filter::compile(&just, false).is_ok());
}

#[test]
fn coverage_is_told_field_by_field() {
    let compile = |toml: &str| Filter::compile(&spec(toml), true).expect("a good filter");
    for (own, wider, covered) in [
        ("types = ['handling.loaded']", "all = true", true),
        ("types = ['handling.loaded']", "types = ['handling']", true),
        ("types = ['handling']", "types = ['handling.loaded']", false),
        ("all = true", "types = ['handling']", false),
        ("places = [{ country_code = 'PK', role = 'event' }]", "places = [{ country_code = 'PK' }]", true),
        ("places = [{ country_code = 'PK' }]", "places = [{ country_code = 'PK', role = 'event' }]", false),
        ("places = [{ un_locode = 'PKKHI' }]", "places = [{ country_code = 'PK' }]", true),
        ("places = [{ country_code = 'PK' }, { country_code = 'CN' }]", "places = [{ country_code = 'PK' }]", false),
        ("subjects = [{ kind = 'booking', value = 'B1' }]", "subjects = [{ kind = 'booking' }]", true),
        ("subjects = [{ value = 'B1' }]", "subjects = [{ kind = 'booking' }]", false),
        ("subjects = [{ value = 'b-1' }]", "subjects = [{ value = 'B1' }]", false),
        ("parties = [{ participant = '$caller' }]", "parties = [{ participant = '$caller' }]", true),
        ("parties = [{ participant = '$caller' }]", "parties = [{ participant = '$caller', role = 'agent' }]", false),
        ("parties = [{ participant = '$caller', role = 'agent' }]", "parties = [{ participant = '$caller' }]", true),
        ("commodity_prefixes = ['8703']", "commodity_prefixes = ['87']", true),
        ("commodity_prefixes = ['87']", "commodity_prefixes = ['8703']", false),
        ("publishers = ['spiffe://port.example/a/*']", "publishers = ['spiffe://port.example/*']", true),
        ("publishers = ['spiffe://port.example/*']", "publishers = ['spiffe://port.example/a/*']", false),
        ("modes = ['rail']", "modes = ['rail', 'road']", true),
        ("modes = ['rail', 'air']", "modes = ['rail', 'road']", false),
        (
            "event_time = { start_time = '2026-01-02T00:00:00Z', end_time = '2026-01-03T00:00:00Z' }",
            "event_time = { start_time = '2026-01-01T00:00:00Z' }",
            true,
        ),
        (
            "event_time = { start_time = '2026-01-01T00:00:00Z' }",
            "event_time = { start_time = '2026-01-02T00:00:00Z', end_time = '2026-01-03T00:00:00Z' }",
            false,
        ),
    ] {
        assert_eq!(compile(own).is_covered_by(&compile(wider)), covered, "{own} in {wider}");
    }
}

#[test]
fn a_caller_without_a_name_is_nobody() {
    let filter =
        Filter::compile(&spec("parties = [{ participant = '$caller', role = 'carrier' }]"), true).expect("good");
    let bytes = header().encode();
    let header = HeaderRef::parse(&bytes).expect("a good header");
    let context = MatchContext { accepted_time_ns: 0, origin_node: NODE, caller: "", bindings: &NoBindings };
    assert!(!filter.matches(&header, &context), "the event names a carrier by its code, and nobody's participant");
}

#[test]
fn a_range_of_times_is_looked_up_by_its_days_while_they_are_few() {
    let days = |from: &str, to: &str| {
        let filter = Filter::compile(
            &spec(&format!("event_time = {{ start_time = '{from}T00:00:00Z', end_time = '{to}T00:00:00Z' }}")),
            false,
        )
        .expect("a good filter");
        let plan = filter.term_plan(&SpiffeId::parse(CUSTOMS).expect("a good name"));
        plan.first().map_or(0, Vec::len)
    };
    assert_eq!(days("2026-01-01", "2026-01-02"), 1, "the end is exclusive");
    assert_eq!(days("2026-01-01", "2026-02-10"), 40);
    assert_eq!(days("2026-01-01", "2026-02-11"), 0, "beyond that looking up costs more than it saves");
}
