//! What lies between a session and its reader: a few messages, and how the session ended. A reader that doesn't read costs this window and
//! no more. When a session ends, what the reader has not taken is dropped and the resume point stands before it: after a grant was
//! withdrawn nothing that was prepared under it is handed out.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use tokio::sync::mpsc;

use super::{EndReason, SessionEnd, SessionInfo, SessionLimits, SessionMessage};
use crate::domain::Position;

/// A message, and the place up to which the reader has everything once she has it.
type Placed = (SessionMessage, Position);

/// The session's end of the window.
pub(super) struct Window {
    messages: mpsc::Sender<Placed>,
    end: Arc<OnceLock<SessionEnd>>,
    stalled_max: Duration,
}

/// The reader's end: the messages of a session in order, then how it ended, always.
#[derive(Debug)]
pub struct SessionStream {
    messages: mpsc::Receiver<Placed>,
    end: Arc<OnceLock<SessionEnd>>,
    info: Arc<SessionInfo>,
    /// Up to where the reader has everything.
    taken: Position,
    finished: bool,
}

/// A window whose reader has everything up to a place.
pub(super) fn window(after: Position, info: Arc<SessionInfo>, limits: &SessionLimits) -> (Window, SessionStream) {
    let (sender, receiver) = mpsc::channel(limits.window_messages_max);
    let end = Arc::new(OnceLock::new());
    let stream = SessionStream { messages: receiver, end: Arc::clone(&end), info, taken: after, finished: false };
    (Window { messages: sender, end, stalled_max: limits.stalled_max }, stream)
}

/// Room for one message.
pub(super) struct Room<'a>(mpsc::Permit<'a, Placed>);

impl Window {
    /// Waits for room for one message. Cancel-safe.
    pub(super) async fn room(&self) -> Result<Room<'_>, EndReason> {
        match tokio::time::timeout(self.stalled_max, self.messages.reserve()).await {
            Ok(Ok(permit)) => Ok(Room(permit)),
            Ok(Err(_)) => Err(EndReason::ReaderGone),
            Err(_) => Err(EndReason::ReaderStalled { stalled_max: self.stalled_max }),
        }
    }

    /// Resolves when the reader has hung up. Cancel-safe.
    pub(super) async fn reader_gone(&self) -> EndReason {
        self.messages.closed().await;
        EndReason::ReaderGone
    }

    /// Ends the session; `reached` is the place up to which everything was put into the window.
    pub(super) fn end(self, reason: EndReason, reached: Position) {
        // A session ends once: it is consumed by it.
        let _ = self.end.set(SessionEnd { reason, resume: reached });
    }
}

impl Room<'_> {
    /// Fills the room. `reached` is the place up to which the reader has everything once she has this message.
    pub(super) fn fill(self, message: SessionMessage, reached: Position) {
        self.0.send((message, reached));
    }
}

impl SessionStream {
    /// Where the session is, also while it waits for its reader.
    #[must_use]
    pub const fn info(&self) -> &Arc<SessionInfo> {
        &self.info
    }

    fn finish(&mut self, end: SessionEnd) -> Poll<Option<Result<SessionMessage, SessionEnd>>> {
        self.finished = true;
        self.messages.close();
        Poll::Ready(Some(Err(end)))
    }
}

impl Stream for SessionStream {
    type Item = Result<SessionMessage, SessionEnd>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.finished {
            return Poll::Ready(None);
        }
        if let Some(end) = self.end.get().cloned() {
            // What is still in the window is not handed out: she goes on from what she has.
            let has_all = self.messages.is_empty();
            let resume = if has_all { end.resume } else { self.taken };
            return self.finish(SessionEnd { resume, ..end });
        }
        if let Some((message, reached)) = ready!(self.messages.poll_recv(context)) {
            self.taken = reached;
            return Poll::Ready(Some(Ok(message)));
        }
        // The session's task has dropped its end of the window: with its last word, or without, where it panicked.
        let broken = SessionEnd { reason: EndReason::Broken, resume: self.taken };
        let end = self.end.get().cloned().unwrap_or(broken);
        self.finish(end)
    }
}
