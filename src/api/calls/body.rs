//! The body of an answer, watched until its end: its status is counted, a panic in a stream becomes INTERNAL, and a stop that waits no
//! longer ends it. It never changes a message.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::FutureExt;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Status, body::Body};

use super::{Tally, panicked, too_large};
use crate::tasks::panic_text;

/// So many messages that were ready are still sent by a call that is being ended.
const FRAMES_AFTER_CUT_MAX: u32 = 16;

/// A body and how its call is going.
pub(super) struct WatchedBody {
    inner: Body,
    tally: Tally,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    frames_after_cut: u32,
    ended: bool,
}

impl WatchedBody {
    /// Watches a body. An answer without messages has its status in the headers already.
    pub(super) fn new(inner: Body, headers: &HeaderMap, mut tally: Tally, cut: CancellationToken) -> Self {
        tally.code = status_code(headers);
        Self { inner, tally, cut: Box::pin(cut.cancelled_owned()), frames_after_cut: 0, ended: false }
    }

    fn end_with(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.ended = true;
        self.tally.code = Some(status.code());
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(match status.add_header(&mut trailers) {
            Ok(()) => Ok(Frame::trailers(trailers)),
            Err(status) => Err(status),
        }))
    }
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // What a stream has ready is still said (health says NOT_SERVING as its last word), but it cannot go on for ever.
        let cut = self.tally.code.is_none() && (0 < self.frames_after_cut || self.cut.poll_unpin(context).is_ready());
        if cut && self.frames_after_cut == FRAMES_AFTER_CUT_MAX {
            return self.end_with(&Status::unavailable("the node is stopping"));
        }
        let inner = &mut self.inner;
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(context)));
        let frame = match polled {
            Ok(Poll::Pending) if cut => return self.end_with(&Status::unavailable("the node is stopping")),
            Ok(polled) => ready!(polled),
            Err(panic) => {
                let status = panicked(self.tally.meters.name(), panic_text(&*panic));
                return self.end_with(&status);
            }
        };
        self.frames_after_cut += u32::from(cut);
        match &frame {
            Some(Ok(frame)) => {
                if let Some(status) = frame.trailers_ref().and_then(too_large::in_our_words) {
                    return self.end_with(&status);
                }
                if let Some(code) = frame.trailers_ref().and_then(status_code) {
                    self.tally.code = Some(code);
                }
            }
            Some(Err(status)) => self.tally.code = Some(status.code()),
            None => self.ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn status_code(headers: &HeaderMap) -> Option<Code> {
    let text = headers.get("grpc-status")?.to_str().ok()?;
    Some(Code::from(text.parse::<i32>().ok()?))
}
