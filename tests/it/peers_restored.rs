//! Nodes as processes whose data is not what it was: restored from a backup, or copied so that both run. Each is noticed and said, has a way
//! out by the program's commands, and nothing is lost in silence.

use std::{collections::BTreeMap, path::Path};

use prost::Message;
use serde_json::Value;
use tonic::Code;
use tonic_types::StatusExt;
use tradelane::{
    clock::{Clock, SystemClock},
    testing::nodes::{self, PeerEntry, Site},
    wire::{
        PublishRequest,
        proto::{
            self, Event, PeerLinkState, SubscribeRequest, event_service_client::EventServiceClient, subscribe_request,
            subscribe_response,
        },
    },
};

use crate::{
    harness::PATIENCE,
    peers::{bytes_of, channel, comes_to, discharged, held, holds, publish, two},
    process::{Process, operate, run},
};

fn numbered(letter: char, numbers: std::ops::Range<u32>) -> Vec<Event> {
    numbers.map(|n| discharged(letter, n)).collect()
}

fn of(records: &[proto::RecordedEvent], origin: &Site) -> Vec<proto::RecordedEvent> {
    let is =
        |record: &&proto::RecordedEvent| record.origin.as_ref().is_some_and(|said| said.node == origin.node.as_str());
    records.iter().filter(is).cloned().collect()
}

fn encoded(events: &[Event]) -> Vec<Vec<u8>> {
    events.iter().map(Message::encode_to_vec).collect()
}

/// Publishes again and again until it is taken; answers what was said the first time.
async fn publish_patiently(site: &Site, events: &[Event]) -> Option<tonic::Status> {
    let mut client = EventServiceClient::new(channel(site, &site.terminal).await);
    let request = PublishRequest { events: events.iter().map(Event::unsigned).collect(), on_invalid: 0 };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut first = None;
    while let Err(status) = client.publish(request.clone()).await {
        assert!(tokio::time::Instant::now() < deadline, "never taken: {status}");
        first.get_or_insert(status);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    first
}

/// What a subscriber who goes on after a position receives until she has caught up.
async fn read_after(site: &Site, position: &str) -> Result<Vec<proto::RecordedEvent>, tonic::Status> {
    let mut client = EventServiceClient::new(channel(site, &site.operator).await);
    let start = Some(subscribe_request::Start::AfterPosition(position.to_owned()));
    let mut stream = client.subscribe(SubscribeRequest { start, filters: Vec::new() }).await?.into_inner();
    let mut received = Vec::new();
    loop {
        match stream.message().await?.and_then(|message| message.message) {
            Some(subscribe_response::Message::Events(batch)) => received.extend(batch.events),
            Some(subscribe_response::Message::CaughtUp(_)) => return Ok(received),
            Some(_) => {}
            None => panic!("it ended without a reason"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_restored_from_a_backup_takes_back_what_it_lost_before_anything_new_is_published() {
    let folder = tempfile::tempdir().expect("a folder");
    let sites = two(folder.path());
    let (a, b) = (&sites[&'a'], &sites[&'b']);
    let (process_a, process_b) = (Process::start(a), Process::start(b));
    publish(a, &numbered('a', 0..20)).await;
    publish(b, &numbered('b', 0..5)).await;
    holds(b, 25).await;
    let backup = folder.path().join("b.tradelane");
    let backup = backup.to_str().expect("a path of ASCII");
    let copied = operate(b, &["backup", backup]);
    assert_eq!(copied.code, 0, "{copied:?}");
    // What the backup does not have: of the other node and of its own.
    publish(a, &numbered('a', 20..40)).await;
    publish(b, &numbered('b', 5..10)).await;
    holds(a, 50).await;
    let before = holds(b, 50).await;
    let lived = of(&before, b)[9].origin.clone().expect("always said");

    remembers(a, &link(a, b, "inbound")["position"]).await;

    // Both end; the disk of b is replaced.
    process_a.kill();
    let restored = restore(process_b, b, backup);
    assert!(restored.contains("restored up to sequence 25"), "{restored}");
    let process_b = Process::start(b);
    // As long as a is not there, nothing is published: it may hold what b lost.
    let mut client = EventServiceClient::new(channel(b, &b.terminal).await);
    let new = PublishRequest { events: vec![discharged('b', 100).unsigned()], on_invalid: 0 };
    let refused = client.publish(new).await.expect_err("closed");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains(&format!("It waits for {}", a.node)), "{refused}");
    let shown = operate(b, &["node", "show"]);
    assert!(shown.out.contains("takes back from its peers"), "{}", shown.out);

    let process_a = Process::start(a);
    publish_patiently(b, &[discharged('b', 100)]).await;
    let at_b = holds(b, 51).await;
    assert_eq!(at_b.len(), 51, "nothing twice");
    assert_eq!(bytes_of(&of(&at_b, a)), encoded(&numbered('a', 0..40)), "the receiver has everything again, in order");
    let own = of(&at_b, b);
    assert_eq!(bytes_of(&own[..10]), encoded(&numbered('b', 0..10)), "the origin has back what it lost");
    assert_eq!(own[9].origin.as_ref(), Some(&lived), "under the name that it had");
    assert_eq!(bytes_of(&own[10..]), encoded(&[discharged('b', 100)]), "and only then what is new");
    let at_a = holds(a, 51).await;
    assert_eq!(bytes_of(&of(&at_a, b)), encoded(&[numbered('b', 0..10), vec![discharged('b', 100)]].concat()));
    // A reader who stood in what was lost is told, and from where she misses nothing; one who stood before it simply goes on.
    let refused = read_after(b, &before[49].position).await.expect_err("the log goes on elsewhere");
    let said = refused.get_details_error_info().unwrap_or_else(|| panic!("no details: {refused:?}"));
    assert_eq!((refused.code(), said.reason.as_str()), (Code::FailedPrecondition, "EPOCH_CHANGED"), "{refused:?}");
    let again = read_after(b, &said.metadata["resume_position"]).await.expect("it begins");
    assert_eq!(again, at_b[25..], "everything since the backup");
    assert_eq!(read_after(b, &before[9].position).await.expect("it begins"), at_b[10..]);
    // Both operators are told.
    let shown = operate(b, &["node", "show"]);
    assert!(shown.out.contains("5 events of this node came back"), "{}", shown.out);
    let shown = operate(a, &["peers", "show", b.node.as_str()]);
    assert!(shown.out.contains("was restored from a backup"), "{}", shown.out);
    comes_to(a, true, PeerLinkState::CaughtUp).await;
    comes_to(b, true, PeerLinkState::CaughtUp).await;
    drop((process_a, process_b));
}

/// Ends a process, and puts its disk as a backup has it. Answers what was said.
fn restore(process: Process, site: &Site, backup: &str) -> String {
    process.kill();
    std::fs::remove_dir_all(site.folder.join("data")).expect("removed");
    let restored = run(&["restore", "--config", site.config_file().to_str().expect("a path of ASCII"), backup]);
    assert_eq!(restored.code, 0, "{restored:?}");
    restored.out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_node_keeps_its_pauses_and_takes_back_what_went_by_an_agreement_that_has_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let sites = two(folder.path());
    let (a, b) = (&sites[&'a'], &sites[&'b']);
    let (process_a, _process_b) = (Process::start(a), Process::start(b));
    let went = discharged('a', 1);
    publish(a, std::slice::from_ref(&went)).await;
    holds(b, 1).await;
    comes_to(a, false, PeerLinkState::CaughtUp).await;
    a.write_policy("");
    assert_eq!(operate(a, &["node", "reload"]).code, 0);
    let stays = discharged('a', 2);
    publish(a, std::slice::from_ref(&stays)).await;
    assert_eq!(operate(a, &["peers", "pause", b.node.as_str()]).code, 0);
    let backup = folder.path().join("a.tradelane");
    let backup = backup.to_str().expect("a path of ASCII");
    assert_eq!(operate(a, &["backup", backup]).code, 0);

    restore(process_a, a, backup);
    let _process_a = Process::start(a);
    // It waits for nobody whom its operator has paused.
    let refused = publish_patiently(a, &[stays.retracted(), went.retracted()]).await;
    assert!(refused.is_none(), "{refused:?}");
    for inbound in [true, false] {
        comes_to(a, inbound, PeerLinkState::Paused).await;
    }
    assert_eq!(held(b).await.len(), 1, "the pause holds");
    assert_eq!(operate(a, &["peers", "resume", b.node.as_str()]).code, 0);
    assert_eq!(bytes_of(&holds(b, 2).await), encoded(&[went.clone(), went.retracted()]));
}

/// Waits until a node has written down where it stands, which it does a moment later.
async fn remembers(site: &Site, position: &Value) {
    let (file, position) = (site.folder.join("data/peers.json"), position.as_str().expect("a position").to_owned());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains(&position)) {
        assert!(tokio::time::Instant::now() < deadline, "{position} was never written to {}", file.display());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// The same node once more: its data, certificate and files, at another address.
fn copy_of(site: &Site, folder: &Path) -> Site {
    copy(&site.folder, folder);
    let copy = Site { folder: folder.to_owned(), address: nodes::free_address(site.address.ip()), ..site.clone() };
    listen(&copy, site.address, copy.address);
    copy
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

fn listen(site: &Site, before: std::net::SocketAddr, after: std::net::SocketAddr) {
    let text = std::fs::read_to_string(site.config_file()).expect("the settings");
    std::fs::write(site.config_file(), text.replace(&before.to_string(), &after.to_string())).expect("written");
}

fn link(site: &Site, peer: &Site, direction: &str) -> Value {
    let shown = operate(site, &["peers", "show", peer.node.as_str(), "--output", "json"]);
    serde_json::from_str::<Value>(&shown.out).expect("one document")[direction].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_data_directory_is_noticed_when_both_run_and_when_one_takes_the_others_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let sites: BTreeMap<char, Site> = nodes::create(folder.path(), &['a', 'b'], SystemClock.now_ns());
    let (a, b) = (&sites[&'a'], &sites[&'b']);
    let (process_a, _process_b) = (Process::start(a), Process::start(b));
    publish(a, &numbered('a', 0..20)).await;
    holds(b, 20).await;
    comes_to(a, false, PeerLinkState::CaughtUp).await;
    process_a.kill();
    let twin = copy_of(a, &folder.path().join("site-twin"));
    let (process_a, process_twin) = (Process::start(a), Process::start(&twin));

    // Both dial b, in turns: their links stop, and the operators of all three are told.
    for site in [a, &twin] {
        let link = comes_to(site, true, PeerLinkState::Cloned).await;
        assert!(link.detail.contains("its data directory was copied and both run"), "{}", link.detail);
    }
    comes_to(b, false, PeerLinkState::Cloned).await;
    // What each takes meanwhile stays where it can be seen: b takes from a, and nobody from the copy.
    publish(a, &numbered('a', 20..25)).await;
    publish(&twin, &numbered('a', 100..107)).await;
    holds(b, 25).await;
    let of_twin = link(&twin, b, "outbound");
    let lag = of_twin["lagEvents"].as_str().and_then(|lag| lag.parse::<u64>().ok());
    assert!(lag.is_some_and(|lag| 7 <= lag), "{of_twin}");

    // The way out: one ends, the link is resumed at both ends, and what only the copy has is published again.
    process_twin.kill();
    for (site, peer) in [(b, a), (a, b)] {
        assert_eq!(operate(site, &["peers", "resume", peer.node.as_str()]).code, 0);
    }
    publish(b, &numbered('b', 0..1)).await;
    holds(a, 26).await;
    publish(a, &numbered('a', 100..107)).await;
    assert_eq!(
        bytes_of(&of(&holds(b, 33).await, a)),
        encoded(&[numbered('a', 0..25), numbered('a', 100..107)].concat())
    );

    // The copy takes the place of a: while it is shorter than where b stands, and when it has gone on with other events.
    process_a.kill();
    let in_place = Site { address: a.address, ..twin.clone() };
    listen(&in_place, twin.address, a.address);
    let process_twin = Process::start(&in_place);
    let stopped = comes_to(b, true, PeerLinkState::Diverged).await;
    assert!(stopped.detail.contains("is a copy of one that went on"), "{}", stopped.detail);
    publish(&in_place, &numbered('a', 200..220)).await;
    assert_eq!(operate(b, &["peers", "resume", a.node.as_str()]).code, 0);
    let stopped = comes_to(b, true, PeerLinkState::Cloned).await;
    assert!(stopped.detail.contains("is live twice"), "{}", stopped.detail);
    assert_eq!(link(&in_place, b, "outbound")["state"], "PEER_LINK_STATE_CLONED");
    assert_eq!(held(b).await.len(), 33, "nothing of the copy was taken");

    // a comes back: the link goes on where it stood.
    process_twin.kill();
    let _process_a = Process::start(a);
    assert_eq!(operate(b, &["peers", "resume", a.node.as_str()]).code, 0);
    publish(a, &numbered('a', 300..301)).await;
    assert_eq!(holds(b, 34).await.len(), 34);
    b.write_peers(&[PeerEntry::plain('a')], &sites);
}
