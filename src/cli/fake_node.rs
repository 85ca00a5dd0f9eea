//! A node for tests of the client's streams: it does what a test tells it, over plaintext on loopback. It never stores anything.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use futures::{Stream, StreamExt};
use tokio::{net::TcpListener, sync::Mutex};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};

use crate::wire::{
    PublishRequest,
    proto::{
        ExplainEventRequest, ExplainEventResponse, GetEventRequest, GetEventResponse, GetPortCallRequest,
        GetPortCallResponse, GetTimelineRequest, GetTimelineResponse, ListEventsRequest, ListEventsResponse,
        PublishResponse, PublishStreamRequest, PublishStreamResponse, SubscribeRequest, SubscribeResponse,
        event_service_server::{EventService, EventServiceServer},
    },
};

/// One publishing stream as a test wants it: answers to the requests in their order, and what comes when they are used up.
pub struct PublishScript {
    /// Makes the answer to each request.
    pub answers: VecDeque<Box<dyn Fn(PublishStreamRequest) -> PublishStreamResponse + Send>>,
    /// How the stream ends after them; none: it goes on with `always`.
    pub then: Option<Status>,
}

/// One subscription as a test wants it.
pub type SubscribeScript = Vec<Result<SubscribeResponse, Status>>;

/// What the node does and what it was asked.
#[derive(Default)]
pub struct Script {
    /// The next publishing streams.
    pub publish: VecDeque<PublishScript>,
    /// The next subscriptions.
    pub subscribe: VecDeque<SubscribeScript>,
    /// Every request of publishing streams.
    pub published: Vec<PublishStreamRequest>,
    /// Every request to subscribe.
    pub subscribed: Vec<SubscribeRequest>,
}

/// The node.
#[derive(Clone, Default)]
pub struct FakeNode(pub Arc<Mutex<Script>>);

impl FakeNode {
    /// Starts it and connects to it.
    pub async fn channel(&self) -> Channel {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let service = EventServiceServer::new(self.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
        Endpoint::from_shared(uri).unwrap().connect().await.unwrap()
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn untold<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the test does not use this"))
}

#[tonic::async_trait]
impl EventService for FakeNode {
    type PublishStreamStream = Answers<PublishStreamResponse>;
    type SubscribeStream = Answers<SubscribeResponse>;

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let script = self.0.lock().await.publish.pop_front().ok_or_else(|| Status::internal("one stream too many"))?;
        let node = self.clone();
        let answers = futures::stream::unfold(
            (request.into_inner(), script, node),
            |(mut requests, mut script, node)| async move {
                if script.answers.is_empty() {
                    return script.then.take().map(|status| (Err(status), (requests, script, node)));
                }
                let request = requests.next().await?.ok()?;
                node.0.lock().await.published.push(request.clone());
                let answer = script.answers.pop_front()?(request);
                Some((Ok(answer), (requests, script, node)))
            },
        );
        Ok(Response::new(Box::pin(answers)))
    }

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Result<Response<Self::SubscribeStream>, Status> {
        let mut script = self.0.lock().await;
        script.subscribed.push(request.into_inner());
        let messages = script.subscribe.pop_front().ok_or_else(|| Status::internal("one subscription too many"))?;
        Ok(Response::new(Box::pin(futures::stream::iter(messages))))
    }

    async fn publish(&self, _: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        untold()
    }

    async fn get_event(&self, _: Request<GetEventRequest>) -> Result<Response<GetEventResponse>, Status> {
        untold()
    }

    async fn list_events(&self, _: Request<ListEventsRequest>) -> Result<Response<ListEventsResponse>, Status> {
        untold()
    }

    async fn get_timeline(&self, _: Request<GetTimelineRequest>) -> Result<Response<GetTimelineResponse>, Status> {
        untold()
    }

    async fn get_port_call(&self, _: Request<GetPortCallRequest>) -> Result<Response<GetPortCallResponse>, Status> {
        untold()
    }

    async fn explain_event(&self, _: Request<ExplainEventRequest>) -> Result<Response<ExplainEventResponse>, Status> {
        untold()
    }
}
