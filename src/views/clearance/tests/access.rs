//! One release for all, and of what a caller may not read nothing but how many holds are open.

use super::*;
use crate::{
    testing::events::{BROKER, CARRIER},
    views::test_node::policy,
    wire::proto::{Audience, Reach},
};

fn named(mut event: Event, who: &[&str]) -> Event {
    let participants = who.iter().map(|name| (*name).to_owned()).collect();
    event.audience = Some(Audience { reach: Reach::Named.into(), participants });
    event.with_id()
}

fn reads(filters: &str) -> Rights {
    policy(&format!("[[grant]]\nid = 'g'\nwho = ['{BROKER}']\nactions = ['read']\nfilters = [{filters}]\n"))
        .rights(&spiffe(BROKER))
}

#[tokio::test]
async fn a_hold_beyond_the_grants_is_counted_and_nothing_else_of_it_is_told() {
    let node = TestNode::start();
    let about = [declaration("D-1"), container(1)];
    let hidden = hold(PLANTS, 2, HoldStep::Placed, "P-1", &about);
    node.store(&[
        attached(0, &about[1], &about[..1], true),
        step(CUSTOMS, 1, ClearanceStep::Released, &about),
        named(hidden, &[CUSTOMS]),
        hold(PLANTS, 3, HoldStep::Placed, "P-2", &about),
    ])
    .await;
    let state = "D-1=released incomplete; ";
    for subject in &about {
        let customs = format!("{state}held plants.gov.pk/P-1; held plants.gov.pk/P-2; Complete -> [HoldOpen]");
        assert_eq!(shown(&node, &reads_all(CUSTOMS), subject).await, customs);
        let broker = format!("{state}held plants.gov.pk/P-2; withheld 1; Complete -> [HoldOpen]");
        assert_eq!(shown(&node, &reads_all(BROKER), subject).await, broker);
        let steps_alone = format!("{state}withheld 2; Complete -> [HoldOpen]");
        assert_eq!(shown(&node, &reads("{ types = ['clearance', 'association'] }"), subject).await, steps_alone);
    }
    // Lifted, the hidden one is counted no more.
    node.store(&[named(hold(PLANTS, 4, HoldStep::Lifted, "P-1", &about), &[CUSTOMS])]).await;
    assert_eq!(
        shown(&node, &reads_all(BROKER), &about[1]).await,
        format!("{state}held plants.gov.pk/P-2; Complete -> [HoldOpen]")
    );
}

#[tokio::test]
async fn of_which_she_may_read_nothing_there_is_nothing() {
    let node = TestNode::start();
    let voyage = Voyage::new(1, NOW_NS);
    node.store(&voyage.events()).await;
    let subjects = [voyage.container_subject(), voyage.bill_subject(), voyage.declaration_subject(), container(7)];
    let nothing = reads("{ publishers = ['spiffe://nobody.example/*'] }");
    for subject in &subjects {
        assert_eq!(shown(&node, &nothing, subject).await, "nothing");
        let found = found(&node, &nothing, subject).await;
        assert!(found.own.is_empty());
    }
    // Who may read but that it was discharged is told that nothing is known that would let it go.
    let handling = reads("{ types = ['handling'] }");
    assert_eq!(shown(&node, &handling, &subjects[0]).await, "Unknown -> [NoClearance, CoverageIncomplete]");
    assert_eq!(shown(&node, &handling, &subjects[2]).await, "nothing");
}

#[tokio::test]
async fn nobody_is_told_released_while_the_node_knows_better() {
    let node = TestNode::start();
    let about = [declaration("D-1"), container(1)];
    let complete = attached(0, &about[1], &about[..1], true);
    node.store(&[
        complete,
        step(CUSTOMS, 1, ClearanceStep::Accepted, &about),
        step(CUSTOMS, 2, ClearanceStep::Released, &about),
    ])
    .await;
    let released = "D-1=released; Complete -> may leave";
    assert_eq!(shown(&node, &reads_all(BROKER), &about[1]).await, released);
    // A revocation that she may not read is not shown, nor is the state that it sets; but she is not told that the goods may leave.
    let revoked = step(CUSTOMS, 3, ClearanceStep::ReleaseRevoked, &about);
    node.store(&[named(revoked, &[TERMINAL])]).await;
    assert_eq!(shown(&node, &reads_all(BROKER), &about[1]).await, "D-1=released; Complete -> withheld");
    assert_eq!(shown(&node, &reads_all(TERMINAL), &about[1]).await, "D-1=release_revoked; Complete -> [NotReleased]");
    // A release that she may not read is none for her.
    node.store(&[named(step(CUSTOMS, 4, ClearanceStep::Released, &about), &[TERMINAL])]).await;
    assert_eq!(shown(&node, &reads_all(TERMINAL), &about[1]).await, released);
    assert_eq!(shown(&node, &reads_all(BROKER), &about[1]).await, released);
    let lodged = reads("{ types = ['clearance.accepted', 'association'] }");
    assert_eq!(shown(&node, &lodged, &about[1]).await, "D-1=accepted; Complete -> [NotReleased]");
}

#[tokio::test]
async fn an_association_beyond_the_grants_ties_nothing_that_is_shown() {
    let node = TestNode::start();
    let more = named(attached(5, &bill("B-1"), &[declaration("D-2")], false), &[CARRIER, CUSTOMS]);
    node.store(&[
        attached(0, &bill("B-1"), &[container(1), declaration("D-1")], true),
        step(CUSTOMS, 1, ClearanceStep::Accepted, &[declaration("D-1")]),
        step(CUSTOMS, 2, ClearanceStep::Released, &[declaration("D-1")]),
        step(CUSTOMS, 3, ClearanceStep::Accepted, &[declaration("D-2")]),
        hold(PLANTS, 4, HoldStep::Placed, "P-1", &[declaration("D-2")]),
    ])
    .await;
    assert_eq!(shown(&node, &reads_all(BROKER), &bill("B-1")).await, "D-1=released; Complete -> may leave");
    node.store(&[more]).await;
    assert_eq!(
        shown(&node, &reads_all(CUSTOMS), &bill("B-1")).await,
        "D-1=released; D-2=accepted; held plants.gov.pk/P-1; Partial -> [NotReleased, HoldOpen, CoverageIncomplete]"
    );
    // She may read the hold, but that it is on her bill she would know only by the tie.
    assert_eq!(
        shown(&node, &reads_all(BROKER), &bill("B-1")).await,
        "D-1=released; withheld 1; Complete -> [HoldOpen]"
    );
}
