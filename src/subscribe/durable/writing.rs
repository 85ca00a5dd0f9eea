//! How one subscription is stored: by one task at a time, each write with everything that has changed by then, so that many acknowledgements
//! share a write and no write can overtake another that fails. Where one fails, what is in memory is given up for what is stored. It never
//! answers before what it answers is durable.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use bytes::Bytes;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    ConsumeEnd, Cursor, DeadLetter, DurableParts,
    definition::Definition,
    machine::Machine,
    slot::{Inner, Life, Slot},
};
use crate::{
    domain::Sequence,
    log::LogError,
    store::{Change, StateStore, Table, WriteError},
    subscribe::StartError,
    tasks::OnFailure,
};

/// Dead letters that are written together: about 200 KiB, which leaves room for the rest of a subscription in one write.
const LETTERS_A_WRITE_MAX: usize = 400;

type Answer = oneshot::Sender<Result<(), WriteError>>;

/// What of a subscription is on its way to the disk.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// A task writes.
    running: bool,
    /// Something has changed that it has not taken.
    pending: bool,
    with_definition: bool,
    /// Who waits for what it has taken.
    taken: Vec<Answer>,
    /// Who waits for what it has not.
    next: Vec<Answer>,
}

impl Writes {
    /// The definition has changed too.
    pub(super) const fn note_definition(&mut self) {
        self.with_definition = true;
    }
}

/// A change that is on its way. Dropped, it is made all the same.
#[derive(Debug)]
pub(super) struct Ticket(Option<oneshot::Receiver<Result<(), WriteError>>>);

impl Ticket {
    /// Waits until the change, and every one before it, is durable.
    pub(super) async fn durable(self) -> Result<(), WriteError> {
        match self.0 {
            None => Ok(()),
            Some(answer) => {
                answer.await.unwrap_or_else(|_| Err(WriteError::Storage("the task that writes broke off".to_owned())))
            }
        }
    }
}

/// What is written in one go, in this order.
struct Taken {
    batches: Vec<Vec<Change>>,
    low_water: Sequence,
    /// The first batch removes the subscription; the others what nobody finds without it.
    deletes: bool,
}

impl Slot {
    /// Starts a write where something is `due`, and answers when everything until now is durable.
    pub(super) fn write(self: &Arc<Self>, inner: &mut Inner, parts: &Arc<DurableParts>, due: bool) -> Ticket {
        let due = match inner.life {
            Life::Kept => due || inner.writes.with_definition,
            Life::Deleting => true,
            Life::Gone => false,
        };
        let writes = &mut inner.writes;
        writes.pending |= due;
        if !writes.pending && !writes.running {
            return Ticket(None);
        }
        let (answer, waiting) = oneshot::channel();
        if writes.pending { &mut writes.next } else { &mut writes.taken }.push(answer);
        if !writes.running {
            writes.running = true;
            let (slot, parts) = (Arc::clone(self), Arc::clone(parts));
            let tasks = parts.tasks.clone();
            // Where its invariants break, what is in memory must not be answered from any more.
            tasks.spawn("durable subscription store", OnFailure::StopNode, async move {
                slot.write_all(&*parts.store).await;
                Ok::<(), Infallible>(())
            });
        }
        Ticket(Some(waiting))
    }

    async fn write_all(&self, store: &dyn StateStore) {
        let mut next = self.inner().take(self.id);
        while let Some(taken) = next {
            let mut outcome = Ok(());
            for (index, batch) in taken.batches.into_iter().enumerate() {
                outcome = store.write(batch).await;
                if let (Err(error), true) = (&outcome, taken.deletes && index > 0) {
                    tracing::warn!(%error, subscription = %self.id, "remains of a deleted subscription go with the next start");
                    outcome = Ok(());
                }
                if outcome.is_err() {
                    break;
                }
            }
            let mut inner = self.inner();
            match outcome {
                Ok(()) => {
                    inner.durable_low_water = taken.low_water;
                    if taken.deletes {
                        inner.life = Life::Gone;
                    }
                    answer_all(&mut inner.writes.taken, &Ok(()));
                }
                Err(error) => {
                    tracing::warn!(%error, subscription = %self.id, "a subscription could not be stored");
                    inner.give_up(store, self.id);
                    answer_all(&mut inner.writes.taken, &Err(error.clone()));
                    answer_all(&mut inner.writes.next, &Err(error));
                }
            }
            // In the moment in which these are answered: whoever asks from now on waits for the next write, or for nothing.
            next = inner.take(self.id);
            drop(inner);
            self.wake.notify_one();
        }
    }
}

/// Whoever hung up does not want to know.
fn answer_all(answers: &mut Vec<Answer>, outcome: &Result<(), WriteError>) {
    for answer in answers.drain(..) {
        let _ = answer.send(outcome.clone());
    }
}

impl Inner {
    /// What is to be written now; none where nothing is, and the task ends.
    fn take(&mut self, id: Uuid) -> Option<Taken> {
        if !self.writes.pending {
            self.writes.running = false;
            return None;
        }
        self.writes.pending = false;
        assert!(self.writes.taken.is_empty(), "everybody who waited for the last write is answered");
        self.writes.taken = std::mem::take(&mut self.writes.next);
        let with_definition = std::mem::take(&mut self.writes.with_definition);
        let low_water = self.machine.low_water();
        if self.life == Life::Deleting {
            let letters = self.machine.letters().keys().copied();
            return Some(Taken { batches: removal(id, letters), low_water, deletes: true });
        }
        let (cursor, letters) = match self.machine.take_progress() {
            Some(changes) => (changes.cursor, changes.letters),
            None => (self.machine.cursor(), Vec::new()),
        };
        let letters = letters.into_iter().map(|(sequence, letter)| Change {
            table: Table::DeadLetters,
            key: letter_key(id, sequence),
            value: letter.as_ref().map(DeadLetter::encode),
        });
        // Dead letters before the position that passes them: one that is stored twice is delivered again, one that is not is lost.
        let mut batches = in_batches(&letters.collect::<Vec<_>>());
        let mut last = batches.pop().unwrap_or_default();
        let key = Bytes::copy_from_slice(id.as_bytes());
        last.push(Change { table: Table::Cursors, key: key.clone(), value: Some(cursor.encode()) });
        if with_definition {
            last.push(Change { table: Table::Subscriptions, key, value: Some(self.definition.encode()) });
        }
        batches.push(last);
        Some(Taken { batches, low_water, deletes: false })
    }

    /// Takes what is stored for what is true. Consumers are ended: what was not answered comes again.
    fn give_up(&mut self, store: &dyn StateStore, id: Uuid) {
        for member in std::mem::take(&mut self.members).into_values() {
            member.end(ConsumeEnd::NotStored);
        }
        self.writes.pending = false;
        self.writes.with_definition = false;
        self.life = Life::Kept;
        match read(store, id) {
            Ok(Some((definition, cursor, letters))) => {
                let (definition, _, filters) = definition;
                self.durable_low_water = cursor.low_water;
                self.machine = Machine::restore(definition.settings.clone(), cursor, letters);
                self.machine.set_paused(definition.paused || definition.stopped);
                self.filters = filters.into();
                self.definition = definition;
            }
            // It was never stored: whoever wanted to create it is told so.
            Ok(None) => self.life = Life::Gone,
            Err(what) => self.lost = Some(StartError::Log(LogError::Damaged(what))),
        }
    }
}

type Stored =
    ((Definition, crate::domain::SpiffeId, Vec<crate::domain::Filter>), Cursor, BTreeMap<Sequence, DeadLetter>);

/// What is stored of one subscription.
fn read(store: &dyn StateStore, id: Uuid) -> Result<Option<Stored>, String> {
    let Some(definition) = store.get(Table::Subscriptions, id.as_bytes()) else { return Ok(None) };
    let cursor = store.get(Table::Cursors, id.as_bytes()).ok_or("a subscription's position is missing")?;
    let cursor = Cursor::decode(&cursor).map_err(|fault| fault.to_string())?;
    let mut letters = BTreeMap::new();
    for (key, value) in store.load(Table::DeadLetters, id.as_bytes()) {
        let (_, place) = letter_place(&key).ok_or("a dead letter has a malformed key")?;
        letters.insert(place, DeadLetter::decode(&value).map_err(|fault| fault.to_string())?);
    }
    Ok(Some((Definition::decode(&definition)?, cursor, letters)))
}

fn in_batches(changes: &[Change]) -> Vec<Vec<Change>> {
    changes.chunks(LETTERS_A_WRITE_MAX).map(<[Change]>::to_vec).collect()
}

/// Removes a subscription and its dead letters. What is left after a crash in between is removed by the next start.
pub(super) fn removal(id: Uuid, letters: impl Iterator<Item = Sequence>) -> Vec<Vec<Change>> {
    let removed = |table, key| Change { table, key, value: None };
    let key = Bytes::copy_from_slice(id.as_bytes());
    let first = [removed(Table::Subscriptions, key.clone()), removed(Table::Cursors, key)];
    let letters = letters.map(|place| removed(Table::DeadLetters, letter_key(id, place)));
    in_batches(&first.into_iter().chain(letters).collect::<Vec<_>>())
}

/// Where a dead letter is stored.
pub(super) fn letter_key(id: Uuid, sequence: Sequence) -> Bytes {
    [&id.as_bytes()[..], &sequence.get().to_be_bytes()].concat().into()
}

/// Whose dead letter a key names, and its place.
pub(super) fn letter_place(key: &[u8]) -> Option<(Uuid, Sequence)> {
    let (id, place) = key.split_first_chunk::<16>()?;
    Some((Uuid::from_bytes(*id), Sequence(u64::from_be_bytes(place.try_into().ok()?))))
}
