//! Where a setting comes from, and what is said when one is missing.

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    client: ClientFlags,
}

fn flags(arguments: &[&str]) -> ClientFlags {
    Command::try_parse_from(std::iter::once("tradelane").chain(arguments.iter().copied())).unwrap().client
}

fn profile(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("khi.toml");
    fs::write(&path, text).unwrap();
    (directory, path)
}

const WHOLE: &str = r#"
address = "exchange.gov.pk:7443"
cert = "customs.pem"
key = "/etc/keys/customs.key"
ca = "ca.pem"
server_id = "spiffe://exchange.gov.pk/node/khi-1"
output = "jsonl"
timeout = 5
"#;

#[test]
fn a_profile_gives_what_flags_leave_out_with_paths_relative_to_it() {
    let (directory, path) = profile(WHOLE);
    let settings = flags(&["--profile", path.to_str().unwrap()]).settings().unwrap();
    assert_eq!(settings.connect.address.to_string(), "exchange.gov.pk:7443");
    assert_eq!(settings.output, OutputFormat::Jsonl);
    assert_eq!(settings.call_timeout, Duration::from_secs(5));
    let Pem::File(certificate) = settings.connect.credentials.certificate else { panic!("a file") };
    assert_eq!(certificate, directory.path().join("customs.pem"));
    let Pem::File(key) = settings.connect.credentials.key else { panic!("a file") };
    assert_eq!(key, Path::new("/etc/keys/customs.key"));
}

#[test]
fn flags_come_before_the_profile() {
    let (_directory, path) = profile(WHOLE);
    let given = flags(&[
        "-p",
        path.to_str().unwrap(),
        "-a",
        "127.0.0.1:1",
        "--server-name",
        "localhost",
        "-o",
        "json",
        "--timeout",
        "9",
    ]);
    let settings = given.settings().unwrap();
    assert_eq!(settings.connect.address.to_string(), "127.0.0.1:1");
    assert_eq!(settings.connect.expected_server, ExpectedServer::Name("localhost".to_owned()));
    assert_eq!((settings.output, settings.call_timeout), (OutputFormat::Json, Duration::from_secs(9)));
}

#[test]
fn what_is_missing_or_malformed_is_said_with_what_to_do() {
    let without = |key: &str| WHOLE.lines().filter(|line| !line.starts_with(key)).collect::<Vec<_>>().join("\n");
    for (text, words) in [
        (without("address"), "give --address HOST:PORT, set TRADELANE_ADDRESS, or write address into a profile"),
        (without("cert"), "a client certificate is missing: give --cert FILE"),
        (without("key"), "the certificate's private key is missing"),
        (without("ca"), "the authorities that vouch for the node is missing"),
        (WHOLE.replace("spiffe://", "https://"), "must begin with spiffe://"),
        (WHOLE.replace(":7443", ""), "must be host:port"),
        (format!("{WHOLE}\nserver_name = \"x\""), "named twice"),
        (format!("{WHOLE}\nadress = \"x\""), "unknown field `adress`"),
    ] {
        let (_directory, path) = profile(&text);
        let failure = flags(&["-p", path.to_str().unwrap()]).settings().unwrap_err();
        assert_eq!(failure.code, ExitCode::Configuration);
        assert!(failure.message.contains(words), "{:?} should say {words:?}", failure.message);
    }
    let failure = flags(&["-p", "/nowhere/x.toml"]).settings().unwrap_err();
    assert_eq!(failure.message, "there is no profile file /nowhere/x.toml");
}

#[test]
fn a_profile_is_a_path_or_a_name_in_the_configuration_directory() {
    let environment = |name: &str| (name == "HOME").then(|| OsString::from("/home/ana"));
    let directory = profile_directory(environment).unwrap();
    assert_eq!(directory, Path::new("/home/ana/.config/tradelane"));
    let path = |named| profile_path(named, Some(&directory)).unwrap();
    assert_eq!(path("khi"), Path::new("/home/ana/.config/tradelane/khi.toml"));
    assert_eq!(path("./khi"), Path::new("./khi"));
    assert_eq!(path("khi.toml"), Path::new("khi.toml"));
    let xdg = |name: &str| (name == "XDG_CONFIG_HOME").then(|| OsString::from("/etc/x"));
    assert_eq!(profile_directory(xdg).unwrap(), Path::new("/etc/x/tradelane"));
}
