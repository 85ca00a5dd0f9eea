//! What a source must have on its disk, and must have looked at, before anything goes; and the way of what was lost and came back.

use super::*;
use crate::{
    domain::{Epoch, filter::FilterSpec},
    federation::{
        agreement::Withheld,
        history::{self, VersionGrant},
        position::LinkPosition,
        reach::Reach,
        table::TakenOver,
    },
    wire::proto::{self, replicate_response},
};

/// Keeps everything that it was ever given, oldest first.
#[derive(Default)]
struct Kept(Mutex<Vec<BTreeMap<SpiffeId, PeerProgress>>>);

impl Kept {
    fn all_that_was(&self) -> Vec<BTreeMap<SpiffeId, PeerProgress>> {
        self.0.lock().expect("no panic").clone()
    }
}

impl ProgressStore for Kept {
    fn keep(&self, all: BTreeMap<SpiffeId, PeerProgress>) -> BoxFuture<'static, Result<(), StorageError>> {
        self.0.lock().expect("no panic").push(all);
        std::future::ready(Ok(())).boxed()
    }
}

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
    let stream = b.take_from(&a);
    remembers(&b, &a.node, "a hello", |kept| kept.received.is_some()).await;
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
    narrow(&a);
    gate.send_replace(true);
    a.acknowledged_by(&b.node, 1).await;
    assert!(b.records().await.is_empty(), "sent by an agreement that has ended");
}

/// Takes the first batch of events of a source, then breaks without a word: nothing is ever acknowledged.
async fn take_and_say_nothing(source: &Side, receiver: &Side) -> Vec<proto::ReplicatedEvent> {
    let (requests, outgoing) = mpsc::channel(64);
    let (responses, mut incoming) = mpsc::channel(4);
    let peer = receiver.files.borrow().get(&source.node).expect("a peer of the file").clone();
    let inbox = Inbox::new(receiver.federation.parts().clone(), peer, requests.clone());
    requests.try_send(inbox.hello()).expect("there is room");
    let (federation, caller) = (source.federation.clone(), caller(&receiver.node));
    let serving = tokio::spawn(async move {
        federation.serve(caller, Box::pin(ReceiverStream::new(outgoing).map(Ok)), responses).await;
    });
    let batch = async {
        loop {
            let message = incoming.recv().await.expect("the stream lasts").expect("no failure").message;
            if let Some(replicate_response::Message::Batch(batch)) = message
                && !batch.events.is_empty()
            {
                return batch.events;
            }
        }
    };
    let events = timeout(PATIENCE, batch).await.expect("a batch");
    drop((requests, inbox));
    timeout(PATIENCE, serving).await.expect("the stream ends").expect("no panic");
    events
}

#[tokio::test]
async fn what_was_sent_and_never_acknowledged_is_taken_back_after_the_agreement_has_ended() {
    let (a, b) = (Side::new('a', vec![peer('b')], ALL), Side::new('b', vec![peer('a')], ALL));
    let went = discharged('a', 1);
    a.publish(std::slice::from_ref(&went)).await;
    assert_eq!(take_and_say_nothing(&a, &b).await.len(), 1);
    assert_eq!(a.federation.table().progress(&b.node).acknowledged, None, "the premise");

    narrow(&a);
    let (stays, retraction) = (discharged('a', 2), went.retracted());
    a.publish(&[stays.clone(), retraction.clone(), stays.retracted()]).await;
    let _stream = b.take_from(&a);
    a.acknowledged_by(&b.node, 4).await;
    assert_eq!(said(&b.records().await), sent(&[retraction]), "behind what went, and behind nothing else");
    assert_eq!(a.reach_of_only_peer(&went).await, Reach::Pending, "sent, and never acknowledged");
    assert_eq!(a.reach_of_only_peer(&stays).await, Reach::Withheld(Withheld::NotGranted));
}

#[tokio::test]
async fn what_a_source_had_sent_before_it_died_is_taken_back_after_the_agreement_has_ended() {
    let kept = Arc::new(Kept::default());
    let log = Arc::new(MemoryLog::new(Arc::new(TestClock::at_ns(NOW_NS)), content_equal));
    let a = Side::keeping('a', log.clone(), vec![peer('b')], ALL, kept.clone());
    let b = Side::new('b', vec![peer('a')], ALL);
    let went = discharged('a', 1);
    a.publish(std::slice::from_ref(&went)).await;
    assert_eq!(take_and_say_nothing(&a, &b).await.len(), 1);

    // It dies with what was on its disk when the batch went, and begins with an agreement that has ended.
    let on_disk = kept.all_that_was();
    let first_sent = on_disk.iter().find(|all| all[&b.node].versions.iter().any(|version| 0 < version.sent_through));
    let remembered = first_sent.expect("on the disk before it went").clone();
    assert!(1 < remembered[&b.node].versions[0].sent_through, "ahead: no write for every batch");
    let a = Side::remembering('a', log, vec![peer('b')], "", remembered);
    assert_eq!(a.federation.table().progress(&b.node).versions[0].sent_through, 1, "never beyond the log's end");
    let (stays, retraction) = (discharged('a', 2), went.retracted());
    a.publish(&[stays.clone(), retraction.clone(), stays.retracted()]).await;
    let _stream = b.take_from(&a);
    a.acknowledged_by(&b.node, 4).await;
    assert_eq!(said(&b.records().await), sent(&[retraction]), "behind what went, and behind nothing else");
}

#[tokio::test]
async fn a_stream_that_has_ended_leaves_exactly_what_was_sent() {
    let kept = Arc::new(Kept::default());
    let log = MemoryLog::new(Arc::new(TestClock::at_ns(NOW_NS)), content_equal);
    let a = Side::keeping('a', Arc::new(log), vec![peer('b')], ALL, kept.clone());
    let b = Side::new('b', vec![peer('a')], ALL);
    a.publish(&[discharged('a', 1), discharged('a', 2)]).await;
    let stream = b.take_from(&a);
    b.holds(2).await;
    // A second stream takes over, and the end of the first does not take back what the second has reserved.
    let second = b.take_from(&a);
    a.publish(&[discharged('a', 3)]).await;
    b.holds(3).await;
    stream.ended().await;
    let sent_through =
        |all: &BTreeMap<_, PeerProgress>| all[&b.node].versions.last().map(|version| version.sent_through);
    a.federation.table().kept().await;
    let while_it_lasts = sent_through(kept.all_that_was().last().expect("kept"));
    assert!(while_it_lasts.is_some_and(|through| 3 < through), "{while_it_lasts:?}");
    second.end().await;
    let settled = async {
        while sent_through(kept.all_that_was().last().expect("kept")) != Some(3) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, settled).await.expect("settled at three");
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

#[tokio::test]
async fn a_stream_that_was_taken_over_from_changes_nothing_that_is_remembered() {
    let a = Side::new('a', vec![peer('b')], ALL);
    let (table, receiver) = (a.federation.table(), node('b'));
    let position =
        |sequence| LinkPosition { epoch: Epoch(uuid::Uuid::nil()), sequence: Sequence(sequence), chain: [0; 32] };
    let first = table.begin_stream(&receiver);
    first.remember(|progress| progress.acknowledged = Some(position(1))).expect("the latest");
    let second = table.begin_stream(&receiver);
    second.remember(|progress| progress.acknowledged = Some(position(9))).expect("the latest");
    let late = first.remember(|progress| progress.acknowledged = Some(position(2)));
    assert_eq!(late, Err(TakenOver));
    assert_eq!(table.progress(&receiver).acknowledged, Some(position(9)));
}

#[tokio::test]
async fn an_open_stream_notes_its_agreement_itself() {
    let table = Arc::new(PeerTable::new(Arc::new(TestClock::at_ns(NOW_NS)), BTreeMap::new()));
    let everything = VersionGrant { filters: vec![FilterSpec::default()], private: false, hidden_before_ns: None };
    let last = || table.progress(&node('b')).versions.last().expect("noted").grants.clone();
    let stream = table.begin_stream(&node('b'));
    stream
        .remember(|progress| history::note(&mut progress.versions, vec![everything.clone()], 0, None))
        .expect("first");
    // What it sends until it has looked again still goes by the agreement before, and has to be counted as gone by that.
    table.note_between_streams(&node('b'), Vec::new(), Sequence(9));
    assert_eq!(last(), [everything]);
    drop(stream);
    table.note_between_streams(&node('b'), Vec::new(), Sequence(9));
    assert_eq!(last(), []);
}

#[tokio::test]
async fn a_stream_that_ended_before_it_looked_again_leaves_its_agreement_to_be_noted() {
    let a = Side::new('a', vec![peer('b')], ALL);
    let lets_nothing_go = |kept: &PeerProgress| kept.versions.last().is_some_and(|version| version.grants.is_empty());
    let stream = a.federation.table().begin_stream(&node('b'));
    narrow(&a);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!lets_nothing_go(&a.federation.table().progress(&node('b'))), "the premise");
    drop(stream);
    remembers(&a, &node('b'), "that nothing goes any more", lets_nothing_go).await;
}
