//! Tradelane: a shared logistics-information exchange. Port systems, carriers and customs agencies publish, subscribe to and query
//! shipment and clearance events over gRPC with mutual TLS; each node keeps its own durable log.
//!
//! # The straight line
//!
//! **One door in ([`publish`]), one truth ([`log`]), one door out ([`log::follow`]).** Everything else is a follower with a cursor: a
//! subscriber, a view, a peer.
//!
//! ```text
//! client ─ api/events ─ wire (parse) ─▶ publish ─▶ log::append ─▶ (group commit, journal, fdatasync) ─▶ ack{position, duplicate}
//!                                                     ▲  │ watch of the durable tail
//! peer ── federation::inbox ── federation::door ──────┘  ▼
//!                                           log::follow (after a cursor)
//!                          ┌─────────────────────────────┼─────────────────────────────┐
//!                      subscribe                       views                   federation::outbox
//!               filter ▸ raw bytes                decode ▸ apply ▸ commit      agreement ▸ raw bytes
//!                          ▼                             ▼                             ▼
//!                   client's stream                queries read it               the peer's door
//! ```
//!
//! Old and new events take the same path: a follower reads storage and waits on the watch of the durable tail, so there is no seam
//! between replay and live.
//!
//! # The rooms, in reading order
//!
//! | room | what it is |
//! |---|---|
//! | [`domain`] | the exchange's own words as types: names, positions, the routing header, the one filter; pure |
//! | [`clock`], [`tasks`], [`telemetry`] | the ground: time and randomness, named background work, logs and metrics |
//! | [`config`] | what the operator wrote, then what the program means |
//! | [`wire`] | the only room that names generated code: raw events, parsing and validation |
//! | [`identity`] | who is connected, whom we trust to say so, and what they may do |
//! | [`storage`] | owns every synchronous write: journal, the one sled thread, sorted runs, recovery |
//! | [`store`] | small tables whose changes are promised: subscriptions, their positions, their dead letters |
//! | [`log`] | THE TRUTH: its contract in prose, the log on storage, the log in memory, following |
//! | [`publish`] | THE WRITE DOOR: rights, quotas, admission |
//! | [`subscribe`] | readers: live ones with their sight, window and end, and durable ones whose place outlives them |
//! | [`views`] | derived state that follows the log: search, associations, timelines, port calls, clearances |
//! | [`federation`] | links to other nodes: what goes to them, what is taken from them |
//! | [`api`] | the tonic services, thin; one table maps every error; one layer is around every call |
//! | [`node`] | the composition root: opens in order, names every task, stops in reverse |
//! | [`cli`] | the commands: the node, its clients, development PKI, demonstration |
//!
//! # Who may import whom
//!
//! `tests/tidy.rs` reads this from the `use` lines of every file and fails where it is not kept. Everybody may import the ground
//! (`clock`, `domain`, `tasks`, `telemetry`), and the ground nothing of ours.
//!
//! | room | imports besides the ground |
//! |---|---|
//! | config, wire | nothing |
//! | identity | config |
//! | storage | nothing |
//! | store | storage |
//! | log | storage, store |
//! | publish, views | log, wire, and of identity only who calls and what she may do; never each other |
//! | subscribe | as these, and store |
//! | federation | wire, identity, log; of storage only how a small file is put in place |
//! | api | config, wire, identity, log, publish, subscribe, views, federation |
//! | cli | config, wire, identity, log, node |
//! | node | all but cli |
//!
//! `sled` is named in storage only; `tonic` in api, federation, cli, wire (generated code), node and identity's acceptor; `rustls` in identity and cli.
//!
//! # What is absent
//!
//! - The log does not know what an event means: it sees a routing header and bytes. Events are never decoded and encoded again.
//! - Filters never open protobuf: they look at the routing header alone.
//! - No room below `api` but `federation` knows gRPC, and no room above `identity` knows TLS.
//! - No queue, loop or message is without a limit; no task is without a name and a failure policy.
//! - No role and no list of administrators is compiled in: a grant of the policy file is the only source of access.
//! - Nothing is acknowledged that a power cut could take back, and nothing is skipped silently.

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod federation;
pub mod identity;
pub mod log;
pub mod node;
pub mod publish;
pub mod storage;
pub mod store;
pub mod subscribe;
pub mod tasks;
pub mod telemetry;
#[doc(hidden)]
pub mod testing;
pub mod views;
pub mod wire;
