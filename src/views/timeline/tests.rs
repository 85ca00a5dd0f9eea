//! Histories: their order, what belongs to them, and who may know of it.

use super::*;
use crate::{
    testing::events::{self, BROKER, CARRIER, CUSTOMS, HOUR_NS, TERMINAL, Voyage, timestamp},
    views::{
        decoded::canonical,
        test_node::{NOW_NS, TestNode, policy, reads_all, spiffe},
    },
    wire::proto::{self, Association, AssociationStep, Audience, Event, Reach, TimePrecision, event::Body},
};

async fn timeline(
    node: &TestNode,
    rights: &Rights,
    subject: &proto::Subject,
    depth: u32,
) -> Result<Timeline, GatherError> {
    let subject = canonical(subject);
    let kind = crate::domain::codes::IDENTIFIER_KIND.name(subject.kind).expect("a known kind");
    let spec = SubjectSpec {
        kind: kind.into(),
        value: subject.value.clone(),
        issuer: subject.issuer.clone(),
        ..SubjectSpec::default()
    };
    let filter =
        Filter::compile(&FilterSpec { subjects: vec![spec], ..FilterSpec::default() }, false).expect("a good filter");
    let through = node.search_view.progress().applied;
    let asked = Asked { filter: &filter, subject: key(&subject), depth, rights, now_ns: NOW_NS, through };
    node.finder().timeline(&asked).await
}

fn ids(timeline: &Timeline) -> Vec<String> {
    timeline.entries.iter().map(|entry| entry.key.event_id.to_string()).collect()
}

fn named<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<String> {
    events.into_iter().map(|event| event.event_id.clone()).collect()
}

#[tokio::test]
async fn a_history_is_in_the_order_of_what_was_said_not_of_arrival() {
    let node = TestNode::start();
    let voyage = Voyage::new(1, NOW_NS);
    let mut events = voyage.events();
    // The terminal knows only the day on which the container left: it comes after all that happened on that day.
    let mut day = voyage.discharged();
    day.time_precision = TimePrecision::Day.into();
    let day = day.with_id();
    events.reverse();
    events.push(day.clone());
    node.store(&events).await;
    let found = timeline(&node, &reads_all(BROKER), &voyage.container_subject(), 0).await.expect("a timeline");
    // NOW_NS is 05:00 at the place, so its day ends 19 hours later: after the inspection was ordered, before the scan's result.
    let expected = [
        &voyage.attached(),
        &voyage.discharged(),
        &voyage.lodged(),
        &voyage.held(),
        &voyage.inspection_ordered(),
        &day,
        &voyage.inspected(),
        &voyage.lifted(),
        &voyage.released(),
        &voyage.gated_out(),
    ];
    assert_eq!(ids(&found), named(expected));
    assert!(found.associated.is_empty() && found.entries.iter().all(|entry| entry.via.is_none()));
}

#[tokio::test]
async fn what_belongs_to_a_subject_comes_in_with_its_way() {
    let node = TestNode::start();
    let (voyage, other) = (Voyage::new(1, NOW_NS), Voyage::new(2, NOW_NS));
    let document = proto::Document { step: proto::DocumentStep::Issued.into(), ..proto::Document::default() };
    let issued =
        events::event(CARRIER, NOW_NS + 2 * HOUR_NS, vec![voyage.bill_subject()], Body::Document(document)).with_id();
    node.store(&voyage.events()).await;
    node.store(&other.events()[1..]).await;
    node.store(std::slice::from_ref(&issued)).await;
    let everything = reads_all(BROKER);
    let near = timeline(&node, &everything, &voyage.container_subject(), 1).await.expect("a timeline");
    assert_eq!(near.associated.len(), 1);
    assert_eq!((&*near.associated[0].subject.value, near.associated[0].distance), (&*voyage.bill, 1));
    assert_eq!(near.associated[0].event_id.to_string(), voyage.attached().event_id);
    let by_bill: Vec<&Entry> = near.entries.iter().filter(|entry| entry.via == Some(0)).collect();
    assert_eq!(by_bill.iter().map(|entry| entry.key.event_id.to_string()).collect::<Vec<_>>(), named([&issued]));
    let far = timeline(&node, &everything, &voyage.container_subject(), 2).await.expect("a timeline");
    let values: Vec<&str> = far.associated.iter().map(|one| &*one.subject.value).collect();
    assert_eq!(values, [&*voyage.bill, &canonical(&voyage.declaration_subject()).value]);
    let none = timeline(&node, &everything, &voyage.container_subject(), 0).await.expect("a timeline");
    assert!(!ids(&none).contains(&issued.event_id));
}

#[tokio::test]
async fn an_association_that_the_caller_may_not_read_ties_nothing_for_her() {
    let node = TestNode::start();
    let voyage = Voyage::new(1, NOW_NS);
    let mut attached = voyage.attached();
    attached.audience = Some(Audience { reach: Reach::Named.into(), participants: vec![BROKER.into()] });
    node.store(&[attached.with_id(), voyage.discharged(), voyage.lodged()]).await;
    let customs = timeline(&node, &reads_all(CUSTOMS), &voyage.bill_subject(), 3).await.expect("a timeline");
    assert!(customs.associated.is_empty(), "{:?}", customs.associated);
    assert_eq!(ids(&customs), named([&voyage.discharged()]));
    let broker = timeline(&node, &reads_all(BROKER), &voyage.bill_subject(), 3).await.expect("a timeline");
    assert_eq!((broker.associated.len(), broker.entries.len()), (2, 3));
}

#[tokio::test]
async fn each_event_is_judged_by_itself() {
    let node = TestNode::start();
    let voyage = Voyage::new(1, NOW_NS);
    let mut private = voyage.inspected();
    private.audience = Some(Audience { reach: Reach::Private.into(), participants: Vec::new() });
    let private = private.with_id();
    node.store(&[voyage.discharged(), private.clone(), voyage.gated_out()]).await;
    let handling = "[[grant]]\nid = 'g'\nwho = ['spiffe://indus-brokers.pk/*']\nactions = ['read']\nfilters = [{ types = ['handling.discharged'] }]\n";
    let narrow = policy(handling).rights(&spiffe(BROKER));
    let container = voyage.container_subject();
    let found = |timeline: Result<Timeline, GatherError>| ids(&timeline.expect("a timeline"));
    assert_eq!(found(timeline(&node, &narrow, &container, 1).await), named([&voyage.discharged()]));
    assert_eq!(
        found(timeline(&node, &reads_all(TERMINAL), &container, 1).await),
        named([&voyage.discharged(), &voyage.gated_out()])
    );
    assert!(found(timeline(&node, &reads_all(CUSTOMS), &container, 1).await).contains(&private.event_id));
}

#[tokio::test]
async fn corrections_take_the_place_of_what_they_correct() {
    let node = TestNode::start();
    let (voyage, right) = (Voyage::new(1, NOW_NS), Voyage::new(9, NOW_NS));
    let wrong = voyage.discharged();
    let later = wrong.corrected(|event| event.event_time = Some(timestamp(NOW_NS + 40 * HOUR_NS)));
    // The second correction is about another container.
    let moved = later.corrected(|event| event.subjects[0] = right.container_subject());
    let gone = voyage.gated_out();
    node.store(&[wrong.clone(), gone.clone(), later.clone(), moved.clone(), gone.retracted()]).await;
    let everything = reads_all(BROKER);
    let found = timeline(&node, &everything, &voyage.container_subject(), 0).await.expect("a timeline");
    let entry = |event: &Event, by: &Event| (event.event_id.clone(), Some(by.event_id.clone()));
    let told: Vec<_> = found
        .entries
        .iter()
        .map(|entry| (entry.key.event_id.to_string(), entry.revised_by.map(|by| by.to_string())))
        .collect();
    assert_eq!(told, [entry(&wrong, &later), entry(&gone, &gone.retracted()), entry(&later, &moved)]);
    let found = timeline(&node, &everything, &right.container_subject(), 0).await.expect("a timeline");
    assert_eq!(ids(&found), named([&moved]));
    assert_eq!(found.entries[0].revised_by, None);
}

#[tokio::test]
async fn more_subjects_than_an_answer_gathers_are_said_not_cut_off() {
    let node = TestNode::start();
    let voyage = Voyage::new(0, NOW_NS);
    let containers = |from: u32| (from..from + 200).map(|n| Voyage::new(n, NOW_NS).container_subject()).collect();
    let attached = |from: u32| {
        let association = Association {
            step: AssociationStep::Attached.into(),
            parent: Some(voyage.bill_subject()),
            children: containers(from),
            ..Association::default()
        };
        events::event(CARRIER, NOW_NS + i64::from(from), vec![voyage.bill_subject()], Body::Association(association))
            .with_id()
    };
    node.store(&[attached(0)]).await;
    let everything = reads_all(BROKER);
    let found = timeline(&node, &everything, &voyage.bill_subject(), 1).await.expect("a timeline");
    assert_eq!(found.associated.len(), 200);
    node.store(&[attached(200)]).await;
    let found = timeline(&node, &everything, &voyage.bill_subject(), 1).await;
    assert_eq!(found.err(), Some(GatherError::TooManySubjects));
}

#[tokio::test]
async fn an_issuer_tells_equal_numbers_apart_and_none_fits_any() {
    let node = TestNode::start();
    let voyage = Voyage::new(1, NOW_NS);
    let issued = |issuer: &str, hours: i64| {
        let bill = proto::Subject { issuer: issuer.into(), ..voyage.bill_subject() };
        let document = proto::Document { step: proto::DocumentStep::Issued.into(), ..proto::Document::default() };
        events::event(CARRIER, NOW_NS + hours * HOUR_NS, vec![bill], Body::Document(document)).with_id()
    };
    let (maersk, msc) = (issued("MAEU", 2), issued("MSCU", 3));
    node.store(&[maersk.clone(), msc.clone()]).await;
    let everything = reads_all(BROKER);
    let of = |issuer: &str| proto::Subject { issuer: issuer.into(), ..voyage.bill_subject() };
    for (issuer, expected) in [("MAEU", vec![&maersk]), ("MSCU", vec![&msc]), ("", vec![&maersk, &msc])] {
        let found = timeline(&node, &everything, &of(issuer), 1).await.expect("a timeline");
        assert_eq!(ids(&found), named(expected), "{issuer:?}");
    }
    // The bill of one carrier is tied to a container; the other's of the same number is not drawn in with it.
    node.store(&[voyage.attached()]).await;
    let found = timeline(&node, &everything, &voyage.container_subject(), 1).await.expect("a timeline");
    assert_eq!(ids(&found), named([&voyage.attached(), &maersk]));
    // Corrected to the other carrier, it is of that one's history alone, though its stored header names both.
    let moved = maersk.corrected(|event| event.subjects[0].issuer = "MSCU".into());
    node.store(std::slice::from_ref(&moved)).await;
    let found = timeline(&node, &everything, &of("MAEU"), 0).await.expect("a timeline");
    assert!(!ids(&found).contains(&moved.event_id));
    let found = timeline(&node, &everything, &of("MSCU"), 0).await.expect("a timeline");
    assert!(ids(&found).contains(&moved.event_id) && !ids(&found).contains(&maersk.event_id));
}
