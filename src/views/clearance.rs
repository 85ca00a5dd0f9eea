//! Whether goods may go on, folded at the moment of asking from the events that the search index finds: of the subject, and of what
//! associations and clearances tie to it. Nothing is stored for it, so there is no second truth that could differ from the log, nothing
//! to migrate, and no size to bound but that of one answer: a clearance has tens of events, found and folded in some milliseconds.
//!
//! **Who sees what.** Two folds are made of the same events: of those that the caller may read, and of all. She is shown the first. Of
//! the second she is told no more than how many holds are open that she is not shown, and that the goods may not leave where only what
//! she may not read stands against it. So a release is one for all: nobody is told "released" while the node knows better.

mod casebook;
mod coverage;
mod knowledge;
mod related;
mod shelf;

use std::{collections::BTreeSet, sync::Arc};

use self::{
    casebook::{Casebook, Sources},
    coverage::CoverageFound,
    knowledge::{Knowledge, Said, Sight},
    related::{Related, SubjectSet},
};
pub use self::{
    casebook::{STATEMENTS_MAX, SUBJECTS_MAX},
    knowledge::{hold_of, primary_names},
    shelf::{Filed, Shelf},
};
use super::{
    associations::statement::Subject,
    decoded::Decoded,
    finder::{Finder, Question, Take, Work},
    timeline::{GatherError, by_value},
};
use crate::{
    domain::{
        EventId, HeaderRef, Sequence, SpiffeId,
        bindings::SubjectKey,
        clearance::{Coverage, HoldKey, Level, Lifecycle, Obstacle, obstacles},
        codes::body,
        header::SubjectRef,
    },
    identity::Rights,
    log::{LogError, Record},
    views::candidates::Bounds,
    wire::proto,
};

/// How far the node looks for one event of a subject that the caller may read, before it says that there is none.
const ANYTHING: Work = Work { examined_max: 10_000, lookups_max: 10_000 };

/// Whose clearance, and as who sees it when.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The subject; an empty issuer fits any.
    pub subject: SubjectKey<'a>,
    /// The caller's rights.
    pub rights: &'a Rights,
    /// Now, nanoseconds since 1970.
    pub now_ns: i64,
    /// The last place of the log that counts.
    pub through: Sequence,
}

/// Whether some goods may go on, as one caller is shown it.
#[derive(Debug, Clone)]
pub struct Clearance {
    /// What was asked for.
    pub subject: Subject,
    /// What clears it: its declarations, and goods that are cleared by their own number.
    pub lifecycles: Vec<Unit>,
    /// Open holds that she may read of.
    pub open_holds: Vec<Held>,
    /// How many more are open.
    pub withheld_holds: u32,
    /// Whether all declarations are known.
    pub coverage: Coverage,
    /// The associations that say so.
    pub coverage_by: Vec<Arc<Filed>>,
    /// What stands against a release.
    pub obstacles: Vec<Obstacle>,
    /// Nothing that she may read stands against a release, and something else does.
    pub withheld: bool,
    /// Statements that were corrected or retracted, each with what did it.
    pub revised: Vec<(Arc<Filed>, EventId)>,
    /// The other nodes that have part in it: where statements about the goods, and about what belongs to them, were first admitted.
    pub origins: BTreeSet<SpiffeId>,
}

impl Clearance {
    /// The lifecycle of the subject's own number, or of the one declaration of which it is another number.
    #[must_use]
    pub fn own_lifecycle(&self) -> Option<&Unit> {
        self.lifecycles.iter().find(|unit| {
            let numbers = std::iter::once(&unit.subject).chain(&unit.other_numbers);
            numbers.into_iter().any(|number| related::fits(&number.fields(), &self.subject.fields()))
        })
    }
}

/// One declaration, or goods cleared by their own number.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Its number.
    pub subject: Subject,
    /// Its other numbers.
    pub other_numbers: Vec<Subject>,
    /// Its steps, in the order of statements.
    pub steps: Vec<Arc<Filed>>,
    /// What they come to; steps are named by their indexes.
    pub folded: Lifecycle,
}

/// An open hold.
#[derive(Debug, Clone)]
pub struct Held {
    /// What names it.
    pub key: HoldKey,
    /// The statements that place it, in order.
    pub placed_by: Vec<Arc<Filed>>,
}

/// A clearance, with what it rests on.
#[derive(Debug)]
pub struct Found {
    /// What the caller is shown; none where there is nothing of the subject that she may read.
    pub clearance: Option<Clearance>,
    /// What was looked at: an event that bears on nothing of it changes nothing of the clearance.
    pub looked_at: LookedAt,
    /// The steps and holds in force that the caller may read and that are about the subject itself.
    pub own: Vec<Arc<Filed>>,
}

/// Some numbers and some holds.
#[derive(Debug, Clone, Default)]
pub struct LookedAt {
    subjects: SubjectSet,
    holds: BTreeSet<HoldKey>,
}

impl LookedAt {
    fn take_in(&mut self, related: &Related) {
        self.subjects.extend(related.everything());
        self.holds.extend(related.holds.iter().cloned());
    }

    /// Whether an event bears on any of them.
    #[must_use]
    pub fn is_touched_by(&self, concerned: &Concerned) -> bool {
        concerned.names.iter().any(|subject| self.subjects.contains(&subject.fields()))
            || concerned.holds.iter().any(|hold| self.holds.contains(hold))
    }
}

/// What one sight of the events comes to.
struct Seen {
    units: Vec<Unit>,
    holds: Vec<Held>,
    coverage: CoverageFound,
    obstacles: Vec<Obstacle>,
}

impl Finder {
    /// Folds the clearance of one subject.
    ///
    /// # Errors
    /// More belongs to it than one answer gathers, or it cannot be read.
    pub async fn clearance(&self, asked: &Asked<'_>) -> Result<Found, GatherError> {
        self.clearance_with(asked, &mut Shelf::through(asked.through)).await
    }

    /// Folds the clearance of one subject from what the same asker took in at the same moment for another fold, and the rest.
    ///
    /// # Errors
    /// As for [`Self::clearance`].
    pub async fn clearance_with(&self, asked: &Asked<'_>, shelf: &mut Shelf) -> Result<Found, GatherError> {
        let sources = Sources { finder: self, rights: asked.rights, now_ns: asked.now_ns, through: asked.through };
        let subject = Subject::of(&asked.subject);
        let mut casebook = Casebook::default();
        let mut looked_at = LookedAt::default();
        let (shown, mut visible) = casebook.gather_related(&sources, shelf, Sight::Caller, &subject).await?;
        looked_at.take_in(&shown);
        // Where she may read everything, what the node knows is what she is shown.
        let mut hidden = None;
        if !casebook.is_all_readable() {
            let (everything, knowledge) = casebook.gather_related(&sources, shelf, Sight::All, &subject).await?;
            looked_at.take_in(&everything);
            // Of what was gathered for that sight she may read some, perhaps.
            visible = Knowledge::of(&casebook, Sight::Caller);
            hidden = Some(Seen::of(&knowledge, &everything));
        }
        let anything = visible.names(&subject) || self.anything_readable(asked).await?;
        let own = if anything { own(&visible, &shown) } else { Vec::new() };
        let clearance = anything.then(|| {
            let origins = casebook.filed.values().filter_map(|filed| filed.record.origin.as_ref());
            let origins = origins.map(|origin| &origin.node).filter(|node| **node != self.node).cloned().collect();
            Clearance { origins, ..clearance(&visible, hidden.as_ref(), subject, &shown) }
        });
        Ok(Found { clearance, looked_at, own })
    }

    /// What a hold was placed on, as far as the places up to one say; the units of all its statements.
    ///
    /// # Errors
    /// There are more statements than one answer gathers, or they cannot be read.
    pub async fn held_units(
        &self,
        hold: &HoldKey,
        (rights, now_ns): (&Rights, i64),
        through: Sequence,
    ) -> Result<Vec<Subject>, GatherError> {
        let mut held = Concerned::default();
        let sources = Sources { finder: self, rights, now_ns, through };
        for filed in Shelf::through(through).found_by(&sources, &[hold.term()]).await? {
            held.extend(Concerned::by(&filed.record)?);
        }
        Ok(held.units)
    }

    /// Whether there is any event of the subject, of whatever body, that the caller may read.
    async fn anything_readable(&self, asked: &Asked<'_>) -> Result<bool, GatherError> {
        let Some(filter) = by_value(asked.subject.value) else { return Ok(false) };
        let question = Question { filters: &[filter], rights: asked.rights, now_ns: asked.now_ns };
        let after = Sequence(self.log.first_retained().get().saturating_sub(1));
        let bounds = Bounds { after, before: asked.through.next(), descending: true };
        let Some(from) = bounds.first() else { return Ok(false) };
        let mut found = false;
        let mut look = |record| {
            let decoded = Decoded::of(&record)?;
            found = decoded.subjects().any(|subject| related::fits(&asked.subject, &super::decoded::key(&subject)));
            Ok(if found { Take::Last } else { Take::More })
        };
        self.walk(&question, bounds, from, ANYTHING, &mut look).await?;
        Ok(found)
    }
}

/// What the caller is shown; `hidden` is what the node knows, where she may not read all of it.
fn clearance(visible: &Knowledge, hidden: Option<&Seen>, subject: Subject, related: &Related) -> Clearance {
    let seen = Seen::of(visible, related);
    let is_shown = |hold: &Held| seen.holds.iter().any(|shown| shown.key == hold.key);
    let withheld_holds = hidden.map_or(0, |known| known.holds.iter().filter(|hold| !is_shown(hold)).count() as u32);
    let mut obstacles = seen.obstacles;
    if withheld_holds > 0 && !obstacles.contains(&Obstacle::HoldOpen) {
        obstacles.push(Obstacle::HoldOpen);
        obstacles.sort();
    }
    let withheld = obstacles.is_empty() && hidden.is_some_and(|known| !known.obstacles.is_empty());
    let concerns =
        |said: &Said| said.touches(&related.names) || related.units.iter().any(|unit| said.is_about(&unit.names));
    let revised = visible.revised.iter().filter(|(said, _)| concerns(said));
    Clearance {
        subject,
        lifecycles: seen.units,
        open_holds: seen.holds,
        withheld_holds,
        coverage: seen.coverage.coverage,
        coverage_by: seen.coverage.said_by,
        obstacles,
        withheld,
        revised: revised.map(|(said, by)| (Arc::clone(&said.filed), *by)).collect(),
        origins: BTreeSet::new(),
    }
}

/// The steps and holds in force about the subject itself, by whatever of its numbers.
fn own(visible: &Knowledge, related: &Related) -> Vec<Arc<Filed>> {
    let own = visible.said.iter().filter(|said| said.is_about(&related.names));
    own.map(|said| Arc::clone(&said.filed)).collect()
}

impl Seen {
    fn of(knowledge: &Knowledge, related: &Related) -> Self {
        let units: Vec<Unit> = related.units.iter().filter_map(|unit| unit_of(knowledge, unit)).collect();
        let holds = knowledge.open_holds(&related.held_by());
        let coverage = knowledge.coverage(related, !units.is_empty());
        let let_go = units.iter().map(|unit| unit.folded.lets_go());
        // A declaration that covers the goods and of which no step is known has not let them go.
        let unknown =
            related.units.iter().filter(|unit| unit.declared && unit_of(knowledge, unit).is_none()).map(|_| false);
        let obstacles = obstacles(let_go.chain(unknown), !holds.is_empty(), coverage.coverage);
        Self { units, holds, coverage, obstacles }
    }
}

fn unit_of(knowledge: &Knowledge, unit: &related::CoveringUnit) -> Option<Unit> {
    let steps = knowledge.steps_of(&unit.names);
    if steps.is_empty() {
        return None;
    }
    let (steps, folds): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
    let other_numbers = unit.names.iter().filter(|name| **name != unit.subject).cloned().collect();
    Some(Unit { subject: unit.subject.clone(), other_numbers, steps, folded: Lifecycle::fold(&folds) })
}

/// Which clearances an event bears on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Concerned {
    /// Everything that it names by which goods are cleared.
    pub names: Vec<Subject>,
    /// What its steps and holds are about first of all, and the declarations that its associations tie; of a revision all that it names.
    pub units: Vec<Subject>,
    /// The holds that it is a statement about.
    pub holds: Vec<HoldKey>,
}

impl Concerned {
    /// Which clearances a stored event bears on, by its header, which has the subjects of all that it revises.
    ///
    /// # Errors
    /// The header or the event is damaged.
    pub fn by(record: &Record) -> Result<Self, LogError> {
        let header = HeaderRef::parse(&record.header)
            .map_err(|error| LogError::Damaged(format!("sequence {}: {error}", record.sequence)))?;
        let says = |bodies: &[u8]| header.types().any(|one| bodies.contains(&one.body));
        let named = |counts: &dyn Fn(u8) -> bool| {
            let levelled =
                header.subjects().filter(|subject| Level::of(subject.kind).is_some() && counts(subject.role));
            let mut names: Vec<Subject> = levelled
                .map(|SubjectRef { kind, value, issuer, date, .. }| {
                    Subject::of(&SubjectKey { kind, value, issuer, date })
                })
                .collect();
            names.sort();
            names.dedup();
            names
        };
        let names = named(&|_| true);
        let mut units = Vec::new();
        if header.revises().is_some() {
            units.clone_from(&names);
        } else if says(&[body::CLEARANCE, body::HOLD]) {
            units = knowledge::keys(named(&|role| role == proto::SubjectRole::Primary as u8));
        } else if says(&[body::ASSOCIATION]) {
            units.clone_from(&names);
            units.retain(|name| Level::of(name.fields().kind) == Some(Level::Declaration));
        }
        let hold = if says(&[body::HOLD]) { hold_of(&Decoded::of(record)?) } else { None };
        Ok(Self { names, units, holds: hold.into_iter().collect() })
    }

    /// Adds what another event bears on.
    pub fn extend(&mut self, other: Self) {
        for (own, others) in [(&mut self.names, other.names), (&mut self.units, other.units)] {
            own.extend(others);
            own.sort();
            own.dedup();
        }
        self.holds.extend(other.holds);
        self.holds.sort();
        self.holds.dedup();
    }
}

#[cfg(test)]
mod tests;
