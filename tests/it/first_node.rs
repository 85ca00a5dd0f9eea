//! A newcomer's first node, by the program's help alone: the commands that it shows are run as they stand there, and what they leave is what
//! a node starts with.

use std::{fs, path::Path, process::Command};

use crate::process::{Ran, run};

/// Runs a line of a shell in a folder, with the program on the path.
fn shell(folder: &Path, line: &str) -> Ran {
    let program = Path::new(env!("CARGO_BIN_EXE_tradelane")).parent().expect("a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").expect("a path"));
    let output = Command::new("sh").arg("-ec").arg(line).current_dir(folder).env_clear().env("PATH", path).output();
    let output = output.expect("a shell");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ran { code: output.status.code().expect("it ended by itself"), out: text(output.stdout), err: text(output.stderr) }
}

/// The commands of the help, up to its examples, each on one line.
fn commands(help: &str) -> Vec<String> {
    let shown = help.split_once("for a first try is:\n").expect("the help has them").1;
    let shown = shown.split("\n\n").next().expect("one paragraph").replace("\\\n", " ");
    shown.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn the_commands_of_the_help_make_a_node_that_could_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let help = run(&["config", "example", "--help"]).out;
    let commands = commands(&help);
    let (serve, made) = commands.split_last().expect("commands");
    assert!(made.len() >= 7, "{commands:?}");
    for command in made {
        let ran = shell(folder.path(), command);
        assert_eq!(ran.code, 0, "{command}: {}", ran.err);
    }
    let settings = serve.strip_prefix("tradelane serve").expect("the last one starts it");
    let check = format!("tradelane config check{settings}");
    let ran = shell(folder.path(), &check);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{check}");
    assert!(ran.out.contains("the files that they name are good"), "{}", ran.out);
    let ran = shell(folder.path(), &format!("{check} --output json"));
    let document: serde_json::Value = serde_json::from_str(&ran.out).expect("one document");
    assert_eq!(document["good"], true, "{document}");

    // What serve would refuse, the check refuses; and it has opened nothing.
    fs::remove_file(folder.path().join("pki/customs.gov.pk/ca.pem")).expect("removed");
    let ran = shell(folder.path(), &check);
    assert!(ran.code == 78 && ran.err.contains("pki/customs.gov.pk/ca.pem"), "{} {}", ran.code, ran.err);
    let ran = shell(folder.path(), &format!("{check} --settings-only"));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(!folder.path().join("data").exists(), "a check makes no data directory");
}
