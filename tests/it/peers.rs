//! Two nodes with authorities of their own, over real connections: what is published at one is found at the other, and what may not be is
//! refused where operators see it.

use std::{collections::BTreeMap, time::Duration};

use prost::Message;
use tonic::{Code, transport::Channel};
use tradelane::{
    api::methods::Methods,
    cli::connect::{ConnectOptions, Credentials, ExpectedServer, Pem, connect},
    clock::{Clock, SystemClock},
    domain::TrustDomain,
    identity::{
        dev_pki::{CRL_LIFE_NS, DevPki, Issued},
        reload::ReloadCause,
        rpc_policy::{Needs, needs},
    },
    node::{Node, RunningNode},
    testing::{
        events::{HOUR_NS, Voyage},
        nodes::{self, PeerEntry, Site},
    },
    wire::{
        PublishRequest,
        proto::{
            self, PeerLinkState, ReachState, event_service_client::EventServiceClient,
            node_service_client::NodeServiceClient, peer_service_client::PeerServiceClient,
        },
    },
};

use crate::{
    harness::PATIENCE,
    matrix::{ask, reason},
};

/// Connects to a node as somebody of its own domain, or as another node.
pub async fn channel(site: &Site, who: &Issued) -> Channel {
    let options = ConnectOptions {
        address: site.address.into(),
        credentials: Credentials {
            authorities: Pem::File(site.bundle_file.clone()),
            certificate: Pem::File(who.certificate_file.clone()),
            key: Pem::File(who.key_file.clone()),
        },
        expected_server: ExpectedServer::Id(site.node.clone()),
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match connect(&options).await {
            Ok(channel) => return channel,
            Err(error) if deadline < tokio::time::Instant::now() => panic!("no connection: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Container `n` is discharged, says the terminal of a site.
pub fn discharged(letter: char, n: u32) -> proto::Event {
    let voyage = Voyage::new(n, SystemClock.now_ns() / HOUR_NS * HOUR_NS - 40 * HOUR_NS);
    proto::Event { publisher: format!("spiffe://{letter}.example/terminal/1"), ..voyage.discharged() }.with_id()
}

/// Publishes as the terminal of a site.
pub async fn publish(site: &Site, events: &[proto::Event]) -> proto::PublishResponse {
    let mut client = EventServiceClient::new(channel(site, &site.terminal).await);
    let request = PublishRequest { events: events.iter().map(proto::Event::unsigned).collect(), on_invalid: 0 };
    client.publish(request).await.expect("stored").into_inner()
}

/// Everything that a node holds, oldest first.
pub async fn held(site: &Site) -> Vec<proto::RecordedEvent> {
    let mut client = EventServiceClient::new(channel(site, &site.operator).await);
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = proto::ListEventsRequest {
            page_size: 1_000,
            order: proto::ListOrder::OldestFirst.into(),
            page_token,
            ..proto::ListEventsRequest::default()
        };
        let answer = client.list_events(request).await.expect("a list").into_inner();
        all.extend(answer.events);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

/// The bytes of the events, as their publishers sent them.
pub fn bytes_of(recorded: &[proto::RecordedEvent]) -> Vec<Vec<u8>> {
    recorded.iter().map(|event| event.signed.as_ref().expect("an event").event.to_vec()).collect()
}

/// Waits until a node holds so many events.
pub async fn holds(site: &Site, count: usize) -> Vec<proto::RecordedEvent> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let all = held(site).await;
        if count <= all.len() {
            return all;
        }
        assert!(tokio::time::Instant::now() < deadline, "{} holds {} events, not {count}", site.node, all.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn peers(site: &Site) -> Vec<proto::PeerState> {
    let mut client = NodeServiceClient::new(channel(site, &site.operator).await);
    client.list_peers(proto::ListPeersRequest {}).await.expect("a list").into_inner().peers
}

/// Waits until the first peer of a node is in a state in a direction.
pub async fn comes_to(site: &Site, inbound: bool, state: PeerLinkState) -> proto::PeerLink {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let peer = peers(site).await.remove(0);
        let link = if inbound { peer.inbound } else { peer.outbound }.expect("always said");
        if link.state() == state {
            return link;
        }
        assert!(tokio::time::Instant::now() < deadline, "{} never came to {state:?}: {link:?}", site.node);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn start(site: &Site) -> RunningNode {
    Node::start(site.config()).await.expect("the node starts")
}

pub fn two(root: &std::path::Path) -> BTreeMap<char, Site> {
    nodes::create(root, &['a', 'b'], SystemClock.now_ns())
}

#[tokio::test]
async fn what_is_published_at_one_node_is_found_at_the_other_with_its_origin_and_over_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let sites = two(folder.path());
    let (a, b) = (&sites[&'a'], &sites[&'b']);
    let node_a = start(a).await;
    let early: Vec<_> = (0..50).map(|n| discharged('a', n)).collect();
    let stored = publish(a, &early).await;
    // The late joiner.
    let node_b = start(b).await;
    let records = holds(b, 50).await;
    assert_eq!(bytes_of(&records), early.iter().map(Message::encode_to_vec).collect::<Vec<_>>(), "in order, unchanged");
    let origin = records[49].origin.as_ref().expect("always said");
    assert_eq!((origin.node.as_str(), origin.sequence), (a.node.as_str(), 50));
    let epoch_and_sequence = format!("{}-{}", origin.epoch, origin.sequence);
    assert_eq!(stored.results[49].position, epoch_and_sequence, "the origin names the event for ever");

    publish(b, &[discharged('b', 1)]).await;
    assert_eq!(holds(a, 51).await.len(), 51);
    comes_to(a, true, PeerLinkState::CaughtUp).await;
    let link = comes_to(b, true, PeerLinkState::CaughtUp).await;
    assert_eq!((link.event_count, link.lag_events), (50, 0));
    let mut at_a = NodeServiceClient::new(channel(a, &a.operator).await);
    let listed = at_a.list_connections(proto::ListConnectionsRequest::default()).await.expect("listed").into_inner();
    let of_b = listed.connections.iter().filter(|one| one.participant == b.node.as_str());
    let carried: Vec<_> = of_b.flat_map(|one| &one.streams).map(|one| (one.method.as_str(), one.event_count)).collect();
    assert_eq!(carried, [("/tradelane.v1.PeerService/Replicate", 50)], "what the operator is told of its stream");
    comes_to(a, false, PeerLinkState::CaughtUp).await;

    let mut operator = EventServiceClient::new(channel(a, &a.operator).await);
    let request =
        proto::ExplainEventRequest { event_id: early[3].event_id.clone(), publisher: early[3].publisher.clone() };
    let explained = operator.explain_event(request).await.expect("explained").into_inner();
    assert_eq!(explained.peers.len(), 1);
    assert_eq!(
        (explained.peers[0].node.as_str(), explained.peers[0].state()),
        (b.node.as_str(), ReachState::Delivered)
    );

    // What is remembered outlives a restart: nothing is sent twice.
    let report = node_b.stop().await;
    assert_eq!((report.failure, report.unfinished.len()), (None, 0));
    publish(a, &[discharged('a', 60)]).await;
    let node_b = start(b).await;
    assert_eq!(holds(b, 52).await.len(), 52);
    let link = comes_to(b, true, PeerLinkState::CaughtUp).await;
    assert_eq!((link.event_count, link.duplicate_count), (1, 0));
    for node in [node_a, node_b] {
        let report = node.stop().await;
        assert_eq!((report.failure, report.unfinished.len()), (None, 0));
    }
}

#[tokio::test]
async fn a_participant_never_replicates_and_a_node_does_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let sites = two(folder.path());
    let (a, b) = (&sites[&'a'], &sites[&'b']);
    let node = start(a).await;
    let mut as_participant = PeerServiceClient::new(channel(a, &a.terminal).await);
    let refused = as_participant.replicate(tokio_stream::empty()).await.expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    // Even where a grant names it by mistake.
    a.write_policy("[[grant]]\nid = \"too-wide\"\nwho = [\"spiffe://b.example/*\"]\nactions = [\"read\", \"publish\", \"operate\"]\nall = true\n");
    node.identity().reload(&ReloadCause::Signal).await.expect("good files");
    let mut as_node = channel(a, &b.node_certificate).await;
    let mut refused = 0;
    for method in Methods::served().iter().map(|method| method.path.clone()) {
        if matches!(needs(&method), Some(Needs::Identity | Needs::Peer)) {
            continue;
        }
        let status = ask(&mut as_node, &method).await.expect("an answer").expect("a refusal");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "ONLY_REPLICATES"), "{method}");
        refused += 1;
    }
    assert!(30 < refused, "only {refused} methods were asked for");
    node.stop().await;
}

#[tokio::test]
async fn a_publisher_that_is_not_at_home_stops_the_link_visibly_until_the_file_is_mended() {
    let folder = tempfile::tempdir().expect("a folder");
    let sites = two(folder.path());
    let (a, b) = (&sites[&'a'], &sites[&'b']);
    let node_a = start(a).await;
    publish(a, &[discharged('a', 1)]).await;
    // To b, a.example lives elsewhere: what a brings of it is forged.
    let text = std::fs::read_to_string(b.folder.join("peers.toml")).expect("the file");
    std::fs::write(b.folder.join("peers.toml"), text.replace("homes = [\"a.example\"]", "homes = [\"x.example\"]"))
        .expect("written");
    let node_b = start(b).await;
    let link = comes_to(b, true, PeerLinkState::Refused).await;
    assert!(link.detail.starts_with("PUBLISHER_NOT_AT_HOME: "), "{}", link.detail);
    assert!(held(b).await.is_empty(), "nothing of it is stored");
    let there = comes_to(a, false, PeerLinkState::Refused).await;
    assert!(there.detail.contains("PUBLISHER_NOT_AT_HOME"), "the other side sees why: {}", there.detail);

    b.write_peers(&[PeerEntry::plain('a')], &sites);
    node_b.identity().reload(&ReloadCause::Signal).await.expect("good files");
    assert_eq!(holds(b, 1).await.len(), 1);

    // A bad file is refused, and the links stay.
    std::fs::write(b.folder.join("peers.toml"), "homes = []\n[[peer]]\nnode = 'x'\n").expect("written");
    node_b.identity().reload(&ReloadCause::Signal).await.expect_err("a bad file");
    publish(a, &[discharged('a', 2)]).await;
    assert_eq!(holds(b, 2).await.len(), 2);
    b.write_peers(&[PeerEntry::plain('a')], &sites);

    // Pause and resume over the API; an unknown peer is named as such.
    let mut operator = NodeServiceClient::new(channel(b, &b.operator).await);
    operator.pause_peer(proto::PausePeerRequest { node: a.node.to_string() }).await.expect("paused");
    comes_to(b, true, PeerLinkState::Paused).await;
    publish(a, &[discharged('a', 3)]).await;
    operator.resume_peer(proto::ResumePeerRequest { node: a.node.to_string(), from: 0 }).await.expect("resumed");
    assert_eq!(holds(b, 3).await.len(), 3);
    let unknown = operator.pause_peer(proto::PausePeerRequest { node: "spiffe://x.example/y".into() }).await;
    assert_eq!(unknown.expect_err("unknown").code(), Code::NotFound);
    let empty = proto::ResumePeerRequest { node: a.node.to_string(), from: proto::ResumePeerFrom::Quarantine.into() };
    assert_eq!(operator.resume_peer(empty).await.expect_err("empty").code(), Code::FailedPrecondition);
    let quarantine = operator.list_quarantine(proto::ListQuarantineRequest { node: a.node.to_string() }).await;
    assert!(quarantine.expect("a list").into_inner().quarantined.is_empty());
    for node in [node_a, node_b] {
        node.stop().await;
    }
}

#[tokio::test]
async fn another_node_at_a_peers_address_is_not_taken_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let sites = nodes::create(folder.path(), &['a', 'b', 'c'], SystemClock.now_ns());
    let (a, b, c) = (&sites[&'a'], &sites[&'b'], &sites[&'c']);
    let node_c = start(c).await;
    // At the address of a, c answers.
    let text = std::fs::read_to_string(b.folder.join("peers.toml")).expect("the file");
    let text = text.replace(&a.address.to_string(), &c.address.to_string());
    std::fs::write(b.folder.join("peers.toml"), text).expect("written");
    let node_b = start(b).await;
    let link = comes_to(b, true, PeerLinkState::Backoff).await;
    assert!(link.detail.contains("OTHER_NODE"), "{}", link.detail);
    for node in [node_b, node_c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_link_ends_when_the_certificate_of_the_node_that_was_dialled_is_revoked() {
    let folder = tempfile::tempdir().expect("a folder");
    let sites = two(folder.path());
    let (a, b) = (&sites[&'a'], &sites[&'b']);
    let (node_a, node_b) = (start(a).await, start(b).await);
    publish(a, &[discharged('a', 1)]).await;
    holds(b, 1).await;
    comes_to(b, true, PeerLinkState::CaughtUp).await;
    // b does not dial for anything else, and a's own files stay as they are: only what b is told of a's authority changes.
    let now_ns = SystemClock.now_ns();
    let mut authority =
        DevPki::open(folder.path(), &TrustDomain::parse("a.example").expect("a name")).expect("an authority");
    authority.revoke(a.node.as_str(), now_ns).expect("revoked");
    authority.write_crl(now_ns, CRL_LIFE_NS).expect("written");
    node_b.identity().reload(&ReloadCause::Signal).await.expect("good files");
    let link = comes_to(b, true, PeerLinkState::Backoff).await;
    assert!(link.detail.contains("REVOKED"), "{}", link.detail);
    // What is published at b later than at a is found there, and what a has is not taken, nor when b has dialled again.
    publish(a, &[discharged('a', 2)]).await;
    publish(b, &[discharged('b', 1)]).await;
    let home = |record: &proto::RecordedEvent| record.origin.as_ref().expect("always said").node.clone();
    let homes: Vec<_> = holds(b, 2).await.iter().map(home).collect();
    assert_eq!(homes, [a.node.to_string(), b.node.to_string()]);
    let link = comes_to(b, true, PeerLinkState::Backoff).await;
    assert!(link.detail.contains("REVOKED"), "{}", link.detail);
    assert_eq!(held(b).await.len(), 2, "nothing more is taken");
    for node in [node_a, node_b] {
        node.stop().await;
    }
}
