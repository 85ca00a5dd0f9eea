//! A wrong peer over a real connection: a node whose certificate is good and whose messages are not. Each is refused with its reason, the
//! state of the link says so, the wrong node is told, and nothing of it is stored.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{Stream, StreamExt};
use prost::Message;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, Streaming, transport::Server};
use tradelane::{
    clock::{Clock, SystemClock},
    federation::messages,
    identity::Identity,
    tasks::Tasks,
    testing::nodes::Site,
    wire::{
        ReplicaBatch,
        proto::{
            Audience, Event, LinkPosition, Origin, PeerLinkState, Reach, ReplicateRequest, ReplicateResponse,
            ReplicatedEvent, ReplicationEndReason, SourceHello,
            peer_service_server::{PeerService, PeerServiceServer},
            replicate_request,
        },
    },
};

use crate::{
    harness::PATIENCE,
    peers::{comes_to, discharged, held, holds, start, two},
    process::operate,
};

const EPOCH: &str = "00000000000000000000000000000007";

/// A node that answers each stream with the next of these, and then says nothing more; and what it is told.
#[derive(Clone, Default)]
struct WrongNode {
    says: Arc<Mutex<VecDeque<Vec<ReplicateResponse>>>>,
    hears: Arc<Mutex<Vec<replicate_request::Message>>>,
}

#[tonic::async_trait]
impl PeerService for WrongNode {
    type ReplicateStream = Pin<Box<dyn Stream<Item = Result<ReplicateResponse, Status>> + Send>>;

    async fn replicate(
        &self,
        requests: Request<Streaming<ReplicateRequest>>,
    ) -> Result<Response<Self::ReplicateStream>, Status> {
        let said = self.says.lock().expect("no panic").pop_front().unwrap_or_else(|| vec![hello()]);
        // Ends as a node does: once the receiver has ended its side.
        let hears = self.hears.clone();
        let until = requests.into_inner().for_each(move |request| {
            hears.lock().expect("no panic").extend(request.ok().and_then(|request| request.message));
            std::future::ready(())
        });
        let answers = futures::stream::iter(said.into_iter().map(Ok)).chain(futures::stream::pending());
        Ok(Response::new(Box::pin(answers.take_until(until))))
    }
}

impl WrongNode {
    /// Waits until it has been told something, and says what.
    async fn is_told<T>(&self, what: &str, find: impl Fn(&replicate_request::Message) -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let hears = self.hears.lock().expect("no panic").clone();
            if let Some(found) = hears.iter().find_map(&find) {
                return found;
            }
            assert!(tokio::time::Instant::now() < deadline, "the wrong node was never told {what}: {hears:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Serves with the files of a site.
    async fn serve(&self, site: &Site) -> Tasks {
        // Where the audit log goes.
        std::fs::create_dir_all(site.folder.join("data")).expect("a folder");
        let identity = Identity::open(&site.config().identity, Arc::new(SystemClock)).expect("good files");
        let listener = TcpListener::bind(site.address).await.expect("a free address");
        let tasks = Tasks::new();
        let incoming = identity.acceptor().incoming(listener, &tasks);
        let service = PeerServiceServer::new(self.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        tasks
    }
}

fn at(sequence: u64) -> LinkPosition {
    LinkPosition { epoch: EPOCH.to_owned(), sequence, chain_hash: vec![sequence as u8; 32].into() }
}

fn hello() -> ReplicateResponse {
    messages::source_hello(SourceHello {
        version: 1,
        node: "spiffe://b.example/node/1".to_owned(),
        start: Some(at(0)),
        forked: false,
        head_sequence: 9,
    })
}

/// An event as an honest b would send it.
fn sent(event: &Event, source_sequence: u64) -> ReplicatedEvent {
    ReplicatedEvent {
        signed: Some(event.unsigned()),
        origin: Some(Origin {
            node: "spiffe://b.example/node/1".to_owned(),
            epoch: EPOCH.to_owned(),
            sequence: source_sequence,
            accepted_time: Some(messages::timestamp(SystemClock.now_ns())),
        }),
        via: Vec::new(),
        source_sequence,
        follows_sequence: 0,
    }
}

fn batch(after_sequence: u64, through: u64, events: Vec<ReplicatedEvent>) -> ReplicateResponse {
    messages::batch(ReplicaBatch {
        after_sequence,
        through: Some(at(through)),
        events,
        head_sequence: 9,
        whole_origins: Vec::new(),
    })
}

/// What stops the link, with the reason.
fn forged() -> Vec<(&'static str, Vec<ReplicateResponse>)> {
    let ours = Event { publisher: "spiffe://a.example/agency/customs".to_owned(), ..discharged('b', 1) }.with_id();
    let from = |node: &str, via: &[&str]| {
        let mut event = sent(&discharged('b', 1), 1);
        node.clone_into(&mut event.origin.as_mut().expect("an origin").node);
        event.via = via.iter().map(|node| (*node).to_owned()).collect();
        event
    };
    // A frame that no link may bring: its decoder gives up at the length, whatever is in it.
    let large = || batch(0, 1, vec![sent(&Event { event_id: "x".repeat(2 << 20), ..discharged('b', 1) }, 1)]);
    let after_hello = |(reason, response)| (reason, vec![hello(), response]);
    let later = vec![
        ("ORIGIN_FORGED", batch(0, 1, vec![from("spiffe://c.example/node/1", &[])])),
        ("ORIGIN_NOT_ALLOWED", batch(0, 1, vec![from("spiffe://c.example/node/1", &["spiffe://b.example/node/1"])])),
        ("PUBLISHER_NOT_AT_HOME", batch(0, 1, vec![sent(&ours, 1)])),
        ("GAP", batch(3, 4, vec![sent(&discharged('b', 1), 4)])),
        ("FRAME_TOO_LARGE", large()),
    ];
    later.into_iter().map(after_hello).chain([("FRAME_TOO_LARGE", vec![large()])]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_peer_is_refused_with_the_reason_and_nothing_of_it_is_stored() {
    let folder = tempfile::tempdir().expect("a folder");
    let sites = two(folder.path());
    let (a, b) = (&sites[&'a'], &sites[&'b']);
    let wrong = WrongNode::default();
    let forged = forged();
    wrong.says.lock().expect("no panic").extend(forged.iter().map(|(_, responses)| responses.clone()));
    // Then what is only bad: it goes into quarantine, and what stands beside it is taken.
    let honest = discharged('b', 5);
    let altered = Event { utc_offset_minutes: Some(60), ..honest.clone() };
    let not_for_here = Event {
        audience: Some(Audience {
            reach: Reach::Named.into(),
            participants: vec!["spiffe://b.example/agency/x".to_owned()],
        }),
        ..discharged('b', 6)
    };
    let bad = batch(1, 3, vec![sent(&altered, 2), sent(&not_for_here.with_id(), 3)]);
    wrong.says.lock().expect("no panic").push_back(vec![hello(), batch(0, 1, vec![sent(&honest, 1)]), bad]);
    let serving = wrong.serve(b).await;

    let node = start(a).await;
    let peer = b.node.as_str();
    for (reason, _) in &forged {
        let link = comes_to(a, true, PeerLinkState::Refused).await;
        assert!(link.detail.starts_with(&format!("{reason}: ")), "{reason}: {}", link.detail);
        assert!(held(a).await.is_empty(), "{reason}: something is stored");
        let told = wrong.is_told(reason, |message| match message {
            replicate_request::Message::End(end) if end.detail.starts_with(&format!("{reason}: ")) => {
                Some(end.reason())
            }
            _ => None,
        });
        assert_eq!(told.await, ReplicationEndReason::Refused);
        // What it is told next is of the next stream.
        wrong.hears.lock().expect("no panic").clear();
        let shown = operate(a, &["peers", "show", peer]);
        assert!(shown.code == 0 && shown.out.contains("refused") && shown.out.contains(reason), "{}", shown.out);
        assert_eq!(operate(a, &["peers", "resume", peer]).code, 0);
    }
    holds(a, 1).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let list = loop {
        let ran = operate(a, &["peers", "quarantine", peer, "--output", "json"]);
        let list: serde_json::Value = serde_json::from_str(&ran.out).expect("one document");
        if list["quarantined"].as_array().is_some_and(|all| all.len() == 2) {
            break list;
        }
        assert!(tokio::time::Instant::now() < deadline, "not both are in quarantine: {list}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let said = |at: usize, key: &str| list["quarantined"][at][key].as_str().expect("a text").to_owned();
    assert_eq!([said(0, "reason"), said(1, "reason")], ["REFUSED_BY_LOG", "NOT_FOR_HERE"]);
    assert_eq!(said(0, "eventId"), honest.event_id);
    for reason in ["REFUSED_BY_LOG", "NOT_FOR_HERE"] {
        let told = |message: &replicate_request::Message| match message {
            replicate_request::Message::Quarantined(event) if event.reason == reason => Some(event.source_sequence),
            _ => None,
        };
        assert!((2..=3).contains(&wrong.is_told(reason, told).await));
    }
    let records = held(a).await;
    assert_eq!(records.len(), 1, "nothing that is bad is stored");
    assert_eq!(records[0].signed.as_ref().expect("an event").event, honest.encode_to_vec());
    comes_to(a, true, PeerLinkState::Streaming).await;
    node.stop().await;
    drop(serving);
}
