//! What a node's metrics say of its peers, read over HTTP as a monitoring system does.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tradelane::{
    testing::nodes,
    wire::proto::{self, PeerLinkState, node_service_client::NodeServiceClient},
};

use crate::{
    harness::PATIENCE,
    peers::{channel, comes_to, discharged, holds, publish, two},
    process::Process,
};

async fn metrics_of(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer");
    text
}

/// The value of the one series of a metric that has all of these labels.
fn value(metrics: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let is = |line: &&str| line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label));
    let lines: Vec<&str> = metrics.lines().filter(is).collect();
    let [line] = lines[..] else { panic!("{name} {labels:?} is there {} times in {metrics}", lines.len()) };
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
}

/// What a node says once neither direction of a link is behind: a source without news for the peer tells only now and then how far it is.
async fn at_rest(address: SocketAddr, peer: &str) -> String {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let metrics = metrics_of(address).await;
        let lag = |direction| value(&metrics, "tradelane_peer_lag_events", &[("direction", direction), ("peer", peer)]);
        if lag("inbound") + lag("outbound") < 0.5 {
            return metrics;
        }
        assert!(tokio::time::Instant::now() < deadline, "still behind: {metrics}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_of_every_peer_what_its_operator_must_know() {
    let folder = tempfile::tempdir().expect("a folder");
    let sites = two(folder.path());
    let (a, b) = (&sites[&'a'], &sites[&'b']);
    let operations = nodes::free_address(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let process_a = Process::start(a);
    let config = std::fs::read_to_string(b.config_file()).expect("the settings");
    let with_metrics = config.replace("operations_address = \"\"", &format!("operations_address = \"{operations}\""));
    assert_ne!(config, with_metrics);
    std::fs::write(b.config_file(), with_metrics).expect("written");
    let _process_b = Process::start(b);
    publish(a, &(0..3).map(|n| discharged('a', n)).collect::<Vec<_>>()).await;
    holds(b, 3).await;
    comes_to(b, true, PeerLinkState::CaughtUp).await;
    comes_to(b, false, PeerLinkState::CaughtUp).await;

    let metrics = at_rest(operations, a.node.as_str()).await;
    for direction in ["inbound", "outbound"] {
        let link = [("direction", direction), ("peer", a.node.as_str())];
        let of = |name: &str| value(&metrics, name, &link);
        assert!(0.0 < of("tradelane_peer_bytes_total"), "heartbeats at least");
        assert!(1.7e9 < of("tradelane_peer_last_contact_timestamp_seconds"), "seconds since 1970");
        assert!(of("tradelane_peer_lag_seconds") < 1.0, "it is at the end");
        let quarantined = value(&metrics, "tradelane_peer_quarantine_events", &link[1..]);
        assert_eq!((of("tradelane_peer_lag_events"), quarantined), (0.0, 0.0));
        let state = |state| value(&metrics, "tradelane_peer_link_state", &[link[0], link[1], ("state", state)]);
        assert_eq!((state("caught_up"), state("streaming"), state("backoff")), (1.0, 0.0, 0.0));
    }

    // The other node dies: the state, and of which class the failure was.
    process_a.kill();
    let link = comes_to(b, true, PeerLinkState::Backoff).await;
    assert!(!link.last_error.is_empty());
    let metrics = metrics_of(operations).await;
    let inbound = [("direction", "inbound"), ("peer", a.node.as_str())];
    let state = |state| value(&metrics, "tradelane_peer_link_state", &[inbound[0], inbound[1], ("state", state)]);
    assert_eq!((state("caught_up"), state("backoff") + state("connecting")), (0.0, 1.0));
    let error = |class| value(&metrics, "tradelane_peer_last_error", &[inbound[0], inbound[1], ("class", class)]);
    assert_eq!((error("broken"), error("refused")), (1.0, 0.0));

    // A peer that is taken out of the file is gone from the metrics too, where its last values would look like news.
    b.write_peers(&[], &sites);
    let mut operator = NodeServiceClient::new(channel(b, &b.operator).await);
    operator.reload(proto::ReloadRequest {}).await.expect("good files");
    let metrics = metrics_of(operations).await;
    assert!(!metrics.contains(a.node.as_str()), "{metrics}");
    assert!(metrics.contains("tradelane_peer_events_total"), "what is counted of all peers stays: {metrics}");
}
