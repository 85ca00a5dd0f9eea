//! How fresh the events of each node are at this one, beside every answer and mark that could be read as "nothing happened". It never hides
//! a node that is down or forwards a part.

use std::{fmt, sync::Arc};

use super::recorded::timestamp;
use crate::{
    clock::Clock,
    domain::SpiffeId,
    federation::{Federation, sources::Source},
    wire::proto::{OriginFreshness, OriginLink},
};

/// What is known of this node and of those whose events come to it.
#[derive(Clone)]
pub struct Origins {
    node: SpiffeId,
    clock: Arc<dyn Clock>,
    federation: Arc<Federation>,
}

impl Origins {
    /// Of a node and its links.
    #[must_use]
    pub const fn new(node: SpiffeId, clock: Arc<dyn Clock>, federation: Arc<Federation>) -> Self {
        Self { node, clock, federation }
    }

    /// How fresh the events of each node are: of this one, all through a position, of its peers, and of those behind them.
    #[must_use]
    pub fn as_of(&self, position: String) -> Vec<OriginFreshness> {
        let own = OriginFreshness {
            node: self.node.to_string(),
            complete_through: position,
            complete_time: Some(timestamp(self.clock.now_ns())),
            link: OriginLink::Own.into(),
            is_whole: true,
            lag_events: 0,
            quarantined_count: 0,
        };
        let others = self.federation.sources();
        std::iter::once(own).chain(others.iter().map(freshness)).collect()
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origins").field("node", &self.node).finish_non_exhaustive()
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
