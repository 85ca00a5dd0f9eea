//! Clearances of whole stories: what they come to in whatever order they arrive, who is shown what of them, and what belongs to them.

use std::fmt::Write as _;

use super::*;
use crate::{
    domain::codes::CLEARANCE_STEP,
    testing::events::{self, CUSTOMS, MINUTE_NS, TERMINAL, Voyage},
    views::{
        decoded::{canonical, key},
        test_node::{NOW_NS, TestNode, reads_all, spiffe},
    },
    wire::proto::{
        self, Association, AssociationStep, ClearanceStep, Event, Hold, HoldKind, HoldStep, IdentifierKind,
        SubjectRole, event::Body,
    },
};

mod access;
mod belonging;
mod concerned;
mod order;
mod real_input;

/// Another administration.
const PLANTS: &str = "spiffe://plants.gov.pk/office/karachi";
/// The neighbour's customs.
const KABUL: &str = "spiffe://customs.gov.af/agency/kabul";

fn subject(kind: IdentifierKind, value: &str, issuer: &str) -> proto::Subject {
    events::subject(kind, value, issuer, SubjectRole::Primary)
}

fn declaration(value: &str) -> proto::Subject {
    subject(IdentifierKind::Declaration, value, "PK")
}

fn bill(value: &str) -> proto::Subject {
    subject(IdentifierKind::BillOfLading, value, "MAEU")
}

fn container(n: u32) -> proto::Subject {
    subject(IdentifierKind::Container, &events::container_number(n), "")
}

fn at(minutes: i64) -> i64 {
    NOW_NS + minutes * MINUTE_NS
}

fn step(who: &str, minutes: i64, step: ClearanceStep, about: &[proto::Subject]) -> Event {
    items(who, minutes, step, about, &[])
}

fn items(who: &str, minutes: i64, step: ClearanceStep, about: &[proto::Subject], goods_items: &[u32]) -> Event {
    let clearance =
        proto::Clearance { step: step.into(), goods_items: goods_items.to_vec(), ..proto::Clearance::default() };
    let event = events::event(who, at(minutes), about.to_vec(), Body::Clearance(clearance));
    Event { places: vec![events::office()], ..event }.with_id()
}

fn hold(who: &str, minutes: i64, step: HoldStep, hold_id: &str, about: &[proto::Subject]) -> Event {
    let kind = HoldKind::Other.into();
    let hold = Hold { step: step.into(), hold_id: hold_id.into(), kind, ..Hold::default() };
    let event = events::event(who, at(minutes), about.to_vec(), Body::Hold(hold));
    Event { places: vec![events::office()], ..event }.with_id()
}

fn attached(minutes: i64, parent: &proto::Subject, children: &[proto::Subject], complete: bool) -> Event {
    tied(minutes, AssociationStep::Attached, parent, children, complete)
}

fn tied(
    minutes: i64,
    step: AssociationStep,
    parent: &proto::Subject,
    children: &[proto::Subject],
    complete: bool,
) -> Event {
    let association = Association {
        step: step.into(),
        parent: Some(parent.clone()),
        children: children.to_vec(),
        parties: Vec::new(),
        complete,
    };
    events::event(events::CARRIER, at(minutes), vec![parent.clone()], Body::Association(association)).with_id()
}

async fn found(node: &TestNode, rights: &Rights, subject: &proto::Subject) -> Found {
    let subject = canonical(subject);
    let through = node.search_view.progress().applied;
    let asked = Asked { subject: key(&subject), rights, now_ns: NOW_NS, through };
    node.finder().clearance(&asked).await.expect("an answer")
}

async fn shown(node: &TestNode, rights: &Rights, subject: &proto::Subject) -> String {
    found(node, rights, subject).await.clearance.map_or_else(|| "nothing".to_owned(), |clearance| told(&clearance))
}

async fn all(node: &TestNode, subject: &proto::Subject) -> String {
    shown(node, &reads_all(CUSTOMS), subject).await
}

/// A clearance in one line: each lifecycle with its items and oddities, each hold with its domain, coverage, what stands against it.
fn told(clearance: &Clearance) -> String {
    let mut told = String::new();
    let name = |state: Option<crate::domain::clearance::State>| {
        state.and_then(|state| CLEARANCE_STEP.name(state.code())).unwrap_or("none")
    };
    for unit in &clearance.lifecycles {
        write!(told, "{}={}", unit.subject.fields().value, name(unit.folded.whole.state)).expect("room");
        for (item, standing) in &unit.folded.items {
            write!(told, " {item}:{}", name(standing.state)).expect("room");
        }
        for anomaly in &unit.folded.anomalies {
            write!(told, " {:?}({}>{})", anomaly.kind, name(Some(anomaly.from)), name(Some(anomaly.to))).expect("room");
        }
        if unit.folded.history_incomplete() {
            told.push_str(" incomplete");
        }
        told.push_str("; ");
    }
    for held in &clearance.open_holds {
        write!(told, "held {}/{}; ", held.key.domain, held.key.hold_id).expect("room");
    }
    if clearance.withheld_holds > 0 {
        write!(told, "withheld {}; ", clearance.withheld_holds).expect("room");
    }
    write!(told, "{:?}", clearance.coverage).expect("room");
    match (clearance.obstacles.as_slice(), clearance.withheld) {
        ([], false) => told.push_str(" -> may leave"),
        ([], true) => told.push_str(" -> withheld"),
        (obstacles, _) => write!(told, " -> {obstacles:?}").expect("room"),
    }
    told
}

#[tokio::test]
async fn a_container_leaves_when_its_declaration_is_released_and_its_hold_lifted() {
    let node = TestNode::start();
    let voyage = Voyage::new(1, NOW_NS);
    let d = &voyage.declaration;
    let hold = format!("held customs.gov.pk/H-{d}; ");
    for (event, expected) in [
        (voyage.attached(), "Complete -> [NotReleased]".to_owned()),
        (voyage.discharged(), "Complete -> [NotReleased]".to_owned()),
        (voyage.lodged(), format!("{d}=lodged; Complete -> [NotReleased]")),
        (voyage.held(), format!("{d}=lodged; {hold}Complete -> [NotReleased, HoldOpen]")),
        (voyage.released(), format!("{d}=released; {hold}Complete -> [HoldOpen]")),
        (voyage.lifted(), format!("{d}=released; Complete -> may leave")),
    ] {
        node.store(&[event]).await;
        for asked in [voyage.container_subject(), voyage.bill_subject()] {
            let asked = proto::Subject { issuer: String::new(), ..asked };
            assert_eq!(all(&node, &asked).await, expected);
        }
    }
    assert_eq!(all(&node, &voyage.declaration_subject()).await, format!("{d}=released; Complete -> may leave"));
    assert_eq!(all(&node, &container(2)).await, "nothing");
}

#[tokio::test]
async fn each_of_two_authorities_lifts_its_own_hold() {
    let node = TestNode::start();
    let d = declaration("D-1");
    let about = [d.clone(), container(1)];
    let released = step(CUSTOMS, 5, ClearanceStep::Released, &about);
    let place = |who, minutes| hold(who, minutes, HoldStep::Placed, "H-1", &about);
    let lift = |who, minutes| hold(who, minutes, HoldStep::Lifted, "H-1", &about[..1]);
    node.store(&[step(CUSTOMS, 0, ClearanceStep::Accepted, &about), place(CUSTOMS, 1), place(PLANTS, 2), released])
        .await;
    let both = "D-1=released; held customs.gov.pk/H-1; held plants.gov.pk/H-1; ";
    assert_eq!(all(&node, &d).await, format!("{both}Complete -> [HoldOpen]"));
    node.store(&[lift(TERMINAL, 6)]).await;
    assert_eq!(all(&node, &d).await, format!("{both}Complete -> [HoldOpen]"), "another domain lifts nothing");
    node.store(&[lift(CUSTOMS, 7)]).await;
    // The lift named only the declaration; the container is held no more either.
    let one = "D-1=released; held plants.gov.pk/H-1; ";
    assert_eq!(all(&node, &d).await, format!("{one}Complete -> [HoldOpen]"));
    assert_eq!(all(&node, &container(1)).await, format!("{one}Partial -> [HoldOpen, CoverageIncomplete]"));
    node.store(&[lift(PLANTS, 8)]).await;
    assert_eq!(all(&node, &d).await, "D-1=released; Complete -> may leave");
}

#[tokio::test]
async fn a_hold_is_lifted_whatever_of_its_goods_the_lift_names() {
    let node = TestNode::start();
    let place = |minutes, about: &[proto::Subject]| hold(CUSTOMS, minutes, HoldStep::Placed, "H-1", about);
    node.store(&[place(1, &[container(1), container(2)]), place(2, &[container(2), container(3)])]).await;
    let held = "held customs.gov.pk/H-1; Unknown -> [NoClearance, HoldOpen, CoverageIncomplete]";
    for n in 1..=3 {
        assert_eq!(all(&node, &container(n)).await, held);
    }
    let places = node.store(&[hold(CUSTOMS, 3, HoldStep::Lifted, "H-1", &[container(1)])]).await;
    for n in 1..=3 {
        assert_eq!(all(&node, &container(n)).await, "Unknown -> [NoClearance, CoverageIncomplete]", "container {n}");
    }
    let looked_at = found(&node, &reads_all(CUSTOMS), &container(3)).await.looked_at;
    let lift = crate::log::EventLog::get(&*node.log, places).await.expect("readable").remove(0);
    assert!(looked_at.is_touched_by(&Concerned::by(&lift).expect("readable")), "a watch of one is told of the other");
}

#[tokio::test]
async fn a_hold_is_known_by_its_authority_and_number_alone_whenever_its_lift_comes() {
    let place = hold(CUSTOMS, 1, HoldStep::Placed, "H-1", &[container(1)]);
    // It names a seal, by which nothing is cleared, or other goods.
    let seal = subject(IdentifierKind::Seal, "S-1", "");
    for named in [seal, container(9)] {
        let lift = hold(CUSTOMS, 2, HoldStep::Lifted, "H-1", std::slice::from_ref(&named));
        let others = hold(PLANTS, 2, HoldStep::Lifted, "H-1", std::slice::from_ref(&named));
        for order in [[&place, &others, &lift], [&lift, &others, &place]] {
            let node = TestNode::start();
            node.store(&[order[0].clone(), order[1].clone()]).await;
            let held = "held customs.gov.pk/H-1; Unknown -> [NoClearance, HoldOpen, CoverageIncomplete]";
            let free = "Unknown -> [NoClearance, CoverageIncomplete]";
            let at_first = if order[0] == &place { held } else { "nothing" };
            assert_eq!(all(&node, &container(1)).await, at_first, "another authority's lift ends nothing");
            node.store(&[order[2].clone()]).await;
            assert_eq!(all(&node, &container(1)).await, free);
            // What takes the lift back holds the goods again.
            node.store(&[lift.retracted()]).await;
            assert_eq!(all(&node, &container(1)).await, held);
        }
    }
}

#[tokio::test]
async fn items_transits_and_impossible_moves_are_told() {
    let node = TestNode::start();
    let partly = [declaration("D-1")];
    node.store(&[
        step(CUSTOMS, 0, ClearanceStep::Accepted, &partly),
        items(CUSTOMS, 1, ClearanceStep::Released, &partly, &[1, 3]),
    ])
    .await;
    assert_eq!(all(&node, &partly[0]).await, "D-1=accepted 1:released 3:released; Complete -> [NotReleased]");
    node.store(&[step(CUSTOMS, 2, ClearanceStep::Released, &partly)]).await;
    assert_eq!(all(&node, &partly[0]).await, "D-1=released 1:released 3:released; Complete -> may leave");

    let transit = [subject(IdentifierKind::Mrn, "20GB1OJPU2P01FGVR4", "")];
    node.store(&[
        step(CUSTOMS, 0, ClearanceStep::Accepted, &transit),
        step(CUSTOMS, 1, ClearanceStep::InTransit, &transit),
        step(KABUL, 9, ClearanceStep::TransitDischarged, &transit),
    ])
    .await;
    let discharged = "20GB1OJPU2P01FGVR4=transit_discharged; Complete -> may leave";
    assert_eq!(all(&node, &transit[0]).await, discharged);
    let found = found(&node, &reads_all(CUSTOMS), &transit[0]).await.clearance.expect("an answer");
    let authorities: Vec<_> = found.lifecycles[0].steps.iter().map(|step| step.decoded.publisher.to_string()).collect();
    assert_eq!(authorities, [CUSTOMS, CUSTOMS, KABUL]);

    let odd = [declaration("D-2")];
    node.store(&[
        step(CUSTOMS, 0, ClearanceStep::Released, &odd),
        step(CUSTOMS, 1, ClearanceStep::Refused, &odd),
        step(KABUL, 2, ClearanceStep::Released, &odd),
    ])
    .await;
    let expected = "D-2=released ImpossibleMove(released>refused) Contradiction(refused>released) incomplete; Complete -> may leave";
    assert_eq!(all(&node, &odd[0]).await, expected);
}
