//! A server in a process of its own, started from this program: the node, or the bare server that it is compared with. It never outlives
//! the measurement: dropping it kills it.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::cli::{ExitCode, Failure};

/// A start may take this long: reading back the log after a crash is part of it.
const START_TIMEOUT: Duration = Duration::from_secs(300);
/// A stop in order may take this long; the node's own deadline is 10 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the server's log is looked at for its address: also how exactly a restart is timed.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// What the server says when it can be reached.
pub const LISTENING: &str = "listening for participants";
/// A server is quiet once it has worked no more than one tick of the kernel's accounting for so long.
const QUIET_FOR: Duration = Duration::from_millis(250);
/// Nobody waits longer than this for it.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(60);
/// So many nanoseconds are a tick of the kernel's accounting: it has been 100 Hz towards user space on Linux for ever.
const TICK_NS: u64 = 10_000_000;

/// A running server.
#[derive(Debug)]
pub struct Server {
    process: Child,
    pid: u32,
    /// Where it listens.
    pub address: SocketAddr,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Processor time in user and kernel mode.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
}

impl Server {
    /// Starts this program with these arguments, and waits until it listens.
    ///
    /// # Errors
    /// It cannot be started, ends, or does not listen in time.
    pub async fn start(arguments: &[String], log_file: &Path) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(ExitCode::Failure, format!("cannot find this program: {error}")))?;
        let log = File::create(log_file).map_err(|error| Failure::file("write", log_file, &error))?;
        let started = Instant::now();
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        // What is in this process's environment is for other nodes.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TRADELANE_")) {
            command.env_remove(name);
        }
        let mut process = command
            .spawn()
            .map_err(|error| Failure::new(ExitCode::Failure, format!("cannot start the server: {error}")))?;
        let pid = process.id().ok_or_else(|| Failure::new(ExitCode::Failure, "the server ended at once"))?;
        let address = loop {
            if let Some(address) = address_in(log_file) {
                break address;
            }
            let ended = process.try_wait().ok().flatten().is_some();
            if ended || START_TIMEOUT < started.elapsed() {
                return Err(Failure::new(ExitCode::Failure, format!("the server does not listen: {}", tail(log_file))));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        };
        Ok(Self { process, pid, address })
    }

    /// What it has used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        usage_of(&self.pid.to_string())
    }

    /// Waits until it no longer works behind its answers, so that it takes nothing from what is measured next.
    pub async fn quiet(&self) {
        let asked = Instant::now();
        let mut before = self.usage().cpu;
        while asked.elapsed() < QUIET_WAIT_MAX {
            tokio::time::sleep(QUIET_FOR).await;
            let now = self.usage().cpu;
            if now.saturating_sub(before) <= Duration::from_nanos(TICK_NS) {
                break;
            }
            before = now;
        }
    }

    /// Ends it in order; answers how long that took.
    ///
    /// # Errors
    /// It does not end in time, or not well.
    pub async fn stop(mut self) -> Result<Duration, Failure> {
        let asked = Instant::now();
        let pid = Pid::from_raw(self.pid.cast_signed()).expect("a process that runs has a number");
        let failed = |why: String| Failure::new(ExitCode::Failure, format!("the server did not stop: {why}"));
        kill_process(pid, Signal::TERM).map_err(|error| failed(error.to_string()))?;
        match tokio::time::timeout(STOP_TIMEOUT, self.process.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(asked.elapsed()),
            Ok(Ok(status)) => Err(failed(status.to_string())),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("not within {} s", STOP_TIMEOUT.as_secs()))),
        }
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    /// The system does not do it.
    pub async fn kill(mut self) -> Result<(), Failure> {
        self.process.kill().await.map_err(|error| Failure::new(ExitCode::Failure, format!("cannot kill: {error}")))
    }
}

/// What this process has used.
#[must_use]
pub fn own_usage() -> Usage {
    usage_of("self")
}

impl Usage {
    /// Processor seconds since an earlier look, for a million of something.
    #[must_use]
    pub fn cpu_seconds_per_million_since(self, before: Self, count: u64) -> f64 {
        self.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / count.max(1) as f64
    }
}

/// Bytes that a directory takes on disk, files that are not written in full counted by what is.
#[must_use]
pub fn disk_bytes(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let bytes_of = |path: PathBuf| match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&path),
        // A block is 512 bytes in stat(2), whatever the file system's is.
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(|entry| bytes_of(entry.path())).sum()
}

fn usage_of(process: &str) -> Usage {
    let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
    // proc_pid_stat(5): after the name in parentheses, user time is the 12th field and system time the 13th.
    let stat = read("stat");
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let status = read("status");
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let rss_kib: u64 = rss.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default();
    Usage { cpu: Duration::from_nanos(ticks * TICK_NS), rss_bytes: rss_kib << 10 }
}

/// The address in the line in which the server says that it listens.
fn address_in(log_file: &Path) -> Option<SocketAddr> {
    let text = fs::read_to_string(log_file).ok()?;
    // A line that is still being written has no end and is looked at next time.
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let said = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    said.filter(|line| line["message"] == LISTENING).find_map(|line| line["address"].as_str()?.parse().ok())
}

fn tail(log_file: &Path) -> String {
    let text = fs::read_to_string(log_file).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_is_seen_to_work() {
        let before = own_usage();
        let started = Instant::now();
        let mut sum = 0_u64;
        while own_usage().cpu == before.cpu && started.elapsed() < Duration::from_secs(60) {
            sum = (0..1_000_000_u64).fold(sum, |sum, number| sum.wrapping_mul(31).wrapping_add(number));
        }
        assert!(before.cpu < own_usage().cpu, "no time was counted ({sum})");
        assert!(before.rss_bytes > 1 << 20, "{}", before.rss_bytes);
    }

    #[test]
    fn what_lies_on_disk_is_counted_in_folders_too() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("inner/file"), vec![7; 100_000]).unwrap();
        assert!((100_000..400_000).contains(&disk_bytes(folder.path())), "{}", disk_bytes(folder.path()));
    }

    #[test]
    fn the_address_is_taken_from_whole_lines_only() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let line = format!("{{\"message\":\"{LISTENING}\",\"address\":\"127.0.0.1:7443\"}}");
        fs::write(&log, &line).unwrap();
        assert_eq!(address_in(&log), None);
        fs::write(&log, format!("not json\n{line}\n")).unwrap();
        assert_eq!(address_in(&log), Some("127.0.0.1:7443".parse().unwrap()));
    }
}
