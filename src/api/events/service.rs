//! `EventService` as tonic calls it: each call goes to the door, the subscriptions or the queries. It never decides anything.

use tonic::{Request, Response, Status, Streaming};

use super::{Answers, EventApi, caller};
use crate::{
    api::{Refused, queries::QueryError},
    identity::Caller,
    wire::{
        PublishRequest,
        proto::{self, event_service_server::EventService},
    },
};

/// Asks the queries in the caller's name.
async fn query<Q, A>(
    api: &EventApi,
    method: &'static str,
    request: Request<Q>,
    ask: impl AsyncFnOnce(&Caller, Q) -> Result<A, QueryError>,
) -> Result<Response<A>, Status> {
    let caller = caller(&request)?;
    ask(&caller, request.into_inner()).await.map(Response::new).map_err(|error| {
        let refused = Refused::from(error);
        api.parts.note_denial(&caller, method, &refused);
        refused.into()
    })
}

#[tonic::async_trait]
impl EventService for EventApi {
    type PublishStreamStream = Answers<proto::PublishStreamResponse>;
    type SubscribeStream = Answers<proto::SubscribeResponse>;

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<proto::PublishResponse>, Status> {
        self.publish(request).await
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<proto::PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        self.publish_stream(request)
    }

    async fn subscribe(
        &self,
        request: Request<proto::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        self.subscribe(request).await
    }

    async fn get_event(
        &self,
        request: Request<proto::GetEventRequest>,
    ) -> Result<Response<proto::GetEventResponse>, Status> {
        let queries = &self.parts.queries;
        query(self, "GetEvent", request, async |caller, asked| queries.get_event(caller, asked).await).await
    }

    async fn list_events(
        &self,
        request: Request<proto::ListEventsRequest>,
    ) -> Result<Response<proto::ListEventsResponse>, Status> {
        let queries = &self.parts.queries;
        query(self, "ListEvents", request, async |caller, asked| queries.list_events(caller, asked).await).await
    }

    async fn get_timeline(
        &self,
        request: Request<proto::GetTimelineRequest>,
    ) -> Result<Response<proto::GetTimelineResponse>, Status> {
        let queries = &self.parts.queries;
        query(self, "GetTimeline", request, async |caller, asked| queries.get_timeline(caller, asked).await).await
    }

    async fn get_port_call(
        &self,
        request: Request<proto::GetPortCallRequest>,
    ) -> Result<Response<proto::GetPortCallResponse>, Status> {
        let queries = &self.parts.queries;
        query(self, "GetPortCall", request, async |caller, asked| queries.get_port_call(caller, asked).await).await
    }

    async fn explain_event(
        &self,
        request: Request<proto::ExplainEventRequest>,
    ) -> Result<Response<proto::ExplainEventResponse>, Status> {
        let queries = &self.parts.queries;
        query(self, "ExplainEvent", request, async |caller, asked| queries.explain_event(caller, asked).await).await
    }
}
