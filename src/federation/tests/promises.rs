//! What a source must have on its disk, and must have looked at, before anything goes; and the way of what was lost and came back.

use super::*;
use crate::{domain::Epoch, log::contract::EpochFacts};

/// Keeps what is remembered only once it is let.
struct Gate(watch::Sender<bool>);

impl ProgressStore for Gate {
    fn keep(&self, _: BTreeMap<SpiffeId, PeerProgress>) -> BoxFuture<'static, Result<(), StorageError>> {
        let mut open = self.0.subscribe();
        async move {
            open.wait_for(|open| *open).await.expect("the gate is there");
            Ok(())
        }
        .boxed()
    }
}

/// `a`, whose disk waits for the gate, with one event, and `b`, which has heard from it where the stream begins.
async fn at_the_gate() -> (watch::Sender<bool>, Side, Side, Stream) {
    let gate = watch::Sender::new(false);
    let log = MemoryLog::new(Arc::new(TestClock::at_ns(NOW_NS)), content_equal);
    let a = Side::keeping('a', Arc::new(log), vec![peer('b')], ALL, Arc::new(Gate(gate.clone())));
    let b = Side::new('b', vec![peer('a')], ALL);
    a.publish(&[discharged('a', 1)]).await;
    let mut changes = b.federation.table().remembered();
    let stream = b.take_from(&a);
    let begun = changes.wait_for(|_| b.federation.table().progress(&a.node).received.is_some());
    timeout(PATIENCE, begun).await.expect("a hello").expect("the table lives");
    (gate, a, b, stream)
}

#[tokio::test]
async fn nothing_goes_by_an_agreement_that_a_crash_would_forget() {
    let (gate, a, b, _stream) = at_the_gate().await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(b.records().await.is_empty(), "sent by an agreement that is not on the disk");
    gate.send_replace(true);
    b.holds(1).await;
    a.acknowledged_by(&b.node, 1).await;
}

#[tokio::test]
async fn an_agreement_that_ends_while_a_stream_begins_lets_nothing_go() {
    let (gate, a, b, _stream) = at_the_gate().await;
    a.access.replace(file::parse("", Path::new("policy.toml"), &Successors::default()).expect("a good policy"));
    gate.send_replace(true);
    a.acknowledged_by(&b.node, 1).await;
    assert!(b.records().await.is_empty(), "sent by an agreement that has ended");
}

#[tokio::test]
async fn what_came_back_and_was_passed_on_may_come_back_once_more() {
    let triangle = |own: char| -> Vec<Peer> {
        let others = ['a', 'b', 'c'].into_iter().filter(move |other| *other != own);
        let with_third = |other: char| {
            let third = ['a', 'b', 'c'].into_iter().find(|third| *third != own && *third != other).map(node);
            Peer { behind: third.into_iter().collect(), transit: true, ..peer(other) }
        };
        others.map(with_third).collect()
    };
    let life = |number, parent: Option<u128>, fork| {
        let epoch = |number| Epoch(uuid::Uuid::from_u128(number));
        EpochFacts { epoch: epoch(number), parent: parent.map(epoch), fork: Sequence(fork), open_time_ns: 0 }
    };
    let a_with = |lives| {
        let log = MemoryLog::with_epochs(Arc::new(TestClock::at_ns(NOW_NS)), content_equal, lives);
        Side::over('a', Arc::new(log), triangle('a'), ALL)
    };
    let events: Vec<Event> = (0..5).map(|n| discharged('a', n)).collect();
    let (a, b) = (a_with(vec![life(1, None, 0)]), Side::new('b', triangle('b'), ALL));
    a.publish(&events).await;
    let stream = b.take_from(&a);
    b.holds(5).await;
    stream.end().await;

    // The backup had the first three; b gives two back, which go on to c, and c has them for a as well.
    let a = a_with(vec![life(2, Some(1), 3), life(1, None, 0)]);
    a.publish(&events[..3]).await;
    let _back = a.take_from(&b);
    a.holds(5).await;
    let c = Side::new('c', triangle('c'), ALL);
    let _onwards = c.take_from(&a);
    c.holds(5).await;
    let from_c = a.take_from(&c);
    c.acknowledged_by(&a.node, 5).await;
    assert!(from_c.is_up(), "the link is not refused");
    assert_eq!(a.log.tail().borrow().get(), 5, "and nothing is stored twice");
}
