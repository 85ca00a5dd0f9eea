//! The connection against a real TLS server on loopback, with certificates made here.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::{RootCertStore, pki_types::PrivateKeyDer, server::WebPkiClientVerifier};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::*;

const NODE: &str = "spiffe://exchange.gov.pk/node/khi-1";

struct Authority {
    pem: String,
    der: rustls::pki_types::CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

struct Leaf {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Authority { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
}

fn leaf(authority: &Authority, uri: &str, dns: &str) -> Leaf {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap()), SanType::DnsName(dns.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    Leaf { certificate, key }
}

/// A node that speaks health over mutual TLS and trusts one authority for its clients.
async fn serve(node: &Leaf, clients: &Authority) -> NodeAddress {
    let mut roots = RootCertStore::empty();
    roots.add(clients.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let key = PrivateKeyDer::try_from(node.key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![node.certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().into();
    let (sender, accepted) = tokio::sync::mpsc::channel::<Result<_, std::io::Error>>(4);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            // tonic's server takes only streams that it knows: hand the bytes on through a pipe.
            let (mut inner, outer) = tokio::io::duplex(1 << 16);
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut tls, &mut inner).await });
            let _ = sender.send(Ok(outer)).await;
        }
    });
    let (_, health) = tonic_health::server::health_reporter();
    let incoming = tokio_stream::wrappers::ReceiverStream::new(accepted);
    tokio::spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming));
    address
}

fn options(address: NodeAddress, roots: &Authority, client: &Leaf, expected_server: ExpectedServer) -> ConnectOptions {
    let credentials = Credentials {
        authorities: Pem::Text(roots.pem.as_str().into()),
        certificate: Pem::Text(client.certificate.pem().into()),
        key: Pem::Text(client.key.serialize_pem().into()),
    };
    ConnectOptions { address, credentials, expected_server }
}

fn id(text: &str) -> ExpectedServer {
    ExpectedServer::Id(SpiffeId::parse(text).unwrap())
}

#[tokio::test]
async fn a_node_is_known_by_its_spiffe_id_or_its_dns_name() {
    let ca = authority("exchange");
    let client = leaf(&ca, "spiffe://exchange.gov.pk/customs", "unused");
    let address = serve(&leaf(&ca, NODE, "node.test"), &ca).await;
    for expected in [id(NODE), ExpectedServer::Name("node.test".to_owned())] {
        let channel = connect(&options(address.clone(), &ca, &client, expected)).await.unwrap();
        let request = HealthCheckRequest { service: String::new() };
        HealthClient::new(channel).check(request).await.unwrap();
    }
}

#[tokio::test]
async fn another_node_is_refused_and_the_message_says_why() {
    let ca = authority("exchange");
    let stranger = authority("stranger");
    let client = leaf(&ca, "spiffe://exchange.gov.pk/customs", "unused");
    let address = serve(&leaf(&ca, NODE, "node.test"), &ca).await;
    let cases = [
        (&ca, id("spiffe://exchange.gov.pk/node/khi-2"), "proved to be spiffe://exchange.gov.pk/node/khi-1, not"),
        (&ca, ExpectedServer::AddressHost, "is for spiffe://exchange.gov.pk/node/khi-1, node.test, not for 127.0.0.1"),
        (&stranger, id(NODE), "not signed by any authority of the --ca file"),
    ];
    for (roots, expected, words) in cases {
        let error = connect(&options(address.clone(), roots, &client, expected)).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error:?} should say {words:?}");
    }
}

#[tokio::test]
async fn our_certificate_refused_shows_when_connecting_every_time() {
    let (ca, stranger) = (authority("exchange"), authority("stranger"));
    let client = leaf(&stranger, "spiffe://exchange.gov.pk/customs", "unused");
    let address = serve(&leaf(&ca, NODE, "node.test"), &ca).await;
    // The node's word races with whatever the client would do next, so one round would prove little.
    for _ in 0..20 {
        let error = connect(&options(address.clone(), &ca, &client, id(NODE))).await.unwrap_err().to_string();
        assert!(error.contains("none of its trust bundles holds the authority that signed it"), "{error}");
    }
}

#[tokio::test]
async fn nobody_there_and_plaintext_are_told_apart() {
    let ca = authority("exchange");
    let client = leaf(&ca, "spiffe://exchange.gov.pk/customs", "unused");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = NodeAddress::from(listener.local_addr().unwrap());
    let plaintext = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        listener
    });
    let error = connect(&options(address.clone(), &ca, &client, id(NODE))).await.unwrap_err().to_string();
    assert!(error.contains("does not speak TLS"), "{error}");
    drop(plaintext.await.unwrap());
    let error = connect(&options(address, &ca, &client, id(NODE))).await.unwrap_err().to_string();
    assert!(error.contains("connection refused"), "{error}");
}

#[tokio::test]
async fn unusable_credentials_name_the_file_and_what_is_wrong() {
    let ca = authority("exchange");
    let client = leaf(&ca, "spiffe://exchange.gov.pk/customs", "unused");
    let other = leaf(&ca, "spiffe://exchange.gov.pk/customs", "unused");
    let address: NodeAddress = "127.0.0.1:1".parse().unwrap();
    let mut missing = options(address.clone(), &ca, &client, id(NODE));
    missing.credentials.certificate = Pem::File("/nowhere/customs.pem".into());
    let mut empty = options(address.clone(), &ca, &client, id(NODE));
    empty.credentials.authorities = Pem::Text("".into());
    let mut mixed = options(address, &ca, &client, id(NODE));
    mixed.credentials.key = Pem::Text(other.key.serialize_pem().into());
    for (wrong, words) in [
        (missing, "cannot read the certificate /nowhere/customs.pem: No such file"),
        (empty, "the file of trusted authorities (given as text) holds no certificate in PEM form"),
        (mixed, "does not belong to the private key"),
    ] {
        let error = connect(&wrong).await.unwrap_err();
        assert!(matches!(error, ConnectError::Credentials(_)), "{error:?}");
        assert!(error.to_string().contains(words), "{error} should say {words:?}");
    }
}

#[test]
fn addresses_are_host_and_port() {
    for (text, shown) in [
        ("exchange.gov.pk:7443", "exchange.gov.pk:7443"),
        ("https://exchange.gov.pk:7443", "exchange.gov.pk:7443"),
        ("127.0.0.1:7443", "127.0.0.1:7443"),
        ("[::1]:7443", "[::1]:7443"),
    ] {
        assert_eq!(text.parse::<NodeAddress>().unwrap().to_string(), shown);
    }
    for wrong in ["", "host", "host:", "host:0", "host:70000", "::1:7443", "http://host:1", "ho st:1", "user@host:1"] {
        assert!(wrong.parse::<NodeAddress>().is_err(), "{wrong:?} was read");
    }
}
