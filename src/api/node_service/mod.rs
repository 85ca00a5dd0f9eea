//! `NodeService`, for the operator of a node: what it is, what it does, whom it trusts and why it refuses. Every administrative change is
//! written to the audit log. It never shows what an event says.

mod access;
mod admin;
mod page;
mod peers;
mod people;
mod state;
mod subscriptions;

use std::{fmt, path::PathBuf, sync::Arc};

use futures::stream::BoxStream;
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use super::{LiveCalls, Refused, published::Published};
use crate::{
    clock::Clock,
    federation::Federation,
    identity::{Caller, Identity},
    log::{EventLog, LogAdmin},
    subscribe::{Sessions, durable::DurableSubscriptions},
    tasks::Tasks,
    views::{Associations, ViewHandle, page_token::PageTokens},
    wire::{
        door::CodeLists,
        proto::{self, node_service_server::NodeService},
    },
};

/// What `NodeService` answers from.
pub struct NodeParts {
    /// Trust, grants, connections, audit log.
    pub identity: Identity,
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// Its operator's side.
    pub admin: Arc<dyn LogAdmin>,
    /// The views.
    pub views: Vec<ViewHandle>,
    /// What belongs together: grants look at it.
    pub associations: Arc<Associations>,
    /// Live readers.
    pub sessions: Arc<Sessions>,
    /// Durable readers.
    pub durable: Arc<DurableSubscriptions>,
    /// Live calls.
    pub live: LiveCalls,
    /// What each participant published.
    pub published: Arc<Published>,
    /// The links to other nodes.
    pub federation: Arc<Federation>,
    /// The lists that codes are checked against.
    pub code_lists: Arc<CodeLists>,
    /// Seals page tokens.
    pub tokens: Arc<PageTokens>,
    /// Where long work of a call runs.
    pub tasks: Tasks,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where the node keeps its data.
    pub data_dir: PathBuf,
    /// When the process started, nanoseconds since 1970.
    pub start_time_ns: i64,
}

/// The service.
#[derive(Clone)]
pub struct NodeApi(Arc<NodeParts>);

impl NodeApi {
    /// The service over its parts.
    #[must_use]
    pub fn new(parts: NodeParts) -> Self {
        Self(Arc::new(parts))
    }

    fn note_change(&self, by: &Caller, method: &str, detail: &str) {
        self.0.identity.audit().administrative(self.0.clock.now_ns(), Some(&by.id), method, detail);
    }
}

#[tonic::async_trait]
impl NodeService for NodeApi {
    type VerifyLogStream = BoxStream<'static, Result<proto::VerifyLogResponse, Status>>;
    type RebuildViewStream = BoxStream<'static, Result<proto::RebuildViewResponse, Status>>;
    type CreateBackupStream = BoxStream<'static, Result<proto::CreateBackupResponse, Status>>;

    async fn get_node(&self, _: Request<proto::GetNodeRequest>) -> Result<Response<proto::GetNodeResponse>, Status> {
        Ok(Response::new(self.node_state().await?))
    }

    async fn list_connections(
        &self,
        request: Request<proto::ListConnectionsRequest>,
    ) -> Result<Response<proto::ListConnectionsResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.connections(&caller, request.get_ref())?))
    }

    async fn list_participants(
        &self,
        request: Request<proto::ListParticipantsRequest>,
    ) -> Result<Response<proto::ListParticipantsResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.participants(&caller, request.get_ref())?))
    }

    async fn list_grants(
        &self,
        request: Request<proto::ListGrantsRequest>,
    ) -> Result<Response<proto::ListGrantsResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.grants(&caller, request.get_ref())?))
    }

    async fn list_denials(
        &self,
        request: Request<proto::ListDenialsRequest>,
    ) -> Result<Response<proto::ListDenialsResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.denials(&caller, request.get_ref())?))
    }

    async fn list_trust(
        &self,
        _: Request<proto::ListTrustRequest>,
    ) -> Result<Response<proto::ListTrustResponse>, Status> {
        Ok(Response::new(self.trust()))
    }

    async fn check_access(
        &self,
        request: Request<proto::CheckAccessRequest>,
    ) -> Result<Response<proto::CheckAccessResponse>, Status> {
        Ok(Response::new(self.checked_access(request.get_ref()).await?))
    }

    async fn reload(&self, request: Request<proto::ReloadRequest>) -> Result<Response<proto::ReloadResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.reloaded(&caller).await?))
    }

    async fn verify_log(
        &self,
        request: Request<proto::VerifyLogRequest>,
    ) -> Result<Response<Self::VerifyLogStream>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.verification(&caller, *request.get_ref())?))
    }

    async fn rebuild_view(
        &self,
        request: Request<proto::RebuildViewRequest>,
    ) -> Result<Response<Self::RebuildViewStream>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.rebuild(&caller, request.get_ref())?))
    }

    async fn create_backup(
        &self,
        request: Request<proto::CreateBackupRequest>,
    ) -> Result<Response<Self::CreateBackupStream>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.backup(&caller)))
    }

    async fn list_peers(
        &self,
        _: Request<proto::ListPeersRequest>,
    ) -> Result<Response<proto::ListPeersResponse>, Status> {
        Ok(Response::new(self.peers()))
    }

    async fn pause_peer(
        &self,
        request: Request<proto::PausePeerRequest>,
    ) -> Result<Response<proto::PausePeerResponse>, Status> {
        let caller = caller(&request)?;
        self.pause(&caller, &request.get_ref().node).await?;
        Ok(Response::new(proto::PausePeerResponse {}))
    }

    async fn resume_peer(
        &self,
        request: Request<proto::ResumePeerRequest>,
    ) -> Result<Response<proto::ResumePeerResponse>, Status> {
        let caller = caller(&request)?;
        self.resume(&caller, request.get_ref()).await?;
        Ok(Response::new(proto::ResumePeerResponse {}))
    }

    async fn list_quarantine(
        &self,
        request: Request<proto::ListQuarantineRequest>,
    ) -> Result<Response<proto::ListQuarantineResponse>, Status> {
        Ok(Response::new(self.quarantine(&request.get_ref().node)?))
    }

    async fn list_subscriptions(
        &self,
        request: Request<proto::NodeServiceListSubscriptionsRequest>,
    ) -> Result<Response<proto::NodeServiceListSubscriptionsResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.subscriptions(&caller, request.get_ref())?))
    }
}

impl fmt::Debug for NodeParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeParts").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl fmt::Debug for NodeApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeApi").field(&self.0).finish()
    }
}

/// Who calls. That she may is the layers' to check, before any service is reached.
fn caller<T>(request: &Request<T>) -> Result<Caller, Refused> {
    request.extensions().get::<Caller>().cloned().ok_or_else(Refused::no_identity)
}

/// A time of ours as protobuf's.
fn timestamp(ns: i64) -> Timestamp {
    const NS_PER_SECOND: i64 = 1_000_000_000;
    Timestamp { seconds: ns.div_euclid(NS_PER_SECOND), nanos: ns.rem_euclid(NS_PER_SECOND) as i32 }
}
