//! How long to wait before a connection is tried again: exponential with full jitter, so that a node that comes back is not met by all
//! its clients at once. It never waits itself.

use std::time::Duration;

use crate::clock::{Clock, SystemClock};

/// The first wait is at most this long.
const FIRST_MAX: Duration = Duration::from_millis(500);
/// No wait is longer than this: a person who watches, or a gate that waits, should not be kept longer once the node is back.
const WAIT_MAX: Duration = Duration::from_secs(15);

/// The state of one series of tries.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next wait: anything up to a limit that doubles with each try, but no less than the node asked for.
    pub fn next_wait(&mut self, asked_for: Option<Duration>) -> Duration {
        let limit = FIRST_MAX.saturating_mul(1 << self.tries.min(10)).min(WAIT_MAX);
        self.tries += 1;
        // The last 62 bits of a fresh id are random, and only the clock may be asked for randomness.
        let random = SystemClock.fresh_uuid().as_u64_pair().1 & 0xffff_ffff;
        let jittered = limit.mul_f64(random as f64 / f64::from(u32::MAX));
        jittered.max(asked_for.unwrap_or_default().min(WAIT_MAX))
    }

    /// It worked: the next series begins anew.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// How many times in a row it has failed.
    #[must_use]
    pub const fn tries(&self) -> u32 {
        self.tries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_honour_what_the_node_asks() {
        let mut backoff = Backoff::default();
        assert!(backoff.next_wait(None) <= FIRST_MAX);
        for _ in 0..100 {
            assert!(backoff.next_wait(None) <= WAIT_MAX);
        }
        assert!(backoff.next_wait(Some(Duration::from_secs(14))) >= Duration::from_secs(14));
        assert!(backoff.next_wait(Some(Duration::from_secs(9_999))) <= WAIT_MAX);
        backoff.reset();
        assert_eq!(backoff.tries(), 0);
    }
}
