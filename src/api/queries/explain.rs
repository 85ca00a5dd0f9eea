//! What became of one event: the operator's first question. Also its publisher may ask, and is told of those readers only whom the event
//! reached or is on its way to.

mod clearance;
mod durable;

use super::{
    Queries, QueryError,
    get::{header, identity},
};
use crate::{
    domain::{Filter, HeaderRef, SpiffeId, filter::MatchContext},
    federation::{agreement::Withheld, history::CHAIN_MAX, reach::Reach},
    identity::{Action, Caller, Rights, policy::ReadRefusal},
    log::Record,
    subscribe::SessionInfo,
    views::ViewHandle,
    wire::proto::{ExplainEventRequest, ExplainEventResponse, PeerReach, ReachState, SubscriberReach, ViewReach},
};

impl Queries {
    /// Answers `EventService.ExplainEvent`.
    ///
    /// # Errors
    /// The names are malformed, the caller neither operates the node nor published the event, or there is no such event.
    pub async fn explain_event(
        &self,
        caller: &Caller,
        request: ExplainEventRequest,
    ) -> Result<ExplainEventResponse, QueryError> {
        let (publisher, event_id) = identity(caller, &request.publisher, &request.event_id)?;
        let rights = self.rights(caller);
        let now_ns = self.parts.clock.now_ns();
        let operates = rights.may(Action::Operate, now_ns);
        let own = publisher == caller.id || rights.former_names.contains(&publisher);
        // Said before the event is looked for, so that it does not tell whether another's event is there.
        if !(operates || (own && rights.may(Action::Publish, now_ns))) {
            return Err(QueryError::NotGranted(Action::Operate));
        }
        let found = self.parts.log.find(publisher.clone(), event_id).await?;
        let record = found.ok_or(QueryError::NotFound)?;
        let header = header(&record)?;
        let published_by = self.parts.access.policy().rights(&publisher);
        let context = self.context(&record, publisher.as_str());
        let admitting = published_by.explain(Action::Publish, Some((&header, &context)), now_ns).into_iter();
        let told =
            |reach: &SubscriberReach| operates || matches!(reach.state(), ReachState::Delivered | ReachState::Pending);
        let sessions = self.parts.sessions.list();
        let subscribers = sessions.iter().map(|session| self.reach(&record, &header, session, now_ns)).filter(told);
        let (subscriptions, subscriptions_omitted) =
            self.subscription_reach(&record, &header, (!operates).then_some(&caller.id), now_ns);
        let recorded = self.recorded(&record)?;
        let revisions = self.revisions(&publisher, event_id, None).await?;
        let (clearances, clearances_omitted, clearances_withheld) =
            self.clearance_reach(&rights, &record, revisions.last(), now_ns).await?;
        Ok(ExplainEventResponse {
            position: recorded.position,
            origin: recorded.origin,
            via: recorded.via,
            accepted_time: recorded.accepted_time,
            size_bytes: recorded.signed.map_or(0, |signed| signed.event.len() as u64),
            publish_grant_ids: admitting.filter(|verdict| verdict.allows).map(|verdict| verdict.grant_id).collect(),
            views: self.views().map(|view| self.view_reach(view, &record)).to_vec(),
            subscribers: subscribers.collect(),
            revised_by: revisions.iter().map(ToString::to_string).collect(),
            peers: self.peer_reach(&record, operates).await?,
            subscriptions,
            subscriptions_omitted,
            clearances,
            clearances_omitted,
            clearances_withheld,
        })
    }

    fn context<'a>(&'a self, record: &'a Record, who: &'a str) -> MatchContext<'a> {
        MatchContext {
            accepted_time_ns: record.accepted_time_ns,
            origin_node: record.origin.as_ref().map_or(&self.parts.node, |origin| &origin.node).as_str(),
            caller: who,
            bindings: &*self.parts.associations,
        }
    }

    fn view_reach(&self, view: &ViewHandle, record: &Record) -> ViewReach {
        let progress = view.progress();
        ViewReach {
            view: view.name().to_owned(),
            applied: progress.loaded && progress.applied >= record.sequence,
            position: self.position(progress.applied),
        }
    }

    /// Which peers hold the event. Its publisher is told of those that it has reached or is on its way to.
    async fn peer_reach(&self, record: &Record, operates: bool) -> Result<Vec<PeerReach>, QueryError> {
        let told = |reach: &PeerReach| operates || matches!(reach.state(), ReachState::Delivered | ReachState::Pending);
        let all = self.parts.federation.reach(record).await?.into_iter().map(|(node, reach)| {
            let (state, reason) = match reach {
                Reach::Acknowledged => (ReachState::Delivered, "the node has acknowledged it".to_owned()),
                Reach::Pending => (ReachState::Pending, "the node has not acknowledged it yet".to_owned()),
                Reach::PassedBefore => {
                    let words = "what lets it go to that node came after the link had passed it; `tradelane peers resume` there, from \
                                 the beginning, takes it";
                    (ReachState::BeforeStart, words.to_owned())
                }
                Reach::RefusedThere => (ReachState::Refused, "the node has put it into quarantine".to_owned()),
                Reach::Withheld(why) => (withheld(why), why.in_words().to_owned()),
                Reach::Untraceable(why) => {
                    let words = format!(
                        "{}, and its original, behind which it would go, lies more than {CHAIN_MAX} revisions back, where it is not \
                         looked for: if that node holds the original, tell its operator",
                        why.in_words()
                    );
                    (withheld(why), words)
                }
            };
            PeerReach { node: node.to_string(), state: state.into(), reason }
        });
        Ok(all.filter(told).collect())
    }

    /// What a live reader gets of the event, by the policy in force now.
    fn reach(&self, record: &Record, header: &HeaderRef<'_>, session: &SessionInfo, now_ns: i64) -> SubscriberReach {
        let (state, reason) = if record.sequence <= session.began_after {
            (ReachState::BeforeStart, format!("the stream began after sequence {}", session.began_after))
        } else {
            match self.judge(record, header, (&session.participant, &session.filters), now_ns) {
                Err(left_out) => left_out,
                Ok(admitted) if record.sequence <= session.reached() => (ReachState::Delivered, admitted),
                Ok(_) => (ReachState::Pending, format!("the reader has come to sequence {}", session.reached())),
            }
        };
        SubscriberReach {
            participant: session.participant.to_string(),
            connection_id: session.connection_id,
            state: state.into(),
            reason,
        }
    }

    /// Whether a reader may read the event and has asked for it, by the policy in force now: what admits it, or what leaves it out.
    fn judge(
        &self,
        record: &Record,
        header: &HeaderRef<'_>,
        (reader, filters): (&SpiffeId, &[Filter]),
        now_ns: i64,
    ) -> Result<String, (ReachState, String)> {
        let rights = self.parts.access.policy().rights(reader);
        let context = self.context(record, reader.as_str());
        let left_out = match rights.read_refusal(header, &context, now_ns) {
            Some(ReadRefusal::NotGranted) => (ReachState::NotGranted, "no read grant in force matches it"),
            Some(ReadRefusal::BeforeGrantStart) => {
                (ReachState::NotGranted, "it is older than the grants that match it")
            }
            Some(ReadRefusal::NotInAudience) => {
                (ReachState::NotInAudience, "the event's audience leaves the reader out")
            }
            None => {
                let askable = rights.askable(&*self.parts.associations, now_ns);
                let asking = MatchContext { bindings: &askable, ..context };
                if filters.is_empty() || filters.iter().any(|filter| filter.matches(header, &asking)) {
                    return Ok(admitted_by(&rights, header, &context, now_ns));
                }
                (ReachState::Filtered, "none of the reader's own filters matches it")
            }
        };
        Err((left_out.0, left_out.1.to_owned()))
    }
}

const fn withheld(why: Withheld) -> ReachState {
    match why {
        Withheld::ComesFromThere | Withheld::PassedThere | Withheld::TooManyHops | Withheld::NoTransit => {
            ReachState::NotOnTheWay
        }
        Withheld::BeforeStart => ReachState::BeforeStart,
        Withheld::NotGranted => ReachState::NotGranted,
        Withheld::NotInAudience => ReachState::NotInAudience,
    }
}

fn admitted_by(rights: &Rights, header: &HeaderRef<'_>, context: &MatchContext<'_>, now_ns: i64) -> String {
    let verdicts = rights.explain(Action::Read, Some((header, context)), now_ns);
    match verdicts.into_iter().find(|verdict| verdict.allows) {
        Some(verdict) => format!("admitted by the grant {}", verdict.grant_id),
        None => "the reader's own event".to_owned(),
    }
}

#[cfg(test)]
mod tests;
