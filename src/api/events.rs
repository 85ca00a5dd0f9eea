//! `EventService`: the participants' door. Publishing and subscribing are in the two files below; here is only which call goes
//! where. It never decides anything.

use std::{fmt, pin::Pin, sync::Arc};

use futures::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{Published, Recorder, Refused, StreamQuota, denials, queries::Queries};
use crate::{
    clock::Clock,
    identity::{Caller, audit::AuditLog},
    log::EventLog,
    publish::Door,
    subscribe::Subscriptions,
    wire::{PublishRequest, proto},
};

mod publishing;
mod service;
pub(super) mod subscribing;

/// A stream of answers.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

/// What the service is made of.
pub struct EventServiceParts {
    /// The write door.
    pub door: Arc<Door>,
    /// The read door.
    pub subscriptions: Arc<Subscriptions>,
    /// How far the log is.
    pub log: Arc<dyn EventLog>,
    /// How events are handed out.
    pub recorder: Recorder,
    /// The queries.
    pub queries: Arc<Queries>,
    /// What each participant published.
    pub published: Arc<Published>,
    /// How many streams each participant may hold.
    pub streams: Arc<StreamQuota>,
    /// Who was denied what.
    pub audit: Arc<AuditLog>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Resolves when the node stops: publishing streams end after their last answer.
    pub draining: CancellationToken,
}

/// The service.
pub struct EventApi {
    parts: Arc<EventServiceParts>,
}

impl EventApi {
    /// Serves by its parts.
    #[must_use]
    pub fn new(parts: EventServiceParts) -> Self {
        Self { parts: Arc::new(parts) }
    }
}

impl EventServiceParts {
    /// Tells the audit log, where a refusal is for want of rights.
    fn note_denial(&self, caller: &Caller, method: &str, refused: &Refused) {
        denials::note(&self.audit, &*self.clock, caller, method, refused);
    }
}

/// Who makes a call.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Refused> {
    request.extensions().get::<Caller>().cloned().ok_or_else(Refused::no_identity)
}

impl EventApi {
    /// `EventService.Publish`.
    ///
    /// # Errors
    /// Why nothing of the request is stored.
    pub async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<proto::PublishResponse>, Status> {
        publishing::publish(&self.parts, request).await
    }

    /// `EventService.PublishStream`.
    ///
    /// # Errors
    /// Why there is no stream.
    pub fn publish_stream(
        &self,
        request: Request<Streaming<proto::PublishStreamRequest>>,
    ) -> Result<Response<Answers<proto::PublishStreamResponse>>, Status> {
        publishing::publish_stream(&self.parts, request)
    }

    /// `EventService.Subscribe`.
    ///
    /// # Errors
    /// Why there is no stream.
    pub async fn subscribe(
        &self,
        request: Request<proto::SubscribeRequest>,
    ) -> Result<Response<Answers<proto::SubscribeResponse>>, Status> {
        subscribing::subscribe(&self.parts, request).await
    }
}

impl fmt::Debug for EventApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventApi").field("recorder", &self.parts.recorder).finish_non_exhaustive()
    }
}

impl fmt::Debug for EventServiceParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventServiceParts").field("recorder", &self.recorder).finish_non_exhaustive()
    }
}
