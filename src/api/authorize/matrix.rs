//! The matrix: every method of the descriptors, asked over real mutual TLS with every kind of wrong certificate and with certificates
//! whose grants do not suffice. None of it may reach a service; with the right grant each does, so that the test can fail.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Status,
    body::Body,
    transport::{Channel, Endpoint, Server},
};
use tower::{Service, ServiceExt, service_fn};

use super::AuthorizeLayer;
use crate::{
    api::methods::Methods,
    clock::{Clock, SystemClock},
    identity::{
        Identity,
        dev_pki::{CERTIFICATE_LIFE_NS, CRL_LIFE_NS, DevPki, Fault, Issued},
        rpc_policy::{Needs, needs},
    },
    tasks::Tasks,
    testing::pki::{PkiWorld, TERMINAL, id},
};

const POLICY: &str = "
    [[grant]]
    id = 'all'
    who = ['spiffe://customs.gov.pk/all', 'spiffe://port.valparaiso.cl/*', 'spiffe://stranger.example/*',
           'spiffe://customs.gov.pk/broken/*']
    actions = ['publish', 'read', 'share', 'forward', 'operate', 'audit']
    all = true
    [[grant]]
    id = 'useless'
    who = ['spiffe://customs.gov.pk/wrong-action']
    actions = ['share', 'forward']
    all = true
";

/// What comes of a call: the status of one that was answered, nothing where there is no connection.
async fn ask(address: std::net::SocketAddr, config: &ClientConfig, method: &str) -> Option<Code> {
    let config = Arc::new(config.clone());
    let connector = service_fn(move |_| {
        let connector = TlsConnector::from(config.clone());
        async move {
            let socket = TcpStream::connect(address).await?;
            let name = ServerName::try_from("localhost").expect("a good name");
            connector.connect(name, socket).await.map(TokioIo::new)
        }
    });
    let endpoint = Endpoint::from_static("https://localhost").timeout(Duration::from_secs(20));
    let mut channel: Channel = endpoint.connect_with_connector(connector).await.ok()?;
    let request = Request::post(format!("https://localhost{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::empty())
        .expect("a good request");
    let response = channel.ready().await.ok()?.call(request).await.ok()?;
    Some(Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_method_is_reached_without_a_believed_name_and_a_grant_for_its_action() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("data")).expect("made");
    let now_ns = SystemClock.now_ns();
    let mut world = PkiWorld::create(directory.path(), now_ns).expect("made");
    world.write_policy(POLICY).expect("written");
    let issue =
        |pki: &mut DevPki, name: &str| pki.issue_participant(&id(name), now_ns, CERTIFICATE_LIFE_NS).expect("issued");
    let all = issue(&mut world.customs, "spiffe://customs.gov.pk/all");
    let no_grant = issue(&mut world.customs, "spiffe://customs.gov.pk/nobody");
    let wrong_action = issue(&mut world.customs, "spiffe://customs.gov.pk/wrong-action");
    let other_authority = issue(&mut world.stranger, "spiffe://stranger.example/a");
    let revoked = issue(&mut world.customs, "spiffe://customs.gov.pk/broken/revoked");
    let mut broken = |name: &str, fault: &Fault| {
        let name = id(&format!("spiffe://customs.gov.pk/broken/{name}"));
        world.customs.issue_broken(&name, fault, now_ns).expect("issued")
    };
    let disbelieved: Vec<(&str, Option<Issued>)> = vec![
        ("no certificate", None),
        ("self-signed", Some(broken("self", &Fault::SelfSigned))),
        ("other authority", Some(other_authority)),
        ("expired", Some(broken("expired", &Fault::Expired))),
        ("two URI names", Some(broken("two", &Fault::SecondUriName(id(TERMINAL))))),
        ("another domain's name", Some(broken("foreign", &Fault::NameIs(id(TERMINAL))))),
        ("revoked", Some(revoked.clone())),
    ];
    world.customs.revoke(revoked.id.as_str(), now_ns).expect("revoked");
    world.customs.write_crl(now_ns, CRL_LIFE_NS).expect("written");

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let identity = Identity::open(&world.config().identity, clock.clone()).expect("good files");
    let reached = Arc::new(AtomicUsize::new(0));
    let counter = reached.clone();
    let service = service_fn(move |_: Request<Body>| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Ok::<Response<Body>, Infallible>(Status::ok("").into_http()) }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let incoming = identity.acceptor().incoming(listener, &Tasks::new());
    let layer = AuthorizeLayer::new(identity.access().clone(), identity.audit().clone(), clock);
    let serving = tokio::spawn(Server::builder().layer(layer).serve_with_incoming(service, incoming));

    let (mut cells, mut expected) = (0, 0);
    let client = |issued: Option<&Issued>| world.client(issued).expect("settings");
    for method in Methods::served().iter().map(|method| method.path.clone()) {
        for (kind, issued) in &disbelieved {
            assert_eq!(ask(address, &client(issued.as_ref()), &method).await, None, "{method} with {kind}");
            cells += 1;
        }
        let open = needs(&method) == Some(Needs::Identity);
        for (kind, issued) in [("no grant", &no_grant), ("wrong action", &wrong_action)] {
            let code = if open { Code::Ok } else { Code::PermissionDenied };
            assert_eq!(ask(address, &client(Some(issued)), &method).await, Some(code), "{method} with {kind}");
            cells += 1;
            expected += usize::from(open);
        }
        assert_eq!(reached.load(Ordering::SeqCst), expected, "{method} was reached");
        assert_eq!(ask(address, &client(Some(&all)), &method).await, Some(Code::Ok), "{method} with a grant");
        expected += 1;
    }
    assert_eq!(reached.load(Ordering::SeqCst), expected);
    assert_eq!(cells, Methods::served().iter().count() * 9);
    serving.abort();
}
