//! The built program as a child process: started, read, killed. It never outlives the test, and only the child's own process id is ever
//! signalled.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tonic::transport::Channel;
use tradelane::{
    cli::connect::{ConnectOptions, Credentials, ExpectedServer, Pem, connect},
    clock::{Clock, SystemClock},
    identity::dev_pki::{CERTIFICATE_LIFE_NS, Issued},
    testing::pki::{CUSTOMS, NODE, OPERATOR, PkiWorld, TERMINAL, id},
};

/// A start takes longer than this only where something is wrong.
const START_MAX: Duration = Duration::from_secs(60);
/// So many of the child's last lines are kept for messages.
const LINES_KEPT: usize = 40;
/// How long [`Disks::Slow`] holds up each sync of the journal: longer than the rest of a commit takes, so that a kill mostly falls between
/// a write and its sync.
const SYNC_HELD_UP_US: u32 = 10_000;

const POLICY: &str = r#"
[[grant]]
id = "publishers"
who = ["spiffe://port.valparaiso.cl/*", "spiffe://customs.gov.pk/*"]
actions = ["publish", "read", "share"]
all = true

[[grant]]
id = "operators"
who = ["spiffe://exchange.gov.pk/operator/*"]
actions = ["operate"]
"#;

/// How a child meets its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disks {
    /// As it is.
    AsIs,
    /// Each sync of the journal is held up before it begins, so that what was written and is not yet synced is there to be met. Needs
    /// strace.
    Slow,
}

/// Certificates and files, made once for many starts.
pub struct World {
    /// A terminal, who publishes.
    pub port: Issued,
    /// A customs agency, who publishes and reads.
    pub customs: Issued,
    /// Who verifies the log.
    pub operator: Issued,
    /// The program to start.
    pub program: PathBuf,
    pki: PkiWorld,
    folder: TempDir,
}

impl World {
    /// Makes a development PKI around the program under test: the one named by `TRADELANE_CRASH_PROGRAM`, or the one built with the tests.
    pub fn new() -> Self {
        let named = std::env::var_os("TRADELANE_CRASH_PROGRAM").map(PathBuf::from);
        let program = named.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_tradelane")));
        assert!(program.is_file(), "there is no program at {}", program.display());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let now_ns = SystemClock.now_ns();
        let mut pki = PkiWorld::create(folder.path(), now_ns).expect("a development PKI");
        pki.write_policy(POLICY).expect("a policy file");
        let issued = |domain: &mut tradelane::identity::dev_pki::DevPki, name: &str| {
            domain.issue_participant(&id(name), now_ns, CERTIFICATE_LIFE_NS).expect("a certificate")
        };
        let port = issued(&mut pki.port, TERMINAL);
        let customs = issued(&mut pki.customs, CUSTOMS);
        let operator = issued(&mut pki.exchange, OPERATOR);
        Self { port, customs, operator, program, pki, folder }
    }

    /// A folder that goes with the world.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a child over a data directory, and does not wait for it.
    pub fn spawn(&self, data_dir: &Path, disks: Disks) -> Node {
        let files = self.pki.config().identity;
        let settings = [
            ("node.data_dir", data_dir.display().to_string()),
            ("listen.address", "127.0.0.1:0".to_owned()),
            ("listen.operations_address", String::new()),
            ("identity.certificate_file", files.certificate_file.display().to_string()),
            ("identity.private_key_file", files.private_key_file.display().to_string()),
            ("identity.trust_file", files.trust_file.display().to_string()),
            ("identity.policy_file", files.policy_file.display().to_string()),
            ("identity.audit_file", self.folder().join("audit.log").display().to_string()),
            ("quotas.events_per_second_max", "0".to_owned()),
            // Small, so that halves take turns and runs are written and merged all the time.
            ("storage.journal_half_bytes", "4MiB".to_owned()),
            ("storage.tail_bytes_max", "8MiB".to_owned()),
            ("storage.refuse_below_free_bytes", "64MiB".to_owned()),
            ("storage.index_memory_entries_max", "2000".to_owned()),
            ("telemetry.log", "info,tradelane::storage=debug".to_owned()),
            ("telemetry.log_format", "json".to_owned()),
        ];
        let mut command = match disks {
            Disks::AsIs => Command::new(&self.program),
            Disks::Slow => self.held_up(data_dir),
        };
        command.arg("serve").env_clear().kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null());
        for (key, value) in settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let lines = child.stderr.take().expect("a pipe");
        let (told, said) = watch::channel(Said::default());
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let reading = tokio::spawn(listen(BufReader::new(lines), told, Arc::clone(&kept)));
        Node { said, child, kept, reading }
    }

    /// The program under strace, which gives it its own process id and follows it from beside.
    fn held_up(&self, data_dir: &Path) -> Command {
        let mut command = Command::new("strace");
        command.args(["-D", "-f", "-qqq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fdatasync", "-e"]);
        command.arg(format!("inject=fdatasync:delay_enter={SYNC_HELD_UP_US}"));
        for name in ["journal.0", "journal.1"] {
            command.arg("-P").arg(data_dir.join(name));
        }
        command.arg(&self.program);
        command
    }

    /// Starts a child and waits until it listens.
    ///
    /// # Errors
    /// It ended instead: its exit code and last words.
    pub async fn start(&self, data_dir: &Path, disks: Disks) -> Result<Node, Refused> {
        let mut node = self.spawn(data_dir, disks);
        let listening = timeout(START_MAX, node.said.wait_for(|said| said.address.is_some()));
        let listens = listening.await.expect("a node starts or ends within a minute").is_ok();
        if listens { Ok(node) } else { Err(node.refused().await) }
    }

    /// Connects to a child as somebody.
    ///
    /// # Errors
    /// It is gone.
    pub async fn connect(&self, address: SocketAddr, who: &Issued) -> Result<Channel, String> {
        let options = ConnectOptions {
            address: address.into(),
            credentials: Credentials {
                authorities: Pem::File(self.pki.node_bundle()),
                certificate: Pem::File(who.certificate_file.clone()),
                key: Pem::File(who.key_file.clone()),
            },
            expected_server: ExpectedServer::Id(id(NODE)),
        };
        connect(&options).await.map_err(|error| error.to_string())
    }
}

/// What a child has said so far.
#[derive(Debug, Default, Clone)]
pub struct Said {
    /// Where it listens, once it does.
    pub address: Option<SocketAddr>,
    /// Merges of index runs begun.
    pub merges_begun: u64,
    /// Merges of index runs whose result was put in place.
    pub merges_done: u64,
    /// Index runs written from memory.
    pub runs_written: u64,
    /// Halves of the journal begun.
    pub halves_begun: u64,
    /// True once a start writes sled anew.
    pub anew_begun: bool,
    /// True once that stands in its place.
    pub anew_done: bool,
}

impl Said {
    /// True until it listens.
    pub const fn is_starting(&self) -> bool {
        self.address.is_none()
    }

    /// True while a start writes sled anew.
    pub const fn is_writing_anew(&self) -> bool {
        self.anew_begun && !self.anew_done
    }

    /// True between the first slice of a merge and the last.
    pub const fn is_merging(&self) -> bool {
        self.merges_begun > self.merges_done
    }
}

/// Why a child did not start.
#[derive(Debug)]
pub struct Refused {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Its last lines.
    pub words: String,
}

/// A running child.
pub struct Node {
    /// What it says, as it says it.
    pub said: watch::Receiver<Said>,
    child: Child,
    kept: Arc<Mutex<VecDeque<String>>>,
    reading: JoinHandle<()>,
}

impl Node {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.said.borrow().address.expect("whoever asks has waited for the start")
    }

    /// Kills it at once, and answers what it had said.
    pub async fn kill(mut self) -> Said {
        // An error means that it has ended by itself already.
        let _ = self.child.start_kill();
        self.child.wait().await.expect("the child ends");
        self.said.borrow().clone()
    }

    /// Asks it to stop, and answers how it ended and its last words.
    pub async fn stop(mut self) -> (ExitStatus, String) {
        let number = self.child.id().expect("the child still runs");
        let number = rustix::process::Pid::from_raw(number as i32).expect("a process id");
        rustix::process::kill_process(number, rustix::process::Signal::TERM).expect("the child gets the signal");
        let status = timeout(START_MAX, self.child.wait()).await.expect("it stops").expect("it ends");
        (status, self.words().await)
    }

    /// Its last lines once it has ended, or those so far.
    pub async fn words(&mut self) -> String {
        let _ = timeout(Duration::from_secs(1), &mut self.reading).await;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    async fn refused(mut self) -> Refused {
        let status = timeout(START_MAX, self.child.wait()).await.expect("it ends").expect("it ends");
        Refused { code: status.code(), words: self.words().await }
    }
}

async fn listen(
    lines: BufReader<tokio::process::ChildStderr>,
    told: watch::Sender<Said>,
    kept: Arc<Mutex<VecDeque<String>>>,
) {
    let mut lines = lines.lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let read: Value = serde_json::from_str(&line).unwrap_or_default();
        told.send_if_modified(|said| {
            match read["message"].as_str() {
                Some("listening for participants") => {
                    said.address = read["address"].as_str().and_then(|address| address.parse().ok());
                }
                Some("begins to merge runs of an index") => said.merges_begun += 1,
                Some("merged runs of an index") => said.merges_done += 1,
                Some("wrote a run of an index") => said.runs_written += 1,
                Some("began the other half of the journal") => said.halves_begun += 1,
                Some("sled is written anew") => said.anew_done = true,
                Some(message) if message.contains("sled is written anew from what is sound") => said.anew_begun = true,
                _ => return false,
            }
            true
        });
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LINES_KEPT {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}
