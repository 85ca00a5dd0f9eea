//! When a link is tried again: seldom where nobody answers, never in step with others, and soon only after something was delivered; and how
//! a source hears why it ended. Where pauses are measured, time is simulated: it passes at once where nobody works.

use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::{
    wrong_peer::{batch, hello, honest, receiver},
    *,
};
use crate::{
    federation::{dial::Line, link::Link, messages},
    wire::proto::{
        ReplicationEndReason,
        peer_service_server::{PeerService, PeerServiceServer},
        replicate_request,
    },
};

/// What a source says in one stream, which it then closes; and whether it waits for an acknowledgement before that.
type Script = (Vec<ReplicateResponse>, bool);

/// A source that takes up a connection so many times, and then is dead. When it was dialled is kept.
#[derive(Default)]
struct Scripted {
    scripts: Mutex<std::collections::VecDeque<Script>>,
    dialled: Mutex<Vec<Instant>>,
}

impl Dial for Arc<Scripted> {
    fn dial(&self, _: PeerAddress, _: SpiffeId) -> BoxFuture<'static, Result<Line, String>> {
        self.dialled.lock().expect("no panic").push(Instant::now());
        let script = self.scripts.lock().expect("no panic").pop_front();
        let dialled = script.ok_or_else(|| "nobody answers".to_owned()).map(|script| {
            let (near, far) = tokio::io::duplex(64 * 1024);
            let service = PeerServiceServer::new(OneStream(Mutex::new(Some(script))));
            let connection = futures::stream::iter([Ok::<_, std::io::Error>(far)]);
            tokio::spawn(Server::builder().add_service(service).serve_with_incoming(connection));
            Line { io: Box::new(near), disbelieved: std::future::pending().boxed() }
        });
        std::future::ready(dialled).boxed()
    }
}

struct OneStream(Mutex<Option<Script>>);

#[tonic::async_trait]
impl PeerService for OneStream {
    type ReplicateStream = ReceiverStream<Result<ReplicateResponse, Status>>;

    async fn replicate(
        &self,
        requests: Request<Streaming<ReplicateRequest>>,
    ) -> Result<Response<Self::ReplicateStream>, Status> {
        let (said, waits) = self.0.lock().expect("no panic").take().expect("one stream a connection");
        let (responses, stream) = mpsc::channel(4);
        let mut requests = requests.into_inner();
        tokio::spawn(async move {
            for response in said {
                responses.send(Ok(response)).await.expect("the receiver listens");
            }
            let mut is_acknowledged = !waits;
            while !is_acknowledged {
                let request =
                    requests.message().await.expect("no failure").expect("it goes on until it is acknowledged");
                is_acknowledged = matches!(request.message, Some(replicate_request::Message::Acknowledgement(_)));
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// The pauses between the times at which the only dialled peer of a node is tried, for so long.
async fn pauses(side: &Side, scripts: Vec<Script>, watched: Duration) -> Vec<Duration> {
    let dial = Arc::new(Scripted { scripts: Mutex::new(scripts.into()), ..Scripted::default() });
    let peer = Arc::new(Peer { address: Some(address()), ..peer('b') });
    let stop = CancellationToken::new();
    let link = Link { parts: side.federation.parts().clone(), dial: Arc::new(dial.clone()), peer, stop: stop.clone() };
    let running = tokio::spawn(link.run());
    tokio::time::sleep(watched).await;
    stop.cancel();
    running.await.expect("no panic");
    let dialled = dial.dialled.lock().expect("no panic");
    dialled.windows(2).map(|two| two[1] - two[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_costs_a_probe_in_some_minutes_and_no_two_pauses_are_the_same() {
    let side = Side::new('a', vec![peer('b')], ALL);
    let pauses = pauses(&side, Vec::new(), Duration::from_secs(4 * 3_600)).await;
    // Nine to double from one second to 256, and then one in two and a half to five minutes.
    assert!((50..=110).contains(&pauses.len()), "{} probes in four hours", pauses.len() + 1);
    assert!(pauses[0] <= Duration::from_secs(1), "{pauses:?}");
    let later = &pauses[9..];
    let within = Duration::from_secs(150)..=Duration::from_millis(300_001);
    assert!(later.iter().all(|pause| within.contains(pause)), "{later:?}");
    // Rounded to seconds, so that what is merely rounding is no difference.
    let different: BTreeSet<u64> = later.iter().map(Duration::as_secs).collect();
    assert!(10 < different.len(), "nodes that lost the same peer would come back together: {later:?}");
    let link = side.federation.table().status(&node('b')).inbound;
    assert!(link.last_error.contains("nobody answers"), "{}", link.last_error);
}

#[tokio::test(start_paused = true)]
async fn only_a_delivered_acknowledgement_makes_the_pauses_short_again() {
    let side = receiver();
    let only_hello = || (vec![hello()], false);
    let mut scripts: Vec<Script> = std::iter::repeat_with(only_hello).take(6).collect();
    scripts.push((vec![hello(), batch(0, 1, vec![honest(1, 1)])], true));
    let pauses = pauses(&side, scripts, Duration::from_secs(300)).await;
    assert!(Duration::from_secs(16) <= pauses[5], "it connected, and nothing was delivered: {pauses:?}");
    assert!(pauses[6] <= Duration::from_millis(1_001), "it was delivered: {pauses:?}");
    assert!(Duration::from_secs(1) <= pauses[8], "and then it was dead: {pauses:?}");
    assert_eq!(*side.log.tail().borrow(), Sequence(1));
}

#[tokio::test]
async fn a_source_that_is_busy_with_sending_hears_why_the_receiver_went() {
    let (a, b) = (Side::new('a', vec![peer('b')], ALL), Side::new('b', vec![peer('a')], ALL));
    // More than the line takes of what nobody reads.
    for start in (0..2_000).step_by(400) {
        a.publish(&(start..start + 400).map(|n| discharged('a', n)).collect::<Vec<_>>()).await;
    }
    let (requests, outgoing) = mpsc::channel(4);
    let (responses, mut incoming) = mpsc::channel(1);
    let hello = Inbox::new(b.federation.parts().clone(), Arc::new(peer('a')), requests.clone()).hello();
    requests.try_send(hello).expect("there is room");
    let (federation, caller) = (a.federation.clone(), caller(&b.node));
    let serving = tokio::spawn(async move {
        federation.serve(caller, Box::pin(ReceiverStream::new(outgoing).map(Ok)), responses).await;
    });
    incoming.recv().await.expect("a hello").expect("no failure");
    // One batch is on the line; the next one does not fit.
    while incoming.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let end = messages::receiver_end(ReplicationEndReason::Refused, "PUBLISHER_NOT_AT_HOME: of x".to_owned());
    requests.try_send(end).expect("there is room");
    drop((requests, incoming));
    timeout(PATIENCE, serving).await.expect("it ends").expect("no panic");
    let link = a.federation.table().status(&b.node).outbound;
    assert_eq!(link.state, LinkState::Refused, "{link:?}");
    assert!(link.last_error.contains("PUBLISHER_NOT_AT_HOME: of x"), "{}", link.last_error);
}
