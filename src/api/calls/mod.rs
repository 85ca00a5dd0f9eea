//! What every call passes through, whatever it asks: an identity is required, a stopping node refuses, a unary call has a time limit, a
//! panic becomes INTERNAL, and how it ended is counted. It never looks into a message.

mod body;
mod meters;
#[cfg(test)]
mod tests;
mod too_large;

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use body::WatchedBody;
use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, Request, Response};
use meters::{Meters, MethodMeters, code_name};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::Instrument;

use super::{
    live_calls::{CallGuard, LiveCalls},
    methods::{Method, Methods},
};
use crate::{clock::Clock, identity::Caller, tasks::panic_text, telemetry};

/// What the layer needs to know of the node.
#[derive(Clone)]
pub struct CallRules {
    /// Every method that is served.
    pub methods: Methods,
    /// The list of live calls.
    pub live: LiveCalls,
    /// Resolves when the node begins to stop: new calls are refused from then on.
    pub draining: CancellationToken,
    /// Resolves when a stopping node waits no longer: what still runs is ended.
    pub cut: CancellationToken,
    /// The limit of a call whose request is one message, until its answer begins.
    pub unary_timeout: Duration,
    /// The largest request of a call whose request is one message, `Publish` left out.
    pub control_request_bytes_max: usize,
    /// When calls began.
    pub clock: Arc<dyn Clock>,
}

/// The layer around all services.
#[derive(Clone)]
pub struct CallsLayer(Arc<Shared>);

/// A service within the layer.
#[derive(Clone)]
pub struct Calls<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// What all calls share.
struct Shared {
    rules: CallRules,
    meters: Meters,
}

/// How one call is going, until it has ended and was counted.
struct Tally {
    meters: Arc<MethodMeters>,
    started: Instant,
    code: Option<Code>,
    /// Keeps the call in the list.
    _listed: Option<CallGuard>,
}

impl CallsLayer {
    /// A layer with its rules.
    #[must_use]
    pub fn new(rules: CallRules) -> Self {
        let meters = Meters::new(&rules.methods);
        Self(Arc::new(Shared { rules, meters }))
    }
}

impl<S> Layer<S> for CallsLayer {
    type Service = Calls<S>;

    fn layer(&self, inner: S) -> Calls<S> {
        Calls { inner, shared: self.0.clone() }
    }
}

impl<S> Service<Request<Body>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The service that was polled ready is the one to call.
        let fresh = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, fresh);
        let shared = self.shared.clone();
        let caller = request.extensions().get::<Caller>().cloned();
        let span = tracing::info_span!(
            "call",
            method = request.uri().path(),
            participant = caller.as_ref().map(|caller| tracing::field::display(&caller.id)),
            trace_id = trace_id(request.headers()),
        );
        async move { Ok(answer(inner, request, caller, &shared).await) }.instrument(span).boxed()
    }
}

async fn answer<S>(mut inner: S, mut request: Request<Body>, caller: Option<Caller>, shared: &Shared) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let rules = &shared.rules;
    let meters = Arc::clone(shared.meters.of(request.uri().path()));
    let method = meters.method.as_ref();
    let listed = method
        .zip(caller.as_ref())
        .map(|(method, caller)| rules.live.begin(caller.connection_id, method.path.clone(), rules.clock.now_ns()));
    if let Some(listed) = &listed {
        request.extensions_mut().insert(Arc::clone(listed.call()));
    }
    let tally = Tally { meters, started: Instant::now(), code: None, _listed: listed };
    let refused = match caller {
        None => Some(Status::unauthenticated("the connection has no client certificate with a SPIFFE ID")),
        Some(_) if rules.draining.is_cancelled() && !tally.is_health() => {
            Some(Status::unavailable("the node is stopping"))
        }
        Some(_) => None,
    };
    let response = match refused {
        Some(status) => status.into_http(),
        None => limited(&mut inner, request, &tally.meters, rules).await,
    };
    let (head, body) = response.into_parts();
    let body = WatchedBody::new(body, &head.headers, tally, rules.cut.clone());
    Response::from_parts(head, Body::new(body))
}

/// The service's own answer, or the status of what ended the call before.
async fn limited<S>(inner: &mut S, request: Request<Body>, meters: &MethodMeters, rules: &CallRules) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let method = meters.method.as_ref();
    let request = request.map(|body| too_large::watched(body, method, rules.control_request_bytes_max));
    let limit = method.filter(|method| !method.client_streaming).map(|_| rules.unary_timeout);
    let expired = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let status = tokio::select! {
        answered = AssertUnwindSafe(inner.call(request)).catch_unwind() => match answered {
            Ok(Ok(response)) => {
                return too_large::in_our_words(response.headers()).map_or(response, Status::into_http);
            }
            Ok(Err(never)) => match never {},
            Err(panic) => panicked(meters.name(), panic_text(&*panic)),
        },
        () = expired => Status::deadline_exceeded(
            "not answered within the node's time limit; a publish may still become durable, so send it again: it is idempotent",
        ),
        () = rules.cut.cancelled() => Status::unavailable("the node is stopping"),
    };
    status.into_http()
}

/// Logs and counts a handler's panic, and answers the caller without its text, which may speak of others' data.
fn panicked(method: &str, text: &str) -> Status {
    tracing::error!(grpc_method = method, panic = text, "a handler panicked");
    metrics::counter!(telemetry::HANDLER_PANICS_TOTAL, "grpc_method" => method.to_owned()).increment(1);
    Status::internal("the node failed on this call; its log has the reason")
}

impl Tally {
    fn is_health(&self) -> bool {
        self.meters.method.as_ref().is_some_and(|method| &*method.service == "grpc.health.v1.Health")
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        // A body that was dropped before its trailers: the caller went away.
        let code = self.code.unwrap_or(Code::Cancelled);
        tracing::debug!(grpc_method = self.meters.name(), grpc_code = code_name(code), "call ended");
        self.meters.ended(self.started.elapsed().as_secs_f64(), code);
    }
}

/// The trace id of a W3C `traceparent` header (Trace Context, section 3.2): version, 32 digits of trace id, 16 of parent id, flags.
fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let good = version.len() == 2 && trace.len() == 32 && trace.bytes().all(|byte| byte.is_ascii_hexdigit());
    good.then_some(trace)
}

impl std::fmt::Debug for CallRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallRules").field("live", &self.live).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for CallsLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CallsLayer").field(&self.0.rules).finish()
    }
}

impl<S> std::fmt::Debug for Calls<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").field("rules", &self.shared.rules).finish_non_exhaustive()
    }
}
