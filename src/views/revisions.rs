//! Which event revises which, among some events of a log. It never says what of it the caller may read: it knows only what it was given.

use std::collections::BTreeMap;

use super::{decoded::Decoded, fold_order::FoldKey};
use crate::domain::{EventId, SpiffeId};

/// The revised events, each with what revises it.
#[derive(Debug, Default)]
pub struct Revisions {
    revised: BTreeMap<(SpiffeId, EventId), (FoldKey, EventId)>,
}

impl Revisions {
    /// Takes an event in.
    pub fn note(&mut self, decoded: &Decoded) {
        if let Some(revised) = decoded.revises {
            let by = (decoded.fold_key(), decoded.event_id);
            let known = self.revised.entry((decoded.publisher.clone(), revised)).or_insert_with(|| by.clone());
            // Where two revise one, which only nodes apart can bring about, the later word counts at every node.
            if *known < by {
                *known = by;
            }
        }
    }

    /// The event that revises this one.
    #[must_use]
    pub fn of(&self, decoded: &Decoded) -> Option<EventId> {
        self.revised.get(&(decoded.publisher.clone(), decoded.event_id)).map(|(_, event_id)| *event_id)
    }
}
