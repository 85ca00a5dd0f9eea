//! What belongs to what: several declarations under a bill, the declarant's number and customs', house bills, coverage, holds on a part.

use super::*;

#[tokio::test]
async fn of_several_declarations_each_covers_the_containers_that_it_names() {
    let node = TestNode::start();
    let (b, first, second) = (bill("B-1"), declaration("D-1"), declaration("D-2"));
    let about_second = [second.clone(), container(2)];
    node.store(&[
        attached(0, &b, &[container(1), container(2), container(3), first.clone(), second.clone()], true),
        step(CUSTOMS, 1, ClearanceStep::Lodged, &[first.clone(), container(1)]),
        step(CUSTOMS, 2, ClearanceStep::Lodged, &about_second),
        step(CUSTOMS, 3, ClearanceStep::Released, &[first]),
        hold(CUSTOMS, 4, HoldStep::Placed, "H-1", &about_second),
    ])
    .await;
    assert_eq!(all(&node, &container(1)).await, "D-1=released; Complete -> may leave");
    let held = "D-2=lodged; held customs.gov.pk/H-1; Complete -> [NotReleased, HoldOpen]";
    assert_eq!(all(&node, &container(2)).await, held);
    let both = format!("D-1=released; {held}");
    assert_eq!(all(&node, &b).await, both);
    assert_eq!(all(&node, &container(3)).await, both, "no declaration names it, so either may be its own");
    assert_eq!(all(&node, &second).await, held);
}

#[tokio::test]
async fn the_numbers_of_declarant_and_customs_are_one_declaration() {
    let node = TestNode::start();
    let lrn = subject(IdentifierKind::Lrn, "TT-IM-1", "GB");
    let mrn = subject(IdentifierKind::Mrn, "20GB1OJPU2P01FGVR4", "");
    node.store(&[step(CUSTOMS, 0, ClearanceStep::Lodged, std::slice::from_ref(&lrn))]).await;
    assert_eq!(all(&node, &lrn).await, "TT-IM-1=lodged; Complete -> [NotReleased]");
    node.store(&[
        step(CUSTOMS, 1, ClearanceStep::Accepted, std::slice::from_ref(&mrn)),
        attached(1, &lrn, std::slice::from_ref(&mrn), false),
    ])
    .await;
    let accepted = "20GB1OJPU2P01FGVR4=accepted; Complete -> [NotReleased]";
    assert_eq!((all(&node, &lrn).await, all(&node, &mrn).await), (accepted.to_owned(), accepted.to_owned()));
    let found = found(&node, &reads_all(CUSTOMS), &mrn).await;
    let unit = &found.clearance.expect("an answer").lifecycles[0];
    assert_eq!((unit.steps.len(), unit.other_numbers[0].fields().value), (2, "TT-IM-1"));
    assert_eq!(found.own.len(), 2);
    // A hold by either number is on it.
    node.store(&[hold(CUSTOMS, 2, HoldStep::Placed, "H-1", std::slice::from_ref(&lrn))]).await;
    assert!(all(&node, &mrn).await.contains("held customs.gov.pk/H-1"));
    // Other numbers of declarations in one step are other declarations.
    let two = [declaration("D-1"), declaration("D-2")];
    node.store(&[step(CUSTOMS, 3, ClearanceStep::Accepted, &two)]).await;
    assert_eq!(all(&node, &two[0]).await, "D-1=accepted; Complete -> [NotReleased]");
}

#[tokio::test]
async fn coverage_is_complete_only_where_somebody_says_so() {
    let node = TestNode::start();
    let (b, d) = (bill("B-1"), declaration("D-1"));
    let released =
        |n: i64, about: &proto::Subject| step(CUSTOMS, n, ClearanceStep::Released, std::slice::from_ref(about));
    node.store(&[attached(0, &b, &[container(1)], true)]).await;
    assert_eq!(
        all(&node, &b).await,
        "Unknown -> [NoClearance, CoverageIncomplete]",
        "all containers are no declaration"
    );
    node.store(&[attached(1, &b, std::slice::from_ref(&d), false), released(2, &d)]).await;
    let partial = "D-1=released incomplete; Partial -> [CoverageIncomplete]";
    for subject in [&b, &container(1)] {
        assert_eq!(all(&node, subject).await, partial);
    }
    node.store(&[attached(3, &b, std::slice::from_ref(&d), true)]).await;
    let complete = "D-1=released incomplete; Complete -> may leave";
    for subject in [&b, &container(1)] {
        assert_eq!(all(&node, subject).await, complete);
        let found = found(&node, &reads_all(CUSTOMS), subject).await.clearance.expect("an answer");
        assert_eq!(found.coverage_by.len(), 1, "who says so is told");
    }
    // A container that travels under a second bill of which less is known is covered by neither.
    node.store(&[attached(4, &bill("B-2"), &[container(1)], false)]).await;
    assert_eq!((all(&node, &b).await, all(&node, &container(1)).await), (complete.to_owned(), partial.to_owned()));
    node.store(&[tied(5, AssociationStep::Detached, &bill("B-2"), &[container(1)], false)]).await;
    assert_eq!(all(&node, &container(1)).await, complete);
    // Who names one more, not all, takes back that these were all; so does another administration.
    node.store(&[attached(6, &b, &[declaration("D-2")], false)]).await;
    assert_eq!(
        all(&node, &b).await,
        "D-1=released incomplete; Partial -> [NotReleased, CoverageIncomplete]",
        "nothing is known of the second"
    );
    node.store(&[attached(7, &b, &[d, declaration("D-2")], true), released(8, &declaration("D-2"))]).await;
    assert!(all(&node, &b).await.ends_with("Complete -> may leave"));
    let mut elsewhere = attached(9, &b, &[declaration("D-3")], false);
    elsewhere.publisher = TERMINAL.into();
    node.store(&[elsewhere.with_id(), released(10, &declaration("D-3"))]).await;
    assert!(all(&node, &b).await.ends_with("Partial -> [CoverageIncomplete]"));
}

#[tokio::test]
async fn goods_are_cleared_by_their_own_number_too() {
    let node = TestNode::start();
    let (b, master) = (bill("B-1"), bill("M-1"));
    let house = subject(IdentifierKind::HouseBillOfLading, "H-1", "FWDR");
    node.store(&[
        attached(0, &b, &[container(1), container(2)], true),
        // A release of one container that names its bill is none of the other's.
        step(CUSTOMS, 1, ClearanceStep::Released, &[container(1), b.clone()]),
    ])
    .await;
    let first = events::container_number(1);
    assert_eq!(all(&node, &container(1)).await, format!("{first}=released incomplete; Complete -> may leave"));
    assert_eq!(all(&node, &container(2)).await, "Unknown -> [NoClearance, CoverageIncomplete]");
    assert_eq!(all(&node, &b).await, format!("{first}=released incomplete; Partial -> [CoverageIncomplete]"));
    node.store(&[step(CUSTOMS, 2, ClearanceStep::Released, &[container(2)])]).await;
    assert!(all(&node, &b).await.ends_with("Complete -> may leave"), "all its containers are named and released");
    // A bill that is released as such lets its containers go, and house bills under a released master too.
    node.store(&[
        attached(3, &master, &[house.clone(), container(3)], false),
        step(CUSTOMS, 4, ClearanceStep::Released, std::slice::from_ref(&master)),
    ])
    .await;
    for subject in [&master, &house, &container(3)] {
        assert_eq!(all(&node, subject).await, "M1=released incomplete; Complete -> may leave");
    }
    // What is held below holds what is above, and not its neighbour.
    node.store(&[hold(PLANTS, 5, HoldStep::Placed, "P-1", std::slice::from_ref(&house))]).await;
    assert!(all(&node, &master).await.contains("held plants.gov.pk/P-1"));
    assert!(all(&node, &container(3)).await.ends_with("may leave"));
}

#[tokio::test]
async fn equal_numbers_of_two_carriers_are_two_bills_and_none_fits_both() {
    let node = TestNode::start();
    let (maersk, other) = (bill("B-1"), subject(IdentifierKind::BillOfLading, "B-1", "MSCU"));
    node.store(&[
        step(CUSTOMS, 0, ClearanceStep::Released, std::slice::from_ref(&maersk)),
        hold(PLANTS, 1, HoldStep::Placed, "P-1", std::slice::from_ref(&other)),
    ])
    .await;
    assert_eq!(all(&node, &maersk).await, "B1=released incomplete; Complete -> may leave");
    assert_eq!(
        all(&node, &other).await,
        "held plants.gov.pk/P-1; Unknown -> [NoClearance, HoldOpen, CoverageIncomplete]"
    );
    let any = subject(IdentifierKind::BillOfLading, "B-1", "");
    assert_eq!(all(&node, &any).await, "B1=released incomplete; held plants.gov.pk/P-1; Complete -> [HoldOpen]");
}

#[tokio::test]
async fn more_than_one_answer_gathers_is_said_not_cut_off() {
    let node = TestNode::start();
    let b = bill("B-1");
    let many = |from: u32| (from..from + 512).map(container).collect::<Vec<_>>();
    node.store(&[attached(0, &b, &many(0), false)]).await;
    assert_eq!(all(&node, &b).await, "Unknown -> [NoClearance, CoverageIncomplete]");
    node.store(&[attached(1, &b, &many(512), false)]).await;
    let (rights, b) = (reads_all(CUSTOMS), canonical(&b));
    let through = node.search_view.progress().applied;
    let asked = Asked { subject: key(&b), rights: &rights, now_ns: NOW_NS, through };
    assert_eq!(node.finder().clearance(&asked).await.err(), Some(GatherError::TooManySubjects));
}

#[tokio::test]
async fn a_void_declaration_stands_against_a_release_until_it_is_detached() {
    let node = TestNode::start();
    let (b, void, new) = (bill("B-1"), declaration("D-1"), declaration("D-2"));
    let of = |n: i64, step_: ClearanceStep, about: &[proto::Subject]| step(CUSTOMS, n, step_, about);
    node.store(&[
        attached(0, &b, &[container(1), void.clone(), new.clone()], true),
        of(1, ClearanceStep::Lodged, std::slice::from_ref(&void)),
        of(2, ClearanceStep::Invalidated, std::slice::from_ref(&void)),
        of(3, ClearanceStep::Lodged, std::slice::from_ref(&new)),
        of(4, ClearanceStep::Released, std::slice::from_ref(&new)),
    ])
    .await;
    for subject in [&b, &container(1)] {
        assert_eq!(all(&node, subject).await, "D-1=invalidated; D-2=released; Complete -> [NotReleased]");
    }
    assert_eq!(all(&node, &new).await, "D-2=released; Complete -> may leave", "the other declaration is not void");
    node.store(&[tied(5, AssociationStep::Detached, &b, std::slice::from_ref(&void), false)]).await;
    for subject in [&b, &container(1)] {
        assert_eq!(all(&node, subject).await, "D-2=released; Complete -> may leave");
    }
    assert_eq!(all(&node, &void).await, "D-1=invalidated; Complete -> [NotReleased]");
}

#[tokio::test]
async fn whoever_names_goods_in_a_step_may_detach_them_too() {
    let node = TestNode::start();
    let (c, void, new) = (container(1), declaration("D-1"), declaration("D-2"));
    node.store(&[
        step(CUSTOMS, 1, ClearanceStep::Lodged, &[void.clone(), c.clone()]),
        step(CUSTOMS, 2, ClearanceStep::Invalidated, std::slice::from_ref(&void)),
        step(CUSTOMS, 3, ClearanceStep::Lodged, &[new.clone(), c.clone()]),
        step(CUSTOMS, 4, ClearanceStep::Released, std::slice::from_ref(&new)),
        attached(5, &c, std::slice::from_ref(&new), true),
    ])
    .await;
    let blocked = "D-1=invalidated; D-2=released; Partial -> [NotReleased, CoverageIncomplete]";
    assert_eq!(all(&node, &c).await, blocked);
    // Another administration's word unties nothing that customs said.
    let by = |who: &str, minutes: i64| {
        let mut event = tied(minutes, AssociationStep::Detached, &c, std::slice::from_ref(&void), false);
        event.publisher = who.into();
        event.with_id()
    };
    node.store(&[by(TERMINAL, 6)]).await;
    assert_eq!(all(&node, &c).await, blocked);
    let detached = by(CUSTOMS, 7);
    node.store(std::slice::from_ref(&detached)).await;
    assert_eq!(all(&node, &c).await, "D-2=released; Complete -> may leave");
    // Taken back, it unties nothing; and what is named again later is tied again.
    node.store(&[detached.retracted()]).await;
    assert_eq!(all(&node, &c).await, blocked);
    node.store(&[by(CUSTOMS, 8)]).await;
    assert_eq!(all(&node, &c).await, "D-2=released; Complete -> may leave");
    node.store(&[step(CUSTOMS, 9, ClearanceStep::Lodged, &[void.clone(), c.clone()])]).await;
    assert!(all(&node, &c).await.ends_with("Partial -> [NotReleased, CoverageIncomplete]"));
}
