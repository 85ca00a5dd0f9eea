//! Whom to tell of associations that widened the owner's view, and how far that is dealt with. It never takes for dealt with what no consumer
//! said so of.

use super::{ConsumerId, Machine, Outcome};
use crate::domain::Sequence;

impl Machine {
    /// Who is to be told of what widened the owner's view, and after which place: the active consumer of an ordered subscription; of a shared
    /// one whoever was told of what is not dealt with yet, else the first.
    #[must_use]
    pub fn widening_listener(&self) -> Option<(ConsumerId, Sequence)> {
        let told = |consumer: ConsumerId| self.consumers.get(&consumer).map(|known| (known.widenings_told, consumer));
        let (told, listener) = if self.is_ordered() {
            self.active.and_then(told)?
        } else {
            let first_of_most_told = |one: &(Sequence, ConsumerId)| (one.0, std::cmp::Reverse(one.1));
            self.consumers().filter_map(told).max_by_key(first_of_most_told)?
        };
        Some((listener, told.max(self.widenings_handled)))
    }

    /// A consumer was told of all that widened the owner's view up to a place.
    pub fn told_widenings(&mut self, consumer: ConsumerId, through: Sequence) {
        if let Some(known) = self.consumers.get_mut(&consumer) {
            known.widenings_told = known.widenings_told.max(through);
        }
    }

    /// A consumer has dealt with what it was told up to a place.
    pub(super) fn handle_widenings(&mut self, consumer: ConsumerId, through: Sequence) -> Outcome {
        if through <= self.widenings_handled {
            return Outcome::AlreadySettled;
        }
        if self.consumers.get(&consumer).is_none_or(|known| known.widenings_told < through) {
            return Outcome::NotDelivered;
        }
        self.widenings_handled = through;
        self.changed.promised = true;
        Outcome::Done
    }
}
