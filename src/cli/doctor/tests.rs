//! The doctor against a real acceptor, with every certificate that people come with.

use std::sync::Arc;

use futures::StreamExt;
use tokio::{io::AsyncWriteExt, net::TcpListener};

use super::*;
use crate::{
    cli::connect::{Credentials, ExpectedServer, NodeAddress, Pem},
    identity::{
        Identity,
        dev_pki::{CERTIFICATE_LIFE_NS, CRL_LIFE_NS, Fault, Issued},
    },
    tasks::Tasks,
    testing::pki::{CUSTOMS, PkiWorld, id},
};

struct Node {
    world: PkiWorld,
    address: NodeAddress,
    _directory: tempfile::TempDir,
    _identity: Identity,
}

/// An acceptor that answers what it accepts with an empty SETTINGS frame, as HTTP/2 begins.
async fn node(prepare: impl FnOnce(&mut PkiWorld) -> Vec<Issued>, connections_max: usize) -> (Node, Vec<Issued>) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut world = PkiWorld::create(directory.path(), SystemClock.now_ns()).expect("made");
    let issued = prepare(&mut world);
    let mut config = world.config().identity;
    config.connections_max = connections_max;
    std::fs::create_dir_all(directory.path().join("data")).expect("made");
    let identity = Identity::open(&config, Arc::new(SystemClock)).expect("good files");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").into();
    let mut accepted = Box::pin(identity.acceptor().incoming(listener, &Tasks::new()));
    tokio::spawn(async move {
        while let Some(Ok(mut connection)) = accepted.next().await {
            let _ = connection.write_all(b"\0\0\0\x04\0\0\0\0\0").await;
            let _ = connection.flush().await;
        }
    });
    (Node { world, address, _directory: directory, _identity: identity }, issued)
}

fn options(node: &Node, issued: &Issued) -> ConnectOptions {
    ConnectOptions {
        address: node.address.clone(),
        credentials: Credentials {
            authorities: Pem::File(node.world.node_bundle()),
            certificate: Pem::File(issued.certificate_file.clone()),
            key: Pem::File(issued.key_file.clone()),
        },
        expected_server: ExpectedServer::AddressHost,
    }
}

/// The first bad step: its name, exit code and what was found.
async fn first_bad(options: &ConnectOptions) -> Option<(&'static str, ExitCode, String)> {
    let steps = examine(options, SystemClock.now_ns()).await;
    let Answer { lines, document } = answer(&steps);
    let bad = steps.iter().any(|step| step.code().is_some());
    assert_eq!(lines.iter().any(|line| line.contains("what to do: ")), bad);
    assert_eq!((&document["good"], document["steps"].as_array().expect("a list").len()), (&json!(!bad), steps.len()));
    if let Some((at, step)) = steps.iter().enumerate().find(|(_, step)| step.code().is_some()) {
        let told = &document["steps"][at];
        assert_eq!((&told["step"], &told["exitCode"]), (&json!(step.name), &json!(step.code().map(|code| code as u8))));
        assert!(!told["advice"].as_str().expect("a text").is_empty(), "{told}");
    }
    steps.into_iter().find_map(|step| step.code().map(|code| (step.name, code, step.found)))
}

#[tokio::test]
async fn each_wrong_certificate_is_said_plainly_and_a_good_one_is_well() {
    let now_ns = SystemClock.now_ns();
    let (node, issued) = node(
        |world| {
            let customs = &mut world.customs;
            let name = |text: &str| id(&format!("spiffe://customs.gov.pk/{text}"));
            let mut all = vec![customs.issue_participant(&id(CUSTOMS), now_ns, CERTIFICATE_LIFE_NS).expect("issued")];
            let mut broken =
                |text: &str, fault: Fault| customs.issue_broken(&name(text), &fault, now_ns).expect("issued");
            all.push(broken("expired", Fault::Expired));
            all.push(broken("early", Fault::NotYetValid));
            all.push(broken("two", Fault::SecondUriName(id("spiffe://customs.gov.pk/b"))));
            all.push(broken("self", Fault::SelfSigned));
            all.push(broken("server", Fault::ServerOnly));
            let gone = id("spiffe://customs.gov.pk/gone");
            all.push(customs.issue_participant(&gone, now_ns, CERTIFICATE_LIFE_NS).expect("issued"));
            customs.revoke(gone.as_str(), now_ns).expect("revoked");
            customs.write_crl(now_ns, CRL_LIFE_NS).expect("written");
            let stranger = id("spiffe://stranger.example/a");
            all.push(world.stranger.issue_participant(&stranger, now_ns, CERTIFICATE_LIFE_NS).expect("issued"));
            all
        },
        100,
    )
    .await;
    assert_eq!(first_bad(&options(&node, &issued[0])).await, None);
    for (index, step, part) in [
        (1, "our validity", "ended"),
        (2, "our validity", "begins"),
        (3, "our name", "2 URI names"),
        (4, "our certificate", "no authority of its bundle"),
        (5, "our certificate", "may not be used by clients"),
        (6, "our certificate", "is revoked"),
        (7, "our certificate", "does not recognise the trust domain stranger.example"),
    ] {
        let (name, code, found) = first_bad(&options(&node, &issued[index])).await.expect("bad");
        assert_eq!((name, code), (step, ExitCode::NotPermitted), "{found}");
        assert!(found.contains(part), "{found}");
    }

    let mut other = options(&node, &issued[0]);
    other.credentials.authorities = Pem::File(node.world.customs.bundle_file());
    let (name, code, found) = first_bad(&other).await.expect("bad");
    assert_eq!((name, code), ("tls", ExitCode::NotPermitted), "{found}");
    other = options(&node, &issued[0]);
    other.expected_server = ExpectedServer::Id(id("spiffe://exchange.gov.pk/node/lhe-1"));
    assert!(first_bad(&other).await.expect("bad").2.contains("node/khi-1"));
    other = options(&node, &issued[0]);
    other.credentials.key = Pem::File(issued[1].key_file.clone());
    assert_eq!(first_bad(&other).await.expect("bad").1, ExitCode::Configuration);
}

#[tokio::test]
async fn a_node_that_is_not_there_or_full_or_plaintext_is_said_plainly() {
    let now_ns = SystemClock.now_ns();
    let issue = |world: &mut PkiWorld| {
        vec![world.customs.issue_participant(&id(CUSTOMS), now_ns, CERTIFICATE_LIFE_NS).expect("issued")]
    };
    let (node, issued) = node(issue, 0).await;
    let mut options = options(&node, &issued[0]);
    let (name, code, found) = first_bad(&options).await.expect("bad");
    assert_eq!((name, code), ("tls", ExitCode::Unavailable), "{found}");

    let plaintext = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    options.address = plaintext.local_addr().expect("an address").into();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = plaintext.accept().await {
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let (name, _, found) = first_bad(&options).await.expect("bad");
    assert_eq!(name, "tls");
    assert!(found.contains("not in TLS"), "{found}");

    let unused = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    options.address = unused.local_addr().expect("an address").into();
    drop(unused);
    let (name, code, found) = first_bad(&options).await.expect("bad");
    assert_eq!((name, code), ("tcp", ExitCode::Unavailable), "{found}");
    assert!(found.contains("nothing listens"), "{found}");
}
