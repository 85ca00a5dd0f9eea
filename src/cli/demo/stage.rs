//! The participants of the demonstration who publish, each with her own certificate. It never says that an event is stored before the node
//! has said so.

use std::collections::BTreeMap;

use tokio::time::Instant;
use tonic::transport::Channel;

use super::{scenario::Step, setup::Setup};
use crate::{
    cli::{
        ExitCode, Failure,
        settings::ClientFlags,
        terminal::{Style, Terminal},
    },
    wire::{PublishRequest, proto::event_service_client::EventServiceClient},
};

/// Who publishes.
const PUBLISHERS: [&str; 3] = ["carrier", "terminal", "customs"];

/// The publishers, connected.
pub struct Stage {
    channels: BTreeMap<&'static str, Channel>,
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
