//! A node as its operator meets it: who gets in, what `NodeService` says, probes, reload, and how it stops.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::StatusExt;
use tradelane::wire::proto::{self, node_service_client::NodeServiceClient};

use crate::harness::{Harness, POLICY};

/// Asks the operations address, and answers status line, headers and body.
async fn get(harness: &Harness, path: &str) -> String {
    let address = harness.node.operations_address.expect("an operations address");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

#[tokio::test]
async fn only_recognised_participants_get_in_and_only_operators_operate() {
    let harness = Harness::start().await;
    let state = harness.operate().await.get_node(proto::GetNodeRequest {}).await.expect("allowed").into_inner();
    assert_eq!(state.node_id, "spiffe://exchange.gov.pk/node/khi-1");
    assert_eq!((state.head_sequence, state.connection_count), (0, 1));
    assert!(!state.epoch.expect("an epoch").epoch.is_empty());
    let views: Vec<_> = state.views.iter().map(|view| view.view.as_str()).collect();
    assert_eq!(views, ["search", "associations"]);

    let mut customs = NodeServiceClient::new(harness.connect(&harness.customs).await.expect("recognised"));
    let refused = customs.get_node(proto::GetNodeRequest {}).await.expect_err("no grant");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "NOT_GRANTED"));

    // In TLS 1.3 the refusal of a client's certificate may come with the connection or with the first call.
    if let Ok(channel) = harness.connect(&harness.stranger).await {
        NodeServiceClient::new(channel).get_node(proto::GetNodeRequest {}).await.expect_err("not recognised");
    }
    let denials = harness.operate().await.list_denials(proto::ListDenialsRequest::default()).await.expect("allowed");
    let reasons: Vec<_> = denials.get_ref().denials.iter().map(|denial| denial.reason.as_str()).collect();
    assert!(reasons.contains(&"NOT_GRANTED") && 2 <= reasons.len(), "{reasons:?}");
    harness.stop().await;
}

#[tokio::test]
async fn pages_fit_only_their_own_request() {
    let harness = Harness::start().await;
    let mut operator = harness.operate().await;
    let ask = |participant: &str, page_token: &str| proto::ListGrantsRequest {
        participant: participant.to_owned(),
        page_size: 2,
        page_token: page_token.to_owned(),
    };
    let first = operator.list_grants(ask("", "")).await.expect("a page").into_inner();
    let ids = |answer: &proto::ListGrantsResponse| {
        answer.grants.iter().map(|grant| grant.grant_id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&first), ["port", "customs"]);
    let second = operator.list_grants(ask("", &first.next_page_token)).await.expect("a page").into_inner();
    assert_eq!(ids(&second), ["operators"]);
    assert_eq!(second.next_page_token, "");
    let other = ask("spiffe://customs.gov.pk/agency/karachi", &first.next_page_token);
    let refused = operator.list_grants(other).await.expect_err("another request's token");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.get_details_bad_request().expect("details").field_violations[0].field, "page_token");
    harness.stop().await;
}

#[tokio::test]
async fn the_operator_asks_who_may_do_what() {
    let harness = Harness::start().await;
    let mut operator = harness.operate().await;
    let ask = |participant: &str, action: &str| proto::CheckAccessRequest {
        participant: participant.to_owned(),
        action: action.to_owned(),
        target: None,
    };
    let customs = "spiffe://customs.gov.pk/agency/karachi";
    let allowed = operator.check_access(ask(customs, "publish")).await.expect("an answer").into_inner();
    assert!(allowed.allowed && allowed.grant_ids == ["customs"]);
    let refused = operator.check_access(ask(customs, "operate")).await.expect("an answer").into_inner();
    assert!(!refused.allowed && refused.reason == "NOT_GRANTED");
    let wrong = operator.check_access(ask("customs", "fly")).await.expect_err("a wrong question");
    assert_eq!(wrong.code(), Code::InvalidArgument);
    harness.stop().await;
}

#[tokio::test]
async fn health_probes_and_metrics_say_how_the_node_is() {
    let harness = Harness::start().await;
    let mut health = HealthClient::new(harness.connect(&harness.port).await.expect("a connection"));
    // The node as a whole, and each service that its descriptors have.
    let pool = tradelane::wire::descriptors();
    let own = pool.services().map(|service| service.full_name().to_owned());
    let services: Vec<String> = own.filter(|name| name.starts_with("tradelane.v1.")).collect();
    assert!(services.len() == 5, "{services:?}");
    for service in std::iter::once(String::new()).chain(services) {
        let asked = HealthCheckRequest { service: service.clone() };
        let status = health.check(asked).await.expect("known").into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    assert!(get(&harness, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(get(&harness, "/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = get(&harness, "/metrics").await;
    let counted =
        "grpc_server_handled_total{grpc_service=\"grpc.health.v1.Health\",grpc_method=\"Check\",grpc_code=\"OK\"}";
    assert!(metrics.contains(counted), "{metrics}");
    assert!(metrics.contains("# HELP tradelane_log_head_sequence"), "{metrics}");
    harness.stop().await;
}

#[tokio::test]
async fn a_reload_changes_grants_under_a_live_connection_and_a_bad_one_changes_nothing() {
    let harness = Harness::start().await;
    let mut operator = harness.operate().await;
    let mut customs = NodeServiceClient::new(harness.connect(&harness.customs).await.expect("recognised"));
    customs.get_node(proto::GetNodeRequest {}).await.expect_err("no grant yet");
    let wider = format!(
        "{POLICY}\n[[grant]]\nid = \"extra\"\nwho = [\"spiffe://customs.gov.pk/*\"]\nactions = [\"operate\"]\n"
    );
    harness.world.write_policy(&wider).expect("a policy file");
    operator.reload(proto::ReloadRequest {}).await.expect("a good file");
    // Not the answer's list of changes: where the node's own first look at its files came between, nothing had changed any more.
    let grants = operator.list_grants(proto::ListGrantsRequest::default()).await.expect("allowed").into_inner().grants;
    assert_eq!(grants.iter().filter(|grant| grant.grant_id == "extra").count(), 1, "{grants:?}");
    customs.get_node(proto::GetNodeRequest {}).await.expect("the new grant");
    harness.world.write_policy("[[grant]]\nid = 7\n").expect("a policy file");
    let refused = operator.reload(proto::ReloadRequest {}).await.expect_err("a bad file");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "RELOAD_REFUSED"));
    assert!(refused.message().contains("policy.toml"), "{}", refused.message());
    customs.get_node(proto::GetNodeRequest {}).await.expect("the grants of before");
    harness.stop().await;
}

#[tokio::test]
async fn a_stop_ends_streams_and_the_log_lives_on() {
    let harness = Harness::start().await;
    let mut health = HealthClient::new(harness.connect(&harness.port).await.expect("a connection"));
    let mut watched = health.watch(HealthCheckRequest::default()).await.expect("a stream").into_inner();
    assert_eq!(watched.message().await.expect("said").expect("a status").status(), ServingStatus::Serving);
    let epoch = |state: proto::GetNodeResponse| state.epoch.expect("an epoch").epoch;
    let before = epoch(harness.operate().await.get_node(proto::GetNodeRequest {}).await.expect("allowed").into_inner());
    let stopping = tokio::spawn(harness.stop());
    assert_eq!(watched.message().await.expect("said").expect("a status").status(), ServingStatus::NotServing);
    assert_eq!(watched.message().await.expect_err("the stream's end").code(), Code::Unavailable);
    let stopped = stopping.await.expect("no panic");
    assert_eq!((stopped.report.failure.clone(), stopped.report.unfinished.len()), (None, 0));
    let again = Box::pin(stopped.start_again()).await;
    let after = epoch(again.operate().await.get_node(proto::GetNodeRequest {}).await.expect("allowed").into_inner());
    assert_eq!(before, after);
    again.stop().await;
}
