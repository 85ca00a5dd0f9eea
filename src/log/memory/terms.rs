//! A term index in memory, for tests of what stands on it. It never keeps anything beyond the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, Mutex},
};

use futures::future::{BoxFuture, FutureExt, ready};

use crate::{
    domain::{Sequence, term::TermHash},
    log::contract::{LogError, TermIndex},
};

/// Terms and their places.
#[derive(Debug, Default)]
pub struct MemoryTerms {
    held: Arc<Mutex<Held>>,
    next: Arc<Mutex<Option<Arc<MemoryTerms>>>>,
}

#[derive(Debug, Default, Clone)]
struct Held {
    places: BTreeMap<TermHash, BTreeSet<Sequence>>,
    through: Sequence,
}

impl TermIndex for MemoryTerms {
    fn add(&self, entries: Vec<(TermHash, Sequence)>, through: Sequence) -> BoxFuture<'static, Result<(), LogError>> {
        let mut held = self.held.lock().expect("no test panics while it holds this");
        // As every index: it follows the log forwards, and what it knows of it is complete.
        let known = held.through;
        for (term, sequence) in entries.into_iter().filter(|(_, sequence)| known < *sequence) {
            held.places.entry(term).or_default().insert(sequence);
        }
        held.through = held.through.max(through);
        ready(Ok(())).boxed()
    }

    fn complete_through(&self) -> Sequence {
        self.held.lock().expect("no test panics while it holds this").through
    }

    fn lookup(
        &self,
        term: TermHash,
        after: Sequence,
        before: Sequence,
        descending: bool,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Sequence>, LogError>> {
        let held = self.held.lock().expect("no test panics while it holds this");
        let mut found = Vec::new();
        if let Some(places) = held.places.get(&term).filter(|_| after < before) {
            let stretch = places.range((Bound::Excluded(after), Bound::Excluded(before))).copied();
            found = if descending { stretch.rev().take(limit).collect() } else { stretch.take(limit).collect() };
        }
        ready(Ok(found)).boxed()
    }

    fn all_places(
        &self,
        terms: Vec<TermHash>,
        before: Sequence,
        count_max: usize,
    ) -> BoxFuture<'static, Result<Vec<Option<Vec<Sequence>>>, LogError>> {
        let held = self.held.lock().expect("no test panics while it holds this");
        let all = |term| {
            let places: Vec<Sequence> =
                held.places.get(&term).into_iter().flat_map(|places| places.range(..before)).copied().collect();
            (places.len() <= count_max).then_some(places)
        };
        ready(Ok(terms.into_iter().map(all).collect())).boxed()
    }

    fn estimate(&self, term: TermHash) -> u64 {
        let held = self.held.lock().expect("no test panics while it holds this");
        held.places.get(&term).map_or(0, |places| places.len() as u64)
    }

    fn open_next(&self) -> BoxFuture<'static, Result<Arc<dyn TermIndex>, LogError>> {
        let opened = Arc::new(Self::default());
        *self.next.lock().expect("no test panics while it holds this") = Some(Arc::clone(&opened));
        ready(Ok(opened as Arc<dyn TermIndex>)).boxed()
    }

    fn replace_by_next(&self) -> BoxFuture<'static, Result<(), LogError>> {
        let next = self.next.lock().expect("no test panics while it holds this").take();
        let Some(next) = next else {
            return ready(Err(LogError::Storage("there is no next generation".to_owned()))).boxed();
        };
        let fresh = next.held.lock().expect("no test panics while it holds this").clone();
        *self.held.lock().expect("no test panics while it holds this") = fresh;
        ready(Ok(())).boxed()
    }
}
