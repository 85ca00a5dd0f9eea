//! What a subscription knows of one event. It says only what is kept: what was settled far back looks like what was never delivered.

use super::Machine;
use crate::{domain::Sequence, subscribe::durable::cursor::DeadLetter};

/// Where one event stands in a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is a dead letter.
    DeadLetter(DeadLetter),
    /// It is on its way to a consumer.
    OnItsWay {
        /// Attempts that have ended before.
        attempts: u32,
    },
    /// It was acknowledged, while one before it was not.
    Acknowledged,
    /// The subscription is past it: it was acknowledged, did not match, or the subscription was begun or moved behind it.
    Passed,
    /// It waits to be delivered, if it matches: again, where attempts have ended.
    Waits {
        /// Attempts that have ended.
        attempts: u32,
        /// Why the last one ended.
        reason: String,
    },
}

impl Machine {
    /// Where the event at a place stands.
    #[must_use]
    pub fn standing(&self, sequence: Sequence) -> Standing {
        let open = self.known(sequence);
        if let Some(open) = open
            && open.lease.is_some()
        {
            return Standing::OnItsWay { attempts: open.tried.attempts };
        }
        if let Some(letter) = self.letters.get(&sequence) {
            return Standing::DeadLetter(letter.clone());
        }
        if sequence <= self.low_water {
            return Standing::Passed;
        }
        if self.settled.contains(&sequence) {
            return Standing::Acknowledged;
        }
        let tried = open.map(|open| &open.tried).or_else(|| self.tried.get(&sequence)).cloned().unwrap_or_default();
        Standing::Waits { attempts: tried.attempts, reason: tried.reason }
    }
}
