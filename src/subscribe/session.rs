//! One session: follow, judge, deliver. It never moves its place past an event that was neither put into the reader's window nor judged
//! by the rights of that moment.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use super::{EndReason, SessionMessage, Start, SubscriptionsParts, guard::Guard, sessions::Entry, window::Window};
use crate::{
    domain::{Position, Sequence},
    identity::Narrowing,
    log::{Chunk, FollowError, Follower, Record},
};

/// A session reads the log in stretches of about so many bytes: large enough for full batches, small enough to look up often.
pub(super) const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// The API's limit of events a message.
const BATCH_EVENTS_MAX: usize = 256;

/// A batch is closed at so many bytes. With a window of four messages a reader that stalls costs about five times this, and at most an
/// event more each.
const BATCH_BYTES_MAX: usize = 128 * 1024;

/// A reader who had caught up and is then so many places behind is told so.
const FELL_BEHIND_EVENTS: u64 = 10_000;

/// One session.
pub(super) struct Session {
    follower: Follower,
    guard: Guard,
    window: Window,
    entry: Entry,
    /// Up to where everything was put into the window or did not concern the reader.
    reached: Position,
    /// How far associations are applied.
    associations: watch::Receiver<Sequence>,
    /// What associations up to here opened to the reader is announced, or need not be.
    announced_through: Sequence,
    /// The end of the log when the session began. Of associations before it that are applied later no event tells any more.
    first_tail: Sequence,
    caught_up: bool,
    progress_interval: Duration,
    progress_due: Instant,
}

impl Session {
    pub(super) fn new(
        follower: Follower,
        guard: Guard,
        window: Window,
        entry: Entry,
        (after, start): (Position, Start),
        parts: &SubscriptionsParts,
    ) -> Self {
        let associations = parts.bindings.progress();
        let is_from_first = after.sequence < parts.log.first_retained();
        let applied = *associations.borrow();
        let announced_through = match start {
            // Nothing was passed over before the first event; what comes after it is judged under what is applied already.
            _ if is_from_first => applied,
            // Whoever reached the position was told of all before it.
            Start::After(_) => after.sequence,
            Start::Earliest | Start::Latest | Start::Since(_) => after.sequence.min(applied),
        };
        Self {
            first_tail: follower.tail(),
            follower,
            guard,
            window,
            entry,
            reached: after,
            associations,
            announced_through,
            caught_up: false,
            progress_interval: parts.limits.progress_interval,
            progress_due: Instant::now() + parts.limits.progress_interval,
        }
    }

    /// Runs the session to its end.
    pub(super) async fn run(mut self, narrowing: Narrowing) {
        let reason = match self.send(SessionMessage::Started { after: self.reached, narrowing }).await {
            Ok(()) => self.follow().await,
            Err(reason) => reason,
        };
        let info = Arc::clone(&self.entry.info);
        tracing::info!(
            participant = %info.participant,
            connection = info.connection_id,
            position = %self.reached,
            delivered_events = info.delivered_events(),
            %reason,
            "a subscription ended"
        );
        self.window.end(reason, self.reached);
    }

    async fn follow(&mut self) -> EndReason {
        loop {
            if let Err(reason) = self.step().await {
                return reason;
            }
        }
    }

    async fn step(&mut self) -> Result<(), EndReason> {
        self.pass_over()?;
        self.announce_widening().await?;
        self.tell_distance().await?;
        let starts_behind = self.guard.sight().needs_bindings() && self.announced_through < self.first_tail;
        let progress_due = tokio::time::sleep_until(self.progress_due);
        let chunk = tokio::select! {
            biased;
            reason = self.guard.ended() => return Err(reason),
            reason = self.window.reader_gone() => return Err(reason),
            changed = self.associations.changed(), if starts_behind => {
                return changed.map_err(|_| EndReason::LogClosed);
            }
            () = progress_due => None,
            chunk = self.follower.next() => Some(chunk.map_err(unreadable)?),
        };
        let Some(chunk) = chunk else {
            self.pass_over()?;
            let time_ns = self.guard.now_ns();
            return self.send(SessionMessage::Progress { position: self.reached, time_ns }).await;
        };
        self.wait_for_associations(chunk.through).await?;
        self.announce_widening().await?;
        self.deliver(&chunk).await
    }

    /// What the follower passed over at rest did not concern the reader.
    fn pass_over(&mut self) -> Result<(), EndReason> {
        let through = self.follower.pass_over();
        if self.reached.sequence < through {
            // Asked afterwards: what her rights admit since then was not passed over under them.
            self.guard.check()?;
            self.move_to(through, 0);
        }
        Ok(())
    }

    /// Says once when the reader has everything, and once when she is far behind.
    async fn tell_distance(&mut self) -> Result<(), EndReason> {
        let position = self.reached;
        let lag_events = self.follower.tail().get().saturating_sub(position.sequence.get());
        if !self.caught_up && lag_events == 0 {
            self.caught_up = true;
            self.send(SessionMessage::CaughtUp { position }).await?;
        } else if self.caught_up && FELL_BEHIND_EVENTS < lag_events {
            self.caught_up = false;
            self.send(SessionMessage::FellBehind { position, lag_events }).await?;
        }
        Ok(())
    }

    /// Waits until the associations up to a place are applied, where they decide what the reader sees.
    async fn wait_for_associations(&mut self, through: Sequence) -> Result<(), EndReason> {
        while self.guard.sight().needs_bindings() && *self.associations.borrow_and_update() < through {
            let progress_due = tokio::time::sleep_until(self.progress_due);
            let applied = tokio::select! {
                biased;
                reason = self.guard.ended() => return Err(reason),
                reason = self.window.reader_gone() => return Err(reason),
                () = progress_due => false,
                changed = self.associations.changed() => {
                    changed.map_err(|_| EndReason::LogClosed)?;
                    true
                }
            };
            if !applied {
                let time_ns = self.guard.now_ns();
                self.send(SessionMessage::Progress { position: self.reached, time_ns }).await?;
            }
        }
        Ok(())
    }

    /// Says which subjects the reader became a party of that was not announced to her. All that is applied is announced at once, though she may
    /// be far before it: read back after a restart an association may seem to stand elsewhere, but then she was told of it before.
    async fn announce_widening(&mut self) -> Result<(), EndReason> {
        let through = *self.associations.borrow_and_update();
        let sight = self.guard.sight();
        if through <= self.announced_through || !sight.needs_bindings() {
            return Ok(());
        }
        let widened = sight.newly_bound(self.announced_through, through);
        let mut incomplete = sight.has_forgotten_bindings(self.announced_through);
        if widened.is_empty() && incomplete {
            // So many came since then that what is still named stands beyond it. That it is not all is said with these.
            return Ok(());
        }
        for binding in widened {
            let position = Position { sequence: binding.sequence, ..self.reached };
            let incomplete = std::mem::take(&mut incomplete);
            self.send(SessionMessage::VisibilityWidened { subject: binding.subject, position, incomplete }).await?;
        }
        self.announced_through = through;
        Ok(())
    }

    /// Judges a stretch of the log and puts what is to be seen into the window.
    async fn deliver(&mut self, chunk: &Chunk) -> Result<(), EndReason> {
        // The grants in force at this moment decide about the whole stretch; the check before each message tells whether they still do.
        self.guard.check()?;
        let now_ns = self.guard.now_ns();
        let mut batch: Vec<Record> = Vec::new();
        let mut batch_bytes = 0;
        let mut seen = false;
        for record in chunk.records.iter() {
            if !self.guard.sight().admits(record, now_ns).map_err(EndReason::Log)? {
                continue;
            }
            seen = true;
            batch_bytes += record.signed.len();
            batch.push(record.clone());
            if batch.len() == BATCH_EVENTS_MAX || BATCH_BYTES_MAX <= batch_bytes {
                self.send_events(std::mem::take(&mut batch), record.sequence).await?;
                batch_bytes = 0;
            }
        }
        if batch.is_empty() {
            self.guard.check()?;
            self.move_to(chunk.through, 0);
        } else {
            self.send_events(batch, chunk.through).await?;
        }
        // Who is to hear that she has everything hears it of the last commit.
        self.follower.set_quiet(!seen && self.caught_up);
        Ok(())
    }

    async fn send_events(&mut self, batch: Vec<Record>, through: Sequence) -> Result<(), EndReason> {
        let events = batch.len();
        let reached = Position { sequence: through, ..self.reached };
        self.send_reaching(SessionMessage::Events(batch), reached).await?;
        self.move_to(through, events);
        Ok(())
    }

    async fn send(&mut self, message: SessionMessage) -> Result<(), EndReason> {
        self.send_reaching(message, self.reached).await
    }

    /// Puts a message into the window as soon as there is room, if the session may still go on then.
    async fn send_reaching(&mut self, message: SessionMessage, reached: Position) -> Result<(), EndReason> {
        let room = tokio::select! {
            biased;
            reason = self.guard.ended() => return Err(reason),
            room = self.window.room() => room?,
        };
        // What was judged before the wait is handed out only if the same rights hold after it.
        self.guard.check()?;
        room.fill(message, reached);
        self.progress_due = Instant::now() + self.progress_interval;
        Ok(())
    }

    fn move_to(&mut self, through: Sequence, delivered_events: usize) {
        assert!(self.reached.sequence <= through, "a session never goes back");
        self.reached.sequence = through;
        self.entry.info.note(through, delivered_events);
    }
}

fn unreadable(error: FollowError) -> EndReason {
    match error {
        FollowError::Closed => EndReason::LogClosed,
        FollowError::Log(error) => EndReason::Log(error),
    }
}
