//! Four nodes with transit, in a ring and in a full mesh: each event is stored once a node, no stream is refused, and nothing runs in
//! circles.

use super::*;

const LETTERS: [char; 4] = ['a', 'b', 'c', 'd'];
const EVENTS_EACH: u32 = 60;

/// A node with these neighbours, behind each of which all others stand.
fn transit_node(letter: char, neighbours: &[char]) -> Side {
    let file = LETTERS.into_iter().filter(|other| *other != letter).map(|other| {
        let behind = LETTERS.into_iter().filter(|third| *third != letter && *third != other).map(node);
        let behind = if neighbours.contains(&other) { behind.collect() } else { BTreeSet::new() };
        Peer { behind, transit: true, ..peer(other) }
    });
    Side::new(letter, file.collect(), ALL)
}

async fn every_event_once_everywhere(neighbours: fn(usize) -> Vec<usize>) -> u64 {
    let sides: Vec<Side> = (0..4)
        .map(|at| {
            let letters: Vec<char> = neighbours(at).into_iter().map(|other| LETTERS[other]).collect();
            transit_node(LETTERS[at], &letters)
        })
        .collect();
    let mut streams = Vec::new();
    for (at, side) in sides.iter().enumerate() {
        for other in neighbours(at) {
            streams.push(side.take_from(&sides[other]));
        }
    }
    let mut all: Vec<Bytes> = Vec::new();
    for start in (0..EVENTS_EACH).step_by(20) {
        for (letter, side) in LETTERS.into_iter().zip(&sides) {
            let events: Vec<Event> = (start..start + 20).map(|n| discharged(letter, n)).collect();
            side.publish(&events).await;
            all.extend(sent(&events));
        }
    }
    all.sort();
    for side in &sides {
        let records = side.holds(all.len() as u64).await;
        let mut held = said(&records);
        held.sort();
        assert_eq!(held, all, "{} holds every event once, with the bytes that were sent", side.node);
        for record in &records {
            let Some(origin) = &record.origin else { continue };
            assert!(origin.node != side.node && !origin.via.contains(&side.node), "{origin:?} ran in a circle");
        }
    }
    // What is still on its way must come to rest without a new event anywhere.
    for (at, side) in sides.iter().enumerate() {
        for other in neighbours(at) {
            side.acknowledged_by(&sides[other].node, all.len() as u64).await;
        }
    }
    assert!(streams.iter().all(Stream::is_up), "a stream was refused");
    for side in &sides {
        assert_eq!(side.log.tail().borrow().get(), all.len() as u64, "{} took something twice", side.node);
    }
    let sends = |side: &Side| -> u64 {
        LETTERS.into_iter().map(|other| side.federation.table().status(&node(other)).outbound.event_count).sum()
    };
    sides.iter().map(sends).sum()
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "the cost of transit is reported")]
async fn a_ring_of_four() {
    let sends = every_event_once_everywhere(|at| vec![(at + 1) % 4, (at + 3) % 4]).await;
    let events = u64::from(EVENTS_EACH) * 4;
    eprintln!("ring of four: {sends} sends of {events} events, {:.2} an event", sends as f64 / events as f64);
    // At least to three others each; at most over each of eight directions once.
    assert!(events * 3 <= sends && sends <= events * 8, "{sends}");
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "the cost of transit is reported")]
async fn a_full_mesh_of_four() {
    let sends = every_event_once_everywhere(|at| (0..4).filter(|other| *other != at).collect()).await;
    let events = u64::from(EVENTS_EACH) * 4;
    eprintln!("mesh of four: {sends} sends of {events} events, {:.2} an event", sends as f64 / events as f64);
    assert!(events * 3 <= sends && sends <= events * 12, "{sends}");
}

#[tokio::test]
async fn without_transit_only_the_origin_forwards() {
    let a = Side::new('a', vec![peer('b')], ALL);
    let b = Side::new('b', vec![peer('a'), peer('c')], ALL);
    let c = Side::new('c', vec![Peer { behind: BTreeSet::from([node('a')]), ..peer('b') }, peer('a')], ALL);
    let _streams = [b.take_from(&a), c.take_from(&b)];
    a.publish(&[discharged('a', 1)]).await;
    b.holds(1).await;
    b.publish(&[discharged('b', 2)]).await;
    b.acknowledged_by(&c.node, 2).await;
    assert_eq!(said(&c.records().await), sent(&[discharged('b', 2)]));
}
