//! `tradelane subscription` as a person or a script runs it: the built binary against a whole node.

use std::{path::Path, process::Stdio, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::{sleep, timeout},
};

use crate::{
    cli::{Person, Said, discharges},
    harness::{Harness, PATIENCE},
};

fn json(said: &Said) -> Value {
    assert_eq!(said.code, 0, "{}", said.err);
    serde_json::from_str(&said.out).expect("one JSON document")
}

fn lines(said: &Said) -> Vec<Value> {
    assert_eq!(said.code, 0, "{}", said.err);
    said.out.lines().map(|line| serde_json::from_str(line).expect("a document a line")).collect()
}

/// The containers of deliveries, as `--output jsonl` writes them.
fn containers(deliveries: &[Value]) -> Vec<String> {
    let value = |delivery: &Value| delivery["event"]["signed"]["event"]["subjects"][0]["value"].clone();
    deliveries.iter().map(|delivery| value(delivery).as_str().expect("a container").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_made_consumed_steered_and_deleted() {
    let harness = Harness::start().await;
    let port = Person::new(&harness, &harness.port);
    let file = port.file("events.ndjson", &discharges(6, None).join("\n"));
    assert_eq!(port.runs(&["publish", &file]).await.code, 0);

    let create = ["subscription", "create", "gate", "--from", "earliest", "--type", "handling.discharged"];
    let quick = ["--backoff-min", "50ms", "--backoff-max", "50ms"];
    let made = json(&port.runs(&[&create[..], &quick, &["-o", "json"]].concat()).await);
    assert_eq!((&made["name"], &made["state"]), (&"gate".into(), &"SUBSCRIPTION_STATE_ACTIVE".into()));
    assert_eq!(port.runs(&[&create[..], &quick].concat()).await.code, 0, "creating it again changes nothing");
    let other = port.runs(&[&create[..6], &["hold"], &quick].concat()).await;
    assert_eq!(other.code, 65, "{}", other.err);
    let listed = json(&port.runs(&["subscription", "list", "-o", "json"]).await);
    assert_eq!(listed["subscriptions"][0]["lagEvents"], "6");

    // Two are taken; what comes next is the third.
    let consume = ["subscription", "consume", "gate", "-o", "jsonl"];
    let first = lines(&port.runs(&[&consume[..], &["--count", "2"]].concat()).await);
    let rest = lines(&port.runs(&[&consume[..], &["--until-caught-up"]].concat()).await);
    assert_eq!((first.len(), rest.len()), (2, 4));
    assert_eq!(lines(&port.runs(&[&consume[..], &["--until-caught-up"]].concat()).await).len(), 0);

    // From the beginning again, now with a command: it fails at the first attempt, and is given the same event again.
    assert_eq!(port.runs(&["subscription", "seek", "gate", "--to", "earliest"]).await.code, 0);
    let done = port.path("done.jsonl");
    let command = format!("test \"$TRADELANE_DELIVERY_ATTEMPT\" -gt 1 && cat >> '{done}'");
    let said = port.runs(&["subscription", "consume", "gate", "--exec", &command, "--count", "12"]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("exit status 1") && said.err.contains("12 events settled"), "{}", said.err);
    let done = std::fs::read_to_string(&done).expect("written by the command");
    let done: Vec<Value> = done.lines().map(|line| serde_json::from_str(line).expect("an event a line")).collect();
    let done: Vec<String> = done
        .iter()
        .map(|event| event["signed"]["event"]["subjects"][0]["value"].as_str().expect("a container").to_owned())
        .collect();
    assert_eq!(done, containers(&[first, rest].concat()), "each once, in order");

    for (verb, state) in [("pause", "paused"), ("resume", "active")] {
        assert!(port.runs(&["subscription", verb, "gate"]).await.out.contains(state));
    }
    let longer = json(&port.runs(&["subscription", "update", "gate", "--lease", "2m", "-o", "json"]).await);
    assert_eq!(
        (&longer["definition"]["lease"], &longer["definition"]["backoffMin"]),
        (&"120s".into(), &"0.050s".into())
    );
    assert_eq!(longer["definition"]["filters"][0]["types"][0], "handling.discharged");
    let shown = port.runs(&["subscription", "show", "gate"]).await.out;
    assert!(shown.contains("handling.discharged") && shown.contains("\ndead letters max 1000\n"), "{shown}");
    let jobs = port.runs(&["subscription", "consume", "gate", "--exec", "true", "--jobs", "2"]).await;
    assert!(jobs.code == 64 && jobs.err.contains("gate is ordered"), "{}", jobs.err);
    let deleted = port.runs(&["subscription", "delete", "gate", "--output", "jsonl"]).await;
    assert!(deleted.code == 0 && deleted.out == "{}\n" && deleted.err.is_empty(), "{}{}", deleted.out, deleted.err);
    let gone = port.runs(&["subscription", "show", "gate"]).await;
    assert!(gone.code == 1 && gone.out.is_empty(), "{}", gone.err);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_cannot_process_is_parked_replayed_and_dropped() {
    let harness = Harness::start().await;
    let port = Person::new(&harness, &harness.port);
    let file = port.file("events.ndjson", &discharges(8, None).join("\n"));
    assert_eq!(port.runs(&["publish", &file]).await.code, 0);
    let create = ["subscription", "create", "yard", "--from", "earliest", "--delivery", "shared"];
    assert_eq!(port.runs(&create).await.code, 0);
    let consume = ["subscription", "consume", "yard", "--jobs", "4", "--exec"];
    let said = port.runs(&[&consume[..], &["exit 65", "--count", "8"]].concat()).await;
    assert!(said.code == 0 && said.err.matches(": parked").count() == 8, "{}", said.err);
    let list = ["subscription", "dead-letters", "list", "yard", "-o", "jsonl"];
    let letters = lines(&port.runs(&list).await);
    assert_eq!(letters.len(), 8);
    assert!(letters.iter().all(|letter| letter["parked"] == true && letter["attempts"] == 1), "{letters:?}");
    assert_eq!(letters[0]["reason"], "the command ended with exit status 65");

    // Which ones must be said.
    assert_eq!(port.runs(&["subscription", "dead-letters", "drop", "yard"]).await.code, 64);
    let position = letters[0]["position"].as_str().expect("a position");
    // Programs get the node's answer.
    let said = port.runs(&["subscription", "dead-letters", "replay", "yard", position, "--output", "jsonl"]).await;
    assert!(said.code == 0 && said.err.is_empty(), "{}", said.err);
    assert_eq!(lines(&said), [serde_json::json!({ "count": 1 })]);
    let said = port.runs(&["subscription", "dead-letters", "drop", "yard", position]).await;
    assert!(said.code == 0 && said.err.contains("1 dead letters of yard are forgotten"), "{}", said.err);
    // A count of zero is left out, as in all JSON of messages.
    let again = port.runs(&["subscription", "dead-letters", "drop", "yard", position, "--output", "jsonl"]).await;
    assert!(again.code == 0 && again.out == "{}\n" && again.err.is_empty(), "{}{}", again.out, again.err);
    let said = port.runs(&["subscription", "dead-letters", "replay", "yard", "--all"]).await;
    assert!(said.code == 0 && said.err.contains("7 dead letters of yard are delivered again"), "{}", said.err);
    let said = port.runs(&[&consume[..], &["test \"$TRADELANE_REPLAYED\" = 1", "--count", "7"]].concat()).await;
    assert!(said.code == 0 && said.err.contains("7 events settled"), "{}", said.err);
    assert_eq!(lines(&port.runs(&list).await).len(), 0);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_consumer_finishes_and_settles_what_is_in_hand_and_takes_no_more() {
    let harness = Harness::start().await;
    let port = Person::new(&harness, &harness.port);
    let file = port.file("events.ndjson", &discharges(3, None).join("\n"));
    assert_eq!(port.runs(&["publish", &file]).await.code, 0);
    assert_eq!(port.runs(&["subscription", "create", "gate", "--from", "earliest"]).await.code, 0);
    let (begun, go_on) = (port.path("begun"), port.path("go-on"));
    let command = format!("echo >> '{begun}'; until test -e '{go_on}'; do sleep 0.05; done");
    let mut consume = port.command(&["subscription", "consume", "gate", "--exec", &command]);
    let mut running = consume.stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("the program runs");
    timeout(PATIENCE, async {
        while !Path::new(&begun).exists() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the command begins");
    let pid = Pid::from_raw(running.id().expect("it runs").cast_signed()).expect("a process");
    kill_process(pid, Signal::INT).expect("a signal is sent");
    // The command ends only after the program has heard of it.
    let mut said = BufReader::new(running.stderr.take().expect("it is piped")).lines();
    let mut line = async || timeout(PATIENCE, said.next_line()).await.expect("it says so").expect("text");
    while !line().await.expect("it is still there").contains("finishing what is under way") {}
    std::fs::write(&go_on, "").expect("a file");
    while !line().await.expect("it counts at its end").contains("1 events settled") {}
    let ended = timeout(PATIENCE, running.wait()).await.expect("it ends").expect("a status");
    assert_eq!(ended.code(), Some(0));
    assert_eq!(std::fs::read_to_string(&begun).expect("begun").lines().count(), 1, "no other event was begun");

    // The one was settled for good; the others were given back untried.
    let rest = lines(&port.runs(&["subscription", "consume", "gate", "-o", "jsonl", "--until-caught-up"]).await);
    let attempts: Vec<&Value> = rest.iter().map(|delivery| &delivery["deliveryAttempt"]).collect();
    assert_eq!(attempts, [1, 1], "{rest:?}");
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_consumer_at_once_with_all_that_it_started_and_its_event_comes_again() {
    let harness = Harness::start().await;
    let port = Person::new(&harness, &harness.port);
    let file = port.file("events.ndjson", &discharges(1, None).join("\n"));
    assert_eq!(port.runs(&["publish", &file]).await.code, 0);
    assert_eq!(port.runs(&["subscription", "create", "gate", "--from", "earliest"]).await.code, 0);
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        // What the command started holds its standard error, as the command does itself.
        let command = "echo begun >&2; sleep 86400 & wait";
        let mut consume = port.command(&["subscription", "consume", "gate", "--exec", command, "--time-limit", "1h"]);
        let mut running = consume.stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("the program runs");
        let pid = Pid::from_raw(running.id().expect("it runs").cast_signed()).expect("a process");
        let mut said = BufReader::new(running.stderr.take().expect("it is piped")).lines();
        let mut until = async |word: &str| loop {
            let line = timeout(PATIENCE, said.next_line()).await.expect("it says so").expect("text");
            match line {
                Some(line) if line.contains(word) => return true,
                Some(_) => {}
                None => return false,
            }
        };
        assert!(until("begun").await);
        kill_process(pid, signal).expect("a signal is sent");
        assert!(until("finishing what is under way").await, "the first lets the command finish");
        kill_process(pid, signal).expect("a signal is sent");
        let ended = timeout(PATIENCE, running.wait()).await.expect("it ends").expect("a status");
        assert_eq!(ended.code(), Some(code));
        assert!(!until("events settled").await, "nothing more is said, and nobody is left who could");
    }
    let rest = lines(&port.runs(&["subscription", "consume", "gate", "-o", "jsonl", "--until-caught-up"]).await);
    assert_eq!(rest.len(), 1, "{rest:?}");
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_consumer_whose_output_nobody_reads() {
    let harness = Harness::start().await;
    let port = Person::new(&harness, &harness.port);
    // Many times what a pipe holds.
    let file = port.file("events.ndjson", &vec![discharges(59, None).join("\n"); 17].join("\n"));
    assert_eq!(port.runs(&["publish", &file]).await.code, 0);
    assert_eq!(port.runs(&["subscription", "create", "gate", "--from", "earliest"]).await.code, 0);
    let mut consume = port.command(&["subscription", "consume", "gate", "-o", "jsonl"]);
    let (_nobody_reads, output) = std::io::pipe().expect("a pipe");
    consume.stdout(output.try_clone().expect("another end")).stderr(Stdio::piped()).kill_on_drop(true);
    let mut running = consume.spawn().expect("the program runs");
    let pid = Pid::from_raw(running.id().expect("it runs").cast_signed()).expect("a process");
    let takes_more = || {
        let mut polled = [PollFd::new(&output, PollFlags::OUT)];
        poll(&mut polled, Some(&Timespec::default())).expect("a pipe") > 0
    };
    timeout(PATIENCE, async {
        while takes_more() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("it writes until the pipe is full");
    let mut said = BufReader::new(running.stderr.take().expect("it is piped")).lines();
    kill_process(pid, Signal::INT).expect("a signal is sent");
    let line = timeout(PATIENCE, said.next_line()).await.expect("it says so").expect("text").expect("a line");
    assert!(line.contains("finishing what is under way"), "{line}");
    kill_process(pid, Signal::INT).expect("a signal is sent");
    let ended = timeout(PATIENCE, running.wait()).await.expect("it ends though nobody reads").expect("a status");
    assert_eq!(ended.code(), Some(130));
    harness.stop().await;
}
