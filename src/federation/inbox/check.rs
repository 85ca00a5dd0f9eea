//! Whether a batch goes on where the last one ended, without a gap. It never looks into an event.

use crate::{
    federation::{ended::Ended, position::LinkPosition},
    wire::{ReplicaBatch, raw::EVENTS_PER_BATCH_MAX},
};

/// Whether the batch goes on where the last one ended. Revisions that stand before their originals are taken behind these, by versions of
/// the protocol that have them.
pub(super) fn check(
    batch: &ReplicaBatch,
    position: &LinkPosition,
    takes_early_revisions: bool,
) -> Result<LinkPosition, Ended> {
    let through = batch.through.as_ref().and_then(LinkPosition::read);
    let through = through.ok_or_else(|| Ended::protocol("a batch says no end, or a malformed one"))?;
    if batch.after_sequence != position.sequence.get() {
        let detail =
            format!("a batch goes on after sequence {}, and the last one ended at {}", batch.after_sequence, position);
        return Err(Ended::refused("GAP", &detail));
    }
    if through.epoch != position.epoch || through.sequence < position.sequence {
        let detail = format!("a batch ends at {through}, and the last one ended at {position}");
        return Err(Ended::refused("GAP", &detail));
    }
    if through.sequence == position.sequence && through.chain != position.chain {
        return Err(Ended::refused("GAP", "a batch that covers nothing has another hash than the one before"));
    }
    if EVENTS_PER_BATCH_MAX < batch.events.len() {
        let detail = format!("a batch holds more than {EVENTS_PER_BATCH_MAX} events");
        return Err(Ended::refused("FRAME_TOO_LARGE", &detail));
    }
    let mut before = batch.after_sequence;
    for event in &batch.events {
        if takes_early_revisions && event.follows_sequence != 0 {
            let (place, follows) = (event.source_sequence, event.follows_sequence);
            if place == 0 || follows <= place || through.sequence.get() < follows {
                let detail = format!(
                    "an event of sequence {place} is said to follow its original at {follows} in a batch up to {through}"
                );
                return Err(Ended::refused("GAP", &detail));
            }
            continue;
        }
        if event.source_sequence <= before || through.sequence.get() < event.source_sequence {
            let detail =
                format!("an event of sequence {} stands where the batch has {before} before it", event.source_sequence);
            return Err(Ended::refused("GAP", &detail));
        }
        before = event.source_sequence;
    }
    Ok(through)
}
