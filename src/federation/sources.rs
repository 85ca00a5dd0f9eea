//! How fresh and how whole is what comes here of other nodes: what an answer says of its sources. It never judges an answer itself.
//!
//! Whole is about clearances, holds and associations alone, since a release is decided by these: a node that forwards a release and keeps
//! the hold to itself would have its peer open the gate.

use std::time::Duration;

use super::{Federation, FederationParts, LinkState, PeerStatus, history::Version, position::LinkPosition};
use crate::{
    domain::{Filter, Sequence, SpiffeId, filter::FilterSpec},
    identity::Peer,
    wire::raw::WHOLE_ORIGINS_MAX,
};

/// A source that was at the end of its log within this time is heard: several of its signs of life (5 s), so that a link which is dialled
/// anew closes no gate.
pub const HEARD_WITHIN: Duration = Duration::from_secs(60);
/// What decides whether goods may go on.
const DECISIVE: [&str; 3] = ["clearance", "hold", "association"];

/// What comes here of one other node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The node where the events are first admitted.
    pub node: SpiffeId,
    /// How far its log is covered; none where nothing is, and of a node behind a peer, whose log this node never sees.
    pub position: Option<LinkPosition>,
    /// When the link by which its events come last had all of the peer's log, nanoseconds since 1970; 0: not since the process started.
    pub complete_ns: i64,
    /// The place in this node's log up to which that link has brought what was missing before.
    pub complete_from: Sequence,
    /// Whether that link is up.
    pub is_up: bool,
    /// How many sequences of the peer's log are not covered yet, as far as is known.
    pub lag_events: u64,
    /// How many events of that link are in quarantine.
    pub quarantined: usize,
    /// Whether every clearance, hold and association of it is sent, and none of the link's events is in quarantine.
    pub is_whole: bool,
}

impl Source {
    /// A node whose events come over a link of this status.
    fn of(node: &SpiffeId, status: &PeerStatus, position: Option<LinkPosition>) -> Self {
        let covered = status.progress.received.map_or(0, |position| position.sequence.get());
        let quarantined = status.progress.quarantine.len();
        Self {
            node: node.clone(),
            position,
            complete_ns: status.inbound.caught_up_ns,
            complete_from: status.inbound.complete_from,
            is_up: matches!(status.inbound.state, LinkState::Streaming | LinkState::CaughtUp),
            lag_events: status.inbound.head_sequence.saturating_sub(covered),
            quarantined,
            is_whole: quarantined == 0 && status.progress.whole_origins.contains(node.as_str()),
        }
    }

    /// Whether all that decides a release has come here of it up to a place in this node's log, but for what it admitted in the last
    /// moments. The log may have what a view has not.
    #[must_use]
    pub fn is_relied_on(&self, now_ns: i64, through: Sequence) -> bool {
        self.is_whole && self.complete_from <= through && is_heard(self.complete_ns, now_ns)
    }
}

/// Whether a source that was at the end of its log at one time is heard at another.
pub(super) fn is_heard(complete_ns: i64, now_ns: i64) -> bool {
    let heard_within_ns = i64::try_from(HEARD_WITHIN.as_nanos()).unwrap_or(i64::MAX);
    complete_ns != 0 && now_ns.saturating_sub(complete_ns) <= heard_within_ns
}

impl Federation {
    /// What comes here of each other node, peers before those behind them.
    #[must_use]
    pub fn sources(&self) -> Vec<Source> {
        let listed: Vec<_> = self.list().into_iter().filter(|(peer, _)| peer.address.is_some()).collect();
        let mut sources: Vec<Source> = Vec::new();
        let mut behind: Vec<Source> = Vec::new();
        for (peer, status) in &listed {
            sources.push(Source::of(&peer.node, status, status.progress.received));
            behind.extend(peer.behind.iter().map(|node| Source::of(node, status, None)));
        }
        for one in behind {
            // A node that is a peer itself speaks for itself; of two ways to another the better one counts.
            match sources.iter_mut().find(|known| known.node == one.node) {
                Some(known) if known.position.is_some() => {}
                Some(known) if (known.is_whole, known.complete_ns) < (one.is_whole, one.complete_ns) => *known = one,
                Some(_) => {}
                None => sources.push(one),
            }
        }
        sources
    }
}

/// Whether the versions of an agreement let every decisive event through, from the beginning of the log on.
#[must_use]
pub fn decides_wholly(versions: &[Version], begin: u64) -> bool {
    let Some(last) = versions.last() else { return false };
    // A link that began anew under the present version has made up for what earlier ones left out.
    if last.after <= begin {
        return lets_all_through(last);
    }
    versions.first().is_some_and(|first| first.after <= begin) && versions.iter().all(lets_all_through)
}

fn lets_all_through(version: &Version) -> bool {
    DECISIVE.iter().all(|body| {
        let wanted = compiled(&FilterSpec { types: vec![(*body).to_owned()], ..FilterSpec::default() });
        let grants = version.grants.iter().filter(|grant| grant.hidden_before_ns.is_none());
        let wider = grants.flat_map(|grant| &grant.filters).filter_map(compiled);
        wanted.is_some_and(|wanted| wider.into_iter().any(|wider| wanted.is_covered_by(&wider)))
    })
}

fn compiled(spec: &FilterSpec) -> Option<Filter> {
    Filter::compile(spec, true).ok()
}

/// The nodes of which a receiver has every decisive event: none unless it is sent everything by its agreement; this one, and with transit those
/// peers on whose own word this node relies. What peers say of third nodes is not passed on: two that repeat each other's word would go on
/// doing so after it has ceased to be true. `through` is how far the receiver has this node's log.
pub(super) fn sent_wholly(
    parts: &FederationParts,
    receiver: &Peer,
    sends_whole: bool,
    through: Sequence,
) -> Vec<String> {
    if !sends_whole {
        return Vec::new();
    }
    let mut nodes = vec![parts.node.to_string()];
    if receiver.transit {
        let now_ns = parts.clock.now_ns();
        let peers = std::sync::Arc::clone(&parts.peers.borrow());
        let others = peers.peers.iter().filter(|peer| peer.node != receiver.node);
        let relied_on = others.filter(|peer| {
            let status = parts.table.status(&peer.node);
            Source::of(&peer.node, &status, status.progress.received).is_relied_on(now_ns, through)
        });
        nodes.extend(relied_on.map(|peer| peer.node.to_string()).take(WHOLE_ORIGINS_MAX - 1));
    }
    nodes
}
