//! The pipelined publishing stream: bounded requests in flight, a new connection when one is lost, and what was unanswered sent again in
//! its order (publishing is idempotent). It never gives up an event without saying so.
//!
//! ```text
//! input ─▶ waiting batch ─▶ unanswered (sent, in order) ─▶ answered, oldest first
//!                              └── connection lost: the whole queue is sent again ──┘
//! ```

use std::{collections::VecDeque, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use super::{
    Item,
    report::{Report, retry_after},
};
use crate::{
    cli::{
        ExitCode, Failure,
        backoff::Backoff,
        connect::handshake_refused,
        failure::{describe, is_connection_lost, is_retryable},
    },
    wire::{
        PublishRequest, SignedEvent,
        proto::{
            OnInvalid, PublishStreamRequest, PublishStreamResponse, event_service_client::EventServiceClient,
            publish_stream_response::Answer,
        },
    },
};

/// A request takes no more than this, well below a node's limit of 4 MiB.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// How a run sends.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Events in a request at the most.
    pub batch_events_max: usize,
    /// Requests without an answer at the most.
    pub in_flight_max: usize,
    /// How long to go on trying to reach a node that is away.
    pub retry_for: Duration,
}

/// One request: its number, and its events with their lines.
#[derive(Debug)]
struct Batch {
    correlation_id: u64,
    events: Vec<SignedEvent>,
    lines: Vec<(usize, String)>,
    bytes: usize,
}

/// One run.
pub struct Session<'run> {
    channel: Channel,
    pace: Pace,
    input: mpsc::Receiver<Item>,
    report: &'run mut Report,
    unanswered: VecDeque<Batch>,
    waiting: Batch,
    input_ended: bool,
    next_correlation_id: u64,
    /// Since when no answer has come although the node was asked.
    failing_since: Option<Instant>,
}

/// How one stream ended.
enum Ended {
    /// Everything is answered.
    Done,
    /// The connection, or the node for now: try again.
    Lost { reason: String, wait: Option<Duration> },
}

impl<'run> Session<'run> {
    /// A run over a channel.
    pub fn new(channel: Channel, pace: Pace, input: mpsc::Receiver<Item>, report: &'run mut Report) -> Self {
        Self {
            channel,
            pace,
            input,
            report,
            unanswered: VecDeque::new(),
            waiting: Batch::empty(),
            input_ended: false,
            next_correlation_id: 1,
            failing_since: None,
        }
    }

    /// How many events have been sent, or are about to be, and have no answer.
    #[must_use]
    pub fn unanswered_events(&self) -> usize {
        self.unanswered.iter().map(|batch| batch.events.len()).sum::<usize>() + self.waiting.events.len()
    }

    /// Publishes until the input ends and everything is answered.
    ///
    /// Not cancel-safe: a run that is dropped in the middle may have stored events whose answers were not read.
    ///
    /// # Errors
    /// The node refuses us altogether, or stayed away for too long; output cannot be written.
    pub async fn run(&mut self) -> Result<(), Failure> {
        let mut backoff = Backoff::default();
        loop {
            let before = self.report.counts;
            let ended = self.stream().await?;
            let (reason, asked_for) = match ended {
                Ended::Done => return Ok(()),
                Ended::Lost { reason, wait } => (reason, wait),
            };
            if before != self.report.counts {
                backoff.reset();
                self.failing_since = None;
            }
            let failing_for = self.failing_since.get_or_insert_with(Instant::now).elapsed();
            if failing_for > self.pace.retry_for {
                let words = format!("gave up after {} s: {reason}", failing_for.as_secs());
                return Err(Failure::new(ExitCode::Unavailable, words));
            }
            let wait = backoff.next_wait(asked_for);
            self.report.say(&format!("{reason}; trying again in {:.1} s", wait.as_secs_f64()));
            self.report.counts.reconnections += 1;
            tokio::time::sleep(wait).await;
        }
    }

    /// One stream, from its first request to its end.
    async fn stream(&mut self) -> Result<Ended, Failure> {
        let (sender, requests) = mpsc::channel(self.pace.in_flight_max);
        for batch in &self.unanswered {
            sender.try_send(batch.request()).expect("the channel holds as many requests as may be unanswered");
        }
        // Some nodes answer the opening of a stream only with the first answer in it, so the first request must be on its way by then.
        while self.unanswered.is_empty() && !self.input_ended {
            self.take_item().await?;
            self.send_waiting(&sender);
        }
        if self.unanswered.is_empty() {
            return Ok(Ended::Done);
        }
        let mut client = EventServiceClient::new(self.channel.clone());
        let answers = match client.publish_stream(ReceiverStream::new(requests)).await {
            Ok(response) => response.into_inner(),
            Err(status) => return lost(&status),
        };
        self.pump(sender, answers).await
    }

    async fn pump(
        &mut self,
        sender: mpsc::Sender<PublishStreamRequest>,
        mut answers: Streaming<PublishStreamResponse>,
    ) -> Result<Ended, Failure> {
        // Dropped once all is sent, so that the node ends the stream.
        let mut sender = Some(sender);
        loop {
            if let Some(open) = &sender {
                self.send_waiting(open);
                if self.input_ended && self.waiting.events.is_empty() {
                    sender = None;
                }
            }
            if sender.is_none() && self.unanswered.is_empty() {
                return Ok(Ended::Done);
            }
            // Reading stops while the requests in flight are at their limit and the next batch is full: that is the back-pressure.
            let has_room = !self.input_ended && !self.is_full(&self.waiting);
            tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => if let Some(ended) = self.answered(answer)? {
                        return Ok(ended);
                    },
                    Ok(None) => {
                        let reason = "the node ended the stream before it had answered everything".to_owned();
                        return Ok(Ended::Lost { reason, wait: None });
                    }
                    Err(status) => return lost(&status),
                },
                taken = Self::take(&mut self.input), if has_room => self.put(taken)?,
            }
        }
    }

    /// Sends the waiting batch if there is room in flight. Whatever gathered while there was none goes as one request.
    fn send_waiting(&mut self, sender: &mpsc::Sender<PublishStreamRequest>) {
        if self.waiting.events.is_empty() || self.unanswered.len() >= self.pace.in_flight_max {
            return;
        }
        // Take what is there already rather than send many small requests.
        while !self.is_full(&self.waiting) {
            let Ok(item) = self.input.try_recv() else { break };
            if self.put(Some(item)).is_err() {
                break;
            }
        }
        let Ok(permit) = sender.try_reserve() else { return };
        let mut batch = std::mem::replace(&mut self.waiting, Batch::empty());
        batch.correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        permit.send(batch.request());
        self.unanswered.push_back(batch);
    }

    fn is_full(&self, batch: &Batch) -> bool {
        batch.events.len() >= self.pace.batch_events_max || batch.bytes >= REQUEST_BYTES_MAX
    }

    async fn take_item(&mut self) -> Result<(), Failure> {
        let taken = Self::take(&mut self.input).await;
        self.put(taken)
    }

    async fn take(input: &mut mpsc::Receiver<Item>) -> Option<Item> {
        input.recv().await
    }

    fn put(&mut self, item: Option<Item>) -> Result<(), Failure> {
        let Some(item) = item else {
            self.input_ended = true;
            return Ok(());
        };
        self.report.progress(item.read_bytes);
        match item.event {
            Ok(prepared) => {
                self.report.counts.fresh_ids += u64::from(prepared.has_fresh_id);
                self.waiting.bytes += prepared.bytes.len();
                self.waiting.lines.push((item.line, prepared.event_id));
                self.waiting.events.push(SignedEvent { event: prepared.bytes, ..SignedEvent::default() });
            }
            Err(reason) => self.report.refused_here(item.line, &reason)?,
        }
        Ok(())
    }

    fn answered(&mut self, answer: PublishStreamResponse) -> Result<Option<Ended>, Failure> {
        let Some(batch) = self.unanswered.pop_front() else {
            return Err(Failure::new(ExitCode::Failure, "the node answered more requests than it was asked"));
        };
        if batch.correlation_id != answer.correlation_id {
            let words = format!("the node answered request {}, not {}", answer.correlation_id, batch.correlation_id);
            return Err(Failure::new(ExitCode::Failure, words));
        }
        match answer.answer {
            Some(Answer::Response(response)) if response.results.len() == batch.lines.len() => {
                for ((line, _), result) in batch.lines.iter().zip(&response.results) {
                    self.report.answered(*line, result)?;
                }
            }
            Some(Answer::Error(status)) => {
                if let Some(wait) = retry_after(&status) {
                    // Everything from here on goes again, in its order: a later request may revise an event of this one.
                    self.unanswered.push_front(batch);
                    let reason = crate::cli::failure::describe_message(&status);
                    return Ok(Some(Ended::Lost { reason, wait: Some(wait) }));
                }
                for (line, event_id) in &batch.lines {
                    self.report.refused(*line, event_id, &status)?;
                }
            }
            Some(Answer::Response(_)) | None => {
                return Err(Failure::new(ExitCode::Failure, "the node's answer does not fit its request"));
            }
        }
        self.failing_since = None;
        self.report.flush()?;
        Ok(None)
    }
}

impl Batch {
    fn empty() -> Self {
        Self { correlation_id: 0, events: Vec::new(), lines: Vec::new(), bytes: 0 }
    }

    fn request(&self) -> PublishStreamRequest {
        let publish = PublishRequest { events: self.events.clone(), on_invalid: OnInvalid::Skip.into() };
        PublishStreamRequest { correlation_id: self.correlation_id, publish: Some(publish) }
    }
}

/// A stream that broke: whether to try again.
fn lost(status: &Status) -> Result<Ended, Failure> {
    use tonic_types::StatusExt;
    if let Some(reason) = handshake_refused(status) {
        return Err(Failure::new(ExitCode::NotPermitted, reason));
    }
    if is_retryable(status.code()) || is_connection_lost(status) {
        let wait = status.get_details_retry_info().and_then(|info| info.retry_delay);
        return Ok(Ended::Lost { reason: describe(status), wait });
    }
    // Whatever else ends a stream would end every other one too.
    Err(status.clone().into())
}
