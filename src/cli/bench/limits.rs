//! What a node is compared with in the same run: a server that does nothing over the same TLS, a server that streams bytes over the same
//! TLS, and a plain file. They never store, look at or keep anything in order.

use std::{
    convert::Infallible,
    fs::File,
    io::{self, Write},
    path::Path,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use tokio::{net::TcpListener, signal::unix::SignalKind};
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, ServerStreamingService, UnaryService},
    service::Routes,
};

use super::{child::LISTENING, raw::RawCodec, scenario::Encoded};
use crate::{
    cli::{ExitCode, Failure, config::SettingsArguments},
    clock::SystemClock,
    identity::Identity,
    node::transport,
    tasks::Tasks,
    telemetry,
};

/// Takes a request and answers nothing.
pub const NO_OP: &str = "/tradelane.bench.Limits/NoOp";
/// Answers with so many messages of so many bytes as the request says.
pub const STREAM: &str = "/tradelane.bench.Limits/Stream";

/// Runs the bare server until it is told to stop. Its settings and files are a node's.
///
/// # Errors
/// The settings are wrong, or the port cannot be had.
pub async fn serve(settings: &SettingsArguments) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| Failure::new(ExitCode::Failure, error);
    let (config, _) = settings.load()?;
    telemetry::start_logging(&config.telemetry.log, config.telemetry.log_format).map_err(|error| failed(&error))?;
    let identity = Identity::open(&config.identity, Arc::new(SystemClock)).map_err(|error| failed(&error))?;
    let listener = TcpListener::bind(config.listen.address).await.map_err(|error| failed(&error))?;
    let address = listener.local_addr().map_err(|error| failed(&error))?;
    let mut told = tokio::signal::unix::signal(SignalKind::terminate()).map_err(|error| failed(&error))?;
    let tasks = Tasks::new();
    let incoming = identity.acceptor().incoming(listener, &tasks);
    tracing::info!(%address, "{LISTENING}");
    let routes = Routes::new(Limits);
    transport(&config.api)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, async move {
            told.recv().await;
        })
        .await
        .map_err(|error| failed(&error))?;
    tasks.stop(tokio::time::Instant::now() + Duration::from_secs(5)).await;
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Limits;

impl NamedService for Limits {
    const NAME: &'static str = "tradelane.bench.Limits";
}

impl tower::Service<http::Request<Body>> for Limits {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(RawCodec);
            Ok(match request.uri().path() {
                NO_OP => grpc.unary(NoOp, request).await,
                STREAM => grpc.server_streaming(Stream, request).await,
                _ => Status::unimplemented("only NoOp and Stream").into_http(),
            })
        })
    }
}

struct NoOp;

impl UnaryService<Bytes> for NoOp {
    type Response = Bytes;
    type Future = std::future::Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        std::future::ready(Ok(Response::new(Bytes::new())))
    }
}

struct Stream;

impl ServerStreamingService<Bytes> for Stream {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        std::future::ready(StreamSize::parse(request.get_ref()).map(|size| {
            let message = Bytes::from(vec![b'x'; size.message_bytes as usize]);
            let messages = futures::stream::iter((0..size.messages).map(move |_| Ok(message.clone())));
            Response::new(Box::pin(messages) as Self::ResponseStream)
        }))
    }
}

/// What a bare stream is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSize {
    /// How long each message is.
    pub message_bytes: u32,
    /// How many come.
    pub messages: u32,
}

impl StreamSize {
    /// As the request has it.
    #[must_use]
    pub fn encode(self) -> Bytes {
        Bytes::from([self.message_bytes.to_be_bytes(), self.messages.to_be_bytes()].concat())
    }

    fn parse(request: &[u8]) -> Result<Self, Status> {
        let wrong = || Status::invalid_argument("must be two numbers of four bytes: bytes of a message, messages");
        let (size, count) = request.split_at_checked(4).ok_or_else(wrong)?;
        let number = |bytes: &[u8]| bytes.try_into().map(u32::from_be_bytes).map_err(|_| wrong());
        Ok(Self { message_bytes: number(size)?, messages: number(count)? })
    }
}

/// Appends each request to a file and waits until it is on disk, one after the other, for so long. Answers how many were, each with the
/// time that it took, and the time of all.
///
/// # Errors
/// The file cannot be written.
pub fn plain_file(path: &Path, requests: &[Encoded], limit: Duration) -> io::Result<(Vec<u64>, Duration)> {
    let mut file = File::create(path)?;
    let mut latencies_ns = Vec::with_capacity(requests.len());
    let started = Instant::now();
    for request in requests {
        let asked = Instant::now();
        file.write_all(&request.bytes)?;
        file.sync_data()?;
        latencies_ns.push(asked.elapsed().as_nanos() as u64);
        if limit < started.elapsed() {
            break;
        }
    }
    Ok((latencies_ns, started.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_size_is_read_back() {
        let size = StreamSize { message_bytes: 131_072, messages: 7 };
        assert_eq!(StreamSize::parse(&size.encode()).unwrap(), size);
        assert!(StreamSize::parse(b"seven b").is_err() && StreamSize::parse(b"nine byte").is_err());
    }

    #[test]
    fn a_plain_file_has_every_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let requests = vec![Encoded { bytes: Bytes::from_static(b"abc"), events: 1 }; 5];
        let (latencies, _) = plain_file(&path, &requests, Duration::from_secs(3_600)).unwrap();
        assert_eq!((latencies.len(), std::fs::read(&path).unwrap().len()), (5, 15));
    }
}
