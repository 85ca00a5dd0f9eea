//! Stopping in order: say `NOT_SERVING`, refuse new calls, let streams end with their resume point, end the rest, close the log. It never
//! takes longer than it may.

use tokio::time::{Instant, timeout_at};
use tonic_health::ServingStatus;

use super::{RunningNode, StopReport};
use crate::api::methods::Methods;

/// The services whose streams end by themselves, with what the caller needs to go on.
const END_THEMSELVES: [&str; 4] = [
    "/tradelane.v1.EventService/",
    "/tradelane.v1.SubscriptionService/",
    "/tradelane.v1.ClearanceService/",
    "/tradelane.v1.PeerService/",
];

impl RunningNode {
    /// Stops the node within its time limit. What was acknowledged is durable whatever happens here.
    pub async fn stop(self) -> StopReport {
        let started = Instant::now();
        let deadline = started + self.stop_timeout;
        tracing::info!(limit = ?self.stop_timeout, "stopping");
        for service in services() {
            self.health.set_service_status(service, ServingStatus::NotServing).await;
        }
        self.draining.cancel();
        // Half of the time for calls to end by themselves; whatever is left then is ended by the layer, with UNAVAILABLE.
        let _ = timeout_at(started + self.stop_timeout / 2, self.live.none_left(ends_itself)).await;
        self.cut.cancel();
        // A client may keep an idle connection open for ever.
        let _ = timeout_at(started + self.stop_timeout / 2, self.live.none_left(|_| true)).await;
        self.identity.connections().close(|_| Some("the node is stopping".to_owned()));
        let unfinished = self.tasks.stop(started + self.stop_timeout * 9 / 10).await;
        if !unfinished.is_empty() {
            tracing::warn!(?unfinished, "tasks did not end in time");
        }
        self.admin.close(deadline).await;
        let failure = self.tasks.failure();
        tracing::info!(took = ?started.elapsed(), "stopped");
        StopReport { failure, unfinished }
    }
}

fn ends_itself(method: &str) -> bool {
    END_THEMSELVES.iter().any(|service| method.starts_with(service))
}

/// Every service whose health is told, and the node as a whole.
pub(super) fn services() -> Vec<String> {
    let methods = Methods::served();
    let own =
        methods.iter().map(|method| method.service.to_string()).filter(|service| service.starts_with("tradelane."));
    let mut services: Vec<String> = own.chain([String::new()]).collect();
    services.sort();
    services.dedup();
    services
}
