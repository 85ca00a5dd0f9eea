//! What tells a source's stream that something may have changed what goes to its peer. It never says what.

use std::sync::Arc;

use tokio::sync::watch;

use super::FederationParts;
use crate::identity::Peers;

/// The peers file, the policy and operators' words, as they are looked at from one moment on.
pub(super) struct Changes {
    peers: watch::Receiver<Arc<Peers>>,
    policy: watch::Receiver<u64>,
    told: watch::Receiver<u64>,
}

impl Changes {
    /// Looks from now on.
    pub(super) fn of(parts: &FederationParts) -> Self {
        Self { peers: parts.peers.clone(), policy: parts.access.generation(), told: parts.table.told() }
    }

    /// Resolves when something has changed since the last time.
    pub(super) async fn next(&mut self) {
        let gone = tokio::select! {
            biased;
            changed = self.peers.changed() => changed.is_err(),
            changed = self.policy.changed() => changed.is_err(),
            changed = self.told.changed() => changed.is_err(),
        };
        if gone {
            // Who could say something has gone: nothing changes any more.
            std::future::pending::<()>().await;
        }
    }
}
