//! The sources of a clearance: how fresh each node's events are here, and whether a release may rest on them. It never hides a source that
//! is down or forwards a part, and never lets goods go while one of those that have part in them is.

use std::collections::BTreeSet;

use crate::{
    api::{queries::Queries, recorded::timestamp},
    domain::{Sequence, SpiffeId},
    federation::sources::Source,
    wire::proto::{OriginFreshness, OriginLink},
};

impl Queries {
    /// How fresh the events of each node are: of this one, of its peers, and of those behind them.
    pub(super) fn origins(&self, through: Sequence) -> Vec<OriginFreshness> {
        let own = OriginFreshness {
            node: self.parts.node.to_string(),
            complete_through: self.position(through),
            complete_time: Some(timestamp(self.parts.clock.now_ns())),
            link: OriginLink::Own.into(),
            is_whole: true,
            lag_events: 0,
            quarantined_count: 0,
        };
        let others = self.parts.federation.sources();
        std::iter::once(own).chain(others.iter().map(freshness)).collect()
    }

    /// Whether all that decides a release has come from each of some nodes, as far as the answer reflects the log.
    pub(super) fn relies_on(&self, nodes: &BTreeSet<SpiffeId>, through: Sequence) -> bool {
        if nodes.is_empty() {
            return true;
        }
        let now_ns = self.parts.clock.now_ns();
        let sources = self.parts.federation.sources();
        let is_relied_on =
            |node: &SpiffeId| sources.iter().any(|source| source.node == *node && source.is_relied_on(now_ns, through));
        nodes.iter().all(is_relied_on)
    }
}

fn freshness(source: &Source) -> OriginFreshness {
    OriginFreshness {
        node: source.node.to_string(),
        complete_through: source.position.as_ref().map(ToString::to_string).unwrap_or_default(),
        complete_time: (source.complete_ns != 0).then(|| timestamp(source.complete_ns)),
        link: if source.is_up { OriginLink::Up.into() } else { OriginLink::Down.into() },
        is_whole: source.is_whole,
        lag_events: source.lag_events,
        quarantined_count: source.quarantined as u32,
    }
}
