//! A reader against a node that breaks off as the test says.

use tonic_types::StatusExt;

use super::*;
use crate::{
    cli::{ExitCode, fake_node::FakeNode, terminal::OutputFormat},
    wire::{EventBatch, proto::CaughtUp},
};

fn position(sequence: u64) -> String {
    format!("00000000000000000000000000000007-{sequence}")
}

#[allow(clippy::unnecessary_wraps)] // A stream has results as its items.
fn says(message: Message) -> Result<SubscribeResponse, Status> {
    Ok(SubscribeResponse { message: Some(message) })
}

#[allow(clippy::unnecessary_wraps)]
fn started(after: u64) -> Result<SubscribeResponse, Status> {
    says(Message::Started(SubscriptionStarted { after_position: position(after), ..SubscriptionStarted::default() }))
}

fn events(sequences: &[u64]) -> Result<SubscribeResponse, Status> {
    let events =
        sequences.iter().map(|sequence| RecordedEvent { position: position(*sequence), ..RecordedEvent::default() });
    says(Message::Events(EventBatch { events: events.collect(), ..EventBatch::default() }))
}

fn caught_up(sequence: u64) -> Result<SubscribeResponse, Status> {
    says(Message::CaughtUp(CaughtUp { position: position(sequence), ..CaughtUp::default() }))
}

async fn read(
    streams: Vec<Vec<Result<SubscribeResponse, Status>>>,
    cursor: &std::path::Path,
) -> (Result<(), Failure>, Vec<Start>) {
    let node = FakeNode::default();
    node.0.lock().await.subscribe = streams.into();
    let mut reader = Reader {
        channel: node.channel().await,
        filters: Vec::new(),
        start: parse_start("latest").unwrap(),
        reached: None,
        cursor: Some(Cursor::open(cursor).unwrap()),
        terminal: Terminal::new(OutputFormat::Jsonl),
        remaining: None,
        until_caught_up: true,
        missing: Missing::default(),
    };
    let ended = reader.run(std::time::Duration::from_secs(60)).await;
    reader.store_cursor().unwrap();
    let starts = node.0.lock().await.subscribed.iter().map(|request| request.start.clone().unwrap()).collect();
    (ended, starts)
}

#[tokio::test(start_paused = true)]
async fn a_lost_stream_goes_on_after_the_last_event_and_the_file_says_where() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cursor");
    let streams = vec![
        // Lost before the first event: "latest" must not be asked again, since events may have come meanwhile.
        vec![started(5), Err(Status::unavailable("stopping"))],
        vec![started(5), events(&[6, 8]), Err(Status::unavailable("stopping"))],
        vec![started(8), events(&[9]), caught_up(12)],
    ];
    let (ended, starts) = read(streams, &file).await;
    ended.unwrap();
    let after = |sequence| Start::AfterPosition(position(sequence));
    assert_eq!(starts, [Start::StartAt(StartAt::Latest.into()), after(5), after(8)]);
    assert_eq!(Cursor::open(&file).unwrap().position(), Some(position(12).as_str()));
}

#[tokio::test(start_paused = true)]
async fn a_position_that_the_node_cannot_honour_ends_the_run_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let details =
        tonic_types::ErrorDetails::with_error_info("EPOCH_CHANGED", "tradelane", [("fork".to_owned(), position(3))]);
    let gone = Status::with_error_details(tonic::Code::FailedPrecondition, "the log was restored", details);
    let (ended, starts) = read(vec![vec![Err(gone)]], &directory.path().join("cursor")).await;
    let failure = ended.unwrap_err();
    assert_eq!((failure.code, starts.len()), (ExitCode::Data, 1));
    assert!(failure.message.contains("reason: EPOCH_CHANGED"), "{failure}");
}

#[test]
fn a_start_is_a_word_a_position_or_a_time() {
    assert_eq!(parse_start(&position(3)), Ok(Start::AfterPosition(position(3))));
    assert!(matches!(parse_start("2026-11-24T00:00:00Z"), Ok(Start::SinceTime(_))));
    let failure = parse_start("yesterday").unwrap_err();
    assert_eq!(failure.code, ExitCode::Usage);
    assert!(failure.message.contains("--from \"yesterday\" is none of: earliest"), "{failure}");
}
