//! The fold of one declaration's steps, for the whole and for each item that a step names. It never drops a step for being impossible.

use std::collections::{BTreeMap, BTreeSet};

use super::state::{Effect, State};
use crate::domain::SpiffeId;

/// One step, as the fold looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// `ClearanceStep` by number.
    pub step: u8,
    /// Who said so.
    pub authority: SpiffeId,
    /// Of which items; none: of all.
    pub goods_items: Vec<u32>,
}

/// Where a declaration, or one of its items, stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// The state; none where no step is known, or the last is one that nobody here knows.
    pub state: Option<State>,
    /// The step that set it, by its index.
    pub set_by: Option<usize>,
    /// The first step is one with which no history begins: earlier ones are missing here.
    pub history_incomplete: bool,
}

/// What is odd about a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AnomalyKind {
    /// The state cannot follow the one before.
    ImpossibleMove,
    /// Another administration than the one that set the state takes it back, or makes an impossible move from it.
    Contradiction,
}

/// A move that should not be. It stands all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Anomaly {
    /// What is odd.
    pub kind: AnomalyKind,
    /// The state before.
    pub from: State,
    /// The step that had set it, by its index.
    pub from_step: usize,
    /// The state after.
    pub to: State,
    /// The step that set it, by its index.
    pub step: usize,
}

/// What some steps come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lifecycle {
    /// Of the whole: of every item that no step names.
    pub whole: Standing,
    /// Of each item that a step names.
    pub items: BTreeMap<u32, Standing>,
    /// Moves that should not be, in the order of the steps.
    pub anomalies: Vec<Anomaly>,
}

impl Lifecycle {
    /// Folds steps that are in the order of statements.
    #[must_use]
    pub fn fold(steps: &[Step]) -> Self {
        let named: BTreeSet<u32> = steps.iter().flat_map(|step| step.goods_items.iter().copied()).collect();
        let mut anomalies = BTreeSet::new();
        let whole = track(steps, |step| step.goods_items.is_empty(), &mut anomalies);
        let mut item = |number: u32| {
            track(steps, |step| step.goods_items.is_empty() || step.goods_items.contains(&number), &mut anomalies)
        };
        let items = named.into_iter().map(|number| (number, item(number))).collect();
        let mut anomalies: Vec<Anomaly> = anomalies.into_iter().collect();
        anomalies.sort_by_key(|anomaly| (anomaly.step, *anomaly));
        Self { whole, items, anomalies }
    }

    /// Whether it lets the goods go: the whole, and every item that a step names.
    #[must_use]
    pub fn lets_go(&self) -> bool {
        std::iter::once(&self.whole)
            .chain(self.items.values())
            .all(|standing| standing.state.is_some_and(State::lets_go))
    }

    /// Whether earlier steps are missing here.
    #[must_use]
    pub fn history_incomplete(&self) -> bool {
        self.whole.history_incomplete || self.items.values().any(|standing| standing.history_incomplete)
    }
}

/// Folds the steps that concern the whole, or one item.
fn track(steps: &[Step], concerns: impl Fn(&Step) -> bool, anomalies: &mut BTreeSet<Anomaly>) -> Standing {
    let mut standing = Standing::default();
    for (index, step) in steps.iter().enumerate().filter(|(_, step)| concerns(step)) {
        let to = match Effect::of(step.step) {
            Effect::Notice => continue,
            Effect::Unknown => {
                (standing.state, standing.set_by) = (None, Some(index));
                continue;
            }
            Effect::Sets(to) => to,
        };
        match (standing.state, standing.set_by) {
            (None, None) => standing.history_incomplete = !to.begins(),
            // From a state that nobody here knows, any move may be right.
            (None, Some(_)) | (Some(_), None) => {}
            // Said again, it changes nothing, nor since when it is so.
            (Some(from), Some(_)) if from == to => continue,
            (Some(from), Some(from_step)) => {
                let elsewhere = steps[from_step].authority.trust_domain() != step.authority.trust_domain();
                let possible = from.successors().contains(&to);
                let kind = match (possible, elsewhere) {
                    (true, false) => None,
                    (true, true) => to.takes_back().then_some(AnomalyKind::Contradiction),
                    (false, true) => Some(AnomalyKind::Contradiction),
                    (false, false) => Some(AnomalyKind::ImpossibleMove),
                };
                anomalies.extend(kind.map(|kind| Anomaly { kind, from, from_step, to, step: index }));
            }
        }
        (standing.state, standing.set_by) = (Some(to), Some(index));
    }
    standing
}
