//! What was taken from the index and the log for one asker at one moment, opened and judged once: her sight and that of the node, and the
//! folds before an event and after it, are made of the same events. It never outlives the call that it was made for, so that no right and
//! no event can change under it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{casebook::Sources, knowledge::Words};
use crate::{
    domain::{
        EventId, HeaderRef, Sequence, SpiffeId,
        codes::body,
        term::{TermHash, TermKind},
    },
    log::{LogError, Record},
    views::{
        associations::statement::Statement,
        candidates::{Bounds, Candidates},
        decoded::Decoded,
        finder::{Finder, Question, Work},
        fold_order::FoldKey,
        timeline::GatherError,
    },
};

/// A longer list (a container's sensors speak of it every hour) is not fetched whole: it is cut down to the bodies that a clearance is made
/// of first.
const PLACES_MAX: usize = 256;
/// How many events are fetched at once.
const BATCH: usize = 256;
/// What the statements of one subject that has many, or about one hold, may cost to find.
const WORK: Work = Work { examined_max: 20_000, lookups_max: 20_000 };
/// The bodies that a clearance is made of.
const BODIES: [u8; 3] = [body::CLEARANCE, body::HOLD, body::ASSOCIATION];

/// One event of a casebook.
#[derive(Debug)]
pub struct Filed {
    /// The event.
    pub decoded: Decoded,
    /// The stored record.
    pub record: Record,
    /// Whether the caller may read it.
    pub readable: bool,
    /// Its place in the order of statements.
    pub(super) key: FoldKey,
    /// What it says of a clearance or a hold.
    pub(super) words: Option<Words>,
    /// What it says of associations.
    pub(super) statement: Option<Statement>,
    /// Whether it is of a body that a clearance is made of; another only revises such an event.
    is_of_clearance: bool,
}

/// What was taken in so far.
#[derive(Debug)]
pub struct Shelf {
    /// Everything up to here is looked at; a fold may count less.
    through: Sequence,
    /// The places of terms that have few.
    places: HashMap<TermHash, Arc<[Sequence]>>,
    /// The events at places; none at one that no clearance is made of.
    events: BTreeMap<Sequence, Option<Arc<Filed>>>,
    /// Where the events stand that revise these.
    revisions: HashMap<(SpiffeId, EventId), Arc<[Sequence]>>,
}

impl Shelf {
    /// Nothing yet, for folds up to a place.
    #[must_use]
    pub fn through(through: Sequence) -> Self {
        Self { through, places: HashMap::new(), events: BTreeMap::new(), revisions: HashMap::new() }
    }

    /// The events that a clearance may be made of at the places of some terms, up to a place.
    pub(super) async fn found_by(
        &mut self,
        sources: &Sources<'_>,
        terms: &[TermHash],
    ) -> Result<Vec<Arc<Filed>>, GatherError> {
        assert!(sources.through <= self.through, "a shelf is made for the last of its folds");
        let missing: Vec<TermHash> = terms.iter().copied().filter(|term| !self.places.contains_key(term)).collect();
        let mut long = Vec::new();
        if !missing.is_empty() {
            let index = &sources.finder.index;
            let found = index.all_places(missing.clone(), self.through.next(), PLACES_MAX).await?;
            for (term, places) in missing.into_iter().zip(found) {
                match places {
                    Some(places) => drop(self.places.insert(term, places.into())),
                    None => long.push(term),
                }
            }
        }
        let first = sources.finder.log.first_retained();
        let known = terms.iter().filter_map(|term| self.places.get(term)).flat_map(|places| places.iter().copied());
        let mut places: Vec<Sequence> = known.filter(|place| (first..=sources.through).contains(place)).collect();
        places.sort_unstable();
        places.dedup();
        self.fetch(sources, &places).await?;
        for term in long {
            let mut take = |record: Record| {
                places.push(record.sequence);
                self.take_in(sources, record)
            };
            each(sources.finder, term, sources.through, &mut take).await?;
        }
        places.sort_unstable();
        places.dedup();
        let found = places.iter().filter_map(|place| self.events.get(place).cloned().flatten());
        Ok(found.filter(|filed| filed.is_of_clearance).collect())
    }

    /// The events that revise some others directly and were not found by their subjects, perhaps: a retraction that came before its event
    /// has no terms of it.
    pub(super) async fn revising(
        &mut self,
        sources: &Sources<'_>,
        revised: &[Arc<Filed>],
    ) -> Result<Vec<Arc<Filed>>, GatherError> {
        let identity = |filed: &Arc<Filed>| (filed.decoded.publisher.clone(), filed.decoded.event_id);
        let identities: Vec<(SpiffeId, EventId)> = revised.iter().map(identity).collect();
        let missing: Vec<_> = identities.iter().filter(|one| !self.revisions.contains_key(*one)).cloned().collect();
        if !missing.is_empty() {
            let places = sources.finder.log.revisions_of(missing.clone()).await?;
            let mut whose: HashMap<(SpiffeId, EventId), Vec<Sequence>> = HashMap::new();
            for batch in places.chunks(BATCH) {
                for record in sources.finder.log.get(batch.to_vec()).await? {
                    let is_of_clearance = is_of_clearance(&record)?;
                    let filed = self.file(sources, record, is_of_clearance)?;
                    if let Some(revised) = filed.decoded.revises {
                        let of = (filed.decoded.publisher.clone(), revised);
                        whose.entry(of).or_default().push(filed.decoded.sequence);
                    }
                }
            }
            for one in missing {
                let places = whose.remove(&one).unwrap_or_default();
                self.revisions.insert(one, places.into());
            }
        }
        let places = identities.iter().filter_map(|one| self.revisions.get(one)).flat_map(|places| places.iter());
        let counting = places.filter(|place| **place <= sources.through);
        Ok(counting.filter_map(|place| self.events.get(place).cloned().flatten()).collect())
    }

    /// Fetches what is not here yet.
    async fn fetch(&mut self, sources: &Sources<'_>, places: &[Sequence]) -> Result<(), GatherError> {
        let missing: Vec<Sequence> = places.iter().copied().filter(|place| !self.events.contains_key(place)).collect();
        for batch in missing.chunks(BATCH) {
            for record in sources.finder.log.get(batch.to_vec()).await? {
                self.take_in(sources, record)?;
            }
        }
        Ok(())
    }

    /// Takes in an event that was found by a term, where a clearance may be made of it.
    fn take_in(&mut self, sources: &Sources<'_>, record: Record) -> Result<(), LogError> {
        if self.events.contains_key(&record.sequence) {
            return Ok(());
        }
        if is_of_clearance(&record)? {
            self.file(sources, record, true)?;
        } else {
            self.events.insert(record.sequence, None);
        }
        Ok(())
    }

    fn file(&mut self, sources: &Sources<'_>, record: Record, is_of_clearance: bool) -> Result<Arc<Filed>, LogError> {
        if let Some(Some(filed)) = self.events.get(&record.sequence) {
            return Ok(Arc::clone(filed));
        }
        let place = record.sequence;
        let filed = Arc::new(Filed::of(sources, record, is_of_clearance)?);
        self.events.insert(place, Some(Arc::clone(&filed)));
        Ok(filed)
    }
}

impl Filed {
    fn of(sources: &Sources<'_>, record: Record, is_of_clearance: bool) -> Result<Self, LogError> {
        let question = Question { filters: &[], rights: sources.rights, now_ns: sources.now_ns };
        let readable = sources.finder.may_see(&question, &record)?;
        let decoded = Decoded::of(&record)?;
        Ok(Self {
            readable,
            key: decoded.fold_key(),
            words: Words::of(&decoded),
            statement: Statement::of(&decoded),
            is_of_clearance,
            decoded,
            record,
        })
    }
}

/// Hands over each event at the places of a term that has many, of those that a clearance is made of, up to a place.
async fn each(
    finder: &Finder,
    term: TermHash,
    through: Sequence,
    sink: &mut (dyn FnMut(Record) -> Result<(), LogError> + Send),
) -> Result<(), GatherError> {
    let bodies = BODIES.map(|body| TermHash::of(TermKind::BodyType, &[&[body]]));
    let mut candidates = Candidates::All(vec![Candidates::term(term), Candidates::any_term(&bodies)]);
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

fn is_of_clearance(record: &Record) -> Result<bool, LogError> {
    let header = HeaderRef::parse(&record.header)
        .map_err(|error| LogError::Damaged(format!("sequence {}: {error}", record.sequence)))?;
    Ok(header.types().any(|one| BODIES.contains(&one.body)))
}
