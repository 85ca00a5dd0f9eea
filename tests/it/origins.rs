//! A node that is not heard: every answer and every mark that could be read as "nothing happened" says so, and says when it is heard again.

use std::time::Duration;

use futures::{Stream, StreamExt, stream::BoxStream};
use tonic::Status;
use tradelane::{
    testing::nodes::Site,
    wire::proto::{
        self, OriginFreshness, OriginLink, PeerLinkState, clearance_service_client::ClearanceServiceClient,
        consume_request, consume_response, event_service_client::EventServiceClient, subscribe_response,
        subscription_service_client::SubscriptionServiceClient, watch_clearances_response,
    },
};

use crate::{
    harness::PATIENCE,
    peers::{channel, comes_to, discharged, holds, publish, start, two},
};

/// What a stream says of the origins, mark after mark.
type Marks = BoxStream<'static, Result<Vec<OriginFreshness>, Status>>;

/// The marks of a subscription, of a consumer and of a watch of clearances, all of somebody who reads at a site.
async fn marks(site: &Site) -> [(&'static str, Marks); 3] {
    let channel = channel(site, &site.operator).await;
    let mut events = EventServiceClient::new(channel.clone());
    let subscribed = events.subscribe(proto::SubscribeRequest::default()).await.expect("subscribed").into_inner();
    let subscribed = subscribed.filter_map(async |said| match said.map(|said| said.message) {
        Ok(Some(subscribe_response::Message::Progress(progress))) => Some(Ok(progress.origins)),
        Ok(Some(subscribe_response::Message::CaughtUp(caught_up))) => Some(Ok(caught_up.origins)),
        Ok(_) => None,
        Err(status) => Some(Err(status)),
    });
    let mut durable = SubscriptionServiceClient::new(channel.clone());
    let creation = proto::CreateSubscriptionRequest {
        name: "desk".into(),
        definition: Some(proto::SubscriptionDefinition::default()),
        start: None,
    };
    durable.create_subscription(creation).await.expect("created");
    let begin = proto::ConsumeStart { name: "desk".into(), credit: 0 };
    let begin = proto::ConsumeRequest { message: Some(consume_request::Message::Start(begin)) };
    let beats = futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let beat = consume_request::Message::Heartbeat(proto::ConsumerHeartbeat {});
        Some((proto::ConsumeRequest { message: Some(beat) }, ()))
    });
    let requests = futures::stream::iter([begin]).chain(beats);
    let consumed = durable.consume(requests).await.expect("consumes").into_inner();
    let consumed = consumed.filter_map(async |said| match said.map(|said| said.message) {
        Ok(Some(consume_response::Message::Progress(progress))) => Some(Ok(progress.origins)),
        Ok(Some(consume_response::Message::CaughtUp(caught_up))) => Some(Ok(caught_up.origins)),
        Ok(_) => None,
        Err(status) => Some(Err(status)),
    });
    let mut clearances = ClearanceServiceClient::new(channel);
    let watched = clearances.watch_clearances(proto::WatchClearancesRequest::default()).await.expect("watched");
    let watched = watched.into_inner().filter_map(async |said| match said.map(|said| said.message) {
        Ok(Some(watch_clearances_response::Message::Progress(progress))) => Some(Ok(progress.origins)),
        Ok(Some(watch_clearances_response::Message::CaughtUp(caught_up))) => Some(Ok(caught_up.origins)),
        Ok(_) => None,
        Err(status) => Some(Err(status)),
    });
    [("Subscribe", subscribed.boxed()), ("Consume", consumed.boxed()), ("WatchClearances", watched.boxed())]
}

/// Reads marks until one says this of a node.
async fn until(
    what: &str,
    marks: &mut (impl Stream<Item = Result<Vec<OriginFreshness>, Status>> + Unpin),
    of: &Site,
    link: OriginLink,
) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mark = tokio::time::timeout_at(deadline, marks.next()).await;
        let origins = mark.unwrap_or_else(|_| panic!("{what} never said {link:?}")).expect("goes on").expect("goes on");
        let [own, other] = origins.as_slice() else { panic!("{what}: {origins:?}") };
        assert_eq!((own.link(), other.node.as_str()), (OriginLink::Own, of.node.as_str()), "{what}");
        assert!(!own.complete_through.is_empty(), "{what}: {own:?}");
        if other.link() == link {
            return;
        }
    }
}

/// What the queries of a site say of the origins.
async fn answers(site: &Site) -> [(&'static str, Vec<OriginFreshness>); 3] {
    let mut client = EventServiceClient::new(channel(site, &site.operator).await);
    let container = discharged('b', 1).subjects.remove(0);
    let list = client.list_events(proto::ListEventsRequest::default()).await.expect("a list").into_inner();
    let request = proto::GetTimelineRequest { subject: Some(container), ..proto::GetTimelineRequest::default() };
    let timeline = client.get_timeline(request).await.expect("a timeline").into_inner();
    let vessel =
        proto::Subject { kind: proto::IdentifierKind::VesselImo.into(), value: "9321483".into(), ..Default::default() };
    let request = proto::GetPortCallRequest { subject: Some(vessel), un_locode: "PKKHI".into(), ..Default::default() };
    let call = client.get_port_call(request).await.expect("a call").into_inner();
    [("ListEvents", list.origins), ("GetTimeline", timeline.origins), ("GetPortCall", call.origins)]
}

#[tokio::test]
async fn the_silence_of_a_node_whose_link_is_down_is_told_with_every_answer_and_mark() {
    let folder = tempfile::tempdir().expect("a folder");
    let sites = two(folder.path());
    let (a, b) = (&sites[&'a'], &sites[&'b']);
    let (node_a, node_b) = (start(a).await, start(b).await);
    publish(b, &[discharged('b', 1)]).await;
    holds(a, 1).await;
    let mut marks = marks(a).await;
    for (what, marks) in &mut marks {
        until(what, marks, b, OriginLink::Up).await;
    }
    for (what, origins) in answers(a).await {
        assert_eq!(
            origins.iter().map(OriginFreshness::link).collect::<Vec<_>>(),
            [OriginLink::Own, OriginLink::Up],
            "{what}"
        );
        assert!(origins.iter().all(|origin| !origin.complete_through.is_empty()), "{what}: {origins:?}");
    }

    node_b.stop().await;
    comes_to(a, true, PeerLinkState::Backoff).await;
    for (what, marks) in &mut marks {
        until(what, marks, b, OriginLink::Down).await;
    }
    for (what, origins) in answers(a).await {
        assert_eq!(
            origins.iter().map(OriginFreshness::link).collect::<Vec<_>>(),
            [OriginLink::Own, OriginLink::Down],
            "{what}"
        );
        // What had come of it is still told.
        assert!(!origins[1].complete_through.is_empty() && origins[1].complete_time.is_some(), "{what}: {origins:?}");
    }

    let node_b = start(b).await;
    for (what, marks) in &mut marks {
        until(what, marks, b, OriginLink::Up).await;
    }
    drop(marks);
    node_b.stop().await;
    node_a.stop().await;
}
