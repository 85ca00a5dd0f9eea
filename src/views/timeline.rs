//! The history of one subject: its events and those of what belongs to it, in the order of what was said. It never names a subject that
//! the caller could not learn of from an association that she may read, and judges each event by itself.

use std::collections::{HashMap, HashSet};

use super::{
    associations::{graph::Tie, statement::Subject},
    candidates::Bounds,
    decoded::{Decoded, key},
    finder::{Finder, Question, Take, Work},
    fold_order::FoldKey,
    revisions::Revisions,
};
use crate::{
    domain::{
        EventId, Filter, Sequence, SpiffeId,
        bindings::SubjectKey,
        filter::{FilterSpec, SubjectSpec},
        header::SubjectTerm,
    },
    identity::Rights,
    log::{LogError, Record},
};

/// At most so many subjects are gathered into one timeline, the one asked for among them.
pub const SUBJECTS_MAX: usize = 256;
/// At most so many events are gathered into one timeline: they are ordered in memory, some hundred bytes each.
pub const EVENTS_MAX: usize = 10_000;
/// At most so many ties are looked at on the way.
const TIES_MAX: usize = 4_096;
/// So many of the statements that hold up a tie are tried for one that the caller may read, the latest first.
const SUPPORTS_MAX: usize = 8;
/// What one timeline may cost.
const WORK: Work = Work { examined_max: 40_000, lookups_max: 40_000 };

/// Whose history.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The filter that finds the subject's own events.
    pub filter: &'a Filter,
    /// The subject; an empty issuer or date fits any.
    pub subject: SubjectKey<'a>,
    /// How many associations to follow.
    pub depth: u32,
    /// The caller's rights.
    pub rights: &'a Rights,
    /// Now, nanoseconds since 1970.
    pub now_ns: i64,
    /// The last place of the log that counts.
    pub through: Sequence,
}

/// A history.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// In order.
    pub entries: Vec<Entry>,
    /// What belongs to the subject, nearest first.
    pub associated: Vec<Associated>,
}

/// One event of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the order.
    pub key: FoldKey,
    /// Its place in the log.
    pub sequence: Sequence,
    /// The associated subject (by its index) that it is about, where it is not about the subject asked for.
    pub via: Option<usize>,
    /// The event that corrects or retracts it.
    pub revised_by: Option<EventId>,
}

/// A subject that belongs to the one asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Associated {
    /// The subject.
    pub subject: SubjectTerm,
    /// How many associations away.
    pub distance: u32,
    /// The association that says so.
    pub event_id: EventId,
    /// Who published it.
    pub publisher: SpiffeId,
}

/// Why there is no timeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatherError {
    /// More belongs to the subject than one answer gathers.
    #[error("more than {SUBJECTS_MAX} subjects belong to it within the depth asked for")]
    TooManySubjects,
    /// More happened to it than one answer gathers.
    #[error("more than {EVENTS_MAX} events are known of it")]
    TooManyEvents,
    /// The log or an index cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl Finder {
    /// Gathers a history.
    ///
    /// # Errors
    /// It is larger than one answer may be, or cannot be read.
    pub async fn timeline(&self, asked: &Asked<'_>) -> Result<Timeline, GatherError> {
        let associated = self.associated(asked).await?;
        let ways: HashMap<Subject, usize> =
            associated.iter().enumerate().map(|(way, one)| (Subject::of(&key(&one.subject)), way)).collect();
        let mut filters = vec![asked.filter.clone()];
        filters.extend(associated.iter().filter_map(|one| by_value(&one.subject.value)));
        let gathered = self.gather_events(asked.rights, asked.now_ns, asked.through, &filters).await?;
        let entry = |decoded: &Decoded, revised_by: Option<EventId>| {
            let via = if decoded.subjects().any(|subject| fits(&asked.subject, &key(&subject))) {
                None
            } else {
                // By the nearest of those that it is about; about none of them only what it revises was.
                Some(decoded.subjects().filter_map(|subject| ways.get(&Subject::of(&key(&subject))).copied()).min()?)
            };
            Some(Entry { key: decoded.fold_key(), sequence: decoded.sequence, via, revised_by })
        };
        let mut entries = gathered.statements(&entry);
        entries.sort_by(|left, right| left.key.cmp(&right.key));
        Ok(Timeline { entries, associated })
    }

    /// Follows associations that the caller may read, nearest first.
    async fn associated(&self, asked: &Asked<'_>) -> Result<Vec<Associated>, GatherError> {
        let mut reached: HashSet<Subject> = HashSet::new();
        let mut frontier: Vec<Subject> =
            if asked.depth == 0 { Vec::new() } else { self.associations.matching(&asked.subject) };
        let mut associated: Vec<Associated> = Vec::new();
        let mut ties_left = TIES_MAX;
        for distance in 1..=asked.depth {
            let mut ties: Vec<Tie> = Vec::new();
            for subject in &frontier {
                ties.extend(
                    self.associations
                        .ties(subject)
                        .into_iter()
                        .filter(|tie| !reached.contains(&tie.other) && !fits(&asked.subject, &tie.other.fields())),
                );
                if ties.len() > ties_left {
                    return Err(GatherError::TooManySubjects);
                }
            }
            ties_left -= ties.len();
            let readable = self.readable_supports(asked, &ties).await?;
            frontier.clear();
            for tie in ties {
                let support = supports(&tie, asked.through).find_map(|place| readable.get(&place));
                let Some((event_id, publisher)) = support.filter(|_| !reached.contains(&tie.other)) else { continue };
                associated.push(Associated {
                    subject: tie.other.term(),
                    distance,
                    event_id: *event_id,
                    publisher: publisher.clone(),
                });
                reached.insert(tie.other.clone());
                frontier.push(tie.other);
                if associated.len() >= SUBJECTS_MAX {
                    return Err(GatherError::TooManySubjects);
                }
            }
        }
        Ok(associated)
    }

    /// Which of the statements that hold up some ties the caller may read, with their ids and publishers.
    async fn readable_supports(
        &self,
        asked: &Asked<'_>,
        ties: &[Tie],
    ) -> Result<HashMap<Sequence, (EventId, SpiffeId)>, LogError> {
        let question = Question { filters: &[], rights: asked.rights, now_ns: asked.now_ns };
        let mut places: Vec<Sequence> = ties.iter().flat_map(|tie| supports(tie, asked.through)).collect();
        places.sort_unstable();
        places.dedup();
        let mut readable = HashMap::new();
        for batch in places.chunks(256) {
            for record in self.log.get(batch.to_vec()).await? {
                if self.may_see(&question, &record)? {
                    let decoded = Decoded::of(&record)?;
                    readable.insert(record.sequence, (decoded.event_id, decoded.publisher));
                }
            }
        }
        Ok(readable)
    }

    /// Every event that matches one of the filters and that the caller may read.
    ///
    /// # Errors
    /// There are more than [`EVENTS_MAX`], or they cannot be read.
    pub async fn gather_events(
        &self,
        rights: &Rights,
        now_ns: i64,
        through: Sequence,
        filters: &[Filter],
    ) -> Result<Gathered, GatherError> {
        let question = Question { filters, rights, now_ns };
        let after = Sequence(self.log.first_retained().get().saturating_sub(1));
        let bounds = Bounds { after, before: through.next(), descending: false };
        let mut records: Vec<Record> = Vec::new();
        let mut gathered = Gathered::default();
        let Some(mut from) = bounds.first() else { return Ok(gathered) };
        let mut work_left = WORK.examined_max / 1_000;
        loop {
            // In stretches, so that no more than one stretch of stored bytes is held while it is opened.
            let work = Work { examined_max: 1_000, lookups_max: 1_000 };
            let next = self
                .walk(&question, bounds, from, work, &mut |record| {
                    records.push(record);
                    Ok(Take::More)
                })
                .await?;
            for record in records.drain(..) {
                gathered.take_in(Decoded::of(&record)?);
            }
            if gathered.events.len() > EVENTS_MAX || work_left == 0 {
                return Err(GatherError::TooManyEvents);
            }
            work_left -= 1;
            match next {
                Some(next) => from = next,
                None => return Ok(gathered),
            }
        }
    }
}

/// Events with what revises them. A stored revision has all its predecessors' terms, so whoever finds an event by a term finds what
/// revises it by the same.
#[derive(Debug, Default)]
pub struct Gathered {
    events: Vec<Decoded>,
    revisions: Revisions,
}

impl Gathered {
    fn take_in(&mut self, decoded: Decoded) {
        self.revisions.note(&decoded);
        self.events.push(decoded);
    }

    /// What `make` makes of each statement and of the event that revises it. A retraction says nothing itself and is left out.
    pub fn statements<T>(&self, make: &dyn Fn(&Decoded, Option<EventId>) -> Option<T>) -> Vec<T> {
        let stating = self.events.iter().filter(|decoded| !decoded.retracts());
        stating.filter_map(|decoded| make(decoded, self.revisions.of(decoded))).collect()
    }
}

/// The statements that hold up a tie, the latest first.
fn supports(tie: &Tie, through: Sequence) -> impl Iterator<Item = Sequence> {
    let mut places: Vec<Sequence> = tie.supports.iter().copied().filter(|place| *place <= through).collect();
    places.sort_unstable_by(|left, right| right.cmp(left));
    places.into_iter().take(SUPPORTS_MAX)
}

/// Whether a subject is the one asked for; an empty issuer or date fits any.
fn fits(asked: &SubjectKey<'_>, found: &SubjectKey<'_>) -> bool {
    asked.kind == found.kind
        && asked.value == found.value
        && (asked.issuer.is_empty() || asked.issuer == found.issuer)
        && (asked.date.is_empty() || asked.date == found.date)
}

/// The filter that finds a subject's events by its value; which of them are about it is checked when they are open.
pub(super) fn by_value(value: &str) -> Option<Filter> {
    let spec = SubjectSpec { value: value.to_owned(), ..SubjectSpec::default() };
    Filter::compile(&FilterSpec { subjects: vec![spec], ..FilterSpec::default() }, false).ok()
}

#[cfg(test)]
mod tests;
