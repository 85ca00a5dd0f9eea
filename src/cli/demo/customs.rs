//! Customs in the demonstration: a durable subscription, of which each event is shown and then acknowledged. In the middle of the voyage
//! they are away while an event is published, and go on where they had acknowledged. It never shows an event that did not come
//! over the stream, and counts none as acknowledged before the node said that it is durable.

use std::time::Duration;

use futures::{Stream, StreamExt};
use prost::Message as _;
use tokio::{
    sync::mpsc,
    time::{interval, timeout},
};
use tonic::{Streaming, transport::Channel};

use super::{setup::Setup, stage::connect_as};
use crate::{
    cli::{
        ExitCode, Failure,
        subscribe::event_line,
        terminal::{Style, Terminal},
    },
    wire::proto::{
        Acknowledge, ConsumeRequest, ConsumeResponse, ConsumeStart, ConsumerHeartbeat, CreateSubscriptionRequest,
        Delivery, DeliveryName, Event, RecordedEvent, Settlement, SettlementOutcome, StartAt, SubscriptionDefinition,
        consume_request, consume_response::Message, create_subscription_request::Start, settlement::Verb,
        subscription_service_client::SubscriptionServiceClient,
    },
};

/// The subscription's name.
pub const SUBSCRIPTION: &str = "clearance-desk";
/// An event that is stored arrives at once; after this the demonstration has failed.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(15);
/// The node takes a consumer of whom it hears nothing for 30 s for gone.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// One acknowledgement is under way at a time.
const REQUESTS_MAX: usize = 4;

/// Customs, with their subscription.
pub struct Customs {
    client: SubscriptionServiceClient<Channel>,
    /// None while they are away.
    line: Option<Line>,
    acknowledged: u64,
}

/// A stream of theirs.
struct Line {
    requests: mpsc::Sender<ConsumeRequest>,
    messages: Streaming<ConsumeResponse>,
}

impl Customs {
    /// Creates the subscription, to begin at the end of the log, and consumes.
    ///
    /// # Errors
    /// The node is not reached or refuses.
    pub async fn open(setup: &Setup) -> Result<Self, Failure> {
        let mut client = SubscriptionServiceClient::new(connect_as(setup, "customs").await?);
        let request = CreateSubscriptionRequest {
            name: SUBSCRIPTION.to_owned(),
            definition: Some(SubscriptionDefinition::default()),
            start: Some(Start::StartAt(StartAt::Latest.into())),
        };
        client.create_subscription(request).await?;
        let mut customs = Self { client, line: None, acknowledged: 0 };
        customs.consume().await?;
        Ok(customs)
    }

    /// Ends the stream.
    pub fn go_away(&mut self, terminal: &mut Terminal) -> std::io::Result<()> {
        self.line = None;
        say(terminal, "customs go away; what is published meanwhile waits in their subscription")
    }

    /// Shows and acknowledges what arrives, up to the event of this id; over a new line where there is none.
    ///
    /// # Errors
    /// The stream ends, the event does not arrive, or an acknowledgement is not taken.
    pub async fn show_until(&mut self, terminal: &mut Terminal, event_id: &str) -> Result<(), Failure> {
        if self.line.is_none() {
            self.consume().await?;
            say(terminal, "they are back, and go on after what they had acknowledged")?;
        }
        let arrived = timeout(ARRIVAL_TIMEOUT, self.show(terminal, event_id)).await;
        arrived.unwrap_or_else(|_| {
            let words = format!("event {event_id} did not arrive at customs within {} s", ARRIVAL_TIMEOUT.as_secs());
            Err(Failure::new(ExitCode::Failure, words))
        })
    }

    /// Says how many events are acknowledged.
    pub fn sum_up(&self, terminal: &mut Terminal) -> std::io::Result<()> {
        say(
            terminal,
            &format!("customs have acknowledged {} events, each once, at the node durably", self.acknowledged),
        )
    }

    async fn consume(&mut self) -> Result<(), Failure> {
        let (requests, asked) = mpsc::channel(REQUESTS_MAX);
        let mut messages = self.client.consume(spoken(asked)).await?.into_inner();
        match messages.message().await?.and_then(|first| first.message) {
            Some(Message::Started(_)) => {}
            _ => return Err(Failure::new(ExitCode::Failure, "consuming did not begin as it should")),
        }
        self.line = Some(Line { requests, messages });
        Ok(())
    }

    async fn show(&mut self, terminal: &mut Terminal, event_id: &str) -> Result<(), Failure> {
        let ended = || Failure::new(ExitCode::Unavailable, "customs' stream ended");
        let line = self.line.as_mut().ok_or_else(ended)?;
        loop {
            let response = line.messages.message().await?.ok_or_else(ended)?;
            let Some(Message::Deliveries(batch)) = response.message else { continue };
            for event in batch.deliveries.iter().filter_map(|delivery| delivery.event.as_ref()) {
                let shown = event_line(terminal, event);
                let arrow = terminal.style(Style::Good, "     sees").into_owned();
                terminal.line(&format!("{arrow}  {shown}"))?;
            }
            terminal.flush()?;
            self.acknowledged += line.acknowledge(&batch.deliveries).await?;
            if batch.deliveries.iter().any(|delivery| id_of(delivery) == event_id) {
                return Ok(());
            }
        }
    }
}

impl Line {
    /// Acknowledges a batch, and waits until that is durable.
    async fn acknowledge(&mut self, deliveries: &[Delivery]) -> Result<u64, Failure> {
        let refused = |what: &str| Failure::new(ExitCode::Failure, format!("an acknowledgement was not taken: {what}"));
        let names = deliveries.iter().map(|delivery| DeliveryName {
            position: delivery.event.as_ref().map(|event| event.position.clone()).unwrap_or_default(),
            delivery_attempt: delivery.delivery_attempt,
        });
        let settlement = Settlement {
            correlation_id: 1,
            deliveries: names.collect(),
            verb: Some(Verb::Acknowledge(Acknowledge {})),
        };
        let request = ConsumeRequest { message: Some(consume_request::Message::Settlement(settlement)) };
        self.requests.send(request).await.map_err(|_| refused("the stream ended"))?;
        while let Some(response) = self.messages.message().await? {
            match response.message {
                Some(Message::Settled(answer)) => {
                    let is_done =
                        |outcome| matches!(outcome, SettlementOutcome::Done | SettlementOutcome::AlreadySettled);
                    if answer.outcomes().all(is_done) {
                        return Ok(deliveries.len() as u64);
                    }
                    return Err(refused(&format!("{:?}", answer.outcomes().collect::<Vec<_>>())));
                }
                // One event is published at a time.
                Some(Message::Deliveries(_)) => return Err(refused("events came that nobody published")),
                _ => {}
            }
        }
        Err(refused("the stream ended"))
    }
}

/// What a consumer says: whom it consumes, then what it is asked to say, and in between that it is there. It ends with whoever asks: a
/// consumer that went on to say that it is there would keep others from taking its place.
fn spoken(asked: mpsc::Receiver<ConsumeRequest>) -> impl Stream<Item = ConsumeRequest> {
    let request = |message| ConsumeRequest { message: Some(message) };
    let start = request(consume_request::Message::Start(ConsumeStart { name: SUBSCRIPTION.to_owned(), credit: 0 }));
    let rest = futures::stream::unfold((asked, interval(HEARTBEAT)), move |(mut asked, mut beats)| async move {
        let said = tokio::select! {
            said = asked.recv() => said,
            _ = beats.tick() => Some(request(consume_request::Message::Heartbeat(ConsumerHeartbeat {}))),
        };
        said.map(|said| (said, (asked, beats)))
    });
    futures::stream::iter([start]).chain(rest)
}

fn say(terminal: &mut Terminal, words: &str) -> std::io::Result<()> {
    let words = terminal.style(Style::Dim, &format!("           ({words})")).into_owned();
    terminal.line(&words)?;
    terminal.flush()
}

fn id_of(delivery: &Delivery) -> String {
    let signed = delivery.event.as_ref().and_then(|recorded: &RecordedEvent| recorded.signed.as_ref());
    let bytes = signed.map(|signed| signed.event.clone()).unwrap_or_default();
    Event::decode(bytes).map(|event| event.event_id).unwrap_or_default()
}
