//! A source that is not what it should be: between a receiver and a true source it loses a batch, repeats one, begins one too late, says
//! another hash or another origin, or that events have passed the receiver before. The receiver must refuse, and store nothing of it.

use std::{
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use hyper_util::rt::TokioIo;
use tonic::{Request, Response, Status, Streaming, transport::Endpoint};
use tradelane::{
    identity::Caller,
    wire::{
        ReplicaBatch,
        proto::{
            ReplicateRequest, ReplicateResponse,
            peer_service_client::PeerServiceClient,
            peer_service_server::{PeerService, PeerServiceServer},
            replicate_response::Message,
        },
    },
};

use crate::{
    ground::{Trace, locked},
    lines::serve,
    machine::node_id,
    pipe::End,
};

/// What is wrong with a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A batch with events is lost.
    Lost,
    /// A batch with events comes twice.
    Repeated,
    /// The first event of a batch is left out, and the batch says that it begins after it.
    Shortened,
    /// The hash of what a batch covers is another.
    OtherHash,
    /// The events say that they have passed the receiver.
    Circle,
    /// The events say that they were first admitted at the receiver.
    ForgedOrigin,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Lost, Self::Repeated, Self::Shortened, Self::OtherHash, Self::Circle, Self::ForgedOrigin];
}

/// Stands between a receiver, at the other end of `near`, and a source, at the other end of `far`.
pub fn stand_between(far: End, near: End, source: Caller, fault: Fault, receiver: usize, trace: &Trace) {
    let trace = trace.clone();
    tokio::spawn(async move {
        let once = Mutex::new(Some(far));
        let connector = tower::service_fn(move |_: http::Uri| {
            let end = locked(&once).take().map(TokioIo::new);
            ready(end.ok_or_else(|| std::io::Error::other("the connection is gone")))
        });
        let endpoint = Endpoint::from_static("https://source").connect_with_connector(connector).await;
        let Ok(channel) = endpoint else { return };
        let client = PeerServiceClient::new(channel);
        let passed = Arc::new(AtomicU64::new(0));
        let between = Between { client, fault, receiver, source: source.id.to_string(), passed, trace };
        serve(near, source, PeerServiceServer::new(between)).await;
    });
}

#[derive(Clone)]
struct Between {
    client: PeerServiceClient<tonic::transport::Channel>,
    fault: Fault,
    receiver: usize,
    source: String,
    /// Batches with events so far: the second is the one that is wrong.
    passed: Arc<AtomicU64>,
    trace: Trace,
}

#[tonic::async_trait]
impl PeerService for Between {
    type ReplicateStream = BoxStream<'static, Result<ReplicateResponse, Status>>;

    async fn replicate(
        &self,
        request: Request<Streaming<ReplicateRequest>>,
    ) -> Result<Response<Self::ReplicateStream>, Status> {
        let requests = request.into_inner().take_while(|said| ready(said.is_ok())).filter_map(|said| ready(said.ok()));
        let responses = self.client.clone().replicate(requests).await?.into_inner();
        let between = self.clone();
        let altered = responses.flat_map(move |response| futures::stream::iter(between.altered(response)));
        Ok(Response::new(altered.boxed()))
    }
}

impl Between {
    fn altered(&self, response: Result<ReplicateResponse, Status>) -> Vec<Result<ReplicateResponse, Status>> {
        let batch = match response {
            Ok(ReplicateResponse { message: Some(Message::Batch(batch)) }) if !batch.events.is_empty() => batch,
            other => return vec![other],
        };
        let said = |batch| Ok(ReplicateResponse { message: Some(Message::Batch(batch)) });
        if self.passed.fetch_add(1, Ordering::SeqCst) != 1 {
            return vec![said(batch)];
        }
        self.trace.say(format_args!("a faulty source: {:?} towards {}", self.fault, self.receiver));
        self.wrong(batch).into_iter().map(said).collect()
    }

    fn wrong(&self, mut batch: ReplicaBatch) -> Vec<ReplicaBatch> {
        let own = node_id(self.receiver).to_string();
        match self.fault {
            Fault::Lost => Vec::new(),
            Fault::Repeated => vec![batch.clone(), batch],
            Fault::Shortened => {
                batch.after_sequence = batch.events.remove(0).source_sequence;
                vec![batch]
            }
            Fault::OtherHash => {
                if let Some(through) = &mut batch.through {
                    through.sequence = batch.after_sequence;
                    through.chain_hash = Bytes::from_static(&[7; 32]);
                }
                batch.events.clear();
                vec![batch]
            }
            Fault::Circle => {
                for event in &mut batch.events {
                    event.via.insert(0, own.clone());
                    if event.via.len() == 1 {
                        event.via.push(self.source.clone());
                    }
                }
                vec![batch]
            }
            Fault::ForgedOrigin => {
                for origin in batch.events.iter_mut().filter_map(|event| event.origin.as_mut()) {
                    origin.node.clone_from(&own);
                }
                vec![batch]
            }
        }
    }
}
