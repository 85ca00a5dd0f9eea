//! The index against a plain look at every event: random events, grants, filters, orders and page sizes.

use proptest::prelude::*;

use super::*;
use crate::{
    domain::filter::{FilterSpec, PartySpec, PlaceSpec, SubjectSpec, TimeRangeSpec},
    testing::events::{self, BROKER, CARRIER, CUSTOMS, HOUR_NS, TERMINAL, Voyage},
    views::test_node::{NODE, NOW_NS, TestNode, policy, spiffe},
    wire::proto::{Audience, Event, Reach},
};

const CALLERS: [&str; 4] = [TERMINAL, CUSTOMS, BROKER, "spiffe://stranger.example/nobody"];

/// Some events of a few voyages, with audiences of all sorts, corrections and retractions.
fn stories() -> impl Strategy<Value = Vec<Event>> {
    let step = (0_u32..4, 0_usize..10, 0_u8..5, 0_u8..6);
    prop::collection::vec(step, 1..60).prop_map(|steps| {
        let mut events: Vec<Event> = Vec::new();
        for (number, (voyage, step, reach, fate)) in steps.into_iter().enumerate() {
            let mut event = Voyage::new(voyage, NOW_NS + i64::from(voyage) * 40 * HOUR_NS).events().swap_remove(step);
            event.created_time = Some(events::timestamp(NOW_NS + number as i64));
            event.audience = Some(match reach {
                0 => Audience { reach: Reach::Private.into(), participants: Vec::new() },
                1 => Audience { reach: Reach::Named.into(), participants: vec![BROKER.into()] },
                _ => Audience { reach: Reach::Network.into(), participants: Vec::new() },
            });
            let event = event.with_id();
            events.push(event.clone());
            match fate {
                0 => events.push(event.retracted()),
                1 => events.push(event.corrected(|event| event.subjects.truncate(1))),
                _ => {}
            }
        }
        events
    })
}

fn specs() -> impl Strategy<Value = FilterSpec> {
    let maybe = |of: Vec<&'static str>| prop::collection::vec(prop::sample::select(of), 0..3);
    let subjects = prop::collection::vec((0_u32..5, any::<bool>()), 0..3).prop_map(|subjects| {
        let subject = |(n, by_kind): (u32, bool)| {
            if by_kind {
                SubjectSpec { kind: "container".into(), ..SubjectSpec::default() }
            } else {
                SubjectSpec { value: events::container_number(n), ..SubjectSpec::default() }
            }
        };
        subjects.into_iter().map(subject).collect()
    });
    let places = maybe(vec!["PK", "CN", "DE"]).prop_map(|countries| {
        let place = |country: &str| PlaceSpec { country_code: country.into(), ..PlaceSpec::default() };
        countries.into_iter().map(place).collect()
    });
    let parties = maybe(vec![BROKER, CARRIER]).prop_map(|names| {
        let party = |name: &str| PartySpec { participant: name.into(), ..PartySpec::default() };
        names.into_iter().map(party).collect()
    });
    let time = prop::option::of((0_i64..200, 1_i64..100)).prop_map(|range| {
        range.map(|(from, length)| {
            let at = |hours: i64| Some(chrono::DateTime::from_timestamp_nanos(NOW_NS + hours * HOUR_NS));
            TimeRangeSpec { start_time: at(from), end_time: at(from + length) }
        })
    });
    let types = maybe(vec!["handling", "handling.discharged", "clearance", "hold.placed", "association"]);
    let publishers = maybe(vec![TERMINAL, CUSTOMS, "spiffe://maersk.example/*"]);
    (types, subjects, places, parties, publishers, time).prop_map(
        |(types, subjects, places, parties, publishers, event_time)| {
            let texts = |of: Vec<&str>| of.into_iter().map(str::to_owned).collect();
            let mut spec = FilterSpec {
                types: texts(types),
                subjects,
                places,
                parties,
                publishers: texts(publishers),
                event_time,
                ..FilterSpec::default()
            };
            spec.all = spec == FilterSpec::default();
            spec
        },
    )
}

/// Grants of the callers: the customs agency's country and what names its caller, the broker's consignments, the terminal everything.
const POLICY: &str = "
[[grant]]
id = 'country'
who = ['spiffe://customs.gov.pk/*']
actions = ['read']
filters = [{ places = [{ country_code = 'PK' }], types = ['handling', 'hold'] }, { parties = [{ participant = '$caller' }] }]
[[grant]]
id = 'consignments'
who = ['spiffe://indus-brokers.pk/*']
actions = ['read']
filters = [{ parties = [{ participant = '$caller' }] }]
[[grant]]
id = 'everything'
who = ['spiffe://port.karachi.pk/*']
actions = ['read']
all = true
";

async fn paged(finder: &Finder, question: &Question<'_>, bounds: Bounds, page: usize, work: Work) -> Vec<u64> {
    let mut found = Vec::new();
    let mut from = bounds.first();
    let mut calls = 0;
    while let Some(place) = from {
        calls += 1;
        assert!(calls < 10_000, "pages must come to an end");
        let mut count = 0;
        from = finder
            .walk(question, bounds, place, work, &mut |record| {
                count += 1;
                found.push(record.sequence.get());
                Ok(if count == page { Take::Last } else { Take::More })
            })
            .await
            .expect("memory answers");
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn a_walk_over_the_index_finds_what_a_look_at_every_event_finds(
        stories in stories(),
        specs in prop::collection::vec(specs(), 0..4),
        caller in prop::sample::select(&CALLERS[..]),
        descending: bool,
        page in 1_usize..20,
        tight: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let (found, expected) = runtime.block_on(async {
            let node = TestNode::start();
            for event in &stories {
                // The same statement may come twice: the log keeps one of them, and a chain that has ended takes no more.
                let batch = vec![crate::views::test_node::new_event(event)];
                let mode = crate::log::AppendMode::Each;
                node.log.append(crate::log::AppendBatch { events: batch, mode }).await.expect("memory takes it");
            }
            node.caught_up().await;
            let filters: Vec<Filter> =
                specs.iter().map(|spec| Filter::compile(spec, false).expect("a good filter")).collect();
            let rights = policy(POLICY).rights(&spiffe(caller));
            let question = Question { filters: &filters, rights: &rights, now_ns: NOW_NS };
            let finder = node.finder();
            let tail = *node.log.tail().borrow();
            let mut expected = Vec::new();
            for record in node.log.get((1..=tail.get()).map(Sequence).collect()).await.expect("memory answers") {
                // Asked of filters and rights directly: what finds events must not be the judge of what it finds.
                let header = HeaderRef::parse(&record.header).expect("a good header");
                let context = MatchContext {
                    accepted_time_ns: record.accepted_time_ns,
                    origin_node: NODE,
                    caller,
                    bindings: &*node.associations,
                };
                let askable = rights.askable(&*node.associations, NOW_NS);
                let asking = MatchContext { bindings: &askable, ..context };
                let asked = filters.is_empty() || filters.iter().any(|filter| filter.matches(&header, &asking));
                if asked && rights.permits(Action::Read, &header, &context, NOW_NS) {
                    expected.push(record.sequence.get());
                }
            }
            if descending {
                expected.reverse();
            }
            let bounds = Bounds { after: Sequence::ZERO, before: tail.next(), descending };
            let work = if tight {
                Work { examined_max: 3, lookups_max: 40 }
            } else {
                Work { examined_max: usize::MAX, lookups_max: usize::MAX }
            };
            (paged(&finder, &question, bounds, page, work).await, expected)
        });
        prop_assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn a_selective_query_does_not_look_at_every_event() {
    let node = TestNode::start();
    for n in 0..200 {
        let voyage = Voyage::new(n, NOW_NS + i64::from(n));
        node.store(&[voyage.attached(), voyage.discharged(), voyage.gated_out()]).await;
    }
    let container = SubjectSpec { value: events::container_number(7), ..SubjectSpec::default() };
    let filter = FilterSpec { subjects: vec![container], ..FilterSpec::default() };
    let filters = [Filter::compile(&filter, false).expect("a good filter")];
    let broad = FilterSpec { types: vec!["handling".into()], ..FilterSpec::default() };
    let broad = [Filter::compile(&broad, false).expect("a good filter")];
    // Who is bound to one bill only: her grant, not the filter, says where to look.
    let bound = "spiffe://bound.example/once";
    let mut single = Voyage::new(500, NOW_NS).attached();
    if let Some(crate::wire::proto::event::Body::Association(association)) = &mut single.body {
        association.parties[0].participant = bound.into();
    }
    node.store(&[single.with_id(), Voyage::new(500, NOW_NS).discharged()]).await;
    let grant = format!(
        "[[grant]]\nid = 'g'\nwho = ['{bound}']\nactions = ['read']\nfilters = [{{ parties = [{{ participant = '$caller' }}] }}]\n"
    );
    let everything = crate::views::test_node::reads_all(TERMINAL);
    let narrow = policy(&grant).rights(&spiffe(bound));
    let tail = *node.log.tail().borrow();
    let bounds = Bounds { after: Sequence::ZERO, before: tail.next(), descending: true };
    for (filters, rights, expected) in [(&filters, &everything, 3), (&broad, &narrow, 1)] {
        let question = Question { filters, rights, now_ns: NOW_NS };
        // An allowance that a walk over all of 602 events would exceed many times.
        let work = Work { examined_max: 8, lookups_max: 16 };
        let mut found = 0;
        let next = node
            .finder()
            .walk(&question, bounds, tail, work, &mut |_| {
                found += 1;
                Ok(Take::More)
            })
            .await;
        assert_eq!((found, next), (expected, Ok(None)));
    }
}
