//! What a start writes to the log for whoever operates the node: who it is, where it listens and keeps its data, and how far its log reaches.

use std::fs;

use serde_json::Value;
use tradelane::{
    clock::{Clock, SystemClock},
    testing::nodes,
};

use crate::{
    peers::{discharged, holds, publish},
    process::Process,
};

/// What the node logged by a message, which it says once.
fn logged(log: &str, message: &str) -> Value {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is one JSON document"));
    let mut said = lines.filter(|line| line["message"] == message);
    let first = said.next().unwrap_or_else(|| panic!("no line says {message:?}: {log}"));
    assert_eq!(said.next(), None, "{message:?} is said once");
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_says_on_a_line_each_who_and_where_it_is_and_how_far_its_log_reaches() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = nodes::create(folder.path(), &['a'], SystemClock.now_ns()).remove(&'a').expect("made");
    let log = || fs::read_to_string(site.folder.join("node.log")).expect("it logs");
    let process = Process::start(&site);
    publish(&site, &[discharged('a', 1), discharged('a', 2), discharged('a', 3)]).await;
    holds(&site, 3).await;
    let first = log();
    process.kill();
    fs::remove_file(site.folder.join("node.log")).expect("ours");
    let process = Process::start(&site);
    holds(&site, 3).await;
    let second = log();
    process.kill();
    for (log, head_sequence) in [(&first, 0), (&second, 3)] {
        assert_eq!(logged(log, "identity")["node"], site.node.as_str());
        assert_eq!(logged(log, "listening for participants")["address"], site.address.to_string());
        logged(log, "no operations address");
        assert_eq!(logged(log, "data directory")["path"], site.folder.join("data").display().to_string());
        assert_eq!(logged(log, "log")["head_sequence"], head_sequence);
    }
    // The life of the log is the same after a kill.
    let epoch = |log: &str| logged(log, "epoch")["epoch"].as_str().expect("a word").to_owned();
    assert_eq!((epoch(&first).len(), epoch(&first)), (32, epoch(&second)));
}
