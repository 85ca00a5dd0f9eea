//! What nobody reports by itself: readiness, and gauges that are brought up to date when somebody asks for metrics. It never decides.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    api::operations::{Readiness, Refresh},
    federation::{Direction, Federation, LinkState, LinkStatus, ended::ERROR_CLASSES},
    log::{EventLog, LogAdmin},
    subscribe::{Sessions, durable::DurableSubscriptions},
    telemetry,
    views::ViewHandle,
};

/// What readiness and gauges are read from. Cheap to clone.
#[derive(Clone)]
pub(super) struct Gauges(Arc<Inner>);

struct Inner {
    log: Arc<dyn EventLog>,
    admin: Arc<dyn LogAdmin>,
    views: Vec<ViewHandle>,
    sessions: Arc<Sessions>,
    durable: Arc<DurableSubscriptions>,
    federation: Arc<Federation>,
    draining: CancellationToken,
}

impl Gauges {
    pub(super) fn new(
        log: Arc<dyn EventLog>,
        admin: Arc<dyn LogAdmin>,
        views: Vec<ViewHandle>,
        (sessions, durable): (Arc<Sessions>, Arc<DurableSubscriptions>),
        federation: Arc<Federation>,
        draining: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner { log, admin, views, sessions, durable, federation, draining }))
    }

    /// Ready is a node that is not stopping and whose views have come to where the log ended at start.
    pub(super) fn readiness(&self) -> Readiness {
        let inner = self.0.clone();
        Arc::new(move || {
            if inner.draining.is_cancelled() {
                return Err("the node is stopping".to_owned());
            }
            for view in &inner.views {
                let progress = view.progress();
                if !progress.loaded || progress.applied < progress.answers_from {
                    let (applied, needed) = (progress.applied, progress.answers_from);
                    return Err(format!("the view {} has applied {applied} of {needed} events", view.name()));
                }
            }
            Ok(())
        })
    }

    pub(super) fn refresh(&self) -> Refresh {
        let inner = self.0.clone();
        Arc::new(move || {
            let head = inner.log.tail().borrow().get();
            metrics::gauge!(telemetry::LOG_HEAD_SEQUENCE).set(head as f64);
            for view in &inner.views {
                let lag = head.saturating_sub(view.progress().applied.get());
                metrics::gauge!(telemetry::VIEW_LAG_EVENTS, "view" => view.name()).set(lag as f64);
            }
            let sessions = inner.sessions.list();
            let slowest = sessions.iter().map(|session| head.saturating_sub(session.reached().get())).max();
            metrics::gauge!(telemetry::SUBSCRIBERS).set(sessions.len() as f64);
            metrics::gauge!(telemetry::SUBSCRIBER_LAG_EVENTS).set(slowest.unwrap_or(0) as f64);
            let durable = inner.durable.totals();
            metrics::gauge!(telemetry::DURABLE_SUBSCRIPTIONS).set(durable.subscriptions as f64);
            metrics::gauge!(telemetry::DURABLE_CONSUMERS).set(durable.consumers as f64);
            metrics::gauge!(telemetry::DURABLE_LAG_EVENTS).set(durable.lag_events_max as f64);
            metrics::gauge!(telemetry::DEAD_LETTERS).set(durable.dead_letters as f64);
            let disk = inner.admin.disk();
            metrics::gauge!(telemetry::DATA_USED_BYTES).set(disk.used_bytes as f64);
            metrics::gauge!(telemetry::DATA_FREE_BYTES).set(disk.free_bytes as f64);
            telemetry::rendered_once(|| set_peers(&inner.federation))
        })
    }
}

fn set_peers(federation: &Federation) {
    for (peer, status) in federation.list() {
        let node = peer.node.to_string();
        for (direction, link) in [(Direction::Inbound, &status.inbound), (Direction::Outbound, &status.outbound)] {
            let lag = federation.lag(&status, direction);
            let word = direction.word();
            set_link(&node, word, link);
            metrics::gauge!(telemetry::PEER_LAG_EVENTS, "direction" => word, "peer" => node.clone())
                .set(lag.events as f64);
            metrics::gauge!(telemetry::PEER_LAG_SECONDS, "direction" => word, "peer" => node.clone())
                .set(lag.time.as_secs_f64());
        }
        let quarantined = status.progress.quarantine.len() as f64;
        metrics::gauge!(telemetry::PEER_QUARANTINE_EVENTS, "peer" => node).set(quarantined);
    }
}

fn set_link(node: &str, direction: &'static str, link: &LinkStatus) {
    for state in LinkState::ALL {
        let is = f64::from(u8::from(link.state == state));
        metrics::gauge!(telemetry::PEER_LINK_STATE, "direction" => direction, "peer" => node.to_owned(), "state" => state.word())
            .set(is);
    }
    for class in ERROR_CLASSES {
        let is = f64::from(u8::from(link.last_error_class == class));
        metrics::gauge!(telemetry::PEER_LAST_ERROR, "class" => class, "direction" => direction, "peer" => node.to_owned()).set(is);
    }
    metrics::gauge!(telemetry::PEER_LAST_CONTACT_SECONDS, "direction" => direction, "peer" => node.to_owned())
        .set(link.last_contact_ns as f64 / 1e9);
    metrics::counter!(telemetry::PEER_BYTES_TOTAL, "direction" => direction, "peer" => node.to_owned())
        .absolute(link.byte_count);
}
