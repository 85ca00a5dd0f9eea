//! What becomes of one event at each subscription of the node, for whoever asks why somebody did not get it. It never decides who may ask.

use std::sync::Arc;

use super::{DurableSubscriptions, State, machine::Standing, slot::Slot};
use crate::domain::{Filter, Position, Sequence, SpiffeId};

/// One subscription, and where an event stands in it.
#[derive(Debug, Clone)]
pub struct EventStanding {
    /// Its owner.
    pub owner: SpiffeId,
    /// Its name among the owner's.
    pub name: String,
    /// What it asks for; none: everything.
    pub filters: Arc<[Filter]>,
    /// Whether it delivers.
    pub state: State,
    /// Everything up to here is settled or did not match, durably.
    pub acknowledged: Position,
    /// Where the event stands.
    pub standing: Standing,
}

impl DurableSubscriptions {
    /// Where the event at a place stands in each subscription of one participant, or of all; by owner and name.
    #[must_use]
    pub fn standings(&self, owner: Option<&SpiffeId>, sequence: Sequence) -> Vec<EventStanding> {
        let slots: Vec<(String, Arc<Slot>)> = self.slots(owner);
        let epoch = self.parts.epoch();
        let standing = |(name, slot): (String, Arc<Slot>)| {
            let inner = slot.inner();
            EventStanding {
                owner: slot.owner.clone(),
                name,
                filters: Arc::clone(&inner.filters),
                state: inner.state(),
                acknowledged: Position { epoch, sequence: inner.durable_low_water },
                standing: inner.machine.standing(sequence),
            }
        };
        slots.into_iter().map(standing).collect()
    }
}
