//! Every command of the program, for programs: against a running demonstration each answers in JSON documents and nothing else, one a line
//! where that is asked for, and ends with an exit code that says what happened. It walks the command tree, so that no command is
//! forgotten.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use clap::{ArgMatches, CommandFactory};
use serde_json::{Deserializer, Value};
use tradelane::{cli::Cli, testing::events::container_number};

use crate::{cli::discharges, demo::stays_up};

/// Commands that answer with something else than documents: a log, a play, a script, pages, a settings file.
const NO_DOCUMENTS: [&str; 5] = ["serve", "demo", "completions", "man", "config example"];
/// Its documents are read where it is run.
const ELSEWHERE: [&str; 1] = ["bench"];

const HELD: &str = "container:CSQU3054383";
const NEIGHBOUR: &str = "spiffe://exchange.cl/node/vlp-1";
const TERMINAL: &str = "spiffe://port.karachi.pk/terminal/kict";

/// The leaves of the command tree.
fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
    for one in command.get_subcommands().filter(|one| one.get_name() != "help") {
        let path = format!("{path} {}", one.get_name()).trim().to_owned();
        if one.has_subcommands() {
            leaves(one, &path, found);
        } else {
            found.push((path, one.clone()));
        }
    }
}

fn all_leaves() -> Vec<(String, clap::Command)> {
    let mut tree = Cli::command();
    tree.build();
    let mut found = Vec::new();
    leaves(&tree, "", &mut found);
    found
}

/// Which leaf a call runs.
fn leaf_of(words: &[String]) -> Result<String, clap::Error> {
    let matches = Cli::command().try_get_matches_from(words)?;
    let mut path = Vec::new();
    let mut at: Option<(&str, &ArgMatches)> = matches.subcommand();
    while let Some((name, inner)) = at {
        path.push(name);
        at = inner.subcommand();
    }
    Ok(path.join(" "))
}

/// Somebody who runs one command after the other, and what she has run.
struct Script {
    demo: PathBuf,
    ran: BTreeSet<String>,
}

impl Script {
    fn run(&self, words: &[&str], who: Option<&str>) -> (Vec<String>, std::process::Output) {
        let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        if let Some(who) = who {
            words.extend(["-p".to_owned(), self.file(&format!("{who}.toml"))]);
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_tradelane"));
        let output = command.args(&words).env_clear().env("PATH", "/usr/bin:/bin").output().expect("the program runs");
        words.insert(0, "tradelane".to_owned());
        (words, output)
    }

    /// The documents that a command answers with, the same in both forms where it may be run twice.
    fn says(&mut self, who: Option<&str>, words: &[&str], code: i32) -> Vec<Value> {
        let (call, output) = self.run(&[words, &["-o", "json"]].concat(), who);
        self.ran.insert(leaf_of(&call).expect("a good call"));
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let documents: Result<Vec<Value>, _> = Deserializer::from_str(&out).into_iter().collect();
        assert_eq!(output.status.code(), Some(code), "{call:?}: {out}{err}");
        documents.unwrap_or_else(|error| panic!("{call:?} answers with something else than JSON: {error}: {out}"))
    }

    /// As [`Script::says`] for a command that changes nothing: as many documents, each on a line of its own.
    fn shows(&mut self, who: Option<&str>, words: &[&str]) -> Vec<Value> {
        let documents = self.says(who, words, 0);
        assert!(!documents.is_empty(), "{words:?} answers with nothing");
        let (call, output) = self.run(&[words, &["-o", "jsonl"]].concat(), who);
        let out = String::from_utf8_lossy(&output.stdout);
        let lines = out.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok_and(|one| one.is_object()));
        let lines = lines.count();
        assert!(0 < lines && lines == out.lines().count(), "{call:?} writes other lines than documents: {out}");
        documents
    }

    /// One document after something was done.
    fn does(&mut self, who: &str, words: &[&str]) -> Value {
        let documents = self.says(Some(who), words, 0);
        assert_eq!(documents.len(), 1, "{words:?} answers with one document: {documents:?}");
        documents.into_iter().next().expect("one")
    }

    fn file(&self, name: &str) -> String {
        text(&self.demo.join(name))
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path of ASCII").to_owned()
}

#[test]
fn every_command_answers_programs_in_json_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let demo = folder.path().join("karachi");
    let running = stays_up(&text(&demo));
    let mut script = Script { demo, ran: BTreeSet::new() };
    events(&mut script, folder.path());
    subscriptions(&mut script);
    operators(&mut script, folder.path());
    without_a_node(&mut script, folder.path());
    // At the end, since afterwards the neighbour is no peer any more.
    let karachi = script.file("node.toml");
    let promote = ["promote", NEIGHBOUR, "--config", &karachi];
    script.says(Some("operator"), &promote, 1);
    script.does("operator", &["peers", "pause", NEIGHBOUR]);
    script.does("operator", &promote);
    drop(running);

    let exempt: Vec<&str> = NO_DOCUMENTS.into_iter().chain(ELSEWHERE).collect();
    let leaves: BTreeSet<String> = all_leaves().into_iter().map(|(path, _)| path).collect();
    let forgotten: Vec<&String> = leaves.iter().filter(|path| !exempt.contains(&path.as_str())).collect();
    let forgotten: Vec<&&String> = forgotten.iter().filter(|path| !script.ran.contains(**path)).collect();
    assert!(forgotten.is_empty(), "commands without a case here: {forgotten:?}");
    assert!(exempt.iter().all(|path| leaves.contains(*path)), "a command that is no more");
}

fn events(script: &mut Script, folder: &Path) {
    let (terminal, customs, operator) = (Some("terminal"), Some("customs"), Some("operator"));
    let file = text(&folder.join("events.ndjson"));
    std::fs::write(&file, discharges(3, None).join("\n").replace("CLVAP", "PKKHI")).expect("a file");
    let stored = script.shows(terminal, &["publish", "--derive-ids", &file]);
    let id = stored[0]["eventId"].as_str().expect("an id").to_owned();
    std::fs::write(&file, discharges(3, Some(2)).join("\n").replace("CLVAP", "PKKHI")).expect("a file");
    let refused = script.says(terminal, &["publish", "--derive-ids", &file], 65);
    assert_eq!((stored.len(), refused.len()), (3, 3));
    script.shows(customs, &["subscribe", "--from", "earliest", "--until-caught-up"]);
    script.shows(customs, &["events", "get", &id, "--publisher", TERMINAL]);
    script.says(customs, &["events", "get", "0198c5a2-7b1e-7c3d-9f00-5a1b2c3d4e5f"], 1);
    script.shows(customs, &["events", "list", "--subject", &container_number(1)]);
    script.shows(customs, &["events", "timeline", HELD]);
    script.shows(customs, &["events", "port-call", "vessel_imo:9321483", "--locode", "PKKHI"]);
    script.shows(operator, &["events", "explain", &id, "--publisher", TERMINAL]);
    script.shows(terminal, &["clearance", "get", HELD]);
    script.shows(customs, &["clearance", "list"]);
    script.shows(terminal, &["clearance", "watch", "--from", "earliest", "--until-caught-up"]);
}

fn subscriptions(script: &mut Script) {
    let who = Some("customs");
    let create =
        ["subscription", "create", "mine", "--from", "earliest", "--delivery", "shared", "--attempts-max", "1"];
    script.does("customs", &create);
    script.shows(who, &["subscription", "list"]);
    script.shows(who, &["subscription", "show", "mine"]);
    script.does("customs", &["subscription", "update", "mine", "--lease", "2m"]);
    script.does("customs", &["subscription", "pause", "mine"]);
    script.does("customs", &["subscription", "resume", "mine"]);
    // One is taken, and one is not: it is a dead letter at once.
    assert_eq!(script.says(who, &["subscription", "consume", "mine", "--count", "1"], 0).len(), 1);
    script.says(who, &["subscription", "consume", "mine", "--count", "1", "--exec", "false"], 0);
    script.shows(who, &["subscription", "dead-letters", "list", "mine"]);
    script.does("customs", &["subscription", "dead-letters", "replay", "mine", "--all"]);
    script.does("customs", &["subscription", "dead-letters", "drop", "mine", "--all"]);
    script.does("customs", &["subscription", "seek", "mine", "--to", "earliest"]);
    script.does("customs", &["subscription", "delete", "mine"]);
    script.says(who, &["subscription", "show", "mine"], 1);
}

fn operators(script: &mut Script, folder: &Path) {
    let who = Some("operator");
    for shown in ["show", "connections", "participants", "grants", "denials", "trust"] {
        script.shows(who, &["node", shown]);
    }
    script.does("operator", &["node", "reload"]);
    script.shows(who, &["peers", "list"]);
    script.shows(who, &["peers", "show", NEIGHBOUR]);
    script.shows(who, &["peers", "quarantine", NEIGHBOUR]);
    script.does("operator", &["peers", "pause", NEIGHBOUR]);
    script.does("operator", &["peers", "resume", NEIGHBOUR]);
    script.shows(who, &["check-access", TERMINAL, "publish"]);
    script.says(who, &["check-access", TERMINAL, "operate"], 77);
    script.says(Some("customs"), &["node", "show"], 77);
    let beyond = script.says(who, &["log", "verify", "--from-sequence", "999999"], 65);
    assert!(beyond.is_empty(), "of a log of which nothing is read nothing is said: {beyond:?}");
    // They tell how far they are, and last that they are done.
    for long in [&["log", "verify"][..], &["views", "rebuild", "search"]] {
        let told = script.shows(who, long);
        assert_eq!(told.last().expect("at least one")["done"], true, "{told:?}");
    }
    script.shows(who, &["doctor"]);
    let backup = text(&folder.join("karachi.backup"));
    script.does("operator", &["backup", &backup]);
    let (config, data) = (script.file("node.toml"), format!("node.data_dir={}", text(&folder.join("restored"))));
    let restore = ["restore", &backup, "--config", &config, "--set", &data];
    assert_eq!(script.says(None, &restore, 0).len(), 1);
    script.says(None, &restore, 64);
}

fn without_a_node(script: &mut Script, folder: &Path) {
    let config = script.file("node.toml");
    script.shows(None, &["config", "check", "--settings-only", "--config", &config]);
    script.shows(None, &["config", "show", "--config", &config]);
    let directory = text(&folder.join("pki"));
    let name = "spiffe://customs.example/agency/one";
    for words in [["init", "customs.example"], ["issue", name], ["revoke", name], ["crl", "customs.example"]] {
        assert_eq!(script.says(None, &[&["pki"], &words[..], &["--dir", &directory]].concat(), 0).len(), 1);
    }
    script.says(None, &["pki", "issue", "spiffe://other.example/agency/one", "--dir", &directory], 64);
}

/// Wrong words, and a node that is not there: whichever command it is, it says so by its exit code, and writes nothing where documents are
/// awaited.
#[test]
fn every_command_says_by_its_exit_code_that_the_words_are_wrong_or_no_node_is_there() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = Script { demo: folder.path().to_owned(), ran: BTreeSet::new() };
    let pki = script.file("pki");
    for words in [["init", "customs.gov.pk"], ["issue", "spiffe://customs.gov.pk/agency/karachi"]] {
        assert!(script.run(&[&["pki"], &words[..], &["--dir", &pki]].concat(), None).1.status.success());
    }
    let (pki, file) = (format!("{pki}/customs.gov.pk"), script.file("discharge.ndjson"));
    std::fs::write(&file, &discharges(1, None)[0]).expect("a file");
    let profile = format!(
        "address = '127.0.0.1:1'\ncert = '{pki}/agency-karachi.pem'\nkey = '{pki}/agency-karachi.key'\nca = '{pki}/ca.pem'\n"
    );
    std::fs::write(script.file("nobody.toml"), profile).expect("a profile");
    for (path, leaf) in all_leaves() {
        let words: Vec<&str> = path.split(' ').collect();
        let (call, output) = script.run(&[&words[..], &["--no-such-flag"]].concat(), None);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(64), 0), "{call:?}");
        assert!(!output.stderr.is_empty(), "{call:?} says nothing");
        let has = |id: &str| leaf.get_arguments().any(|argument| argument.get_id() == id);
        assert_eq!(has("output"), !NO_DOCUMENTS.contains(&path.as_str()), "whether {path} answers programs");
        // A promotion looks at the node's own files first; doctor's document says what it has found.
        if !has("address") || path == "promote" || path == "doctor" {
            continue;
        }
        let given = given(&path).replace("FILE", &file).replace("COPY", &script.file("copy"));
        let mut words: Vec<&str> = words.into_iter().chain(given.split_whitespace()).chain(["-o", "json"]).collect();
        if has("retry_for") {
            words.extend(["--retry-for", "0"]);
        }
        let (call, output) = script.run(&words, Some("nobody"));
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!((output.status.code(), &*out), (Some(69), ""), "{call:?}: {err}");
        assert!(err.contains("nothing listens there"), "{call:?}: {err}");
    }
}

/// What a command that calls a node must be given besides its name.
fn given(path: &str) -> &'static str {
    match path {
        "publish" => "FILE",
        "backup" => "COPY",
        "check-access" => "spiffe://customs.gov.pk/agency/karachi read",
        "views rebuild" => "search",
        "subscription seek" => "gate --to earliest",
        "subscription dead-letters replay" | "subscription dead-letters drop" => "gate --all",
        "subscription list" => "",
        _ if path.starts_with("subscription ") => "gate",
        "events get" | "events explain" => "0198c5a2-7b1e-7c3d-9f00-5a1b2c3d4e5f",
        "events timeline" | "events port-call" | "clearance get" => HELD,
        "peers list" => "",
        _ if path.starts_with("peers ") => NEIGHBOUR,
        _ => "",
    }
}

/// None is not what anybody asks for, and "nothing matches" would be the answer.
#[test]
fn no_command_takes_a_count_or_a_time_of_nothing() {
    let mut tried = 0;
    for (path, leaf) in all_leaves() {
        for argument in leaf.get_arguments() {
            let names = argument.get_value_names().unwrap_or_default();
            let counts = names.iter().any(|name| ["COUNT", "SECONDS", "DAYS"].contains(&name.as_str()));
            // Not to try again is something to ask for.
            let Some(flag) = argument.get_long().filter(|flag| counts && *flag != "retry-for") else { continue };
            let words = path.split(' ').chain(given(&path).split_whitespace());
            let call: Vec<String> = std::iter::once("tradelane").chain(words).map(str::to_owned).collect();
            let refused = leaf_of(&[call, vec![format!("--{flag}"), "0".to_owned()]].concat());
            let refused = refused.expect_err(&format!("{path} --{flag} 0")).to_string();
            assert!(refused.contains("0 is not in"), "{path} --{flag} 0: {refused}");
            tried += 1;
        }
    }
    assert!(20 < tried, "{tried}");
}

/// What the help shows can be typed.
#[test]
fn every_example_of_the_help_is_a_call_that_the_program_takes() {
    let mut examples = 0;
    for (path, leaf) in all_leaves() {
        let help = leaf.get_after_help().map(ToString::to_string).unwrap_or_default();
        let of_own = help
            .replace("\\\n", " ")
            .lines()
            .filter(|line| line.starts_with("  "))
            .flat_map(calls)
            .map(|call| {
                let leaf = leaf_of(&call).unwrap_or_else(|error| panic!("an example of {path}: {call:?}: {error}"));
                examples += 1;
                leaf
            })
            .filter(|leaf| *leaf == path)
            .count();
        assert!(0 < of_own, "{path} has no example of its own in its help");
    }
    assert!(100 < examples, "{examples}");
}

/// The calls of this program in a line of a shell.
fn calls(line: &str) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    for part in line.split(" | ") {
        let part = part.split(" > ").next().unwrap_or(part).split(" >> ").next().unwrap_or(part);
        let Some(at) = part.find("tradelane ") else { continue };
        let mut words = Vec::new();
        for (number, quoted) in part[at..].split('\'').enumerate() {
            if number % 2 == 1 {
                words.push(quoted.to_owned());
            } else {
                words.extend(quoted.split_whitespace().map(str::to_owned));
            }
        }
        calls.push(words);
    }
    calls
}
