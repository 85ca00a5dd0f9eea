//! What every system does in this comparison, in its own way: take events and hold them safe, and bring them to readers. It knows no system.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use serde::Serialize;

use crate::events::Event;

/// Events as they come, some at a time.
pub type Deliveries = BoxStream<'static, Result<Vec<Bytes>>>;

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest event.
    Earliest,
    /// With the next.
    Latest,
}

/// Whether somebody reads what a connection stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Nobody does now.
    Store,
    /// Readers wait for it.
    Deliver,
}

/// A connection. All that is done with it may be done at once.
pub trait Client: Send + Sync {
    /// Stores these as one request; done once they are as safe as the system makes them.
    fn publish(&self, events: Arc<[Event]>) -> BoxFuture<'_, Result<()>>;

    /// Follows; done once nothing that is published from now on can be missed.
    fn follow(&self, start: Start) -> BoxFuture<'_, Result<Deliveries>>;
}

/// A running server.
pub trait Running: Send + Sync {
    /// Connections, as many as this system's clients use for so much at one time.
    fn clients(&self, at_once: usize, purpose: Purpose) -> BoxFuture<'_, Result<Vec<Arc<dyn Client>>>>;

    /// The most requests of so many events that may be under way at one time; the rest of the cases are left out.
    fn in_flight_max(&self, _events: usize) -> usize {
        usize::MAX
    }

    /// Ends it.
    fn stop(self: Box<Self>) -> BoxFuture<'static, Result<()>>;
}

/// A system that can be started, each time with nothing stored.
pub trait System: Send + Sync {
    /// What it is, for the report.
    fn facts(&self) -> Facts;

    /// Whether only requests of several events are of interest: all else is the same as of another in the list.
    fn only_several(&self) -> bool {
        false
    }

    /// Starts it.
    fn start(&self) -> BoxFuture<'_, Result<Box<dyn Running>>>;
}

/// What one must know of a system to read its figures.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// Its name in the tables.
    pub name: String,
    /// What its program says.
    pub version: String,
    /// What its acknowledgement means.
    pub durability: &'static str,
    /// Settings that are not its defaults.
    pub settings: String,
    /// What it does that the node does not, and the other way round.
    pub not_alike: &'static str,
}

/// What a program says of its version.
pub fn version(program: &std::path::Path, argument: &str) -> Result<String> {
    use anyhow::Context;
    let output = std::process::Command::new(program).arg(argument).output();
    let output = output.with_context(|| format!("cannot run {}", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned())
}
