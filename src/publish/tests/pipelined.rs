//! A publishing stream: answers in order, refusals in the middle, commits shared, and limits that stop the reading.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures::{Stream, StreamExt, future, stream};

use super::*;

type Read = Result<(u64, PublishRequest), Infallible>;

/// A stream of requests that counts how many were taken from it.
fn counted(requests: Vec<PublishRequest>) -> (Arc<AtomicUsize>, impl Stream<Item = Read> + Send + 'static) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let requests = stream::iter(requests).enumerate().map(move |(index, request)| {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok((index as u64 + 100, request))
    });
    (taken, requests)
}

fn single(number: u32) -> PublishRequest {
    request(&[voyage(number).discharged()])
}

async fn answers(room: &Room, requests: Vec<PublishRequest>) -> Vec<Answer> {
    let (_, requests) = counted(requests);
    let answers = pipeline(Arc::clone(&room.door), caller(TERMINAL), requests, future::pending());
    answers.map(|answer| answer.expect("the stream doesn't break")).collect().await
}

#[tokio::test]
async fn answers_come_in_order_and_a_refused_request_ends_nothing() {
    let room = Room::new();
    let requests = vec![single(1), request(&[invalid(2)]), single(1), request(&[]), single(3)];
    let answers = answers(&room, requests).await;
    let correlations: Vec<u64> = answers.iter().map(|answer| answer.correlation_id).collect();
    assert_eq!(correlations, [100, 101, 102, 103, 104]);
    let told: Vec<_> = answers.iter().map(|answer| answer.result.as_deref().map(places).ok()).collect();
    assert_eq!(
        told,
        [Some(vec![Some((1, false))]), None, Some(vec![Some((1, true))]), None, Some(vec![Some((2, false))])]
    );
}

#[tokio::test]
async fn requests_in_flight_share_commits_up_to_the_limit() {
    let room = Room::new();
    room.log.hold();
    let beyond = 10;
    let (taken, requests) = counted((0..(PIPELINED_REQUESTS_MAX + beyond) as u32).map(single).collect());
    let answers = pipeline(Arc::clone(&room.door), caller(TERMINAL), requests, future::pending());
    let mut answers = Box::pin(answers);
    for _ in 0..20_000 {
        assert!(answers.next().now_or_never().is_none(), "nothing is durable");
        if room.log.append_calls() == PIPELINED_REQUESTS_MAX as u64 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(room.log.append_calls(), PIPELINED_REQUESTS_MAX as u64, "all of them wait for one commit");
    assert!(answers.next().now_or_never().is_none());
    assert_eq!(taken.load(Ordering::SeqCst), PIPELINED_REQUESTS_MAX, "nothing more is read");
    room.log.release();
    assert_eq!(answers.count().await, PIPELINED_REQUESTS_MAX + beyond);
}

#[tokio::test]
async fn large_requests_stop_the_reading_by_their_bytes() {
    let room = Room::new();
    room.log.hold();
    let padded = |number: u32| {
        let mut event = voyage(number).discharged();
        event.extensions =
            vec![wire::proto::Extension { schema: "https://example.org/a".into(), data: vec![7; 15_000].into() }];
        event
    };
    let full = |first: u32| request(&(first..first + 185).map(padded).collect::<Vec<_>>());
    let requests: Vec<PublishRequest> = (0..5).map(|index| full(index * 185)).collect();
    let bytes: usize = requests[0].events.iter().map(|signed| signed.event.len()).sum();
    assert!(PIPELINED_BYTES_MAX / 3 < bytes && bytes <= PIPELINED_BYTES_MAX / 2);
    let (_, requests) = counted(requests);
    let answers = pipeline(Arc::clone(&room.door), caller(TERMINAL), requests, future::pending());
    let mut answers = Box::pin(answers);
    for _ in 0..1_000 {
        assert!(answers.next().now_or_never().is_none());
    }
    assert_eq!(room.log.append_calls(), 2, "the third would be beyond the bytes that may be unanswered");
    room.log.release();
    assert_eq!(answers.count().await, 5);
}

#[tokio::test]
async fn closing_ends_the_reading_and_what_was_read_is_answered() {
    let room = Room::new();
    room.log.hold();
    let closing = CancellationToken::new();
    let (_, first) = counted((0..3).map(single).collect());
    let requests = first.chain(stream::pending());
    let answers = pipeline(Arc::clone(&room.door), caller(TERMINAL), requests, closing.clone().cancelled_owned());
    let mut answers = Box::pin(answers);
    while room.log.append_calls() < 3 {
        assert!(answers.next().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    closing.cancel();
    room.log.release();
    assert_eq!(answers.count().await, 3);
}

#[tokio::test]
async fn rights_that_change_count_from_the_next_request_on() {
    let room = Room::new();
    let access = Arc::clone(&room.access);
    let requests = stream::iter(0_u32..4).map(move |number| {
        if number == 2 {
            access.replace(policy(""));
        }
        Ok::<_, Infallible>((u64::from(number), single(number)))
    });
    let answers = pipeline(Arc::clone(&room.door), caller(TERMINAL), requests, future::pending());
    let told: Vec<bool> = answers.map(|answer| answer.expect("no break").result.is_ok()).collect().await;
    assert_eq!(told, [true, true, false, false]);
}
