//! What live readers and the log may cost: `[subscriptions]` and `[storage]`. It never opens anything; the rooms that keep the limits say
//! what each one protects.

use std::time::Duration;

use super::read::Reader;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// `[subscriptions]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionsConfig {
    /// A reader that takes nothing for so long is ended.
    pub stall_timeout: Duration,
    /// How often a reader is told of progress while nothing matches.
    pub progress_interval: Duration,
    /// Messages that wait for one reader.
    pub window_messages_max: usize,
    /// Live subscriptions together.
    pub sessions_max: usize,
    /// Durable subscriptions of one participant.
    pub durable_per_participant_max: usize,
    /// Connected consumers of durable subscriptions together.
    pub consumers_max: usize,
}

/// `[storage]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// Each half of the journal, where it is created.
    pub journal_half_bytes: u64,
    /// Publishing is refused below so much free space.
    pub refuse_below_free_bytes: u64,
    /// Memory for durable events that are not yet in their place.
    pub tail_bytes_max: usize,
    /// Memory for requests that wait for their commit.
    pub queue_bytes_max: usize,
    /// Memory for decoded blocks.
    pub block_cache_bytes_max: usize,
    /// Memory for the database's own pages.
    pub page_cache_bytes: u64,
    /// Entries that an index gathers before it writes a run.
    pub index_memory_entries_max: usize,
}

impl SubscriptionsConfig {
    pub(super) fn read(reader: &Reader<'_>) -> Self {
        Self {
            stall_timeout: reader.duration("subscriptions.stall_timeout", Duration::from_secs(1)),
            progress_interval: reader.duration_within(
                "subscriptions.progress_interval",
                Duration::from_millis(100)..=Duration::from_secs(10),
            ),
            window_messages_max: reader.count_up_to("subscriptions.window_messages_max", 1_024) as usize,
            sessions_max: reader.count_up_to("subscriptions.sessions_max", 1_000_000) as usize,
            durable_per_participant_max: reader.count_up_to("subscriptions.durable_per_participant_max", 100_000)
                as usize,
            consumers_max: reader.count_up_to("subscriptions.consumers_max", 1_000_000) as usize,
        }
    }
}

impl StorageConfig {
    pub(super) fn read(reader: &Reader<'_>) -> Self {
        let storage = Self {
            // A start reads both halves into memory.
            journal_half_bytes: reader.size_bytes("storage.journal_half_bytes", 4 * MIB, 512 * MIB) as u64,
            refuse_below_free_bytes: reader.size_bytes("storage.refuse_below_free_bytes", 0, 1024 * GIB) as u64,
            tail_bytes_max: reader.size_bytes("storage.tail_bytes_max", 4 * MIB, GIB),
            // A commit takes up to 8 MiB, and the next one should find its requests waiting.
            queue_bytes_max: reader.size_bytes("storage.queue_bytes_max", 16 * MIB, 4 * GIB),
            block_cache_bytes_max: reader.size_bytes("storage.block_cache_bytes_max", 512 * KIB, 64 * GIB),
            page_cache_bytes: reader.size_bytes("storage.page_cache_bytes", MIB, 64 * GIB) as u64,
            index_memory_entries_max: reader.count_up_to("storage.index_memory_entries_max", 16_000_000) as usize,
        };
        let needed_bytes = (storage.tail_bytes_max + REFUSAL_MARGIN_BYTES) as u64;
        if storage.refuse_below_free_bytes < needed_bytes {
            reader.problem(
                "storage.refuse_below_free_bytes",
                (),
                &format!(
                    "must be at least {needed_bytes}B: \"storage.tail_bytes_max\" and {REFUSAL_MARGIN_BYTES}B for indexes, which are \
                     still to be written once publishing is refused"
                ),
            );
        }
        storage
    }
}

/// What indexes still write after the last event was taken: two memory tables of the usual size, with the pages that they touch.
const REFUSAL_MARGIN_BYTES: usize = 16 * MIB;
