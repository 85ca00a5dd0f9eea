//! Clearances at nodes that are linked: what three authorities say, each at its own node, in random order, again and again, corrected and
//! retracted, over links that are paused at random and bring much of it twice, comes to the same at every node; to the same as at a node that
//! got each once in the order in which it was said; and to what the statements come to by hand.

mod by_hand;
mod story;

use std::{collections::BTreeMap, path::Path, time::Duration};

use tonic::{Code, transport::Channel};
use tradelane::{
    clock::{Clock, SystemClock},
    domain::Position,
    node::RunningNode,
    testing::nodes::{self, PeerEntry, Site},
    wire::{
        PublishRequest,
        proto::{
            self, ClearanceStatus, Event, GetClearanceRequest, ListClearancesRequest, Obstacle, Subject,
            clearance_service_client::ClearanceServiceClient, event_service_client::EventServiceClient,
            node_service_client::NodeServiceClient,
        },
    },
};

use self::story::{AUTHORITIES, Story, authority};
use crate::{
    harness::PATIENCE,
    peers::{channel, start},
};

/// How many stories are told to the same nodes, each of goods of its own.
const STORIES: u64 = 8;
/// The node that has no links: it is told each statement once, in the order in which they were made.
const IN_ORDER: char = 'o';
/// So many times in a story the links change, with a part of the statements after each.
const CHAPTERS: usize = 4;

/// A node with its clients.
struct Place {
    site: Site,
    node: RunningNode,
    operator: NodeServiceClient<Channel>,
    clearances: ClearanceServiceClient<Channel>,
    /// Who publishes here.
    writers: BTreeMap<char, EventServiceClient<Channel>>,
}

#[tokio::test(flavor = "multi_thread")]
#[allow(
    clippy::print_stderr,
    reason = "a failing seed is to be found in the test's output, and its slot is TRADELANE_CLEARANCE_SEED"
)]
async fn statements_in_any_order_over_any_links_come_to_the_same_at_every_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut places = settle(folder.path()).await;
    let (mut total, mut revised, mut held, mut released) = (0, 0, 0, 0);
    for seed in seeds() {
        let mut rng = fastrand::Rng::with_seed(seed);
        let story = Story::of(seed, SystemClock.now_ns());
        tell_in_order(places.get_mut(&IN_ORDER).expect("settled"), &story).await;
        tell_apart(&mut places, &story, &mut rng).await;
        total += story.events.len();
        for place in places.values_mut() {
            considered(place, total).await;
        }
        for subject in story.subjects() {
            let mut told = BTreeMap::new();
            for (letter, place) in &mut places {
                told.insert(*letter, answer(place, &subject).await);
            }
            let expected = told[&IN_ORDER].clone();
            for (letter, status) in &told {
                assert_eq!(
                    status, &expected,
                    "TRADELANE_CLEARANCE_SEED={seed}: {} {} at {letter}, and as told in order",
                    subject.value, subject.issuer
                );
            }
            if let Some(status) = expected {
                by_hand::check(&story.events, &subject, &status, &format!("TRADELANE_CLEARANCE_SEED={seed}"));
                revised += status.revised.len();
                held += status.open_holds.len();
                released += usize::from(status.released);
            }
        }
    }
    eprintln!("{total} statements; {revised} times revised, {held} times held, {released} times released");
    assert!(slot().is_some() || (revised > 0 && held > 0 && released > 0), "the stories must be able to differ");
    for place in places.into_values() {
        let report = place.node.stop().await;
        assert_eq!((report.failure, report.unfinished.len()), (None, 0));
    }
}

/// The slot for a failing seed.
fn slot() -> Option<u64> {
    std::env::var("TRADELANE_CLEARANCE_SEED").ok().map(|text| text.parse().expect("a number"))
}

/// Other stories at every run, so that in time they are many.
#[allow(clippy::print_stderr, reason = "a failing seed is to be found in the test's output")]
fn seeds() -> Vec<u64> {
    let first = fastrand::u64(..300_000);
    let seeds = slot().map_or_else(|| (first..first + STORIES).collect(), |seed| vec![seed]);
    eprintln!("TRADELANE_CLEARANCE_SEED: {seeds:?}");
    seeds
}

/// Three nodes of which each has a link to each other, and hands it what it has of the third besides; and one with none.
async fn settle(root: &Path) -> BTreeMap<char, Place> {
    let sites = nodes::create(root, &[AUTHORITIES[0], AUTHORITIES[1], AUTHORITIES[2], IN_ORDER], SystemClock.now_ns());
    for letter in AUTHORITIES {
        let others: Vec<char> = AUTHORITIES.into_iter().filter(|other| *other != letter).collect();
        let entry = |other: &char| PeerEntry {
            behind: others.iter().filter(|behind| *behind != other).copied().collect(),
            transit: true,
            ..PeerEntry::plain(*other)
        };
        sites[&letter].write_peers(&others.iter().map(entry).collect::<Vec<_>>(), &sites);
    }
    let alone = &sites[&IN_ORDER];
    alone.write_peers(&[], &sites);
    let who = AUTHORITIES.map(authority).join("\", \"");
    alone.write_policy(&format!("[[grant]]\nid = \"all\"\nwho = [\"{who}\"]\nactions = [\"publish\"]\nall = true\n"));
    let mut places = BTreeMap::new();
    for (letter, site) in &sites {
        let node = start(site).await;
        let own = channel(site, &site.operator).await;
        let at_home: Vec<char> = if *letter == IN_ORDER { AUTHORITIES.to_vec() } else { vec![*letter] };
        let mut writers = BTreeMap::new();
        for writer in at_home {
            writers.insert(writer, EventServiceClient::new(channel(site, &sites[&writer].terminal).await));
        }
        let place = Place {
            site: site.clone(),
            node,
            operator: NodeServiceClient::new(own.clone()),
            clearances: ClearanceServiceClient::new(own),
            writers,
        };
        places.insert(*letter, place);
    }
    places
}

async fn publish(place: &mut Place, writer: char, events: &[Event]) {
    let request = PublishRequest { events: events.iter().map(Event::unsigned).collect(), on_invalid: 0 };
    place.writers.get_mut(&writer).expect("at home").publish(request).await.expect("stored");
}

/// Each statement once, one after the other.
async fn tell_in_order(place: &mut Place, story: &Story) {
    for event in &story.events {
        publish(place, story::site_of(event), std::slice::from_ref(event)).await;
    }
}

/// Each statement at its own node, in an order of chance in which only a revision follows what it revises, some of them again, while links
/// pause and go on.
async fn tell_apart(places: &mut BTreeMap<char, Place>, story: &Story, rng: &mut fastrand::Rng) {
    let events = story.shuffled(rng);
    for chapter in events.chunks(events.len().div_ceil(CHAPTERS)) {
        for (at, to) in pairs() {
            let is_paused = rng.bool();
            set_paused(places, at, to, is_paused).await;
        }
        let mut rest = chapter;
        while let Some(first) = rest.first() {
            let writer = story::site_of(first);
            let most = rng.usize(1..=5);
            let count = rest.iter().take(most).take_while(|event| story::site_of(event) == writer).count();
            let (batch, later) = rest.split_at(count);
            let place = places.get_mut(&writer).expect("settled");
            publish(place, writer, batch).await;
            if rng.u8(..3) == 0 {
                publish(place, writer, batch).await;
            }
            rest = later;
        }
    }
    for (at, to) in pairs() {
        set_paused(places, at, to, false).await;
    }
}

fn pairs() -> impl Iterator<Item = (char, char)> {
    AUTHORITIES.into_iter().flat_map(|at| AUTHORITIES.into_iter().map(move |to| (at, to))).filter(|(at, to)| at != to)
}

async fn set_paused(places: &mut BTreeMap<char, Place>, at: char, to: char, is_paused: bool) {
    let node = places[&to].site.node.to_string();
    let operator = &mut places.get_mut(&at).expect("settled").operator;
    if is_paused {
        operator.pause_peer(proto::PausePeerRequest { node }).await.expect("paused");
    } else {
        operator.resume_peer(proto::ResumePeerRequest { node, from: 0 }).await.expect("resumed");
    }
}

/// Waits until a node's answers consider so many events.
async fn considered(place: &mut Place, events: usize) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let request = ListClearancesRequest { page_size: 1, ..ListClearancesRequest::default() };
        let page = place.clearances.list_clearances(request).await.expect("a page").into_inner();
        let as_of: Position = page.as_of.parse().expect("a position");
        if events as u64 <= as_of.sequence.get() {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{} considers only {as_of} of {events}", place.site.node);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What a node says of a subject as soon as it relies on its sources again; without what is its own affair: the places in its log. None
/// where it knows nothing of the subject.
async fn answer(place: &mut Place, subject: &Subject) -> Option<ClearanceStatus> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let request = GetClearanceRequest { subject: Some(subject.clone()) };
        let mut status = match place.clearances.get_clearance(request).await {
            Ok(answer) => answer.into_inner().clearance.expect("always said"),
            Err(refused) if refused.code() == Code::NotFound => return None,
            Err(refused) => panic!("{refused}"),
        };
        if !status.obstacles.contains(&Obstacle::SourceIncomplete.into()) {
            without_positions(&mut status);
            return Some(status);
        }
        assert!(tokio::time::Instant::now() < deadline, "{} never relies on the others again", place.site.node);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn without_positions(status: &mut ClearanceStatus) {
    let lifecycles = status.lifecycles.iter_mut().flat_map(|unit| {
        let items = unit.goods_items.iter_mut().filter_map(|item| item.state_set_by.as_mut());
        let steps = unit.steps.iter_mut().filter_map(|step| step.statement.as_mut());
        let moves = unit.anomalies.iter_mut();
        let moves = moves.flat_map(|one| [&mut one.from_statement, &mut one.to_statement].into_iter().flatten());
        unit.state_set_by.iter_mut().chain(items).chain(steps).chain(moves)
    });
    let holds = status.open_holds.iter_mut().filter_map(|hold| hold.placed_by.as_mut());
    let coverage = status.coverage.iter_mut().flat_map(|coverage| &mut coverage.said_by);
    let revised = status.revised.iter_mut().filter_map(|one| one.statement.as_mut());
    lifecycles.chain(holds).chain(coverage).chain(revised).for_each(|statement| statement.position.clear());
}
