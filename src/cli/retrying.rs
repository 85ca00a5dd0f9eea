//! Going on over lost connections: which ends of a stream are worth another try, how long to wait, and when to give up. It never knows what
//! the stream brings.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;
use tonic_types::StatusExt;

use super::{
    ExitCode, Failure,
    backoff::Backoff,
    connect::handshake_refused,
    failure::{describe, is_connection_lost, is_retryable},
    terminal::note,
};

/// A series of tries.
#[derive(Debug)]
pub struct Retrying {
    retry_for: Duration,
    backoff: Backoff,
    failing_since: Option<Instant>,
}

impl Retrying {
    /// A series that is given up after so long without progress.
    #[must_use]
    pub fn new(retry_for: Duration) -> Self {
        Self { retry_for, backoff: Backoff::default(), failing_since: None }
    }

    /// Waits until the next try after a stream ended so. `progressed`: it brought something new, so that a new series begins.
    ///
    /// # Errors
    /// Another try would end the same, or there were enough.
    pub async fn wait_after(&mut self, status: Status, progressed: bool) -> Result<(), Failure> {
        if let Some(reason) = handshake_refused(&status) {
            return Err(Failure::new(ExitCode::NotPermitted, reason));
        }
        if !is_retryable(status.code()) && !is_connection_lost(&status) {
            return Err(status.into());
        }
        if progressed {
            self.backoff.reset();
            self.failing_since = None;
        }
        let failing_for = self.failing_since.get_or_insert_with(Instant::now).elapsed();
        if failing_for > self.retry_for {
            let words = format!("gave up after {} s: {}", failing_for.as_secs(), describe(&status));
            return Err(Failure::new(ExitCode::Unavailable, words));
        }
        let wait = self.backoff.next_wait(status.get_details_retry_info().and_then(|info| info.retry_delay));
        note(&format!("{}; trying again in {:.1} s", describe(&status), wait.as_secs_f64()));
        tokio::time::sleep(wait).await;
        Ok(())
    }
}
