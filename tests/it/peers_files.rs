//! Who is a peer stands in files that are read anew while the node runs: each side's authority is believed only where it was added by hand,
//! and a peer that is taken out or put in loses or gets its live links without a restart.

use std::time::Duration;

use tradelane::{
    identity::reload::ReloadCause,
    node::RunningNode,
    testing::nodes::{PeerEntry, Site},
    wire::proto::{PeerLink, PeerLinkState},
};

use crate::{
    harness::PATIENCE,
    peers::{comes_to, discharged, held, holds, peers, publish, start, two},
};

async fn reload(node: &RunningNode) {
    node.identity().reload(&ReloadCause::Signal).await.expect("good files");
}

/// Waits until the first peer's link in a direction says something of itself.
async fn says(site: &Site, inbound: bool, wanted: &str) -> PeerLink {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let peer = peers(site).await.remove(0);
        let link = if inbound { peer.inbound } else { peer.outbound }.expect("always said");
        if link.detail.contains(wanted) {
            return link;
        }
        assert!(tokio::time::Instant::now() < deadline, "{} never said {wanted}: {link:?}", site.node);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_node_whose_authority_was_not_added_is_no_peer_until_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let sites = two(folder.path());
    let (a, b) = (&sites[&'a'], &sites[&'b']);
    // a knows b and has added its authority; b knows nobody.
    let trust_file = b.folder.join("trust.toml");
    let trust = std::fs::read_to_string(&trust_file).expect("the file");
    let own = trust.split("[[domain]]").find(|domain| domain.contains("\"b.example\"")).expect("its own");
    std::fs::write(&trust_file, format!("[[domain]]{own}")).expect("written");
    b.write_peers(&[], &sites);
    let (node_a, node_b) = (start(a).await, start(b).await);
    publish(a, &[discharged('a', 1)]).await;
    publish(b, &[discharged('b', 1)]).await;
    assert_eq!(says(a, true, "did not take our certificate").await.state(), PeerLinkState::Backoff);

    // To name a as a peer does not make its authority believed.
    b.write_peers(&[PeerEntry::plain('a')], &sites);
    let refused = node_b.identity().reload(&ReloadCause::Signal).await.expect_err("half of it");
    assert!(refused.to_string().contains("the trust file has no [[domain]] a.example"), "{refused}");
    assert!(peers(b).await.is_empty());
    for site in [a, b] {
        assert_eq!(held(site).await.len(), 1, "nothing passed to {}", site.node);
    }

    std::fs::write(&trust_file, trust).expect("written");
    reload(&node_b).await;
    for site in [a, b] {
        assert_eq!(holds(site, 2).await.len(), 2);
    }
    for node in [node_a, node_b] {
        node.stop().await;
    }
}

#[tokio::test]
async fn the_live_links_of_a_peer_that_is_taken_out_end_and_come_back_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let sites = two(folder.path());
    let (a, b) = (&sites[&'a'], &sites[&'b']);
    let (node_a, node_b) = (start(a).await, start(b).await);
    publish(a, &[discharged('a', 1)]).await;
    publish(b, &[discharged('b', 1)]).await;
    for site in [a, b] {
        holds(site, 2).await;
        comes_to(site, true, PeerLinkState::CaughtUp).await;
        comes_to(site, false, PeerLinkState::CaughtUp).await;
    }

    b.write_peers(&[], &sites);
    reload(&node_b).await;
    assert!(peers(b).await.is_empty());
    // Both directions have ended, and a is told why it gets nothing more.
    assert_eq!(says(a, true, "NOT_A_PEER").await.state(), PeerLinkState::Backoff);
    assert_eq!(says(a, false, "not connected").await.state(), PeerLinkState::Idle);
    publish(a, &[discharged('a', 2)]).await;
    publish(b, &[discharged('b', 2)]).await;

    let (at_a, at_b) = (held(a).await.len(), held(b).await.len());
    assert_eq!((at_a, at_b), (3, 3), "nothing passed meanwhile");
    b.write_peers(&[PeerEntry::plain('a')], &sites);
    reload(&node_b).await;
    for site in [a, b] {
        assert_eq!(holds(site, 4).await.len(), 4);
    }
    let link = comes_to(b, true, PeerLinkState::CaughtUp).await;
    assert_eq!((link.event_count, link.duplicate_count), (2, 0), "it goes on where it stood");
    for node in [node_a, node_b] {
        node.stop().await;
    }
}
