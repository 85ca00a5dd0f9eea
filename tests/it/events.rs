//! Events end to end: published over mutual TLS, streamed, durable over a restart, and found again.

use tradelane::{
    clock::{Clock, SystemClock},
    testing::events::Voyage,
    wire::{
        PublishRequest,
        proto::{self, subscribe_request::Start, subscribe_response::Message},
    },
};

use crate::harness::Harness;

/// Reads a subscription until so many events have come, and answers their ids.
async fn received(stream: &mut tonic::Streaming<proto::SubscribeResponse>, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let message = stream.message().await.expect("the stream goes on").expect("the stream goes on");
        if let Some(Message::Events(batch)) = message.message {
            ids.extend(batch.events.iter().map(id_of));
        }
    }
    ids
}

fn id_of(recorded: &proto::RecordedEvent) -> String {
    let signed = recorded.signed.as_ref().expect("an event");
    let event: proto::Event = prost::Message::decode(signed.event.clone()).expect("what was published");
    event.event_id
}

#[tokio::test]
async fn what_a_terminal_publishes_customs_receives_live_and_finds_after_a_restart() {
    let harness = Harness::start().await;
    let voyage = Voyage::new(7, SystemClock.now_ns() - Voyage::LASTS_NS - 3_600_000_000_000);
    // Each publisher speaks for herself: the events of one of them, whichever the harness has a certificate of.
    let own = |who: &str| voyage.events().into_iter().filter(|event| event.publisher == who).collect::<Vec<_>>();
    let (by_customs, who) = (own(harness.customs.id.as_str()), harness.customs.clone());
    assert!(!by_customs.is_empty(), "the voyage has events of customs");
    let ids: Vec<String> = by_customs.iter().map(|event| event.event_id.clone()).collect();

    let asked =
        proto::SubscribeRequest { start: Some(Start::StartAt(proto::StartAt::Earliest.into())), filters: vec![] };
    let mut stream = harness.events(&harness.port).await.subscribe(asked.clone()).await.expect("a stream").into_inner();
    let started = stream.message().await.expect("said").expect("a first message");
    assert!(matches!(started.message, Some(Message::Started(_))));

    let request = PublishRequest { events: by_customs.iter().map(proto::Event::unsigned).collect(), on_invalid: 0 };
    let mut customs = harness.events(&who).await;
    let answer = customs.publish(request.clone()).await.expect("stored").into_inner();
    assert!(answer.results.iter().all(|result| !result.duplicate && !result.position.is_empty()));
    assert_eq!(received(&mut stream, ids.len()).await, ids, "live, in order");

    let mut listed = customs.list_events(proto::ListEventsRequest::default()).await.expect("a list").into_inner();
    listed.events.reverse();
    assert_eq!(listed.events.iter().map(id_of).collect::<Vec<_>>(), ids, "she reads her own writes");
    let stopped = harness.stop().await;
    assert_eq!((stopped.report.failure.clone(), stopped.report.unfinished.len()), (None, 0));

    let again = Box::pin(stopped.start_again()).await;
    let mut stream = again.events(&again.port).await.subscribe(asked).await.expect("a stream").into_inner();
    assert_eq!(received(&mut stream, ids.len()).await, ids, "durable");
    let answer = again.events(&again.customs).await.publish(request).await.expect("known").into_inner();
    assert!(answer.results.iter().all(|result| result.duplicate), "once for ever");
    let participants = again.operate().await.list_participants(proto::ListParticipantsRequest::default()).await;
    let participants = participants.expect("allowed").into_inner().participants;
    let counted = participants.iter().find(|one| one.participant == again.customs.id.as_str()).expect("seen");
    assert_eq!((counted.published_count, counted.duplicate_count), (0, ids.len() as u64));
    again.stop().await;
}
