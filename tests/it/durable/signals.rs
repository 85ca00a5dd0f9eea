//! What consumers hear of how far their subscription is: that it has caught up, that it fell behind, and that it has caught up again; whoever
//! stands by hears it too, since it is said of the subscription.

use super::*;
use tradelane::wire::proto::{consume_request, consume_response::Message};

/// Behind by more than this is far behind, as the API says.
const FAR_BEHIND_EVENTS: u32 = 10_000;
const PUBLISHED_TOGETHER: u32 = 500;

async fn until_fell_behind(consumer: &mut Consumer) -> u64 {
    loop {
        match consumer.message().await.expect("goes on").expect("goes on") {
            Message::FellBehind(fell) => return fell.lag_events,
            Message::CaughtUp(_) => panic!("caught up is said once"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_had_caught_up_is_told_that_it_fell_behind_and_that_it_caught_up_again_and_so_is_a_standby() {
    let harness = Harness::start().await;
    let mut customs = client(&harness, &harness.customs).await;
    let lease = Some(ProtoDuration { seconds: 600, nanos: 0 });
    let line = SubscriptionDefinition { lease, ..definition(SubscriptionMode::Ordered) };
    create(&mut customs, "line", line.clone()).await;
    let mut active = consume(&harness, &harness.customs, "line", 1).await.expect("a consumer");
    active.until_caught_up().await;
    let mut standby = consume(&harness, &harness.customs, "line", 1).await.expect("a consumer");
    assert!(!standby.started.active);
    standby.until_caught_up().await;
    // It keeps the first and takes no more.
    publish(&harness, 0..1).await;
    active.delivery().await.expect("the first event");
    for first in (1..=FAR_BEHIND_EVENTS + 1).step_by(PUBLISHED_TOGETHER as usize) {
        publish(&harness, first..first + PUBLISHED_TOGETHER).await;
        for consumer in [&active, &standby] {
            consumer.say(consume_request::Message::Heartbeat(proto::ConsumerHeartbeat {})).await;
        }
    }
    for consumer in [&mut active, &mut standby] {
        let lag_events = until_fell_behind(consumer).await;
        assert!(u64::from(FAR_BEHIND_EVENTS) < lag_events, "{lag_events}");
    }
    // Nothing of all this is asked for any more: it is looked at and passed over.
    let filters = vec![EventFilter { commodity_prefixes: vec!["999999".to_owned()], ..EventFilter::default() }];
    let nothing = SubscriptionDefinition { filters, ..line };
    let request =
        proto::UpdateSubscriptionRequest { name: "line".to_owned(), definition: Some(nothing), etag: String::new() };
    customs.update_subscription(request).await.expect("updated");
    active.until_caught_up().await;
    standby.until_caught_up().await;
    harness.stop().await;
}
