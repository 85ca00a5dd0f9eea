//! What goes to a peer: the grants with the action "forward" that name it, the event's audience, and the way that the event has come. It
//! never opens an event: the routing header decides.

use std::sync::Arc;

use prost::Message;

use super::{door::HOPS_MAX, lives, messages};
use crate::{
    domain::{Epoch, HeaderRef, Sequence, SpiffeId, bindings::BindingsFeed, filter::MatchContext},
    identity::{Action, Peer, Peers, Rights, policy::ReadRefusal},
    log::{LogError, OriginFacts, Record, contract::EpochFacts},
    wire::{SignedEvent, proto},
};

/// Why an event is not sent to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// It comes from the peer itself.
    ComesFromThere,
    /// It passed the peer on its way here.
    PassedThere,
    /// It passed as many nodes as an event may.
    TooManyHops,
    /// It was first admitted elsewhere, and the peer is not given transit.
    NoTransit,
    /// It was accepted here before the agreement with the peer begins.
    BeforeStart,
    /// No grant with the action "forward" matches it.
    NotGranted,
    /// Nobody whom its audience names is reached through the peer.
    NotInAudience,
}

impl Withheld {
    /// The reason in words.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::ComesFromThere => "it comes from that node",
            Self::PassedThere => "it passed that node on its way here",
            Self::TooManyHops => "it passed as many nodes as an event may",
            Self::NoTransit => "it was first admitted elsewhere, and that node is not given transit",
            Self::BeforeStart => "it was accepted before the agreement with that node begins",
            Self::NotGranted => "no grant with the action forward matches it",
            Self::NotInAudience => "nobody whom its audience admits is reached through that node",
        }
    }

    /// Whether a revision of which this is said goes all the same where its original went; what is said of its way holds whatever it revises.
    #[must_use]
    pub const fn may_follow_its_original(self) -> bool {
        match self {
            Self::BeforeStart | Self::NotGranted | Self::NotInAudience => true,
            Self::ComesFromThere | Self::PassedThere | Self::TooManyHops | Self::NoTransit => false,
        }
    }
}

/// The agreement with one peer under one reading of the files.
pub struct Agreement {
    /// This node.
    pub own: SpiffeId,
    /// The lives of this node's log.
    pub epochs: Arc<[EpochFacts]>,
    /// Who lives where.
    pub peers: Arc<Peers>,
    /// With whom.
    pub peer: Arc<Peer>,
    /// What it is granted.
    pub rights: Rights,
    /// The lives of the peer's log with what it kept of each, the present one first: what it lost goes back to it.
    pub peer_epochs: Vec<(Epoch, Sequence)>,
    /// What associations bind.
    pub bindings: Arc<dyn BindingsFeed>,
}

impl Agreement {
    /// Whether an event goes to the peer.
    ///
    /// # Errors
    /// The stored header cannot be read.
    pub fn judge(&self, record: &Record, now_ns: i64) -> Result<Result<(), Withheld>, LogError> {
        if let Some(origin) = &record.origin {
            if origin.node == self.peer.node {
                return Ok(if self.has_lost(origin) { Ok(()) } else { Err(Withheld::ComesFromThere) });
            }
            if origin.via.contains(&self.peer.node) {
                return Ok(Err(Withheld::PassedThere));
            }
            if HOPS_MAX <= origin.via.len() {
                return Ok(Err(Withheld::TooManyHops));
            }
            if !self.peer.transit && origin.node != self.own {
                return Ok(Err(Withheld::NoTransit));
            }
        }
        Ok(match self.grants(&self.rights, record, now_ns)? {
            None => Ok(()),
            Some(withheld) => Err(withheld),
        })
    }

    /// Whether an event of this node's own, which came back after a restore, had gone from here to the peer.
    #[must_use]
    pub fn took_from_here(&self, record: &Record) -> bool {
        let taken = |origin: &OriginFacts| origin.node == self.own && origin.via.first() == Some(&self.peer.node);
        record.origin.as_deref().is_some_and(taken)
    }

    /// Whether an event of this node's own was first admitted in a life before another one.
    #[must_use]
    pub fn was_before(&self, origin: &OriginFacts, life: &str) -> bool {
        let lives = || self.epochs.iter().map(|life| life.epoch);
        lives().skip_while(|known| known.to_string() != life).skip(1).any(|earlier| earlier == origin.epoch)
    }

    /// Why some grants, those in force or earlier ones, do not let an event go to the peer, whatever its way; none where they do.
    ///
    /// # Errors
    /// The stored header cannot be read.
    pub fn grants(&self, rights: &Rights, record: &Record, now_ns: i64) -> Result<Option<Withheld>, LogError> {
        if self.peer.from_time_ns.is_some_and(|from| record.accepted_time_ns < from) {
            return Ok(Some(Withheld::BeforeStart));
        }
        let header = HeaderRef::parse(&record.header)
            .map_err(|fault| LogError::Damaged(format!("event at sequence {}: {fault}", record.sequence)))?;
        let context = MatchContext {
            accepted_time_ns: record.accepted_time_ns,
            origin_node: record.origin.as_ref().map_or(self.own.as_str(), |origin| origin.node.as_str()),
            caller: rights.who.as_str(),
            bindings: &*self.bindings,
        };
        let is_reached = |domain: &str| self.peers.is_reached_through(&self.peer, domain);
        Ok(rights.forward_refusal(&header, &context, now_ns, &is_reached).map(|refusal| match refusal {
            ReadRefusal::NotGranted => Withheld::NotGranted,
            ReadRefusal::BeforeGrantStart => Withheld::BeforeStart,
            ReadRefusal::NotInAudience => Withheld::NotInAudience,
        }))
    }

    /// Whether associations decide what is sent: events are then judged only when those before them are applied.
    #[must_use]
    pub fn needs_bindings(&self) -> bool {
        let forwarding = self.rights.grants.iter().filter(|grant| grant.actions.contains(&Action::Forward));
        let mut parties = forwarding.flat_map(|grant| &grant.filters).flat_map(|filter| &filter.parties);
        parties.any(|party| !party.participant.is_empty())
    }

    /// The event as it travels to the peer.
    ///
    /// # Errors
    /// The stored bytes are not what the doors store.
    pub fn message(&self, record: &Record) -> Result<proto::ReplicatedEvent, LogError> {
        let signed = SignedEvent::decode(record.signed.clone())
            .map_err(|fault| LogError::Damaged(format!("event at sequence {}: {fault}", record.sequence)))?;
        let (origin, via) = match &record.origin {
            Some(origin) => {
                (origin_message(origin), origin.via.iter().chain([&self.own]).map(ToString::to_string).collect())
            }
            None => (self.own_origin(record), Vec::new()),
        };
        Ok(proto::ReplicatedEvent {
            signed: Some(signed),
            origin: Some(origin),
            via,
            source_sequence: record.sequence.get(),
            follows_sequence: 0,
        })
    }

    /// Whether the peer's log, restored from a backup, has lost an event that was first admitted there.
    fn has_lost(&self, origin: &OriginFacts) -> bool {
        let earlier = self.peer_epochs.iter().skip(1);
        earlier.into_iter().any(|(epoch, kept)| *epoch == origin.epoch && *kept < origin.sequence)
    }

    fn own_origin(&self, record: &Record) -> proto::Origin {
        proto::Origin {
            node: self.own.to_string(),
            epoch: lives::life_of(&self.epochs, record.sequence).to_string(),
            sequence: record.sequence.get(),
            accepted_time: Some(messages::timestamp(record.accepted_time_ns)),
        }
    }
}

fn origin_message(origin: &OriginFacts) -> proto::Origin {
    proto::Origin {
        node: origin.node.to_string(),
        epoch: origin.epoch.to_string(),
        sequence: origin.sequence.get(),
        accepted_time: Some(messages::timestamp(origin.accepted_time_ns)),
    }
}

impl std::fmt::Debug for Agreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agreement").field("peer", &self.peer).field("rights", &self.rights).finish_non_exhaustive()
    }
}
