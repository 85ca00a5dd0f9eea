//! Clearances as a caller meets them: one, lists in pages, what events changed, and what must not be told apart.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message;

use super::*;
use crate::{
    api::{
        Refused,
        queries::tests::{STRANGER, caller, private, queries, violations},
    },
    testing::events::{BROKER, CUSTOMS, HOUR_NS, TERMINAL, Voyage, timestamp},
    views::test_node::{NODE, NOW_NS, TestNode},
    wire::proto::{
        ClearanceChanges, ClearanceStep, CoverageExtent, Event, IdentifierKind, ListClearancesRequest, Obstacle,
        OriginLink, Place, Subject as SubjectMessage, TimeRange, event::Body,
    },
};

mod sources;

fn get(subject: SubjectMessage) -> GetClearanceRequest {
    GetClearanceRequest { subject: Some(subject) }
}

#[tokio::test]
async fn the_answer_explains_itself() {
    let node = TestNode::start();
    let queries = queries(&node);
    let voyage = Voyage::new(1, NOW_NS);
    let places = node.store(&voyage.events()[..7]).await;
    let answer = queries.get_clearance(&caller(CUSTOMS), get(voyage.container_subject())).await.expect("an answer");
    let clearance = answer.clearance.expect("a clearance");
    assert_eq!(clearance.subject.expect("said").value, voyage.container);
    assert!(!clearance.released);
    assert_eq!(clearance.obstacles, [Obstacle::NotReleased, Obstacle::HoldOpen].map(i32::from));
    let [lifecycle] = clearance.lifecycles.as_slice() else { panic!("{:?}", clearance.lifecycles) };
    assert_eq!((lifecycle.state(), lifecycle.steps.len()), (ClearanceStep::Lodged, 1));
    let set_by = lifecycle.state_set_by.as_ref().expect("by a step");
    assert_eq!((&*set_by.event_id, &*set_by.authority), (&*voyage.lodged().event_id, CUSTOMS));
    assert_eq!(set_by.position, queries.position(places[3]));
    assert_eq!(lifecycle.steps[0].office.as_ref().expect("an office").un_locode, "PKKHI");
    let [hold] = clearance.open_holds.as_slice() else { panic!("{:?}", clearance.open_holds) };
    assert_eq!((&*hold.authority_domain, &*hold.reasons[0].code), ("customs.gov.pk", "7"));
    assert_eq!(hold.placed_by.as_ref().expect("by an event").event_id, voyage.held().event_id);
    assert_eq!(hold.subjects.len(), 2);
    let coverage = clearance.coverage.expect("said");
    assert_eq!((coverage.extent(), coverage.said_by.len()), (CoverageExtent::Complete, 1));
    assert_eq!(coverage.said_by[0].event_id, voyage.attached().event_id);
    assert_eq!(answer.as_of, queries.position(*places.last().expect("some")));
    let [origin] = answer.origins.as_slice() else { panic!("{:?}", answer.origins) };
    assert_eq!((&*origin.node, &origin.complete_through, origin.link()), (NODE, &answer.as_of, OriginLink::Own));

    node.store(&[voyage.lifted(), voyage.released()]).await;
    let answer = queries.get_clearance(&caller(BROKER), get(voyage.bill_subject())).await.expect("an answer");
    let clearance = answer.clearance.expect("a clearance");
    assert!(clearance.released && clearance.obstacles.is_empty() && clearance.open_holds.is_empty());
}

#[tokio::test]
async fn what_is_hidden_and_what_is_absent_get_the_same_answer() {
    let node = TestNode::start();
    let queries = queries(&node);
    let (voyage, other) = (Voyage::new(1, NOW_NS), Voyage::new(2, NOW_NS));
    let hidden: Vec<Event> = other.events().into_iter().map(private).collect();
    node.store(&voyage.events()).await;
    node.store(&hidden).await;
    let refused = async |who: &str, subject: SubjectMessage| {
        let error = queries.get_clearance(&caller(who), get(subject)).await.expect_err("refused");
        Refused::from(error)
    };
    // She is a party of the first voyage; of the second she knows nothing, and there is no third.
    assert!(queries.get_clearance(&caller(BROKER), get(voyage.declaration_subject())).await.is_ok());
    let absent = refused(BROKER, Voyage::new(3, NOW_NS).declaration_subject()).await;
    assert_eq!((absent.code, absent.reason), (tonic::Code::NotFound, "CLEARANCE_NOT_FOUND"));
    for subject in [other.declaration_subject(), other.container_subject(), other.bill_subject()] {
        assert_eq!(refused(BROKER, subject).await, absent);
    }
    assert_eq!(refused(STRANGER, voyage.declaration_subject()).await.reason, "NOT_GRANTED");
    let wrong = |kind: IdentifierKind, value: &str| SubjectMessage {
        kind: kind.into(),
        value: value.into(),
        ..Default::default()
    };
    for (subject, field, reason) in [
        (wrong(IdentifierKind::VesselImo, "9321483"), "subject.kind", "SUBJECT_DOES_NOT_FIT"),
        (wrong(IdentifierKind::Unspecified, "1"), "subject.kind", "FIELD_MISSING"),
        (wrong(IdentifierKind::Container, ""), "subject.value", "FIELD_MISSING"),
    ] {
        let answer = queries.get_clearance(&caller(CUSTOMS), get(subject)).await;
        assert_eq!(violations(answer.err()), [(field.to_owned(), reason)]);
    }
}

/// Reads a list to its end, in pages of a size.
async fn listed(queries: &Queries, who: &str, request: &ListClearancesRequest, page_size: u32) -> Vec<String> {
    let mut request = ListClearancesRequest { page_size, ..request.clone() };
    let mut values = Vec::new();
    loop {
        let page = queries.list_clearances(&caller(who), request.clone()).await.expect("a page");
        assert!(page.clearances.len() <= page_size as usize);
        values.extend(page.clearances.into_iter().map(|clearance| clearance.subject.expect("said").value));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return values;
        }
    }
}

#[tokio::test]
async fn a_list_has_each_once_in_pages_of_any_size_and_by_state_hold_office_and_time() {
    let node = TestNode::start();
    let queries = queries(&node);
    let voyages: Vec<Voyage> = (0..9).map(|n| Voyage::new(n, NOW_NS)).collect();
    let name = |n: usize| voyages[n].declaration.clone();
    for (n, voyage) in voyages.iter().enumerate() {
        // The first three are lodged, the next three held too, the last three released.
        let until = [4, 5, 9][n / 3];
        node.store(&voyage.events()[1..until]).await;
    }
    // One is lodged again by a correction, which is the last that is said of it.
    node.store(&[voyages[0].lodged().corrected(|event| event.utc_offset_minutes = Some(0))]).await;
    let all = ListClearancesRequest::default();
    let newest: Vec<String> = std::iter::once(0).chain((1..9).rev()).map(name).collect();
    for size in [1, 2, 7, 100] {
        assert_eq!(listed(&queries, CUSTOMS, &all, size).await, newest, "pages of {size}");
        assert_eq!(listed(&queries, BROKER, &all, size).await, newest, "she is a party of each");
    }
    let lodged = ListClearancesRequest { states: vec![ClearanceStep::Lodged.into()], ..Default::default() };
    assert_eq!(listed(&queries, CUSTOMS, &lodged, 2).await, [0, 5, 4, 3, 2, 1].map(name));
    let held = ListClearancesRequest { held: true, ..Default::default() };
    assert_eq!(listed(&queries, CUSTOMS, &held, 2).await, [5, 4, 3].map(name));
    let both = ListClearancesRequest { held: true, ..lodged.clone() };
    assert_eq!(listed(&queries, CUSTOMS, &both, 2).await, [5, 4, 3].map(name));
    let released = ListClearancesRequest { states: vec![ClearanceStep::Released.into()], ..Default::default() };
    assert_eq!(listed(&queries, CUSTOMS, &released, 2).await, [8, 7, 6].map(name));
    let at = |office: Place| ListClearancesRequest { offices: vec![office], ..Default::default() };
    let karachi = Place { un_locode: "PKKHI".into(), ..Place::default() };
    assert_eq!(listed(&queries, CUSTOMS, &at(karachi), 4).await, newest);
    let shanghai = Place { un_locode: "CNSHA".into(), ..Place::default() };
    assert!(listed(&queries, CUSTOMS, &at(shanghai), 4).await.is_empty());
    let since = |hours: i64| {
        let state_time = TimeRange { start_time: Some(timestamp(NOW_NS + hours * HOUR_NS)), end_time: None };
        ListClearancesRequest { state_time: Some(state_time), ..Default::default() }
    };
    assert_eq!(listed(&queries, CUSTOMS, &since(22), 2).await, [8, 7, 6].map(name), "released at the 22nd hour");
    assert!(listed(&queries, CUSTOMS, &since(23), 2).await.is_empty());

    for (request, field, reason) in [
        (ListClearancesRequest { states: vec![20], ..Default::default() }, "states", "ENUM_UNKNOWN"),
        (ListClearancesRequest { states: vec![1; 13], ..Default::default() }, "states", "TOO_MANY_VALUES"),
        (at(Place { un_locode: "PK".into(), ..Place::default() }), "offices[0].un_locode", "LOCODE_MALFORMED"),
        (ListClearancesRequest { page_token: "00".into(), ..Default::default() }, "page_token", "PAGE_TOKEN_INVALID"),
    ] {
        let answer = queries.list_clearances(&caller(CUSTOMS), request).await;
        assert_eq!(violations(answer.err()), [(field.to_owned(), reason)]);
    }
    let hidden = queries.list_clearances(&caller(STRANGER), all).await;
    assert_eq!(hidden.err(), Some(QueryError::NotGranted(crate::identity::Action::Read)));
}

#[tokio::test]
async fn a_list_shows_nobody_what_only_others_may_read() {
    let node = TestNode::start();
    let queries = queries(&node);
    let voyage = Voyage::new(1, NOW_NS);
    node.store(&[private(voyage.lodged()), voyage.discharged(), private(voyage.held())]).await;
    let all = ListClearancesRequest::default();
    assert_eq!(listed(&queries, CUSTOMS, &all, 5).await, std::slice::from_ref(&voyage.declaration));
    assert!(listed(&queries, TERMINAL, &all, 5).await.is_empty());
    // One hold that she may read makes a row, in which the other is counted.
    let mut open = voyage.held();
    let Some(Body::Hold(hold)) = &mut open.body else { panic!("a hold") };
    hold.hold_id = "H-2".into();
    node.store(&[open.with_id()]).await;
    let page = queries.list_clearances(&caller(TERMINAL), all).await.expect("a page");
    let [row] = page.clearances.as_slice() else { panic!("{page:?}") };
    assert_eq!((row.open_holds.len(), row.withheld_holds, row.lifecycles.len()), (1, 1, 0));
}

/// What a watch tells of the log after a place.
async fn watched(
    queries: &Arc<Queries>,
    node: &TestNode,
    who: &str,
    these: &[SubjectMessage],
    after: u64,
) -> Vec<ClearanceChanges> {
    let subjects: Vec<Subject> = these.iter().map(|one| cleared_subject(Some(one)).expect("a subject")).collect();
    let watched = if subjects.is_empty() { Watched::Each } else { Watched::These(subjects) };
    let mut watching = Watching::new(Arc::clone(queries), caller(who), watched);
    let tail = node.search_view.progress().applied.get();
    let places = (after + 1..=tail).map(Sequence).collect();
    let mut told = Vec::new();
    for record in crate::log::EventLog::get(&*node.log, places).await.expect("readable") {
        told.extend(watching.look(&record).await.expect("looked at"));
    }
    told
}

/// Each change in short: of what, from which state to which, held or not.
fn in_short(changes: &[ClearanceChanges]) -> Vec<String> {
    let standing = |clearance: &Option<proto::ClearanceStatus>| {
        clearance.as_ref().map_or_else(
            || "nothing".to_owned(),
            |clearance| {
                let states = clearance
                    .lifecycles
                    .iter()
                    .map(|one| one.state().as_str_name().trim_start_matches("CLEARANCE_STEP_"));
                let held = clearance.open_holds.len() as u32 + clearance.withheld_holds;
                let states = states.collect::<Vec<_>>().join("+").to_lowercase();
                let released = if clearance.released { "!" } else { "" };
                format!("{states}/{held}{released}")
            },
        )
    };
    let change = |change: &proto::ClearanceChange| {
        let value = change.subject.as_ref().map(|subject| subject.value.clone()).unwrap_or_default();
        format!("{value}: {} > {}", standing(&change.before), standing(&change.after))
    };
    changes.iter().flat_map(|changes| changes.changes.iter().map(change)).collect()
}

#[tokio::test]
async fn a_watch_tells_each_change_once_with_its_cause_wherever_it_begins() {
    let node = TestNode::start();
    let queries = Arc::new(queries(&node));
    let voyage = Voyage::new(1, NOW_NS);
    let wrong = voyage.released();
    let mut events = voyage.events();
    events.extend([wrong.corrected(|event| event.utc_offset_minutes = Some(60)), voyage.held().retracted()]);
    // Said again, a release changes nothing.
    let mut again = voyage.released();
    again.event_time = Some(timestamp(NOW_NS + 28 * HOUR_NS));
    events.push(again.with_id());
    node.store(&events).await;
    let d = &voyage.declaration;
    let each = watched(&queries, &node, CUSTOMS, &[], 0).await;
    assert_eq!(
        in_short(&each),
        [
            format!("{d}: nothing > lodged/0"),
            format!("{d}: lodged/0 > lodged/1"),
            format!("{d}: lodged/1 > lodged/0"),
            format!("{d}: lodged/0 > released/0!"),
            // The correction sets the state anew; the retraction of a hold that was lifted changes nothing.
            format!("{d}: released/0! > released/0!"),
        ]
    );
    let cause = |changes: &ClearanceChanges| {
        let signed = changes.event.clone().and_then(|event| event.signed).expect("the cause");
        Event::decode(signed.event).expect("a good event").event_id
    };
    assert_eq!(cause(&each[1]), voyage.held().event_id);
    // The container and the bill change with their declaration, from the association on.
    let these = [voyage.container_subject(), voyage.bill_subject()];
    let of_these = watched(&queries, &node, CUSTOMS, &these, 0).await;
    let of_bill: Vec<String> =
        in_short(&of_these).into_iter().filter(|change| change.starts_with(&voyage.bill)).collect();
    assert_eq!(of_bill[0], format!("{}: nothing > /0", voyage.bill));
    assert_eq!(of_bill[4], format!("{}: lodged/0 > released/0!", voyage.bill));
    assert!(of_these.iter().all(|changes| changes.changes.len() == 2), "both change together");
    // Begun anywhere, it tells exactly what is after that place.
    for (these, whole) in [(Vec::new(), each), (these.to_vec(), of_these)] {
        for after in 0..events.len() as u64 {
            let rest = watched(&queries, &node, CUSTOMS, &these, after).await;
            let expected: Vec<&ClearanceChanges> = whole
                .iter()
                .filter(|changes| changes.position.rsplit('-').next().and_then(|text| text.parse().ok()) > Some(after))
                .collect();
            assert_eq!(rest.iter().collect::<Vec<_>>(), expected, "after {after}");
        }
    }
}

#[tokio::test]
async fn a_watch_counts_a_withheld_hold_and_says_nothing_of_its_cause() {
    let node = TestNode::start();
    let queries = Arc::new(queries(&node));
    let voyage = Voyage::new(1, NOW_NS);
    node.store(&[voyage.attached(), voyage.lodged(), private(voyage.held()), private(Voyage::new(2, NOW_NS).lodged())])
        .await;
    let told = watched(&queries, &node, TERMINAL, &[], 0).await;
    let d = &voyage.declaration;
    assert_eq!(in_short(&told), [format!("{d}: nothing > lodged/0"), format!("{d}: lodged/0 > lodged/1")]);
    assert_eq!(told.iter().map(|changes| changes.event.is_some()).collect::<Vec<_>>(), [true, false]);
    let after = told[1].changes[0].after.as_ref().expect("it stands");
    assert_eq!((after.withheld_holds, after.open_holds.len()), (1, 0));
    assert!(watched(&queries, &node, STRANGER, &[], 0).await.is_empty());
}

/// A statement about the hold of a voyage that names a seal and none of the goods.
fn naming_no_goods(event: &Event) -> Event {
    let seal = SubjectMessage { kind: IdentifierKind::Seal.into(), value: "S-1".into(), ..Default::default() };
    Event { subjects: vec![seal], ..event.clone() }.with_id()
}

#[tokio::test]
async fn a_watch_tells_of_a_lift_that_names_none_of_the_goods_and_of_its_retraction() {
    let node = TestNode::start();
    let queries = Arc::new(queries(&node));
    let (voyage, other) = (Voyage::new(1, NOW_NS), Voyage::new(2, NOW_NS));
    // One hold on the goods of two.
    let Some(Body::Hold(hold)) = voyage.held().body else { panic!("a hold") };
    let held_too = Event { body: Some(Body::Hold(hold)), ..other.held() }.with_id();
    let lifted = naming_no_goods(&voyage.lifted());
    let held = [voyage.attached(), other.attached(), voyage.lodged(), other.lodged(), voyage.held(), held_too];
    node.store(&held).await;
    node.store(&[lifted.clone(), lifted.retracted()]).await;
    let [d, e] = [&voyage.declaration, &other.declaration];
    let expected = [
        format!("{d}: lodged/1 > lodged/0"),
        format!("{e}: lodged/1 > lodged/0"),
        format!("{d}: lodged/0 > lodged/1"),
        format!("{e}: lodged/0 > lodged/1"),
    ];
    let these = [voyage.declaration_subject(), other.declaration_subject()];
    for watched_subjects in [&[][..], &these] {
        let told = watched(&queries, &node, CUSTOMS, watched_subjects, held.len() as u64).await;
        assert_eq!(in_short(&told), expected, "{} subjects", watched_subjects.len());
    }
}

#[tokio::test]
async fn a_hold_on_more_than_one_message_tells_of_is_said_to_be_so() {
    let node = TestNode::start();
    let queries = Arc::new(queries(&node));
    let voyage = Voyage::new(1, NOW_NS);
    let container = |n| Voyage::new(n, NOW_NS).container_subject();
    let place =
        |numbers: std::ops::Range<u32>| Event { subjects: numbers.map(container).collect(), ..voyage.held() }.with_id();
    node.store(&[place(0..300), place(300..600), naming_no_goods(&voyage.lifted())]).await;
    let told = watched(&queries, &node, CUSTOMS, &[], 2).await;
    let [lifted] = told.as_slice() else { panic!("{} messages", told.len()) };
    assert_eq!((lifted.changes.len(), lifted.incomplete), (512, true));
    assert!(watched(&queries, &node, STRANGER, &[], 2).await.is_empty(), "she may read nothing of it");
    assert!(!watched(&queries, &node, CUSTOMS, &[container(0)], 2).await[0].incomplete);
}

#[tokio::test]
async fn a_watch_of_random_stories_ends_where_a_query_does() {
    let seed = std::env::var("TRADELANE_CLEARANCE_SEED").ok().and_then(|text| text.parse().ok());
    let seeds: Vec<u64> = seed.map_or_else(|| (1..=12).collect(), |seed| vec![seed]);
    for seed in seeds {
        let mut random = fastrand::Rng::with_seed(seed);
        let node = TestNode::start();
        let queries = Arc::new(queries(&node));
        let voyages: Vec<Voyage> = (0..3).map(|n| Voyage::new(n, NOW_NS)).collect();
        let mut events: Vec<Event> = voyages.iter().flat_map(|voyage| voyage.events()[1..].to_vec()).collect();
        let is_lift = |event: &&mut Event| matches!(&event.body, Some(Body::Hold(hold)) if hold.step() == proto::HoldStep::Lifted);
        for lift in events.iter_mut().filter(is_lift).filter(|_| random.bool()) {
            *lift = naming_no_goods(lift);
        }
        random.shuffle(&mut events);
        let retracted: Vec<Event> = events.iter().filter(|_| random.u8(..6) == 0).map(Event::retracted).collect();
        events.extend(retracted);
        node.store(&events).await;
        let mut stands: BTreeMap<String, Option<proto::ClearanceStatus>> = BTreeMap::new();
        let subjects: Vec<SubjectMessage> = voyages
            .iter()
            .flat_map(|one| [one.container_subject(), one.bill_subject(), one.declaration_subject()])
            .collect();
        for changes in watched(&queries, &node, CUSTOMS, &subjects, 0).await {
            for change in changes.changes {
                let value = change.subject.expect("said").value;
                let before = stands.insert(value, change.after).flatten();
                assert_eq!(
                    before, change.before,
                    "TRADELANE_CLEARANCE_SEED={seed}: each change begins where the last ended"
                );
            }
        }
        for subject in subjects {
            let answer = queries.get_clearance(&caller(CUSTOMS), get(subject.clone())).await.ok();
            let known = answer.and_then(|answer| answer.clearance);
            let value = canonical_value(&subject);
            let watched = stands.remove(&value).flatten();
            let alike = |one: &proto::ClearanceStatus| (one.released, one.obstacles.clone(), one.open_holds.clone());
            assert_eq!(
                watched.as_ref().map(alike),
                known.as_ref().map(alike),
                "TRADELANE_CLEARANCE_SEED={seed}: {value}"
            );
        }
    }
}

fn canonical_value(subject: &SubjectMessage) -> String {
    crate::views::decoded::canonical(subject).value
}
