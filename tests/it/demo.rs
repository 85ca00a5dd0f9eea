//! The demonstration as a person meets it: the built program, its output, and every command that it prints, pasted into a shell.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

/// Generous, since a busy machine makes keys and certificates slowly.
const PATIENCE: Duration = Duration::from_secs(120);
/// Commands that never end by themselves.
const ENDLESS: [&str; 2] = ["Live, from now on", "Follow from the beginning"];

fn demo(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tradelane"));
    command.arg("demo").args(["--pace", "0"]).args(words).env("NO_COLOR", "1").env_remove("TRADELANE_PROFILE");
    command
}

#[test]
fn once_tells_the_whole_voyage_and_ends() {
    let output = demo(&["--once"]).output().expect("the program runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    let seen: Vec<&str> = out.lines().filter(|line| line.trim_start().starts_with("sees ")).collect();
    assert_eq!(seen.len(), 18, "{out}");
    let told = [
        "association.attached",
        "movement.arrived",
        "handling.discharged",
        "clearance.lodged",
        "clearance.accepted",
        "hold.placed",
        "inspection.ordered",
        "clearance.released",
        "handling.gated_out",
        "inspection.completed",
        "hold.lifted",
    ];
    for kind in told {
        assert!(seen.iter().any(|line| line.contains(kind)), "{kind} is missing in {out}");
    }
    assert!(seen[17].contains("gated_out") && seen[17].contains("CSQU3054383"), "{}", seen[17]);
    // Each once, though customs were away while one of them was published.
    assert!(out.contains("(customs go away;") && out.contains("(they are back,"), "{out}");
    assert!(out.contains("customs have acknowledged 18 events"), "{out}");
    // The other node got what the agreement lets through, each event from its origin, and nothing of why goods were held.
    let got: Vec<&str> = out.lines().filter(|line| line.trim_start().starts_with("gets ")).collect();
    assert_eq!(got.len(), 14, "{out}");
    assert!(got.iter().all(|line| line.contains("(from spiffe://exchange.gov.pk/node/khi-1)")), "{out}");
    assert!(!got.iter().any(|line| line.contains("hold.") || line.contains("inspection.")), "{out}");
    // The gate is told of each container when it may leave, and of the held one not before its hold is lifted and it is released.
    let gate: Vec<&str> = out.lines().filter(|line| line.trim_start().starts_with("gate ")).collect();
    let of = |number: &str| -> Vec<&str> { gate.iter().copied().filter(|line| line.contains(number)).collect() };
    for free in ["MSKU9070323", "TLNU0000010"] {
        let told = of(free);
        assert!(told.len() == 4 && told[3].contains("accepted -> released  "), "{told:#?}");
        assert!(told[3].ends_with("  may leave") && told[..3].iter().all(|line| line.contains("may not leave")));
    }
    let held = of("CSQU3054383");
    let holds: Vec<bool> = held.iter().map(|line| line.contains("held by customs.gov.pk")).collect();
    assert_eq!(holds, [false, false, false, true, false, false], "{held:#?}");
    assert!(held[5].ends_with("  may leave") && held[4].contains("may not leave"), "{held:#?}");
    // Nothing is left behind.
    let folder =
        out.split("its files are in ").nth(1).and_then(|rest| rest.lines().next()).expect("the folder is named");
    assert!(!std::path::Path::new(folder).exists(), "{folder} is still there");
}

/// The demonstration while it stays up. Killed when dropped, whatever the test came to.
pub struct Running {
    child: Child,
    lines: Vec<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts it and reads until it says that it stays up.
pub fn stays_up(directory: &str) -> Running {
    let mut child = demo(&["--dir", directory]).stdout(Stdio::piped()).spawn().expect("the program runs");
    let stdout = child.stdout.take().expect("its output is piped");
    let (sender, receiver) = mpsc::channel();
    let reader = move || BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line));
    std::thread::Builder::new().name("demo-output".to_owned()).spawn(reader).expect("a thread starts");
    let mut running = Running { child, lines: Vec::new() };
    let deadline = Instant::now() + PATIENCE;
    while !running.lines.last().is_some_and(|line| line.contains("Ctrl-C ends them.")) {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = receiver.recv_timeout(left).unwrap_or_else(|_| panic!("it does not stay up: {:#?}", running.lines));
        running.lines.push(line);
    }
    running
}

#[test]
fn every_printed_command_works_when_pasted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let directory = folder.path().join("karachi");
    let mut running = stays_up(directory.to_str().expect("a path of ASCII"));
    let has_grpcurl = Command::new("grpcurl").arg("-version").output().is_ok();
    let mut ran = 0;
    for pair in running.lines.windows(2) {
        let Some(purpose) = pair[0].strip_prefix("# ") else { continue };
        let line = &pair[1];
        if ENDLESS.iter().any(|endless| purpose.starts_with(endless)) {
            continue;
        }
        if line.starts_with("grpcurl ") && !has_grpcurl {
            skipped(purpose);
            continue;
        }
        let output = Command::new("sh").args(["-c", line]).output().expect("a shell runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && !out.trim().is_empty(), "{line}\n{out}{err}");
        ran += 1;
    }
    assert!(ran >= 6, "{:#?}", running.lines);
    // As Ctrl-C would.
    let pid = rustix::process::Pid::from_child(&running.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal is sent");
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = running.child.try_wait().expect("a status") {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{status}");
    assert!(directory.join("node.toml").exists(), "what was asked to be kept is gone");
}

#[allow(clippy::print_stderr)] // Whoever reads the test's output is to know what it left out.
fn skipped(purpose: &str) {
    eprintln!("skipped, since there is no grpcurl on PATH: {purpose}");
}
