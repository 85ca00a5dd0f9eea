//! A term index in memory, for tests of what stands on it. It never keeps anything beyond the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Mutex,
};

use futures::future::{BoxFuture, FutureExt, ready};

use crate::{
    domain::{Sequence, term::TermHash},
    log::{LogError, contract::TermIndex},
};

/// Terms and their places.
#[derive(Debug, Default)]
pub struct MemoryTerms(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    places: BTreeMap<TermHash, BTreeSet<Sequence>>,
    through: Sequence,
}

impl TermIndex for MemoryTerms {
    fn add(&self, entries: Vec<(TermHash, Sequence)>, through: Sequence) -> BoxFuture<'static, Result<(), LogError>> {
        let mut held = self.0.lock().expect("no test panics while it holds this");
        for (term, sequence) in entries {
            held.places.entry(term).or_default().insert(sequence);
        }
        held.through = held.through.max(through);
        ready(Ok(())).boxed()
    }

    fn complete_through(&self) -> Sequence {
        self.0.lock().expect("no test panics while it holds this").through
    }

    fn lookup(
        &self,
        term: TermHash,
        after: Sequence,
        before: Sequence,
        descending: bool,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Sequence>, LogError>> {
        let held = self.0.lock().expect("no test panics while it holds this");
        let mut found = Vec::new();
        if let Some(places) = held.places.get(&term).filter(|_| after < before) {
            let stretch = places.range((Bound::Excluded(after), Bound::Excluded(before))).copied();
            found = if descending { stretch.rev().take(limit).collect() } else { stretch.take(limit).collect() };
        }
        ready(Ok(found)).boxed()
    }

    fn estimate(&self, term: TermHash) -> u64 {
        let held = self.0.lock().expect("no test panics while it holds this");
        held.places.get(&term).map_or(0, |places| places.len() as u64)
    }

    fn clear(&self) -> BoxFuture<'static, Result<(), LogError>> {
        *self.0.lock().expect("no test panics while it holds this") = Held::default();
        ready(Ok(())).boxed()
    }
}
