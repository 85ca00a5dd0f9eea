//! The identity room as the node opens it: trust, grants, connections and the audit log together, and the one way to read their files
//! anew. It never accepts a connection or answers a call itself.

use std::{io, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{
    acceptor::Acceptor,
    audit::AuditLog,
    connections::{ConnectionInfo, ConnectionLimits, Connections},
    peers::Peers,
    policy::{Access, file},
    reload::{Changes, ReloadCause, ReloadOutcome},
    toml_file::Faults,
    trust::{TrustItem, TrustItemKind, TrustStore},
};
use crate::{
    clock::Clock,
    config::IdentityConfig,
    domain::{SpiffeId, TrustDomain},
    telemetry,
};

/// Why the identity room cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Certificates, trust or policy have faults.
    #[error(transparent)]
    Files(#[from] Faults),
    /// The audit log cannot be written: a node that cannot say whom it refused must not start.
    #[error("the audit log {} cannot be opened: {error}", path.display())]
    Audit {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Who is connected, whom the node believes, and what they may do. Cheap to clone.
#[derive(Clone)]
pub struct Identity(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) config: IdentityConfig,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) trust: Arc<ArcSwap<TrustStore>>,
    access: Arc<Access>,
    peers: watch::Sender<Arc<Peers>>,
    pub(super) connections: Connections,
    pub(super) audit: Arc<AuditLog>,
    /// One reading at a time, so that an older one can never replace a newer.
    reading: tokio::sync::Mutex<()>,
}

impl Identity {
    /// Reads all files and opens the audit log.
    ///
    /// # Errors
    /// Every fault of the files at once, or the audit log cannot be opened.
    pub fn open(config: &IdentityConfig, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let Files { trust, policy, peers } = read(config, clock.now_ns())?;
        let audit = AuditLog::open(&config.audit_file)
            .map_err(|error| OpenError::Audit { path: config.audit_file.clone(), error })?;
        let limits =
            ConnectionLimits { all_max: config.connections_max, per_address_max: config.connections_per_address_max };
        let inner = Inner {
            config: config.clone(),
            trust: Arc::new(ArcSwap::from_pointee(trust)),
            access: Arc::new(Access::new(policy)),
            peers: watch::Sender::new(Arc::new(peers)),
            connections: Connections::new(limits, clock.clone()),
            audit: Arc::new(audit),
            reading: tokio::sync::Mutex::new(()),
            clock,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Reads all files and says what is wrong with them, without keeping anything.
    ///
    /// # Errors
    /// Every fault of the files at once.
    pub fn check(config: &IdentityConfig, now_ns: i64) -> Result<(), Faults> {
        read(config, now_ns).map(|_| ())
    }

    /// The node's own name. It stays the same while the process lives: a reload under another name is refused.
    #[must_use]
    pub fn own_id(&self) -> SpiffeId {
        self.0.trust.load().own_id().clone()
    }

    /// The grants in force.
    #[must_use]
    pub fn access(&self) -> &Arc<Access> {
        &self.0.access
    }

    /// The other nodes, as the peers file in force has them.
    #[must_use]
    pub fn peers(&self) -> watch::Receiver<Arc<Peers>> {
        self.0.peers.subscribe()
    }

    /// The trust in force.
    #[must_use]
    pub fn trust(&self) -> Arc<TrustStore> {
        self.0.trust.load_full()
    }

    /// The live connections.
    #[must_use]
    pub fn connections(&self) -> &Connections {
        &self.0.connections
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> &Arc<AuditLog> {
        &self.0.audit
    }

    /// Accepts connections; call its `incoming` with a listener.
    #[must_use]
    pub fn acceptor(&self) -> Acceptor {
        let inner = &self.0;
        Acceptor::new(
            &inner.config,
            inner.trust.clone(),
            inner.connections.clone(),
            inner.audit.clone(),
            inner.clock.clone(),
        )
    }

    /// Every certificate and revocation list that the node relies on, those of connected participants too, soonest end first.
    #[must_use]
    pub fn trust_items(&self) -> Vec<TrustItem> {
        let mut items = self.trust().items();
        items.extend(self.0.connections.list().iter().filter_map(item_of));
        items.sort_by_key(|item| item.not_after_ns);
        items
    }

    /// Reads all files anew and puts them in force, all or nothing; live connections that are no longer believed are closed. What came of
    /// it stands in the audit log.
    ///
    /// # Errors
    /// The faults of the files; everything stays as it was.
    pub async fn reload(&self, cause: &ReloadCause) -> Result<ReloadOutcome, Faults> {
        let _one_at_a_time = self.0.reading.lock().await;
        let (config, now_ns) = (self.0.config.clone(), self.0.clock.now_ns());
        let reading = tokio::task::spawn_blocking(move || read(&config, now_ns));
        let read = match reading.await {
            Ok(read) => read,
            Err(panic) => Err(super::toml_file::whole(&self.0.config.trust_file, format!("reading panicked: {panic}"))),
        };
        let outcome = read.and_then(|files| self.put_in_force(files));
        let label = match &outcome {
            Ok(outcome) if outcome.changes.is_empty() => "unchanged",
            Ok(_) => "changed",
            Err(_) => "failed",
        };
        metrics::counter!(telemetry::RELOADS_TOTAL, "outcome" => label).increment(1);
        let detail = match &outcome {
            // A file that was only touched: nobody did anything.
            Ok(outcome) if outcome.changes.is_empty() && *cause == ReloadCause::Files => return Ok(outcome.clone()),
            Ok(outcome) => outcome.to_string(),
            Err(faults) => format!("refused, all stays as it was: {faults}"),
        };
        if outcome.is_err() {
            tracing::error!(%detail, "certificates, trust and policy were not read anew");
        }
        self.0.audit.administrative(now_ns, cause.by(), cause.word(), &detail);
        outcome
    }

    fn put_in_force(&self, Files { trust, policy, peers }: Files) -> Result<ReloadOutcome, Faults> {
        let before = self.0.trust.load_full();
        if before.own_id() != trust.own_id() {
            let why = format!(
                "names {}, but this node is {}: a node's name belongs to its log and cannot change while it runs",
                trust.own_id(),
                before.own_id()
            );
            return Err(super::toml_file::whole(&self.0.config.certificate_file, why));
        }
        let mut changes = Changes::between((&before, &self.0.access.policy()), (&trust, &policy));
        changes.peers = self.0.peers.borrow().changes_to(&peers);
        self.0.trust.store(Arc::new(trust));
        let policy_generation =
            if changes.policy.is_empty() { self.0.access.policy().generation } else { self.0.access.replace(policy) };
        self.0.peers.send_if_modified(|now| {
            let changed = **now != peers;
            *now = Arc::new(peers);
            changed
        });
        let closed = self.close_disbelieved();
        Ok(ReloadOutcome { policy_generation, changes: changes.all(), closed_connection_count: closed.len() })
    }

    /// Looks at every live connection's chain again, and closes those that are no longer believed.
    fn close_disbelieved(&self) -> Vec<ConnectionInfo> {
        let (trust, now_ns) = (self.trust(), self.0.clock.now_ns());
        self.close_where(|connection| trust.verify_client(&connection.peer.chain, now_ns).err())
    }

    /// Closes the connections for which the predicate has a refusal, and notes each in the audit log.
    pub(super) fn close_where(
        &self,
        refusal: impl Fn(&ConnectionInfo) -> Option<super::trust::Refusal>,
    ) -> Vec<ConnectionInfo> {
        let mut refusals = std::collections::BTreeMap::new();
        for connection in self.0.connections.list() {
            if let Some(refusal) = refusal(&connection) {
                refusals.insert(connection.caller.connection_id, refusal);
            }
        }
        let text = |connection: &ConnectionInfo| {
            refusals
                .get(&connection.caller.connection_id)
                .map(|refusal| format!("the certificate of this connection is no longer accepted: {}", refusal.reason))
        };
        let closed = self.0.connections.close(text);
        for connection in &closed {
            if let Some(refusal) = refusals.remove(&connection.caller.connection_id) {
                self.0.audit.denied(super::audit::Denial {
                    number: 0,
                    time_ns: self.0.clock.now_ns(),
                    participant: Some(connection.caller.id.clone()),
                    remote_address: Some(connection.caller.remote_address),
                    subject: "connection".to_owned(),
                    reason: refusal.reason.word().to_owned(),
                    detail: refusal.detail,
                });
            }
        }
        closed
    }
}

/// What the files say together.
struct Files {
    trust: TrustStore,
    policy: super::policy::Policy,
    peers: Peers,
}

fn read(config: &IdentityConfig, now_ns: i64) -> Result<Files, Faults> {
    let trust = TrustStore::load(config, now_ns);
    // Every file is read whatever the others have, so that all faults come at once; successors matter only where all are good.
    let none = super::policy::Successors::default();
    let successors = trust.as_ref().map_or(&none, TrustStore::successors);
    let policy = file::read(&config.policy_file, successors);
    let peers = match &config.peers_file {
        None => Ok(Peers::default()),
        Some(path) => Peers::read(path, trust.as_ref().ok()),
    };
    match (trust, policy, peers) {
        (Ok(trust), Ok(policy), Ok(peers)) => Ok(Files { trust, policy, peers }),
        (trust, policy, peers) => {
            let faults = [trust.err(), policy.err(), peers.err()].into_iter().flatten().flat_map(|faults| faults.0);
            Err(Faults(faults.collect()))
        }
    }
}

fn item_of(connection: &ConnectionInfo) -> Option<TrustItem> {
    let domain = TrustDomain::parse(connection.caller.id.trust_domain()).ok()?;
    let (kind, name) = (TrustItemKind::ParticipantCertificate, connection.caller.id.to_string());
    Some(TrustItem::of_certificate(kind, &domain, name, &connection.peer.facts, &PathBuf::new()))
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("own_id", &self.own_id()).finish_non_exhaustive()
    }
}
