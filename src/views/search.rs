//! The search view: every term of every routing header, and of every statement about a hold which it is, in the term index. It never says that an event matches, only where one may stand.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};

use crate::{
    domain::{HeaderRef, Sequence, SpiffeId, codes::body, filter::TermPlan, header::origin_term, term::TermHash},
    log::{Chunk, LogError, Record, contract::TermIndex},
    views::{clearance::hold_of, decoded::Decoded, runner::View},
};

/// The terms of so many records are gathered at once: few enough that they stay where the processor has them at hand.
const RECORDS_AT_ONCE: usize = 64;
/// About so many terms stand in a header.
const TERMS_ABOUT: usize = 32;

/// The search view of one node.
pub struct SearchView {
    index: Arc<dyn TermIndex>,
    node: SpiffeId,
}

impl SearchView {
    /// The view over an index; `node` is the origin of every event that names no other.
    #[must_use]
    pub fn new(index: Arc<dyn TermIndex>, node: SpiffeId) -> Self {
        Self { index, node }
    }

    /// The terms of some records, each with its place.
    fn entries(&self, records: &[Record]) -> Result<Vec<(TermHash, Sequence)>, LogError> {
        let mut entries = Vec::with_capacity(records.len() * TERMS_ABOUT);
        for record in records {
            let header = HeaderRef::parse(&record.header)
                .map_err(|error| LogError::Damaged(format!("sequence {}: {error}", record.sequence)))?;
            header.for_each_term(&mut |term| entries.push((term, record.sequence)));
            let origin = record.origin.as_ref().map_or(&self.node, |origin| &origin.node);
            entries.push((origin_term(origin.as_str()), record.sequence));
            // Whoever lifts a hold need name none of its goods.
            if header.types().any(|one| one.body == body::HOLD)
                && let Some(hold) = hold_of(&Decoded::of(record)?)
            {
                entries.push((hold.term(), record.sequence));
            }
        }
        Ok(entries)
    }
}

impl View for SearchView {
    fn name(&self) -> &'static str {
        "search"
    }

    fn terms(&self) -> Option<Arc<TermPlan>> {
        None
    }

    fn load(&self) -> BoxFuture<'_, Result<Sequence, LogError>> {
        async { Ok(self.index.complete_through()) }.boxed()
    }

    fn apply<'a>(&'a self, chunk: &'a Chunk) -> BoxFuture<'a, Result<(), LogError>> {
        async move {
            for records in chunk.records.chunks(RECORDS_AT_ONCE) {
                let through = records.last().map_or(chunk.through, |record| record.sequence);
                self.index.add(self.entries(records)?, through).await?;
            }
            self.index.add(Vec::new(), chunk.through).await
        }
        .boxed()
    }

    fn open_next(&self) -> BoxFuture<'_, Result<Arc<dyn View>, LogError>> {
        async move {
            let index = self.index.open_next().await?;
            Ok(Arc::new(Self { index, node: self.node.clone() }) as Arc<dyn View>)
        }
        .boxed()
    }

    fn replace_by_next(&self) -> BoxFuture<'_, Result<(), LogError>> {
        self.index.replace_by_next()
    }
}

impl std::fmt::Debug for SearchView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SearchView").field("node", &self.node).finish_non_exhaustive()
    }
}
