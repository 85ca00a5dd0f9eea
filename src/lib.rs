//! Tradelane: a shared logistics-information exchange. ARCHITECTURE to come: the rooms in reading order.

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod identity;
pub mod log;
pub mod node;
pub mod publish;
pub mod storage;
pub mod subscribe;
pub mod tasks;
pub mod telemetry;
#[doc(hidden)]
pub mod testing;
pub mod views;
pub mod wire;
