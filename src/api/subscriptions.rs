//! `SubscriptionService` as tonic calls it: each call goes to the durable subscriptions of its owner. It never decides anything but whose
//! subscription a call is about.

mod asked;
mod consuming;
mod service;
pub(super) mod told;

use std::{fmt, sync::Arc};

use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{Origins, Recorder, Refused, StreamQuota, denials};
use crate::{
    clock::Clock,
    domain::SpiffeId,
    identity::{Access, Action, Caller, audit::AuditLog},
    subscribe::durable::{DurableError, DurableSubscriptions},
    tasks::Tasks,
    views::page_token::PageTokens,
};

/// What the service is made of.
pub struct SubscriptionServiceParts {
    /// The subscriptions.
    pub durable: Arc<DurableSubscriptions>,
    /// Who may operate.
    pub access: Arc<Access>,
    /// How events are handed out.
    pub recorder: Recorder,
    /// How fresh the events of each node are here.
    pub origins: Origins,
    /// How many streams each participant may hold.
    pub streams: Arc<StreamQuota>,
    /// Seals page tokens.
    pub tokens: Arc<PageTokens>,
    /// Who was denied what, and what operators did.
    pub audit: Arc<AuditLog>,
    /// Where consumers are heard.
    pub tasks: Tasks,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Resolves when the node stops.
    pub draining: CancellationToken,
}

/// The service.
pub struct SubscriptionApi {
    parts: Arc<SubscriptionServiceParts>,
}

impl SubscriptionApi {
    /// Serves by its parts.
    #[must_use]
    pub fn new(parts: SubscriptionServiceParts) -> Self {
        Self { parts: Arc::new(parts) }
    }
}

impl SubscriptionServiceParts {
    /// Whose subscription a call is about. Another's is an operator's to look at, and for everybody else as if it did not exist.
    fn whose(&self, caller: &Caller, owner: &str) -> Result<SpiffeId, Refused> {
        if owner.is_empty() || owner == caller.id.as_str() {
            return Ok(caller.id.clone());
        }
        if !self.access.policy().may(&caller.id, Action::Operate, self.clock.now_ns()) {
            return Err(DurableError::NotFound.into());
        }
        SpiffeId::parse(owner)
            .map_err(|why| Refused::invalid(vec![asked::violation("owner", "OWNER_MALFORMED", &why.to_string())]))
    }

    /// Tells the audit log what an operator did to another's subscription.
    fn note_change(&self, caller: &Caller, owner: &SpiffeId, method: &str, name: &str) {
        if caller.id != *owner {
            let detail = format!("subscription {name} of {owner}");
            self.audit.administrative(self.clock.now_ns(), Some(&caller.id), method, &detail);
        }
    }

    fn refuse(&self, caller: &Caller, method: &str, refused: Refused) -> Status {
        denials::note(&self.audit, &*self.clock, caller, method, &refused);
        refused.into()
    }
}

impl fmt::Debug for SubscriptionServiceParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionServiceParts").field("durable", &self.durable).finish_non_exhaustive()
    }
}

impl fmt::Debug for SubscriptionApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionApi").field("parts", &self.parts).finish()
    }
}
