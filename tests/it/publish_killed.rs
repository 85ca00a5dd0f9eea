//! `tradelane publish` from standard input that is killed in the middle: run again, it stores the rest and nothing twice.

use std::{collections::BTreeSet, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

use crate::{
    cli::{Person, discharges},
    harness::{Harness, PATIENCE},
};

const EVENTS: u32 = 59;

/// Starts it with its standard input and output in our hands; gone with the test.
fn start(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().expect("the program runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_its_input_it_is_run_again_and_stores_each_event_once() {
    let harness = Harness::start().await;
    let port = Person::new(&harness, &harness.port);
    let lines = discharges(EVENTS, None);
    let words = ["publish", "-", "--derive-ids", "--batch", "3", "--output", "jsonl"];

    // The input stays open, as that of a terminal's system does, so that the program is in the middle when the first answers are there.
    let mut killed = start(port.command(&words));
    let mut input = killed.stdin.take().expect("its input");
    let (first, rest) = lines.split_at(20);
    input.write_all((first.join("\n") + "\n").as_bytes()).await.expect("it reads");
    let mut answers = BufReader::new(killed.stdout.take().expect("its output")).lines();
    let mut acknowledged = BTreeSet::new();
    while acknowledged.len() < 6 {
        let answer = tokio::time::timeout(PATIENCE, answers.next_line()).await.expect("an answer").expect("a line");
        let answer: Value = serde_json::from_str(&answer.expect("it goes on")).expect("a result a line");
        acknowledged.insert(answer["eventId"].as_str().expect("an id").to_owned());
    }
    killed.kill().await.expect("killed");
    drop(input);

    let mut again = start(port.command(&words));
    let mut input = again.stdin.take().expect("its input");
    let all = [first, rest].concat().join("\n");
    input.write_all(all.as_bytes()).await.expect("it reads");
    drop(input);
    let ended = tokio::time::timeout(PATIENCE, again.wait_with_output()).await.expect("an end").expect("it ran");
    let said = String::from_utf8(ended.stderr).expect("text");
    assert!(ended.status.success(), "{said}");
    let results: Vec<Value> = String::from_utf8(ended.stdout)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a result a line"))
        .collect();
    assert_eq!(results.len(), lines.len(), "{said}");
    for result in &results {
        let was_acknowledged = acknowledged.contains(result["eventId"].as_str().expect("an id"));
        assert!(!was_acknowledged || result["duplicate"] == true, "stored twice: {result}");
    }
    let listed = port.runs(&["events", "list", "--limit", "1000", "--output", "jsonl"]).await;
    assert_eq!(listed.out.lines().count(), lines.len(), "{}", listed.err);
    harness.stop().await;
}
