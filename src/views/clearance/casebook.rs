//! The events that one clearance is folded from, gathered by subject through the search index. It takes in all that is there and notes of
//! each whether the caller may read it; nothing of the others leaves this view but a count.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{
    knowledge::{Knowledge, Sight},
    related::Related,
};
use crate::{
    domain::{
        EventId, HeaderRef, Sequence, SpiffeId,
        clearance::HoldKey,
        codes::body,
        term::{TermHash, TermKind},
    },
    identity::Rights,
    log::{LogError, Record},
    views::{
        associations::statement::Subject,
        candidates::{Bounds, Candidates},
        decoded::Decoded,
        finder::{Finder, Question, Work},
        timeline::GatherError,
    },
};

/// At most so many subjects and holds are looked at for one clearance: a bill of several hundred containers, each under a hold of its own.
pub const SUBJECTS_MAX: usize = 1_024;
/// At most so many statements make one clearance: they are folded in memory, about 2 KiB each.
pub const STATEMENTS_MAX: usize = 10_000;
/// What the statements of one subject, or about one hold, may cost to find.
const WORK: Work = Work { examined_max: 20_000, lookups_max: 20_000 };
/// How many are fetched at once.
const BATCH: usize = 256;
/// A shorter list is fetched whole; a longer one (a container's sensors speak of it every hour) is cut down to these bodies first.
const NARROWED_MIN: u64 = 64;
/// The bodies that a clearance is made of.
const BODIES: [u8; 3] = [body::CLEARANCE, body::HOLD, body::ASSOCIATION];

/// One event of the casebook.
#[derive(Debug)]
pub struct Filed {
    /// The event.
    pub decoded: Decoded,
    /// The stored record.
    pub record: Record,
    /// Whether the caller may read it.
    pub readable: bool,
}

/// Where events come from, and who asks.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) finder: &'a Finder,
    pub(super) rights: &'a Rights,
    pub(super) now_ns: i64,
    pub(super) through: Sequence,
}

/// The events of one clearance.
#[derive(Debug, Default)]
pub(super) struct Casebook {
    pub(super) filed: BTreeMap<Sequence, Arc<Filed>>,
    /// The values of subjects whose events are all here.
    gathered: HashSet<Box<str>>,
    /// The holds about which every statement is here.
    gathered_holds: HashSet<HoldKey>,
}

impl Casebook {
    /// Gathers all that belongs to a subject as one sight has it.
    pub(super) async fn gather_related(
        &mut self,
        sources: &Sources<'_>,
        sight: Sight,
        subject: &Subject,
    ) -> Result<Related, GatherError> {
        loop {
            let related = Knowledge::of(self, sight).related(subject);
            let mut missing: Vec<Box<str>> = related
                .everything()
                .map(|one| Box::from(one.fields().value))
                .filter(|value| !self.gathered.contains(value))
                .collect();
            missing.sort();
            missing.dedup();
            let holds: Vec<HoldKey> =
                related.holds.iter().filter(|hold| !self.gathered_holds.contains(hold)).cloned().collect();
            if missing.is_empty() && holds.is_empty() {
                return Ok(related);
            }
            if self.gathered.len() + missing.len() + self.gathered_holds.len() + holds.len() > SUBJECTS_MAX {
                return Err(GatherError::TooManySubjects);
            }
            for value in missing {
                self.gather(sources, candidates(sources.finder, &value)).await?;
                self.gathered.insert(value);
            }
            for hold in holds {
                self.gather(sources, Candidates::term(hold.term())).await?;
                self.gathered_holds.insert(hold);
            }
        }
    }

    async fn gather(&mut self, sources: &Sources<'_>, candidates: Candidates) -> Result<(), GatherError> {
        let mut fresh = Vec::new();
        let mut file = |record| {
            if is_of_clearance(&record)? {
                fresh.extend(self.file(sources, record)?);
            }
            Ok(())
        };
        each(sources.finder, candidates, sources.through, &mut file).await?;
        self.gather_revisions(sources, fresh).await
    }

    /// Takes in what revises the events and was not found by their subjects: a retraction that came before its event has no terms of it.
    async fn gather_revisions(
        &mut self,
        sources: &Sources<'_>,
        mut fresh: Vec<(SpiffeId, EventId)>,
    ) -> Result<(), GatherError> {
        let log = &sources.finder.log;
        while let Some((publisher, event_id)) = fresh.pop() {
            let mut places = log.revisions_of(publisher, event_id).await?;
            places.retain(|place| *place <= sources.through && !self.filed.contains_key(place));
            if places.is_empty() {
                continue;
            }
            for record in log.get(places).await? {
                fresh.extend(self.file(sources, record)?);
            }
        }
        Ok(())
    }

    fn file(&mut self, sources: &Sources<'_>, record: Record) -> Result<Option<(SpiffeId, EventId)>, GatherError> {
        if self.filed.contains_key(&record.sequence) {
            return Ok(None);
        }
        if self.filed.len() >= STATEMENTS_MAX {
            return Err(GatherError::TooManyEvents);
        }
        let question = Question { filters: &[], rights: sources.rights, now_ns: sources.now_ns };
        let readable = sources.finder.may_see(&question, &record)?;
        let decoded = Decoded::of(&record)?;
        let identity = (decoded.publisher.clone(), decoded.event_id);
        self.filed.insert(record.sequence, Arc::new(Filed { decoded, record, readable }));
        Ok(Some(identity))
    }
}

/// Hands over each event at some candidate places up to one.
pub(super) async fn each(
    finder: &Finder,
    mut candidates: Candidates,
    through: Sequence,
    sink: &mut (dyn FnMut(Record) -> Result<(), GatherError> + Send),
) -> Result<(), GatherError> {
    let after = Sequence(finder.log.first_retained().get().saturating_sub(1));
    let bounds = Bounds { after, before: through.next(), descending: false };
    let mut work = WORK;
    let mut place = bounds.first();
    while let Some(at) = place {
        if work.examined_max == 0 || work.lookups_max == 0 {
            return Err(GatherError::TooManyEvents);
        }
        let count = BATCH.min(work.examined_max);
        let (places, next) = finder.gather(&mut candidates, &bounds, at, count, &mut work).await?;
        work.examined_max -= places.len();
        for record in finder.fetch(places, false).await? {
            sink(record)?;
        }
        place = next;
    }
    Ok(())
}

/// Where events of a subject's value may stand that a clearance is made of.
fn candidates(finder: &Finder, value: &str) -> Candidates {
    let term = TermHash::of(TermKind::SubjectValue, &[value.as_bytes()]);
    if finder.index.estimate(term) < NARROWED_MIN {
        return Candidates::term(term);
    }
    let bodies = BODIES.map(|body| TermHash::of(TermKind::BodyType, &[&[body]]));
    Candidates::All(vec![Candidates::term(term), Candidates::any_term(&bodies)])
}

fn is_of_clearance(record: &Record) -> Result<bool, LogError> {
    let header = HeaderRef::parse(&record.header)
        .map_err(|error| LogError::Damaged(format!("sequence {}: {error}", record.sequence)))?;
    Ok(header.types().any(|one| BODIES.contains(&one.body)))
}
