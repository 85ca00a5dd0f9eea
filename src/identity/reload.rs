//! When the files are read anew, and what came of it: on SIGHUP, when an operator asks, and when a file looks different (also where only
//! the symbolic link above it was switched, as Kubernetes does). It also warns of what will end soon. It never puts anything in force
//! itself.

use std::{collections::BTreeSet, fmt, os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{
    policy::{Grant, Policy},
    room::Identity,
    trust::{TrustItem, TrustStore},
};
use crate::{domain::SpiffeId, telemetry};

const DAY_NS: i64 = 86_400_000_000_000;
const HOUR_NS: i64 = 3_600_000_000_000;
/// A certificate's end is warned of so many days before.
const WARN_DAYS: [i64; 4] = [30, 14, 7, 1];
/// How often time itself is looked at: certificates and revocation lists that end.
const TIME_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Why the files are read anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReloadCause {
    /// The process got SIGHUP.
    Signal,
    /// A file looks different.
    Files,
    /// An operator asked by NodeService.Reload.
    Operator(SpiffeId),
}

/// What reading anew has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadOutcome {
    /// The policy generation in force now.
    pub policy_generation: u64,
    /// What changed, a line each; empty where nothing did.
    pub changes: Vec<String>,
    /// Live connections that are being closed, since they are no longer believed.
    pub closed_connection_count: usize,
}

/// What is different between two readings.
#[derive(Debug, Default)]
pub(super) struct Changes {
    trust: Vec<String>,
    /// Where this is empty, the policy stays as it is and no stream has to look again.
    pub(super) policy: Vec<String>,
    pub(super) peers: Vec<String>,
}

impl ReloadCause {
    /// The cause as the audit log names it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Signal => "SIGHUP",
            Self::Files => "files changed",
            Self::Operator(_) => "/tradelane.v1.NodeService/Reload",
        }
    }

    /// Who asked.
    #[must_use]
    pub const fn by(&self) -> Option<&SpiffeId> {
        match self {
            Self::Operator(id) => Some(id),
            Self::Signal | Self::Files => None,
        }
    }
}

impl fmt::Display for ReloadOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            f.write_str("nothing changed")?;
        } else {
            f.write_str(&self.changes.join("; "))?;
        }
        write!(f, "; {} connections closed", self.closed_connection_count)
    }
}

impl Changes {
    pub(super) fn between(before: (&TrustStore, &Policy), after: (&TrustStore, &Policy)) -> Self {
        let mut changes = Self::default();
        let line = |verb: &str, item: &TrustItem| {
            format!("{} of {} {verb}: {} (serial {})", item.kind.word(), item.trust_domain, item.name, item.serial)
        };
        let (old, new) = (before.0.items(), after.0.items());
        changes.trust.extend(new.iter().filter(|item| !old.contains(item)).map(|item| line("added", item)));
        changes.trust.extend(old.iter().filter(|item| !new.contains(item)).map(|item| line("removed", item)));

        let find = |policy: &Policy, id: &str| policy.grants.iter().find(|grant| grant.id == id).cloned();
        for grant in &after.1.grants {
            match find(before.1, &grant.id) {
                None => changes.policy.push(format!("grant {} added", grant.id)),
                Some(old) if !is_same(&old, grant) => changes.policy.push(format!("grant {} changed", grant.id)),
                Some(_) => {}
            }
        }
        let gone = before.1.grants.iter().filter(|grant| find(after.1, &grant.id).is_none());
        changes.policy.extend(gone.map(|grant| format!("grant {} removed", grant.id)));
        if before.1.successors != after.1.successors {
            changes.policy.push("successors changed".to_owned());
        }
        changes
    }

    pub(super) fn all(mut self) -> Vec<String> {
        self.trust.append(&mut self.policy);
        self.trust.append(&mut self.peers);
        self.trust
    }
}

fn is_same(one: &Grant, other: &Grant) -> bool {
    // All fields but the compiled filters, which follow from the written ones.
    let Grant { id, who, actions, filters, compiled: _, start_time_ns, expires_time_ns, history_from_start, private } =
        one;
    *id == other.id
        && *who == other.who
        && *actions == other.actions
        && *filters == other.filters
        && *start_time_ns == other.start_time_ns
        && *expires_time_ns == other.expires_time_ns
        && *history_from_start == other.history_from_start
        && *private == other.private
}

impl Identity {
    /// Watches the files, SIGHUP and the clock until stopped: reads anew, closes connections whose certificate or revocation list has
    /// ended, warns of ends to come. For a task of its own.
    ///
    /// # Errors
    /// SIGHUP cannot be listened to.
    pub async fn watch(self, stopping: CancellationToken) -> std::io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut looks = tokio::time::interval(self.0.config.poll_interval);
        let mut checks = tokio::time::interval(TIME_CHECK_INTERVAL);
        // Nothing: what was written between the first reading and this look must not be missed, so the first look reads once more.
        let mut seen = Vec::new();
        let mut warnings = Warnings::default();
        loop {
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                _ = checks.tick() => self.check_time(&mut warnings),
                _ = looks.tick() => {
                    let now = self.fingerprint().await;
                    if now != seen {
                        seen = now;
                        self.reload_logged(&ReloadCause::Files).await;
                    }
                }
                _ = hangup.recv() => {
                    seen = self.fingerprint().await;
                    self.reload_logged(&ReloadCause::Signal).await;
                }
            }
        }
    }

    async fn reload_logged(&self, cause: &ReloadCause) {
        // A failure is logged and audited where it happens.
        if let Ok(outcome) = self.reload(cause).await
            && !(outcome.changes.is_empty() && *cause == ReloadCause::Files)
        {
            tracing::info!(cause = cause.word(), %outcome, "read certificates, trust and policy anew");
        }
    }

    /// What every file looks like now: it differs when a file or a link above it was replaced, or when it was written.
    async fn fingerprint(&self) -> Vec<(PathBuf, Option<[i64; 6]>)> {
        let mut files = self.trust().files().to_vec();
        files.push(self.0.config.policy_file.clone());
        files.extend(self.0.config.peers_file.clone());
        let look = move || {
            let look_at = |path: PathBuf| {
                let found = std::fs::metadata(&path).ok().map(|found| {
                    let (device, inode, size) = (found.dev() as i64, found.ino() as i64, found.size() as i64);
                    [device, inode, size, found.mtime(), found.mtime_nsec(), found.ctime_nsec()]
                });
                (path, found)
            };
            files.into_iter().map(look_at).collect()
        };
        // Where the look itself fails, the next one differs and the files are read again: harmless.
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }

    fn check_time(&self, warnings: &mut Warnings) {
        let (trust, now_ns) = (self.trust(), self.0.clock.now_ns());
        let closed = self.close_where(|connection| trust.check_time(&connection.peer, now_ns).err());
        if !closed.is_empty() {
            tracing::warn!(connections = closed.len(), "closed connections whose certificates no longer count");
        }
        for item in self.trust_items() {
            let days = item.remaining_ns(now_ns).max(0) / DAY_NS;
            if warnings.is_due(&item, now_ns) {
                let (kind, domain) = (item.kind.word(), item.trust_domain.as_str());
                tracing::warn!(
                    kind,
                    domain,
                    name = item.name,
                    serial = item.serial,
                    days,
                    "will end soon, or has ended"
                );
            }
        }
        for (domain, refusal) in trust.refused_domains(now_ns) {
            if warnings.is_due_hourly(domain.as_str(), now_ns) {
                tracing::error!(%domain, %refusal, "every certificate of this domain is refused");
            }
        }
        for item in trust.lists_in_grace(now_ns) {
            if warnings.is_due_hourly(&item.name, now_ns) {
                let (domain, file) = (&item.trust_domain, item.file.display());
                tracing::error!(%domain, name = item.name, %file, "a revocation list has ended and counts only for its grace");
            }
        }
        publish_ends(&trust.items());
    }
}

/// What was warned of already.
#[derive(Debug, Default)]
struct Warnings {
    of_items: BTreeSet<(String, i64)>,
    hours: BTreeSet<(String, i64)>,
}

/// So many warnings are remembered; then all may come once more.
const WARNINGS_MAX: usize = 10_000;

impl Warnings {
    /// Once for each of [`WARN_DAYS`] that has begun.
    fn is_due(&mut self, item: &TrustItem, now_ns: i64) -> bool {
        let remaining_ns = item.remaining_ns(now_ns);
        let Some(stage) = WARN_DAYS.into_iter().rev().find(|days| remaining_ns <= days * DAY_NS) else { return false };
        // A certificate that was issued for a shorter time than this is not near its end from its beginning on.
        let life_ns = item.not_after_ns.saturating_sub(item.not_before_ns);
        if life_ns / 3 < remaining_ns {
            return false;
        }
        if WARNINGS_MAX < self.of_items.len() {
            self.of_items.clear();
        }
        self.of_items.insert((format!("{} {} {}", item.kind.word(), item.name, item.serial), stage))
    }

    fn is_due_hourly(&mut self, what: &str, now_ns: i64) -> bool {
        let hour = now_ns / HOUR_NS;
        self.hours.retain(|(_, at)| *at == hour);
        self.hours.insert((what.to_owned(), hour))
    }
}

/// The first end of each kind and domain, as a metric.
fn publish_ends(items: &[TrustItem]) {
    let mut seen = BTreeSet::new();
    for item in items {
        // Items come soonest end first.
        if seen.insert((item.kind, item.trust_domain.as_str())) {
            let (role, domain) = (item.kind.word().to_owned(), item.trust_domain.to_string());
            let seconds = item.not_after_ns as f64 / 1e9;
            metrics::gauge!(telemetry::CERTIFICATE_EXPIRY_TIMESTAMP_SECONDS, "role" => role, "trust_domain" => domain)
                .set(seconds);
        }
    }
}

#[cfg(test)]
mod tests;
