//! The pipelined stream against a node that breaks, refuses and answers as the test says.

use tonic::{Code, Status};

use super::*;
use crate::{
    cli::{
        fake_node::{FakeNode, PublishScript},
        terminal::OutputFormat,
    },
    wire::proto::{
        PublishResponse, PublishResult, PublishStreamRequest, PublishStreamResponse, publish_stream_response::Answer,
    },
};

fn answer(request: &PublishStreamRequest, answer: Answer) -> PublishStreamResponse {
    PublishStreamResponse { correlation_id: request.correlation_id, answer: Some(answer) }
}

/// Every event of the request as stored, or as a duplicate.
fn stored(duplicate: bool) -> Box<dyn Fn(PublishStreamRequest) -> PublishStreamResponse + Send> {
    Box::new(move |request| {
        let count = request.publish.as_ref().map_or(0, |publish| publish.events.len());
        let results = vec![PublishResult { duplicate, ..PublishResult::default() }; count];
        answer(&request, Answer::Response(PublishResponse { results }))
    })
}

fn refused(code: Code) -> Box<dyn Fn(PublishStreamRequest) -> PublishStreamResponse + Send> {
    Box::new(move |request| {
        let status = tonic_types::Status { code: code as i32, message: "no".to_owned(), details: Vec::new() };
        answer(&request, Answer::Error(status))
    })
}

/// Publishes one event a request.
async fn publish(events: usize, streams: Vec<PublishScript>) -> (Result<(), Failure>, report::Counts, Vec<u64>) {
    let node = FakeNode::default();
    node.0.lock().await.publish = streams.into();
    let (sender, input) = mpsc::channel(events.max(1));
    for line in 1..=events {
        let event = Prepared { event_id: line.to_string(), bytes: vec![0; line].into(), has_fresh_id: false };
        sender.try_send(Item { line, event: Ok(event), read_bytes: 0 }).unwrap();
    }
    drop(sender);
    let mut report = Report::new(Terminal::new(OutputFormat::Table), None);
    let pace = Pace { batch_events_max: 1, in_flight_max: 2, retry_for: Duration::from_secs(60) };
    let ended = Session::new(node.channel().await, pace, input, &mut report).run().await;
    // The size of an event tells which one it is.
    let script = node.0.lock().await;
    let seen = script.published.iter().map(|request| request.publish.as_ref().unwrap().events[0].event.len() as u64);
    (ended, report.counts, seen.collect())
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_sends_the_unanswered_again_in_order() {
    let broken =
        PublishScript { answers: [stored(false), stored(false)].into(), then: Some(Status::unavailable("stopping")) };
    let whole = PublishScript { answers: [stored(true), stored(false), stored(false)].into(), then: None };
    let (ended, counts, seen) = publish(5, vec![broken, whole]).await;
    ended.unwrap();
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    assert_eq!((counts.stored, counts.duplicate, counts.refused, counts.reconnections), (4, 1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_full_node_is_asked_again_and_later_events_wait_their_turn() {
    let full = PublishScript { answers: [stored(false), refused(Code::ResourceExhausted)].into(), then: None };
    let whole = PublishScript { answers: [stored(false), stored(false)].into(), then: None };
    let (ended, counts, seen) = publish(3, vec![full, whole]).await;
    ended.unwrap();
    assert_eq!(seen, [1, 2, 2, 3]);
    assert_eq!((counts.stored, counts.refused), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_does_not_stop_the_run() {
    let script = PublishScript { answers: [refused(Code::PermissionDenied), stored(false)].into(), then: None };
    let (ended, counts, _) = publish(2, vec![script]).await;
    ended.unwrap();
    assert_eq!((counts.stored, counts.refused), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_permitted_ends_the_run() {
    let script = PublishScript { answers: [].into(), then: Some(Status::permission_denied("no grant")) };
    let (ended, counts, _) = publish(2, vec![script]).await;
    assert_eq!(ended.unwrap_err().code, ExitCode::NotPermitted);
    assert_eq!(counts, report::Counts::default());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stays_away_is_given_up() {
    let away = || PublishScript { answers: [].into(), then: Some(Status::unavailable("away")) };
    let (ended, _, _) = publish(1, std::iter::repeat_with(away).take(100).collect()).await;
    let failure = ended.unwrap_err();
    assert_eq!(failure.code, ExitCode::Unavailable);
    assert!(failure.message.contains("gave up after"), "{failure}");
}

#[test]
fn a_dry_run_finds_what_the_node_would_find() {
    use prost::Message;
    let publisher = SpiffeId::parse(crate::testing::events::TERMINAL).unwrap();
    let sound = crate::testing::events::Voyage::new(7, 1_700_000_000_000_000_000).discharged();
    let prepared = |event: &crate::wire::proto::Event| Prepared {
        event_id: event.event_id.clone(),
        bytes: event.encode_to_vec().into(),
        has_fresh_id: false,
    };
    assert_eq!(keeps_the_rules(prepared(&sound), &publisher), Ok(sound.event_id.clone()));
    let mut wrong = sound.clone();
    wrong.subjects[0].value = "MSKU9070320".to_owned();
    wrong.audience = None;
    let broken = |event: &crate::wire::proto::Event, who: &str| {
        let Err(Fault::BreaksRules { event_id, violations }) =
            keeps_the_rules(prepared(event), &SpiffeId::parse(who).unwrap())
        else {
            panic!("it keeps the rules");
        };
        assert_eq!(event_id, event.event_id);
        violations.into_iter().map(|violation| (violation.field, violation.reason)).collect::<Vec<_>>()
    };
    assert_eq!(
        broken(&wrong, crate::testing::events::TERMINAL),
        [("subjects[0].value".to_owned(), "CHECK_DIGIT_WRONG"), ("audience".to_owned(), "AUDIENCE_EMPTY")]
    );
    assert_eq!(broken(&sound, crate::testing::events::CUSTOMS), [("publisher".to_owned(), "PUBLISHER_MISMATCH")]);
}
