//! What owners and operators do to a subscription: change it, stop and start it, move it, look after its dead letters. It never answers
//! before what was done is durable.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    ConsumeEnd, DeadLetter, DurableError, DurableSubscriptions, LetterFacts, SettingFault, Settings, SubscriptionFacts,
    definition::fingerprint,
    registry::{check_settings, check_size, specs},
    slot::{Inner, Life},
};
use crate::{
    domain::{Filter, HeaderRef, Position, Sequence, SpiffeId},
    log::LogError,
    subscribe::{
        Start, StartError,
        sight::{Sight, may_subscribe},
        start::resolve,
    },
};

/// Dead letters that become durable together where many are asked for again or dropped: others' changes come between.
const LETTERS_A_STEP: usize = 1_000;

impl DurableSubscriptions {
    /// Replaces filters and settings.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub async fn update(
        &self,
        owner: &SpiffeId,
        name: &str,
        (filters, settings): (Vec<Filter>, Settings),
        etag: Option<u64>,
    ) -> Result<SubscriptionFacts, DurableError> {
        check_settings(&settings)?;
        let specs = specs(&filters);
        self.change(owner, name, move |inner| {
            if etag.is_some_and(|etag| etag != inner.definition.revision) {
                return Err(DurableError::EtagMismatch);
            }
            let kept = &inner.definition.settings;
            if (settings.mode, settings.ordering_key) != (kept.mode, kept.ordering_key) {
                let description = "cannot be changed; create another subscription".to_owned();
                let field = if settings.mode == kept.mode { "ordering_key" } else { "mode" };
                return Err(DurableError::Settings(vec![SettingFault { field, description }]));
            }
            let mut changed = inner.definition.clone();
            (changed.filters, changed.settings) = (specs, settings);
            check_size(&changed)?;
            let other_filter = inner.definition.filters != changed.filters;
            inner.machine.update(changed.settings.clone(), other_filter);
            inner.filters = filters.into();
            inner.redefine(|definition| *definition = changed);
            Ok(())
        })
        .await
    }

    /// Stops deliveries.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub async fn pause(&self, owner: &SpiffeId, name: &str) -> Result<SubscriptionFacts, DurableError> {
        let pause = |inner: &mut Inner| {
            inner.redefine(|definition| definition.paused = true);
            Ok(())
        };
        self.change(owner, name, pause).await
    }

    /// Goes on, with what the owner's grants show her now.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub async fn resume(&self, owner: &SpiffeId, name: &str) -> Result<SubscriptionFacts, DurableError> {
        let now_ns = self.parts.clock.now_ns();
        let rights = self.parts.access.policy().rights(owner);
        let agreed = fingerprint(&rights, now_ns);
        let may = may_subscribe(&rights, now_ns);
        let resume = move |inner: &mut Inner| {
            if !may {
                return Err(DurableError::NoReadGrant);
            }
            // What waits was judged by other rights: it is looked at again.
            if inner.definition.rights != agreed {
                inner.machine.update(inner.definition.settings.clone(), true);
            }
            inner.redefine(|definition| {
                (definition.rights, definition.paused, definition.stopped) = (agreed, false, false);
            });
            Ok(())
        };
        self.change(owner, name, resume).await
    }

    /// Goes to another place; consumers are sent away and come back.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub async fn seek(&self, owner: &SpiffeId, name: &str, to: Start) -> Result<SubscriptionFacts, DurableError> {
        self.find(owner, name)?;
        let place = resolve(&*self.parts.log, to).await?;
        let now_ns = self.parts.clock.now_ns();
        let seek = move |inner: &mut Inner| {
            inner.end_all(&ConsumeEnd::Moved, now_ns);
            inner.machine.seek(place.epoch, place.sequence);
            inner.lost = None;
            inner.redefine(|_| ());
            Ok(())
        };
        self.change(owner, name, seek).await
    }

    /// Deletes a subscription with all that is kept of it.
    ///
    /// # Errors
    /// There is none, or it could not be stored: then it is as it was.
    pub async fn delete(&self, owner: &SpiffeId, name: &str) -> Result<(), DurableError> {
        let slot = self.find(owner, name)?;
        let now_ns = self.parts.clock.now_ns();
        let ((), ticket) = slot.change(&self.parts, |inner| {
            inner.life = Life::Deleting;
            inner.end_all(&ConsumeEnd::Deleted, now_ns);
        });
        ticket.durable().await?;
        self.forget(owner, name, &slot);
        Ok(())
    }

    /// Dead letters after a place, at most so many.
    ///
    /// # Errors
    /// There is no such subscription, or the log cannot be read.
    pub async fn letters(
        &self,
        owner: &SpiffeId,
        name: &str,
        after: Sequence,
        count_max: usize,
    ) -> Result<Vec<LetterFacts>, DurableError> {
        let slot = self.find(owner, name)?;
        let epoch = self.parts.epoch();
        let page: Vec<(Sequence, DeadLetter)> = {
            let inner = slot.inner();
            let after = inner.machine.letters().range(after.next()..);
            after.take(count_max).map(|(sequence, letter)| (*sequence, letter.clone())).collect()
        };
        let places = page.iter().map(|(sequence, _)| *sequence).collect();
        let records = self.parts.log.get(places).await.map_err(StartError::from)?;
        let now_ns = self.parts.clock.now_ns();
        let rights = self.parts.access.policy().rights(owner);
        let (bindings, node) = (Arc::clone(&self.parts.bindings), self.parts.node.clone());
        let sight = Sight::new(rights, Arc::default(), bindings, node, now_ns);
        let mut events = HashMap::new();
        for record in &records {
            if sight.admits_whatever_was_asked(record, now_ns).map_err(StartError::from)? {
                let damaged = |fault| LogError::Damaged(format!("event at sequence {}: {fault}", record.sequence));
                let header = HeaderRef::parse(&record.header).map_err(|fault| StartError::from(damaged(fault)))?;
                events.insert(record.sequence, (header.event_id(), header.publisher().to_owned()));
            }
        }
        let letters = page.into_iter().map(|(sequence, letter)| LetterFacts {
            position: Position { epoch, sequence },
            letter,
            event: events.remove(&sequence),
        });
        Ok(letters.collect())
    }

    /// Asks for dead letters again: these, or all that there are when this is called; answers how many.
    ///
    /// # Errors
    /// Why not all of them are asked for; some may be.
    pub async fn replay(
        &self,
        owner: &SpiffeId,
        name: &str,
        which: Option<BTreeSet<Sequence>>,
    ) -> Result<usize, DurableError> {
        let now_ns = self.parts.clock.now_ns();
        self.each_step(owner, name, which, |inner, some| inner.machine.replay(Some(some), now_ns)).await
    }

    /// Forgets dead letters: these, or all that there are when this is called; answers how many.
    ///
    /// # Errors
    /// Why not all of them are forgotten; some may be.
    pub async fn drop_letters(
        &self,
        owner: &SpiffeId,
        name: &str,
        which: Option<BTreeSet<Sequence>>,
    ) -> Result<usize, DurableError> {
        self.each_step(owner, name, which, |inner, some| inner.machine.drop_letters(Some(some))).await
    }

    async fn change(
        &self,
        owner: &SpiffeId,
        name: &str,
        change: impl FnOnce(&mut Inner) -> Result<(), DurableError>,
    ) -> Result<SubscriptionFacts, DurableError> {
        let slot = self.find(owner, name)?;
        let (changed, ticket) = slot.change(&self.parts, change);
        changed?;
        ticket.durable().await?;
        Ok(self.facts(&slot))
    }

    async fn each_step(
        &self,
        owner: &SpiffeId,
        name: &str,
        which: Option<BTreeSet<Sequence>>,
        mut change: impl FnMut(&mut Inner, &BTreeSet<Sequence>) -> usize,
    ) -> Result<usize, DurableError> {
        let slot = self.find(owner, name)?;
        let which: Vec<Sequence> = match which {
            Some(which) => which.into_iter().collect(),
            None => slot.inner().machine.letters().keys().copied().collect(),
        };
        let mut count = 0;
        for some in which.chunks(LETTERS_A_STEP) {
            let some: BTreeSet<Sequence> = some.iter().copied().collect();
            let (changed, ticket) = slot.change(&self.parts, |inner| change(inner, &some));
            ticket.durable().await?;
            count += changed;
        }
        Ok(count)
    }
}
