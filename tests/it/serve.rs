//! The built program as an operator and her service manager meet it: what it says and how it ends where something that she set up is
//! wrong, and what it tells systemd.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixDatagram, process::CommandExt},
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use rustix::process::Signal;
use tradelane::{
    clock::{Clock, SystemClock},
    domain::TrustDomain,
    identity::dev_pki::{CERTIFICATE_LIFE_NS, DevPki, Issued},
    testing::{
        events::HOUR_NS,
        nodes::{self, Site},
        pki::id,
    },
};

use crate::{harness::PATIENCE, process::Process};

/// Whom the program runs as where the test's own user may write everywhere: nobody.
const OTHER_USER: u32 = 65_534;

/// A site of its own, beside another one.
struct Case {
    site: Site,
    other: Site,
    folder: tempfile::TempDir,
}

/// What is wrong, the settings besides the file's, and what is said of it.
type Wrong = (&'static str, fn(&Case) -> Vec<String>, &'static [&'static str]);

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut sites = nodes::create(folder.path(), &['a', 'b'], SystemClock.now_ns());
        let (site, other) = (sites.remove(&'a').expect("made"), sites.remove(&'b').expect("made"));
        Self { site, other, folder }
    }

    /// `tradelane serve`, which is to refuse: ended by `timeout` where it starts all the same.
    fn serve(&self, settings: &[String]) -> Command {
        let mut command = Command::new("timeout");
        command.args([&PATIENCE.as_secs().to_string(), env!("CARGO_BIN_EXE_tradelane"), "serve", "--config"]);
        command.arg(self.site.config_file()).env("NO_COLOR", "1");
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        command
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.site.folder.join(name), text).expect("a file");
    }

    fn issue(&self, domain: &str, now_ns: i64, life_ns: i64) -> Issued {
        let domain = TrustDomain::parse(domain).expect("a good name");
        let mut pki = DevPki::open(self.folder.path(), &domain)
            .or_else(|_| DevPki::create(self.folder.path(), &domain, now_ns))
            .expect("an authority");
        let name = id(&format!("spiffe://{domain}/node/wrong"));
        pki.issue_node(&name, &["localhost".to_owned()], now_ns, life_ns).expect("a certificate")
    }
}

fn certificate(issued: &Issued) -> Vec<String> {
    vec![certificate_file(&issued.certificate_file), key_file(&issued.key_file)]
}

fn certificate_file(path: &Path) -> String {
    format!("identity.certificate_file={}", path.display())
}

fn key_file(path: &Path) -> String {
    format!("identity.private_key_file={}", path.display())
}

fn data_dir(path: &Path) -> String {
    format!("node.data_dir={}", path.display())
}

/// It ended with 78 and said all of these words.
fn check(what: &str, ended: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(78), "{what}: {said}");
    for word in words {
        assert!(said.contains(word), "{what}: {word:?} is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{what}: {said}");
}

#[test]
fn what_the_operator_set_up_wrong_ends_with_78_and_says_what_and_where() {
    let cases: &[Wrong] = &[
        (
            "no configuration",
            |case| {
                fs::remove_file(case.site.config_file()).expect("there");
                vec![]
            },
            &["node.toml", "No such file"],
        ),
        ("a misspelt setting", |_| vec!["listen.adress=127.0.0.1:0".into()], &["listen.adress", "listen.address"]),
        (
            "no certificate",
            |case| vec![certificate_file(&case.site.folder.join("gone.pem"))],
            &["gone.pem", "No such file"],
        ),
        (
            "a certificate that is none",
            |case| {
                case.write("none.pem", "hello\n");
                vec![certificate_file(&case.site.folder.join("none.pem"))]
            },
            &["none.pem", "certificate"],
        ),
        ("no key", |case| vec![key_file(&case.site.folder.join("gone.key"))], &["gone.key", "No such file"]),
        (
            "another certificate's key",
            |case| vec![key_file(&case.site.operator.key_file)],
            &["operator-1.key", "does not go with", "node-1.pem"],
        ),
        (
            "a certificate that has ended",
            |case| certificate(&case.issue("a.example", SystemClock.now_ns() - 48 * HOUR_NS, 24 * HOUR_NS)),
            &["node-wrong.pem", "spiffe://a.example/node/wrong", "expired"],
        ),
        (
            "a certificate of a domain that is not trusted",
            |case| certificate(&case.issue("c.example", SystemClock.now_ns(), CERTIFICATE_LIFE_NS)),
            &["trust.toml", "no [[domain]] c.example"],
        ),
        ("a participant's certificate", |case| certificate(&case.site.terminal), &["terminal-1.pem", "not good for"]),
        (
            "no authorities",
            |case| {
                case.write("trust.toml", "[[domain]]\nname = 'a.example'\nbundle_file = 'gone-ca.pem'\n");
                vec![]
            },
            &["gone-ca.pem", "No such file"],
        ),
        (
            "a misspelt action",
            |case| {
                case.write(
                    "policy.toml",
                    "[[grant]]\nid = 'x'\nwho = ['spiffe://a.example/*']\nactions = ['pubish']\nall = true\n",
                );
                vec![]
            },
            &["policy.toml:1", "grant[0].actions[0]", "pubish", "publish"],
        ),
        (
            "a grant of nothing",
            |case| {
                case.write("policy.toml", "[[grant]]\nid = 'x'\nwho = ['spiffe://a.example/*']\nactions = ['read']\n");
                vec![]
            },
            &["policy.toml:1", "grant[0]", "all = true"],
        ),
        (
            "a peer without its prefix",
            |case| {
                case.write("peers.toml", "homes = ['a.example']\n[[peer]]\nnode = 'b.example/node/1'\n");
                vec![]
            },
            &["peers.toml:2", "peer[0].node", "spiffe://"],
        ),
        (
            "no parent of the data directory",
            |case| vec![data_dir(&case.folder.path().join("gone/data"))],
            &["gone/data", "node.data_dir", "does not exist"],
        ),
        (
            "a file for the data directory",
            |case| vec![data_dir(&case.site.config_file())],
            &["node.toml", "node.data_dir", "no directory"],
        ),
    ];
    for (what, wrong, words) in cases {
        let case = Case::new();
        let settings = wrong(&case);
        check(what, &case.serve(&settings).output().expect("it runs"), words);
        assert!(!case.site.folder.join("data/journal.0").exists(), "{what}: a log was begun");
    }
}

#[test]
fn a_port_that_is_taken_ends_with_78() {
    let case = Case::new();
    let taken = TcpListener::bind(case.site.address).expect("a free port");
    let address = case.site.address.to_string();
    let words = [address.as_str(), "listen.address", "in use"];
    check("the participants' port", &case.serve(&[]).output().expect("it runs"), &words);
    drop(taken);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let settings = [format!("listen.operations_address={address}")];
    let words = [address.as_str(), "listen.operations_address", "in use"];
    check("the operations port", &case.serve(&settings).output().expect("it runs"), &words);
}

#[test]
fn a_data_directory_that_may_not_be_written_ends_with_78() {
    let case = Case::new();
    // Whoever may write everywhere runs the program as somebody who may not, and lets her read the files.
    let is_root = rustix::process::geteuid().is_root();
    let run = |data: &Path| {
        let mut command = case.serve(&[data_dir(data)]);
        if is_root {
            let program = case.folder.path().join("tradelane");
            fs::copy(env!("CARGO_BIN_EXE_tradelane"), &program).expect("a copy");
            command = Command::new("timeout");
            command.args([&PATIENCE.as_secs().to_string(), &program.display().to_string(), "serve", "--config"]);
            command.arg(case.site.config_file()).args(["--set", &data_dir(data)]).env("NO_COLOR", "1");
            command.current_dir(case.folder.path()).uid(OTHER_USER).gid(OTHER_USER);
        }
        command.output().expect("it runs")
    };
    let mode = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    };
    mode(case.folder.path(), 0o755);
    mode(&case.site.node_certificate.key_file, 0o644);
    // The place where it would be made, then the directory itself.
    let place = case.folder.path().join("place");
    fs::create_dir(&place).expect("a folder");
    mode(&place, 0o555);
    check("no right to make it", &run(&place.join("data")), &["place/data", "node.data_dir", "Permission denied"]);
    check("no right to write in it", &run(&place), &["place", "Permission denied"]);
}

/// What the service manager hears.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
        Self { socket }
    }

    /// The next message; the test fails where none comes.
    fn hear(&self) -> String {
        let mut message = [0; 1_024];
        let length = self.socket.recv(&mut message).expect("a word to the service manager");
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    /// The next message that is no sign of life.
    fn hear_of_state(&self) -> String {
        loop {
            let message = self.hear();
            if message.trim() != "WATCHDOG=1" {
                return message;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_hears_of_start_life_reload_and_stop() {
    let case = Case::new();
    let path = case.folder.path().join("notify");
    let manager = Manager::listen(&path);
    let environment = [
        ("NOTIFY_SOCKET", path.display().to_string()),
        ("WATCHDOG_USEC", Duration::from_millis(400).as_micros().to_string()),
    ];
    let mut node = Process::start_with(&case.site, &[], &environment);
    assert_eq!(manager.hear_of_state().trim(), "READY=1");
    // The same process still, begun anew with what its allocator reads before anything else.
    let of_its_allocator: Vec<_> =
        node.environment().into_iter().filter(|variable| variable.starts_with("MIMALLOC_")).collect();
    assert!(of_its_allocator.contains(&"MIMALLOC_PURGE_DELAY=10".to_owned()), "{of_its_allocator:?}");
    // Ready means that it can be reached.
    std::net::TcpStream::connect(case.site.address).expect("it listens");
    assert_eq!(manager.hear().trim(), "WATCHDOG=1", "a sign of life, without which systemd ends it");

    // A second node for the same data, and a node of another name.
    let mut second = case.serve(&["listen.address=127.0.0.1:0".into()]);
    check("a directory in use", &second.output().expect("it runs"), &["data", "another process"]);

    node.signal(Signal::HUP);
    let reloading = manager.hear_of_state();
    assert!(reloading.starts_with("RELOADING=1") && reloading.contains("MONOTONIC_USEC="), "{reloading}");
    assert_eq!(manager.hear_of_state().trim(), "READY=1");

    node.signal(Signal::TERM);
    assert_eq!(manager.hear_of_state().trim(), "STOPPING=1");
    assert_eq!(node.ends(PATIENCE).await, Some(0));

    let other = &case.other.node_certificate;
    let mut settings = certificate(other);
    settings.push("identity.peers_file=".to_owned());
    let refused = case.serve(&settings).output().expect("it runs");
    check("another node's directory", &refused, &["data", case.site.node.as_str(), case.other.node.as_str()]);
}
