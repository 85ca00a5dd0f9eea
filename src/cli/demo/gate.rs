//! The terminal's gate in the demonstration: it watches whether its containers may leave, and says so when that changes. It never shows a
//! change that did not come over the stream.

use std::time::Duration;

use tokio::time::timeout;
use tonic::Streaming;

use super::{
    scenario::{FREE_CONTAINERS, HELD_CONTAINER, Step, container},
    setup::Setup,
    stage::connect_as,
};
use crate::{
    cli::{
        ExitCode, Failure,
        clearance::show::change_line,
        terminal::{Style, Terminal},
    },
    wire::proto::{
        ClearanceChanges, StartAt, WatchClearancesRequest, WatchClearancesResponse,
        clearance_service_client::ClearanceServiceClient, event::Body, watch_clearances_request::Start,
        watch_clearances_response::Message,
    },
};

/// A change is told at once; after this the demonstration has failed.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(15);

/// The gate's watch.
pub struct Gate {
    messages: Streaming<WatchClearancesResponse>,
}

impl Gate {
    /// Begins to watch the three containers.
    ///
    /// # Errors
    /// The node is not reached or refuses.
    pub async fn open(setup: &Setup) -> Result<Self, Failure> {
        let channel = connect_as(setup, "terminal").await?;
        let request = WatchClearancesRequest {
            start: Some(Start::StartAt(StartAt::Latest.into())),
            subjects: FREE_CONTAINERS.iter().chain([&HELD_CONTAINER]).map(|number| container(number)).collect(),
        };
        let mut messages = ClearanceServiceClient::new(channel).watch_clearances(request).await?.into_inner();
        match messages.message().await?.and_then(|first| first.message) {
            Some(Message::Started(_)) => Ok(Self { messages }),
            _ => Err(Failure::new(ExitCode::Failure, "the watch did not begin as it should")),
        }
    }

    /// Shows what a step changes: every step of a clearance, every hold and every association changes something here.
    ///
    /// # Errors
    /// The stream ends, or no change arrives.
    pub async fn show_change(&mut self, terminal: &mut Terminal, step: &Step) -> Result<(), Failure> {
        if !matches!(step.event.body, Some(Body::Clearance(_) | Body::Hold(_) | Body::Association(_))) {
            return Ok(());
        }
        let changes = timeout(ARRIVAL_TIMEOUT, self.next()).await.unwrap_or_else(|_| {
            let words = format!("event {} changed nothing within {} s", step.event.event_id, ARRIVAL_TIMEOUT.as_secs());
            Err(Failure::new(ExitCode::Failure, words))
        })?;
        for change in &changes.changes {
            let arrow = terminal.style(Style::Warning, "     gate").into_owned();
            let line = change_line(terminal, change);
            terminal.line(&format!("{arrow}  {line}"))?;
        }
        Ok(terminal.flush()?)
    }

    async fn next(&mut self) -> Result<ClearanceChanges, Failure> {
        while let Some(response) = self.messages.message().await? {
            if let Some(Message::Changes(changes)) = response.message {
                return Ok(changes);
            }
        }
        Err(Failure::new(ExitCode::Unavailable, "the gate's watch ended"))
    }
}
