//! Requests above their limit, in the words of the table of errors. Transport knows one limit a service, and finds a request above it before
//! any handler is asked: it says `OUT_OF_RANGE` without details, which a client that goes by codes would take for a position. Where a service
//! takes large requests by one method only, the others are watched here. It never touches another status, and never holds a request.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Code, Status, body::Body};

use crate::api::{Refused, methods::Method};

/// What tonic begins with; what follows are the numbers.
const TRANSPORT_WORDS: &str = "Error, decoded message length too large: ";

/// Before a message stand whether it is compressed, and its length (gRPC over HTTP/2, "Length-Prefixed-Message").
const MESSAGE_PREFIX_BYTES: usize = 5;

/// The one call whose request is one large message. A stream's messages are bounded one by one, by its service's limit.
const LARGE: &str = "/tradelane.v1.EventService/Publish";

/// What to say in place of a status, where it is transport's word on a message that is too large. Every `OUT_OF_RANGE` of ours has details.
pub(super) fn in_our_words(headers: &HeaderMap) -> Option<Status> {
    let status = Status::from_header_map(headers)?;
    if status.code() != Code::OutOfRange || !status.details().is_empty() {
        return None;
    }
    Some(refused(status.message().strip_prefix(TRANSPORT_WORDS).unwrap_or(status.message())))
}

/// The body of a request, which ends with a refusal where it goes beyond what the method takes.
pub(super) fn watched(body: Body, method: Option<&Method>, control_request_bytes_max: usize) -> Body {
    match method {
        Some(method) if !method.client_streaming && &*method.path != LARGE => {
            let room_bytes = control_request_bytes_max.saturating_add(MESSAGE_PREFIX_BYTES);
            Body::new(BoundedBody { inner: body, room_bytes, bytes_max: control_request_bytes_max, ended: false })
        }
        Some(_) | None => body,
    }
}

fn refused(numbers: &str) -> Status {
    let message = format!("the request is too large: {numbers}; ask for less, or send fewer events, at once");
    Refused::new(Code::InvalidArgument, "REQUEST_TOO_LARGE", message).into()
}

struct BoundedBody {
    inner: Body,
    room_bytes: usize,
    bytes_max: usize,
    ended: bool,
}

impl HttpBody for BoundedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        let Some(room_bytes) = self.room_bytes.checked_sub(bytes) else {
            self.ended = true;
            return Poll::Ready(Some(Err(refused(&format!("the limit is: {} bytes", self.bytes_max)))));
        };
        self.room_bytes = room_bytes;
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
