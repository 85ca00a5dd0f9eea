//! Statements about a call, side by side.

use super::*;
use crate::{
    domain::{
        Filter, Sequence,
        filter::{FilterSpec, SubjectSpec},
    },
    testing::events::{self, HOUR_NS, MINUTE_NS, TERMINAL, timestamp},
    views::{
        decoded::key,
        test_node::{NOW_NS, TestNode, reads_all},
    },
    wire::proto::{Event, IdentifierKind, Movement, Party, PartyRole, Place, SubjectRole},
};

const AGENT: &str = "spiffe://agents.pk/agent/khi";

fn vessel() -> proto::Subject {
    events::subject(IdentifierKind::VesselImo, "9321483", "", SubjectRole::Primary)
}

/// The n-th statement: a time in hours, by a publisher.
fn says(n: i64, publisher: &str, classifier: Classifier, hours: i64, change: impl FnOnce(&mut Event)) -> Event {
    let movement = Movement { step: MovementStep::Arrived.into(), ..Movement::default() };
    let mut event = events::event(publisher, NOW_NS + hours * HOUR_NS, vec![vessel()], Body::Movement(movement));
    event.classifier = classifier.into();
    event.created_time = Some(timestamp(NOW_NS + n * MINUTE_NS));
    event.places =
        vec![Place { kind: PlaceKind::Berth.into(), un_locode: "PKKHI".into(), ..events::place(PlaceRole::Event) }];
    change(&mut event);
    event.with_id()
}

fn window(subject: &crate::domain::header::SubjectTerm) -> Window<'_> {
    Window { un_locode: "PKKHI", start_ns: NOW_NS, end_ns: NOW_NS + 100 * HOUR_NS, subject: key(subject) }
}

async fn rows_of(events: &[Event]) -> Vec<Row> {
    let node = TestNode::start();
    node.store(events).await;
    let subject = canonical(&vessel());
    let spec = SubjectSpec { kind: "vessel_imo".into(), value: subject.value.clone(), ..SubjectSpec::default() };
    let filter =
        Filter::compile(&FilterSpec { subjects: vec![spec], ..FilterSpec::default() }, false).expect("a good filter");
    let through = Sequence(events.len() as u64);
    let gathered = node.finder().gather_events(&reads_all(TERMINAL), NOW_NS, through, &[filter]).await;
    rows(&gathered.expect("events"), &window(&subject))
}

fn hours(row: &Row) -> Vec<(Standing, i64, u32)> {
    let hour = |stated: &Stated| (stated.event_time_ns - NOW_NS) / HOUR_NS;
    row.times.iter().map(|(standing, stated)| (*standing, hour(stated), stated.superseded_count)).collect()
}

#[tokio::test]
async fn the_latest_word_of_each_kind_stands_whatever_the_order_of_arrival() {
    use Standing::{Actual, Estimated, Planned, Requested};
    let events = [
        says(3, TERMINAL, Classifier::Estimated, 12, |_| ()),
        says(1, TERMINAL, Classifier::Planned, 10, |_| ()),
        says(2, TERMINAL, Classifier::Estimated, 11, |_| ()),
        says(4, TERMINAL, Classifier::Actual, 13, |_| ()),
        says(0, TERMINAL, Classifier::Estimated, 9, |_| ()),
        says(5, TERMINAL, Classifier::Requested, 8, |_| ()),
    ];
    let rows = rows_of(&events).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(hours(&rows[0]), [(Actual, 13, 0), (Estimated, 12, 2), (Planned, 10, 0), (Requested, 8, 0)]);
    assert_eq!(rows[0].times[&Estimated].event_id.to_string(), events[0].event_id);
}

#[tokio::test]
async fn reporters_steps_services_and_kinds_of_place_stand_side_by_side_in_order_of_the_best_known_time() {
    let pilot = |event: &mut Event| {
        let service = PortService::Pilotage.into();
        event.body =
            Some(Body::Movement(Movement { step: MovementStep::Started.into(), service, ..Movement::default() }));
        event.places[0].kind = PlaceKind::PilotBoardingPlace.into();
    };
    let for_pilot_station = |event: &mut Event| {
        event.parties = vec![Party {
            role: PartyRole::Reporter.into(),
            scheme: "GLN".into(),
            id: "4000001".into(),
            ..Party::default()
        }];
    };
    let events = [
        says(0, TERMINAL, Classifier::Estimated, 12, |_| ()),
        says(1, AGENT, Classifier::Estimated, 11, |_| ()),
        says(2, TERMINAL, Classifier::Planned, 5, pilot),
        says(3, TERMINAL, Classifier::Actual, 1, |event| event.places[0].kind = PlaceKind::Anchorage.into()),
        says(4, AGENT, Classifier::Estimated, 30, for_pilot_station),
    ];
    let rows = rows_of(&events).await;
    let told: Vec<(&str, PlaceKind)> = rows
        .iter()
        .map(|row| (&*row.key.reporter, PlaceKind::try_from(row.key.place_kind).expect("a known kind")))
        .collect();
    let expected = [
        (TERMINAL, PlaceKind::Anchorage),
        (TERMINAL, PlaceKind::PilotBoardingPlace),
        (AGENT, PlaceKind::Berth),
        (TERMINAL, PlaceKind::Berth),
        ("GLN:4000001", PlaceKind::Berth),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_was_corrected_or_retracted_or_is_about_something_else_is_not_said() {
    let first = says(0, TERMINAL, Classifier::Estimated, 12, |_| ());
    let corrected = first.corrected(|event| event.event_time = Some(timestamp(NOW_NS + 14 * HOUR_NS)));
    let gone = says(50, TERMINAL, Classifier::Estimated, 20, |_| ());
    let elsewhere = says(60, TERMINAL, Classifier::Estimated, 21, |event| event.places[0].un_locode = "AEJEA".into());
    let outside = says(70, TERMINAL, Classifier::Estimated, 100, |_| ());
    let other_vessel = says(80, TERMINAL, Classifier::Estimated, 22, |_| ())
        .corrected(|event| event.subjects[0].value = "9074729".into());
    let its_original = says(80, TERMINAL, Classifier::Estimated, 22, |_| ());
    let events = [first, gone.clone(), corrected, gone.retracted(), elsewhere, outside, its_original, other_vessel];
    let rows = rows_of(&events).await;
    assert_eq!(rows.iter().map(hours).collect::<Vec<_>>(), [[(Standing::Estimated, 14, 0)]]);
}
