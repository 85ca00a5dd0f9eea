//! A server of the comparison: a child of this process in a directory of its own, ended by its id. It never outlives the run: dropping it
//! kills it, and its directory goes with it.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

/// A start may take this long.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A stop may take this long; then the child is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    signal: Signal,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// Where everything of it is.
    directory: TempDir,
}

/// Makes a server's directory: for others to pass through, since a server may run as another user.
pub fn directory(parent: &Path, name: &str) -> Result<TempDir> {
    let directory = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(parent)?;
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(directory)
}

/// A port that nobody uses now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

impl Server {
    /// Starts it, and waits until it takes connections.
    pub async fn start(mut command: Command, directory: TempDir, port: u16, signal: Signal) -> Result<Self> {
        let log = log_file(&directory);
        let file = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let mut server = Self { child, signal, port, directory };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if server.child.try_wait()?.is_some() || START_TIMEOUT < started.elapsed() {
                bail!("a server does not listen:\n{}", server.log_tail());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(server)
    }

    /// The last lines of what it said.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(log_file(&self.directory)).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Ends it and removes what it stored.
    pub async fn stop(mut self) -> Result<()> {
        let pid =
            self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).context("a server has ended by itself")?;
        kill_process(pid, self.signal)?;
        if tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        self.directory.close().context("cannot remove a server's directory")
    }
}

fn log_file(directory: &TempDir) -> PathBuf {
    directory.path().join("server.log")
}
