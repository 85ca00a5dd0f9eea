//! A peer that sends what it may not: refused with the stated reason, nothing stored; and what is only bad goes into quarantine, visible
//! at both ends, while the link goes on.

use super::*;
use crate::{
    domain::Epoch,
    federation::{ended::Ended, messages, position::LinkPosition},
    wire::{
        ReplicaBatch, SignedEvent,
        proto::{Audience, Origin, Reach, ReplicatedEvent, ReplicationEndReason, SourceHello, replicate_request},
    },
};

fn epoch(number: u128) -> Epoch {
    Epoch(uuid::Uuid::from_u128(number))
}

fn at(sequence: u64) -> LinkPosition {
    LinkPosition { epoch: epoch(7), sequence: Sequence(sequence), chain: [sequence as u8; 32] }
}

/// An event as an honest `b` would send it.
pub(super) fn honest(n: u32, source_sequence: u64) -> ReplicatedEvent {
    ReplicatedEvent {
        signed: Some(discharged('b', n).unsigned()),
        origin: Some(Origin {
            node: node('b').to_string(),
            epoch: epoch(7).to_string(),
            sequence: source_sequence,
            accepted_time: Some(messages::timestamp(NOW_NS)),
        }),
        via: Vec::new(),
        source_sequence,
        follows_sequence: 0,
    }
}

pub(super) fn batch(after: u64, through: u64, events: Vec<ReplicatedEvent>) -> ReplicateResponse {
    let through_position = Some(at(through).message());
    messages::batch(ReplicaBatch {
        after_sequence: after,
        through: through_position,
        events,
        head_sequence: through,
        whole_origins: Vec::new(),
    })
}

pub(super) fn hello() -> ReplicateResponse {
    messages::source_hello(SourceHello {
        version: 1,
        node: node('b').to_string(),
        start: Some(LinkPosition { chain: [0; 32], ..at(0) }.message()),
        forked: false,
        head_sequence: 1,
    })
}

/// `a` with `b` as a peer, behind which `c` stands; `d` is a peer of its own.
pub(super) fn receiver() -> Side {
    let b = Peer { behind: BTreeSet::from([node('c')]), ..peer('b') };
    Side::new('a', vec![b, peer('c'), peer('d')], ALL)
}

/// What `a` says to a source that sends this and then closes.
pub(super) async fn met(side: &Side, messages: Vec<ReplicateResponse>) -> (inbox::Received, Vec<ReplicateRequest>) {
    let (requests, mut outgoing) = mpsc::channel(1_000);
    let peer = side.files.borrow().get(&node('b')).expect("a peer").clone();
    let inbox = Inbox::new(side.federation.parts().clone(), peer, requests);
    let stream = futures::stream::iter(messages.into_iter().map(Ok));
    let received = inbox.run(Box::pin(stream), &CancellationToken::new(), "test").await;
    let mut said = Vec::new();
    while let Ok(request) = outgoing.try_recv() {
        said.push(request);
    }
    (received, said)
}

type Spoil = fn(&mut ReplicatedEvent);

/// Each way to forge, with the reason.
const FORGERIES: &[(&str, Spoil)] = &[
    // Another origin than who brings it, without having passed it.
    ("ORIGIN_FORGED", |event| origin(event).node = node('d').to_string()),
    // Of a life of our own log: the present one is not known to the test, an unknown one is forged just so.
    ("ORIGIN_FORGED", |event| {
        origin(event).node = node('a').to_string();
        event.via = vec![node('b').to_string()];
    }),
    // An origin that stands behind nobody.
    ("ORIGIN_NOT_ALLOWED", |event| {
        origin(event).node = node('d').to_string();
        event.via = vec![node('b').to_string()];
    }),
    // The last node passed is not who brings it.
    ("VIA_FORGED", |event| {
        origin(event).node = node('c').to_string();
        event.via = vec![node('d').to_string()];
    }),
    // It passed us before.
    ("LOOP", |event| {
        origin(event).node = node('c').to_string();
        event.via = vec![node('a').to_string(), node('b').to_string()];
    }),
    // A publisher of ours.
    ("PUBLISHER_NOT_AT_HOME", |event| event.signed = Some(discharged('a', 1).unsigned())),
    // A publisher of another node than the origin.
    ("PUBLISHER_NOT_AT_HOME", |event| event.signed = Some(discharged('d', 1).unsigned())),
    // A publisher of the bringer, said to come from the node behind it.
    ("PUBLISHER_NOT_AT_HOME", |event| {
        origin(event).node = node('c').to_string();
        event.via = vec![node('b').to_string()];
    }),
    ("ORIGIN_MALFORMED", |event| event.origin = None),
    ("ORIGIN_MALFORMED", |event| origin(event).epoch = "x".to_owned()),
    ("ORIGIN_MALFORMED", |event| origin(event).sequence = 0),
];

fn origin(event: &mut ReplicatedEvent) -> &mut Origin {
    event.origin.as_mut().expect("an origin")
}

/// Each way to be only bad, with the reason.
const BAD: &[(&str, Spoil)] = &[
    ("EVENT_MISSING", |event| event.signed = None),
    ("EVENT_UNREADABLE", |event| {
        event.signed = Some(SignedEvent { event: Bytes::from_static(&[0xff; 9]), signature: None });
    }),
    ("EVENT_TOO_LARGE", |event| {
        event.signed = Some(SignedEvent { event: vec![0; 64 * 1024 + 1].into(), signature: None });
    }),
    ("EVENT_ID_MALFORMED", |event| {
        event.signed = Some(Event { event_id: "7".to_owned(), ..discharged('b', 1) }.unsigned());
    }),
    ("PUBLISHER_MALFORMED", |event| {
        event.signed = Some(Event { publisher: "me".to_owned(), ..discharged('b', 1) }.unsigned());
    }),
    // Agreement overreach: nothing of it is for anybody here.
    ("NOT_FOR_HERE", |event| event.signed = Some(with_audience(Reach::Private, &[]).unsigned())),
    ("NOT_FOR_HERE", |event| {
        event.signed = Some(with_audience(Reach::Named, &["spiffe://b.example/agency/x"]).unsigned());
    }),
    ("TOO_MANY_HOPS", |event| {
        origin(event).node = node('c').to_string();
        event.via = (0..9).map(|_| node('b').to_string()).collect();
    }),
    // The same identity as one that is stored, with other content: somebody altered its bytes on the way.
    ("REFUSED_BY_LOG", |event| {
        let altered = Event { utc_offset_minutes: Some(60), ..discharged('b', 100) };
        event.signed = Some(altered.unsigned());
    }),
];

fn with_audience(reach: Reach, named: &[&str]) -> Event {
    let participants = named.iter().map(|name| (*name).to_owned()).collect();
    Event { audience: Some(Audience { reach: reach.into(), participants }), ..discharged('b', 1) }.with_id()
}

#[tokio::test]
async fn an_honest_source_is_taken_as_it_is() {
    let side = receiver();
    let (received, said) =
        met(&side, vec![hello(), batch(0, 9, vec![honest(1, 3), honest(2, 9)]), batch(9, 9, vec![])]).await;
    assert!(matches!(received.ended, Ended::Broken(_)) && received.acknowledged, "{received:?}");
    let records = side.holds(2).await;
    assert_eq!(super::said(&records), sent(&[discharged('b', 1), discharged('b', 2)]));
    let origin = records[1].origin.as_ref().expect("from elsewhere");
    assert_eq!((&origin.node, origin.epoch, origin.sequence), (&node('b'), epoch(7), Sequence(9)));
    let acknowledged: Vec<_> = said
        .iter()
        .filter_map(|request| match &request.message {
            Some(replicate_request::Message::Acknowledgement(said)) => said.position.clone(),
            _ => None,
        })
        .collect();
    assert_eq!(acknowledged, [at(9).message(), at(9).message()]);
    assert_eq!(side.federation.table().progress(&node('b')).received, Some(at(9)));
}

#[tokio::test]
async fn what_is_forged_stops_the_link_and_nothing_of_its_batch_is_stored() {
    for (index, (reason, spoil)) in FORGERIES.iter().enumerate() {
        let side = receiver();
        let mut event = honest(2, 2);
        spoil(&mut event);
        let (received, said) = met(&side, vec![hello(), batch(0, 3, vec![honest(1, 1), event, honest(3, 3)])]).await;
        let Ended::Here(ReplicationEndReason::Refused, detail) = &received.ended else {
            panic!("{index} {reason}: {received:?}");
        };
        assert!(detail.starts_with(&format!("{reason}: ")), "{index} {reason}: {detail}");
        assert_eq!(received.ended.state(), LinkState::Refused);
        assert_eq!(*side.log.tail().borrow(), Sequence::ZERO, "{index} {reason}: something was stored");
        let told = said.iter().any(|request| {
            matches!(&request.message, Some(replicate_request::Message::End(end)) if end.reason() == ReplicationEndReason::Refused)
        });
        assert!(told, "{index} {reason}: the source was not told");
        let position = side.federation.table().progress(&node('b')).received.expect("the start");
        assert_eq!(position.sequence, Sequence::ZERO, "{index} {reason}: the link moved on");
    }
}

#[tokio::test]
async fn a_bad_event_goes_into_quarantine_and_the_link_goes_on() {
    for (index, (reason, spoil)) in BAD.iter().enumerate() {
        let side = receiver();
        let mut event = honest(2, 2);
        spoil(&mut event);
        let first = batch(0, 1, vec![honest(100, 1)]);
        let (received, said) = met(&side, vec![hello(), first, batch(1, 3, vec![event, honest(3, 3)])]).await;
        assert!(matches!(received.ended, Ended::Broken(_)), "{index} {reason}: {received:?}");
        assert_eq!(
            super::said(&side.records().await),
            sent(&[discharged('b', 100), discharged('b', 3)]),
            "{index} {reason}"
        );
        let progress = side.federation.table().progress(&node('b'));
        assert_eq!(progress.received, Some(at(3)), "{index} {reason}");
        let quarantined = &progress.quarantine[0];
        assert_eq!((quarantined.reason.as_str(), quarantined.source_sequence), (*reason, 2), "{index}");
        assert_eq!(quarantined.before, Some(at(1)), "{index} {reason}: it can be tried again");
        let told = said.iter().find_map(|request| match &request.message {
            Some(replicate_request::Message::Quarantined(event)) => Some(event.reason.clone()),
            _ => None,
        });
        assert_eq!(told.as_deref(), Some(*reason), "{index}: the source was not told");
    }
}

#[tokio::test]
async fn a_gap_between_batches_is_refused() {
    for (after, through, events) in [
        (1, 3, vec![honest(2, 2)]),
        (2, 3, vec![]),
        (0, 1, vec![honest(2, 2)]),
        (0, 3, vec![honest(3, 3), honest(2, 2)]),
    ] {
        let side = receiver();
        let (received, _) = met(&side, vec![hello(), batch(after, through, events)]).await;
        let Ended::Here(ReplicationEndReason::Refused, detail) = &received.ended else { panic!("{received:?}") };
        assert!(detail.starts_with("GAP: "), "{detail}");
        assert_eq!(*side.log.tail().borrow(), Sequence::ZERO);
    }
}

#[tokio::test]
async fn a_frame_of_too_many_events_and_a_wrong_hello_are_refused() {
    let side = receiver();
    let many = (1..=501).map(|n| honest(n, u64::from(n))).collect();
    let (received, _) = met(&side, vec![hello(), batch(0, 501, many)]).await;
    assert!(received.ended.in_words().starts_with("FRAME_TOO_LARGE"), "{received:?}");
    assert_eq!(*side.log.tail().borrow(), Sequence::ZERO);

    let of_another =
        messages::source_hello(SourceHello { version: 1, node: node('c').to_string(), ..SourceHello::default() });
    let (received, _) = met(&side, vec![of_another]).await;
    assert!(matches!(received.ended, Ended::Here(ReplicationEndReason::Protocol, _)), "{received:?}");
    let newer =
        messages::source_hello(SourceHello { version: 9, node: node('b').to_string(), ..SourceHello::default() });
    let (received, _) = met(&side, vec![newer]).await;
    assert!(matches!(received.ended, Ended::Here(ReplicationEndReason::Version, _)), "{received:?}");
}

#[tokio::test]
async fn a_full_quarantine_stops_the_link_before_anything_is_passed_over() {
    let side = receiver();
    let bad = |n: u32| ReplicatedEvent { signed: None, ..honest(n, u64::from(n)) };
    let (received, _) = met(&side, vec![hello(), batch(0, 65, (1..=65).map(bad).collect())]).await;
    assert!(received.ended.in_words().starts_with("QUARANTINE_FULL"), "{received:?}");
    let progress = side.federation.table().progress(&node('b'));
    assert_eq!(progress.received.map(|at| at.sequence), Some(Sequence::ZERO));
    assert_eq!(received.ended.state(), LinkState::Refused);
}

#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_durable() {
    let side = receiver();
    side.log.hold();
    let (requests, mut outgoing) = mpsc::channel(64);
    let peer = side.files.borrow().get(&node('b')).expect("a peer").clone();
    let inbox = Inbox::new(side.federation.parts().clone(), peer, requests);
    let messages = [hello(), batch(0, 1, vec![honest(1, 1)])];
    let stream = futures::stream::iter(messages.map(Ok)).chain(futures::stream::pending());
    let running = tokio::spawn(async move { inbox.run(Box::pin(stream), &CancellationToken::new(), "test").await });
    assert!(timeout(Duration::from_millis(200), outgoing.recv()).await.is_err(), "acknowledged what is not durable");
    assert_eq!(side.federation.table().progress(&node('b')).received.map(|at| at.sequence), Some(Sequence::ZERO));
    side.log.release();
    let said = timeout(PATIENCE, outgoing.recv()).await.expect("acknowledged").expect("said").message;
    assert!(matches!(said, Some(replicate_request::Message::Acknowledgement(_))), "{said:?}");
    running.abort();
}

#[tokio::test]
async fn a_stream_never_takes_back_an_operators_word() {
    let side = receiver();
    side.log.hold();
    let (requests, _outgoing) = mpsc::channel(64);
    let peer = side.files.borrow().get(&node('b')).expect("a peer").clone();
    let inbox = Inbox::new(side.federation.parts().clone(), peer, requests);
    let messages = [hello(), batch(0, 1, vec![honest(1, 1)])];
    let stream = futures::stream::iter(messages.map(Ok)).chain(futures::stream::pending());
    let running = tokio::spawn(async move { inbox.run(Box::pin(stream), &CancellationToken::new(), "test").await });
    while side.log.append_calls() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    side.federation.resume(&node('b'), operate::ResumeFrom::Beginning).expect("resumed");
    side.log.release();
    let received = timeout(PATIENCE, running).await.expect("it ends").expect("no panic");
    assert!(matches!(received.ended, Ended::Here(ReplicationEndReason::Stopping, _)), "{received:?}");
    assert_eq!(side.federation.table().progress(&node('b')).received, None, "the beginning was asked for");
}
