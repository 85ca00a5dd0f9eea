//! The way to the node: name, TCP, TLS on our side, then what the node says of our certificate. It sends nothing but a handshake and the
//! first frame of HTTP/2.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    AlertDescription as Alert, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Step,
    files::{own_facts, text_of},
};
use crate::{
    cli::{
        ExitCode,
        connect::{CONNECT_TIMEOUT, ConnectOptions, ExpectedServer, client_config_with, explain},
    },
    identity::certificate::CertificateFacts,
};

/// The preface of HTTP/2 and an empty SETTINGS frame (RFC 9113, sections 3.4 and 6.5).
const HTTP2_GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The length of a frame's header (RFC 9113, section 4.1); its fourth byte is the type.
const FRAME_HEADER_BYTES: usize = 9;
const FRAME_TYPE_SETTINGS: u8 = 4;

pub(super) async fn examine(options: &ConnectOptions, now_ns: i64, steps: &mut Vec<Step>) {
    let address = &options.address;
    let target = (address.host.as_str(), address.port);
    match timeout(CONNECT_TIMEOUT, tokio::net::lookup_host(target)).await {
        Ok(Ok(found)) => {
            let found: Vec<String> = found.map(|address| address.ip().to_string()).collect();
            steps.push(Step::good("name", format!("{} is {}", address.host, found.join(", "))));
        }
        Ok(Err(error)) => {
            let found = format!("{} has no address: {error}", address.host);
            return steps.push(unreachable("name", found, "check the host's spelling and this machine's name service"));
        }
        Err(_) => {
            let advice = "check this machine's name service";
            return steps.push(unreachable("name", "no answer within 5 s".to_owned(), advice));
        }
    }
    let socket = match timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let advice = "check the port (7443 unless the node's operator chose another) and that the node runs";
            return steps.push(unreachable("tcp", format!("nothing listens at {address}"), advice));
        }
        Ok(Err(error)) => {
            return steps.push(unreachable("tcp", error.to_string(), "check the network between here and the node"));
        }
        Err(_) => {
            let advice = "check the address, and for a firewall between here and the node";
            return steps.push(unreachable("tcp", "no answer within 5 s".to_owned(), advice));
        }
    };
    steps.push(Step::good("tcp", format!("connected to {address}")));
    if let Some(stream) = shake(options, socket, now_ns, steps).await {
        steps.push(judged(options, stream, now_ns).await);
    }
}

/// TLS as far as our side decides.
async fn shake(
    options: &ConnectOptions,
    socket: TcpStream,
    now_ns: i64,
    steps: &mut Vec<Step>,
) -> Option<TlsStream<TcpStream>> {
    let seen: Arc<Mutex<Option<CertificateFacts>>> = Arc::default();
    let recorder = |inner| Arc::new(Recorder { inner, seen: seen.clone() }) as Arc<dyn ServerCertVerifier>;
    let config = match client_config_with(options, recorder) {
        Ok(config) => config,
        Err(unusable) => {
            steps.push(Step::bad("our files", ExitCode::Configuration, unusable, "they changed just now: try again"));
            return None;
        }
    };
    let host = match &options.expected_server {
        ExpectedServer::Name(name) => name.clone(),
        ExpectedServer::Id(_) | ExpectedServer::AddressHost => options.address.host.clone(),
    };
    let Ok(name) = ServerName::try_from(host.clone()) else {
        let found = format!("{host:?} is neither a DNS name nor an IP address");
        steps.push(Step::bad("node's name", ExitCode::Configuration, found, "give another --server-name"));
        return None;
    };
    let shaken = timeout(CONNECT_TIMEOUT, TlsConnector::from(Arc::new(config)).connect(name, socket)).await;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(facts) = &seen {
        let names = [facts.uri_names.as_slice(), facts.host_names.as_slice()].concat().join(", ");
        let validity = format!("{} to {}", text_of(facts.not_before_ns), text_of(facts.not_after_ns));
        steps.push(Step::good("node's certificate", format!("shown: {names}; from {validity}")));
    }
    match shaken {
        Ok(Ok(stream)) => {
            steps.push(Step::good("tls", "the node proved its name, by TLS 1.3"));
            return Some(stream);
        }
        Ok(Err(error)) => steps.push(refused_by_us(&error, seen.as_ref(), now_ns)),
        Err(_) => {
            let advice = "check that the port is that of a Tradelane node, and that no proxy stands between";
            steps.push(unreachable("tls", "something listens there, but does not answer TLS".to_owned(), advice));
        }
    }
    None
}

fn refused_by_us(error: &io::Error, seen: Option<&CertificateFacts>, now_ns: i64) -> Step {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let words = explain(error).unwrap_or_else(|| error.to_string());
    match tls {
        Some(Error::InvalidCertificate(_)) => {
            let advice = match seen {
                Some(facts) if facts.not_after_ns <= now_ns || now_ns < facts.not_before_ns => {
                    "set this machine's clock right if it is wrong; else the node's operator must renew the certificate"
                }
                Some(_) | None => {
                    "check --ca (the authorities of the NODE's trust domain, not of ours) and --server-id or --server-name"
                }
            };
            Step::bad("tls", ExitCode::NotPermitted, words, advice)
        }
        Some(Error::InvalidMessage(_)) => {
            let found = "the port answers, but not in TLS: plaintext, or another service";
            unreachable("tls", found.to_owned(), "use the node's gRPC port, not its operations port")
        }
        Some(_) => unreachable("tls", words, "check that the port is that of a Tradelane node"),
        // Accepted by the system and closed by the node without a word of TLS.
        None => {
            let found = format!("the connection was closed in the handshake: {error}");
            let advice = "the node has as many connections as it may (in all or from this address), is stopping, or a \
                          proxy closed it: try again later, or ask its operator to look at its refusals";
            unreachable("tls", found, advice)
        }
    }
}

/// What the node says of our certificate: in TLS 1.3 it judges after our side is done.
async fn judged(options: &ConnectOptions, mut stream: TlsStream<TcpStream>, now_ns: i64) -> Step {
    let greeting = async {
        stream.write_all(HTTP2_GREETING).await?;
        stream.flush().await?;
        let mut header = [0; FRAME_HEADER_BYTES];
        stream.read_exact(&mut header).await?;
        Ok::<_, io::Error>(header[3])
    };
    let name = "our certificate";
    match timeout(CONNECT_TIMEOUT, greeting).await {
        Ok(Ok(FRAME_TYPE_SETTINGS)) => Step::good(name, "the node accepts it and speaks HTTP/2"),
        Ok(Ok(_)) => unreachable(name, "the other side does not speak HTTP/2".to_owned(), "check the port"),
        Ok(Err(error)) => refused_by_node(options, &error, now_ns),
        Err(_) => {
            unreachable(name, "no answer within 5 s after TLS".to_owned(), "try again; the node may be overloaded")
        }
    }
}

fn refused_by_node(options: &ConnectOptions, error: &io::Error, now_ns: i64) -> Step {
    let Some(Error::AlertReceived(alert)) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        let found = format!("the node closed the connection: {error}");
        return unreachable(
            "our certificate",
            found,
            "try again; if it stays so, ask the node's operator for the reason",
        );
    };
    let facts = own_facts(options).ok();
    let id = facts.as_ref().and_then(|facts| facts.spiffe_id().ok());
    let domain = id.as_ref().map_or("our trust domain", |id| id.trust_domain());
    let in_time = facts.is_some_and(|facts| facts.not_before_ns <= now_ns && now_ns < facts.not_after_ns);
    let (found, advice) = match alert {
        Alert::CertificateRequired => ("the node got no certificate from us".to_owned(), "give --cert and --key"),
        Alert::UnknownCA => (
            format!("the node recognises {domain}, but no authority of its bundle vouches for our certificate"),
            "use a certificate of that domain's own authority, with its intermediates in the file; or ask the node's operator \
             whether the bundle is current and a revocation list covers the issuer",
        ),
        Alert::AccessDenied => (
            format!("the node does not recognise the trust domain {domain}"),
            "ask the node's operator to add its bundle to the trust file",
        ),
        Alert::CertificateExpired if in_time => (
            "the node says that our certificate is not valid now, but by this machine's clock it is: the clocks differ"
                .to_owned(),
            "compare both machines' clocks, and check the intermediates in the file",
        ),
        Alert::CertificateExpired => ("our certificate is not valid now".to_owned(), "renew it"),
        Alert::CertificateRevoked => {
            ("our certificate, or one of its chain, is revoked".to_owned(), "ask your administration for a new one")
        }
        Alert::UnsupportedCertificate => (
            "our certificate may not be used by clients".to_owned(),
            "ask for one with the extended key usage clientAuth",
        ),
        Alert::BadCertificate => (
            "the node does not accept our certificate".to_owned(),
            "it must have exactly one URI name, a SPIFFE ID; otherwise the node's revocation list of our domain has ended: \
             ask its operator",
        ),
        // The library's list is open; any other alert keeps its name.
        other => (format!("the node ended TLS with the alert {other:?}"), "ask the node's operator for the reason"),
    };
    Step::bad("our certificate", ExitCode::NotPermitted, found, advice)
}

fn unreachable(name: &'static str, found: String, advice: &str) -> Step {
    Step::bad(name, ExitCode::Unavailable, found, advice)
}

/// Keeps what the node's certificate says, whatever is then decided about it.
#[derive(Debug)]
struct Recorder {
    inner: Arc<dyn ServerCertVerifier>,
    seen: Arc<Mutex<Option<CertificateFacts>>>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = CertificateFacts::read(end_entity).ok();
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
