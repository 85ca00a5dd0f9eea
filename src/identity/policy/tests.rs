//! Grants: deny by default, their union, audience, time, narrowing, and a file whose faults are all named.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::domain::{
    EventId, HeaderRef, RoutingHeader, SpiffePattern,
    filter::{MatchContext, NoBindings},
    header::{AudienceTerm, PartyTerm, PlaceTerm, TypeStep},
};
use crate::identity::toml_file::Faults;

const PORT: &str = "spiffe://port.gov.pk/terminal/south";
const CUSTOMS: &str = "spiffe://customs.gov.pk/agency/karachi";
const CARRIER: &str = "spiffe://carrier.example/line/one";
const NODE: &str = "spiffe://exchange.gov.pk/node/khi-1";
const NOW_NS: i64 = 1_790_000_000_000_000_000;

fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).expect("a good name")
}

fn policy(toml: &str) -> Policy {
    file::parse(toml, Path::new("policy.toml"), &Successors::default()).expect("a good policy")
}

fn header(country: &str, party: &str, audience: AudienceTerm) -> RoutingHeader {
    let (participant, scheme, id_text) = (party.to_owned(), String::new(), String::new());
    RoutingHeader {
        types: vec![TypeStep { body: 21, step: 4 }],
        classifiers: vec![4],
        event_times_ns: vec![NOW_NS],
        places: vec![PlaceTerm::port("", country)],
        parties: vec![PartyTerm { role: 2, participant, scheme, id: id_text }],
        audience,
        ..RoutingHeader::bare(id(PORT), EventId::parse("0198c5a2-7b1e-7c3d-9f00-5a1b2c3d4e5f").expect("a good id"))
    }
}

/// Asks whether an action is allowed for an event that was accepted at a time.
fn permits_at(rights: &Rights, action: Action, header: &RoutingHeader, accepted_time_ns: i64) -> bool {
    let bytes = header.encode();
    let header = HeaderRef::parse(&bytes).expect("a good header");
    let context =
        MatchContext { accepted_time_ns, origin_node: NODE, caller: rights.who.as_str(), bindings: &NoBindings };
    let permits = rights.permits(action, &header, &context, NOW_NS);
    // The other ways to ask must say the same.
    if action == Action::Read {
        assert_eq!(rights.read_refusal(&header, &context, NOW_NS).is_none(), permits);
    }
    let verdicts = rights.explain(action, Some((&header, &context)), NOW_NS);
    assert!(verdicts.iter().all(|verdict| verdict.allows == verdict.explanation.is_empty()));
    let by_grant = verdicts.iter().any(|verdict| verdict.allows);
    assert_eq!(by_grant || (action == Action::Read && rights.is_own(&header)), permits);
    permits
}

fn permits(rights: &Rights, action: Action, header: &RoutingHeader) -> bool {
    permits_at(rights, action, header, NOW_NS)
}

#[test]
fn nothing_is_allowed_without_a_grant_but_reading_ones_own() {
    let empty = policy("");
    let event = header("PK", CUSTOMS, AudienceTerm::Network);
    for action in [Action::Publish, Action::Read, Action::Share, Action::Forward, Action::Operate, Action::Audit] {
        assert!(!empty.rights(&id(CUSTOMS)).may(action, NOW_NS));
        assert!(!permits(&empty.rights(&id(CUSTOMS)), action, &event));
    }
    assert!(permits(&empty.rights(&id(PORT)), Action::Read, &header("PK", CUSTOMS, AudienceTerm::Private)));
    assert!(!permits(&empty.rights(&id(PORT)), Action::Publish, &event));
}

#[test]
fn one_grant_says_events_in_my_country_or_where_i_am_named() {
    let policy = policy(
        r#"
        [[grant]]
        id = "customs"
        who = ["spiffe://customs.gov.pk/*"]
        actions = ["read"]
        filters = [{ places = [{ country_code = "PK" }] }, { parties = [{ participant = "$caller" }] }]
        "#,
    );
    let rights = policy.rights(&id(CUSTOMS));
    assert!(permits(&rights, Action::Read, &header("PK", CARRIER, AudienceTerm::Network)));
    assert!(permits(&rights, Action::Read, &header("CL", CUSTOMS, AudienceTerm::Network)));
    assert!(!permits(&rights, Action::Read, &header("CL", CARRIER, AudienceTerm::Network)));
    assert!(!permits(&rights, Action::Publish, &header("PK", CARRIER, AudienceTerm::Network)));
    assert!(!permits(&policy.rights(&id(CARRIER)), Action::Read, &header("PK", CARRIER, AudienceTerm::Network)));
}

#[test]
fn an_audience_narrows_what_a_grant_opens() {
    let policy = policy(
        r#"
        [[grant]]
        id = "reader"
        who = ["spiffe://customs.gov.pk/*", "spiffe://carrier.example/*"]
        actions = ["read"]
        all = true
        [[grant]]
        id = "auditor"
        who = ["spiffe://audit.gov.pk/*"]
        actions = ["read"]
        all = true
        private = true
        "#,
    );
    let named = AudienceTerm::Named(vec![SpiffePattern::parse("spiffe://customs.gov.pk/*").expect("a good pattern")]);
    let may_read = |who: &str, audience: &AudienceTerm| {
        permits(&policy.rights(&id(who)), Action::Read, &header("PK", CARRIER, audience.clone()))
    };
    assert!(may_read(CUSTOMS, &named) && !may_read(CARRIER, &named));
    assert!(!may_read(CUSTOMS, &AudienceTerm::Private) && may_read(PORT, &AudienceTerm::Private));
    for audience in [AudienceTerm::Private, named, AudienceTerm::Network] {
        assert!(may_read("spiffe://audit.gov.pk/court", &audience));
    }
}

#[test]
fn grants_begin_and_end_and_may_hide_what_was_before() {
    let policy = policy(
        r#"
        [[grant]]
        id = "past"
        who = ["spiffe://customs.gov.pk/*"]
        actions = ["publish"]
        all = true
        expires_time = "2026-01-01T00:00:00Z"
        [[grant]]
        id = "since"
        who = ["spiffe://customs.gov.pk/*"]
        actions = ["read"]
        all = true
        history = "from_start"
        start_time = 2026-06-01T00:00:00Z
        expires_time = 2026-12-01T00:00:00+05:00
        "#,
    );
    let rights = policy.rights(&id(CUSTOMS));
    let event = header("PK", CARRIER, AudienceTerm::Network);
    let start_ns = policy.grants[1].start_time_ns.expect("a start");
    let end_ns = policy.grants[1].expires_time_ns.expect("an end");
    assert!(!rights.may(Action::Publish, NOW_NS));
    assert!(permits_at(&rights, Action::Read, &event, start_ns));
    assert!(!permits_at(&rights, Action::Read, &event, start_ns - 1));
    assert!(rights.may(Action::Read, end_ns - 1) && !rights.may(Action::Read, end_ns));
    assert_eq!(rights.next_change_ns(start_ns - 1), Some(start_ns));
    assert_eq!(rights.next_change_ns(start_ns), Some(end_ns));
    assert_eq!(rights.next_change_ns(end_ns), None);
    assert!(rights.narrowing(&[], NOW_NS).narrowed, "hidden history is less than everything");
}

#[test]
fn a_successor_keeps_the_rights_of_her_former_names_over_their_events() {
    let (new, old, older) = (id(CARRIER), id(PORT), id("spiffe://port.gov.pk/terminal/old"));
    let successors = Successors::new(&[(new.clone(), old.clone()), (old.clone(), older.clone()), (older, new.clone())]);
    assert_eq!(successors.former_names(&new).len(), 2, "a circle of names ends");
    let policy = file::parse("", Path::new("policy.toml"), &successors).expect("a good policy");
    let named = AudienceTerm::Named(vec![SpiffePattern::parse(CUSTOMS).expect("a good pattern")]);
    assert!(permits(&policy.rights(&new), Action::Read, &header("PK", CUSTOMS, named.clone())));
    assert!(!permits(&policy.rights(&id(CUSTOMS)), Action::Read, &header("PK", CUSTOMS, named)));
}

#[test]
fn narrowing_names_the_filters_that_no_grant_covers() {
    let policy = policy(
        r#"
        [[grant]]
        id = "pakistan"
        who = ["spiffe://customs.gov.pk/*"]
        actions = ["read"]
        filters = [{ places = [{ country_code = "PK" }] }]
        "#,
    );
    let rights = policy.rights(&id(CUSTOMS));
    let filter = |toml: &str| Filter::compile(&toml::from_str(toml).expect("TOML"), false).expect("a good filter");
    let filters = [filter("places = [{ country_code = 'PK' }]\ntypes = ['handling']"), filter("types = ['handling']")];
    let narrowing = rights.narrowing(&filters, NOW_NS);
    assert_eq!((narrowing.narrowed_filters, narrowing.narrowed), (vec![1], true));
    assert_eq!(narrowing.grant_ids, ["pakistan"]);
    assert!(!rights.narrowing(&filters[..1], NOW_NS).narrowed);
    assert!(rights.narrowing(&[], NOW_NS).narrowed);
}

#[test]
fn a_reload_takes_the_next_generation_and_readers_notice() {
    let access = Access::new(policy(""));
    let mut watched = access.generation();
    watched.mark_unchanged();
    assert_eq!(access.replace(policy("")), 2);
    assert!(watched.has_changed().expect("the policy is there"));
    assert_eq!((access.policy().generation, *watched.borrow_and_update()), (2, 2));
}

#[test]
fn every_fault_of_a_file_is_named_with_its_line() {
    let text = r#"
[[grant]]
id = "a"
who = ["spiffe://customs.gov.pk/*", "customs"]
actions = ["raed"]
filters = [{ plces = [] }, { places = [{ un_locod = "PKKHI" }], types = ["nothing"] }]
histroy = "all"

[[grant]]
id = "a"
who = []
actions = ["read"]
start_time = "yesterday"

[[grants]]
id = "b"
"#;
    let faults = file::parse(text, Path::new("policy.toml"), &Successors::default()).expect_err("a bad policy").0;
    let found: Vec<(usize, &str)> =
        faults.iter().map(|fault| (fault.line.unwrap_or_default(), fault.field.as_str())).collect();
    for expected in [
        (15, "grants"),
        (7, "grant[0].histroy"),
        (2, "grant[0].who[1]"),
        (2, "grant[0].actions[0]"),
        (6, "grant[0].filters[0].plces"),
        (6, "grant[0].filters[0].all"),
        (6, "grant[0].filters[1].places[0].un_locod"),
        (6, "grant[0].filters[1].types[0]"),
        (9, "grant[1].id"),
        (9, "grant[1].who"),
        (9, "grant[1].start_time"),
        (9, "grant[1].filters"),
    ] {
        assert!(found.contains(&expected), "{expected:?} is not in {found:#?}");
    }
    let text = Faults(faults).to_string();
    assert!(text.contains("policy.toml:7: grant[0].histroy: is not a known key; did you mean \"history\"?"), "{text}");
    assert!(text.contains("did you mean \"read\"?"), "{text}");
    for wrong in ["[[grant]]\nid = 3", "grant = 3", "grant = [3]", "not toml", "[[grant]]\nid = 'a'"] {
        assert!(file::parse(wrong, Path::new("p"), &Successors::default()).is_err(), "{wrong:?}");
    }
}

const COUNTRIES: [&str; 3] = ["PK", "CL", "KE"];
const PEOPLE: [&str; 3] = [PORT, CUSTOMS, CARRIER];

prop_compose! {
    /// A grant over one country or all, for one of three people or a whole domain.
    fn any_grant()(
        who in 0_usize..3,
        wide in any::<bool>(),
        country in 0_usize..4,
        publish in any::<bool>(),
        private in any::<bool>(),
    ) -> String {
        let who = if wide { format!("{}/*", PEOPLE[who].rsplit_once('/').expect("a path").0) } else { PEOPLE[who].to_owned() };
        let what = COUNTRIES.get(country).map_or("all = true".to_owned(), |country| {
            format!("filters = [{{ places = [{{ country_code = '{country}' }}] }}]")
        });
        let actions = if publish { "'publish', 'read'" } else { "'read'" };
        format!("who = ['{who}']\nactions = [{actions}]\n{what}\nprivate = {private}\n")
    }
}

fn of_grants(grants: &[String]) -> Policy {
    let tables: Vec<String> =
        grants.iter().enumerate().map(|(index, grant)| format!("[[grant]]\nid = 'g{index}'\n{grant}\n")).collect();
    policy(&tables.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What several grants allow is exactly what each alone allows, taken together.
    #[test]
    fn several_grants_are_their_union(grants in proptest::collection::vec(any_grant(), 0..5), private in any::<bool>()) {
        let audience = if private { AudienceTerm::Private } else { AudienceTerm::Network };
        for who in PEOPLE {
            for country in COUNTRIES {
                for action in [Action::Publish, Action::Read, Action::Operate] {
                    let event = header(country, CARRIER, audience.clone());
                    let together = permits(&of_grants(&grants).rights(&id(who)), action, &event);
                    let own = action == Action::Read && who == PORT;
                    let alone = grants.iter().any(|grant| {
                        permits(&of_grants(std::slice::from_ref(grant)).rights(&id(who)), action, &event)
                    });
                    prop_assert_eq!(together, alone || own);
                }
            }
        }
    }

    /// A filter that is not said to be narrowed shows everything that it matches (private events apart, which no filter promises).
    #[test]
    fn a_filter_that_is_not_narrowed_loses_nothing(grants in proptest::collection::vec(any_grant(), 0..4), country in 0_usize..4) {
        let spec = match COUNTRIES.get(country) {
            Some(country) => format!("places = [{{ country_code = '{country}' }}]"),
            None => String::new(),
        };
        let filter = Filter::compile(&toml::from_str(&spec).expect("TOML"), false).expect("a good filter");
        for who in PEOPLE {
            let rights = of_grants(&grants).rights(&id(who));
            let narrowing = rights.narrowing(std::slice::from_ref(&filter), NOW_NS);
            for event in COUNTRIES.map(|country| header(country, CARRIER, AudienceTerm::Network)) {
                let bytes = event.encode();
                let parsed = HeaderRef::parse(&bytes).expect("a good header");
                let context =
                    MatchContext { accepted_time_ns: NOW_NS, origin_node: NODE, caller: who, bindings: &NoBindings };
                if filter.matches(&parsed, &context) && !permits(&rights, Action::Read, &event) {
                    prop_assert!(narrowing.narrowed);
                    prop_assert_eq!(&narrowing.narrowed_filters, &[0]);
                }
            }
        }
    }
}

#[test]
fn the_example_is_good_and_shows_every_key() {
    let text = include_str!("../../../config/policy.toml");
    let policy = file::parse(text, Path::new("policy.toml"), &Successors::default()).expect("a good file");
    assert!(policy.grants.iter().any(|grant| grant.private || grant.history_from_start));
    for key in file::keys() {
        let shown = [format!("\n{key} = "), format!("{{ {key} = "), format!(", {key} = ")];
        assert!(shown.iter().any(|shown| text.contains(shown)), "the example does not show {key}");
    }
}
