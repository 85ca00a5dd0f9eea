//! `tradelane subscription consume`: each event is written, or given to a command, and then settled; over lost connections it goes on. It
//! never acknowledges what was not written or done, and leaves in order: what is under way is finished and settled first.

// The comments of arguments are their help, where a person would see the marks.
#![allow(clippy::doc_markdown)]

use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

use super::{
    Asking, ask,
    exec::{self, Exec, Running},
    interrupted::twice,
    line::{Line, WIDENING_TOLD},
};
use crate::{
    cli::{
        ExitCode, Failure,
        connect::DECODE_BYTES_MAX,
        json,
        origins::Missing,
        retrying::Retrying,
        settings::ClientFlags,
        subscribe::{SEEN_MORE_UNNAMED, event_line, seen_more},
        terminal::{Terminal, note, printable},
    },
    domain::Position,
    wire::proto::{
        Acknowledge, AcknowledgeWidening, ConsumeRequest, ConsumeResponse, ConsumeStart, ConsumeStarted,
        ConsumerHeartbeat, Delivery, DeliveryName, GetSubscriptionRequest, SettlementAnswer, SettlementOutcome,
        SubscriptionMode, VisibilityWidenings, consume_request, consume_response::Message, settlement::Verb,
        subscription_service_client::SubscriptionServiceClient,
    },
};

/// The node takes a consumer of whom it hears nothing for 30 s for gone.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A node of which nothing is heard for so long is gone: it says something at least every 10 s.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How many events are asked for at once where they are only written.
const WRITTEN_AT_ONCE: u32 = 100;
/// How often a command that is to end at the end looks whether it is there.
const LOOK: Duration = Duration::from_millis(250);
/// What waits to be sent: settlements and extensions of all commands that run at once.
const REQUESTS_MAX: usize = 256;

/// `tradelane subscription consume`
#[derive(Debug, Args)]
#[command(after_help = "\
Without --exec each event is written to standard output and then acknowledged.

With --exec the command is run by `sh -c` for each event, with the event as one line of JSON on its standard input and, in its environment, \
TRADELANE_SUBSCRIPTION, TRADELANE_EVENT_ID, TRADELANE_EVENT_TYPE, TRADELANE_POSITION, TRADELANE_DELIVERY_ATTEMPT and TRADELANE_REPLAYED \
(1 for a dead letter that was asked for again). Its exit status says what becomes of the event:
  0      acknowledged
  65     parked: it can never be processed, and becomes a dead letter at once
  other  rejected: it comes again after the subscription's backoff, and is a dead letter in the end
While the command runs its lease is extended; after --time-limit it is killed, and the event rejected. An event may come more than once \
(its connection was lost before the acknowledgement was stored): a command had better know what it has done by TRADELANE_EVENT_ID.

Ctrl-C, or SIGTERM, lets running commands finish and settles their events. A second one kills them and ends at once, with status 130 \
(143 by SIGTERM); their events come again.

Examples:
  tradelane subscription consume gate
  tradelane subscription consume gate --output jsonl --until-caught-up
  tradelane subscription consume gate --exec './open-gate.sh' --time-limit 30s
  tradelane subscription consume gate --exec 'jq -r .signed.event.eventTime' --jobs 8")]
pub struct ConsumeArguments {
    /// The subscription's name.
    pub name: String,
    /// Run this command for each event.
    #[arg(long, value_name = "COMMAND")]
    pub exec: Option<String>,
    /// How long the command may take for one event.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = super::definition::duration, requires = "exec")]
    pub time_limit: Duration,
    /// How many commands run at once; more than one only for a shared subscription.
    #[arg(long, value_name = "COUNT", default_value_t = 1, requires = "exec", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub jobs: u32,
    /// End after this many events were settled.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End when everything that was stored is settled, instead of waiting for what comes.
    #[arg(long)]
    pub until_caught_up: bool,
    /// How long to go on trying when the node is lost, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    pub retry_for: u64,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// One consumer over all its connections.
struct Consumer {
    channel: Channel,
    name: String,
    exec: Option<Exec>,
    jobs: u32,
    terminal: Terminal,
    /// How many events are still to be taken; none: no end.
    remaining: Option<u64>,
    missing: Missing,
    /// The sequence that the subscription must have acknowledged before we end; none: no end.
    until: Option<u64>,
    /// Events that the node has said to be settled.
    settled: u64,
    /// True once the person has asked to stop.
    stop: CancellationToken,
}

pub(super) async fn run(arguments: &ConsumeArguments) -> Result<(), Failure> {
    let Asking { settings, mut client, terminal } = ask(&arguments.client).await?;
    let request = GetSubscriptionRequest { name: arguments.name.clone(), owner: String::new() };
    let known = client.get_subscription(settings.call(request)).await?.into_inner().subscription.unwrap_or_default();
    let definition = known.definition.clone().unwrap_or_default();
    if arguments.jobs > 1 && definition.mode() != SubscriptionMode::Shared {
        return Err(Failure::usage(format!(
            "--jobs {}: {} is ordered, so that its events are processed one after the other",
            arguments.jobs, arguments.name
        )));
    }
    // The node fills its default in; an older one that does not has this one.
    let lease = definition.lease.and_then(|lease| Duration::try_from(lease).ok()).unwrap_or(Duration::from_secs(30));
    let running = Running::default();
    let exec = arguments.exec.clone().map(|command| Exec {
        command,
        time_limit: arguments.time_limit,
        subscription: arguments.name.clone(),
        lease,
        running: running.clone(),
    });
    let mut consumer = Consumer {
        channel: settings.channel().await?,
        name: arguments.name.clone(),
        exec,
        jobs: arguments.jobs,
        terminal,
        remaining: arguments.count,
        missing: Missing::default(),
        until: arguments.until_caught_up.then(|| acknowledged(&known.acknowledged_position) + known.lag_events),
        settled: 0,
        stop: CancellationToken::new(),
    };
    let stop = consumer.stop.clone();
    let retry_for = Duration::from_secs(arguments.retry_for);
    // A task of its own: while it writes where nobody reads, signals are heard all the same.
    let mut consuming = tokio::spawn(async move {
        let ended = consumer.run(retry_for).await;
        (consumer, ended)
    });
    tokio::select! {
        consumed = &mut consuming => {
            let broke_off = |error| Failure::new(ExitCode::Failure, format!("consuming broke off: {error}"));
            let (mut consumer, ended) = consumed.map_err(broke_off)?;
            consumer.terminal.flush()?;
            note(&format!("{} events settled", consumer.settled));
            ended
        }
        interrupted = twice(&stop) => {
            let code = interrupted?;
            running.kill();
            consuming.abort();
            Err(Failure::new(code, ""))
        }
    }
}

impl Consumer {
    async fn run(&mut self, retry_for: Duration) -> Result<(), Failure> {
        let mut retrying = Retrying::new(retry_for);
        loop {
            let before = self.settled;
            let Err(status) = self.stream().await? else { return Ok(()) };
            let stop = self.stop.clone();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                waited = retrying.wait_after(status, before != self.settled) => waited?,
            }
        }
    }

    /// One stream: ends well when enough was settled, with the node's status otherwise.
    async fn stream(&mut self) -> Result<Result<(), Status>, Failure> {
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let credit = if self.exec.is_some() { self.jobs } else { WRITTEN_AT_ONCE };
        let credit = self.remaining.map_or(credit, |remaining| u64::from(credit).min(remaining) as u32);
        let start = ConsumeStart { name: self.name.clone(), credit };
        let first = ConsumeRequest { message: Some(consume_request::Message::Start(start)) };
        sender.try_send(first).expect("there is room for the first request");
        let mut client =
            SubscriptionServiceClient::new(self.channel.clone()).max_decoding_message_size(DECODE_BYTES_MAX);
        let stop = self.stop.clone();
        let opened = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(Ok(())),
            opened = client.consume(ReceiverStream::new(requests)) => opened,
        };
        let mut messages = match opened {
            Ok(response) => response.into_inner(),
            Err(status) => return Ok(Err(status)),
        };
        let mut line = Line::new(sender);
        let mut heartbeat = interval(HEARTBEAT);
        let mut look = interval(LOOK);
        for ticking in [&mut heartbeat, &mut look] {
            ticking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let ended = loop {
            tokio::select! {
                message = tokio::time::timeout(SILENCE_MAX, messages.message()) => match message {
                    Ok(Ok(Some(message))) => self.take(&mut line, message).await?,
                    Ok(Ok(None)) if line.requests.is_none() => return Ok(Ok(())),
                    Ok(Ok(None)) => break Status::unavailable("the node ended the stream"),
                    Ok(Err(status)) => break status,
                    Err(_) => break Status::unavailable(format!("the node has said nothing for {SILENCE_MAX:?}")),
                },
                Some((delivery, verb)) = line.running.next(), if !line.running.is_empty() => {
                    line.settle(vec![delivery], verb).await;
                }
                _ = heartbeat.tick() => line.say(consume_request::Message::Heartbeat(ConsumerHeartbeat {})).await,
                _ = look.tick(), if self.until.is_some() && line.is_idle() && !line.leaving => match self.is_at_end().await {
                    Ok(true) => line.leave().await,
                    Ok(false) => {}
                    Err(status) => break status,
                },
                () = stop.cancelled(), if !line.leaving => line.leave().await,
            }
            if line.leaving && line.is_idle() {
                // Closes our side, by which the node knows that we leave.
                line.requests = None;
            }
        };
        // What was not settled comes again.
        self.remaining = self.remaining.map(|remaining| remaining + line.in_hand);
        // Its event comes again; the command is not cut off in the middle all the same.
        while line.running.next().await.is_some() {}
        Ok(Err(ended))
    }

    async fn take(&mut self, line: &mut Line, response: ConsumeResponse) -> Result<(), Failure> {
        match response.message {
            Some(Message::Started(started)) => self.started(&started),
            Some(Message::Deliveries(batch)) => self.process(line, batch.deliveries).await?,
            Some(Message::Settled(answer)) => self.answered(line, &answer),
            Some(Message::FellBehind(behind)) => {
                note(&format!("events come faster than they are settled: {} positions behind", behind.lag_events));
            }
            Some(Message::Progress(progress)) => self.missing.tell(&progress.origins),
            Some(Message::CaughtUp(caught_up)) => self.missing.tell(&caught_up.origins),
            Some(Message::VisibilityWidened(told)) => widened(line, told).await,
            // A newer node says something that this program has no word for; whatever it asks for comes with a status.
            None => {}
        }
        Ok(())
    }

    fn started(&self, started: &ConsumeStarted) {
        if started.paused {
            note(&format!("{} is paused: tradelane subscription resume {0}", self.name));
        }
        if !started.active {
            note("another consumer is active; this one stands by");
        }
        if started.narrowed {
            let by = if started.grant_ids.is_empty() { "no grant".to_owned() } else { started.grant_ids.join(", ") };
            note(&format!("less comes than is asked for: your grants ({}) do not cover all of it", printable(&by)));
        }
    }

    /// Whether everything is settled that was stored when the command began.
    async fn is_at_end(&self) -> Result<bool, Status> {
        let mut client = SubscriptionServiceClient::new(self.channel.clone());
        let request = GetSubscriptionRequest { name: self.name.clone(), owner: String::new() };
        let mut request = tonic::Request::new(request);
        request.set_timeout(SILENCE_MAX);
        let known = client.get_subscription(request).await?.into_inner().subscription.unwrap_or_default();
        Ok(self.until.is_some_and(|until| until <= acknowledged(&known.acknowledged_position)))
    }

    /// Begins to process deliveries. Those beyond what is wanted, and those that come after the wish to leave, are left to others.
    async fn process(&mut self, line: &mut Line, mut deliveries: Vec<Delivery>) -> Result<(), Failure> {
        if line.leaving {
            return Ok(());
        }
        if let Some(remaining) = &mut self.remaining {
            deliveries.truncate(usize::try_from(*remaining).unwrap_or(usize::MAX));
            *remaining -= deliveries.len() as u64;
        }
        line.in_hand += deliveries.len() as u64;
        self.begin(line, deliveries).await?;
        if self.remaining == Some(0) {
            line.leave().await;
        }
        Ok(())
    }

    async fn begin(&mut self, line: &mut Line, deliveries: Vec<Delivery>) -> Result<(), Failure> {
        let Some(exec) = &self.exec else {
            // Where nobody reads, this thread stands still: another hears signals and the node meanwhile.
            tokio::task::block_in_place(|| {
                deliveries.iter().try_for_each(|delivery| self.write(delivery))?;
                // What was written is out of our hands first; only then is it acknowledged.
                Ok::<(), Failure>(self.terminal.flush()?)
            })?;
            let names = deliveries.iter().map(exec::name).collect();
            line.settle(names, Verb::Acknowledge(Acknowledge {})).await;
            return Ok(());
        };
        for delivery in deliveries {
            let (exec, requests) = (exec.clone(), line.requests.clone());
            let Some(requests) = requests else { return Ok(()) };
            line.running.push(Box::pin(async move {
                let verb = exec.run(&delivery, &requests).await;
                (exec::name(&delivery), verb)
            }));
        }
        Ok(())
    }

    fn write(&mut self, delivery: &Delivery) -> Result<(), Failure> {
        let Some(event) = &delivery.event else { return Ok(()) };
        if self.terminal.for_people() {
            let again = if delivery.delivery_attempt > 1 {
                format!("  (attempt {})", delivery.delivery_attempt)
            } else {
                String::new()
            };
            let line = event_line(&self.terminal, event);
            self.terminal.line(&format!("{line}{again}"))?;
        } else {
            self.terminal.json(&json::from_message("Delivery", delivery))?;
        }
        Ok(())
    }

    /// Takes an answer to a settlement in: only what it says to be done is counted.
    fn answered(&mut self, line: &mut Line, answer: &SettlementAnswer) {
        let Some((names, verb)) = line.unanswered.remove(&answer.correlation_id) else {
            // An extension that came too late: its settlement will be answered so, too.
            return;
        };
        if verb == WIDENING_TOLD {
            return;
        }
        line.in_hand = line.in_hand.saturating_sub(names.len() as u64);
        for (name, outcome) in names.iter().zip(answer.outcomes()) {
            let position = &name.position;
            match outcome {
                SettlementOutcome::Done => {
                    self.settled += 1;
                    if verb != "acknowledged" {
                        note(&format!("{position}: {verb}"));
                    }
                }
                SettlementOutcome::AlreadySettled => {}
                SettlementOutcome::LeaseEnded => {
                    note(&format!("{position}: too late, its lease has ended; it comes again"));
                }
                SettlementOutcome::TakenOver => note(&format!("{position}: another consumer has taken over")),
                SettlementOutcome::DeadLettersFull => {
                    note(&format!("{position}: there is no room for another dead letter; it comes again"));
                }
                SettlementOutcome::NotDelivered | SettlementOutcome::Unspecified => {
                    note(&format!("{position}: not settled, the node does not know that it was delivered here"));
                }
            }
        }
    }
}

/// Says what the person sees more of from here on; once it is said it need not be said again.
async fn widened(line: &mut Line, told: VisibilityWidenings) {
    // What comes after the wish to leave is told to whoever consumes next.
    if line.leaving {
        return;
    }
    for widening in &told.widenings {
        note(&seen_more(widening));
    }
    if told.incomplete {
        note(SEEN_MORE_UNNAMED);
    }
    let name = DeliveryName { position: told.position, delivery_attempt: 0 };
    line.settle(vec![name], Verb::AcknowledgeWidening(AcknowledgeWidening {})).await;
}

/// The sequence of a position; 0 where it is none.
fn acknowledged(position: &str) -> u64 {
    position.parse::<Position>().map_or(0, |position| position.sequence.get())
}
