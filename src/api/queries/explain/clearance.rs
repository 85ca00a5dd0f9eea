//! What part an event has in the clearance of the goods that it names. It tells only what the caller may read: who operates the node and
//! may not read the event is told that this is withheld, and nothing of the goods.

use crate::{
    api::queries::{Queries, QueryError, timeline::subject_message},
    domain::{EventId, Sequence, clearance::AnomalyKind},
    identity::Rights,
    log::Record,
    views::{
        ViewHandle,
        associations::statement::Subject,
        clearance::{Asked, Clearance, Concerned, Filed, Unit, primary_names},
        decoded::Decoded,
        finder::Question,
        timeline::GatherError,
    },
    wire::proto::{ClearancePart, ClearanceReach, event::Body},
};

/// So many goods are told of at the most: a hold may name a ship's containers, and each is a clearance of its own to fold.
const TOLD_MAX: usize = 16;

/// An event with what decides its part.
struct Explained<'a> {
    record: &'a Record,
    decoded: Decoded,
    /// What revises it, the last where several do.
    revised_by: Option<&'a EventId>,
}

impl Queries {
    /// The event's part in the clearance of what it names, how many more there are, and whether all of this is withheld.
    pub(super) async fn clearance_reach(
        &self,
        rights: &Rights,
        record: &Record,
        revised_by: Option<&EventId>,
        now_ns: i64,
    ) -> Result<(Vec<ClearanceReach>, u32, bool), QueryError> {
        if !self.finder.may_see(&Question { filters: &[], rights, now_ns }, record)? {
            return Ok((Vec::new(), 0, true));
        }
        let event = Explained { record, decoded: Decoded::of(record)?, revised_by };
        let mut names = Concerned::by(record)?.names;
        let omitted = names.len().saturating_sub(TOLD_MAX);
        names.truncate(TOLD_MAX);
        let through = self.answered_through();
        let mut told = Vec::with_capacity(names.len());
        for subject in names {
            let (part, reason) = self.part(rights, &event, &subject, through, now_ns).await?;
            told.push(ClearanceReach { subject: Some(subject_message(&subject.term())), part: part.into(), reason });
        }
        Ok((told, u32::try_from(omitted).unwrap_or(u32::MAX), false))
    }

    /// Through which place both views answer; zero while one does not answer at all.
    fn answered_through(&self) -> Sequence {
        let answered = |view: &ViewHandle| {
            let progress = view.progress();
            let answers = progress.loaded && progress.answers_from <= progress.applied;
            if answers { progress.applied } else { Sequence::ZERO }
        };
        answered(&self.parts.search_view).min(answered(&self.parts.associations_view))
    }

    async fn part(
        &self,
        rights: &Rights,
        event: &Explained<'_>,
        subject: &Subject,
        through: Sequence,
        now_ns: i64,
    ) -> Result<(ClearancePart, String), QueryError> {
        if through < event.record.sequence {
            return Ok((ClearancePart::NotYet, format!("the views have come to sequence {through}")));
        }
        match self.finder.clearance(&Asked { subject: subject.fields(), rights, now_ns, through }).await {
            // The event is one of the subject, and the caller may read it: without anything to show there is nothing that it is part of.
            Ok(found) => Ok(found.clearance.map_or_else(
                || none("it names the goods and says nothing of their clearance"),
                |clearance| event.part_in(&clearance),
            )),
            Err(error @ (GatherError::TooManySubjects | GatherError::TooManyEvents)) => {
                Ok((ClearancePart::TooLarge, error.to_string()))
            }
            Err(GatherError::Log(error)) => Err(error.into()),
        }
    }
}

impl Explained<'_> {
    fn part_in(&self, clearance: &Clearance) -> (ClearancePart, String) {
        if let Some(by) = self.revised_by {
            return (ClearancePart::Revised, format!("{by} took its place"));
        }
        match &self.decoded.event.body {
            None => match self.decoded.revises {
                Some(revised) => (ClearancePart::Retraction, format!("it takes back {revised}")),
                None => none("it says nothing"),
            },
            Some(Body::Clearance(_)) => {
                let step = clearance.lifecycles.iter().find_map(|unit| Some((unit, self.among(&unit.steps)?)));
                step.map_or_else(|| none("it is a step of other goods"), |(unit, step)| as_step(unit, step))
            }
            Some(Body::Hold(hold)) => {
                let of = format!("the hold {} of {}", hold.hold_id, self.decoded.publisher.trust_domain());
                if clearance.open_holds.iter().any(|held| self.among(&held.placed_by).is_some()) {
                    (ClearancePart::OpenHold, format!("{of} is open"))
                } else if primary_names(&self.decoded).contains(&clearance.subject) {
                    (ClearancePart::EndedHold, format!("{of} is not open"))
                } else {
                    none("it is about a hold on other goods")
                }
            }
            Some(Body::Association(_)) => {
                let says_all = self.among(&clearance.coverage_by).is_some();
                let words = if says_all {
                    "with it all declarations of the goods are known"
                } else {
                    "it says what belongs together, not that all declarations of the goods are known"
                };
                (ClearancePart::Association, words.to_owned())
            }
            Some(
                Body::Movement(_)
                | Body::Handling(_)
                | Body::Inspection(_)
                | Body::Document(_)
                | Body::Condition(_)
                | Body::Emission(_),
            ) => none("it is no step, hold or association"),
        }
    }

    fn among(&self, filed: &[std::sync::Arc<Filed>]) -> Option<usize> {
        filed.iter().position(|one| one.record.sequence == self.record.sequence)
    }
}

fn as_step(unit: &Unit, step: usize) -> (ClearancePart, String) {
    let number = &unit.subject.fields().value;
    let sets =
        unit.folded.whole.set_by == Some(step) || unit.folded.items.values().any(|item| item.set_by == Some(step));
    let effect = if sets { "it sets the state" } else { "another step sets the state" };
    let odd = match unit.folded.anomalies.iter().find(|anomaly| anomaly.step == step).map(|anomaly| anomaly.kind) {
        None => "",
        Some(AnomalyKind::ImpossibleMove) => "; the state before does not allow the move",
        Some(AnomalyKind::Contradiction) => "; it contradicts another administration",
    };
    (ClearancePart::Step, format!("step {} of the lifecycle of {number}: {effect}{odd}", step + 1))
}

fn none(why: &str) -> (ClearancePart, String) {
    (ClearancePart::None, why.to_owned())
}
