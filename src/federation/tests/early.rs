//! Revisions that stand before their originals in a source's log: they go behind these, where these go, and nowhere else.

use super::{
    wrong_peer::{batch, hello, honest, met, receiver},
    *,
};
use crate::{
    federation::{agreement::Withheld, door::PeerDoor, ended::Ended, position::LinkPosition, reach::Reach},
    wire::proto::{self, ReplicationEndReason, replicate_response},
};

/// Forwards what is about container 7.
const OF_SEVEN: &str = "[[grant]]\nid = 'some'\nwho = ['spiffe://c.example/*']\nactions = ['forward']\nfilters = [{ subjects = \
                        [{ kind = 'container', value = 'CONTAINER' }] }]\n";

/// `a` with `b`, from which events have come, and `c`, to which those about container 7 go.
fn source() -> Side {
    let policy = OF_SEVEN.replace("CONTAINER", &crate::testing::events::container_number(7));
    Side::new('a', vec![peer('b'), Peer { transit: true, ..peer('c') }], &policy)
}

fn c() -> Side {
    let a = Peer { behind: BTreeSet::from([node('b')]), ..peer('a') };
    Side::new('c', vec![a, peer('b')], ALL)
}

/// Stores events of `b` in this order.
async fn brought_by_b(side: &Side, events: &[Event]) {
    let parts = side.federation.parts();
    let peers = Arc::clone(&parts.peers.borrow());
    let door = PeerDoor {
        own: side.node.clone(),
        epochs: parts.log.epochs(),
        peer: peers.get(&node('b')).expect("a peer").clone(),
        peers,
    };
    let admit = |event: &Event| {
        let sequence = event.event_id.bytes().map(u64::from).sum();
        let signed = Some(event.unsigned());
        door.admit(&proto::ReplicatedEvent { signed, ..honest(1, sequence) }).expect("a good event")
    };
    let batch = AppendBatch { events: events.iter().map(admit).collect(), mode: AppendMode::AllOrNothing };
    let verdicts = side.log.append(batch).await.expect("taken");
    assert!(verdicts.iter().all(|verdict| matches!(verdict, crate::log::Verdict::Stored(_))), "{verdicts:?}");
}

/// A discharge of container 7, its correction to another container, and a retraction of that.
fn chain() -> [Event; 3] {
    let original = discharged('b', 7);
    let correction = original.corrected(|event| event.subjects = discharged('b', 8).subjects);
    let retraction = correction.retracted();
    [original, correction, retraction]
}

#[tokio::test]
async fn what_stands_before_its_original_goes_behind_it_with_all_that_revises_it() {
    let (a, c) = (source(), c());
    let [original, correction, retraction] = chain();
    let stays = discharged('b', 9);
    let events = [correction.clone(), retraction.clone(), stays.retracted()];
    brought_by_b(&a, &events).await;
    let _stream = c.take_from(&a);
    a.acknowledged_by(&c.node, 3).await;
    assert!(c.records().await.is_empty(), "nothing of it is for c by itself");
    let record = |event: &Event| {
        let event_id = EventId::parse(&event.event_id).expect("a good id");
        a.log.find(SpiffeId::parse(&event.publisher).expect("a good name"), event_id)
    };
    let reach = async |event: &Event| {
        let record = record(event).await.expect("readable").expect("stored");
        a.federation.reach(&record).await.expect("readable")[1].1
    };
    assert_eq!(reach(&correction).await, Reach::Withheld(Withheld::NotGranted));

    brought_by_b(&a, &[stays.clone(), original.clone()]).await;
    assert_eq!(reach(&retraction).await, Reach::Pending, "behind its original, which has not gone yet");
    c.holds(3).await;
    a.acknowledged_by(&c.node, 5).await;
    let records = c.records().await;
    let in_order = sent(&[original, correction, retraction.clone()]);
    assert_eq!(said(&records), in_order);
    let unresolved =
        |record: &Record| crate::domain::HeaderRef::parse(&record.header).expect("a good header").revision_unresolved();
    assert!(!records.iter().any(unresolved), "each fits where it comes");
    assert_eq!(reach(&retraction).await, Reach::Acknowledged);
    assert_eq!(reach(&stays.retracted()).await, Reach::Withheld(Withheld::NotGranted));

    // Whoever comes later, when the original is there, has them in the same order.
    let later = self::c();
    let _from_the_beginning = later.take_from(&a);
    assert_eq!(said(&later.holds(3).await), in_order);
}

#[tokio::test]
async fn a_link_that_ended_behind_the_original_begins_with_what_stands_before_it() {
    let (a, c) = (source(), c());
    let [original, correction, retraction] = chain();
    brought_by_b(&a, &[correction.clone(), retraction.clone(), original.clone()]).await;
    // As it is where the original filled a batch, and the line broke behind that.
    let position = LinkPosition {
        epoch: a.log.epochs()[0].epoch,
        sequence: Sequence(3),
        chain: a.log.chain_at(Sequence(3)).await.expect("readable").expect("a place"),
    };
    let stream_before = a.federation.table().begin_stream(&c.node);
    let grants = history::in_force(&a.access.policy().rights(&c.node), NOW_NS);
    stream_before.remember(|kept| history::note(&mut kept.versions, grants, 0, None)).expect("the latest");
    drop(stream_before);
    c.federation.table().remember(&a.node, |kept| kept.received = Some(position));
    let _stream = c.take_from(&a);
    assert_eq!(said(&c.holds(2).await), sent(&[correction, retraction]));
    a.publish(&[discharged('a', 7)]).await;
    c.holds(3).await;
}

#[tokio::test]
async fn a_program_too_old_for_it_is_sent_what_it_takes_and_the_operator_is_told() {
    let (a, c) = (source(), c());
    let [original, correction, _] = chain();
    brought_by_b(&a, &[correction, original.clone()]).await;
    let peer = c.files.borrow().get(&a.node).expect("a peer").clone();
    let (requests, _kept) = mpsc::channel(64);
    let mut request = Inbox::new(c.federation.parts().clone(), Arc::clone(&peer), requests).hello();
    let Some(proto::replicate_request::Message::Hello(hello)) = &mut request.message else { panic!("a hello") };
    hello.version_max = 1;
    let said = futures::stream::iter([Ok(request)]).chain(futures::stream::pending());
    let (responses, mut incoming) = mpsc::channel(4);
    let (federation, caller) = (a.federation.clone(), caller(&c.node));
    let serving = tokio::spawn(async move { federation.serve(caller, Box::pin(said), responses).await });
    let events = loop {
        let response =
            timeout(PATIENCE, incoming.recv()).await.expect("an answer").expect("one more").expect("no status");
        match response.message {
            Some(replicate_response::Message::Batch(batch)) if !batch.events.is_empty() => break batch.events,
            Some(replicate_response::Message::Hello(hello)) => assert_eq!(hello.version, 1),
            _ => {}
        }
    };
    serving.abort();
    // The original is there already, so the correction goes at its own place, as it always did.
    assert_eq!(
        events.iter().map(|event| (event.source_sequence, event.follows_sequence)).collect::<Vec<_>>(),
        [(1, 0), (2, 0)]
    );
    let notice = a.federation.table().progress(&c.node).notices[Direction::Outbound as usize].clone();
    assert!(notice.contains("the peer's program is too old"), "{notice}");
}

#[tokio::test]
async fn what_claims_to_follow_what_the_batch_does_not_cover_is_refused() {
    let follows = |source_sequence, follows_sequence| proto::ReplicatedEvent {
        follows_sequence,
        ..honest(source_sequence as u32, source_sequence)
    };
    let newer = || {
        let mut hello = hello();
        let Some(replicate_response::Message::Hello(said)) = &mut hello.message else { panic!("a hello") };
        said.version = 2;
        hello
    };
    let taken = receiver();
    let (received, _) = met(&taken, vec![newer(), batch(0, 4, vec![honest(3, 3), follows(1, 3), honest(4, 4)])]).await;
    assert!(received.acknowledged, "{received:?}");
    assert_eq!(taken.log.tail().borrow().get(), 3);
    for (hello, event) in
        [(newer(), follows(1, 4)), (newer(), follows(3, 3)), (newer(), follows(0, 2)), (hello(), follows(1, 2))]
    {
        let side = receiver();
        let (received, _) = met(&side, vec![hello, batch(0, 3, vec![honest(2, 2), event.clone()])]).await;
        let Ended::Here(reason, detail) = &received.ended else { panic!("{event:?} was taken: {received:?}") };
        assert_eq!(*reason, ReplicationEndReason::Refused, "{detail}");
        assert!(detail.contains("GAP"), "{detail}");
        assert!(side.records().await.is_empty());
    }
}
