//! Somebody with a receiver's certificate opens a stream beside the receiver's own, as an old process does that has not noticed its end:
//! takes a little and goes.

use std::time::Duration;

use futures::StreamExt;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tradelane::{
    domain::Epoch,
    wire::proto::{
        ReceiverEpoch, ReceiverHello, ReplicateRequest, peer_service_client::PeerServiceClient, replicate_request,
    },
};

use crate::{
    ground::locked,
    machine::{letter, node_id},
    net::Net,
};

/// How much it takes before it goes.
const MESSAGES_MAX: usize = 5;

/// Opens the stream and reads a little of it.
pub async fn haunt(net: Net, receiver: usize, source: usize, life: Epoch) {
    let Ok(end) = net.dial(receiver, &letter(source).to_string()).await else { return };
    let once = std::sync::Mutex::new(Some(end));
    let connector = tower::service_fn(move |_: http::Uri| {
        let end = locked(&once).take().map(TokioIo::new);
        std::future::ready(end.ok_or_else(|| std::io::Error::other("the connection is gone")))
    });
    let Ok(channel) = Endpoint::from_static("https://source").connect_with_connector(connector).await else { return };
    let (requests, outgoing) = mpsc::channel(4);
    let hello = ReceiverHello {
        version_min: 1,
        version_max: 1,
        node: node_id(receiver).to_string(),
        epochs: vec![ReceiverEpoch { epoch: life.to_string(), kept_sequence: 0 }],
        position: None,
        credit_bytes: 1 << 20,
        run: String::new(),
    };
    let hello = ReplicateRequest { message: Some(replicate_request::Message::Hello(hello)) };
    if requests.try_send(hello).is_err() {
        return;
    }
    let Ok(responses) = PeerServiceClient::new(channel).replicate(ReceiverStream::new(outgoing)).await else { return };
    let reading = responses.into_inner().take(MESSAGES_MAX).for_each(|_| std::future::ready(()));
    // A source that is cut off never says anything: the ghost goes all the same.
    let _ = tokio::time::timeout(Duration::from_secs(20), reading).await;
}
