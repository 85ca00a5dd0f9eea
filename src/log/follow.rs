//! THE DOOR OUT: a cursor over the log. Old and new events take the same path: a follower reads what is stored and waits on the watch of
//! the durable tail. It never filters by more than terms that rule out every match, and it never keeps what it has returned.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    contract::{Chunk, EventLog, LogError},
    lookout::{Lookout, Resting},
};
use crate::domain::{Sequence, filter::TermPlan};

/// How long a quiet follower lets commits gather before it looks at them: short beside any network, long beside a commit, so that a
/// thousand readers of nothing don't wake a thousand times for each.
pub const QUIET_COALESCE: Duration = Duration::from_millis(5);

/// Follows one log from a place onwards.
pub struct Follower {
    log: Arc<dyn EventLog>,
    tail: watch::Receiver<Sequence>,
    cursor: Sequence,
    bytes_max: usize,
    terms: Option<Arc<TermPlan>>,
    quiet: bool,
    lookout: Option<Arc<Lookout>>,
    resting: Option<Resting>,
}

/// Why a follower cannot go on. Its cursor is unchanged: another may begin there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl Follower {
    /// Follows a log from after a place. Each chunk is about `bytes_max` bytes at most; `terms` rule out blocks that hold no match.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, after: Sequence, bytes_max: usize, terms: Option<Arc<TermPlan>>) -> Self {
        let tail = log.tail();
        Self { log, tail, cursor: after, bytes_max, terms, quiet: false, lookout: None, resting: None }
    }

    /// The same, but while it is quiet and has terms, it leaves it to a lookout over its log to find what it may have to read.
    #[must_use]
    pub fn resting_at(self, lookout: &Arc<Lookout>) -> Self {
        Self { lookout: Some(Arc::clone(lookout)), ..self }
    }

    /// The last place that was examined: where a follower that comes after this one begins.
    #[must_use]
    pub const fn cursor(&self) -> Sequence {
        self.cursor
    }

    /// The last durable place as known now.
    #[must_use]
    pub fn tail(&self) -> Sequence {
        *self.tail.borrow()
    }

    /// Says whether the chunks of late held nothing for this follower's reader. A quiet follower rests at its lookout; where that cannot be,
    /// it is woken once for all the commits of [`QUIET_COALESCE`]. The other is woken at once.
    pub const fn set_quiet(&mut self, quiet: bool) {
        self.quiet = quiet;
    }

    /// Counts as examined what the lookout found to hold nothing for this follower, and returns the cursor.
    pub fn pass_over(&mut self) -> Sequence {
        if let Some(resting) = &self.resting {
            self.cursor = self.cursor.max(resting.passed());
        }
        self.cursor
    }

    /// The next stretch of the log; waits until there is one.
    ///
    /// Cancel-safe: the cursor moves over events in the moment in which the chunk with them is returned, so a dropped call has taken
    /// nothing. What the lookout found to hold nothing it may have passed over.
    ///
    /// # Errors
    /// The log is closed or cannot be read.
    pub async fn next(&mut self) -> Result<Chunk, FollowError> {
        loop {
            if self.rests() {
                if let Some(resting) = &self.resting {
                    resting.woken().await;
                }
                self.pass_over();
                // It looks for itself now, also where the lookout has ended.
                self.resting = None;
                self.quiet = false;
            }
            // Looked at before reading: a commit between the read and the wait then ends the wait at once.
            let tail = *self.tail.borrow_and_update();
            if self.cursor < tail {
                let read = self.log.read(self.cursor, self.bytes_max, self.terms.clone()).await?;
                if let Some(chunk) = read {
                    // A place that was examined is never examined again, and nothing beyond the tail is shown.
                    assert!(self.cursor < chunk.through, "the log returned a chunk that does not move the cursor");
                    self.cursor = chunk.through;
                    return Ok(chunk);
                }
                // The places up to the tail were never given to an event, as far as the log says; the cursor stays before them all the
                // same, so that no event can ever be passed over by mistake.
            }
            self.tail.changed().await.map_err(|_| FollowError::Closed)?;
            if self.quiet {
                tokio::time::sleep(QUIET_COALESCE).await;
            }
        }
    }

    /// Whether the lookout looks out for it, from where it is now on.
    fn rests(&mut self) -> bool {
        if !self.quiet {
            self.pass_over();
            self.resting = None;
        } else if self.resting.is_none()
            && let (Some(lookout), Some(terms)) = (&self.lookout, &self.terms)
        {
            self.resting = lookout.rest(terms, self.cursor);
        }
        self.resting.is_some()
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("cursor", &self.cursor).field("tail", &self.tail()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
