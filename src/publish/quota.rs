//! How many events each participant may publish: a bucket of tokens that fills steadily. It never delays anybody: a request that is too
//! much is refused with the time after which it would not be.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::domain::SpiffeId;

/// At most so many participants are counted at once. Beyond, full buckets are forgotten first: they are as good as new ones.
const PARTICIPANTS_MAX: usize = 16_384;

/// A participant publishes more than its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the quota of {events_per_second_max} events a second is used up")]
pub struct QuotaExceeded {
    /// The quota.
    pub events_per_second_max: u32,
    /// When the same request would be within it, if nothing else is published until then.
    pub retry_after: Duration,
}

/// Counts the events of every participant.
#[derive(Debug)]
pub struct EventQuota {
    /// Tokens a second; zero: no quota.
    events_per_second_max: u32,
    /// Tokens that a full bucket holds.
    burst_events_max: u32,
    buckets: Mutex<HashMap<SpiffeId, Bucket>>,
}

/// Tokens in thousandths of an event, so that slow rates lose nothing to rounding.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    milli_events: u64,
    filled_time_ns: i64,
}

impl EventQuota {
    /// A quota of events a second (0: none) and of events at once. A bucket holds at least one full request, else that could never pass.
    #[must_use]
    pub fn new(events_per_second_max: u32, burst_events_max: u32) -> Self {
        let burst_events_max = burst_events_max.max(1_000);
        Self { events_per_second_max, burst_events_max, buckets: Mutex::new(HashMap::new()) }
    }

    /// Takes tokens for a request's events, all or none.
    ///
    /// # Errors
    /// There are too few; none is taken.
    pub fn take(&self, who: &SpiffeId, events: usize, now_ns: i64) -> Result<(), QuotaExceeded> {
        if self.events_per_second_max == 0 {
            return Ok(());
        }
        // Each operation leaves the map whole, so that a panic elsewhere with the lock held harms nothing.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(who) && PARTICIPANTS_MAX <= buckets.len() {
            buckets.retain(|_, bucket| self.filled(*bucket, now_ns).milli_events < self.full());
        }
        let known = buckets.get(who).copied();
        let mut bucket =
            self.filled(known.unwrap_or(Bucket { milli_events: self.full(), filled_time_ns: now_ns }), now_ns);
        let wanted = events as u64 * 1_000;
        let result = match bucket.milli_events.checked_sub(wanted) {
            Some(left) => {
                bucket.milli_events = left;
                Ok(())
            }
            None => Err(self.exceeded(wanted - bucket.milli_events)),
        };
        match buckets.get_mut(who) {
            Some(known) => *known = bucket,
            None => {
                buckets.insert(who.clone(), bucket);
            }
        }
        result
    }

    fn full(&self) -> u64 {
        u64::from(self.burst_events_max) * 1_000
    }

    /// The bucket after the time that has passed. A clock that was set back fills nothing, and starts anew from there.
    fn filled(&self, bucket: Bucket, now_ns: i64) -> Bucket {
        let passed_ns = u128::try_from(now_ns.saturating_sub(bucket.filled_time_ns)).unwrap_or(0);
        let milli_events = passed_ns * u128::from(self.events_per_second_max) / 1_000_000;
        if milli_events == 0 && 0 <= now_ns.saturating_sub(bucket.filled_time_ns) {
            // Too little for a whole token: the time stays counted from where it was.
            return bucket;
        }
        let milli_events = u64::try_from(milli_events).unwrap_or(u64::MAX).saturating_add(bucket.milli_events);
        Bucket { milli_events: milli_events.min(self.full()), filled_time_ns: now_ns }
    }

    fn exceeded(&self, missing_milli_events: u64) -> QuotaExceeded {
        let events_per_second_max = self.events_per_second_max;
        let retry_after = Duration::from_millis(missing_milli_events.div_ceil(u64::from(events_per_second_max)));
        QuotaExceeded { events_per_second_max, retry_after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: i64 = 1_000_000_000;

    fn participant(name: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://port.example/{name}")).expect("a good name")
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let quota = EventQuota::new(100, 1_000);
        let who = participant("a");
        assert_eq!(quota.take(&who, 1_000, 0), Ok(()));
        let refused = quota.take(&who, 50, 0).expect_err("the bucket is empty");
        assert_eq!(refused.retry_after, Duration::from_millis(500));
        assert!(quota.take(&who, 50, SECOND_NS / 2 - 20_000_000).is_err(), "a little too early");
        assert_eq!(quota.take(&who, 50, SECOND_NS / 2), Ok(()), "after exactly the time that was told");
        assert_eq!(quota.take(&participant("b"), 1_000, 0), Ok(()), "another's quota is untouched");
    }

    #[test]
    fn small_steps_add_up_and_a_clock_set_back_neither_fills_nor_locks_out() {
        let quota = EventQuota::new(1, 0);
        let who = participant("a");
        assert_eq!(quota.take(&who, 1_000, 0), Ok(()));
        for step in 1..=9_999 {
            assert!(quota.take(&who, 1, step * SECOND_NS / 10_000).is_err());
        }
        assert_eq!(quota.take(&who, 1, SECOND_NS), Ok(()), "looking often does not slow the filling");
        assert!(quota.take(&who, 1, -5 * SECOND_NS).is_err());
        assert_eq!(quota.take(&who, 1, -4 * SECOND_NS), Ok(()));
    }

    #[test]
    fn no_quota_refuses_nothing() {
        let quota = EventQuota::new(0, 0);
        assert_eq!(quota.take(&participant("a"), 1_000_000, 0), Ok(()));
    }
}
