//! Nodes of other versions: the range of the protocol that both speak is found, a range without a common version ends the stream with its
//! reason, and fields that this program does not know pass without harm.

use super::{
    wrong_peer::{batch, hello, honest, met, receiver},
    *,
};
use crate::{
    federation::ended::Ended,
    wire::proto::{ReceiverHello, ReplicationEndReason, SourceHello, replicate_request, replicate_response},
};

/// Field 2,000 as a varint: of a message that a newer program has made richer.
const UNKNOWN_FIELD: [u8; 3] = [0x80, 0x7d, 0x07];

/// What a source answers to a receiver that speaks these versions.
async fn answer_to(versions: (u32, u32), richer: bool) -> replicate_response::Message {
    let a = Side::new('a', vec![peer('b')], ALL);
    let b = Side::new('b', vec![peer('a')], ALL);
    let (requests, _kept) = mpsc::channel(64);
    let mut request = Inbox::new(b.federation.parts().clone(), Arc::new(peer('a')), requests).hello();
    let Some(replicate_request::Message::Hello(hello)) = &mut request.message else { panic!("a hello") };
    (hello.version_min, hello.version_max) = versions;
    if richer {
        let mut bytes = hello.encode_to_vec();
        bytes.extend(UNKNOWN_FIELD);
        *hello = ReceiverHello::decode(&*bytes).expect("unknown fields are read over");
    }
    let (responses, mut incoming) = mpsc::channel(4);
    let said = futures::stream::iter([Ok(request)]).chain(futures::stream::pending());
    let (federation, caller) = (a.federation.clone(), caller(&b.node));
    let serving = tokio::spawn(async move { federation.serve(caller, Box::pin(said), responses).await });
    let first = timeout(PATIENCE, incoming.recv()).await.expect("an answer").expect("an answer").expect("no status");
    serving.abort();
    first.message.expect("a message")
}

#[tokio::test]
async fn the_version_that_both_speak_is_taken_and_without_one_the_stream_ends_saying_so() {
    for (range, taken) in [((1, 1), 1), ((0, 1), 1), ((1, 2), 2), ((1, 9), 2), ((2, 9), 2)] {
        let replicate_response::Message::Hello(SourceHello { version, .. }) = answer_to(range, true).await else {
            panic!("{range:?} was not taken")
        };
        assert_eq!(version, taken);
    }
    for range in [(3, 9), (0, 0), (2, 1)] {
        let replicate_response::Message::End(end) = answer_to(range, false).await else {
            panic!("{range:?} was taken")
        };
        assert_eq!(end.reason(), ReplicationEndReason::Version);
        assert!(end.detail.contains(&format!("the receiver {} to {}", range.0, range.1)), "{}", end.detail);
        assert_eq!(Ended::there(&end).state(), LinkState::Backoff, "a program may be replaced any time: tried again");
    }
}

#[tokio::test]
async fn what_a_newer_source_says_besides_does_no_harm_and_its_events_pass_as_they_are() {
    let side = receiver();
    // A field that only a newer program knows, in the event and around it.
    let mut event = honest(1, 1);
    let signed = event.signed.as_mut().expect("an event");
    signed.event = [&signed.event[..], &UNKNOWN_FIELD].concat().into();
    let sent_bytes = signed.event.clone();
    let richer = |response: ReplicateResponse| {
        let mut bytes = response.encode_to_vec();
        bytes.extend(UNKNOWN_FIELD);
        ReplicateResponse::decode(&*bytes).expect("unknown fields are read over")
    };
    let (received, _) = met(&side, vec![richer(hello()), richer(batch(0, 1, vec![event]))]).await;
    assert!(received.acknowledged, "{received:?}");
    let records = side.holds(1).await;
    let stored = crate::wire::SignedEvent::decode(records[0].signed.clone()).expect("readable");
    assert_eq!(stored.event, sent_bytes, "the unknown field of the event is kept");
}
