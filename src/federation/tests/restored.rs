//! Logs that are not what they were: a receiver or an origin restored from a backup, a clone, another log, a log that lost its end or its
//! beginning. Each is noticed, and nothing is lost in silence.

use super::*;
use crate::{
    federation::taking_back,
    log::EventLog,
    wire::proto::{Audience, Reach},
};

/// `a` over a log with these lives, holding these of its own events.
async fn a_with(lives: Vec<EpochFacts>, numbers: std::ops::Range<u32>) -> Side {
    let log = MemoryLog::with_epochs(Arc::new(TestClock::at_ns(NOW_NS)), content_equal, lives);
    let a = Side::over('a', Arc::new(log), vec![peer('b')], ALL);
    a.publish(&numbers.map(|n| discharged('a', n)).collect::<Vec<_>>()).await;
    a
}

/// `b` after it has taken everything from `a`.
async fn b_after(a: &Side, count: u64) -> Side {
    let b = Side::new('b', vec![peer('a')], ALL);
    let stream = b.take_from(a);
    b.holds(count).await;
    a.acknowledged_by(&b.node, count).await;
    stream.end().await;
    b
}

#[tokio::test]
async fn a_restored_receiver_shows_no_position_and_takes_all_again() {
    let a = a_with(vec![life(1, None, 0)], 0..30).await;
    b_after(&a, 30).await;
    // The log begins from an older backup, and what was remembered is gone.
    let log = MemoryLog::with_epochs(
        Arc::new(TestClock::at_ns(NOW_NS)),
        content_equal,
        vec![life(12, Some(11), 10), life(11, None, 0)],
    );
    let b = Side::over('b', Arc::new(log), vec![peer('a')], ALL);
    let _stream = b.take_from(&a);
    assert_eq!(b.holds(30).await.len(), 30);
}

#[tokio::test]
async fn a_restored_origin_goes_on_from_the_fork_and_takes_back_what_it_lost() {
    let a = a_with(vec![life(1, None, 0)], 0..30).await;
    let b = b_after(&a, 30).await;
    // The backup had the first 20; 10 are lost, and 5 new ones are published in the new life.
    let a = a_with(vec![life(2, Some(1), 20), life(1, None, 0)], 0..20).await;
    a.publish(&(100..105).map(|n| discharged('a', n)).collect::<Vec<_>>()).await;
    let stream = b.take_from(&a);
    b.holds(35).await;
    a.acknowledged_by(&b.node, 25).await;
    assert!(stream.is_up(), "the link goes on");
    let notice = b.federation.table().status(&a.node).notice(Direction::Inbound).to_owned();
    assert!(notice.contains("was restored from a backup"), "{notice}");
    assert!(a.federation.table().status(&b.node).notice(Direction::Outbound).contains("restored from a backup"));

    // Over its own link the origin gets back the ten that it lost, as replicated events of its earlier life, and nothing else.
    let _back = a.take_from(&b);
    let records = a.holds(35).await;
    let returned: Vec<_> = records[25..].to_vec();
    assert_eq!(said(&returned), sent(&(20..30).map(|n| discharged('a', n)).collect::<Vec<_>>()));
    let origin = returned[0].origin.as_ref().expect("it came back");
    assert_eq!((&origin.node, origin.epoch, origin.sequence), (&a.node, life(1, None, 0).epoch, Sequence(21)));
    // And b, which has all of them, is not sent them once more.
    b.acknowledged_by(&a.node, 35).await;
    assert_eq!(b.log.tail().borrow().get(), 35);
}

#[tokio::test]
async fn a_restored_origin_that_kept_everything_goes_on_under_its_new_life() {
    let a = a_with(vec![life(1, None, 0)], 0..30).await;
    let b = b_after(&a, 30).await;
    let remembered = a.federation.table().all_progress();
    let log =
        a.log.reopened(Arc::new(TestClock::at_ns(NOW_NS)), Sequence(30), vec![life(2, Some(1), 30), life(1, None, 0)]);
    let a = Side::remembering('a', Arc::new(log), vec![peer('b')], ALL, remembered);
    a.publish(&[discharged('a', 30)]).await;
    let stream = b.take_from(&a);
    b.holds(31).await;
    assert!(stream.is_up() && b.federation.table().status(&a.node).notice(Direction::Inbound).is_empty());
    let position = b.federation.table().progress(&a.node).received.expect("a position");
    assert_eq!(position.epoch, life(2, Some(1), 30).epoch);
}

#[tokio::test]
async fn a_life_that_is_live_twice_stops_the_link_at_both_ends() {
    let a = a_with(vec![life(1, None, 0)], 0..30).await;
    let b = b_after(&a, 30).await;
    // The clone of a has the same life, and other events in it.
    let clone = a_with(vec![life(1, None, 0)], 1_000..1_040).await;
    let received = b.take_from(&clone).ended().await;
    assert_eq!(received.ended.state(), LinkState::Cloned, "{received:?}");
    assert_eq!(clone.federation.table().status(&b.node).outbound.state, LinkState::Cloned);
    assert_eq!(b.log.tail().borrow().get(), 30, "nothing of the clone was taken");
}

#[tokio::test]
async fn another_log_and_a_lost_end_stop_the_link() {
    let a = a_with(vec![life(1, None, 0)], 0..30).await;
    let b = b_after(&a, 30).await;
    for other in [a_with(vec![life(9, None, 0)], 0..30).await, a_with(vec![life(1, None, 0)], 0..29).await] {
        let received = b.take_from(&other).ended().await;
        assert_eq!(received.ended.state(), LinkState::Diverged, "{received:?}");
        // The way out: everything again, and what is here is absorbed.
        let before = b.federation.table().progress(&a.node).received;
        b.federation.resume(&a.node, operate::ResumeFrom::Beginning).expect("resumed");
        other.publish(&[discharged('a', 500)]).await;
        let stream = b.take_from(&other);
        b.holds(31).await;
        stream.end().await;
        b.federation.table().remember(&a.node, |progress| progress.received = before);
    }
}

#[tokio::test]
async fn what_is_no_longer_retained_lapses_visibly() {
    let a = a_with(vec![life(1, None, 0)], 0..10).await;
    let b = b_after(&a, 10).await;
    a.publish(&(10..30).map(|n| discharged('a', n)).collect::<Vec<_>>()).await;
    a.log.drop_before(Sequence(11));
    let stream = b.take_from(&a);
    b.holds(30).await;
    stream.end().await;
    // Exactly up to what was retained is whole; one event less is not.
    a.publish(&[discharged('a', 40), discharged('a', 41)]).await;
    a.log.drop_before(Sequence(32));
    let received = b.take_from(&a).ended().await;
    assert_eq!(received.ended.state(), LinkState::Lapsed, "{received:?}");
    assert_eq!(a.federation.table().status(&b.node).outbound.state, LinkState::Lapsed);
    assert_eq!(b.log.tail().borrow().get(), 30);
    b.federation.resume(&a.node, operate::ResumeFrom::Beginning).expect("resumed");
    let _stream = b.take_from(&a);
    assert_eq!(said(&b.holds(31).await)[30..], sent(&[discharged('a', 41)]));
}

#[tokio::test]
async fn a_second_stream_of_a_receiver_takes_over() {
    let a = a_with(vec![life(1, None, 0)], 0..3).await;
    let b = Side::new('b', vec![peer('a')], ALL);
    let first = b.take_from(&a);
    b.holds(3).await;
    let second = b.take_from(&a);
    let received = first.ended().await;
    assert!(received.ended.in_words().contains("SUPERSEDED"), "{received:?}");
    a.publish(&[discharged('a', 9)]).await;
    b.holds(4).await;
    assert!(second.is_up());
    assert_ne!(a.federation.table().status(&b.node).outbound.state, LinkState::Idle);
}

#[tokio::test]
async fn publishing_stays_closed_until_every_peer_has_handed_back_and_what_nobody_holds_is_named() {
    let dialled = |letter| Peer { address: Some(address()), ..peer(letter) };
    let a = a_with(vec![life(1, None, 0)], 0..24).await;
    // What never left.
    let audience = Some(Audience { reach: Reach::Private.into(), participants: Vec::new() });
    a.publish(&[Event { audience, ..discharged('a', 24) }.with_id()]).await;
    a.publish(&(25..30).map(|n| discharged('a', n)).collect::<Vec<_>>()).await;
    let b = Side::new('b', vec![peer('a')], "");
    let stream = b.take_from(&a);
    b.holds(29).await;
    a.acknowledged_by(&b.node, 30).await;
    stream.end().await;

    // A node that was never restored is open; so is a restored one without peers.
    assert_eq!(*a.federation.closed().borrow(), None);
    let lives = || vec![life(2, Some(1), 20), life(1, None, 0)];
    assert_eq!(*a_with(lives(), 0..20).await.federation.closed().borrow(), None);

    let log = MemoryLog::with_epochs(Arc::new(TestClock::at_ns(NOW_NS)), content_equal, lives());
    let a = Side::over('a', Arc::new(log), vec![dialled('b'), dialled('c')], ALL);
    a.publish(&(0..20).map(|n| discharged('a', n)).collect::<Vec<_>>()).await;
    let mut closed = a.federation.closed();
    let why = closed.borrow().as_ref().expect("closed").to_string();
    assert!(why.contains(b.node.as_str()) && why.contains("c.example"), "{why}");
    let stopping = CancellationToken::new();
    let opening = taking_back::run(a.federation.parts().clone(), a.federation.closed.clone(), stopping.clone());
    let opening = tokio::spawn(opening);

    // It stands further on than the backup, so it is known how far the lost end went.
    let _there = b.take_from(&a);
    a.acknowledged_by(&b.node, 20).await;
    let _back = a.take_from(&b);
    a.holds(29).await;
    let only_c = |why: &Closed| why.as_ref().is_some_and(|why| !why.contains(b.node.as_str()));
    timeout(PATIENCE, closed.wait_for(only_c)).await.expect("b has handed back").expect("it lives");
    assert!(a.federation.restored().contains("c.example"), "it is told for whom it waits");
    // Nobody comes to c any more: its operator's word opens.
    a.federation.pause(&node('c'));
    timeout(PATIENCE, closed.wait_for(Option::is_none)).await.expect("open").expect("it lives");
    opening.await.expect("no panic").expect("no failure");
    let restored = a.federation.restored();
    assert!(restored.contains("places 21 to 30") && restored.contains("9 events of this node came back"), "{restored}");
    assert!(restored.contains("places 25 held"), "what no peer holds is named: {restored}");

    // It stays open, over a restart too, and for a peer that is added later.
    let remembered = a.federation.table().all_progress();
    let table = Arc::new(PeerTable::new(Arc::new(TestClock::at_ns(NOW_NS)), remembered));
    let parts = FederationParts {
        log: a.log.clone(),
        access: a.access.clone(),
        peers: watch::Sender::new(Arc::new(Peers { peers: vec![Arc::new(dialled('d'))], ..Peers::default() }))
            .subscribe(),
        bindings: a.bindings.clone(),
        clock: Arc::new(TestClock::at_ns(NOW_NS)),
        node: a.node.clone(),
        table,
        draining: CancellationToken::new(),
    };
    let again = Federation::new(parts);
    assert_eq!(*again.closed().borrow(), None);
    assert_eq!(again.restored(), restored);
}
