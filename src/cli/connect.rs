//! Connects to a node as a client: mutual TLS 1.3 over our own connector, because the node's name is a SPIFFE ID, which stock verifiers
//! do not check. It never falls back to plaintext, to the system's roots or to an unchecked name.

use std::{fmt, io::Cursor, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, Chain, Join, ReadHalf, WriteHalf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

use crate::domain::SpiffeId;

mod explain;
#[cfg(test)]
mod tests;
mod tls;

use explain::is_other_server;
pub use explain::{explain, handshake_refused};
pub use tls::{CredentialsUnusable, client_config_with, uri_names_of};

/// How long one TCP connection or one TLS handshake may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Enough for a node's first frames; what comes after them is read by HTTP/2 itself.
const FIRST_BYTES_MAX: usize = 1024;
/// How often an idle connection is probed, so that a dead node is noticed while a stream is quiet.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// How long a probe may stay unanswered.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest message that a client takes: a full page of 1,000 events is larger than gRPC's default of 4 MiB.
pub const DECODE_BYTES_MAX: usize = 80 << 20;

/// Whom to connect to, as whom, and how to know that it is the right node.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Where the node listens.
    pub address: NodeAddress,
    /// Who we are, and whom we trust to vouch for the node.
    pub credentials: Credentials,
    /// The name that the node must prove.
    pub expected_server: ExpectedServer,
}

/// Certificates in PEM, read anew for each connection so that renewed files take effect without a restart.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The authorities of the node's trust domain.
    pub authorities: Pem,
    /// Our certificate, followed by its intermediates.
    pub certificate: Pem,
    /// Our private key.
    pub key: Pem,
}

/// Where a PEM text comes from.
#[derive(Clone)]
pub enum Pem {
    /// A file.
    File(PathBuf),
    /// The text itself.
    Text(Arc<str>),
}

/// The name that the node's certificate must bear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedServer {
    /// This SPIFFE ID as a URI name.
    Id(SpiffeId),
    /// This DNS name or IP address.
    Name(String),
    /// The host of the address.
    AddressHost,
}

/// Host and port of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// A DNS name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The text is not an address of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be host:port, such as exchange.gov.pk:7443, 127.0.0.1:7443 or [::1]:7443")]
pub struct AddressMalformed;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A certificate or key of ours cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsUnusable),
    /// One side does not accept the other's certificate: trying again changes nothing.
    #[error("cannot connect to {address}: {reason}; `tradelane doctor` looks closer")]
    Refused {
        /// Where we tried.
        address: NodeAddress,
        /// Who refused whom and why, in words for the user.
        reason: String,
    },
    /// The node was not reached.
    #[error("cannot connect to {address}: {reason}")]
    Unreachable {
        /// Where we tried.
        address: NodeAddress,
        /// Why it failed, in words for the user.
        reason: String,
    },
}

/// Opens a connection and waits until the node has taken us. The channel reconnects by itself when it is used after a loss; where the node
/// refuses our certificate then, [`handshake_refused`] finds the reason in the call's status.
///
/// # Errors
/// The credentials are unusable, or the node cannot be reached or is not the expected one.
pub async fn connect(options: &ConnectOptions) -> Result<Channel, ConnectError> {
    // Read once up front: a wrong file is the user's mistake and must not look like a node that is away.
    tls::client_config(options)?;
    let endpoint = endpoint(&options.address);
    let connector = connector(options.clone());
    endpoint.connect_with_connector(connector).await.map_err(|error| {
        let (address, reason) = (options.address.clone(), explain(&error).unwrap_or_else(|| error.to_string()));
        if handshake_refused(&error).is_some() || is_other_server(&error) {
            ConnectError::Refused { address, reason }
        } else {
            ConnectError::Unreachable { address, reason }
        }
    })
}

fn endpoint(address: &NodeAddress) -> Endpoint {
    let uri = Uri::builder()
        .scheme("https")
        .authority(address.to_string())
        .path_and_query("/")
        .build()
        .expect("an address is checked to be a valid authority when it is parsed");
    Endpoint::from(uri)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .user_agent(concat!("tradelane/", env!("CARGO_PKG_VERSION")))
        .expect("the program's name and version are a valid header value")
}

/// The TLS stream as tonic takes it: what was read ahead, then the rest.
type TlsIo = TokioIo<Join<Chain<Cursor<Vec<u8>>, ReadHalf<TlsStream<TcpStream>>>, WriteHalf<TlsStream<TcpStream>>>>;

/// What a connection attempt fails with; tonic keeps it in its error's chain of sources.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn connector(
    options: ConnectOptions,
) -> impl tower::Service<
    Uri,
    Response = TlsIo,
    Error = BoxError,
    Future = impl Future<Output = Result<TlsIo, BoxError>> + Send,
> + Send
+ 'static {
    let options = Arc::new(options);
    tower::service_fn(move |_: Uri| open_tls(options.clone()))
}

async fn open_tls(options: Arc<ConnectOptions>) -> Result<TlsIo, BoxError> {
    let config = tls::client_config(&options)?;
    let address = &options.address;
    let dial = TcpStream::connect((address.host.as_str(), address.port));
    let tcp = tokio::time::timeout(CONNECT_TIMEOUT, dial).await.map_err(|_| explain::NoAnswer::Tcp)??;
    tcp.set_nodelay(true)?;
    // Only used for SNI where a SPIFFE ID is expected: the verifier ignores it then.
    let host = match &options.expected_server {
        ExpectedServer::Name(name) => name.as_str(),
        ExpectedServer::Id(_) | ExpectedServer::AddressHost => address.host.as_str(),
    };
    let server_name = ServerName::try_from(host.to_owned())?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(server_name, tcp);
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, handshake).await.map_err(|_| explain::NoAnswer::Tls)??;
    let taken = tokio::time::timeout(CONNECT_TIMEOUT, until_taken(stream)).await;
    taken.map_err(|_| explain::NoAnswer::Http)?
}

/// Waits for the first bytes from the node. In TLS 1.3 it judges our certificate only after our side of the handshake is done, and a
/// request that is under way by then would lose the reason in the rush; a node that takes us begins HTTP/2 at once with its settings.
async fn until_taken(mut stream: TlsStream<TcpStream>) -> Result<TlsIo, BoxError> {
    let mut first = vec![0; FIRST_BYTES_MAX];
    let length = stream.read(&mut first).await?;
    if length == 0 {
        return Err(explain::ClosedAtOnce.into());
    }
    first.truncate(length);
    let (reader, writer) = tokio::io::split(stream);
    Ok(TokioIo::new(tokio::io::join(Cursor::new(first).chain(reader), writer)))
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for NodeAddress {
    type Err = AddressMalformed;

    fn from_str(text: &str) -> Result<Self, AddressMalformed> {
        // A scheme is accepted since people paste URLs; plain http is not, since nothing here speaks plaintext.
        let text = text.strip_prefix("https://").unwrap_or(text);
        let (host, port) = text.rsplit_once(':').ok_or(AddressMalformed)?;
        let host = match host.strip_prefix('[') {
            Some(bracketed) => bracketed.strip_suffix(']').ok_or(AddressMalformed)?,
            None if host.contains(':') => return Err(AddressMalformed),
            None => host,
        };
        let port = port.parse().map_err(|_| AddressMalformed)?;
        let address = Self { host: host.to_owned(), port };
        let usable = ServerName::try_from(host).is_ok() && address.to_string().parse::<http::uri::Authority>().is_ok();
        if usable && port != 0 { Ok(address) } else { Err(AddressMalformed) }
    }
}

impl From<std::net::SocketAddr> for NodeAddress {
    fn from(address: std::net::SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.fmt(f),
            // It may be a private key.
            Self::Text(_) => f.write_str("(PEM text)"),
        }
    }
}
