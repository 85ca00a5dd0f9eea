//! What is said in a run: events of four classes, each told by its place of loading, for everybody, for some or for nobody else, and their
//! corrections and retractions. Each statement keeps what the checker needs to know of it, in the run's own words.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use tradelane::{
    domain::{EventId, SpiffeId},
    log::NewEvent,
    testing::events::{HOUR_NS, Voyage},
    wire::{
        door::routing_header,
        proto::{Audience, Event, Reach},
    },
};

use crate::{machine::letter, net::Site};

/// The places of loading that tell the classes apart.
pub const CLASSES: [&str; 4] = ["CNSHA", "SGSIN", "NLRTM", "USLAX"];
/// When what is said has happened.
const HAPPENED_NS: i64 = 1_795_478_400_000_000_000 - 40 * HOUR_NS;

/// Who may see a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum For {
    Everybody,
    Nodes(BTreeSet<usize>),
    Nobody,
}

/// One event, and what it is to the checker. It is known by its event id, which follows from what it says.
#[derive(Debug, Clone)]
pub struct Statement {
    pub id: String,
    /// The machine that it is published at.
    pub site: Site,
    /// The node that runs there.
    pub node: usize,
    /// The class that its own content has.
    pub class: usize,
    pub audience: For,
    /// The statement that it corrects or retracts.
    pub revises: Option<String>,
    /// The encoded `SignedEvent`.
    pub bytes: Bytes,
    /// When it was first handed to the node, simulated milliseconds.
    pub said_ms: u64,
    event: Event,
}

/// Who publishes at one machine.
pub struct Writer {
    site: Site,
    node: usize,
    nodes: usize,
    number: u32,
    /// What has not been corrected or retracted yet.
    heads: Vec<Statement>,
    random: fastrand::Rng,
}

impl Writer {
    /// A writer at a machine of a node of so many, who numbers what she says from `number` on.
    pub fn new(site: Site, node: usize, nodes: usize, number: u32, seed: u64) -> Self {
        Self { site, node, nodes, number, heads: Vec::new(), random: fastrand::Rng::with_seed(seed) }
    }

    /// Some statements, one after the other.
    pub fn say(&mut self, count: usize, now_ms: u64) -> Vec<Statement> {
        (0..count)
            .map(|_| {
                if self.heads.is_empty() || self.random.u8(..4) > 0 {
                    self.new_one(now_ms)
                } else {
                    self.revision(now_ms)
                }
            })
            .collect()
    }

    fn new_one(&mut self, now_ms: u64) -> Statement {
        self.number += 1;
        let class = self.random.usize(..CLASSES.len());
        let audience = match self.random.u8(..10) {
            0 => For::Nobody,
            1 | 2 => {
                let named = self.random.usize(..self.nodes);
                For::Nodes((0..self.nodes).filter(|node| *node == named || self.random.bool()).collect())
            }
            _ => For::Everybody,
        };
        let (reach, participants) = match &audience {
            For::Everybody => (Reach::Network, Vec::new()),
            For::Nodes(nodes) => {
                (Reach::Named, nodes.iter().map(|node| format!("spiffe://{}.example/*", letter(*node))).collect())
            }
            For::Nobody => (Reach::Private, Vec::new()),
        };
        let event = Event {
            publisher: format!("spiffe://{}.example/terminal/1", letter(self.node)),
            audience: Some(Audience { reach: reach.into(), participants }),
            ..Voyage::new(self.number, HAPPENED_NS).discharged()
        };
        let statement = self.statement(of_class(event, class).with_id(), class, audience, None, now_ms);
        self.heads.push(statement.clone());
        statement
    }

    fn revision(&mut self, now_ms: u64) -> Statement {
        let original = self.heads.swap_remove(self.random.usize(..self.heads.len()));
        let retracts = self.random.bool();
        let class = if retracts { original.class } else { self.random.usize(..CLASSES.len()) };
        let event = if retracts {
            original.event.retracted()
        } else {
            original.event.corrected(|event| *event = of_class(event.clone(), class))
        };
        let revision = self.statement(event, class, original.audience.clone(), Some(original.id), now_ms);
        if !retracts {
            self.heads.push(revision.clone());
        }
        revision
    }

    fn statement(&self, event: Event, class: usize, audience: For, revises: Option<String>, said_ms: u64) -> Statement {
        let bytes = Bytes::from(event.unsigned().encode_to_vec());
        let (id, site, node) = (event.event_id.clone(), self.site, self.node);
        Statement { id, site, node, class, audience, revises, bytes, said_ms, event }
    }
}

impl Statement {
    /// As the publish door hands it to the log.
    pub fn new_event(&self) -> NewEvent {
        let event_id = EventId::parse(&self.id).expect("a good id");
        let publisher = SpiffeId::parse(&self.event.publisher).expect("a good name");
        let header = routing_header(&self.event, event_id, publisher.clone()).encode();
        NewEvent { publisher, event_id, header: header.into(), signed: self.bytes.clone(), origin: None }
    }
}

/// The id of the event of some stored bytes.
pub fn id_of(signed: &Bytes) -> String {
    let signed = tradelane::wire::SignedEvent::decode(signed.clone()).expect("what the doors store");
    Event::decode(signed.event).expect("an event").event_id
}

fn of_class(mut event: Event, class: usize) -> Event {
    if let Some(loading) = event.places.last_mut() {
        CLASSES[class].clone_into(&mut loading.un_locode);
    }
    event
}
