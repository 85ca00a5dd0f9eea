//! What `ExplainEvent` says of durable subscriptions at a whole node: where an event stands in each, and to whom that is told.

use std::collections::BTreeMap;

use tonic::transport::Channel;
use tradelane::{
    clock::{Clock, SystemClock},
    identity::dev_pki::Issued,
    testing::{
        events::{HOUR_NS, Voyage},
        pki::{CUSTOMS, TERMINAL},
    },
    wire::{
        PublishRequest,
        proto::{
            self, Event, EventFilter, ReachState, SettlementOutcome, StartAt, SubscriptionDefinition, SubscriptionMode,
            create_subscription_request::Start, event_service_client::EventServiceClient,
            subscription_service_client::SubscriptionServiceClient,
        },
    },
};

use crate::{
    consumer::{Consumer, acknowledge, park},
    harness::Harness,
};

async fn channel(harness: &Harness, who: &Issued) -> Channel {
    harness.connect(who).await.expect("a connection")
}

async fn subscribe(harness: &Harness, who: &Issued, name: &str, start: StartAt, types: &[&str]) {
    let types: Vec<String> = types.iter().map(|one| (*one).to_owned()).collect();
    let filters = if types.is_empty() { Vec::new() } else { vec![EventFilter { types, ..EventFilter::default() }] };
    let definition =
        SubscriptionDefinition { mode: SubscriptionMode::Shared.into(), filters, ..SubscriptionDefinition::default() };
    let request = proto::CreateSubscriptionRequest {
        name: name.to_owned(),
        definition: Some(definition),
        start: Some(Start::StartAt(start.into())),
    };
    SubscriptionServiceClient::new(channel(harness, who).await).create_subscription(request).await.expect("created");
}

/// By owner and name, where an event stands; what is said in words beside.
async fn explained(harness: &Harness, who: &Issued, event: &Event) -> BTreeMap<(String, String), (ReachState, String)> {
    let mut client = EventServiceClient::new(channel(harness, who).await);
    let ask = proto::ExplainEventRequest { event_id: event.event_id.clone(), publisher: event.publisher.clone() };
    let answer = client.explain_event(ask).await.expect("explained").into_inner();
    assert_eq!(answer.subscriptions_omitted, 0);
    let told = answer.subscriptions.into_iter().map(|one| {
        let state = one.state();
        ((one.owner, one.name), (state, one.reason))
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_an_event_stands_in_each_durable_subscription_is_told_to_its_owner_and_to_operators() {
    let harness = Harness::start().await;
    let (port, customs, operator) = (&harness.port, &harness.customs, &harness.operator);
    subscribe(&harness, customs, "all", StartAt::Earliest, &[]).await;
    subscribe(&harness, customs, "holds", StartAt::Earliest, &["hold"]).await;
    subscribe(&harness, port, "own", StartAt::Earliest, &[]).await;
    let events: Vec<Event> = (1..=3)
        .map(|n| Voyage::new(n, SystemClock.now_ns() - Voyage::LASTS_NS - HOUR_NS).discharged())
        .map(|event| Event { publisher: TERMINAL.into(), ..event }.with_id())
        .collect();
    let request = PublishRequest { events: events.iter().map(Event::unsigned).collect(), on_invalid: 0 };
    harness.events(port).await.publish(request).await.expect("stored");
    subscribe(&harness, customs, "late", StartAt::Latest, &[]).await;

    let mut consumer = Consumer::start(channel(&harness, customs).await, "all", 10).await.expect("it begins");
    let deliveries = consumer.deliveries(3).await;
    consumer.settled(&deliveries[1..2], acknowledge(), SettlementOutcome::Done).await;
    consumer.settled(&deliveries[2..], park("not ours"), SettlementOutcome::Done).await;

    let key = |owner: &str, name: &str| (owner.to_owned(), name.to_owned());
    let expected = [
        (ReachState::Pending, "on its way to a consumer, attempt 1"),
        (ReachState::Delivered, "a consumer has acknowledged it"),
        (ReachState::DeadLetter, "parked after 1 attempts: not ours"),
    ];
    for (event, (state, words)) in events.iter().zip(expected) {
        let told = explained(&harness, operator, event).await;
        assert_eq!(told.len(), 4, "{told:?}");
        assert_eq!(told[&key(CUSTOMS, "all")], (state, words.to_owned()));
        assert_eq!(told[&key(CUSTOMS, "holds")].0, ReachState::Filtered);
        assert_eq!(told[&key(CUSTOMS, "late")].0, ReachState::Passed);
        let not_yet = "not delivered yet: everything through sequence 0 is settled";
        assert_eq!(told[&key(TERMINAL, "own")], (ReachState::Pending, not_yet.to_owned()));
        // Its publisher is told of her own.
        let told = explained(&harness, port, event).await;
        assert_eq!(told.into_keys().collect::<Vec<_>>(), [key(TERMINAL, "own")]);
    }

    let mut owner = SubscriptionServiceClient::new(channel(&harness, port).await);
    owner.pause_subscription(proto::PauseSubscriptionRequest { name: "own".to_owned() }).await.expect("paused");
    let told = explained(&harness, port, &events[0]).await;
    assert_eq!(told[&key(TERMINAL, "own")], (ReachState::Pending, "its owner paused it".to_owned()));
    // What the consumer leaves behind waits again, and no attempt was counted for it.
    consumer.leave().await;
    let told = explained(&harness, operator, &events[0]).await;
    assert_eq!(told[&key(CUSTOMS, "all")].0, ReachState::Pending);
    assert_ne!(told[&key(CUSTOMS, "all")].1, expected[0].1);
    harness.stop().await;
}
