//! Tests of the layer with small services in place of the real ones.

use std::{future::pending, sync::OnceLock};

use tower::{ServiceExt, service_fn};

use super::*;
use crate::{clock::SystemClock, domain::SpiffeId};

const UNARY: &str = "/tradelane.v1.NodeService/GetNode";
const STREAM: &str = "/tradelane.v1.EventService/Subscribe";
const PIPELINED: &str = "/tradelane.v1.EventService/PublishStream";

fn rules() -> CallRules {
    CallRules {
        methods: Methods::served(),
        live: LiveCalls::new(),
        draining: CancellationToken::new(),
        cut: CancellationToken::new(),
        unary_timeout: Duration::from_secs(10),
        control_request_bytes_max: 64 << 10,
        clock: Arc::new(SystemClock),
    }
}

fn request(path: &str) -> Request<Body> {
    let caller = Caller {
        id: SpiffeId::parse("spiffe://customs.gov.pk/agency/karachi").expect("a good name"),
        connection_id: 1,
        remote_address: ([127, 0, 0, 1], 1).into(),
        certificate_not_after_ns: i64::MAX,
        closing: CancellationToken::new(),
        closing_reason: Arc::new(OnceLock::new()),
    };
    Request::builder().uri(path).extension(caller).body(Body::empty()).expect("a request")
}

/// Calls a service through the layer, reads the whole body, and answers the status.
async fn call<F>(rules: &CallRules, request: Request<Body>, answer: impl Fn() -> F + Clone + Send + 'static) -> Code
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let inner = service_fn(move |_: Request<Body>| {
        let answer = answer();
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let response = CallsLayer::new(rules.clone()).layer(inner).oneshot(request).await.expect("never fails");
    let in_headers = Status::from_header_map(response.headers()).map(|status| status.code());
    let mut body = response.into_body();
    let mut in_trailers = None;
    while let Some(frame) =
        std::future::poll_fn(|context| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), context)).await
    {
        let frame = frame.expect("a frame");
        in_trailers =
            frame.trailers_ref().and_then(Status::from_header_map).map(|status| status.code()).or(in_trailers);
    }
    in_trailers.or(in_headers).expect("a status")
}

fn ok() -> Response<Body> {
    Status::ok("").into_http()
}

/// A stream that never says anything.
fn silent() -> Response<Body> {
    struct Silent;
    impl http_body::Body for Silent {
        type Data = bytes::Bytes;
        type Error = Status;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Status>>> {
            Poll::Pending
        }
    }
    Response::new(Body::new(Silent))
}

/// A stream that panics.
fn panicking() -> Response<Body> {
    struct Panicking;
    impl http_body::Body for Panicking {
        type Data = bytes::Bytes;
        type Error = Status;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Status>>> {
            panic!("in a stream")
        }
    }
    Response::new(Body::new(Panicking))
}

#[tokio::test(start_paused = true)]
async fn without_an_identity_nothing_is_called() {
    let mut stranger = request(UNARY);
    stranger.extensions_mut().clear();
    assert_eq!(call(&rules(), stranger, || async { panic!("called") }).await, Code::Unauthenticated);
    assert_eq!(call(&rules(), request(UNARY), || async { ok() }).await, Code::Ok);
}

#[tokio::test(start_paused = true)]
async fn only_calls_whose_request_is_one_message_have_a_time_limit() {
    let rules = rules();
    assert_eq!(call(&rules, request(UNARY), pending).await, Code::DeadlineExceeded);
    let slow = || async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        ok()
    };
    assert_eq!(call(&rules, request(PIPELINED), slow).await, Code::Ok);
    let endless = call(&rules, request(STREAM), || async { silent() });
    assert!(tokio::time::timeout(Duration::from_secs(3600), endless).await.is_err(), "a quiet stream was ended");
}

#[tokio::test(start_paused = true)]
async fn a_panic_becomes_internal_in_a_call_and_in_a_stream() {
    telemetry::metrics_recorder();
    assert_eq!(call(&rules(), request(UNARY), || async { panic!("in a call") }).await, Code::Internal);
    assert_eq!(call(&rules(), request(STREAM), || async { panicking() }).await, Code::Internal);
    let text = telemetry::metrics_recorder().render();
    assert!(text.contains("tradelane_handler_panics_total{grpc_method=\"Subscribe\"}"), "{text}");
    assert!(text.contains("grpc_method=\"GetNode\",grpc_code=\"Internal\"}"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_stopping_node_refuses_new_calls_but_says_how_it_is_and_ends_what_is_left() {
    let rules = rules();
    let running = tokio::spawn({
        let rules = rules.clone();
        async move { call(&rules, request(STREAM), || async { silent() }).await }
    });
    while rules.live.of_connection(1).is_empty() {
        tokio::task::yield_now().await;
    }
    rules.draining.cancel();
    assert_eq!(call(&rules, request(UNARY), || async { panic!("called") }).await, Code::Unavailable);
    assert_eq!(call(&rules, request("/grpc.health.v1.Health/Check"), || async { ok() }).await, Code::Ok);
    assert!(!running.is_finished());
    rules.cut.cancel();
    assert_eq!(running.await.expect("no panic"), Code::Unavailable);
    assert!(rules.live.of_connection(1).is_empty());
}

#[test]
fn a_trace_id_is_read_from_a_well_formed_header_only() {
    let mut headers = HeaderMap::new();
    assert_eq!(trace_id(&headers), None);
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    headers.insert("traceparent", good.parse().expect("a header"));
    assert_eq!(trace_id(&headers), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    headers.insert("traceparent", "00-4bf9-00f067aa0ba902b7-01".parse().expect("a header"));
    assert_eq!(trace_id(&headers), None);
}

#[tokio::test]
async fn a_call_is_counted_once_by_how_it_ended() {
    let recorder = telemetry::metrics_recorder();
    let rules = rules();
    for _ in 0..2 {
        // No other test of this process ends a call so.
        let code = call(&rules, request(UNARY), || std::future::ready(Status::data_loss("").into_http())).await;
        assert_eq!(code, Code::DataLoss);
        let code =
            call(&rules, request("/a.Stranger/Path"), || std::future::ready(Status::aborted("").into_http())).await;
        assert_eq!(code, Code::Aborted);
    }
    let text = recorder.render();
    let counted = |service: &str, method: &str, code: &str| {
        let labels = format!("{{grpc_service=\"{service}\",grpc_method=\"{method}\",grpc_code=\"{code}\"}}");
        text.contains(&format!("{}{labels} 2\n", telemetry::GRPC_HANDLED_TOTAL))
    };
    assert!(counted("tradelane.v1.NodeService", "GetNode", "DataLoss"), "{text}");
    assert!(counted("unknown", "unknown", "Aborted"), "{text}");
    assert!(text.contains("grpc_server_handling_seconds_count{grpc_service=\"unknown\""), "{text}");
}
