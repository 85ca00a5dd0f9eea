//! What changes under live connections of a whole node: grants that are narrowed, withdrawn or end, certificates that are revoked or end,
//! revocation lists in their grace. Streams end with their reason and the position to go on from, and nobody else's are touched.

use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;
use tradelane::{
    clock::{Clock, SystemClock},
    domain::Position,
    identity::dev_pki::{CRL_LIFE_NS, Issued},
    testing::{
        events::{HOUR_NS, SECOND_NS, Voyage},
        pki::{CUSTOMS, id},
    },
    wire::{
        EventBatch, PublishRequest,
        proto::{self, Event, subscribe_request::Start, subscribe_response::Message},
    },
};

use crate::harness::{Harness, PATIENCE, POLICY};

/// How long a grant or a certificate that is to end lives: longer than a busy machine takes to begin a stream with it.
const SHORT_LIFE_NS: i64 = 15 * SECOND_NS;

type Stream = Streaming<proto::SubscribeResponse>;

/// A stream from the beginning that has brought everything.
async fn follow(harness: &Harness, who: &Issued) -> Stream {
    let start = Some(Start::StartAt(proto::StartAt::Earliest.into()));
    let request = proto::SubscribeRequest { start, filters: Vec::new() };
    let mut stream = harness.events(who).await.subscribe(request).await.expect("a stream").into_inner();
    while !matches!(next(&mut stream).await, Ok(Message::CaughtUp(_))) {}
    stream
}

async fn next(stream: &mut Stream) -> Result<Message, Status> {
    let message = timeout(PATIENCE, stream.message()).await.expect("a word within the patience of the test");
    let message = message?.expect("a stream ends with its reason");
    Ok(message.message.expect("known"))
}

/// The next events of a stream; marks of progress come between, the more of them the longer a test waits for something else.
async fn next_events(stream: &mut Stream) -> EventBatch {
    let until_events = async {
        loop {
            match next(stream).await.expect("goes on") {
                Message::Events(batch) => return batch,
                Message::Progress(_) => {}
                other => panic!("neither events nor progress: {other:?}"),
            }
        }
    };
    timeout(PATIENCE, until_events).await.expect("events within the patience of the test")
}

/// The status with which a stream ends.
pub async fn end_of(stream: &mut Stream) -> Status {
    let until_its_end = async {
        loop {
            if let Err(status) = next(stream).await {
                return status;
            }
        }
    };
    // A stream that goes on tells its progress for ever.
    timeout(PATIENCE, until_its_end).await.expect("an end within the patience of the test")
}

/// Publishes one event as the port, and answers its position.
async fn publish(harness: &Harness, number: u32) -> Position {
    let discharged = Voyage::new(number, SystemClock.now_ns() - Voyage::LASTS_NS - HOUR_NS).discharged();
    let event = Event { publisher: harness.port.id.to_string(), ..discharged }.with_id();
    let request = PublishRequest { events: vec![event.unsigned()], on_invalid: 0 };
    let answer = harness.events(&harness.port).await.publish(request).await.expect("stored").into_inner();
    answer.results[0].position.parse().expect("a position")
}

async fn reload(harness: &Harness) -> proto::ReloadResponse {
    harness.operate().await.reload(proto::ReloadRequest {}).await.expect("good files").into_inner()
}

/// The stream ended with this code and reason, and is to go on after what it has brought.
fn check_end(status: &Status, code: Code, reason: &str, after: Position) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no details: {status:?}"));
    assert_eq!((status.code(), info.reason.as_str()), (code, reason), "{status:?}");
    assert_eq!(info.metadata.get("resume_position"), Some(&after.to_string()), "{status:?}");
}

fn customs_policy(customs: &str) -> String {
    let others: Vec<&str> = POLICY.split("[[grant]]").filter(|grant| !grant.contains("\"customs\"")).collect();
    format!("{}\n{customs}", others.join("[[grant]]"))
}

fn grant(rest: &str) -> String {
    format!("[[grant]]\nid = 'customs'\nwho = ['spiffe://customs.gov.pk/*']\nactions = ['read']\n{rest}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_is_narrowed_withdrawn_or_ends_stops_its_stream_and_no_other() {
    let all = grant("all = true");
    let harness = Harness::start_with(&customs_policy(&all), |_| {}).await;
    let first = publish(&harness, 1).await;
    let (mut customs, mut port) = (follow(&harness, &harness.customs).await, follow(&harness, &harness.port).await);

    // Another's grant changes nothing for them.
    let other = "[[grant]]\nid = 'other'\nwho = ['spiffe://exchange.gov.pk/x']\nactions = ['read']\nall = true\n";
    harness.world.write_policy(&customs_policy(&format!("{all}{other}"))).expect("written");
    assert_eq!(reload(&harness).await.changes, ["grant other added"]);
    let second = publish(&harness, 2).await;
    assert_eq!(next_events(&mut customs).await.events.len(), 1);

    harness.world.write_policy(&customs_policy(&grant("filters = [{ types = ['hold'] }]"))).expect("written");
    reload(&harness).await;
    check_end(&end_of(&mut customs).await, Code::Aborted, "RIGHTS_CHANGED", second);
    assert!(first.sequence < second.sequence);

    // What is hidden from a reader moves her position too.
    let third = publish(&harness, 3).await;
    let mut customs = follow(&harness, &harness.customs).await;
    harness.world.write_policy(&customs_policy("")).expect("written");
    reload(&harness).await;
    check_end(&end_of(&mut customs).await, Code::PermissionDenied, "NOT_GRANTED", third);

    let end = chrono::DateTime::from_timestamp_nanos(SystemClock.now_ns() + SHORT_LIFE_NS).to_rfc3339();
    let passing = grant(&format!("all = true\nexpires_time = '{end}'"));
    harness.world.write_policy(&customs_policy(&passing)).expect("written");
    reload(&harness).await;
    let mut customs = follow(&harness, &harness.customs).await;
    check_end(&end_of(&mut customs).await, Code::PermissionDenied, "NOT_GRANTED", third);

    // The port's stream went through all of it.
    let mut brought = 0;
    while brought < 2 {
        brought += next_events(&mut port).await.events.len();
    }
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_ends_its_streams_and_connection_and_no_other() {
    let mut harness = Harness::start().await;
    let last = publish(&harness, 1).await;
    let (mut customs, mut port) = (follow(&harness, &harness.customs).await, follow(&harness, &harness.port).await);
    let mut calls = harness.events(&harness.customs).await;
    calls.list_events(proto::ListEventsRequest::default()).await.expect("believed");
    let now_ns = SystemClock.now_ns();
    harness.world.customs.revoke(CUSTOMS, now_ns).expect("revoked");
    harness.world.customs.write_crl(now_ns, CRL_LIFE_NS).expect("written");
    let reloaded = reload(&harness).await;
    assert_eq!(reloaded.closed_connection_count, 2, "{reloaded:?}");
    let status = end_of(&mut customs).await;
    check_end(&status, Code::Unauthenticated, "CONNECTION_CLOSING", last);
    assert!(status.message().contains("REVOKED"), "{status:?}");
    calls.list_events(proto::ListEventsRequest::default()).await.expect_err("neither over a connection of before");
    publish(&harness, 2).await;
    next_events(&mut port).await;
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_ends_its_streams() {
    let mut harness = Harness::start().await;
    let last = publish(&harness, 1).await;
    let who = id("spiffe://customs.gov.pk/agency/short");
    let short = harness.world.customs.issue_participant(&who, SystemClock.now_ns(), SHORT_LIFE_NS).expect("issued");
    let (mut port, mut calls) = (follow(&harness, &harness.port).await, harness.events(&short).await);
    calls.list_events(proto::ListEventsRequest::default()).await.expect("believed");
    let mut stream = follow(&harness, &short).await;
    let status = end_of(&mut stream).await;
    assert!(short.not_after_ns <= SystemClock.now_ns(), "it ended early: {status:?}");
    check_end(&status, Code::Unauthenticated, "CERTIFICATE_ENDED", last);
    calls.list_events(proto::ListEventsRequest::default()).await.expect_err("neither over a connection of before");
    publish(&harness, 2).await;
    next_events(&mut port).await;
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_revocation_list_counts_in_its_grace_and_ends_connections_after_it() {
    let mut harness = Harness::start().await;
    let last = publish(&harness, 1).await;
    let now_ns = SystemClock.now_ns();
    // It ended an hour ago, and the grace is a day.
    harness.world.customs.write_crl(now_ns - 2 * HOUR_NS, HOUR_NS).expect("written");
    assert_eq!(reload(&harness).await.closed_connection_count, 0);
    let mut customs = follow(&harness, &harness.customs).await;
    harness.world.customs.write_crl(now_ns - 72 * HOUR_NS, HOUR_NS).expect("written");
    assert_eq!(reload(&harness).await.closed_connection_count, 1);
    let status = end_of(&mut customs).await;
    check_end(&status, Code::Unauthenticated, "CONNECTION_CLOSING", last);
    assert!(status.message().contains("CRL_EXPIRED"), "{status:?}");
    harness.stop().await;
}
