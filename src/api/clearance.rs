//! `ClearanceService` as tonic calls it: each call goes to the queries or becomes a watch. It never decides anything.

mod watching;

use std::{fmt, sync::Arc};

use tonic::{Request, Response, Status};

use super::{
    Recorder, Refused, StreamQuota, denials,
    events::{Answers, caller},
    live_calls::LiveCall,
    queries::{Queries, QueryError},
};
use crate::{
    clock::Clock,
    identity::{Caller, audit::AuditLog},
    subscribe::Subscriptions,
    wire::proto::{self, clearance_service_server::ClearanceService},
};

/// What the service is made of.
pub struct ClearanceServiceParts {
    /// The queries.
    pub queries: Arc<Queries>,
    /// The read door: watches follow the log through it.
    pub subscriptions: Arc<Subscriptions>,
    /// How events are handed out.
    pub recorder: Recorder,
    /// How many streams each participant may hold.
    pub streams: Arc<StreamQuota>,
    /// Who was denied what.
    pub audit: Arc<AuditLog>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The service.
pub struct ClearanceApi {
    parts: ClearanceServiceParts,
}

impl ClearanceApi {
    /// Serves by its parts.
    #[must_use]
    pub const fn new(parts: ClearanceServiceParts) -> Self {
        Self { parts }
    }

    fn refuse(&self, caller: &Caller, method: &str, refused: Refused) -> Status {
        denials::note(&self.parts.audit, &*self.parts.clock, caller, method, &refused);
        refused.into()
    }

    /// Asks the queries in the caller's name.
    async fn query<Q, A>(
        &self,
        method: &'static str,
        request: Request<Q>,
        ask: impl AsyncFnOnce(&Caller, Q) -> Result<A, QueryError>,
    ) -> Result<Response<A>, Status> {
        let caller = caller(&request)?;
        let answer = ask(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| self.refuse(&caller, method, error.into()))
    }
}

#[tonic::async_trait]
impl ClearanceService for ClearanceApi {
    type WatchClearancesStream = Answers<proto::WatchClearancesResponse>;

    async fn get_clearance(
        &self,
        request: Request<proto::GetClearanceRequest>,
    ) -> Result<Response<proto::GetClearanceResponse>, Status> {
        let queries = &self.parts.queries;
        self.query("GetClearance", request, async |caller, asked| queries.get_clearance(caller, asked).await).await
    }

    async fn list_clearances(
        &self,
        request: Request<proto::ListClearancesRequest>,
    ) -> Result<Response<proto::ListClearancesResponse>, Status> {
        let queries = &self.parts.queries;
        self.query("ListClearances", request, async |caller, asked| queries.list_clearances(caller, asked).await).await
    }

    async fn watch_clearances(
        &self,
        request: Request<proto::WatchClearancesRequest>,
    ) -> Result<Response<Self::WatchClearancesStream>, Status> {
        let caller = caller(&request)?;
        let watch = watching::watch(&self.parts, (&caller, LiveCall::of(&request)), request.into_inner()).await;
        watch.map(Response::new).map_err(|refused| self.refuse(&caller, "WatchClearances", refused))
    }
}

impl fmt::Debug for ClearanceServiceParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClearanceServiceParts").field("recorder", &self.recorder).finish_non_exhaustive()
    }
}

impl fmt::Debug for ClearanceApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClearanceApi").field("parts", &self.parts).finish()
    }
}
