//! The subscriptions as a start finds them. A position that the present log has not is never passed over in silence, and what cannot be read
//! keeps the node from starting.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::{
    Cursor, DeadLetter, Definition, Machine,
    slot::Slot,
    writing::{letter_key, letter_place},
};
use crate::{
    domain::{Position, Sequence, SpiffeId},
    log::contract::EpochFacts,
    store::{Change, StateStore, Table},
    subscribe::start::{current, in_this_life},
};

/// What is stored, and what of it belongs to nothing any more.
pub(super) struct Stored {
    pub(super) slots: Vec<(SpiffeId, String, std::sync::Arc<Slot>)>,
    pub(super) remains: Vec<Change>,
}

type Letters = BTreeMap<Sequence, DeadLetter>;

/// Reads all of it.
pub(super) fn read(store: &dyn StateStore, epochs: &[EpochFacts]) -> Result<Stored, String> {
    let wrong = |what: &str| format!("a stored subscription cannot be read: {what}");
    let mut letters: HashMap<Uuid, Letters> = HashMap::new();
    for (key, value) in store.load(Table::DeadLetters, b"") {
        let (id, place) = letter_place(&key).ok_or_else(|| wrong("a dead letter has a malformed key"))?;
        let letter = DeadLetter::decode(&value).map_err(|fault| wrong(&fault.to_string()))?;
        letters.entry(id).or_default().insert(place, letter);
    }
    let mut cursors: BTreeMap<_, _> = store.load(Table::Cursors, b"").into_iter().collect();
    let mut stored = Stored { slots: Vec::new(), remains: Vec::new() };
    for (key, value) in store.load(Table::Subscriptions, b"") {
        let id = Uuid::from_slice(&key).map_err(|error| wrong(&error.to_string()))?;
        let (definition, owner, filters) = Definition::decode(&value).map_err(|what| wrong(&what))?;
        let cursor = cursors.remove(&key).ok_or_else(|| wrong("its position is missing"))?;
        let mut cursor = Cursor::decode(&cursor).map_err(|fault| wrong(&fault.to_string()))?;
        let mut own = letters.remove(&id).unwrap_or_default();
        let place = |sequence| Position { epoch: cursor.epoch, sequence };
        let is_here = |sequence: &Sequence| in_this_life(epochs, place(*sequence)).is_ok();
        let lost = in_this_life(epochs, place(cursor.low_water)).err();
        if lost.is_none() && cursor.epoch != current(epochs) {
            // After the fork stand other events than those that this was said of.
            let gone: BTreeSet<Sequence> = own.keys().copied().filter(|sequence| !is_here(sequence)).collect();
            let settled = cursor.settled.iter().copied().filter(is_here).collect();
            let tried =
                cursor.tried.iter().filter(|(sequence, _)| is_here(sequence)).map(|(at, tried)| (*at, tried.clone()));
            cursor = Cursor {
                epoch: current(epochs),
                low_water: cursor.low_water,
                // Told again rather than not at all.
                widenings_handled: Some(cursor.widenings_handled).filter(is_here).unwrap_or(cursor.low_water),
                settled,
                tried: tried.collect::<BTreeMap<_, _>>(),
            };
            if !gone.is_empty() {
                tracing::warn!(
                    participant = %owner,
                    subscription = definition.name,
                    dead_letters = gone.len(),
                    "dead letters of a subscription are gone with the events that this node's log lost when it was restored"
                );
            }
            own.retain(|sequence, _| !gone.contains(sequence));
            stored.remains.extend(gone.into_iter().map(|sequence| removed(id, sequence)));
        }
        let name = definition.name.clone();
        let machine = Machine::restore(definition.settings.clone(), cursor, own);
        let slot = Slot::new(id, owner.clone(), (definition, filters), machine, lost);
        stored.slots.push((owner, name, slot));
    }
    let orphaned = cursors.into_keys().map(|key| Change { table: Table::Cursors, key, value: None });
    stored.remains.extend(orphaned);
    for (id, letters) in letters {
        stored.remains.extend(letters.into_keys().map(|sequence| removed(id, sequence)));
    }
    Ok(stored)
}

fn removed(id: Uuid, sequence: Sequence) -> Change {
    Change { table: Table::DeadLetters, key: letter_key(id, sequence), value: None }
}
