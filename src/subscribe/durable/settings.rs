//! What a durable subscription may be set to, with the limits of each setting. It never decides about an event.

use std::time::Duration;

/// A kind of subject whose events are delivered one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderingKey {
    /// Each consignment.
    Consignment,
    /// Each container.
    Container,
}

/// How a subscription's events are shared among its consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// One active consumer, which acknowledges everything up to an event; the others stand by.
    Ordered,
    /// Competing consumers, which acknowledge each event by itself.
    Shared,
}

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How events are shared.
    pub mode: Mode,
    /// Of which kind of subject events are delivered one after the other; only where the mode is shared.
    pub ordering_key: Option<OrderingKey>,
    /// How long a consumer may take for an event.
    pub lease: Duration,
    /// How many events may be on their way at once, those settled out of turn included.
    pub outstanding_max: u32,
    /// How often an event is delivered before it becomes a dead letter.
    pub attempts_max: u32,
    /// How long an event waits after its first attempt; the wait doubles with each.
    pub backoff_min: Duration,
    /// What the wait grows to.
    pub backoff_max: Duration,
    /// How many dead letters are kept.
    pub dead_letters_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Ordered,
            ordering_key: None,
            lease: Duration::from_secs(30),
            outstanding_max: 1_000,
            attempts_max: 5,
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            dead_letters_max: 1_000,
        }
    }
}

/// The shortest and the longest lease.
pub const LEASE_LIMITS: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(600)];
/// What a wait may be set to.
pub const BACKOFF_MAX: Duration = Duration::from_secs(3600);
/// A rejection may ask for a wait of at most this.
pub const DELAY_MAX: Duration = Duration::from_secs(24 * 3600);
/// The settled and tried events above the acknowledged position are stored with each acknowledgement: with so many they take about 60 KiB.
pub const OUTSTANDING_LIMITS: [u32; 2] = [1, 5_000];
/// How often an event may be delivered.
pub const ATTEMPTS_LIMITS: [u32; 2] = [1, 100];
/// Each dead letter takes about 300 bytes of the node's memory.
pub const DEAD_LETTERS_LIMITS: [u32; 2] = [1, 10_000];
/// A reason is cut to so many bytes.
pub const REASON_BYTES_MAX: usize = 200;

/// One setting outside its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingFault {
    /// Which, by its name in the API.
    pub field: &'static str,
    /// What would be right.
    pub description: String,
}

impl Settings {
    /// Every setting that is outside its limits.
    #[must_use]
    pub fn faults(&self) -> Vec<SettingFault> {
        let mut faults = Vec::new();
        let mut between = |field, value: u64, [least, most]: [u64; 2], unit: &str| {
            if !(least..=most).contains(&value) {
                let description = format!("must be between {least} and {most}{unit}, not {value}");
                faults.push(SettingFault { field, description });
            }
        };
        let numbers = |[least, most]: [u32; 2]| [u64::from(least), u64::from(most)];
        between("lease", self.lease.as_secs(), LEASE_LIMITS.map(|limit| limit.as_secs()), " s");
        between("outstanding_max", self.outstanding_max.into(), numbers(OUTSTANDING_LIMITS), "");
        between("attempts_max", self.attempts_max.into(), numbers(ATTEMPTS_LIMITS), "");
        between("dead_letters_max", self.dead_letters_max.into(), numbers(DEAD_LETTERS_LIMITS), "");
        between("backoff_max", self.backoff_max.as_secs(), [0, BACKOFF_MAX.as_secs()], " s");
        if self.backoff_max < self.backoff_min {
            faults.push(SettingFault { field: "backoff_min", description: "must not be above backoff_max".to_owned() });
        }
        if self.mode == Mode::Ordered && self.ordering_key.is_some() {
            let description = "must be unset where the mode is ORDERED, which keeps all events in order".to_owned();
            faults.push(SettingFault { field: "ordering_key", description });
        }
        faults
    }

    /// How long an event waits after so many attempts.
    #[must_use]
    pub fn backoff(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(20);
        self.backoff_min.saturating_mul(1 << doublings).min(self.backoff_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_the_limits_and_each_limit_is_named() {
        assert_eq!(Settings::default().faults(), []);
        let odd = Settings {
            ordering_key: Some(OrderingKey::Container),
            lease: Duration::from_secs(9),
            outstanding_max: 5_001,
            attempts_max: 0,
            backoff_min: Duration::from_secs(4_000),
            backoff_max: Duration::from_secs(3_601),
            dead_letters_max: 10_001,
            ..Settings::default()
        };
        let fields: Vec<_> = odd.faults().into_iter().map(|fault| fault.field).collect();
        let expected = [
            "lease",
            "outstanding_max",
            "attempts_max",
            "dead_letters_max",
            "backoff_max",
            "backoff_min",
            "ordering_key",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn the_wait_doubles_up_to_its_limit() {
        let waits: Vec<u64> = [1, 2, 3, 7, 100].map(|attempts| Settings::default().backoff(attempts).as_secs()).into();
        assert_eq!(waits, [1, 2, 4, 60, 60]);
    }
}
