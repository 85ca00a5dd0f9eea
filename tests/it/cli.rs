//! The program's client commands as a person or a script runs them: the built binary against a whole node.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tradelane::{
    identity::dev_pki::Issued,
    testing::{
        events::container_number,
        pki::{CUSTOMS, NODE, TERMINAL},
    },
};

use crate::harness::{Harness, PATIENCE};

/// Somebody at a shell of her own.
pub struct Person {
    folder: TempDir,
    profile: PathBuf,
}

/// What a command left.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Person {
    pub fn new(harness: &Harness, who: &Issued) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let profile = folder.path().join("profile.toml");
        let person = Self { folder, profile };
        person.moved_to(harness, who);
        person
    }

    /// Writes her profile for the node where it listens now.
    fn moved_to(&self, harness: &Harness, who: &Issued) {
        let text = format!(
            "address = \"{}\"\ncert = '{}'\nkey = '{}'\nca = '{}'\nserver_id = \"{NODE}\"\n",
            harness.node.address,
            who.certificate_file.display(),
            who.key_file.display(),
            harness.world.node_bundle().display()
        );
        fs::write(&self.profile, text).expect("a profile");
    }

    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("a file");
        path
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("a path of ASCII").to_owned()
    }

    pub async fn runs(&self, words: &[&str]) -> Said {
        said(&mut self.command(words)).await
    }

    /// The program as she runs it, to be started.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = program(words);
        command.arg("--profile").arg(&self.profile);
        command
    }
}

/// The program with nothing of this process's environment.
fn program(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tradelane"));
    command.args(words).env_clear();
    command
}

async fn run(words: &[&str]) -> Said {
    said(&mut program(words)).await
}

async fn said(command: &mut Command) -> Said {
    let output: Output = command.output().await.expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program writes UTF-8");
    Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// One discharge a line, each of another container; `wrong` breaks a check digit.
pub fn discharges(count: u32, wrong: Option<u32>) -> Vec<String> {
    let line = |n: u32| {
        let mut container = container_number(n);
        if wrong == Some(n) {
            let digit = container.pop().and_then(|digit| digit.to_digit(10)).expect("a digit");
            container.push(char::from_digit((digit + 1) % 10, 10).expect("a digit"));
        }
        format!(
            r#"{{"eventTime": "2026-01-01T00:{n:02}:00Z", "classifier": "CLASSIFIER_ACTUAL", "subjects": [{{"kind":
            "IDENTIFIER_KIND_CONTAINER", "value": "{container}"}}], "places": [{{"role": "PLACE_ROLE_EVENT", "unLocode": "CLVAP"}}],
            "audience": {{"reach": "REACH_NETWORK"}}, "handling": {{"step": "HANDLING_STEP_DISCHARGED"}}}}"#
        )
        .replace('\n', " ")
    };
    (1..=count).map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_published_once_however_often_it_is_run() {
    let harness = Harness::start().await;
    let port = Person::new(&harness, &harness.port);
    let mut lines = discharges(9, Some(3));
    lines[4] = r#"{"eventTime": "2026-01-01T00:00:00Z", "#.to_owned();
    let file = port.file("events.ndjson", &lines.join("\n"));
    for (stored, duplicate) in [(7, 0), (0, 7)] {
        let said = port.runs(&["publish", "--derive-ids", "--batch", "2", &file]).await;
        assert_eq!(said.code, 65, "{}", said.err);
        assert!(said.err.contains(&format!("done: {stored} stored, {duplicate} duplicate, 2 refused")), "{}", said.err);
        assert!(
            said.err.contains("line 3: refused") && said.err.contains("subjects[0].value: check digit"),
            "{}",
            said.err
        );
        assert!(
            said.err.contains("line 5, column ") && said.err.contains("the text ends before the event does"),
            "{}",
            said.err
        );
    }
    let said = port.runs(&["publish", "--derive-ids", "--output", "jsonl", &file]).await;
    let results: Vec<Value> =
        said.out.lines().map(|line| serde_json::from_str(line).expect("a result a line")).collect();
    assert_eq!(results.len(), 9, "{}", said.out);
    assert!(results.iter().filter(|result| result["duplicate"] == true).count() == 7, "{}", said.out);
    let dry = port.runs(&["publish", "--dry-run", &file]).await;
    assert!(dry.code == 65 && dry.err.contains("events that keep the rules: 7, that do not: 2"), "{}", dry.err);
    assert_eq!(dry.out, "");
    // Machines are told of each event, and of broken rules as the node words them.
    let dry = port.runs(&["publish", "--derive-ids", "--dry-run", "--output", "jsonl", &file]).await;
    let checked: Vec<Value> =
        dry.out.lines().map(|line| serde_json::from_str(line).expect("a result a line")).collect();
    assert_eq!((dry.code, checked.len()), (65, 9), "{}", dry.out);
    let good = |one: &&Value| one["keepsRules"] == true && one["error"].is_null();
    assert_eq!(checked.iter().filter(good).count(), 7, "{}", dry.out);
    let of_line = |all: &[Value], line: u64| all.iter().find(|one| one["line"] == line).expect("of each line").clone();
    let (here, there) = (of_line(&checked, 3), of_line(&results, 3));
    assert_eq!(here["eventId"], there["eventId"]);
    let violation = |of: &Value| {
        let details = of["error"]["details"].as_array().expect("details").clone();
        let bad = details.into_iter().find(|one| one["fieldViolations"].is_array()).expect("a BadRequest");
        bad["fieldViolations"][0].clone()
    };
    assert_eq!(here["error"]["code"], there["error"]["code"]);
    assert_eq!(violation(&here)["field"], "subjects[0].value");
    for said in ["description", "reason"] {
        assert_eq!(violation(&here)[said], violation(&there)[said]);
    }
    assert!(of_line(&checked, 5)["error"]["column"].is_u64(), "{}", dry.out);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_with_a_cursor_goes_on_across_a_restart_without_gap_or_repeat() {
    let harness = Harness::start().await;
    let (port, customs) = (Person::new(&harness, &harness.port), Person::new(&harness, &harness.customs));
    let published = port.runs(&["publish", &port.file("events.ndjson", &discharges(9, None).join("\n"))]).await;
    assert_eq!(published.code, 0, "{}", published.err);
    let cursor = customs.path("cursor");
    let reads = ["subscribe", "--from", "earliest", "--output", "jsonl", "--cursor-file", &cursor];
    let first = customs.runs(&[&reads[..], &["--count", "5"]].concat()).await;
    assert_eq!((first.code, first.out.lines().count()), (0, 5), "{}", first.err);
    let harness = Box::pin(harness.stop().await.start_again()).await;
    customs.moved_to(&harness, &harness.customs);
    let second = customs.runs(&[&reads[..], &["--until-caught-up"]].concat()).await;
    assert_eq!(second.code, 0, "{}", second.err);
    let containers: Vec<String> = first.out.lines().chain(second.out.lines()).map(container_of).collect();
    assert_eq!(containers, (1..=9).map(container_number).collect::<Vec<_>>());
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_to_reach_a_node_may_come_from_the_environment_too() {
    let harness = Harness::start().await;
    let (port, customs) = (Person::new(&harness, &harness.port), Person::new(&harness, &harness.customs));
    let path = |path: &Path| path.to_str().expect("a path of ASCII").to_owned();
    let variables = [
        ("TRADELANE_ADDRESS", harness.node.address.to_string()),
        ("TRADELANE_CERT", path(&harness.customs.certificate_file)),
        ("TRADELANE_KEY", path(&harness.customs.key_file)),
        ("TRADELANE_CA", path(&harness.world.node_bundle())),
        ("TRADELANE_SERVER_ID", NODE.to_owned()),
        ("TRADELANE_OUTPUT", "json".to_owned()),
    ];
    let asked = ["check-access", TERMINAL, "publish"];
    let with = async |command: &mut Command| said(command.envs(variables.iter().cloned())).await;
    // Alone they are enough; what they say of the output is heard too.
    let published = with(&mut program(&["publish", &customs.file("one.ndjson", &discharges(1, None)[0])])).await;
    assert_eq!(published.code, 0, "{}", published.err);
    let result: Value = serde_json::from_str(&published.out).expect("JSON, as the environment says");
    assert_eq!(result["duplicate"], false);
    // They go before a profile, and flags before them: customs may not ask this, the operator may, and neither may the port.
    let refused = with(&mut port.command(&asked)).await;
    assert!(refused.code == 77 && refused.err.contains("operate"), "{} {}", refused.code, refused.err);
    let operator = ["--cert", &path(&harness.operator.certificate_file), "--key", &path(&harness.operator.key_file)];
    let allowed = with(&mut customs.command(&[&asked[..], &operator[..]].concat())).await;
    assert_eq!(allowed.code, 0, "{}", allowed.err);
    let missing = said(program(&["events", "list"]).env("TRADELANE_ADDRESS", "127.0.0.1:1")).await;
    assert_eq!(missing.code, 78, "{}", missing.err);
    harness.stop().await;
}

fn container_of(line: &str) -> String {
    let event: Value = serde_json::from_str(line).expect("an event a line");
    event["signed"]["event"]["subjects"][0]["value"].as_str().expect("a readable event").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_found_and_shown() {
    let harness = Harness::start().await;
    let (port, customs) = (Person::new(&harness, &harness.port), Person::new(&harness, &harness.customs));
    port.runs(&["publish", &port.file("events.json", &format!("[{}]", discharges(3, None).join(",\n")))]).await;
    let container = container_number(2);

    // Who published reads her own writes at once; another's view may be a moment behind.
    let asked = ["events", "list", "--type", "handling.discharged", "--country", "CL", "-n", "2"];
    let deadline = std::time::Instant::now() + PATIENCE;
    let list = loop {
        let list = customs.runs(&asked).await;
        if list.out.contains(&container_number(3)) || std::time::Instant::now() > deadline {
            break list;
        }
    };
    assert_eq!(list.out.lines().count(), 3, "{} {}", list.out, list.err);
    assert!(list.out.starts_with("TIME") && list.out.contains(&container_number(3)), "{}", list.out);

    let timeline = customs.runs(&["events", "timeline", &format!("container:{container}"), "-o", "json"]).await;
    let timeline: Value = serde_json::from_str(&timeline.out).expect("one JSON document");
    let found = &timeline["entries"][0]["event"]["signed"]["event"];
    assert_eq!(found["subjects"][0]["value"], container.as_str());
    let id = found["eventId"].as_str().expect("an id");

    // Two containers of one bill: what happens to one of them stands in the timeline of the other only where it names the bill.
    let bill = r#"{"kind": "IDENTIFIER_KIND_BILL_OF_LADING", "value": "BL1", "issuer": "OCEU"}"#;
    let tied = |n: u32| format!(r#"{{"kind": "IDENTIFIER_KIND_CONTAINER", "value": "{}"}}"#, container_number(n));
    let event = |subjects: &str, rest: &str| {
        format!(
            r#"{{"eventTime": "2026-01-02T00:00:00Z", "classifier": "CLASSIFIER_ACTUAL", "subjects": [{subjects}],
            "audience": {{"reach": "REACH_NETWORK"}}, {rest}}}"#
        )
    };
    let children = format!("{}, {}", tied(1), tied(2));
    let attached = format!(
        r#""association": {{"step": "ASSOCIATION_STEP_ATTACHED", "parent": {bill}, "children": [{children}]}}"#
    );
    let left = r#""places": [{"role": "PLACE_ROLE_EVENT", "unLocode": "CLVAP"}], "handling": {"step": "HANDLING_STEP_GATED_OUT"}"#;
    let told = [event(&format!("{bill}, {children}"), &attached), event(&format!("{}, {bill}", tied(1)), left)];
    let published = port.runs(&["publish", &port.file("tied.json", &told.join("\n"))]).await;
    assert_eq!(published.code, 0, "{}", published.err);
    let shown = port.runs(&["events", "timeline", &format!("container:{container}")]).await;
    let left = format!("container {} +1 (by bill of lading OCEU:BL1)", container_number(1));
    assert!(shown.code == 0 && shown.out.contains(&left), "{left:?} is not in: {} {}", shown.out, shown.err);
    let shown = port.runs(&["events", "timeline", "bill_of_lading:BL1@OCEU"]).await;
    let discharged = format!("container {container} (associated)");
    assert!(shown.out.contains(&discharged), "{discharged:?} is not in: {} {}", shown.out, shown.err);

    let get = customs.runs(&["events", "get", id, "--publisher", TERMINAL]).await;
    assert!(
        get.code == 0 && get.out.contains("HANDLING_STEP_DISCHARGED") && get.out.contains("position"),
        "{}",
        get.out
    );
    let explained = port.runs(&["events", "explain", id]).await;
    assert!(explained.code == 0 && explained.out.contains("VIEW"), "{} {}", explained.out, explained.err);
    // A discharge names the container and is no part of its clearance.
    let goods = explained.out.lines().skip_while(|line| !line.contains("PART IN THEIR CLEARANCE")).nth(1);
    let goods = goods.unwrap_or_else(|| panic!("no clearances in {}", explained.out));
    assert!(goods.contains(&container) && goods.contains("none"), "{goods}");

    let unknown = customs.runs(&["events", "get", "0198c5a2-7b1e-7c3d-9f00-5a1b2c3d4e5f"]).await;
    assert!(unknown.code == 1 && unknown.err.contains("NOT_FOUND"), "{} {}", unknown.code, unknown.err);
    let kindless = customs.runs(&["events", "timeline", &container]).await;
    assert!(kindless.code == 64 && kindless.err.contains("such as container:"), "{}", kindless.err);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_looks_checks_and_copies() {
    let harness = Harness::start().await;
    let (port, operator) = (Person::new(&harness, &harness.port), Person::new(&harness, &harness.operator));
    port.runs(&["publish", &port.file("events.ndjson", &discharges(4, None).join("\n"))]).await;

    let shown = operator.runs(&["node", "show"]).await;
    assert!(shown.code == 0 && shown.out.contains(NODE) && shown.out.contains("epoch"), "{} {}", shown.out, shown.err);
    for list in ["connections", "participants", "grants", "denials", "trust"] {
        let said = operator.runs(&["node", list]).await;
        assert_eq!(said.code, 0, "{list}: {}", said.err);
    }
    let reloaded = operator.runs(&["node", "reload", "-o", "json"]).await;
    assert!(serde_json::from_str::<Value>(&reloaded.out).is_ok(), "{} {}", reloaded.out, reloaded.err);
    let allowed = operator.runs(&["check-access", TERMINAL, "publish"]).await;
    assert!(allowed.code == 0 && allowed.out.starts_with("allowed by port"), "{} {}", allowed.out, allowed.err);
    let refused = operator.runs(&["check-access", CUSTOMS, "operate"]).await;
    assert!(refused.code == 77 && refused.out.starts_with("not allowed"), "{} {}", refused.out, refused.err);
    let verified = operator.runs(&["log", "verify"]).await;
    assert!(verified.code == 0 && verified.out.contains("whole up to sequence 4"), "{} {}", verified.out, verified.err);
    for view in ["search", "associations"] {
        let rebuilt = operator.runs(&["views", "rebuild", view]).await;
        assert!(rebuilt.code == 0 && rebuilt.out.contains("rebuilt"), "{view}: {} {}", rebuilt.out, rebuilt.err);
    }

    let backup = operator.path("log.tradelane");
    let copied = operator.runs(&["backup", &backup]).await;
    assert!(copied.code == 0 && copied.out.contains("up to sequence 4"), "{} {}", copied.out, copied.err);
    assert_eq!(operator.runs(&["backup", &backup]).await.code, 64);
    let certificate =
        format!("identity.certificate_file={}", harness.world.config().identity.certificate_file.display());
    let restores = async |file: &str, folder: &str| {
        let data_dir = format!("node.data_dir={}", operator.path(folder));
        run(&["restore", file, "--set", &data_dir, "--set", &certificate]).await
    };
    let restored = restores(&backup, "restored").await;
    assert!(
        restored.code == 0 && restored.out.contains("restored up to sequence 4"),
        "{} {}",
        restored.out,
        restored.err
    );
    assert_eq!(restores(&backup, "restored").await.code, 64);
    let cut = fs::read(&backup).expect("a backup");
    let cut_file = operator.path("cut.tradelane");
    fs::write(Path::new(&cut_file), &cut[..cut.len() / 2]).expect("a file");
    let refused = restores(&cut_file, "from-cut").await;
    assert!(refused.code == 65 && refused.err.contains("the backup is not whole"), "{} {}", refused.code, refused.err);
    // What cannot be used at all is told with what to do, and leaves the directory as it was.
    let mut older = fs::read(&backup).expect("a backup");
    older[8] = 1;
    for (bytes, words) in [(&older[..], "the backup has format version 1"), (b"not a backup", "this is no backup")] {
        fs::write(Path::new(&cut_file), bytes).expect("a file");
        let refused = restores(&cut_file, "from-other").await;
        assert!(refused.code == 65 && refused.err.contains(words), "{} {}", refused.code, refused.err);
    }
    assert_eq!(restores(&backup, "from-other").await.code, 0);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_has_its_exit_code_and_its_reason() {
    let harness = Harness::start().await;
    let stranger = Person::new(&harness, &harness.stranger);
    let customs = Person::new(&harness, &harness.customs);
    let refused = stranger.runs(&["events", "list"]).await;
    let words = refused.err.contains("refused our certificate") && refused.err.contains("tradelane doctor");
    assert!(refused.code == 77 && words, "{} {}", refused.code, refused.err);
    let forbidden = customs.runs(&["node", "show"]).await;
    assert!(
        forbidden.code == 77 && forbidden.err.contains("PERMISSION_DENIED"),
        "{} {}",
        forbidden.code,
        forbidden.err
    );
    let away = customs.runs(&["events", "list", "--address", "127.0.0.1:1"]).await;
    assert!(away.code == 69 && away.err.contains("nothing listens there"), "{} {}", away.code, away.err);
    let other = customs.runs(&["events", "list", "--server-id", "spiffe://exchange.gov.pk/node/khi-2"]).await;
    assert!(other.code == 77 && other.err.contains("proved to be"), "{} {}", other.code, other.err);
    let examined = customs.runs(&["doctor", "--output", "json"]).await;
    let document: Value = serde_json::from_str(&examined.out).expect("one document");
    assert!(examined.code == 0 && document["good"] == true, "{} {}", examined.code, examined.out);
    let unset = run(&["events", "list"]).await;
    assert!(unset.code == 78 && unset.err.contains("the node's address is missing"), "{} {}", unset.code, unset.err);
    let unknown = run(&["evnts", "list"]).await;
    assert!(unknown.code == 64 && unknown.err.contains("events"), "{} {}", unknown.code, unknown.err);
    harness.stop().await;
}
