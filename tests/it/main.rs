//! Whole nodes over real connections, in one test binary, one module a subject.

mod alike;
mod bench;
mod clearance;
mod clearance_sources;
mod cli;
mod consumer;
mod demo;
mod durable;
mod durable_killed;
mod durable_silent;
mod events;
mod harness;
mod live;
mod matrix;
mod node;
mod peers;
mod peers_cli;
mod peers_cut;
mod peers_killed;
mod peers_restored;
mod peers_standby;
mod peers_wrong;
mod process;
mod query;
mod serve;
mod sighup;
