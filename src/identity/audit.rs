//! The audit log: every refusal and every administrative change, to the tracing target "audit" and to an append-only file of JSON lines
//! that is bounded in size; the latest refusals are kept for the operator. It never holds what an event says.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{File, OpenOptions},
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, SecondsFormat};
use serde::Serialize;

use crate::domain::SpiffeId;

/// So many refusals are remembered: as many as one answer of `ListDenials` can hold.
pub const DENIALS_REMEMBERED: usize = 1_000;
/// A file that has grown to this is put aside.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// So many files are kept beside the one that is written; the oldest is deleted.
const FILES_ASIDE_MAX: u32 = 4;
/// Of so many participants refusals are counted, so that nobody can fill the memory with names.
const PARTICIPANTS_MAX: usize = 10_000;

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Counts refusals since the start of the process, from 1; set by the log.
    pub number: u64,
    /// When, nanoseconds since 1970.
    pub time_ns: i64,
    /// Who was refused, where that is known; for a refused handshake whom the certificate names, proven or not.
    pub participant: Option<SpiffeId>,
    /// From where.
    pub remote_address: Option<SocketAddr>,
    /// What was asked: "handshake", "connection", or a method's full name.
    pub subject: String,
    /// Why, in one `UPPER_SNAKE` word, as in `ErrorInfo`.
    pub reason: String,
    /// Why, in words.
    pub detail: String,
}

/// The audit log of one node.
#[derive(Debug)]
pub struct AuditLog {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    path: PathBuf,
    file: File,
    written_bytes: u64,
    denials: VecDeque<Denial>,
    denial_count: u64,
    counts: BTreeMap<SpiffeId, u64>,
}

/// One line of the file.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    participant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_address: Option<SocketAddr>,
    subject: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    detail: &'a str,
}

impl AuditLog {
    /// Opens the file for appending, and makes it where there is none (mode 0600).
    ///
    /// # Errors
    /// It cannot be opened or made.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (file, written_bytes) = open_file(path)?;
        let state = State {
            path: path.to_owned(),
            file,
            written_bytes,
            denials: VecDeque::new(),
            denial_count: 0,
            counts: BTreeMap::new(),
        };
        Ok(Self { state: Mutex::new(state) })
    }

    /// Notes a refusal. Its number is set here. A line that cannot be written is said so in the log; the refusal stands.
    pub fn denied(&self, mut denial: Denial) {
        tracing::warn!(
            target: "audit",
            participant = denial.participant.as_ref().map(SpiffeId::as_str),
            remote_address = denial.remote_address.map(tracing::field::display),
            subject = denial.subject,
            reason = denial.reason,
            detail = denial.detail,
            "denied"
        );
        let mut state = self.state();
        state.denial_count += 1;
        denial.number = state.denial_count;
        if let Some(id) = &denial.participant
            && (state.counts.len() < PARTICIPANTS_MAX || state.counts.contains_key(id))
        {
            *state.counts.entry(id.clone()).or_default() += 1;
        }
        state.append(&Line {
            time: text_of(denial.time_ns),
            kind: "denied",
            participant: denial.participant.as_ref().map(SpiffeId::as_str),
            remote_address: denial.remote_address,
            subject: &denial.subject,
            reason: &denial.reason,
            detail: &denial.detail,
        });
        if state.denials.len() == DENIALS_REMEMBERED {
            state.denials.pop_front();
        }
        state.denials.push_back(denial);
    }

    /// Notes an administrative change: what (a method, "SIGHUP", "files"), by whom where somebody asked for it, and what came of it.
    pub fn administrative(&self, time_ns: i64, by: Option<&SpiffeId>, subject: &str, detail: &str) {
        let by = by.map(SpiffeId::as_str);
        tracing::info!(target: "audit", participant = by, subject, detail, "administrative change");
        self.state().append(&Line {
            time: text_of(time_ns),
            kind: "administrative",
            participant: by,
            remote_address: None,
            subject,
            reason: "",
            detail,
        });
    }

    /// The latest refusals, newest first: of one participant or of all, those with a lower number than `before` where that is given.
    #[must_use]
    pub fn recent(&self, participant: Option<&SpiffeId>, before: Option<u64>, max: usize) -> Vec<Denial> {
        let state = self.state();
        let wanted = |denial: &&Denial| {
            participant.is_none_or(|id| denial.participant.as_ref() == Some(id))
                && before.is_none_or(|before| denial.number < before)
        };
        state.denials.iter().rev().filter(wanted).take(max).cloned().collect()
    }

    /// How often a participant was refused since the process started.
    #[must_use]
    pub fn denied_count(&self, participant: &SpiffeId) -> u64 {
        self.state().counts.get(participant).copied().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A line may be cut short by a panic, which a reader of JSON lines skips; the rest stays right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Appends a line, in one write so that lines of other processes would not mix with it. Writing to the page cache takes microseconds
    /// and is done in place, so that a line is there before the refusal is answered.
    fn append(&mut self, line: &Line<'_>) {
        let mut text = serde_json::to_vec(line).expect("a line has only texts and an address");
        text.push(b'\n');
        let rotated = if FILE_BYTES_MAX < self.written_bytes + text.len() as u64 { self.rotate() } else { Ok(()) };
        match rotated.and_then(|()| self.file.write_all(&text)) {
            Ok(()) => self.written_bytes += text.len() as u64,
            Err(error) => tracing::error!(file = %self.path.display(), %error, "the audit log cannot be written"),
        }
    }

    /// audit.log.3 becomes audit.log.4 and so on; a new audit.log begins.
    fn rotate(&mut self) -> io::Result<()> {
        let aside = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..FILES_ASIDE_MAX).rev() {
            match std::fs::rename(aside(number), aside(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        std::fs::rename(&self.path, aside(1))?;
        (self.file, self.written_bytes) = open_file(&self.path)?;
        Ok(())
    }
}

fn open_file(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let written_bytes = file.metadata()?.len();
    Ok((file, written_bytes))
}

fn text_of(time_ns: i64) -> String {
    DateTime::from_timestamp_nanos(time_ns).to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(name: &str) -> Denial {
        Denial {
            number: 0,
            time_ns: 1_790_000_000_000_000_000,
            participant: Some(SpiffeId::parse(&format!("spiffe://customs.gov.pk/{name}")).expect("a good name")),
            remote_address: Some(SocketAddr::from(([127, 0, 0, 1], 7_443))),
            subject: "handshake".to_owned(),
            reason: "REVOKED".to_owned(),
            detail: "a \"quoted\"\nreason".to_owned(),
        }
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).expect("the file");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[test]
    fn refusals_and_changes_are_lines_of_a_file_that_grows_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.log");
        AuditLog::open(&path).expect("opened").denied(denial("a"));
        AuditLog::open(&path).expect("opened").administrative(0, None, "SIGHUP", "1 grant added");
        let lines = lines(&path);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["reason"], "REVOKED");
        assert_eq!(lines[0]["detail"], "a \"quoted\"\nreason");
        assert_eq!(lines[1]["subject"], "SIGHUP");
    }

    #[test]
    fn the_latest_refusals_are_remembered_and_no_more() {
        let directory = tempfile::tempdir().expect("a directory");
        let audit = AuditLog::open(&directory.path().join("audit.log")).expect("opened");
        for index in 0..DENIALS_REMEMBERED + 10 {
            audit.denied(denial(if index % 2 == 0 { "even" } else { "odd" }));
        }
        let all = audit.recent(None, None, usize::MAX);
        assert_eq!(all.len(), DENIALS_REMEMBERED);
        assert_eq!((all[0].number, all[DENIALS_REMEMBERED - 1].number), (1_010, 11));
        let even = denial("even").participant.expect("a name");
        assert_eq!(audit.denied_count(&even), 505);
        let page = audit.recent(Some(&even), Some(1_000), 2);
        assert_eq!(page.iter().map(|denial| denial.number).collect::<Vec<_>>(), [999, 997]);
    }

    #[test]
    fn the_file_is_put_aside_when_it_is_full() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.log");
        let audit = AuditLog::open(&path).expect("opened");
        for _ in 0..6 {
            audit.state().written_bytes = FILE_BYTES_MAX;
            audit.denied(denial("a"));
        }
        assert_eq!(lines(&path).len(), 1);
        let files = std::fs::read_dir(directory.path()).expect("the directory").count();
        assert_eq!(files, 1 + FILES_ASIDE_MAX as usize);
    }
}
