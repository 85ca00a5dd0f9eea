//! Everybody's durable subscriptions as operators see them: `ListSubscriptions`. It never changes one.

use super::{NodeApi, page::invalid};
use crate::{
    api::{Refused, subscriptions::told},
    domain::SpiffeId,
    identity::Caller,
    subscribe::durable::SubscriptionFacts,
    wire::proto,
};

impl NodeApi {
    pub(super) fn subscriptions(
        &self,
        caller: &Caller,
        request: &proto::NodeServiceListSubscriptionsRequest,
    ) -> Result<proto::NodeServiceListSubscriptionsResponse, Refused> {
        let page = self.page(caller, "ListSubscriptions", &request.owner, request.page_size, &request.page_token)?;
        // What a token of ours says is whole: an owner and a name, neither of which has a space.
        let after = page.after.as_deref().and_then(|after| after.split_once(' '));
        let (cut, more) = if request.owner.is_empty() {
            let owner = after.and_then(|(owner, _)| SpiffeId::parse(owner).ok());
            let after = owner.as_ref().zip(after).map(|(owner, (_, name))| (owner, name));
            page.cut(self.0.durable.list_all(after, page.size + 1).into_iter())
        } else {
            let owner =
                SpiffeId::parse(&request.owner).map_err(|why| invalid("owner", "OWNER_MALFORMED", why.to_string()))?;
            let of_owner = self.0.durable.list(&owner).into_iter();
            page.cut(of_owner.filter(|one| after.is_none_or(|(_, name)| name < one.definition.name.as_str())))
        };
        let last = cut.last().map(|one: &SubscriptionFacts| format!("{} {}", one.owner, one.definition.name));
        Ok(proto::NodeServiceListSubscriptionsResponse {
            subscriptions: cut.iter().map(told::subscription).collect(),
            next_page_token: self.next_token(&page, last, more),
        })
    }
}
