//! A clearance as the API says it. It never adds anything to what the view shows.

use std::sync::Arc;

use crate::{
    api::queries::{Queries, timeline::subject_message},
    domain::{
        Sequence,
        clearance::{self, AnomalyKind, Coverage, Standing},
    },
    views::{
        associations::statement::Subject,
        clearance::{Clearance, Filed, Held, Unit},
    },
    wire::proto::{
        self, ClearanceAnomaly, ClearanceCoverage, ClearanceLifecycle, ClearanceStep, CoverageExtent, GoodsItemState,
        Obstacle, OpenHold, Place, PlaceRole, RevisedStatement, StatedStep, Statement, event::Body,
    },
};

/// So many steps of a lifecycle, and so many revised statements, are told at the most: the last ones.
const TOLD_MAX: usize = 256;

impl Queries {
    /// A clearance as the API says it. What it rests on must have come by `through`.
    pub(super) fn clearance_message(&self, clearance: &Clearance, through: Sequence) -> proto::ClearanceStatus {
        let mut obstacles: Vec<i32> =
            clearance.obstacles.iter().map(|obstacle| i32::from(self::obstacle(*obstacle))).collect();
        if clearance.withheld {
            obstacles.push(Obstacle::Withheld.into());
        }
        if !self.relies_on(&clearance.origins, through) {
            obstacles.push(Obstacle::SourceIncomplete.into());
        }
        let revised = clearance.revised.iter().skip(clearance.revised.len().saturating_sub(TOLD_MAX));
        proto::ClearanceStatus {
            subject: Some(message(&clearance.subject)),
            released: obstacles.is_empty(),
            obstacles,
            lifecycles: clearance.lifecycles.iter().map(|unit| self.lifecycle(unit)).collect(),
            open_holds: clearance.open_holds.iter().map(|held| self.open_hold(held)).collect(),
            withheld_holds: clearance.withheld_holds,
            coverage: Some(ClearanceCoverage {
                extent: extent(clearance.coverage).into(),
                said_by: clearance.coverage_by.iter().map(|filed| self.statement(filed)).collect(),
            }),
            revised: revised
                .map(|(filed, by)| RevisedStatement {
                    statement: Some(self.statement(filed)),
                    revised_by: by.to_string(),
                })
                .collect(),
        }
    }

    fn lifecycle(&self, unit: &Unit) -> ClearanceLifecycle {
        let omitted = unit.steps.len().saturating_sub(TOLD_MAX);
        let at = |index: usize| Some(self.statement(&unit.steps[index]));
        let set_by = |standing: &Standing| standing.set_by.and_then(at);
        let items = unit.folded.items.iter().map(|(item, standing)| GoodsItemState {
            goods_item: *item,
            state: state(standing.state),
            state_set_by: set_by(standing),
        });
        let anomalies = unit.folded.anomalies.iter().map(|anomaly| ClearanceAnomaly {
            kind: match anomaly.kind {
                AnomalyKind::ImpossibleMove => proto::AnomalyKind::ImpossibleMove.into(),
                AnomalyKind::Contradiction => proto::AnomalyKind::Contradiction.into(),
            },
            from: state(Some(anomaly.from)),
            from_statement: at(anomaly.from_step),
            to: state(Some(anomaly.to)),
            to_statement: at(anomaly.step),
        });
        ClearanceLifecycle {
            subject: Some(message(&unit.subject)),
            other_numbers: unit.other_numbers.iter().map(message).collect(),
            state: state(unit.folded.whole.state),
            state_set_by: set_by(&unit.folded.whole),
            history_incomplete: unit.folded.history_incomplete(),
            goods_items: items.collect(),
            anomalies: anomalies.collect(),
            steps: unit.steps[omitted..].iter().filter_map(|filed| self.step(filed)).collect(),
            steps_omitted: omitted as u32,
        }
    }

    fn step(&self, filed: &Arc<Filed>) -> Option<StatedStep> {
        let Some(Body::Clearance(step)) = &filed.decoded.event.body else { return None };
        Some(StatedStep {
            step: step.step,
            statement: Some(self.statement(filed)),
            office: office(filed),
            goods_items: step.goods_items.clone(),
            reasons: step.reasons.clone(),
            due_time: step.due_time,
        })
    }

    fn open_hold(&self, held: &Held) -> OpenHold {
        let first = held.placed_by.first().expect("an open hold was placed");
        // What was said last of its kind and reasons counts, and all that was ever named is held.
        let last = held.placed_by.last().expect("an open hold was placed");
        let body = match &last.decoded.event.body {
            Some(Body::Hold(hold)) => hold.clone(),
            _ => proto::Hold::default(),
        };
        let mut subjects: Vec<proto::Subject> = Vec::new();
        for subject in held.placed_by.iter().flat_map(|filed| &filed.decoded.event.subjects) {
            if !subjects.contains(subject) {
                subjects.push(subject.clone());
            }
        }
        OpenHold {
            authority_domain: held.key.domain.to_string(),
            hold_id: held.key.hold_id.to_string(),
            kind: body.kind,
            placed_by: Some(self.statement(first)),
            subjects,
            reasons: body.reasons,
            office: office(last),
        }
    }

    fn statement(&self, filed: &Arc<Filed>) -> Statement {
        Statement {
            event_id: filed.decoded.event_id.to_string(),
            authority: filed.decoded.publisher.to_string(),
            event_time: filed.decoded.event.event_time,
            position: self.position(filed.decoded.sequence),
        }
    }
}

/// A subject as the API says it.
pub(super) fn message(subject: &Subject) -> proto::Subject {
    subject_message(&subject.term())
}

/// The number of a state; 0 for none.
pub(super) fn state(state: Option<clearance::State>) -> i32 {
    state.map_or(ClearanceStep::Unspecified.into(), |state| state.code().into())
}

fn office(filed: &Arc<Filed>) -> Option<Place> {
    filed.decoded.event.places.iter().find(|place| place.role() == PlaceRole::Office).cloned()
}

fn obstacle(obstacle: clearance::Obstacle) -> Obstacle {
    match obstacle {
        clearance::Obstacle::NoClearance => Obstacle::NoClearance,
        clearance::Obstacle::NotReleased => Obstacle::NotReleased,
        clearance::Obstacle::HoldOpen => Obstacle::HoldOpen,
        clearance::Obstacle::CoverageIncomplete => Obstacle::CoverageIncomplete,
    }
}

fn extent(coverage: Coverage) -> CoverageExtent {
    match coverage {
        Coverage::Unknown => CoverageExtent::Unknown,
        Coverage::Partial => CoverageExtent::Partial,
        Coverage::Complete => CoverageExtent::Complete,
    }
}
