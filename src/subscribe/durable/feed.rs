//! From the log into a subscription: reads as far as there is room, judges by the owner's rights and filters, and offers what is to be seen.
//! It never looks at a place twice under the same filter, nor passes one over.

use std::{sync::Arc, time::Duration};

use super::{
    DurableParts, OrderingKey,
    machine::Keys,
    slot::{Inner, Slot},
};
use crate::{
    domain::{HeaderRef, Sequence},
    log::{Chunk, FollowError, Follower, LogError, Record},
    subscribe::sight::Sight,
    wire::proto::IdentifierKind,
};

/// The log is read in stretches of about so many bytes.
const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Where associations take longer than this to be applied, the stretch is read again: whoever consumes must not wait for it.
const ASSOCIATIONS_WAIT: Duration = Duration::from_secs(1);
/// The log is read again when so much of the room is free, so that each acknowledgement does not read a stretch for one event.
const ROOM_SHARE: usize = 4;
/// What names a container.
const CONTAINER: [IdentifierKind; 1] = [IdentifierKind::Container];
/// What names a consignment.
const CONSIGNMENT: [IdentifierKind; 7] = [
    IdentifierKind::BillOfLading,
    IdentifierKind::HouseBillOfLading,
    IdentifierKind::AirWaybill,
    IdentifierKind::HouseAirWaybill,
    IdentifierKind::RailConsignment,
    IdentifierKind::RoadConsignment,
    IdentifierKind::Ucr,
];

/// What the owner sees, under one revision of the subscription.
pub(super) struct Seen {
    pub(super) sight: Sight,
    pub(super) revision: u64,
    /// When a grant begins or ends, nanoseconds since 1970.
    pub(super) until_ns: i64,
}

/// Reads one subscription's log.
#[derive(Default)]
pub(super) struct Feed {
    follower: Option<Follower>,
    /// Up to here the subscription has heard of what the follower examined.
    told: Sequence,
    /// The last stretch held nothing to be seen.
    seen_nothing: bool,
}

impl Inner {
    /// Whether the log is to be read on.
    pub(super) fn wants_more(&self) -> bool {
        let room = self.machine.room();
        let much = room * ROOM_SHARE >= self.definition.settings.outstanding_max as usize;
        self.machine.wants_events() && room > 0 && (much || !self.machine.has_ready())
    }
}

impl Feed {
    /// What was read is read again.
    pub(super) fn restart(&mut self) {
        self.follower = None;
    }

    /// The next stretch after a place; `may_rest` where nobody waits to hear that this was the last one. Cancel-safe: as the follower is.
    pub(super) async fn next(
        &mut self,
        parts: &DurableParts,
        seen: &Seen,
        after: Sequence,
        may_rest: bool,
    ) -> Result<Chunk, FollowError> {
        if self.follower.is_none() || self.told != after {
            let follower = Follower::new(Arc::clone(&parts.log), after, CHUNK_BYTES_MAX, seen.sight.term_plan());
            (self.follower, self.told) = (Some(follower.resting_at(&parts.lookout)), after);
        }
        let follower = self.follower.as_mut().expect("it was made just now");
        follower.set_quiet(self.seen_nothing && may_rest);
        follower.next().await
    }

    /// Tells the subscription of what its follower passed over at rest. `still` says whether the rights are those of before.
    pub(super) fn pass_over(&mut self, slot: &Slot, revision: u64, still: impl Fn() -> bool) {
        let Some(follower) = &mut self.follower else { return };
        let through = follower.pass_over();
        // Asked afterwards: what they admit since then was not passed over under them.
        if self.told == through || !still() {
            return;
        }
        let mut inner = slot.inner();
        if inner.definition.revision == revision && inner.machine.examined() == self.told {
            inner.machine.examined_through(through);
            self.told = through;
        }
    }

    /// Judges a stretch and offers what is to be seen, as far as there is room: what was not offered is read again. `still` says whether the
    /// rights are those of before.
    pub(super) async fn offer(
        &mut self,
        slot: &Slot,
        parts: &DurableParts,
        seen: &Seen,
        (chunk, after): (&Chunk, Sequence),
        still: impl Fn() -> bool,
    ) -> Result<(), LogError> {
        // It goes on only behind a stretch that was offered as a whole.
        let follower = self.follower.take();
        if seen.sight.needs_bindings() {
            let mut associations = parts.bindings.progress();
            let applied = associations.wait_for(|applied| *applied >= chunk.through);
            if tokio::time::timeout(ASSOCIATIONS_WAIT, applied).await.is_err() {
                return Ok(());
            }
        }
        if !still() {
            return Ok(());
        }
        let now_ns = parts.clock.now_ns();
        let room = slot.inner().machine.room();
        let judged = judge(&chunk.records, &seen.sight, room, now_ns)?;
        let mut inner = slot.inner();
        // Another filter, a seek: the stretch is read again under it.
        if inner.definition.revision != seen.revision || inner.machine.examined() != after {
            return Ok(());
        }
        let ordering_key = inner.definition.settings.ordering_key;
        for (record, matches) in chunk.records.iter().zip(&judged) {
            if !matches {
                inner.machine.examined_through(record.sequence);
            } else if !inner.machine.offer(record.sequence, keys(record, ordering_key)?, now_ns) {
                return Ok(());
            }
        }
        if judged.len() == chunk.records.len() {
            inner.machine.examined_through(chunk.through);
            (self.follower, self.told, self.seen_nothing) = (follower, chunk.through, !judged.contains(&true));
        }
        Ok(())
    }
}

/// Which events are to be seen, up to one more match than there is room for.
fn judge(records: &[Record], sight: &Sight, room: usize, now_ns: i64) -> Result<Vec<bool>, LogError> {
    let (mut judged, mut matching) = (Vec::with_capacity(records.len()), 0);
    for record in records {
        if matching > room {
            break;
        }
        let matches = sight.admits(record, now_ns)?;
        matching += usize::from(matches);
        judged.push(matches);
    }
    Ok(judged)
}

/// What orders an event among others.
fn keys(record: &Record, ordering_key: Option<OrderingKey>) -> Result<Keys, LogError> {
    let kinds: &[IdentifierKind] = match ordering_key {
        None => return Ok(Keys::default()),
        Some(OrderingKey::Container) => &CONTAINER,
        Some(OrderingKey::Consignment) => &CONSIGNMENT,
    };
    let header = HeaderRef::parse(&record.header)
        .map_err(|fault| LogError::Damaged(format!("event at sequence {}: {fault}", record.sequence)))?;
    let of_kind = header.subjects().filter(|subject| kinds.iter().any(|kind| *kind as i32 == i32::from(subject.kind)));
    let mut keys: Vec<u64> = of_kind
        .map(|subject| {
            let seed = xxhash_rust::xxh3::xxh3_64(subject.issuer.as_bytes());
            xxhash_rust::xxh3::xxh3_64_with_seed(subject.value.as_bytes(), seed)
        })
        .collect();
    keys.sort_unstable();
    keys.dedup();
    Ok(keys.into())
}
