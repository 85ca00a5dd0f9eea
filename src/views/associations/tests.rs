//! Who is bound to what, and what belongs together, as associations come in any order.

use super::{statement::Says, *};
use crate::{
    domain::EventId,
    testing::events::{self, CARRIER, HOUR_NS, Voyage},
    views::{
        decoded::{canonical, key},
        fold_order::FoldKey,
        test_node::{NOW_NS, TestNode},
    },
    wire::proto::{self, Association, AssociationStep, Event, IdentifierKind, Party, SubjectRole, event::Body},
};

const BROKER: &str = events::BROKER;
const OTHER_BROKER: &str = "spiffe://other-brokers.pk/broker/lhe";

fn container(n: u32) -> proto::Subject {
    events::subject(IdentifierKind::Container, &events::container_number(n), "", SubjectRole::Primary)
}

fn bill() -> proto::Subject {
    events::subject(IdentifierKind::BillOfLading, "584000001", "MAEU", SubjectRole::Primary)
}

/// A statement of one publisher about the bill, made some hours after the start.
fn says(
    publisher: &str,
    step: AssociationStep,
    hours: i64,
    children: &[u32],
    parties: &[&str],
    complete: bool,
) -> Event {
    let party = |name: &&str| Party { participant: (*name).to_owned(), ..Party::default() };
    let association = Association {
        step: step.into(),
        parent: Some(bill()),
        children: children.iter().map(|n| container(*n)).collect(),
        parties: parties.iter().map(party).collect(),
        complete,
    };
    events::event(publisher, NOW_NS + hours * HOUR_NS, vec![bill()], Body::Association(association)).with_id()
}

fn attach(hours: i64, children: &[u32], parties: &[&str]) -> Event {
    says(CARRIER, AssociationStep::Attached, hours, children, parties, false)
}

fn detach(hours: i64, children: &[u32], parties: &[&str]) -> Event {
    says(CARRIER, AssociationStep::Detached, hours, children, parties, false)
}

fn bound(node: &TestNode, participant: &str, subject: &proto::Subject) -> bool {
    node.associations.is_bound(participant, &key(&canonical(subject)))
}

fn tied(node: &TestNode) -> Vec<String> {
    let parent = Subject::of(&key(&canonical(&bill())));
    let mut tied: Vec<String> =
        node.associations.ties(&parent).iter().map(|tie| tie.other.fields().value.to_owned()).collect();
    tied.sort();
    tied
}

fn numbers(of: &[u32]) -> Vec<String> {
    of.iter().map(|n| events::container_number(*n)).collect()
}

#[tokio::test]
async fn a_party_is_bound_to_the_parent_and_to_the_children_named_with_her_and_to_nothing_else() {
    let node = TestNode::start();
    node.store(&[attach(0, &[1, 2], &[BROKER]), attach(1, &[3], &[])]).await;
    assert!(
        bound(&node, BROKER, &bill()) && bound(&node, BROKER, &container(1)) && bound(&node, BROKER, &container(2))
    );
    // Attaching needs no right to share, so it must not share.
    assert!(!bound(&node, BROKER, &container(3)));
    assert!(!bound(&node, OTHER_BROKER, &container(1)));
    let other_issuer = proto::Subject { issuer: "MSCU".into(), ..bill() };
    let other_date = proto::Subject { date: "2026-01-01".into(), ..bill() };
    assert!(!bound(&node, BROKER, &other_issuer) && !bound(&node, BROKER, &other_date));
    assert_eq!(tied(&node), numbers(&[1, 2, 3]));
}

#[tokio::test]
async fn what_is_detached_is_untied_whatever_the_order_of_arrival() {
    let (first, then, last) = (attach(0, &[1, 2], &[BROKER]), detach(1, &[1], &[]), detach(2, &[], &[BROKER]));
    for order in [[&first, &then, &last], [&last, &then, &first], [&then, &last, &first]] {
        let node = TestNode::start();
        for event in order {
            node.store(std::slice::from_ref(event)).await;
        }
        assert_eq!(tied(&node), numbers(&[2]));
        assert!(!bound(&node, BROKER, &container(1)) && !bound(&node, BROKER, &container(2)));
        assert!(!bound(&node, BROKER, &bill()));
    }
}

#[tokio::test]
async fn a_detachment_that_names_nobody_ends_everything_and_only_of_its_own_administration() {
    let node = TestNode::start();
    let other = says(events::TERMINAL, AssociationStep::Attached, 0, &[2], &[OTHER_BROKER], false);
    node.store(&[attach(0, &[1], &[BROKER]), other, detach(1, &[], &[])]).await;
    assert_eq!(tied(&node), numbers(&[2]));
    assert!(!bound(&node, BROKER, &bill()));
    assert!(bound(&node, OTHER_BROKER, &bill()));
}

#[tokio::test]
async fn a_complete_list_unties_the_others_of_its_kinds() {
    let node = TestNode::start();
    let voyage = Voyage::new(1, NOW_NS);
    let declared = Association {
        step: AssociationStep::Attached.into(),
        parent: Some(bill()),
        children: vec![voyage.declaration_subject()],
        ..Association::default()
    };
    let declared = events::event(CARRIER, NOW_NS, vec![bill()], Body::Association(declared)).with_id();
    let complete = says(CARRIER, AssociationStep::Attached, 2, &[2, 3], &[], true);
    node.store(&[declared, attach(1, &[1, 2], &[BROKER]), complete]).await;
    let mut expected = numbers(&[2, 3]);
    expected.push(canonical(&voyage.declaration_subject()).value);
    expected.sort();
    assert_eq!(tied(&node), expected);
    assert!(!bound(&node, BROKER, &container(1)) && bound(&node, BROKER, &container(2)));
}

#[tokio::test]
async fn corrections_replace_and_retractions_drop() {
    let node = TestNode::start();
    let first = attach(0, &[1], &[BROKER]);
    let corrected = first.corrected(|event| event.body = attach(0, &[2], &[OTHER_BROKER]).body);
    node.store(&[first, corrected.clone()]).await;
    assert_eq!(tied(&node), numbers(&[2]));
    assert!(!bound(&node, BROKER, &container(1)) && bound(&node, OTHER_BROKER, &container(2)));
    node.store(&[corrected.retracted()]).await;
    assert_eq!(tied(&node), numbers(&[]));
    assert!(!bound(&node, OTHER_BROKER, &bill()));
    assert!(node.associations.matching(&key(&canonical(&bill()))).is_empty(), "nothing is left behind");
}

#[tokio::test]
async fn a_new_binding_is_announced_once_with_its_place() {
    let node = TestNode::start();
    let places = node.store(&[attach(0, &[1], &[BROKER]), attach(1, &[1], &[BROKER])]).await;
    let announced = node.associations.newly_bound(BROKER, Sequence::ZERO);
    assert_eq!(announced.len(), 1, "the second statement binds her to nothing new: {announced:?}");
    assert_eq!(announced[0].subject.value, "584000001");
    let later = node.store(&[attach(2, &[2], &[BROKER])]).await;
    let announced = node.associations.newly_bound(BROKER, places[1]);
    assert_eq!(announced.iter().map(|one| one.sequence).collect::<Vec<_>>(), later);
    assert!(node.associations.newly_bound(OTHER_BROKER, Sequence::ZERO).is_empty());
}

#[tokio::test]
async fn of_very_many_announcements_the_first_are_forgotten_and_up_to_where_is_known() {
    let node = TestNode::start();
    let of_its_own_bill = |number: usize| {
        let mut event = attach(number as i64, &[1], &[BROKER]);
        let number = format!("5840{number:05}");
        let bill = events::subject(IdentifierKind::BillOfLading, &number, "MAEU", SubjectRole::Primary);
        event.subjects = vec![bill.clone()];
        if let Some(Body::Association(association)) = &mut event.body {
            association.parent = Some(bill);
        }
        event.with_id()
    };
    let statements: Vec<_> = (0..graph::ANNOUNCED_MAX + 2).map(of_its_own_bill).collect();
    let places = node.store(&statements).await;
    let announced = node.associations.newly_bound(BROKER, Sequence::ZERO);
    assert_eq!((announced.len(), announced[0].sequence), (graph::ANNOUNCED_MAX, places[2]));
    assert_eq!(node.associations.forgotten_through(BROKER), places[1]);
    assert_eq!(node.associations.forgotten_through(OTHER_BROKER), Sequence::ZERO);
}

#[tokio::test]
async fn a_restart_and_a_rebuild_come_to_the_same() {
    let node = TestNode::start();
    let first = attach(0, &[1, 2], &[BROKER]);
    let events = [first.clone(), detach(1, &[1], &[]), attach(2, &[3], &[OTHER_BROKER]), first.retracted()];
    node.store(&events).await;
    let check = |node: &TestNode| {
        assert_eq!(tied(node), numbers(&[3]));
        assert!(!bound(node, BROKER, &container(2)) && bound(node, OTHER_BROKER, &container(3)));
    };
    check(&node);
    let mut rebuild = node.associations_view.rebuild().expect("none is under way");
    let end = rebuild.wait_for(|now| now.done || now.failure.is_some()).await.expect("the view runs").clone();
    assert_eq!(end.failure, None);
    check(&node);
    let restarted = TestNode::start_over(Arc::clone(&node.log));
    restarted.caught_up().await;
    check(&restarted);
    // With an index that knows them already, they are read back by way of it.
    let state = Arc::new(Associations::default());
    let view = AssociationsView::new(Arc::clone(&state), Arc::clone(&node.log) as _, Arc::clone(&node.index) as _);
    assert_eq!(view.load().await, Ok(Sequence(4)));
    assert!(state.is_bound(OTHER_BROKER, &key(&canonical(&container(3)))));
    assert_eq!(*state.progress().borrow(), Sequence(4));
}

/// A subject that none of the story's is.
fn numbered(kind: IdentifierKind, number: u8) -> Subject {
    Subject::of(&SubjectKey { kind: kind as u8, value: &format!("N{number}"), issuer: "", date: "" })
}

/// What a test draws of a statement: hour, attached, complete, children, participants, and which earlier one it revises.
type Drawn = (u8, bool, bool, Vec<u8>, Vec<u8>, Option<u8>);

fn statement((number, drawn): (usize, &Drawn)) -> Statement {
    let (hour, attached, complete, children, participants, revises) = drawn;
    let id = |number: usize| EventId::from_bytes([number as u8 + 1; 16]);
    let says = Says {
        domain: "carrier.example".into(),
        parent: numbered(IdentifierKind::BillOfLading, 0),
        attached: *attached,
        complete: *complete,
        children: children.iter().map(|child| numbered(IdentifierKind::Container, child % 4)).collect(),
        participants: participants.iter().map(|one| format!("spiffe://p.example/{}", one % 3).into()).collect(),
    };
    Statement {
        key: FoldKey {
            span_end_ns: i64::from(*hour % 8),
            coarseness: 0,
            created_ns: 0,
            event_id: id(number),
            publisher: CARRIER.into(),
        },
        sequence: Sequence(number as u64 + 1),
        revises: revises.filter(|_| number > 0).map(|one| id(usize::from(one) % number)),
        says: Some(says),
    }
}

/// Everything that can be asked of a graph of these statements.
fn known(graph: &Graph) -> impl PartialEq + std::fmt::Debug + use<> {
    let bill = numbered(IdentifierKind::BillOfLading, 0);
    let containers = (0..4).map(|number| numbered(IdentifierKind::Container, number));
    let subjects: Vec<Subject> = containers.chain([bill.clone()]).collect();
    let participants = (0..3).map(|number| format!("spiffe://p.example/{number}"));
    let bound: Vec<_> = participants
        .map(|name| {
            let is_bound = subjects.iter().filter(|subject| graph.is_bound(&name, &subject.fields()));
            let is_bound: BTreeSet<Subject> = is_bound.cloned().collect();
            assert_eq!(graph.bound_subjects(&name, usize::MAX), Some(is_bound.clone()), "asked both ways");
            is_bound
        })
        .collect();
    let of_each: Vec<_> = subjects.iter().map(|one| (graph.ties(one), graph.matching(&one.fields()))).collect();
    let mut complete = graph.complete_children(&bill);
    complete.sort_by_key(|all| all.kind);
    (bound, of_each, complete)
}

proptest::proptest! {
    #[test]
    fn one_by_one_in_any_order_comes_to_what_all_at_once_in_their_order_does(
        drawn in proptest::collection::vec(
            (0_u8..8, proptest::bool::weighted(0.8), proptest::bool::weighted(0.2), proptest::collection::vec(0_u8..4, 0..4),
             proptest::collection::vec(0_u8..3, 0..3), proptest::option::weighted(0.15, 0_u8..20)),
            0..20,
        ),
        order in proptest::collection::vec(0_usize..1000, 20),
    ) {
        let mut statements: Vec<Statement> = drawn.iter().enumerate().map(statement).collect();
        let mut one_by_one = Graph::default();
        let mut shuffled: Vec<_> = statements.iter().cloned().zip(&order).collect();
        shuffled.sort_by_key(|(_, order)| **order);
        for (statement, _) in shuffled {
            one_by_one.apply(vec![statement]);
        }
        statements.sort_by(|one, other| one.key.cmp(&other.key));
        let mut at_once = Graph::default();
        at_once.apply(statements);
        proptest::prop_assert_eq!(known(&one_by_one), known(&at_once));
    }
}
