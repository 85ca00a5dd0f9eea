//! The links to other nodes as operators see and steer them: `ListPeers`, `PausePeer`, `ResumePeer`, `ListQuarantine`. It never shows what an
//! event says.

use std::time::Duration as StdDuration;

use prost_types::Duration;
use tokio::time::timeout;
use tonic::Code;

use super::{NodeApi, page::invalid, timestamp};
use crate::{
    api::Refused,
    domain::SpiffeId,
    federation::{
        Direction, LinkState, LinkStatus, PeerStatus, Quarantined,
        operate::{ResumeFrom, ResumeRefused},
        position::LinkPosition,
    },
    identity::{Caller, Peer},
    wire::proto::{self, PeerLinkState, ResumePeerFrom},
};

/// How long an operator's word may take to become durable: writing a small file takes milliseconds, and she waits at a terminal.
const KEPT_WITHIN: StdDuration = StdDuration::from_secs(10);

impl NodeApi {
    pub(super) fn peers(&self) -> proto::ListPeersResponse {
        let all = self.0.federation.list();
        proto::ListPeersResponse { peers: all.iter().map(|(peer, status)| self.peer(peer, status)).collect() }
    }

    pub(super) async fn pause(&self, caller: &Caller, node: &str) -> Result<(), Refused> {
        let node = self.known(node)?;
        self.0.federation.pause(&node);
        self.note_change(caller, "PausePeer", node.as_str());
        self.kept().await
    }

    /// An operator's word is answered once it is durable: a node that is killed a moment later must not forget it.
    async fn kept(&self) -> Result<(), Refused> {
        timeout(KEPT_WITHIN, self.0.federation.table().kept()).await.map_err(|_| {
            let message = "it holds now, and is not yet written: after a restart it may be forgotten; ask again";
            Refused::new(Code::Unavailable, "NOT_YET_DURABLE", message)
        })
    }

    pub(super) async fn resume(&self, caller: &Caller, request: &proto::ResumePeerRequest) -> Result<(), Refused> {
        let node = self.known(&request.node)?;
        let from = match ResumePeerFrom::try_from(request.from) {
            Ok(ResumePeerFrom::Unspecified | ResumePeerFrom::Position) => ResumeFrom::Position,
            Ok(ResumePeerFrom::Beginning) => ResumeFrom::Beginning,
            Ok(ResumePeerFrom::Quarantine) => ResumeFrom::Quarantine,
            Err(_) => {
                let description = "must be RESUME_PEER_FROM_POSITION, _BEGINNING or _QUARANTINE";
                return Err(invalid("from", "ENUM_UNKNOWN", description));
            }
        };
        self.0.federation.resume(&node, from).map_err(|refused| {
            let reason = match refused {
                ResumeRefused::PausedByFile => "PAUSED_BY_FILE",
                ResumeRefused::QuarantineEmpty => "QUARANTINE_EMPTY",
            };
            Refused::new(Code::FailedPrecondition, reason, refused.to_string())
        })?;
        self.note_change(caller, "ResumePeer", &format!("{node} from {from:?}"));
        self.kept().await
    }

    pub(super) fn quarantine(&self, node: &str) -> Result<proto::ListQuarantineResponse, Refused> {
        let status = self.0.federation.table().status(&self.known(node)?);
        Ok(proto::ListQuarantineResponse {
            quarantined: status.progress.quarantine.iter().map(quarantined).collect(),
            refused_there: status.refused_there.iter().map(quarantined).collect(),
        })
    }

    /// A peer of the file, by its name.
    fn known(&self, node: &str) -> Result<SpiffeId, Refused> {
        let id = SpiffeId::parse(node).map_err(|why| invalid("node", "NODE_MALFORMED", why.to_string()))?;
        if self.0.federation.parts().peers.borrow().is_peer(&id) {
            Ok(id)
        } else {
            Err(Refused::new(Code::NotFound, "PEER_UNKNOWN", format!("{id} is not in the peers file")))
        }
    }

    fn peer(&self, peer: &Peer, status: &PeerStatus) -> proto::PeerState {
        let link = |link, position, direction| self.link(status, link, position, direction);
        proto::PeerState {
            node: peer.node.to_string(),
            address: peer.address.as_ref().map(ToString::to_string).unwrap_or_default(),
            homes: peer.homes.iter().map(ToString::to_string).collect(),
            behind: peer.behind.iter().map(ToString::to_string).collect(),
            transit: peer.transit,
            paused: peer.paused || status.progress.paused,
            inbound: Some(link(&status.inbound, status.progress.received, Direction::Inbound)),
            outbound: Some(link(&status.outbound, status.progress.acknowledged, Direction::Outbound)),
            quarantined_count: status.progress.quarantine.len() as u32,
            refused_there_count: status.refused_there.len() as u32,
        }
    }

    fn link(
        &self,
        status: &PeerStatus,
        link: &LinkStatus,
        position: Option<LinkPosition>,
        direction: Direction,
    ) -> proto::PeerLink {
        let lag = self.0.federation.lag(status, direction);
        let head = match direction {
            Direction::Inbound => link.head_sequence,
            Direction::Outbound => self.0.log.tail().borrow().get(),
        };
        proto::PeerLink {
            state: state(link.state).into(),
            since_time: Some(timestamp(link.since_ns)),
            detail: link.detail.clone(),
            notice: status.notice(direction).to_owned(),
            last_contact_time: (link.last_contact_ns != 0).then(|| timestamp(link.last_contact_ns)),
            last_error: link.last_error.clone(),
            position: position.map(|position| position.to_string()).unwrap_or_default(),
            head_sequence: head,
            lag_events: lag.events,
            lag: Some(Duration { seconds: lag.time.as_secs() as i64, nanos: lag.time.subsec_nanos() as i32 }),
            event_count: link.event_count,
            duplicate_count: link.duplicate_count,
            byte_count: link.byte_count,
        }
    }
}

const fn state(state: LinkState) -> PeerLinkState {
    match state {
        LinkState::Idle => PeerLinkState::Idle,
        LinkState::Connecting => PeerLinkState::Connecting,
        LinkState::Streaming => PeerLinkState::Streaming,
        LinkState::CaughtUp => PeerLinkState::CaughtUp,
        LinkState::Paused => PeerLinkState::Paused,
        LinkState::Backoff => PeerLinkState::Backoff,
        LinkState::Diverged => PeerLinkState::Diverged,
        LinkState::Cloned => PeerLinkState::Cloned,
        LinkState::Lapsed => PeerLinkState::Lapsed,
        LinkState::Refused => PeerLinkState::Refused,
    }
}

fn quarantined(event: &Quarantined) -> proto::EventQuarantined {
    proto::EventQuarantined {
        source_sequence: event.source_sequence,
        publisher: event.publisher.clone(),
        event_id: event.event_id.clone(),
        reason: event.reason.clone(),
        detail: event.detail.clone(),
        time: Some(timestamp(event.time_ns)),
    }
}
