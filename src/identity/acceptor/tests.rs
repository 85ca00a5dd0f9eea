//! Real handshakes over loopback: who gets in, why everybody else does not, and how connections end.

use std::{io::ErrorKind, path::Path};

use futures::StreamExt;
use rustls::{ClientConfig, HandshakeKind, pki_types::ServerName};
use tokio::time::Instant;
use tokio_rustls::{TlsConnector, client::TlsStream as ClientStream};
use tonic::transport::server::Connected;

use super::*;
use crate::{
    clock::SystemClock,
    identity::{
        Caller, Identity,
        dev_pki::{CERTIFICATE_LIFE_NS, CRL_LIFE_NS, Fault},
        reload::ReloadCause,
    },
    testing::pki::{CUSTOMS, PkiWorld, TERMINAL, id},
};

const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    world: PkiWorld,
    identity: Identity,
    address: SocketAddr,
    accepted: futures::stream::BoxStream<'static, io::Result<TlsConn>>,
    tasks: Tasks,
    _directory: tempfile::TempDir,
}

fn now_ns() -> i64 {
    SystemClock.now_ns()
}

async fn node(change: impl FnOnce(&mut IdentityConfig)) -> Node {
    let directory = tempfile::tempdir().expect("a directory");
    let world = PkiWorld::create(directory.path(), now_ns()).expect("made");
    let mut config = world.config().identity;
    std::fs::create_dir_all(config.audit_file.parent().unwrap_or(Path::new("."))).expect("made");
    change(&mut config);
    let identity = Identity::open(&config, Arc::new(SystemClock)).expect("good files");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let tasks = Tasks::new();
    let accepted = identity.acceptor().incoming(listener, &tasks).boxed();
    Node { world, identity, address, accepted, tasks, _directory: directory }
}

async fn connect(address: SocketAddr, config: ClientConfig) -> io::Result<ClientStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").expect("a good name");
    TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

/// What the client reads once the node has judged it: in TLS 1.3 the alert comes after the client's side of the handshake is done.
async fn outcome(address: SocketAddr, config: ClientConfig) -> String {
    let attempt = async {
        let mut stream = connect(address, config).await?;
        stream.write_all(b"PRI * HTTP/2.0").await?;
        stream.read_u8().await
    };
    match timeout(PATIENCE, attempt).await.expect("an answer in time") {
        Ok(byte) => format!("byte {byte}"),
        Err(error) => error.to_string(),
    }
}

impl Node {
    async fn denial(&self, count: usize) -> Denial {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let denials = self.identity.audit().recent(None, None, 100);
            if denials.len() >= count {
                return denials[0].clone();
            }
            assert!(Instant::now() < deadline, "no refusal was noted: {denials:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn accept(&mut self, config: ClientConfig) -> (ClientStream<TcpStream>, TlsConn) {
        let (client, server) = tokio::join!(connect(self.address, config), timeout(PATIENCE, self.accepted.next()));
        let server = server.expect("a connection in time").expect("accepting goes on").expect("a connection");
        (client.expect("connected"), server)
    }
}

#[tokio::test]
async fn a_believed_client_gets_in_and_is_listed_while_it_is_here() {
    let mut node = node(|_| {}).await;
    let issued = node.world.customs.issue_participant(&id(CUSTOMS), now_ns(), CERTIFICATE_LIFE_NS).expect("issued");
    let config = node.world.client(Some(&issued)).expect("settings");
    let (client, server) = node.accept(config.clone()).await;
    let caller: Caller = server.connect_info();
    assert_eq!((caller.id.as_str(), caller.certificate_not_after_ns), (CUSTOMS, issued.not_after_ns));
    let (_, tls) = client.get_ref();
    assert_eq!(tls.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(tls.alpn_protocol(), Some(&b"h2"[..]));
    let listed = node.identity.connections().list();
    assert_eq!((listed.len(), &listed[0].peer.facts.serial), (1, &issued.serial));
    assert_eq!(node.identity.trust_items().len(), 8, "the client's certificate is one of those relied on");

    drop(server);
    assert_eq!(node.identity.connections().live_count(), 0);
    assert_eq!(node.identity.connections().participants()[0].connection_count, 0);

    // The same client settings, which keep whatever the node would give for resuming: it gives nothing.
    let (mut client, mut server) = node.accept(config.clone()).await;
    server.write_all(b"x").await.expect("written");
    server.flush().await.expect("flushed");
    assert_eq!(client.read_u8().await.expect("read"), b'x');
    assert_eq!(client.get_ref().1.tls13_tickets_received(), 0);
    let (client, _server) = node.accept(config).await;
    assert_eq!(client.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    assert_eq!(node.tasks.failure(), None);
}

#[tokio::test]
async fn everybody_else_is_refused_and_the_reason_is_noted() {
    let mut node = node(|_| {}).await;
    let now_ns = now_ns();
    let world = &mut node.world;
    let revoked = world.customs.issue_participant(&id(CUSTOMS), now_ns, CERTIFICATE_LIFE_NS).expect("issued");
    world.customs.revoke(CUSTOMS, now_ns).expect("revoked");
    world.customs.write_crl(now_ns, CRL_LIFE_NS).expect("written");
    let stranger = id("spiffe://stranger.example/a");
    let foreign = world.stranger.issue_participant(&stranger, now_ns, CERTIFICATE_LIFE_NS).expect("issued");
    let mut broken = |name: &str, fault: &Fault| {
        let name = id(&format!("spiffe://customs.gov.pk/{name}"));
        world.customs.issue_broken(&name, fault, now_ns).expect("issued")
    };
    let cases = [
        ("NO_CERTIFICATE", None, "CertificateRequired"),
        ("WRONG_AUTHORITY", Some(broken("self", &Fault::SelfSigned)), "UnknownCA"),
        ("WRONG_AUTHORITY", Some(broken("name", &Fault::NameIs(id(TERMINAL)))), "UnknownCA"),
        ("EXPIRED", Some(broken("expired", &Fault::Expired)), "CertificateExpired"),
        ("NOT_YET_VALID", Some(broken("early", &Fault::NotYetValid)), "CertificateExpired"),
        ("NOT_ONE_URI_NAME", Some(broken("two", &Fault::SecondUriName(id(TERMINAL)))), "BadCertificate"),
        ("NOT_ONE_URI_NAME", Some(broken("none", &Fault::NoUriName)), "BadCertificate"),
        ("WRONG_PURPOSE", Some(broken("server", &Fault::ServerOnly)), "UnsupportedCertificate"),
        ("UNKNOWN_TRUST_DOMAIN", Some(foreign), "AccessDenied"),
        ("REVOKED", Some(revoked), "CertificateRevoked"),
    ];
    node.identity.reload(&ReloadCause::Signal).await.expect("good files");
    for (index, (reason, issued, alert)) in cases.iter().enumerate() {
        let config = node.world.client(issued.as_ref()).expect("settings");
        let seen = outcome(node.address, config).await;
        assert!(seen.contains(alert), "the client of {reason} saw {seen}, not {alert}");
        let denial = node.denial(index + 1).await;
        assert_eq!((&*denial.reason, &*denial.subject), (*reason, "handshake"), "{denial:?}");
        assert!(denial.remote_address.is_some_and(|address| address.ip().is_loopback()));
    }
    assert_eq!(node.denial(1).await.participant, Some(id(CUSTOMS)), "the last one said who it is");
    assert_eq!(node.identity.connections().live_count(), 0);
}

#[tokio::test]
async fn what_is_no_tls_13_with_http2_is_refused_with_its_reason() {
    let mut node = node(|config| config.handshake_timeout = Duration::from_millis(300)).await;
    let issued = node.world.customs.issue_participant(&id(CUSTOMS), now_ns(), CERTIFICATE_LIFE_NS).expect("issued");

    let mut plaintext = TcpStream::connect(node.address).await.expect("connected");
    plaintext.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("written");
    assert_eq!(node.denial(1).await.reason, "PLAINTEXT");

    let mut http1 = node.world.client(Some(&issued)).expect("settings");
    http1.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(outcome(node.address, http1).await.contains("NoApplicationProtocol"));
    assert_eq!(node.denial(2).await.reason, "NOT_HTTP2");

    let _silent = TcpStream::connect(node.address).await.expect("connected");
    assert_eq!(node.denial(3).await.reason, "HANDSHAKE_TIMEOUT");

    drop(TcpStream::connect(node.address).await.expect("connected"));
    assert_eq!(node.denial(4).await.reason, "CLIENT_ENDED");
}

#[tokio::test]
async fn one_address_cannot_take_all_places_and_gives_them_back() {
    let mut node = node(|config| config.connections_per_address_max = 1).await;
    let issued = node.world.customs.issue_participant(&id(CUSTOMS), now_ns(), CERTIFICATE_LIFE_NS).expect("issued");
    let config = node.world.client(Some(&issued)).expect("settings");
    let first = node.accept(config.clone()).await;
    let refused = connect(node.address, config.clone()).await;
    assert!(refused.is_err());
    let denial = node.denial(1).await;
    assert_eq!((&*denial.reason, &*denial.subject), ("TOO_MANY_CONNECTIONS", "connection"));
    drop(first);
    node.accept(config).await;
}

#[tokio::test]
async fn revoking_a_certificate_closes_its_live_connection_and_no_other() {
    let mut node = node(|_| {}).await;
    let now_ns = now_ns();
    let customs = node.world.customs.issue_participant(&id(CUSTOMS), now_ns, CERTIFICATE_LIFE_NS).expect("issued");
    let terminal = node.world.port.issue_participant(&id(TERMINAL), now_ns, CERTIFICATE_LIFE_NS).expect("issued");
    let (_client, mut revoked) = node.accept(node.world.client(Some(&customs)).expect("settings")).await;
    let (mut other_client, mut other) = node.accept(node.world.client(Some(&terminal)).expect("settings")).await;
    let caller = revoked.connect_info();

    node.world.customs.revoke(CUSTOMS, now_ns).expect("revoked");
    node.world.customs.write_crl(now_ns, CRL_LIFE_NS).expect("written");
    let outcome = node.identity.reload(&ReloadCause::Signal).await.expect("good files");
    assert_eq!(outcome.closed_connection_count, 1, "{outcome}");
    assert_eq!(caller.ending(), Some("the certificate of this connection is no longer accepted: REVOKED"));
    let ended = timeout(PATIENCE, revoked.read_u8()).await.expect("ended in time").expect_err("closed");
    assert_eq!(ended.kind(), ErrorKind::ConnectionAborted, "{ended}");
    assert_eq!(node.denial(1).await.subject, "connection");
    // A second reload has nothing left to close.
    assert_eq!(node.identity.reload(&ReloadCause::Signal).await.expect("good files").closed_connection_count, 0);

    assert_eq!(other.connect_info().ending(), None);
    other_client.write_all(b"y").await.expect("written");
    other_client.flush().await.expect("flushed");
    assert_eq!(other.read_u8().await.expect("read"), b'y');
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let mut node = node(|_| {}).await;
    let soon = node.world.customs.issue_participant(&id(CUSTOMS), now_ns(), 2_000_000_000).expect("issued");
    let (_client, mut server) = node.accept(node.world.client(Some(&soon)).expect("settings")).await;
    let ended = timeout(PATIENCE, server.read_u8()).await.expect("ended in time").expect_err("closed");
    assert!(ended.to_string().contains("expired"), "{ended}");
    assert!(soon.not_after_ns <= now_ns(), "it ended early");
}

#[tokio::test]
async fn a_reload_during_a_handshake_is_not_missed() {
    let mut node = node(|_| {}).await;
    let issued = node.world.customs.issue_participant(&id(CUSTOMS), now_ns(), CERTIFICATE_LIFE_NS).expect("issued");
    let before = ConnectionVerifier::new(node.identity.trust());
    let chain: Vec<CertificateDer<'static>> =
        rustls::pki_types::pem::PemObject::pem_file_iter(&issued.certificate_file)
            .and_then(Iterator::collect)
            .expect("a chain");
    let acceptor = node.identity.acceptor();
    assert_eq!(acceptor.look_again(&before, &chain), Ok(()));
    node.world.customs.revoke(CUSTOMS, now_ns()).expect("revoked");
    node.world.customs.write_crl(now_ns(), CRL_LIFE_NS).expect("written");
    node.identity.reload(&ReloadCause::Signal).await.expect("good files");
    assert_eq!(acceptor.look_again(&before, &chain).expect_err("refused").reason, Reason::Revoked);
}
