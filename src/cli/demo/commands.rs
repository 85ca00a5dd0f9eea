//! The commands that the demonstration prints, ready to be pasted: this program's and grpcurl's. It never prints one that needs anything
//! but a shell, and grpcurl for its own.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    customs::SUBSCRIPTION,
    scenario::{FREE_CONTAINERS, HELD_CONTAINER, HELD_DECLARATION, Step},
    setup::{Member, Setup, TERMINAL},
};
use crate::cli::{connect::NodeAddress, json};

/// One command with what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrintedCommand {
    /// What it does.
    pub purpose: &'static str,
    /// The command for a POSIX shell.
    pub line: String,
}

/// This program's commands. `program` is how it was called.
#[must_use]
pub fn of_this_program(program: &Path, setup: &Setup) -> Vec<PrintedCommand> {
    let held = format!("container:{HELD_CONTAINER}");
    let declaration = format!("declaration:{HELD_DECLARATION}@PK");
    let command = |purpose, member: &str, words: &[&str]| {
        let profile = setup.member(member).profile_file.to_string_lossy().into_owned();
        let program = program.to_string_lossy().into_owned();
        let mut all = vec![program.as_str()];
        all.extend(words);
        all.extend(["-p", profile.as_str()]);
        PrintedCommand { purpose, line: shell_line(&all) }
    };
    vec![
        command("What is known of the held container", "customs", &["events", "timeline", &held]),
        command("May it leave? Who held it, who released it, when", "terminal", &["clearance", "get", &held]),
        command("What is released", "customs", &["clearance", "list", "--state", "released"]),
        command(
            "How that came about, change by change",
            "terminal",
            &["clearance", "watch", "--from", "earliest", "--until-caught-up"],
        ),
        command(
            "The newest events about holds and inspections",
            "customs",
            &["events", "list", "--type", "hold", "--type", "inspection"],
        ),
        command(
            "The broker sees the consignments in which she is named",
            "broker",
            &["events", "timeline", &declaration],
        ),
        command(
            "Everything from the beginning, as JSON",
            "customs",
            &["subscribe", "--from", "earliest", "--until-caught-up", "-o", "jsonl"],
        ),
        command("Live, from now on (Ctrl-C ends it)", "customs", &["subscribe"]),
        command("How far customs' durable subscription is", "customs", &["subscription", "show", SUBSCRIPTION]),
        command(
            "A durable subscription of one's own",
            "customs",
            &["subscription", "create", "mine", "--from", "earliest"],
        ),
        command(
            "Run a command for each of its events: its exit status acknowledges or rejects (again: the next three)",
            "customs",
            &["subscription", "consume", "mine", "--count", "3", "--exec", "echo \"$TRADELANE_EVENT_TYPE\""],
        ),
        command("The node as its operator sees it", "operator", &["node", "show"]),
        command("May the terminal publish? Which grant says so?", "operator", &["check-access", TERMINAL, "publish"]),
    ]
}

/// The same node for grpcurl, which needs nothing but the certificates: reflection tells it the API.
#[must_use]
pub fn of_grpcurl(setup: &Setup, address: &NodeAddress, last: &Step) -> Vec<PrintedCommand> {
    let container =
        json!({ "subject": { "kind": "IDENTIFIER_KIND_CONTAINER", "value": FREE_CONTAINERS[0] } }).to_string();
    let publish = json!({ "events": [{ "event": example_event(last) }] }).to_string();
    let (customs, terminal) = (setup.member("customs"), setup.member("terminal"));
    let operator = setup.member("operator");
    let command = |purpose, member: &Member, data: Option<&str>, words: &[&str]| {
        let files = [&setup.ca_file, &member.certificate_file, &member.key_file]
            .map(|file| file.to_string_lossy().into_owned());
        let address = address.to_string();
        let mut all = vec!["grpcurl", "-cacert", &files[0], "-cert", &files[1], "-key", &files[2]];
        all.extend(data.iter().flat_map(|data| ["-d", data]));
        all.push(&address);
        all.extend(words);
        PrintedCommand { purpose, line: shell_line(&all) }
    };
    let list = r#"{"filters": [{"types": ["hold"]}], "pageSize": 5}"#;
    let earliest = r#"{"startAt": "START_AT_EARLIEST"}"#;
    vec![
        command("Which services there are", customs, None, &["list"]),
        command("What a call is and takes", customs, None, &["describe", "tradelane.v1.EventService.Publish"]),
        command("The node", operator, None, &["tradelane.v1.NodeService/GetNode"]),
        command("The newest holds", customs, Some(list), &["tradelane.v1.EventService/ListEvents"]),
        command("One container's timeline", customs, Some(&container), &["tradelane.v1.EventService/GetTimeline"]),
        command("May it leave?", terminal, Some(&container), &["tradelane.v1.ClearanceService/GetClearance"]),
        command(
            "Publish as the terminal; paste it twice, and the second answer says duplicate",
            terminal,
            Some(&publish),
            &["tradelane.v1.EventService/Publish"],
        ),
        command(
            "Follow from the beginning (Ctrl-C ends it)",
            customs,
            Some(earliest),
            &["tradelane.v1.EventService/Subscribe"],
        ),
    ]
}

/// An event of the terminal's that is not stored yet: the scenario's last again, under an id of its own.
fn example_event(last: &Step) -> Value {
    let mut event = last.event.clone();
    event.event_id = uuid::Uuid::now_v7().to_string();
    json::from_message("Event", &event)
}

/// Words as a POSIX shell reads them back.
pub(super) fn shell_line(words: &[&str]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-:=@,+%".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_words_back() {
        let words = ["plain/path.pem", "a b", "", "it's", r#"{"a": ["$x"]}"#, "spiffe://a/b"];
        let line = format!("printf '%s\\n' {}", shell_line(&words));
        let output = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().lines().collect::<Vec<_>>(), words);
    }
}
