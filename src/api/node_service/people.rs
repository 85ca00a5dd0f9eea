//! Who is connected and who was seen: `ListConnections` and `ListParticipants`. It never ends a connection.

use super::{NodeApi, timestamp};
use crate::{
    api::Refused,
    domain::Sequence,
    identity::{Caller, connections::ConnectionInfo},
    wire::proto,
};

impl NodeApi {
    pub(super) fn connections(
        &self,
        caller: &Caller,
        request: &proto::ListConnectionsRequest,
    ) -> Result<proto::ListConnectionsResponse, Refused> {
        let page = self.page(caller, "ListConnections", "", request.page_size, &request.page_token)?;
        let after = page.after_number()?;
        let all = self.0.identity.connections().list();
        let following = all.iter().filter(|one| after.is_none_or(|after| after < one.caller.connection_id));
        let (cut, more) = page.cut(following);
        let last = cut.last().map(|one| one.caller.connection_id.to_string());
        Ok(proto::ListConnectionsResponse {
            connections: cut.into_iter().map(|one| self.connection(one)).collect(),
            next_page_token: self.next_token(&page, last, more),
        })
    }

    pub(super) fn participants(
        &self,
        caller: &Caller,
        request: &proto::ListParticipantsRequest,
    ) -> Result<proto::ListParticipantsResponse, Refused> {
        let page = self.page(caller, "ListParticipants", "", request.page_size, &request.page_token)?;
        let all = self.0.identity.connections().participants();
        let following = all.iter().filter(|one| page.after.as_deref().is_none_or(|after| after < one.id.as_str()));
        let (cut, more) = page.cut(following);
        let last = cut.last().map(|one| one.id.to_string());
        let participants = cut.into_iter().map(|seen| {
            let counts = self.0.published.of(&seen.id);
            proto::Participant {
                participant: seen.id.to_string(),
                connection_count: seen.connection_count,
                published_count: counts.stored,
                duplicate_count: counts.duplicates,
                denied_count: self.0.identity.audit().denied_count(&seen.id),
                last_seen_time: Some(timestamp(seen.last_seen_ns)),
            }
        });
        Ok(proto::ListParticipantsResponse {
            participants: participants.collect(),
            next_page_token: self.next_token(&page, last, more),
        })
    }

    fn connection(&self, one: &ConnectionInfo) -> proto::Connection {
        let id = one.caller.connection_id;
        let head = self.0.log.tail().borrow().get();
        let streams = self.0.live.of_connection(id).into_iter().map(|call| {
            let examined = call.examined().map(Sequence::get);
            proto::StreamState {
                method: call.method.to_string(),
                start_time: Some(timestamp(call.start_time_ns)),
                examined_sequence: examined.unwrap_or(0),
                lag_events: examined.map_or(0, |examined| head.saturating_sub(examined)),
                event_count: call.carried_events(),
            }
        });
        proto::Connection {
            connection_id: id,
            participant: one.caller.id.to_string(),
            remote_address: one.caller.remote_address.to_string(),
            connect_time: Some(timestamp(one.connect_time_ns)),
            certificate_serial: one.peer.facts.serial.clone(),
            certificate_not_after_time: Some(timestamp(one.caller.certificate_not_after_ns)),
            streams: streams.collect(),
        }
    }
}
