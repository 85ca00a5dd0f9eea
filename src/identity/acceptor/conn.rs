//! One accepted TLS connection as tonic takes it. It ends itself: at its certificate's end, and a short while after its streams were
//! told to end. It never decides that it should.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::identity::{Caller, connections::Place};

/// So long streams have to say their last word (a status with the resume position) before the socket is closed.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// A TLS connection of a client whose certificate was believed.
pub struct TlsConn {
    stream: TlsStream<TcpStream>,
    caller: Caller,
    /// Resolves when the socket must be closed.
    end: BoxFuture<'static, ()>,
    /// Given back when the connection is gone.
    _place: Place,
}

impl TlsConn {
    /// `lives` is how long the client's certificate is still good.
    pub(super) fn new(stream: TlsStream<TcpStream>, caller: Caller, place: Place, lives: Duration) -> Self {
        let end = Box::pin(end_of(caller.clone(), lives));
        Self { stream, caller, end, _place: place }
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        self.end.as_mut().poll(context).map(|()| {
            let reason = self.caller.ending().unwrap_or("the connection has ended").to_owned();
            io::Error::new(io::ErrorKind::ConnectionAborted, reason)
        })
    }
}

async fn end_of(caller: Caller, lives: Duration) {
    tokio::select! {
        () = caller.closing.cancelled() => {}
        () = tokio::time::sleep(lives) => {
            caller.close("the client's certificate has expired; connect again with a newer one".to_owned());
        }
    }
    tokio::time::sleep(CLOSE_GRACE).await;
}

impl Connected for TlsConn {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for TlsConn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // HTTP/2 always has a read pending, so this is where the end is noticed.
        if let Poll::Ready(error) = self.poll_end(context) {
            // A future that has resolved must not be polled again.
            self.end = Box::pin(std::future::ready(()));
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsConn {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl std::fmt::Debug for TlsConn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsConn").field("caller", &self.caller).finish_non_exhaustive()
    }
}
