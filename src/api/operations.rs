//! The operations address: plain HTTP for probes and Prometheus (`/metrics`, `/livez`, `/readyz`). It never authenticates anybody and
//! never shows an event, so it belongs on the loopback address or behind a network policy.

use std::{future::Future, io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use crate::telemetry;

/// Whether the node is ready for calls; where it is not, why.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What `/metrics` asks to bring gauges up to date that nobody changes by events, such as free space. It returns the rendered series of
/// what comes and goes, such as peers.
pub type Refresh = Arc<dyn Fn() -> String + Send + Sync>;

#[derive(Clone)]
struct Operations {
    metrics: &'static PrometheusHandle,
    refresh: Refresh,
    readiness: Readiness,
}

/// Serves until `stop` resolves.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    refresh: Refresh,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let state = Operations { metrics: telemetry::metrics_recorder(), refresh, readiness };
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .with_state(state);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

/// Alive is who answers; ready is whose log takes events and who is not stopping.
async fn ready(State(operations): State<Operations>) -> impl IntoResponse {
    match (operations.readiness)() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

async fn metrics(State(operations): State<Operations>) -> impl IntoResponse {
    let passing = (operations.refresh)();
    operations.metrics.run_upkeep();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], operations.metrics.render() + &passing)
}
