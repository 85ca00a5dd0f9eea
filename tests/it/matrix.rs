//! The matrix: every method of the descriptors, asked of a whole node with every kind of wrong certificate and with certificates whose grants
//! do not suffice. Each cell is refused and noted in the audit log with its reason; with the right grant each method is reached, so that
//! the test can fail. A method that is added to the descriptors is in it without a change here.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Request;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Status,
    body::Body,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;
use tower::{Service, ServiceExt, service_fn};
use tradelane::{
    api::methods::Methods,
    clock::{Clock, SystemClock},
    identity::{
        Action,
        dev_pki::{CERTIFICATE_LIFE_NS, CRL_LIFE_NS, DevPki, Fault},
        rpc_policy::{Needs, needs},
    },
    testing::pki::{CUSTOMS, PkiWorld, TERMINAL, id},
    wire::proto,
};

use crate::harness::{Harness, PATIENCE};

const DAY_NS: i64 = 86_400_000_000_000;
/// Believed names whose grants do not suffice for anything.
const POWERLESS: [&str; 3] = ["nobody", "ended", "to-come"];

/// A grant of everything for those whose certificates are wrong, so that nothing but the certificate keeps them out; one for each action
/// alone; and grants that are not in force.
fn policy() -> String {
    let everything = Action::WORDS.map(|word| format!("'{word}'")).join(", ");
    let broken = "['spiffe://customs.gov.pk/broken/*', 'spiffe://port.valparaiso.cl/*', 'spiffe://stranger.example/*']";
    let grant = |id: &str, who: &str, actions: &str, rest: &str| {
        format!("[[grant]]\nid = '{id}'\nwho = {who}\nactions = [{actions}]\nall = true\n{rest}\n")
    };
    let named = |name: &str| format!("['spiffe://customs.gov.pk/{name}']");
    let mut grants = vec![
        grant("broken", broken, &everything, ""),
        grant("operators", "['spiffe://exchange.gov.pk/operator/*']", "'operate'", ""),
        grant("ended", &named("ended"), &everything, "expires_time = '2026-01-01T00:00:00Z'"),
        grant("to-come", &named("to-come"), &everything, "start_time = '2200-01-01T00:00:00Z'"),
    ];
    grants.extend(Action::WORDS.map(|word| grant(word, &named(&format!("only/{word}")), &format!("'{word}'"), "")));
    grants.concat()
}

/// Every kind of certificate that is not believed, with the reason that the audit log must give.
fn disbelieved(world: &mut PkiWorld, now_ns: i64) -> Vec<(&'static str, &'static str, ClientConfig)> {
    let broken = |pki: &mut DevPki, name: &str, fault: &Fault| {
        let name = id(&format!("spiffe://customs.gov.pk/broken/{name}"));
        Some(pki.issue_broken(&name, fault, now_ns).expect("issued"))
    };
    let issue = |pki: &mut DevPki, name: &str| {
        Some(pki.issue_participant(&id(name), now_ns, CERTIFICATE_LIFE_NS).expect("issued"))
    };
    let revoked = issue(&mut world.customs, "spiffe://customs.gov.pk/broken/revoked");
    world.customs.revoke("spiffe://customs.gov.pk/broken/revoked", now_ns).expect("revoked");
    world.customs.write_crl(now_ns, CRL_LIFE_NS).expect("written");
    let unlisted = issue(&mut world.port, "spiffe://port.valparaiso.cl/broken/list");
    // Its day is over, and so are the 24 hours of grace after it.
    world.port.write_crl(now_ns - 3 * DAY_NS, DAY_NS).expect("written");
    let other_authority = Fault::NameIs(id("spiffe://customs.gov.pk/broken/other"));
    let kinds = vec![
        ("no certificate", "NO_CERTIFICATE", None),
        ("self-signed", "WRONG_AUTHORITY", broken(&mut world.customs, "self", &Fault::SelfSigned)),
        ("other authority", "WRONG_AUTHORITY", broken(&mut world.stranger, "other", &other_authority)),
        ("unknown domain", "UNKNOWN_TRUST_DOMAIN", issue(&mut world.stranger, "spiffe://stranger.example/a")),
        ("another domain's name", "WRONG_AUTHORITY", broken(&mut world.customs, "name", &Fault::NameIs(id(TERMINAL)))),
        ("expired", "EXPIRED", broken(&mut world.customs, "expired", &Fault::Expired)),
        ("not yet valid", "NOT_YET_VALID", broken(&mut world.customs, "early", &Fault::NotYetValid)),
        ("revoked", "REVOKED", revoked),
        ("revocation list too old", "CRL_EXPIRED", unlisted),
        ("two URI names", "NOT_ONE_URI_NAME", broken(&mut world.customs, "two", &Fault::SecondUriName(id(CUSTOMS)))),
        ("no URI name", "NOT_ONE_URI_NAME", broken(&mut world.customs, "none", &Fault::NoUriName)),
        ("for servers only", "WRONG_PURPOSE", broken(&mut world.customs, "server", &Fault::ServerOnly)),
        ("an authority's own", "BAD_CERTIFICATE", broken(&mut world.customs, "authority", &Fault::Authority)),
    ];
    let settings = |issued: Option<_>| world.client(issued.as_ref()).expect("settings");
    kinds.into_iter().map(|(kind, reason, issued)| (kind, reason, settings(issued))).collect()
}

/// One connection: the channel would dial again where it is refused, and each refusal is to be counted once.
async fn connect(address: SocketAddr, config: ClientConfig) -> Option<Channel> {
    let connector = TlsConnector::from(Arc::new(config));
    let dialled = Arc::new(AtomicBool::new(false));
    let connector = service_fn(move |_| {
        let (connector, dialled) = (connector.clone(), dialled.clone());
        async move {
            if dialled.swap(true, Ordering::SeqCst) {
                return Err(io::Error::other("dialled once"));
            }
            let socket = TcpStream::connect(address).await?;
            let name = ServerName::try_from("localhost").expect("a good name");
            connector.connect(name, socket).await.map(TokioIo::new)
        }
    });
    Endpoint::from_static("https://localhost").timeout(PATIENCE).connect_with_connector(connector).await.ok()
}

/// What a method says to one empty message: a refusal's status, or none where its service began to answer. An error where there is no
/// connection.
pub async fn ask(channel: &mut Channel, method: &str) -> Result<Option<Status>, tonic::transport::Error> {
    const EMPTY_MESSAGE: [u8; 5] = [0; 5];
    let request = Request::post(format!("https://localhost{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(axum::body::Body::from(EMPTY_MESSAGE.to_vec())))
        .expect("a good request");
    let response = channel.ready().await?.call(request).await?;
    Ok(Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok))
}

fn is_granted_to(method: &str, action: Action) -> bool {
    matches!(needs(method), Some(Needs::AnyOf(actions)) if actions.contains(&action))
}

/// The reason that a status gives to programs.
pub fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// How often the audit log has each refusal: by what was asked for, and why it was refused.
fn audited(harness: &Harness) -> BTreeMap<(String, String), usize> {
    let text = std::fs::read_to_string(&harness.world.config().identity.audit_file).expect("the audit log");
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        if line["kind"] == "denied" {
            let text = |key: &str| line[key].as_str().expect("a text").to_owned();
            *counts.entry((text("subject"), text("reason"))).or_default() += 1;
        }
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr, reason = "the matrix's size is part of what the test says")]
async fn no_method_is_reached_without_a_believed_name_and_a_grant_for_its_action() {
    let mut harness = Harness::start_with(&policy(), |_| {}).await;
    let now_ns = SystemClock.now_ns();
    let disbelieved = disbelieved(&mut harness.world, now_ns);
    let mut believed = BTreeMap::new();
    for name in POWERLESS.map(str::to_owned).into_iter().chain(Action::WORDS.map(|word| format!("only/{word}"))) {
        let who = id(&format!("spiffe://customs.gov.pk/{name}"));
        let issued = harness.world.customs.issue_participant(&who, now_ns, CERTIFICATE_LIFE_NS).expect("issued");
        believed.insert(name, harness.world.client(Some(&issued)).expect("settings"));
    }
    harness.operate().await.reload(proto::ReloadRequest {}).await.expect("good files");
    let address = harness.node.address;
    let methods: Vec<Arc<str>> = Methods::served().iter().map(|method| method.path.clone()).collect();
    let mut expected: BTreeMap<(String, String), usize> = BTreeMap::new();

    for (kind, why, config) in &disbelieved {
        for method in &methods {
            // In TLS 1.3 the refusal of a client's certificate may come with the connection or with the first call.
            let answered = match connect(address, config.clone()).await {
                Some(mut channel) => ask(&mut channel, method).await.is_ok(),
                None => false,
            };
            assert!(!answered, "{method} answered to {kind}");
            *expected.entry(("handshake".to_owned(), (*why).to_owned())).or_default() += 1;
        }
    }
    let (mut refused, mut open, mut reached) = (0, 0, 0);
    for (name, config) in believed {
        let action = name.strip_prefix("only/").and_then(Action::from_word);
        let mut channel = connect(address, config).await.expect("a believed certificate");
        for method in &methods {
            let status = ask(&mut channel, method).await.expect("an answer");
            let is_refused = status.as_ref().is_some_and(|status| reason(status) == "NOT_GRANTED");
            if needs(method) == Some(Needs::Identity) || action.is_some_and(|action| is_granted_to(method, action)) {
                let code = status.as_ref().map_or(Code::Ok, Status::code);
                let served = !matches!(code, Code::Unimplemented | Code::Unauthenticated | Code::Unavailable);
                assert!(!is_refused && served, "{method} did not answer {name}: {status:?}");
                if action.is_some() { reached += 1 } else { open += 1 }
            } else if needs(method) == Some(Needs::Peer) {
                // Only the peers file opens it; the tests of peers show that it is served.
                assert_eq!(status.as_ref().map(reason).as_deref(), Some("NOT_A_PEER"), "{method} answered {name}");
                *expected.entry((method.to_string(), "NOT_A_PEER".to_owned())).or_default() += 1;
                refused += 1;
            } else {
                assert!(is_refused, "{method} answered {name}: {status:?}");
                assert_eq!(status.map(|status| status.code()), Some(Code::PermissionDenied), "{method} with {name}");
                *expected.entry((method.to_string(), "NOT_GRANTED".to_owned())).or_default() += 1;
                refused += 1;
            }
        }
    }
    for method in &methods {
        let somebody = matches!(needs(method), Some(Needs::Identity | Needs::Peer))
            || Action::WORDS
                .iter()
                .filter_map(|word| Action::from_word(word))
                .any(|action| is_granted_to(method, action));
        assert!(somebody, "no action opens {method}, so nothing shows that it is served at all");
    }

    // A refused handshake is noted a moment after its client has seen the alert.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while audited(&harness) != expected && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(audited(&harness), expected);
    eprintln!(
        "matrix: {} methods x ({} wrong certificates + {} believed names); {} cells refused and audited, {open} open to every believed \
         name, {reached} reached by the right grant",
        methods.len(),
        disbelieved.len(),
        POWERLESS.len() + Action::WORDS.len(),
        disbelieved.len() * methods.len() + refused,
    );
    harness.stop().await;
}
