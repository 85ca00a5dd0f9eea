//! THE PEER DOOR: what an event that a peer brings must be before it goes to the log. Content was judged where the event was first
//! admitted, so an unknown code from a newer node is no fault; who may bring what is judged here. It never repairs anything: what is
//! wrong stops the link where it is forged, and goes into quarantine where it is only bad.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::{lives, messages, position::read_epoch};
use crate::{
    domain::{EventId, HeaderRef, Sequence, SpiffeId, header::AudienceRef},
    identity::{Peer, Peers},
    log::{NewEvent, OriginFacts, contract::EpochFacts},
    wire::{
        SignedEvent,
        door::{EVENT_BYTES_MAX, routing_header},
        proto,
    },
};

/// An event passes at most so many nodes after its origin: more than any chain of exchanges needs, and an end to every loop.
pub const HOPS_MAX: usize = 8;

/// Why an event is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Somebody claims what is not hers to claim: nothing more is taken over this link.
    Forged {
        /// For programs.
        reason: &'static str,
        /// For people.
        detail: String,
    },
    /// The event cannot be taken; the link goes on.
    Bad {
        /// For programs.
        reason: &'static str,
        /// For people.
        detail: String,
    },
}

/// The door for the events of one peer.
#[derive(Debug, Clone)]
pub struct PeerDoor {
    /// This node.
    pub own: SpiffeId,
    /// The lives of this node's log, the present one first.
    pub epochs: Arc<[EpochFacts]>,
    /// Who lives where.
    pub peers: Arc<Peers>,
    /// Who brings the events.
    pub peer: Arc<Peer>,
}

impl PeerDoor {
    /// Admits one event.
    ///
    /// # Errors
    /// It is forged, or bad.
    pub fn admit(&self, brought: &proto::ReplicatedEvent) -> Result<NewEvent, Fault> {
        let origin = self.origin(brought)?;
        let signed = brought.signed.as_ref().ok_or_else(|| bad("EVENT_MISSING", "the message holds no event"))?;
        if EVENT_BYTES_MAX < signed.event.len() {
            let detail = format!("must be at most {EVENT_BYTES_MAX} bytes long, not {}", signed.event.len());
            return Err(bad("EVENT_TOO_LARGE", detail));
        }
        let event = proto::Event::decode(signed.event.clone())
            .map_err(|error| bad("EVENT_UNREADABLE", format!("must be an Event of protobuf: {error}")))?;
        let event_id =
            EventId::parse(&event.event_id).map_err(|why| bad("EVENT_ID_MALFORMED", format!("event_id {why}")))?;
        let publisher =
            SpiffeId::parse(&event.publisher).map_err(|why| bad("PUBLISHER_MALFORMED", format!("publisher {why}")))?;
        self.check_publisher(&publisher, &origin)?;
        let header = Bytes::from(routing_header(&event, event_id, publisher.clone()).encode());
        self.check_audience(&header, &origin)?;
        Ok(NewEvent { publisher, event_id, header, signed: encoded(signed), origin: Some(origin) })
    }

    /// Where the event says that it comes from, and whether this peer may bring it.
    fn origin(&self, brought: &proto::ReplicatedEvent) -> Result<OriginFacts, Fault> {
        let malformed = |what: &str| forged("ORIGIN_MALFORMED", format!("the origin's {what} is malformed"));
        let said = brought.origin.as_ref().ok_or_else(|| malformed("message"))?;
        let node = SpiffeId::parse(&said.node).map_err(|_| malformed("node"))?;
        let epoch = read_epoch(&said.epoch).ok_or_else(|| malformed("epoch"))?;
        let accepted_time_ns =
            said.accepted_time.as_ref().and_then(messages::time_ns).ok_or_else(|| malformed("time"))?;
        let via: Result<Vec<SpiffeId>, _> = brought.via.iter().map(|node| SpiffeId::parse(node)).collect();
        let via = via.map_err(|_| malformed("list of nodes passed"))?;
        let origin = OriginFacts { node, epoch, sequence: Sequence(said.sequence), accepted_time_ns, via };
        if origin.sequence == Sequence::ZERO {
            return Err(malformed("sequence"));
        }
        self.check_way(&origin)?;
        Ok(origin)
    }

    fn check_way(&self, origin: &OriginFacts) -> Result<(), Fault> {
        let peer = &self.peer.node;
        if HOPS_MAX < origin.via.len() {
            return Err(bad("TOO_MANY_HOPS", format!("passed {} nodes, more than {HOPS_MAX}", origin.via.len())));
        }
        // What was lost with this node's disk and came back may have passed it since, and may be lost once more.
        if origin.node != self.own && origin.via.contains(&self.own) {
            return Err(forged("LOOP", "it says that it passed this node before".to_owned()));
        }
        match origin.via.last() {
            None if origin.node != *peer => {
                let detail = format!("it says that it comes straight from {}, which is not who brings it", origin.node);
                return Err(forged("ORIGIN_FORGED", detail));
            }
            Some(last) if last != peer => {
                let detail = format!("the last node that it passed is {last}, which is not who brings it");
                return Err(forged("VIA_FORGED", detail));
            }
            None | Some(_) => {}
        }
        if origin.node == self.own {
            return self.check_own(origin);
        }
        if origin.node != *peer && !self.peer.behind.contains(&origin.node) {
            let detail = format!("{} does not stand behind {peer} in the peers file", origin.node);
            return Err(forged("ORIGIN_NOT_ALLOWED", detail));
        }
        Ok(())
    }

    /// What this node lost when it was restored from a backup comes back; its present life's events only ever come from itself.
    fn check_own(&self, origin: &OriginFacts) -> Result<(), Fault> {
        let Some(at) = self.epochs.iter().position(|life| life.epoch == origin.epoch) else {
            return Err(forged(
                "ORIGIN_FORGED",
                "it is said to be of a life of this node's log that never was".to_owned(),
            ));
        };
        if at == 0 {
            return Err(forged("ORIGIN_FORGED", "it is said to be of the present life of this node's log".to_owned()));
        }
        let kept = lives::kept(&self.epochs, at);
        if origin.sequence <= kept {
            let detail = format!("this log kept that life up to sequence {kept} itself");
            return Err(bad("ORIGIN_KNOWN", detail));
        }
        Ok(())
    }

    fn check_publisher(&self, publisher: &SpiffeId, origin: &OriginFacts) -> Result<(), Fault> {
        let domain = publisher.trust_domain();
        let homes = if origin.node == self.own {
            Some(&self.peers.homes)
        } else {
            self.peers.get(&origin.node).map(|node| &node.homes)
        };
        if homes.is_some_and(|homes| homes.iter().any(|home| home.as_str() == domain)) {
            return Ok(());
        }
        let detail = format!("{publisher} is not at home at {}", origin.node);
        Err(forged("PUBLISHER_NOT_AT_HOME", detail))
    }

    /// An event for named participants comes here only where one of them lives here or beyond; a private one only to a standby.
    fn check_audience(&self, header: &[u8], origin: &OriginFacts) -> Result<(), Fault> {
        if self.peer.private || origin.node == self.own {
            return Ok(());
        }
        let header = HeaderRef::parse(header).map_err(|fault| bad("EVENT_UNREADABLE", fault.to_string()))?;
        let lives_here = |pattern: &str| {
            let domain = pattern.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
            let beyond = self.peers.peers.iter().filter(|other| other.node != self.peer.node);
            let mut homes = self.peers.homes.iter().chain(beyond.flat_map(|other| &other.homes));
            homes.any(|home| home.as_str() == domain)
        };
        match header.audience() {
            AudienceRef::Network => Ok(()),
            AudienceRef::Private => Err(bad("NOT_FOR_HERE", "it is private to its publisher, who does not live here")),
            AudienceRef::Named(mut patterns) => {
                if patterns.any(lives_here) {
                    Ok(())
                } else {
                    Err(bad("NOT_FOR_HERE", "none of the participants that its audience names lives here"))
                }
            }
        }
    }
}

/// The publisher and the id that an event bears, as far as they can be read: for telling people which one it is.
#[must_use]
pub fn peek(brought: &proto::ReplicatedEvent) -> (String, String) {
    let bytes = brought.signed.as_ref().map(|signed| signed.event.clone()).unwrap_or_default();
    let event = proto::Event::decode(bytes).unwrap_or_default();
    let readable =
        |text: String| if text.len() <= crate::domain::spiffe::SPIFFE_ID_BYTES_MAX { text } else { String::new() };
    (readable(event.publisher), readable(event.event_id))
}

fn encoded(signed: &SignedEvent) -> Bytes {
    Bytes::from(signed.encode_to_vec())
}

fn bad(reason: &'static str, detail: impl Into<String>) -> Fault {
    Fault::Bad { reason, detail: detail.into() }
}

fn forged(reason: &'static str, detail: String) -> Fault {
    Fault::Forged { reason, detail }
}
