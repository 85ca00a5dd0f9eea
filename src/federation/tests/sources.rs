//! What a receiver may know of its sources: whether it is sent every clearance, hold and association, and when it last had all.

use super::*;
use crate::{
    federation::sources::{HEARD_WITHIN, Source},
    identity::peers::PeerAddress,
};

/// A peer that is dialled.
fn dialled(letter: char) -> Peer {
    Peer { address: Some(PeerAddress { host: format!("{letter}.example"), port: 7443 }), ..peer(letter) }
}

/// What `a` grants to whom: some filters.
fn forwards(filters: &str) -> String {
    format!(
        "[[grant]]\nid = 'some'\nwho = ['spiffe://b.example/*', 'spiffe://c.example/*']\nactions = ['forward']\n{filters}\n"
    )
}

const DECISIVE: &str = "filters = [{ types = ['clearance', 'association', 'movement'] }, { types = ['hold'] }]";
const NO_HOLDS: &str =
    "filters = [{ types = ['clearance', 'association'] }, { types = ['hold'], places = [{ country_code = 'CL' }] }]";

impl Side {
    fn source(&self, letter: char) -> Source {
        let all = self.federation.sources();
        all.into_iter().find(|source| source.node == node(letter)).expect("a source")
    }

    /// Waits until what a source says of itself is so.
    async fn knows(&self, letter: char, is_whole: bool) {
        let mut changes = self.federation.table().remembered();
        let waiting = async {
            while self.source(letter).is_whole != is_whole {
                changes.changed().await.expect("the table lives");
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("{letter} never became {is_whole} at {}", self.node));
    }
}

async fn whole_after(policy: &str, source: Peer) -> bool {
    let a = Side::new('a', vec![source], policy);
    let b = Side::new('b', vec![dialled('a')], ALL);
    a.publish(&[discharged('a', 1)]).await;
    let _stream = b.take_from(&a);
    a.acknowledged_by(&b.node, 1).await;
    b.source('a').is_whole
}

#[tokio::test]
async fn only_an_agreement_with_every_clearance_hold_and_association_from_the_beginning_is_whole() {
    assert!(whole_after(ALL, peer('b')).await);
    assert!(whole_after(&forwards(DECISIVE), peer('b')).await);
    assert!(!whole_after(&forwards(NO_HOLDS), peer('b')).await);
    assert!(
        !whole_after(&forwards("filters = [{ types = ['clearance', 'association', 'hold.placed'] }]"), peer('b')).await
    );
    assert!(!whole_after("", peer('b')).await);
    let from_now = "all = true\nhistory = 'from_start'\nstart_time = 2026-01-01T00:00:00Z";
    assert!(!whole_after(&forwards(from_now), peer('b')).await);
    assert!(!whole_after(ALL, Peer { from_time_ns: Some(0), ..peer('b') }).await);
}

#[tokio::test]
async fn a_wider_agreement_is_whole_once_the_link_has_begun_anew() {
    let a = Side::new('a', vec![peer('b')], &forwards(NO_HOLDS));
    let b = Side::new('b', vec![dialled('a')], ALL);
    a.publish(&[discharged('a', 1)]).await;
    let stream = b.take_from(&a);
    a.acknowledged_by(&b.node, 1).await;
    // Holds that were left out before stay left out.
    set_policy(&a, ALL);
    a.publish(&[discharged('a', 2)]).await;
    a.acknowledged_by(&b.node, 2).await;
    assert!(!b.source('a').is_whole);
    stream.end().await;
    assert!(b.source('a').complete_ns != 0);
    b.federation.resume(&a.node, operate::ResumeFrom::Beginning).expect("resumed");
    assert_eq!(b.source('a').complete_ns, 0, "what it is told next counts only once it is at the end again");
    b.publish(&[discharged('b', 1)]).await;
    let stream = b.take_from(&a);
    b.knows('a', true).await;
    a.acknowledged_by(&b.node, 2).await;
    // What it has gone back for may have come as late as here.
    let complete_from = *b.log.tail().borrow();
    assert_eq!((complete_from, b.source('a').complete_from), (Sequence(3), Sequence(3)));
    a.publish(&[discharged('a', 4)]).await;
    a.acknowledged_by(&b.node, 3).await;
    assert_eq!(b.source('a').complete_from, complete_from, "what comes while it is heard moves nothing");
    // A narrower one takes that back with the next batch, and one that is as wide keeps it.
    set_policy(&a, &forwards(NO_HOLDS));
    a.publish(&[discharged('a', 3)]).await;
    b.knows('a', false).await;
    assert!(stream.is_up());
}

#[tokio::test]
async fn a_source_is_relied_on_while_it_is_heard_and_nothing_of_it_is_in_quarantine() {
    let a = Side::new('a', vec![peer('b')], ALL);
    let b = Side::new('b', vec![dialled('a')], ALL);
    assert!(!b.source('a').is_relied_on(NOW_NS, Sequence(1)), "nothing was heard yet");
    a.publish(&[discharged('a', 1)]).await;
    let stream = b.take_from(&a);
    b.holds(1).await;
    b.knows('a', true).await;
    a.acknowledged_by(&b.node, 1).await;
    let source = b.source('a');
    assert!(!source.is_relied_on(NOW_NS, Sequence(0)), "an answer that does not show yet what came");
    let heard_ns = i64::try_from(HEARD_WITHIN.as_nanos()).expect("a minute");
    assert_eq!((source.is_up, source.complete_ns, source.lag_events), (true, NOW_NS, 0));
    assert!(
        source.is_relied_on(NOW_NS + heard_ns, Sequence(1)) && !source.is_relied_on(NOW_NS + heard_ns + 1, Sequence(1))
    );
    stream.end().await;
    // What is remembered of it outlives the stream; when it had all stays as it was.
    b.federation.table().set_state(&a.node, Direction::Inbound, LinkState::Backoff, "gone");
    let source = b.source('a');
    assert_eq!((source.is_up, source.is_whole, source.complete_ns), (false, true, NOW_NS));
    let quarantined = Quarantined {
        source_sequence: 2,
        publisher: String::new(),
        event_id: String::new(),
        reason: "EVENT_UNREADABLE".to_owned(),
        detail: String::new(),
        time_ns: NOW_NS,
        before: None,
    };
    b.federation.table().remember(&a.node, |progress| progress.quarantine.push(quarantined));
    assert!(!b.source('a').is_relied_on(NOW_NS, Sequence(1)));
}

#[tokio::test]
async fn a_node_behind_a_peer_is_whole_only_by_the_word_of_a_peer_that_has_it_whole_itself() {
    let behind = |letter: char, behind_it: &[char]| Peer {
        behind: behind_it.iter().copied().map(node).collect(),
        transit: true,
        ..dialled(letter)
    };
    // a -> b -> c, and b hands on what comes from a.
    let a = Side::new('a', vec![peer('b')], ALL);
    let b = Side::new('b', vec![dialled('a'), behind('c', &[])], ALL);
    let c = Side::new('c', vec![behind('b', &['a']), peer('a')], ALL);
    a.publish(&[discharged('a', 1)]).await;
    let _first = b.take_from(&a);
    b.holds(1).await;
    b.knows('a', true).await;
    let _second = c.take_from(&b);
    c.holds(1).await;
    c.knows('a', true).await;
    assert!(c.source('b').is_whole);
    assert_eq!((c.source('a').position, c.source('b').position.is_some()), (None, true));
    // Not by what b says of one that has told b nothing; and b hears that a keeps holds to itself.
    set_policy(&a, &forwards(NO_HOLDS));
    a.publish(&[discharged('a', 2)]).await;
    c.holds(1).await;
    b.knows('a', false).await;
    b.publish(&[discharged('b', 3)]).await;
    c.knows('a', false).await;
    assert!(c.source('b').is_whole);
}
