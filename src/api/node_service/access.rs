//! Grants, refusals, trust, and the question whether somebody would be allowed something. It never changes a grant.

use prost_types::Duration;

use super::{NodeApi, page::invalid, timestamp};
use crate::{
    api::Refused,
    domain::{HeaderRef, Position, SpiffeId, filter::MatchContext},
    identity::{
        Action, Caller,
        policy::{Grant, GrantVerdict},
        trust::{TrustItem, TrustItemKind},
    },
    log::Record,
    wire::{self, proto},
};

impl NodeApi {
    pub(super) fn grants(
        &self,
        caller: &Caller,
        request: &proto::ListGrantsRequest,
    ) -> Result<proto::ListGrantsResponse, Refused> {
        let who = optional_id("participant", &request.participant)?;
        let policy = self.0.identity.access().policy();
        // A page of another generation would count other grants: its token does not fit any more.
        let narrowing = format!("{}/{}", policy.generation, request.participant);
        let page = self.page(caller, "ListGrants", &narrowing, request.page_size, &request.page_token)?;
        let after = page.after_number()?;
        let concerns = |grant: &Grant| {
            who.as_ref().is_none_or(|who| grant.who.iter().any(|pattern| pattern.matches(who.as_str())))
        };
        let now_ns = self.0.clock.now_ns();
        let following = policy
            .grants
            .iter()
            .zip(0_u64..)
            .filter(|(grant, index)| after.is_none_or(|after| after < *index) && concerns(grant));
        let (cut, more) = page.cut(following);
        let last = cut.last().map(|(_, index)| index.to_string());
        Ok(proto::ListGrantsResponse {
            grants: cut.into_iter().map(|(grant, _)| grant_message(grant, now_ns)).collect(),
            next_page_token: self.next_token(&page, last, more),
            policy_generation: policy.generation,
        })
    }

    pub(super) fn denials(
        &self,
        caller: &Caller,
        request: &proto::ListDenialsRequest,
    ) -> Result<proto::ListDenialsResponse, Refused> {
        let who = optional_id("participant", &request.participant)?;
        let page = self.page(caller, "ListDenials", &request.participant, request.page_size, &request.page_token)?;
        let recent = self.0.identity.audit().recent(who.as_ref(), page.after_number()?, page.size + 1);
        let (cut, more) = page.cut(recent.into_iter());
        let last = cut.last().map(|denial| denial.number.to_string());
        let denials = cut.into_iter().map(|denial| proto::Denial {
            time: Some(timestamp(denial.time_ns)),
            participant: denial.participant.map_or_else(String::new, |id| id.to_string()),
            remote_address: denial.remote_address.map_or_else(String::new, |address| address.to_string()),
            subject: denial.subject,
            reason: denial.reason,
            detail: denial.detail,
        });
        Ok(proto::ListDenialsResponse {
            denials: denials.collect(),
            next_page_token: self.next_token(&page, last, more),
        })
    }

    pub(super) fn trust(&self) -> proto::ListTrustResponse {
        let now_ns = self.0.clock.now_ns();
        let items = self.0.identity.trust_items();
        proto::ListTrustResponse { items: items.into_iter().map(|item| trust_message(item, now_ns)).collect() }
    }

    pub(super) async fn checked_access(
        &self,
        request: &proto::CheckAccessRequest,
    ) -> Result<proto::CheckAccessResponse, Refused> {
        let who = SpiffeId::parse(&request.participant)
            .map_err(|error| invalid("participant", "SPIFFE_ID", error.to_string()))?;
        let action = Action::from_word(&request.action).ok_or_else(|| {
            invalid("action", "ACTION_UNKNOWN", format!("must be one of {}", Action::WORDS.join(", ")))
        })?;
        let judged = match &request.target {
            None => None,
            Some(proto::check_access_request::Target::Position(position)) => Some(self.stored(position).await?),
            Some(proto::check_access_request::Target::Event(signed)) => Some(self.unstored(signed)?),
        };
        let now_ns = self.0.clock.now_ns();
        let rights = self.0.identity.access().policy().rights(&who);
        let Some(judged) = judged else {
            let verdicts = rights.explain(action, None, now_ns);
            return Ok(answer(rights.may(action, now_ns), "NOT_GRANTED", verdicts));
        };
        let header = HeaderRef::parse(&judged.header).map_err(|_| damaged())?;
        let context = MatchContext {
            accepted_time_ns: judged.accepted_time_ns,
            origin_node: judged.origin_node.as_str(),
            caller: who.as_str(),
            bindings: &*self.0.associations,
        };
        let verdicts = rights.explain(action, Some((&header, &context)), now_ns);
        let allowed = rights.permits(action, &header, &context, now_ns);
        Ok(answer(
            allowed,
            if rights.may(action, now_ns) { "NOT_PERMITTED_FOR_EVENT" } else { "NOT_GRANTED" },
            verdicts,
        ))
    }

    async fn stored(&self, text: &str) -> Result<Judged, Refused> {
        let position: Position = text.parse().map_err(|error: crate::domain::position::PositionMalformed| {
            invalid("position", "POSITION_MALFORMED", error.to_string())
        })?;
        let known = self.0.log.epochs().iter().any(|epoch| epoch.epoch == position.epoch);
        let records = if known { self.0.log.get(vec![position.sequence]).await? } else { Vec::new() };
        let record = records.into_iter().next().ok_or_else(|| {
            Refused::new(tonic::Code::NotFound, "EVENT_NOT_FOUND", "no event of this log stands at the position")
        })?;
        Ok(Judged::of(&record, self.0.identity.own_id()))
    }

    fn unstored(&self, signed: &wire::SignedEvent) -> Result<Judged, Refused> {
        let context = wire::door::ValidationContext { now_ns: self.0.clock.now_ns(), lists: &self.0.code_lists };
        let parsed = wire::door::parse_event(signed, "event", &context).map_err(Refused::invalid)?;
        Ok(Judged {
            header: parsed.header.encode().into(),
            accepted_time_ns: self.0.clock.now_ns(),
            origin_node: self.0.identity.own_id(),
        })
    }
}

/// What a grant is asked about.
struct Judged {
    header: bytes::Bytes,
    accepted_time_ns: i64,
    origin_node: SpiffeId,
}

impl Judged {
    fn of(record: &Record, own: SpiffeId) -> Self {
        let origin_node = record.origin.as_ref().map_or(own, |origin| origin.node.clone());
        Self { header: record.header.clone(), accepted_time_ns: record.accepted_time_ns, origin_node }
    }
}

fn answer(allowed: bool, reason: &str, verdicts: Vec<GrantVerdict>) -> proto::CheckAccessResponse {
    let grant_ids = verdicts.iter().filter(|verdict| verdict.allows).map(|verdict| verdict.grant_id.clone()).collect();
    let message = |verdict: GrantVerdict| proto::GrantVerdict {
        grant_id: verdict.grant_id,
        allows: verdict.allows,
        explanation: verdict.explanation,
    };
    proto::CheckAccessResponse {
        allowed,
        grant_ids,
        reason: if allowed { String::new() } else { reason.to_owned() },
        verdicts: verdicts.into_iter().map(message).collect(),
    }
}

fn damaged() -> Refused {
    Refused::new(tonic::Code::DataLoss, "LOG_DAMAGED", "the event's routing header cannot be read")
}

fn optional_id(field: &str, text: &str) -> Result<Option<SpiffeId>, Refused> {
    match text {
        "" => Ok(None),
        text => SpiffeId::parse(text).map(Some).map_err(|error| invalid(field, "SPIFFE_ID", error.to_string())),
    }
}

fn grant_message(grant: &Grant, now_ns: i64) -> proto::Grant {
    let history = if grant.history_from_start { proto::HistoryScope::FromStart } else { proto::HistoryScope::All };
    proto::Grant {
        grant_id: grant.id.clone(),
        who: grant.who.iter().map(|pattern| pattern.as_str().to_owned()).collect(),
        actions: grant.actions.iter().map(|action| action.word().to_owned()).collect(),
        filters: grant.filters.iter().map(wire::filter::spec_to_proto).collect(),
        expires_time: grant.expires_time_ns.map(timestamp),
        expired: grant.is_expired(now_ns),
        history: history.into(),
        start_time: grant.start_time_ns.map(timestamp),
    }
}

fn trust_message(item: TrustItem, now_ns: i64) -> proto::TrustItem {
    let kind = match item.kind {
        TrustItemKind::NodeCertificate => proto::TrustItemKind::NodeCertificate,
        TrustItemKind::Authority => proto::TrustItemKind::Authority,
        TrustItemKind::RevocationList => proto::TrustItemKind::RevocationList,
        TrustItemKind::ParticipantCertificate => proto::TrustItemKind::ParticipantCertificate,
    };
    let remaining_ns = item.remaining_ns(now_ns);
    proto::TrustItem {
        kind: kind.into(),
        trust_domain: item.trust_domain.to_string(),
        name: item.name,
        serial: item.serial,
        not_before_time: Some(timestamp(item.not_before_ns)),
        not_after_time: Some(timestamp(item.not_after_ns)),
        // Both parts of a duration have the same sign.
        remaining: Some(Duration {
            seconds: remaining_ns / 1_000_000_000,
            nanos: (remaining_ns % 1_000_000_000) as i32,
        }),
        file: item.file.display().to_string(),
        revoked_count: item.revoked_count,
    }
}
