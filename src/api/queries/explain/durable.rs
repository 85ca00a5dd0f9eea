//! Where an event stands in the node's durable subscriptions. It never claims more than is kept: of what lies behind a subscription's position
//! nobody knows any more whether it was delivered.

use crate::{
    api::queries::Queries,
    domain::{HeaderRef, SpiffeId},
    log::Record,
    subscribe::durable::{DeadLetter, EventStanding, Standing, State},
    wire::proto::{ReachState, SubscriptionReach},
};

/// So many are told of at the most, so that the answer stays well below what clients take.
const TOLD_MAX: usize = 1_000;

impl Queries {
    /// What the durable subscriptions of one participant, or of all, get of an event, and how many more there are.
    pub(super) fn subscription_reach(
        &self,
        record: &Record,
        header: &HeaderRef<'_>,
        owner: Option<&SpiffeId>,
        now_ns: i64,
    ) -> (Vec<SubscriptionReach>, u32) {
        let standings = self.parts.durable.standings(owner, record.sequence);
        let mut told: Vec<SubscriptionReach> = standings
            .into_iter()
            .map(|one| {
                let (state, reason) = self.standing(record, header, &one, now_ns);
                SubscriptionReach {
                    owner: one.owner.to_string(),
                    name: one.name,
                    state: state.into(),
                    reason,
                    acknowledged_position: one.acknowledged.to_string(),
                }
            })
            .collect();
        told.sort_by_key(|one| leaves_out(one.state()));
        let omitted = told.len().saturating_sub(TOLD_MAX);
        told.truncate(TOLD_MAX);
        (told, u32::try_from(omitted).unwrap_or(u32::MAX))
    }

    fn standing(
        &self,
        record: &Record,
        header: &HeaderRef<'_>,
        one: &EventStanding,
        now_ns: i64,
    ) -> (ReachState, String) {
        if one.state == State::Lost {
            let words = "the subscription's position was lost with the log that it belonged to; a seek mends it";
            return (ReachState::Unspecified, words.to_owned());
        }
        match &one.standing {
            Standing::DeadLetter(letter) => return (ReachState::DeadLetter, dead(letter)),
            Standing::OnItsWay { attempts } => {
                return (ReachState::Pending, format!("on its way to a consumer, attempt {}", attempts + 1));
            }
            Standing::Acknowledged => return (ReachState::Delivered, "a consumer has acknowledged it".to_owned()),
            Standing::Passed | Standing::Waits { .. } => {}
        }
        let admitted = match self.judge(record, header, (&one.owner, &one.filters), now_ns) {
            Ok(admitted) => admitted,
            Err(left_out) => return left_out,
        };
        match (&one.standing, one.state) {
            (Standing::Waits { .. }, State::Paused) => (ReachState::Pending, "its owner paused it".to_owned()),
            (Standing::Waits { .. }, State::Stopped) => {
                (ReachState::Pending, "its owner's grants have changed, and it waits to be resumed".to_owned())
            }
            (Standing::Waits { attempts: 0, .. }, _) => {
                let through = one.acknowledged.sequence;
                (ReachState::Pending, format!("not delivered yet: everything through sequence {through} is settled"))
            }
            (Standing::Waits { attempts, reason }, _) => (
                ReachState::Pending,
                format!("to be delivered again after {attempts} attempts; the last ended: {reason}"),
            ),
            _ => (ReachState::Passed, format!("acknowledged, or it began or was moved behind it; {admitted}")),
        }
    }
}

fn dead(letter: &DeadLetter) -> String {
    let how = if letter.parked { "parked" } else { "given up" };
    let again = if letter.replay.is_some() { "; asked for again" } else { "" };
    format!("{how} after {} attempts: {}{again}", letter.attempts, letter.reason)
}

/// Whether the event neither reached the subscription nor is to.
const fn leaves_out(state: ReachState) -> bool {
    matches!(state, ReachState::Filtered | ReachState::NotGranted | ReachState::NotInAudience | ReachState::Unspecified)
}
