//! Which record an index entry means. Hashes of terms can collide, so both threads and readers ask here before they believe one. It never
//! reads storage.

use crate::{
    domain::{EventId, HeaderRef, SpiffeId},
    log::contract::Record,
    storage::StorageError,
};

/// Whether the record is the event of this identity.
pub(super) fn is_event(record: &Record, publisher: &SpiffeId, event_id: EventId) -> Result<bool, StorageError> {
    let header = header_of(&record.header)?;
    Ok(header.publisher() == publisher.as_str() && header.event_id() == event_id)
}

/// Whether the record revises the event of this identity directly, resolved or not.
pub(super) fn revises(record: &Record, publisher: &str, event_id: EventId) -> Result<bool, StorageError> {
    let header = header_of(&record.header)?;
    let named = header.revises().is_some_and(|revises| revises.event_id == event_id);
    Ok(named && header.publisher() == publisher)
}

/// A stored header, which was well formed when it was stored.
pub(super) fn header_of(bytes: &[u8]) -> Result<HeaderRef<'_>, StorageError> {
    HeaderRef::parse(bytes).map_err(|fault| StorageError::Damaged(fault.to_string()))
}
