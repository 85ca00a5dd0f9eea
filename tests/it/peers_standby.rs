//! A standby takes the place of a node whose disk is gone: it serves what was acknowledged and replicated, is the home of the lost node's
//! publishers from then on, and what it lacks is what the link's lag said.

use prost::Message;
use serde_json::Value;
use tradelane::{
    clock::{Clock, SystemClock},
    testing::nodes::{self, Site},
    wire::{
        PublishRequest,
        proto::{
            self, Audience, Event, PeerLinkState, PublishResponse, Reach, event_service_client::EventServiceClient,
        },
    },
};

use crate::{
    peers::{bytes_of, channel, comes_to, discharged, holds, publish},
    process::{Process, operate},
};

/// An event of `a` for nobody but its publisher.
fn private(n: u32) -> Event {
    let audience = Some(Audience { reach: Reach::Private.into(), participants: Vec::new() });
    Event { audience, ..discharged('a', n) }.with_id()
}

/// Publishes at a node as the terminal of another's domain.
async fn publish_as(site: &Site, who: &Site, events: &[Event]) -> PublishResponse {
    let mut client = EventServiceClient::new(channel(site, &who.terminal).await);
    let request = PublishRequest { events: events.iter().map(Event::unsigned).collect(), on_invalid: 0 };
    client.publish(request).await.expect("stored").into_inner()
}

fn rewrite(site: &Site, file: &str, changes: &[(&str, &str)]) {
    let path = site.folder.join(file);
    let mut text = std::fs::read_to_string(&path).expect("the file");
    for (before, after) in changes {
        assert!(text.contains(before), "{before} is not in {text}");
        text = text.replace(before, after);
    }
    std::fs::write(path, text).expect("written");
}

fn link(site: &Site, peer: &Site, direction: &str) -> Value {
    let shown = operate(site, &["peers", "show", peer.node.as_str(), "--output", "json"]);
    serde_json::from_str::<Value>(&shown.out).expect("one document")[direction].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_promoted_when_the_disk_of_its_origin_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let sites = nodes::create(folder.path(), &['a', 'b', 'c'], SystemClock.now_ns());
    let (a, b, c) = (&sites[&'a'], &sites[&'b'], &sites[&'c']);
    // b is the standby of a: it is given private events too, and takes them. The publishers of a may publish there if need be.
    rewrite(
        a,
        "policy.toml",
        &[("actions = [\"forward\"]\nall = true", "actions = [\"forward\"]\nall = true\nprivate = true")],
    );
    rewrite(
        b,
        "peers.toml",
        &[("node = \"spiffe://a.example/node/1\"\n", "node = \"spiffe://a.example/node/1\"\nprivate = true\n")],
    );
    let publishers = "\n[[grant]]\nid = \"of-a\"\nwho = [\"spiffe://a.example/terminal/*\"]\nactions = [\"publish\", \"read\"]\nall = true\n";
    let policy = std::fs::read_to_string(b.folder.join("policy.toml")).expect("the file");
    std::fs::write(b.folder.join("policy.toml"), policy + publishers).expect("written");
    let (process_a, process_b, _process_c) = (Process::start(a), Process::start(b), Process::start(c));

    let first: Vec<Event> = (0..50).map(|n| if n % 10 == 0 { private(n) } else { discharged('a', n) }).collect();
    publish(a, &first).await;
    let everybodys: Vec<Event> = (0..50).filter(|n| n % 10 != 0).map(|n| discharged('a', n)).collect();
    holds(b, 45).await;
    holds(c, 45).await;
    let config = b.config_file();
    let promote = ["promote", a.node.as_str(), "--config", config.to_str().expect("a path of ASCII")];
    comes_to(b, true, PeerLinkState::CaughtUp).await;
    let refused = operate(b, &promote);
    assert!(refused.code == 1 && refused.err.contains("is alive"), "{refused:?}");

    // Something is acknowledged that the standby has not got, as its lag says; then the disk of a is gone.
    assert_eq!(operate(b, &["peers", "pause", a.node.as_str()]).code, 0);
    comes_to(b, true, PeerLinkState::Paused).await;
    let last: Vec<Event> = (50..57).map(|n| discharged('a', n)).collect();
    publish(a, &last).await;
    holds(c, 52).await;
    assert_eq!(link(a, b, "outbound")["lagEvents"], "7");
    process_a.kill();
    std::fs::remove_dir_all(a.folder.join("data")).expect("removed");
    // What the lost node last told of its log outlives a restart of the standby.
    process_b.kill();
    let _process_b = Process::start(b);
    comes_to(b, true, PeerLinkState::Paused).await;

    let promoted = operate(b, &promote);
    assert_eq!(promoted.code, 0, "{promoted:?}");
    for wanted in ["at home here", "a.example", "-50", "ended at sequence 50 when it last told so", "a lower bound"] {
        assert!(promoted.out.contains(wanted), "{wanted} is missing in {}", promoted.out);
    }
    assert!(b.folder.join("peers.toml.before-promote").exists());
    // What was acknowledged and replicated is served, private events to their publisher; what is missing is what the lag said.
    assert_eq!(
        bytes_of(&holds(b, everybodys.len()).await),
        everybodys.iter().map(Message::encode_to_vec).collect::<Vec<_>>()
    );
    let mut publisher = EventServiceClient::new(channel(b, &a.terminal).await);
    for event in &first {
        let request = proto::GetEventRequest { event_id: event.event_id.clone(), publisher: String::new() };
        let answer = publisher.get_event(request).await.expect("served").into_inner().event.expect("an event");
        assert_eq!(bytes_of(&[answer]), [event.encode_to_vec()]);
    }
    let request = proto::GetEventRequest { event_id: last[0].event_id.clone(), publisher: String::new() };
    assert_eq!(publisher.get_event(request).await.expect_err("not replicated").code(), tonic::Code::NotFound);

    // Its publishers go on there: what is there already is a duplicate, what is new is stored as of this node.
    let again = publish_as(b, a, &[first[3].clone(), discharged('a', 200)]).await;
    assert_eq!(again.results.iter().map(|result| result.duplicate).collect::<Vec<_>>(), [true, false]);
    // The others follow: to c, a.example lives at b now, and a stands behind it; and c hands b what it has of a besides.
    rewrite(
        c,
        "peers.toml",
        &[
            (
                "homes = [\"b.example\"]\nbehind = []\ntransit = false",
                "homes = [\"b.example\", \"a.example\"]\nbehind = [\"spiffe://a.example/node/1\"]\ntransit = true",
            ),
            (&format!("address = \"{}\"\n", a.address), ""),
        ],
    );
    rewrite(
        b,
        "peers.toml",
        &[(
            "homes = [\"c.example\"]\nbehind = []",
            "homes = [\"c.example\"]\nbehind = [\"spiffe://a.example/node/1\"]",
        )],
    );
    for site in [b, c] {
        assert_eq!(operate(site, &["node", "reload"]).code, 0);
    }
    let at_c = holds(c, 53).await;
    let new =
        at_c.iter().find(|record| bytes_of(std::slice::from_ref(record))[0] == discharged('a', 200).encode_to_vec());
    assert_eq!(new.and_then(|record| record.origin.as_ref()).map(|origin| origin.node.as_str()), Some(b.node.as_str()));
    // What c had passed before the agreement was wider comes when b takes from the beginning.
    assert_eq!(operate(b, &["peers", "resume", c.node.as_str(), "--from", "beginning"]).code, 0);
    let at_b = holds(b, 53).await;
    let of_last: Vec<_> = last.iter().map(Message::encode_to_vec).collect();
    assert!(
        of_last.iter().all(|event| bytes_of(&at_b).contains(event)),
        "what was not replicated came by another peer"
    );
    // The lost node has no way back under its name.
    let refused = operate(b, &["peers", "resume", a.node.as_str()]);
    assert!(refused.code != 0 && refused.err.contains("the peers file pauses the link"), "{refused:?}");
}
