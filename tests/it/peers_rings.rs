//! Four nodes as processes that pass on what others published, in a ring and in a full mesh: every node holds every event once, with the bytes
//! that were sent, nothing runs in a circle, and that stays so when each of them is killed in turn.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use tradelane::{
    clock::{Clock, SystemClock},
    testing::nodes::{self, PeerEntry, Site},
    wire::proto::Event,
};

use crate::{
    peers::{bytes_of, discharged, holds, peers, publish},
    process::Process,
};

const LETTERS: [char; 4] = ['a', 'b', 'c', 'd'];
/// What each node's terminal publishes at once; several of these make a run.
const BATCH: u32 = 20;

/// Whether two nodes, by their places in the ring, have a line between them.
type Joined = fn(usize, usize) -> bool;

/// Writes the peers files: over each line everything goes, and behind each neighbour all others stand.
fn join(sites: &BTreeMap<char, Site>, joined: Joined) {
    for (own, letter) in LETTERS.into_iter().enumerate() {
        let entry = |(at, other): (usize, char)| {
            let dialled = joined(own, at);
            let behind = LETTERS.into_iter().filter(|third| dialled && *third != letter && *third != other).collect();
            PeerEntry { dialled, behind, transit: true, ..PeerEntry::plain(other) }
        };
        let others = LETTERS.into_iter().enumerate().filter(|(at, _)| *at != own);
        sites[&letter].write_peers(&others.map(entry).collect::<Vec<_>>(), sites);
    }
}

/// Publishes the events from a number on at every node.
async fn publish_everywhere(sites: &BTreeMap<char, Site>, start: u32) {
    for (letter, site) in sites {
        publish(site, &(start..start + BATCH).map(|n| discharged(*letter, n)).collect::<Vec<Event>>()).await;
    }
}

/// Waits until every node holds what was published up to a number, and looks at what it holds.
async fn everywhere_once(sites: &BTreeMap<char, Site>, end: u32) {
    let said = LETTERS.into_iter().flat_map(|letter| (0..end).map(move |n| discharged(letter, n).encode_to_vec()));
    let expected: BTreeSet<Vec<u8>> = said.collect();
    for site in sites.values() {
        let recorded = holds(site, expected.len()).await;
        let bytes = bytes_of(&recorded);
        assert_eq!(bytes.len(), expected.len(), "{} holds something twice", site.node);
        assert_eq!(BTreeSet::from_iter(bytes), expected, "{} holds something else", site.node);
        for event in &recorded {
            let origin = event.origin.as_ref().expect("always said");
            let came_back = origin.node == site.node.as_str() && !event.via.is_empty();
            assert!(!came_back && !event.via.iter().any(|node| node == site.node.as_str()), "a circle: {event:?}");
        }
    }
}

/// How many events all nodes have sent to each other since they started.
async fn sends(sites: &BTreeMap<char, Site>) -> u64 {
    let mut count = 0;
    for site in sites.values() {
        count +=
            peers(site).await.into_iter().filter_map(|peer| peer.outbound).map(|link| link.event_count).sum::<u64>();
    }
    count
}

#[allow(clippy::print_stderr, reason = "the cost of transit is reported")]
async fn hold_everything_once(name: &str, joined: Joined) {
    let folder = tempfile::tempdir().expect("a folder");
    let sites = nodes::create(folder.path(), &LETTERS, SystemClock.now_ns());
    join(&sites, joined);
    let mut running: BTreeMap<char, Process> =
        sites.iter().map(|(letter, site)| (*letter, Process::start(site))).collect();
    let mut end = 0;
    for _ in 0..3 {
        publish_everywhere(&sites, end).await;
        end += BATCH;
    }
    everywhere_once(&sites, end).await;
    let (count, events) = (sends(&sites).await, u64::from(end) * 4);
    eprintln!(
        "{name} of four processes: {count} sends of {events} events, {:.2} an event",
        count as f64 / events as f64
    );
    let lines =
        (0..4).flat_map(|one| (0..4).map(move |other| (one, other))).filter(|(one, other)| joined(*one, *other));
    assert!((events * 3..=events * lines.count() as u64).contains(&count), "{count}");

    for letter in LETTERS {
        publish_everywhere(&sites, end).await;
        end += BATCH;
        // In the middle of whatever it takes and sends.
        running.remove(&letter).expect("it runs").kill();
        running.insert(letter, Process::start(&sites[&letter]));
    }
    everywhere_once(&sites, end).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_of_four_processes() {
    hold_everything_once("ring", |one, other| (one + 1) % 4 == other || (other + 1) % 4 == one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mesh_of_four_processes() {
    hold_everything_once("mesh", |one, other| one != other).await;
}
