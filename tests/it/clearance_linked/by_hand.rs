//! What the statements of a story come to by hand: put in order, what was revised left out, and gone through once. Only of declarations
//! with one number, and without what belongs to what: there the steps and holds that name the declaration are all that counts.

use std::collections::BTreeMap;

use tradelane::{
    testing::events::{HOUR_NS, MINUTE_NS, SECOND_NS},
    wire::proto::{
        ClearanceLifecycle, ClearanceStatus, ClearanceStep, Event, HoldStep, IdentifierKind, Subject, TimePrecision,
        event::Body,
    },
};

use super::story::revised;

/// Checks what is said of a subject.
pub fn check(events: &[Event], subject: &Subject, status: &ClearanceStatus, seed: &str) {
    assert_eq!(status.released, status.obstacles.is_empty(), "{seed}: {status:?}");
    let said = in_force_in_order(events);
    let open = open_holds(&said);
    for hold in &status.open_holds {
        let key = (hold.authority_domain.as_str(), hold.hold_id.as_str());
        let placed_by = hold.placed_by.as_ref().expect("always said");
        let first = open.get(&key).and_then(|placed| placed.first()).map(|event| event.event_id.as_str());
        assert_eq!(Some(placed_by.event_id.as_str()), first, "{seed}: {key:?} holds {}", subject.value);
    }
    if subject.kind() != IdentifierKind::Declaration {
        return;
    }
    let names = |event: &&Event| event.subjects.contains(subject);
    let holding = open.values().filter(|placed| placed.iter().any(names)).count();
    assert!(holding <= status.open_holds.len(), "{seed}: {holding} holds name {}: {status:?}", subject.value);
    let own = status.lifecycles.iter().find(|unit| unit.subject.as_ref().is_some_and(|one| one.value == subject.value));
    let Some(unit) = own.filter(|unit| unit.other_numbers.is_empty()) else { return };
    let steps: Vec<&Event> = said.into_iter().filter(names).filter(|event| is_step(event)).collect();
    check_lifecycle(unit, &steps, seed);
}

fn check_lifecycle(unit: &ClearanceLifecycle, steps: &[&Event], seed: &str) {
    let told = unit.steps.iter().map(|step| &step.statement.as_ref().expect("always said").event_id);
    assert!(told.eq(steps.iter().map(|event| &event.event_id)), "{seed}: {unit:?}, where {steps:?}");
    assert_eq!(unit.state(), state_of(steps, None), "{seed}: {unit:?}");
    for item in &unit.goods_items {
        assert_eq!(item.state(), state_of(steps, Some(item.goods_item)), "{seed}: item {}: {unit:?}", item.goods_item);
    }
}

/// The last step that is no notice, of the whole or of an item.
fn state_of(steps: &[&Event], item: Option<u32>) -> ClearanceStep {
    let mut state = ClearanceStep::Unspecified;
    for event in steps {
        let Some(Body::Clearance(clearance)) = &event.body else { continue };
        let is_notice = matches!(clearance.step(), ClearanceStep::Amended | ClearanceStep::Assessed);
        let items = &clearance.goods_items;
        if !is_notice && (items.is_empty() || item.is_some_and(|item| items.contains(&item))) {
            state = clearance.step();
        }
    }
    state
}

/// The holds that are open, each with what placed it since it was last lifted.
fn open_holds<'a>(said: &[&'a Event]) -> BTreeMap<(&'a str, &'a str), Vec<&'a Event>> {
    let mut open: BTreeMap<(&str, &str), Vec<&Event>> = BTreeMap::new();
    for event in said {
        let Some(Body::Hold(hold)) = &event.body else { continue };
        let domain = event.publisher.trim_start_matches("spiffe://").split('/').next().expect("a domain");
        let key = (domain, hold.hold_id.as_str());
        if hold.step() == HoldStep::Placed {
            open.entry(key).or_default().push(event);
        } else {
            open.remove(&key);
        }
    }
    open
}

fn in_force_in_order(events: &[Event]) -> Vec<&Event> {
    let is_revised = |event: &&Event| events.iter().any(|other| revised(other) == Some(&event.event_id));
    let mut said: Vec<&Event> = events.iter().filter(|event| event.body.is_some() && !is_revised(event)).collect();
    said.sort_by_key(|event| place(event));
    said
}

/// By the end of the time that is known, a finer time before a coarser, then by when it was said, then by its number.
fn place(event: &Event) -> (i64, i32, i64, String) {
    let ns = |time: Option<prost_types::Timestamp>| {
        let time = time.expect("every statement has it");
        time.seconds * SECOND_NS + i64::from(time.nanos)
    };
    let span_ns = match event.time_precision() {
        TimePrecision::Day => 24 * HOUR_NS,
        TimePrecision::Hour => HOUR_NS,
        TimePrecision::Minute => MINUTE_NS,
        TimePrecision::Instant | TimePrecision::Unspecified => 1,
    };
    let offset_ns = i64::from(event.utc_offset_minutes.unwrap_or(0)) * MINUTE_NS;
    let spans = (ns(event.event_time) + offset_ns).div_euclid(span_ns) + 1;
    (spans * span_ns - offset_ns, span_ns_rank(span_ns), ns(event.created_time), event.event_id.clone())
}

fn span_ns_rank(span_ns: i64) -> i32 {
    match span_ns {
        1 => 0,
        MINUTE_NS => 1,
        HOUR_NS => 2,
        _ => 3,
    }
}

fn is_step(event: &Event) -> bool {
    matches!(event.body, Some(Body::Clearance(_)))
}
