//! A node as a process of its own, for tests that kill it or cut its network, killed when dropped, whatever the test came to; and the
//! program's commands as an operator of a node runs them.

use std::{
    fs::{self, File, OpenOptions},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tradelane::testing::nodes::Site;

/// What a command said.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs a command of the program as the operator of a site, which must be a process of its own or of another thread.
pub fn operate(site: &Site, words: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tradelane"));
    command.args(words).args(["--address", &site.address.to_string(), "--server-id", site.node.as_str()]);
    command.arg("--cert").arg(&site.operator.certificate_file).arg("--key").arg(&site.operator.key_file);
    command.arg("--ca").arg(&site.bundle_file);
    ran(&mut command)
}

/// Runs a command of the program that calls no node.
pub fn run(words: &[&str]) -> Ran {
    ran(Command::new(env!("CARGO_BIN_EXE_tradelane")).args(words))
}

fn ran(command: &mut Command) -> Ran {
    let output = command.env("NO_COLOR", "1").env_remove("TRADELANE_PROFILE").output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ran { code: output.status.code().expect("it ended by itself"), out: text(output.stdout), err: text(output.stderr) }
}

/// A running node.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `tradelane serve` with the files of a site; what it logs goes to `node.log` beside them.
    pub fn start(site: &Site) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tradelane"));
        command.arg("serve");
        Self::spawn(command, site)
    }

    /// As [`Process::start`], in the network namespace that another process holds.
    pub fn start_in_namespace_of(holder: u32, site: &Site) -> Self {
        let mut command = Command::new("nsenter");
        command.args(["-t", &holder.to_string(), "-n", env!("CARGO_BIN_EXE_tradelane"), "serve"]);
        Self::spawn(command, site)
    }

    /// As [`Process::start`], with settings that go before those of the file, and variables of its environment.
    pub fn start_with(site: &Site, settings: &[&str], environment: &[(&str, String)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tradelane"));
        command.arg("serve").envs(environment.iter().cloned());
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        Self::spawn(command, site)
    }

    /// The variables that it was begun with, as `NAME=value`.
    pub fn environment(&self) -> Vec<String> {
        let path = format!("/proc/{}/environ", self.child.id());
        let text = String::from_utf8(fs::read(path).expect("it runs")).expect("text");
        text.split_terminator('\0').map(ToOwned::to_owned).collect()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for its end, and answers its exit code; none where it has not ended by the deadline or was killed.
    pub async fn ends(&mut self, patience: Duration) -> Option<i32> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is a child of ours") {
                return status.code();
            }
            if deadline < tokio::time::Instant::now() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn spawn(mut command: Command, site: &Site) -> Self {
        let log = log_file(&site.folder);
        command.arg("--config").arg(site.config_file()).env("NO_COLOR", "1");
        let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("the program runs");
        Self { child }
    }

    /// Ends it as a power failure of its process would: at once, in the middle of whatever it does.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn log_file(folder: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(folder.join("node.log")).expect("a file")
}
