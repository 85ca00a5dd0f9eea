//! SIGHUP to a node that is a process of its own: grants, trusted domains, revocation lists and the node's certificate are read anew, all
//! or nothing, under a live stream and a publish stream that go on; only a revoked certificate's connection ends.

use std::{fs, time::Duration};

use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;
use tradelane::{
    cli::connect::{ConnectOptions, Credentials, ExpectedServer, Pem, connect},
    clock::{Clock, SystemClock},
    domain::TrustDomain,
    identity::dev_pki::{CERTIFICATE_LIFE_NS, CRL_LIFE_NS, DevPki, Issued},
    testing::{
        nodes::{self, Site},
        pki::id,
    },
    wire::{
        PublishRequest,
        proto::{
            self, PublishStreamRequest, event_service_client::EventServiceClient,
            node_service_client::NodeServiceClient, publish_stream_response::Answer, subscribe_request::Start,
            subscribe_response::Message,
        },
    },
};

use crate::{
    harness::PATIENCE,
    live::end_of,
    peers::{channel, discharged},
    process::Process,
};

/// A stream of events from the beginning.
struct Live {
    stream: Streaming<proto::SubscribeResponse>,
}

impl Live {
    async fn open(channel: Channel) -> Self {
        let start = Some(Start::StartAt(proto::StartAt::Earliest.into()));
        let request = proto::SubscribeRequest { start, filters: Vec::new() };
        let stream = EventServiceClient::new(channel).subscribe(request).await.expect("a stream").into_inner();
        Self { stream }
    }

    /// The next position that an event brings.
    async fn next_event(&mut self) -> String {
        let brought = async {
            loop {
                let message = self.stream.message().await.expect("it goes on").expect("it goes on");
                if let Some(Message::Events(batch)) = message.message {
                    assert_eq!(batch.events.len(), 1);
                    return batch.events[0].position.clone();
                }
            }
        };
        tokio::time::timeout(PATIENCE, brought).await.expect("an event")
    }

    async fn end(&mut self) -> Status {
        end_of(&mut self.stream).await
    }
}

/// A publish stream that is asked again and again.
struct Publishing {
    requests: mpsc::Sender<PublishStreamRequest>,
    answers: Streaming<proto::PublishStreamResponse>,
    number: u32,
}

impl Publishing {
    async fn open(channel: Channel) -> Self {
        let (requests, receiver) = mpsc::channel(1);
        let mut client = EventServiceClient::new(channel);
        let answers = client.publish_stream(ReceiverStream::new(receiver)).await.expect("a stream").into_inner();
        Self { requests, answers, number: 0 }
    }

    /// Publishes one event, and answers its position.
    async fn publish(&mut self) -> String {
        self.number += 1;
        let event = discharged('a', self.number);
        let publish = Some(PublishRequest { events: vec![event.unsigned()], on_invalid: 0 });
        let request = PublishStreamRequest { correlation_id: self.number.into(), publish };
        self.requests.send(request).await.expect("the stream goes on");
        let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await.expect("an answer");
        match answer.expect("the stream goes on").expect("the stream goes on").answer {
            Some(Answer::Response(response)) => response.results[0].position.clone(),
            other => panic!("not stored: {other:?}"),
        }
    }
}

async fn node_certificate_serial(operator: &mut NodeServiceClient<Channel>) -> String {
    let items = operator.list_trust(proto::ListTrustRequest {}).await.expect("a list").into_inner().items;
    let own = items.iter().find(|item| item.kind() == proto::TrustItemKind::NodeCertificate).expect("its own");
    own.serial.clone()
}

async fn generation(operator: &mut NodeServiceClient<Channel>) -> u64 {
    operator.get_node(proto::GetNodeRequest {}).await.expect("answered").into_inner().policy_generation
}

/// Connects once, believed or not.
async fn knock(site: &Site, who: &Issued) -> Result<(), String> {
    let options = ConnectOptions {
        address: site.address.into(),
        credentials: Credentials {
            authorities: Pem::File(site.bundle_file.clone()),
            certificate: Pem::File(who.certificate_file.clone()),
            key: Pem::File(who.key_file.clone()),
        },
        expected_server: ExpectedServer::Id(site.node.clone()),
    };
    let channel = connect(&options).await.map_err(|error| error.to_string())?;
    let asked = EventServiceClient::new(channel).list_events(proto::ListEventsRequest::default()).await;
    asked.map(drop).map_err(|status| status.to_string())
}

/// Waits until the node's log says it after it has said it `before` times.
async fn logged(site: &Site, words: &str) -> String {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let log = fs::read_to_string(site.folder.join("node.log")).expect("a log");
        if let Some(line) = log.lines().find(|line| line.contains(words)) {
            return line.to_owned();
        }
        assert!(tokio::time::Instant::now() < deadline, "{words:?} is not in: {log}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_read_anew_under_streams_that_go_on_and_a_bad_file_changes_nothing() {
    let (folder, now_ns) = (tempfile::tempdir().expect("a folder"), SystemClock.now_ns());
    let mut sites = nodes::create(folder.path(), &['a'], now_ns);
    let site = sites.remove(&'a').expect("made");
    let mut own = DevPki::open(folder.path(), &TrustDomain::parse("a.example").expect("good")).expect("made");
    let leaver =
        own.issue_participant(&id("spiffe://a.example/terminal/leaver"), now_ns, CERTIFICATE_LIFE_NS).expect("issued");
    let mut foreign =
        DevPki::create(folder.path(), &TrustDomain::parse("c.example").expect("good"), now_ns).expect("made");
    let comer =
        foreign.issue_participant(&id("spiffe://c.example/customs"), now_ns, CERTIFICATE_LIFE_NS).expect("issued");

    // Files are not looked at by themselves, so that only the signal can be the cause.
    let mut node = Process::start_with(&site, &["identity.poll_interval=1h"], &[]);
    let mut publishing = Publishing::open(channel(&site, &site.terminal).await).await;
    let mut live = Live::open(channel(&site, &site.operator).await).await;
    let mut leaving = Live::open(channel(&site, &leaver).await).await;
    let mut operator = NodeServiceClient::new(channel(&site, &site.operator).await);
    let first = publishing.publish().await;
    assert_eq!((live.next_event().await, leaving.next_event().await), (first.clone(), first.clone()));
    let (serial, policy) = (node_certificate_serial(&mut operator).await, generation(&mut operator).await);
    knock(&site, &comer).await.expect_err("her domain is not trusted yet");

    own.revoke("spiffe://a.example/terminal/leaver", now_ns).expect("revoked");
    own.write_crl(now_ns, CRL_LIFE_NS).expect("written");
    own.issue_node(&site.node, &["localhost".to_owned()], now_ns, CERTIFICATE_LIFE_NS).expect("issued anew");
    let trust = fs::read_to_string(site.folder.join("trust.toml")).expect("there");
    let bundle = foreign.bundle_file();
    let more = format!("[[domain]]\nname = 'c.example'\nbundle_file = '{}'\n", bundle.display());
    fs::write(site.folder.join("trust.toml"), trust.clone() + &more).expect("written");
    site.write_policy("[[grant]]\nid = 'comer'\nwho = ['spiffe://c.example/*']\nactions = ['read']\nall = true\n");
    node.signal(Signal::HUP);

    let ended = leaving.end().await;
    let info = ended.get_details_error_info().unwrap_or_else(|| panic!("no details: {ended:?}"));
    assert_eq!((ended.code(), info.reason.as_str()), (Code::Unauthenticated, "CONNECTION_CLOSING"), "{ended:?}");
    assert!(ended.message().contains("REVOKED"), "{ended:?}");
    assert_eq!(info.metadata.get("resume_position"), Some(&first), "{ended:?}");
    knock(&site, &leaver).await.expect_err("revoked");
    knock(&site, &comer).await.expect("her domain is trusted, and she may read");
    let second = publishing.publish().await;
    assert_eq!(live.next_event().await, second, "over the connections of before");
    assert_ne!(node_certificate_serial(&mut operator).await, serial, "the node shows its new certificate");
    assert_eq!(generation(&mut operator).await, policy + 1);
    let told = logged(&site, "read certificates, trust and policy anew").await;
    for change in ["SIGHUP", "grant comer added", "c.example added", "1 connections closed"] {
        assert!(told.contains(change), "{change:?} is not in: {told}");
    }

    // One bad file, and nothing of the others is taken either.
    fs::write(site.folder.join("trust.toml"), trust).expect("written");
    fs::write(
        site.folder.join("policy.toml"),
        "[[grant]]\nid = 'x'\nwho = ['spiffe://a.example/x']\nactions = ['pubish']\n",
    )
    .expect("written");
    node.signal(Signal::HUP);
    let why = logged(&site, "were not read anew").await;
    assert!(why.contains("policy.toml:1") && why.contains("pubish"), "{why}");
    let third = publishing.publish().await;
    assert_eq!(live.next_event().await, third);
    assert_eq!(generation(&mut operator).await, policy + 1);
    knock(&site, &comer).await.expect("all stays as it was");
    node.signal(Signal::TERM);
    assert_eq!(live.end().await.code(), Code::Unavailable);
    assert_eq!(node.ends(PATIENCE).await, Some(0));
}
