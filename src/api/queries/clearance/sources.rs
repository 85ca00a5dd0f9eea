//! Whether a release may rest on the sources that it has come from. It never lets goods go while one of those that have part in them is down
//! or forwards a part.

use std::collections::BTreeSet;

use crate::{
    api::queries::Queries,
    domain::{Sequence, SpiffeId},
};

impl Queries {
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

    /// The place in this node's log up to which some nodes have brought what was missing of them before.
    pub(super) fn complete_from(&self, nodes: &BTreeSet<SpiffeId>) -> Sequence {
        let sources = self.parts.federation.sources();
        let theirs = sources.iter().filter(|source| nodes.contains(&source.node));
        theirs.map(|source| source.complete_from).max().unwrap_or(Sequence::ZERO)
    }
}
