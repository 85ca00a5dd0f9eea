//! `tradelane peers` as an operator types it: tables for people, JSON for programs, and words that help where something is refused.

use std::time::Duration;

use serde_json::Value;
use tradelane::{identity::reload::ReloadCause, testing::nodes::PeerEntry, wire::proto::PeerLinkState};

use crate::{
    harness::PATIENCE,
    peers::{comes_to, discharged, held, holds, publish, start, two},
    process::operate,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_and_steers_the_links_by_the_command_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let sites = two(folder.path());
    let (a, b) = (&sites[&'a'], &sites[&'b']);
    let (node_a, node_b) = (start(a).await, start(b).await);
    publish(a, &(0..3).map(|n| discharged('a', n)).collect::<Vec<_>>()).await;
    holds(b, 3).await;
    comes_to(b, true, PeerLinkState::CaughtUp).await;
    comes_to(b, false, PeerLinkState::CaughtUp).await;
    let peer = a.node.as_str();

    let list = operate(b, &["peers", "list"]);
    let lines: Vec<&str> = list.out.lines().collect();
    assert!(list.code == 0 && lines.len() == 2, "{list:?}");
    assert!(
        lines[0].starts_with("PEER") && lines[0].contains("FROM IT") && lines[0].contains("QUARANTINE"),
        "{list:?}"
    );
    assert!(lines[1].contains("a.example") && lines[1].matches("caught_up").count() == 2, "{list:?}");
    let list = operate(b, &["peers", "list", "--output", "json"]);
    let document: Value = serde_json::from_str(&list.out).expect("one document");
    let of_a = &document["peers"][0];
    assert_eq!((of_a["node"].as_str(), of_a["homes"][0].as_str()), (Some(peer), Some("a.example")), "{document}");
    assert_eq!(of_a["inbound"]["state"], "PEER_LINK_STATE_CAUGHT_UP", "{document}");
    assert_eq!(of_a["inbound"]["eventCount"], "3", "{document}");

    let show = operate(b, &["peers", "show", peer]);
    for wanted in
        [peer, "at home there", "From it", "To it", "3 (0 known before)", "0 sequences, for 0 s", "last contact"]
    {
        assert!(show.out.contains(wanted), "{wanted} is missing in {}", show.out);
    }
    let show = operate(b, &["peers", "show", peer, "--output", "json"]);
    let document: Value = serde_json::from_str(&show.out).expect("one document");
    assert!(document["inbound"]["position"].as_str().is_some_and(|position| position.ends_with("-3")), "{document}");
    let unknown = operate(b, &["peers", "show", "spiffe://x.example/node/1"]);
    assert!(unknown.code == 1 && unknown.err.contains("is not in the node's peers file"), "{unknown:?}");

    // Paused it stays, with the reason at both ends, and loses nothing.
    let paused = operate(b, &["peers", "pause", peer]);
    assert!(paused.code == 0 && paused.err.contains("paused, over restarts too"), "{paused:?}");
    let for_programs = operate(b, &["peers", "pause", peer, "--output", "json"]);
    assert!(for_programs.code == 0 && for_programs.out == "{}\n" && for_programs.err.is_empty(), "{for_programs:?}");
    comes_to(b, true, PeerLinkState::Paused).await;
    comes_to(a, true, PeerLinkState::Paused).await;
    assert!(operate(b, &["peers", "show", peer]).out.contains("paused here"));
    publish(a, &[discharged('a', 3)]).await;
    assert_eq!(held(b).await.len(), 3);
    let resumed = operate(b, &["peers", "resume", peer]);
    assert!(resumed.code == 0 && resumed.err.contains("goes on"), "{resumed:?}");
    assert_eq!(holds(b, 4).await.len(), 4);

    // From the beginning: all again, and nothing twice.
    let again = operate(b, &["peers", "resume", peer, "--from", "beginning", "--output", "json"]);
    assert!(again.code == 0 && again.out == "{}\n" && again.err.is_empty(), "{again:?}");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !operate(b, &["peers", "show", peer]).out.contains("(4 known before)") {
        assert!(tokio::time::Instant::now() < deadline, "{}", operate(b, &["peers", "show", peer]).out);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(held(b).await.len(), 4);

    let quarantine = operate(b, &["peers", "quarantine", peer]);
    assert!(quarantine.code == 0 && quarantine.err.contains("every event was taken"), "{quarantine:?}");
    let empty = operate(b, &["peers", "resume", peer, "--from", "quarantine"]);
    assert!(empty.code != 0 && empty.err.contains("no event of this peer is in quarantine"), "{empty:?}");
    // What the file pauses, no command resumes.
    let text = std::fs::read_to_string(b.folder.join("peers.toml")).expect("the file");
    std::fs::write(b.folder.join("peers.toml"), format!("{text}paused = true\n")).expect("written");
    node_b.identity().reload(&ReloadCause::Signal).await.expect("a good file");
    let refused = operate(b, &["peers", "resume", peer]);
    assert!(refused.code != 0 && refused.err.contains("the peers file pauses the link"), "{refused:?}");
    b.write_peers(&[PeerEntry::plain('a')], &sites);
    for node in [node_a, node_b] {
        node.stop().await;
    }
}
