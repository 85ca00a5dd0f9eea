//! Tests of the configuration: the layers, the messages, and that reference file and program speak of the same settings.

use super::{read::Reader, settings::REFERENCE, *};

fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<(Config, Settings), String> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("node.toml");
    fs::write(&path, file).expect("a file");
    let layers = Layers {
        file: Some(path),
        environment: environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
        flags: flags.iter().map(|(key, text)| ("--set".to_owned(), (*key).to_owned(), (*text).to_owned())).collect(),
    };
    Config::load(&layers).map_err(|error| error.to_string().replace(&dir.path().display().to_string(), "DIR"))
}

#[test]
fn the_reference_file_and_the_program_speak_of_the_same_settings() {
    let (settings, mut problems) = (Settings::defaults(), Vec::new());
    let reader = Reader::new(&settings, &mut problems);
    Config::read(&reader);
    let asked: Vec<&str> = reader.asked.borrow().iter().copied().collect();
    drop(reader);
    let listed: Vec<&str> = settings.iter().map(|(key, _)| key).collect();
    assert_eq!(asked, listed, "a setting that nobody reads, or one that the reference file does not list");
    assert_eq!(problems, [], "a default that is refused");
}

#[test]
fn every_setting_of_the_reference_file_has_a_comment() {
    let mut before = "";
    for line in REFERENCE.lines() {
        let is_setting = line.contains(" = ") && !line.starts_with('#');
        assert!(!is_setting || before.starts_with("# "), "no comment above: {line}");
        before = line;
    }
}

#[test]
fn flags_go_over_the_environment_and_that_over_the_file() {
    let file = "[listen]\naddress = \"127.0.0.1:1\"\n[identity]\nhandshakes_max = 7\n[api]\nreflection = false\n";
    let (config, settings) = load(
        file,
        &[
            ("TRADELANE_LISTEN__ADDRESS", "127.0.0.1:2"),
            ("TRADELANE_IDENTITY__HANDSHAKES_MAX", "8"),
            ("TRADELANE_TOKEN", "x"),
        ],
        &[("listen.address", "127.0.0.1:3")],
    )
    .expect("good settings");
    assert_eq!(config.listen.address.port(), 3);
    assert_eq!(config.identity.handshakes_max, 8);
    assert!(!config.api.reflection);
    assert_eq!(config.node.stop_timeout, Duration::from_secs(10));
    let source = |key| settings.get(key).expect("known").source.to_string();
    assert_eq!(source("listen.address"), "flag --set");
    assert_eq!(source("identity.handshakes_max"), "environment variable TRADELANE_IDENTITY__HANDSHAKES_MAX");
    assert!(source("api.reflection").ends_with("node.toml:6:14"), "{}", source("api.reflection"));
    assert_eq!(source("node.stop_timeout"), "default");
}

#[test]
fn everything_wrong_is_said_at_once_with_its_place() {
    let file = "[listen]\nadress = \"127.0.0.1:1\"\n[node]\nstop_timeout = 10\n[api]\nunary_timeout = \"10\"\n[extra]\nx = 1\n";
    let problems = load(file, &[("TRADELANE_API__CONTROL_REQUEST_BYTES_MAX", "1GiB")], &[]).expect_err("bad settings");
    assert_eq!(
        problems.lines().collect::<Vec<_>>(),
        [
            "DIR/node.toml:8:1: unknown setting \"extra.x\"",
            "DIR/node.toml:2:1: unknown setting \"listen.adress\"; did you mean \"listen.address\"?",
            "DIR/node.toml:4:16: \"node.stop_timeout\" must be a string, such as \"10s\"",
            "DIR/node.toml:6:17: \"api.unary_timeout\" is \"10\": must be a time with its unit, such as \"30s\" (ms, s, m, h, d)",
            "environment variable TRADELANE_API__CONTROL_REQUEST_BYTES_MAX: \"api.control_request_bytes_max\" is \"1GiB\": must be from \
             4096B to 4194304B",
        ]
    );
    let syntax = load("[listen\naddress = 1", &[], &[]).expect_err("no TOML");
    assert!(syntax.starts_with("DIR/node.toml:1:8: "), "{syntax}");
}

#[test]
fn relative_paths_start_at_the_folder_of_their_file() {
    let file = "[node]\ndata_dir = \"data\"\n[identity]\npolicy_file = \"/abs/policy.toml\"\n";
    let (config, _) = load(file, &[], &[("identity.trust_file", "trust.toml")]).expect("good settings");
    assert!(config.node.data_dir.is_absolute() && config.node.data_dir.ends_with("data"));
    assert_eq!(config.identity.audit_file, config.node.data_dir.join("audit.log"));
    assert_eq!(config.identity.policy_file, Path::new("/abs/policy.toml"));
    assert_eq!(config.identity.trust_file, Path::new("trust.toml"));
}

#[test]
fn limits_have_their_ranges_and_say_why() {
    let file = "[subscriptions]\nprogress_interval = \"11s\"\nwindow_messages_max = 0\n[storage]\njournal_half_bytes = \"1MiB\"\n\
                refuse_below_free_bytes = \"60MiB\"\nindex_memory_entries_max = 16000001\n";
    let problems = load(file, &[], &[]).expect_err("bad settings");
    assert_eq!(
        problems.lines().collect::<Vec<_>>(),
        [
            "DIR/node.toml:2:21: \"subscriptions.progress_interval\" is \"11s\": must be at most 10s",
            "DIR/node.toml:3:23: \"subscriptions.window_messages_max\" is 0: must be at least 1",
            "DIR/node.toml:5:22: \"storage.journal_half_bytes\" is \"1MiB\": must be from 4194304B to 536870912B",
            "DIR/node.toml:7:28: \"storage.index_memory_entries_max\" is 16000001: must be at most 16000000",
            "DIR/node.toml:6:27: \"storage.refuse_below_free_bytes\" is \"60MiB\": must be at least 67108864B: \"storage.tail_bytes_max\" \
             and 16777216B for indexes, which are still to be written once publishing is refused",
        ]
    );
    let small = [("storage.tail_bytes_max", "4MiB"), ("storage.refuse_below_free_bytes", "20MiB")];
    let (config, _) = load("", &[("TRADELANE_STORAGE__INDEX_MEMORY_ENTRIES_MAX", "500")], &small).expect("good");
    assert_eq!((config.storage.index_memory_entries_max, config.storage.tail_bytes_max), (500, 4 << 20));
}
