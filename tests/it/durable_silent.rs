//! Consumers of whom nothing is heard: whoever says nothing, and whoever's connection is open at one end only, is taken for gone, and her
//! events go to another.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tonic::Code;
use tonic_types::StatusExt;
use tradelane::{
    cli::connect::connect,
    clock::{Clock, SystemClock},
    testing::events::{HOUR_NS, Voyage},
    wire::{
        PublishRequest,
        proto::{
            self, Event, SubscriptionDefinition, create_subscription_request::Start,
            subscription_service_client::SubscriptionServiceClient,
        },
    },
};

use crate::{
    consumer::{Consumer, sequence},
    harness::Harness,
};

/// A wire to the node that can be cut so that neither side is told.
async fn wire(node: SocketAddr) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (cut, is_cut) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut is_cut = is_cut.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(node).await.expect("the node listens");
                let cut = async { is_cut.wait_for(|is_cut| *is_cut).await.is_ok() };
                let was_cut = tokio::select! {
                    // Whichever side ends first, the other is told by the end of this task.
                    _ = copy_bidirectional(&mut client, &mut server) => false,
                    was_cut = cut => was_cut,
                };
                if was_cut {
                    // Both sockets stay open, and nothing goes through them any more, until the test ends.
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    (address, cut)
}

async fn line_with_events(harness: &Harness) {
    let mut client = SubscriptionServiceClient::new(harness.connect(&harness.customs).await.expect("a connection"));
    // A lease that outlasts the test: only the silence can end it.
    let lease = Some(prost_types::Duration { seconds: 600, nanos: 0 });
    let request = proto::CreateSubscriptionRequest {
        name: "line".into(),
        definition: Some(SubscriptionDefinition { lease, ..SubscriptionDefinition::default() }),
        start: Some(Start::StartAt(proto::StartAt::Earliest.into())),
    };
    client.create_subscription(request).await.expect("created");
    let events = (1..4).map(|number| {
        let discharged = Voyage::new(number, SystemClock.now_ns() - Voyage::LASTS_NS - HOUR_NS).discharged();
        Event { publisher: harness.port.id.to_string(), ..discharged }.with_id().unsigned()
    });
    let request = PublishRequest { events: events.collect(), on_invalid: 0 };
    harness.events(&harness.port).await.publish(request).await.expect("stored");
}

/// Waits as a standby who says that she is there.
async fn first_delivery(standby: &mut Consumer) -> proto::Delivery {
    loop {
        if let Some(delivery) = standby.delivery_or_word().await.expect("who says something is not sent away") {
            return delivery;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_open_at_one_end_only_is_noticed_and_a_standby_takes_over() {
    let harness = Harness::start().await;
    line_with_events(&harness).await;
    let (address, cut) = wire(harness.node.address).await;
    let mut options = harness.options(&harness.customs);
    options.address = address.into();
    let mut cut_off = Consumer::start(connect(&options).await.expect("a wire"), "line", 10).await.expect("a consumer");
    assert_eq!(cut_off.deliveries(3).await.iter().map(sequence).collect::<Vec<_>>(), [1, 2, 3]);
    let channel = harness.connect(&harness.customs).await.expect("a connection");
    let mut standby = Consumer::start(channel, "line", 10).await.expect("a standby");
    assert!(!standby.started.active);
    cut.send_replace(true);
    let first = first_delivery(&mut standby).await;
    // The consumer that fell silent may be why: its first event's attempt is counted.
    assert_eq!((sequence(&first), first.delivery_attempt), (1, 2));
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_told_so_and_who_says_that_she_is_there_stays() {
    let harness = Harness::start().await;
    line_with_events(&harness).await;
    let channel = harness.connect(&harness.customs).await.expect("a connection");
    let mut silent = Consumer::start(channel.clone(), "line", 10).await.expect("a consumer");
    let mut standby = Consumer::start(channel, "line", 10).await.expect("a standby");
    // Both are connected for the same time, over the same connection; only one of them says something.
    let (end, first) = tokio::join!(silent.end(), first_delivery(&mut standby));
    let end = end.expect("a reason");
    let reason = end.get_details_error_info().map(|info| info.reason);
    assert_eq!((end.code(), reason.as_deref()), (Code::DeadlineExceeded, Some("CONSUMER_SILENT")), "{end:?}");
    assert_eq!(sequence(&first), 1);
    harness.stop().await;
}
