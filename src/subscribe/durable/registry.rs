//! The durable subscriptions of a node, by owner and name. Another's is as if it did not exist. It never answers a change before it is
//! durable.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Semaphore;

use super::{
    ConsumeStream, Consumption, Cursor, Definition, DurableError, DurableParts, DurableTotals, Machine, Settings,
    SubscriptionFacts, consumer,
    definition::fingerprint,
    parts::NAME_BYTES_MAX,
    slot::{Life, Slot},
    stored,
};
use crate::{
    domain::{Filter, Position, SpiffeId, filter::FilterSpec},
    store::VALUE_BYTES_MAX,
    subscribe::{Start, sight::may_subscribe, start::resolve},
    tasks::OnFailure,
};

/// What a start removes in one write.
const REMAINS_A_WRITE_MAX: usize = 1_000;

/// The subscriptions of one participant, by name.
type ByName = BTreeMap<String, Arc<Slot>>;

/// All of them.
#[derive(Debug)]
pub struct DurableSubscriptions {
    pub(super) parts: Arc<DurableParts>,
    by_owner: Mutex<BTreeMap<SpiffeId, ByName>>,
    consumers: Arc<Semaphore>,
    /// One creation at a time: whether a name is free is decided before it is stored.
    creating: tokio::sync::Mutex<()>,
}

impl DurableSubscriptions {
    /// Reads what is stored.
    ///
    /// # Errors
    /// Something stored cannot be read, in words.
    pub fn open(parts: DurableParts) -> Result<Self, String> {
        let stored = stored::read(&*parts.store, &parts.log.epochs())?;
        let mut by_owner: BTreeMap<SpiffeId, ByName> = BTreeMap::new();
        for (owner, name, slot) in stored.slots {
            by_owner.entry(owner).or_default().insert(name, slot);
        }
        if !stored.remains.is_empty() {
            let store = Arc::clone(&parts.store);
            parts.tasks.spawn("remains of subscriptions", OnFailure::Log, async move {
                for changes in stored.remains.chunks(REMAINS_A_WRITE_MAX) {
                    store.write(changes.to_vec()).await?;
                }
                Ok::<(), crate::store::WriteError>(())
            });
        }
        let consumers = Arc::new(Semaphore::new(parts.limits.consumers_max));
        Ok(Self {
            parts: Arc::new(parts),
            by_owner: Mutex::new(by_owner),
            consumers,
            creating: tokio::sync::Mutex::default(),
        })
    }

    /// Creates a subscription, or answers the one that there is.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn create(
        &self,
        owner: &SpiffeId,
        name: &str,
        (filters, settings): (Vec<Filter>, Settings),
        start: Start,
    ) -> Result<SubscriptionFacts, DurableError> {
        check_name(name)?;
        check_settings(&settings)?;
        let _one_at_a_time = self.creating.lock().await;
        let specs = specs(&filters);
        if let Ok(known) = self.find(owner, name) {
            let same = known.inner().definition.asks_as(&specs, &settings);
            return if same { Ok(self.facts(&known)) } else { Err(DurableError::AlreadyExists) };
        }
        let max = self.parts.limits.per_participant_max;
        if max <= self.count(owner) {
            return Err(DurableError::QuotaExceeded { max });
        }
        let now_ns = self.parts.clock.now_ns();
        let rights = self.parts.access.policy().rights(owner);
        if !may_subscribe(&rights, now_ns) {
            return Err(DurableError::NoReadGrant);
        }
        let definition = Definition {
            owner: owner.as_str().to_owned(),
            name: name.to_owned(),
            filters: specs,
            settings: settings.clone(),
            create_time_ns: now_ns,
            revision: 1,
            paused: false,
            stopped: false,
            rights: fingerprint(&rights, now_ns),
        };
        check_size(&definition)?;
        let Position { epoch, sequence: low_water } = resolve(&*self.parts.log, start).await?;
        // What is applied now is in force for all that will be judged.
        let widenings_handled = *self.parts.bindings.progress().borrow();
        let cursor = Cursor { epoch, low_water, widenings_handled, settled: BTreeSet::new(), tried: BTreeMap::new() };
        let machine = Machine::restore(settings, cursor, BTreeMap::new());
        let id = self.parts.clock.fresh_uuid();
        let slot = Slot::new(id, owner.clone(), (definition, filters), machine, None);
        let ((), ticket) = slot.change(&self.parts, |inner| inner.writes.note_definition());
        // Before it is durable, so that a caller who hangs up leaves none behind that nobody knows; where it cannot be stored it is gone, and
        // as if it had never been there.
        self.names().entry(owner.clone()).or_default().insert(name.to_owned(), Arc::clone(&slot));
        let stored = ticket.durable().await;
        if stored.is_err() {
            self.forget(owner, name, &slot);
        }
        stored?;
        Ok(self.facts(&slot))
    }

    /// One subscription.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, owner: &SpiffeId, name: &str) -> Result<SubscriptionFacts, DurableError> {
        self.find(owner, name).map(|slot| self.facts(&slot))
    }

    /// All of one participant, by name.
    #[must_use]
    pub fn list(&self, owner: &SpiffeId) -> Vec<SubscriptionFacts> {
        let slots: Vec<Arc<Slot>> =
            self.names().get(owner).into_iter().flat_map(|names| names.values().cloned()).collect();
        slots.iter().filter(|slot| slot.is_kept()).map(|slot| self.facts(slot)).collect()
    }

    /// So many of the node's, by owner and name, after one of them.
    #[must_use]
    pub fn list_all(&self, after: Option<(&SpiffeId, &str)>, count_max: usize) -> Vec<SubscriptionFacts> {
        let slots: Vec<Arc<Slot>> = {
            let names = self.names();
            let from = after.map_or(Bound::Unbounded, |(owner, _)| Bound::Included(owner));
            let owners = names.range::<SpiffeId, _>((from, Bound::Unbounded));
            let all = owners.flat_map(|(owner, names)| names.iter().map(move |(name, slot)| (owner, name, slot)));
            let beyond = |owner: &SpiffeId, name: &str| after.is_none_or(|after| after < (owner, name));
            all.filter(|(owner, name, slot)| beyond(owner, name) && slot.is_kept())
                .map(|(_, _, slot)| Arc::clone(slot))
                .take(count_max)
                .collect()
        };
        slots.iter().map(|slot| self.facts(slot)).collect()
    }

    /// Those of one participant, or all, that are there, with their names.
    pub(super) fn slots(&self, owner: Option<&SpiffeId>) -> Vec<(String, Arc<Slot>)> {
        let names = self.names();
        let of = names.iter().filter(|(one, _)| owner.is_none_or(|owner| owner == *one));
        let all = of.flat_map(|(_, names)| names.iter()).filter(|(_, slot)| slot.is_kept());
        all.map(|(name, slot)| (name.clone(), Arc::clone(slot))).collect()
    }

    /// All of them together.
    #[must_use]
    pub fn totals(&self) -> DurableTotals {
        let slots: Vec<Arc<Slot>> = self.names().values().flat_map(|names| names.values().cloned()).collect();
        let tail = *self.parts.log.tail().borrow();
        let mut totals = DurableTotals::default();
        for slot in slots {
            let inner = slot.inner();
            totals.subscriptions += 1;
            totals.consumers += inner.members.len();
            totals.dead_letters += inner.machine.letters().len();
            if !inner.members.is_empty() {
                let lag_events = tail.get().saturating_sub(inner.durable_low_water.get());
                totals.lag_events_max = totals.lag_events_max.max(lag_events);
            }
        }
        totals
    }

    /// Consumes.
    ///
    /// # Errors
    /// Why nobody can.
    pub fn consume(
        &self,
        owner: &SpiffeId,
        name: &str,
        credit: u32,
    ) -> Result<(Consumption, ConsumeStream), DurableError> {
        if self.parts.draining.is_cancelled() {
            return Err(DurableError::Draining);
        }
        let slot = self.find(owner, name)?;
        let max = self.parts.limits.consumers_max;
        let place = Arc::clone(&self.consumers).try_acquire_owned();
        let place = place.map_err(|_| DurableError::TooManyConsumers { max })?;
        consumer::join(&slot, &self.parts, place, credit)
    }

    pub(super) fn find(&self, owner: &SpiffeId, name: &str) -> Result<Arc<Slot>, DurableError> {
        let known = self.names().get(owner).and_then(|names| names.get(name)).cloned();
        known.filter(|slot| slot.is_kept()).ok_or(DurableError::NotFound)
    }

    /// How many subscriptions somebody has; those that are gone and were not forgotten, since whoever deleted them hung up, are now.
    fn count(&self, owner: &SpiffeId) -> usize {
        let mut by_owner = self.names();
        let Some(names) = by_owner.get_mut(owner) else { return 0 };
        names.retain(|_, slot| slot.inner().life != Life::Gone);
        names.len()
    }

    /// Takes a subscription out of the table, where it is still this one.
    pub(super) fn forget(&self, owner: &SpiffeId, name: &str, slot: &Arc<Slot>) {
        let mut by_owner = self.names();
        let Some(names) = by_owner.get_mut(owner) else { return };
        if names.get(name).is_some_and(|known| Arc::ptr_eq(known, slot)) {
            names.remove(name);
        }
        if names.is_empty() {
            by_owner.remove(owner);
        }
    }

    pub(super) fn facts(&self, slot: &Slot) -> SubscriptionFacts {
        let tail = *self.parts.log.tail().borrow();
        let epoch = self.parts.epoch();
        let inner = slot.inner();
        SubscriptionFacts {
            owner: slot.owner.clone(),
            definition: inner.definition.clone(),
            state: inner.state(),
            acknowledged: Position { epoch, sequence: inner.durable_low_water },
            lag_events: tail.get().saturating_sub(inner.durable_low_water.get()),
            outstanding: inner.machine.outstanding(),
            dead_letters: inner.machine.letters().len(),
            consumers: inner.members.len(),
        }
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<SpiffeId, ByName>> {
        // Every change is one step, so that a panic with the lock held leaves the table whole.
        self.by_owner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Whether the subscription is there, as far as anybody is told.
    fn is_kept(&self) -> bool {
        self.inner().life == Life::Kept
    }
}

fn check_name(name: &str) -> Result<(), DurableError> {
    let begins = name.starts_with(|first: char| first.is_ascii_lowercase());
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = begins && name.len() <= NAME_BYTES_MAX && name.bytes().all(allowed);
    if is_name { Ok(()) } else { Err(DurableError::Name) }
}

pub(super) fn check_settings(settings: &Settings) -> Result<(), DurableError> {
    let faults = settings.faults();
    if faults.is_empty() { Ok(()) } else { Err(DurableError::Settings(faults)) }
}

/// The largest value of the store bounds what filters may say.
pub(super) fn check_size(definition: &Definition) -> Result<(), DurableError> {
    // Room for numbers that grow.
    const ROOM_BYTES: usize = 64;
    let (bytes, bytes_max) = (definition.encode().len(), VALUE_BYTES_MAX - ROOM_BYTES);
    if bytes <= bytes_max { Ok(()) } else { Err(DurableError::FiltersTooLarge { bytes, bytes_max }) }
}

pub(super) fn specs(filters: &[Filter]) -> Vec<FilterSpec> {
    filters.iter().map(|filter| filter.spec().clone()).collect()
}
