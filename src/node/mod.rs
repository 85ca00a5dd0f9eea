//! The composition root: opens things in order, names every task, stops them in reverse within a deadline. It never serves a call.

pub mod code_lists;
mod gauges;
mod page_key;
mod services;
mod start;
mod stop;

pub use start::transport;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

pub use start::{COMPANIONS, log_options};
use tokio_util::sync::CancellationToken;
use tonic_health::server::HealthReporter;

use crate::{
    api::LiveCalls,
    domain::SpiffeId,
    identity::{self, Identity},
    log::{LogAdmin, sled_log},
    tasks::{TaskFailed, Tasks},
};

/// Starts nodes.
#[derive(Debug, Clone, Copy)]
pub struct Node;

/// A node at work. Dropping it does not stop it: call [`RunningNode::stop`].
pub struct RunningNode {
    /// The node's name.
    pub id: SpiffeId,
    /// Where participants connect; with the port that the system chose, where it was asked to.
    pub address: SocketAddr,
    /// Where probes and Prometheus connect, where wanted.
    pub operations_address: Option<SocketAddr>,
    identity: Identity,
    admin: Arc<dyn LogAdmin>,
    tasks: Tasks,
    live: LiveCalls,
    health: HealthReporter,
    draining: CancellationToken,
    cut: CancellationToken,
    stop_timeout: Duration,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be made or used.
    #[error("the data directory {} (node.data_dir) cannot be used: {error}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Certificates, trust, policy or audit log.
    #[error(transparent)]
    Identity(#[from] identity::OpenError),
    /// An address cannot be listened at.
    #[error("cannot listen at {address} ({setting}): {error}")]
    Listen {
        /// The setting that says so.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A code list cannot be used.
    #[error("the code list {} cannot be used: {fault}", path.display())]
    CodeList {
        /// Its file.
        path: PathBuf,
        /// Why.
        fault: code_lists::CodeListFault,
    },
    /// What is remembered of peers cannot be read.
    #[error("{}", .0.with_cause())]
    Peers(crate::storage::StorageError),
    /// What is stored of durable subscriptions cannot be read.
    #[error("{0}; {advice}", advice = crate::storage::RESTORE_ADVICE)]
    Subscriptions(String),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] sled_log::OpenError),
}

/// How a stop went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopReport {
    /// The task whose failure was the reason, where there was one.
    pub failure: Option<TaskFailed>,
    /// Tasks that had not ended by the deadline.
    pub unfinished: Vec<&'static str>,
}

impl RunningNode {
    /// Resolves when a task that the node needs has failed: then it is to be stopped.
    pub async fn failed(&self) -> TaskFailed {
        self.tasks.failed().await
    }

    /// Identity, trust, grants and connections of this node.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl std::fmt::Debug for RunningNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningNode")
            .field("id", &self.id)
            .field("address", &self.address)
            .field("operations_address", &self.operations_address)
            .field("tasks", &self.tasks)
            .finish_non_exhaustive()
    }
}
