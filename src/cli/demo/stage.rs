//! The participants of the demonstration at work: they publish, and customs' stream shows what arrives. It never shows an event that did
//! not come over the stream.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, timeout};
use tonic::{Streaming, transport::Channel};

use super::{scenario::Step, setup::Setup};
use crate::{
    cli::{
        ExitCode, Failure,
        settings::ClientFlags,
        subscribe::event_line,
        terminal::{Style, Terminal},
    },
    wire::{
        PublishRequest,
        proto::{
            Event, RecordedEvent, StartAt, SubscribeRequest, SubscribeResponse,
            event_service_client::EventServiceClient, subscribe_request::Start, subscribe_response::Message,
        },
    },
};

/// An event that is stored arrives at a live reader at once; after this the demonstration has failed.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(15);
/// Who publishes.
const PUBLISHERS: [&str; 3] = ["carrier", "terminal", "customs"];

/// The publishers, connected.
pub struct Stage {
    channels: BTreeMap<&'static str, Channel>,
}

/// Customs' live stream.
pub struct CustomsStream {
    messages: Streaming<SubscribeResponse>,
}

impl Stage {
    /// Connects each publisher with her own certificate.
    ///
    /// # Errors
    /// The node is not reached.
    pub async fn open(setup: &Setup) -> Result<Self, Failure> {
        let mut channels = BTreeMap::new();
        for name in PUBLISHERS {
            channels.insert(name, connect_as(setup, name).await?);
        }
        Ok(Self { channels })
    }

    /// Publishes one event and says so.
    ///
    /// # Errors
    /// The node refuses it.
    pub async fn publish(&self, terminal: &mut Terminal, step: &Step) -> Result<(), Failure> {
        let channel = self.channels.get(step.member).expect("every step is of a publisher");
        let asked = Instant::now();
        let request = PublishRequest { events: vec![step.signed()], ..PublishRequest::default() };
        let answer = EventServiceClient::new(channel.clone()).publish(request).await?.into_inner();
        let took = asked.elapsed();
        if answer.results.len() != 1 {
            return Err(Failure::new(ExitCode::Failure, "the node did not answer for the event"));
        }
        let who = terminal.style(Style::Bold, &format!("{:>9}", step.member)).into_owned();
        let durable =
            terminal.style(Style::Dim, &format!("(on disk after {:.1} ms)", took.as_secs_f64() * 1_000.0)).into_owned();
        terminal.line(&format!("{who}  {} {durable}", step.narration))?;
        Ok(terminal.flush()?)
    }
}

impl CustomsStream {
    /// Subscribes to what comes from now on, and waits until the node has begun.
    ///
    /// # Errors
    /// The node is not reached or refuses.
    pub async fn open(setup: &Setup) -> Result<Self, Failure> {
        let channel = connect_as(setup, "customs").await?;
        let request = SubscribeRequest { start: Some(Start::StartAt(StartAt::Latest.into())), filters: Vec::new() };
        let mut messages = EventServiceClient::new(channel).subscribe(request).await?.into_inner();
        match messages.message().await?.and_then(|first| first.message) {
            Some(Message::Started(_)) => Ok(Self { messages }),
            _ => Err(Failure::new(ExitCode::Failure, "the stream did not begin as it should")),
        }
    }

    /// Shows what arrives, up to the event of this id.
    ///
    /// # Errors
    /// The stream ends, or the event does not arrive.
    pub async fn show_until(&mut self, terminal: &mut Terminal, event_id: &str) -> Result<(), Failure> {
        let arrived = timeout(ARRIVAL_TIMEOUT, self.show(terminal, event_id)).await;
        arrived.unwrap_or_else(|_| {
            let words = format!("event {event_id} did not arrive at customs within {} s", ARRIVAL_TIMEOUT.as_secs());
            Err(Failure::new(ExitCode::Failure, words))
        })
    }

    async fn show(&mut self, terminal: &mut Terminal, event_id: &str) -> Result<(), Failure> {
        while let Some(response) = self.messages.message().await? {
            let Some(Message::Events(batch)) = response.message else { continue };
            for event in &batch.events {
                let line = event_line(terminal, event);
                let arrow = terminal.style(Style::Good, "     sees").into_owned();
                terminal.line(&format!("{arrow}  {line}"))?;
            }
            terminal.flush()?;
            if batch.events.iter().any(|event| id_of(event) == event_id) {
                return Ok(());
            }
        }
        Err(Failure::new(ExitCode::Unavailable, "customs' stream ended"))
    }
}

/// A connection in one member's name.
///
/// # Errors
/// The node is not reached.
pub async fn connect_as(setup: &Setup, name: &str) -> Result<Channel, Failure> {
    let profile = setup.member(name).profile_file.to_string_lossy().into_owned();
    // By her profile alone: what is in this process's environment is for other nodes.
    let flags = ClientFlags { profile: Some(profile), ..ClientFlags::default() };
    flags.settings()?.channel().await
}

fn id_of(recorded: &RecordedEvent) -> String {
    let bytes = recorded.signed.as_ref().map(|signed| signed.event.clone()).unwrap_or_default();
    <Event as prost::Message>::decode(bytes).map(|event| event.event_id).unwrap_or_default()
}
