//! What one event changed of some clearances: each before it and after it, folded anew. It never keeps more than how the subjects of one
//! watch stood last.

use std::sync::Arc;

use super::message::message;
use crate::{
    api::queries::{Asking, Queries, QueryError},
    domain::{HeaderRef, Sequence, codes::body},
    identity::Caller,
    log::{LogError, Record},
    views::{
        associations::statement::Subject,
        clearance::{Clearance, Concerned, LookedAt, Shelf},
        finder::Question,
        timeline::GatherError,
    },
    wire::proto::{self, ClearanceChange, ClearanceChanges},
};

/// One event tells of so many declarations, or goods by their own numbers: as many as it may name itself.
const UNITS_MAX: usize = 512;

/// What a watch is about.
#[derive(Debug)]
pub enum Watched {
    /// Every declaration, and goods that are cleared or held by their own number.
    Each,
    /// These subjects.
    These(Vec<Subject>),
}

/// A watch, and how its subjects stood last.
#[derive(Debug)]
pub struct Watching {
    queries: Arc<Queries>,
    caller: Caller,
    watched: Watched,
    /// Of [`Watched::These`], in the same order; none before the first event.
    stood: Option<Vec<Stood>>,
}

/// How one subject stood last.
#[derive(Debug, Clone, Default)]
struct Stood {
    clearance: Option<proto::ClearanceStatus>,
    /// What must be named to change it; none where it was too large to tell.
    looked_at: Option<LookedAt>,
}

impl Watching {
    /// A watch of what one caller may see.
    #[must_use]
    pub const fn new(queries: Arc<Queries>, caller: Caller, watched: Watched) -> Self {
        Self { queries, caller, watched, stood: None }
    }

    /// What an event changed; none where it changed nothing that the caller is shown. Events are to be given in the order of the log.
    ///
    /// # Errors
    /// The search view has not come as far as the event, or something cannot be read.
    pub async fn look(&mut self, record: &Record) -> Result<Option<ClearanceChanges>, QueryError> {
        let queries = Arc::clone(&self.queries);
        queries.parts.search_view.wait_until(record.sequence).await?;
        let asking = queries.asking_as_of(&self.caller, record.sequence);
        let concerned = queries.concerned(record).await?;
        let (changes, incomplete) = match &self.watched {
            Watched::Each => {
                let (units, incomplete) = queries.units(&asking, concerned, record.sequence).await?;
                (queries.changes_of_each(&asking, record.sequence, &units).await?, incomplete)
            }
            Watched::These(subjects) => {
                let subjects = subjects.clone();
                (self.changes_of_these(&asking, record.sequence, &subjects, &concerned).await?, false)
            }
        };
        let question = Question { filters: &[], rights: &asking.rights, now_ns: asking.now_ns };
        let readable = queries.finder.may_see(&question, record)?;
        if changes.is_empty() && !(incomplete && readable) {
            return Ok(None);
        }
        Ok(Some(ClearanceChanges {
            position: queries.position(record.sequence),
            event: if readable { Some(queries.recorded(record)?) } else { None },
            changes,
            incomplete,
        }))
    }

    async fn changes_of_these(
        &mut self,
        asking: &Asking,
        at: Sequence,
        subjects: &[Subject],
        concerned: &Concerned,
    ) -> Result<Vec<ClearanceChange>, QueryError> {
        let mut stood = match self.stood.take() {
            Some(stood) => stood,
            None => self.queries.stand(asking, before(at), subjects).await?,
        };
        let mut changes = Vec::new();
        for (subject, stood) in subjects.iter().zip(&mut stood) {
            if stood.looked_at.as_ref().is_some_and(|looked_at| !looked_at.is_touched_by(concerned)) {
                continue;
            }
            let now = self.queries.stands(asking, at, subject).await?;
            changes.extend(change(subject, stood.clearance.take(), &now));
            *stood = now;
        }
        self.stood = Some(stood);
        Ok(changes)
    }
}

impl Queries {
    /// Which clearances an event bears on, those of what it revises too.
    async fn concerned(&self, record: &Record) -> Result<Concerned, LogError> {
        let mut concerned = Concerned::by(record)?;
        let header = HeaderRef::parse(&record.header)
            .map_err(|error| LogError::Damaged(format!("sequence {}: {error}", record.sequence)))?;
        // A revision that came before what it revises has no terms of that, and none knows a hold.
        let is_of_hold = header.types().any(|one| one.body == body::HOLD);
        if let (Some(revises), true) = (header.revises(), header.revision_unresolved() || is_of_hold) {
            let publisher = crate::domain::SpiffeId::parse(header.publisher())
                .map_err(|error| LogError::Damaged(format!("sequence {}: {error}", record.sequence)))?;
            if let Some(revised) = self.parts.log.find(publisher, revises.event_id).await? {
                concerned.extend(Concerned::by(&revised)?);
            }
        }
        Ok(concerned)
    }

    /// The declarations, or goods by their own numbers, that an event bears on, those of its holds too; and whether these are not all.
    async fn units(
        &self,
        asking: &Asking,
        mut concerned: Concerned,
        at: Sequence,
    ) -> Result<(Vec<Subject>, bool), QueryError> {
        let mut incomplete = false;
        for hold in std::mem::take(&mut concerned.holds) {
            match self.finder.held_units(&hold, (&asking.rights, asking.now_ns), at).await {
                Ok(units) => concerned.extend(Concerned { units, ..Concerned::default() }),
                // Its clearances are too large to be folded, too.
                Err(GatherError::TooManyEvents | GatherError::TooManySubjects) => incomplete = true,
                Err(GatherError::Log(error)) => return Err(error.into()),
            }
        }
        incomplete |= concerned.units.len() > UNITS_MAX;
        concerned.units.truncate(UNITS_MAX);
        Ok((concerned.units, incomplete))
    }

    async fn changes_of_each(
        &self,
        asking: &Asking,
        at: Sequence,
        units: &[Subject],
    ) -> Result<Vec<ClearanceChange>, QueryError> {
        let mut changes: Vec<ClearanceChange> = Vec::new();
        for unit in units {
            // Both are made of the same events, but for one.
            let mut shelf = Shelf::through(at);
            let was = self.stands_alone(asking, before(at), unit, &mut shelf).await?;
            let is = self.stands_alone(asking, at, unit, &mut shelf).await?;
            // Two numbers of one declaration change together.
            changes.extend(
                change(unit, was.clearance, &is).filter(|new| changes.iter().all(|known| known.subject != new.subject)),
            );
        }
        Ok(changes)
    }

    /// How a declaration, or goods by their own number, stand; nothing where the caller may read nothing that is about just them.
    async fn stands_alone(
        &self,
        asking: &Asking,
        through: Sequence,
        unit: &Subject,
        shelf: &mut Shelf,
    ) -> Result<Stood, QueryError> {
        match self.finder.clearance_with(&asking.about(unit, through), shelf).await {
            Ok(found) if found.own.is_empty() => Ok(Stood { clearance: None, looked_at: Some(found.looked_at) }),
            Ok(found) => {
                let own = found.clearance.as_ref().and_then(|clearance| clearance.own_lifecycle());
                let subject = message(own.map_or(unit, |own| &own.subject));
                let clearance = self.told(asking, through, found.clearance.as_ref()).await?;
                let clearance =
                    clearance.map(|clearance| proto::ClearanceStatus { subject: Some(subject), ..clearance });
                Ok(Stood { clearance, looked_at: Some(found.looked_at) })
            }
            Err(error) => too_large(error),
        }
    }

    async fn stands(&self, asking: &Asking, through: Sequence, subject: &Subject) -> Result<Stood, QueryError> {
        match self.found(asking, through, subject).await {
            Ok(found) => {
                let clearance = self.told(asking, through, found.clearance.as_ref()).await?;
                Ok(Stood { clearance, looked_at: Some(found.looked_at) })
            }
            Err(error) => too_large(error),
        }
    }

    async fn stand(&self, asking: &Asking, through: Sequence, subjects: &[Subject]) -> Result<Vec<Stood>, QueryError> {
        let mut stood = Vec::with_capacity(subjects.len());
        for subject in subjects {
            stood.push(self.stands(asking, through, subject).await?);
        }
        Ok(stood)
    }

    /// How a clearance stands at a place. A node that kept something back brings it behind what it told before: until a watch has come as
    /// far, it tells no release but one that holds there as well.
    async fn told(
        &self,
        asking: &Asking,
        through: Sequence,
        clearance: Option<&Clearance>,
    ) -> Result<Option<proto::ClearanceStatus>, QueryError> {
        let Some(clearance) = clearance else { return Ok(None) };
        let mut status = self.in_short(clearance);
        let from = self.complete_from(&clearance.origins);
        if status.released && through < from && !self.may_leave_at(asking, from, &clearance.subject).await? {
            status.released = false;
            status.obstacles.push(proto::Obstacle::SourceIncomplete.into());
        }
        Ok(Some(status))
    }

    async fn may_leave_at(&self, asking: &Asking, at: Sequence, subject: &Subject) -> Result<bool, QueryError> {
        self.parts.search_view.wait_until(at).await?;
        match self.found(asking, at, subject).await {
            Ok(found) => Ok(found.clearance.is_some_and(|later| later.obstacles.is_empty() && !later.withheld)),
            Err(GatherError::TooManySubjects | GatherError::TooManyEvents) => Ok(false),
            Err(GatherError::Log(error)) => Err(error.into()),
        }
    }

    /// A clearance as a watch tells it: what it comes to, without the steps that brought it there.
    fn in_short(&self, clearance: &Clearance) -> proto::ClearanceStatus {
        // Each change is told as of its event, and what came later follows: it rests on what the sources are known to have sent by now.
        let mut message = self.clearance_message(clearance, Sequence(u64::MAX));
        message.revised.clear();
        for lifecycle in &mut message.lifecycles {
            lifecycle.steps.clear();
            lifecycle.steps_omitted = 0;
        }
        message
    }
}

/// The change from one standing to the next; none where they are alike.
fn change(subject: &Subject, was: Option<proto::ClearanceStatus>, is: &Stood) -> Option<ClearanceChange> {
    let too_large = is.looked_at.is_none();
    if was == is.clearance && !too_large {
        return None;
    }
    let told = is.clearance.as_ref().or(was.as_ref()).and_then(|clearance| clearance.subject.clone());
    Some(ClearanceChange {
        subject: Some(told.unwrap_or_else(|| message(subject))),
        before: was,
        after: is.clearance.clone(),
        too_large,
    })
}

fn too_large(error: GatherError) -> Result<Stood, QueryError> {
    match error {
        GatherError::TooManySubjects | GatherError::TooManyEvents => Ok(Stood::default()),
        GatherError::Log(error) => Err(error.into()),
    }
}

fn before(at: Sequence) -> Sequence {
    Sequence(at.get().saturating_sub(1))
}
