//! A release at a node that gets its statements from another: a hold that the other keeps to itself never becomes "released" here.

use std::time::Duration;

use tradelane::{
    clock::{Clock, SystemClock},
    identity::reload::ReloadCause,
    node::Node,
    testing::{
        events::{HOUR_NS, Voyage},
        nodes::{self, Site},
    },
    wire::proto::{
        self, Event, GetClearanceRequest, GetClearanceResponse, Obstacle, OriginLink, ResumePeerFrom,
        clearance_service_client::ClearanceServiceClient, node_service_client::NodeServiceClient,
    },
};

use crate::{
    harness::PATIENCE,
    peers::{channel, publish},
};

/// What a site tells its operator of a container, once it has come to the same as `expected`.
async fn comes_to(site: &Site, container: &proto::Subject, expected: &[Obstacle]) -> GetClearanceResponse {
    let mut client = ClearanceServiceClient::new(channel(site, &site.operator).await);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = client.get_clearance(GetClearanceRequest { subject: Some(container.clone()) }).await;
        let told = match &answer {
            Ok(answer) => {
                let clearance = answer.get_ref().clearance.as_ref().expect("always said");
                assert_eq!(clearance.released, clearance.obstacles.is_empty());
                assert!(
                    expected.is_empty() || !clearance.released,
                    "{} lets it go while a hold is open at the other node",
                    site.node
                );
                Some(clearance.obstacles().collect::<Vec<_>>())
            }
            Err(_) => None,
        };
        if told.as_deref() == Some(expected) {
            return answer.expect("told").into_inner();
        }
        assert!(tokio::time::Instant::now() < deadline, "{} never came to {expected:?}, but to {told:?}", site.node);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What `a` forwards to `b`.
fn forwarding(what: &str) -> String {
    format!("[[grant]]\nid = \"forward\"\nwho = [\"spiffe://b.example/*\"]\nactions = [\"forward\"]\n{what}\n")
}

#[tokio::test]
async fn a_hold_that_is_not_forwarded_never_becomes_released_at_the_peer() {
    let folder = tempfile::tempdir().expect("a folder");
    let sites = nodes::create(folder.path(), &['a', 'b'], SystemClock.now_ns());
    let (a, b) = (&sites[&'a'], &sites[&'b']);
    a.write_policy(&forwarding("filters = [{ types = [\"clearance\", \"association\"] }]"));
    let node_a = Node::start(a.config()).await.expect("the node starts");
    let node_b = Node::start(b.config()).await.expect("the node starts");

    let voyage = Voyage::new(1, SystemClock.now_ns() - Voyage::LASTS_NS - HOUR_NS);
    let own = |event: Event| Event { publisher: "spiffe://a.example/terminal/1".into(), ..event }.with_id();
    publish(a, &[voyage.attached(), voyage.lodged(), voyage.released(), voyage.held()].map(own)).await;
    let container = voyage.container_subject();
    comes_to(a, &container, &[Obstacle::HoldOpen]).await;
    // The release has come, the hold has not, and the node knows that it cannot know of it.
    let answer = comes_to(b, &container, &[Obstacle::SourceIncomplete]).await;
    let [_, source] = answer.origins.as_slice() else { panic!("{:?}", answer.origins) };
    assert_eq!((source.node.as_str(), source.link(), source.is_whole), (a.node.as_str(), OriginLink::Up, false));

    // The agreement is widened, and what it had left out is fetched.
    a.write_policy(&forwarding("all = true"));
    node_a.identity().reload(&ReloadCause::Signal).await.expect("good files");
    let mut operator = NodeServiceClient::new(channel(b, &b.operator).await);
    let again = proto::ResumePeerRequest { node: a.node.to_string(), from: ResumePeerFrom::Beginning.into() };
    operator.resume_peer(again).await.expect("resumed");
    let answer = comes_to(b, &container, &[Obstacle::HoldOpen]).await;
    assert!(answer.origins[1].is_whole);
    publish(a, &[own(voyage.lifted())]).await;
    comes_to(b, &container, &[]).await;
    for node in [node_a, node_b] {
        let report = node.stop().await;
        assert_eq!((report.failure, report.unfinished.len()), (None, 0));
    }
}
