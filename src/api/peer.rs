//! `PeerService`: hands a receiver's stream to federation. That the caller is a node of the peers file is the layers' to check. It never
//! looks into a message.

use std::{convert::Infallible, sync::Arc};

use futures::{StreamExt, stream::BoxStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Refused, live_calls::LiveCall};
use crate::{
    federation::Federation,
    identity::Caller,
    tasks::{OnFailure, Tasks},
    wire::proto::{ReplicateRequest, ReplicateResponse, peer_service_server::PeerService, replicate_response::Message},
};

/// Batches that wait for HTTP/2 to take them: at most about 2 MiB.
const WAITING_MAX: usize = 4;

/// The service.
#[derive(Debug, Clone)]
pub struct PeerApi {
    federation: Arc<Federation>,
    tasks: Tasks,
}

impl PeerApi {
    /// The service over federation; each stream is a task of its own.
    #[must_use]
    pub const fn new(federation: Arc<Federation>, tasks: Tasks) -> Self {
        Self { federation, tasks }
    }
}

#[tonic::async_trait]
impl PeerService for PeerApi {
    type ReplicateStream = BoxStream<'static, Result<ReplicateResponse, Status>>;

    async fn replicate(
        &self,
        request: Request<Streaming<ReplicateRequest>>,
    ) -> Result<Response<Self::ReplicateStream>, Status> {
        let caller = request.extensions().get::<Caller>().cloned().ok_or_else(Refused::no_identity)?;
        let call = LiveCall::of(&request);
        let (responses, outgoing) = mpsc::channel(WAITING_MAX);
        let (federation, requests) = (self.federation.clone(), request.into_inner());
        self.tasks.spawn("peer outbox", OnFailure::Log, async move {
            federation.serve(caller, Box::pin(requests), responses).await;
            Ok::<(), Infallible>(())
        });
        let counted = ReceiverStream::new(outgoing).inspect(move |response| {
            if let Ok(ReplicateResponse { message: Some(Message::Batch(batch)) }) = response {
                call.carried(batch.events.len());
            }
        });
        Ok(Response::new(counted.boxed()))
    }
}
