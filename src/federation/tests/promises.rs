//! What a source must have on its disk, and must have looked at, before anything goes.

use super::*;

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
