//! An association makes the owner of a durable subscription a party of goods of which the subscription had passed events over: she is told, over
//! streams and starts of the node, until she has acknowledged it, and comes to what was withheld. Nobody else hears of it.

use super::*;
use crate::cli::Person;
use tradelane::wire::proto::{
    Association, VisibilityWidenings, consume_response::Message, event::Body, settlement::Verb,
};

/// Customs and the port read only what names them; the port may bind parties.
const WHERE_NAMED: &str = r#"
[[grant]]
id = "port-publishes"
who = ["spiffe://port.valparaiso.cl/*"]
actions = ["publish", "share"]
all = true

[[grant]]
id = "where-i-am-named"
who = ["spiffe://customs.gov.pk/*", "spiffe://port.valparaiso.cl/*"]
actions = ["read"]
filters = [{ parties = [{ participant = "$caller" }] }]
"#;

fn voyage() -> Voyage {
    Voyage::new(1, SystemClock.now_ns() - Voyage::LASTS_NS - HOUR_NS)
}

async fn publish_one(harness: &Harness, event: Event) {
    let event = Event { publisher: harness.port.id.to_string(), ..event }.with_id().unsigned();
    let request = PublishRequest { events: vec![event], on_invalid: 0 };
    harness.events(&harness.port).await.publish(request).await.expect("stored");
}

/// The bill of the voyage with its container, and customs as a party of both.
fn binding(harness: &Harness) -> Event {
    let mut event = voyage().attached();
    if let Some(Body::Association(Association { parties, .. })) = &mut event.body {
        parties[0].participant = harness.customs.id.to_string();
    }
    event
}

async fn told(consumer: &mut Consumer) -> VisibilityWidenings {
    loop {
        if let Message::VisibilityWidened(told) = consumer.message().await.expect("goes on").expect("goes on") {
            return told;
        }
    }
}

/// Settles as if the place told were a delivery.
async fn deal_with(consumer: &mut Consumer, told: &VisibilityWidenings, outcome: SettlementOutcome) {
    let event = Some(proto::RecordedEvent { position: told.position.clone(), ..proto::RecordedEvent::default() });
    let named = [proto::Delivery { event, ..proto::Delivery::default() }];
    consumer.settled(&named, Verb::AcknowledgeWidening(proto::AcknowledgeWidening {}), outcome).await;
}

/// Hears until a delivery comes; nothing of a wider view may come before.
async fn delivery_without_a_word_of_more(consumer: &mut Consumer) -> u64 {
    loop {
        match consumer.message().await.expect("goes on").expect("goes on") {
            Message::Deliveries(batch) => return sequence(&batch.deliveries[0]),
            Message::VisibilityWidened(told) => panic!("told again: {told:?}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_withheld_is_told_over_streams_and_starts_until_it_is_acknowledged_and_to_nobody_else() {
    let harness = Harness::start_with(WHERE_NAMED, |_| {}).await;
    let mut customs = client(&harness, &harness.customs).await;
    let mut port = client(&harness, &harness.port).await;
    create(&mut customs, "goods", definition(SubscriptionMode::Ordered)).await;
    create(&mut port, "goods", definition(SubscriptionMode::Ordered)).await;
    publish_one(&harness, voyage().discharged()).await;
    let mut consumer = consume(&harness, &harness.customs, "goods", 10).await.expect("a consumer");
    let mut others = consume(&harness, &harness.port, "goods", 10).await.expect("a consumer");
    consumer.until_caught_up().await;
    assert!(consumer.has_nothing(), "she is no party of it");
    assert_eq!(sequence(&others.delivery().await.expect("her own")), 1);

    publish_one(&harness, binding(&harness)).await;
    let first = told(&mut consumer).await;
    let subjects: Vec<_> = first.widenings.iter().flat_map(|one| &one.subject).map(|one| one.value.as_str()).collect();
    assert_eq!((subjects, first.incomplete), (vec![voyage().bill.as_str()], false));
    // What was withheld is there for who asks.
    let request = proto::GetTimelineRequest {
        subject: first.widenings[0].subject.clone(),
        ..proto::GetTimelineRequest::default()
    };
    let timeline =
        harness.events(&harness.customs).await.get_timeline(request).await.expect("there is one").into_inner();
    let places = timeline.entries.iter().flat_map(|entry| &entry.event).map(|event| event.position.as_str());
    assert!(
        places.filter_map(|place| place.parse::<tradelane::domain::Position>().ok()).any(|at| at.sequence.get() == 1)
    );
    // The port sees its own association, and is not told of what customs sees.
    assert_eq!(delivery_without_a_word_of_more(&mut others).await, 2);

    // Not acknowledged: told again in another stream, and after a start.
    drop(consumer);
    let mut consumer = consume(&harness, &harness.customs, "goods", 10).await.expect("a consumer");
    assert_eq!(told(&mut consumer).await.widenings, first.widenings);
    let (stopped, _) = tokio::join!(harness.stop(), consumer.end());
    let harness = stopped.start_again().await;
    let mut consumer = consume(&harness, &harness.customs, "goods", 10).await.expect("a consumer");
    let again = told(&mut consumer).await;
    assert_eq!(again.widenings, first.widenings);
    deal_with(&mut consumer, &again, SettlementOutcome::Done).await;
    deal_with(&mut consumer, &again, SettlementOutcome::AlreadySettled).await;

    // Acknowledged: never again, whoever starts anew. What is told stands before the event that it opens, so that one is waited for.
    let (stopped, _) = tokio::join!(harness.stop(), consumer.end());
    let harness = stopped.start_again().await;
    let mut customs = client(&harness, &harness.customs).await;
    seek_to_the_end(&mut customs).await;
    publish_one(&harness, voyage().gated_out()).await;
    let mut consumer = consume(&harness, &harness.customs, "goods", 10).await.expect("a consumer");
    assert_eq!(delivery_without_a_word_of_more(&mut consumer).await, 3);
    harness.stop().await;
}

async fn seek_to_the_end(customs: &mut Client) {
    let to = Some(proto::seek_subscription_request::To::StartAt(proto::StartAt::Latest.into()));
    customs.seek_subscription(proto::SeekSubscriptionRequest { name: "goods".into(), to }).await.expect("moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_that_consumes_says_what_is_seen_more_of_once() {
    let harness = Harness::start_with(WHERE_NAMED, |_| {}).await;
    let customs = Person::new(&harness, &harness.customs);
    assert_eq!(customs.runs(&["subscription", "create", "goods", "--from", "earliest"]).await.code, 0);
    publish_one(&harness, voyage().discharged()).await;
    publish_one(&harness, binding(&harness)).await;
    let more = "from here on you see more of";
    for times in [1, 0] {
        publish_one(&harness, voyage().gated_out()).await;
        let said = customs.runs(&["subscription", "consume", "goods", "--until-caught-up"]).await;
        assert_eq!(said.code, 0, "{}", said.err);
        assert_eq!(said.err.matches(more).count(), times, "{}", said.err);
    }
    harness.stop().await;
}
