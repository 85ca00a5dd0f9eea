//! Finds the stored events that match and that the caller may read: plan, walk, fetch, judge. The only way from a filter to events, so that
//! no query can forget a right. What the caller may not read leaves no trace in what it answers.

use std::sync::Arc;

use super::{
    associations::Associations,
    candidates::{Bounds, Candidates, Walk},
    plan::Planner,
};
use crate::{
    domain::{Filter, HeaderRef, Sequence, SpiffeId, filter::MatchContext},
    identity::{Action, Rights},
    log::{EventLog, LogError, Record, contract::TermIndex},
};

/// How many events are fetched at once at first; a walk that goes on doubles it.
const BATCH_FIRST: usize = 32;
/// How many events are fetched at once at the most: with the largest events 16 MiB.
const BATCH_MAX: usize = 256;

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Joined by "or"; none: everything.
    pub filters: &'a [Filter],
    /// The caller's rights, by the policy in force.
    pub rights: &'a Rights,
    /// Now, nanoseconds since 1970.
    pub now_ns: i64,
}

/// How much one walk may do. It bounds what one call costs the node, whatever the caller asks for.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Events to fetch and judge.
    pub examined_max: usize,
    /// Looks into the index.
    pub lookups_max: usize,
}

/// What becomes of a found event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Taken; go on.
    More,
    /// Taken, and it was the last.
    Last,
    /// Not taken: the walk ends before it.
    Full,
}

/// Finds events in one node's log.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "the log has none, and nobody prints it")]
pub struct Finder {
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// The search view's index.
    pub index: Arc<dyn TermIndex>,
    /// The associations view, which tells the bindings.
    pub associations: Arc<Associations>,
    /// The node, the origin of every event that names no other.
    pub node: SpiffeId,
}

impl Finder {
    /// Hands each match to `sink`, in walking order from a place on. Answers where to go on, or none where nothing is left to find.
    ///
    /// # Errors
    /// The log or the index cannot be read, or the sink's own.
    pub async fn walk(
        &self,
        question: &Question<'_>,
        bounds: Bounds,
        from: Sequence,
        mut work: Work,
        sink: &mut (dyn FnMut(Record) -> Result<Take, LogError> + Send),
    ) -> Result<Option<Sequence>, LogError> {
        let events = bounds.before.get().saturating_sub(self.log.first_retained().get());
        let planner = Planner { index: &*self.index, associations: &self.associations, events };
        let mut candidates = planner.plan(question.filters, question.rights, question.now_ns);
        let mut batch_max = BATCH_FIRST;
        let mut place = Some(from).filter(|from| bounds.before > bounds.after && *from > Sequence::ZERO);
        while let Some(at) = place {
            if work.examined_max == 0 || work.lookups_max == 0 {
                return Ok(Some(at));
            }
            let (places, next) =
                self.gather(&mut candidates, &bounds, at, batch_max.min(work.examined_max), &mut work).await?;
            work.examined_max -= places.len();
            batch_max = (batch_max * 2).min(BATCH_MAX);
            for record in self.fetch(places, bounds.descending).await? {
                if !self.may_see(question, &record)? {
                    continue;
                }
                let sequence = record.sequence;
                match sink(record)? {
                    Take::More => {}
                    Take::Last => return Ok(bounds.following(sequence)),
                    Take::Full => return Ok(Some(sequence)),
                }
            }
            place = next;
        }
        Ok(None)
    }

    /// Whether one of the filters matches a stored event that the caller may read.
    ///
    /// # Errors
    /// The stored header is damaged.
    pub fn may_see(&self, question: &Question<'_>, record: &Record) -> Result<bool, LogError> {
        let header = HeaderRef::parse(&record.header)
            .map_err(|error| LogError::Damaged(format!("sequence {}: {error}", record.sequence)))?;
        let context = MatchContext {
            accepted_time_ns: record.accepted_time_ns,
            origin_node: record.origin.as_ref().map_or(&self.node, |origin| &origin.node).as_str(),
            caller: question.rights.who.as_str(),
            bindings: &*self.associations,
        };
        let askable = question.rights.askable(&*self.associations, question.now_ns);
        let asking = MatchContext { bindings: &askable, ..context };
        let asked =
            question.filters.is_empty() || question.filters.iter().any(|filter| filter.matches(&header, &asking));
        Ok(asked && question.rights.permits(Action::Read, &header, &context, question.now_ns))
    }

    /// The next candidates, and where to go on after them.
    pub(super) async fn gather(
        &self,
        candidates: &mut Candidates,
        bounds: &Bounds,
        from: Sequence,
        count_max: usize,
        work: &mut Work,
    ) -> Result<(Vec<Sequence>, Option<Sequence>), LogError> {
        let mut places = Vec::with_capacity(count_max);
        let mut next = Some(from);
        while let Some(at) = next.filter(|_| places.len() < count_max) {
            match candidates.seek(&*self.index, bounds, at, &mut work.lookups_max).await? {
                Walk::At(found) => {
                    places.push(found);
                    next = bounds.following(found);
                }
                Walk::Through(reached) => {
                    next = Some(reached);
                    break;
                }
                Walk::End => next = None,
            }
        }
        Ok((places, next))
    }

    /// The records at some places, in walking order.
    pub(super) async fn fetch(&self, mut places: Vec<Sequence>, descending: bool) -> Result<Vec<Record>, LogError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        if descending {
            places.reverse();
        }
        let mut records = self.log.get(places).await?;
        if descending {
            records.reverse();
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests;
