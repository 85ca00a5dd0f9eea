//! What each participant published since the node started: two numbers a participant. It never holds an event.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::domain::SpiffeId;

/// So many participants are counted; more than a node has connections, and a bound on memory.
const PARTICIPANTS_MAX: usize = 10_000;

/// The counts of all participants.
#[derive(Debug, Default)]
pub struct Published(Mutex<BTreeMap<SpiffeId, Counts>>);

/// The counts of one participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Events stored for the first time.
    pub stored: u64,
    /// Events that were stored before.
    pub duplicates: u64,
}

impl Published {
    /// Adds to a participant's counts.
    pub fn note(&self, who: &SpiffeId, stored: u64, duplicates: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if PARTICIPANTS_MAX <= all.len() && !all.contains_key(who) {
            return;
        }
        let counts = all.entry(who.clone()).or_default();
        counts.stored += stored;
        counts.duplicates += duplicates;
    }

    /// A participant's counts.
    #[must_use]
    pub fn of(&self, who: &SpiffeId) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(who).copied().unwrap_or_default()
    }
}
