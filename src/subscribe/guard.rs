//! What ends a session from outside: rights that change, the certificate's end, the connection's closing, the node's stop. It never ends
//! one for a change that leaves what the caller sees as it is.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    EndReason, SubscriptionsParts,
    sight::{self, Sight},
};
use crate::{
    clock::Clock,
    identity::{Access, Caller},
};

/// The machine's clock may be set while a session sleeps: it looks again at least so often.
const CLOCK_RECHECK: Duration = Duration::from_secs(30);

/// Watches over one session.
pub(super) struct Guard {
    caller: Caller,
    access: Arc<Access>,
    clock: Arc<dyn Clock>,
    draining: CancellationToken,
    generation: watch::Receiver<u64>,
    sight: Sight,
    /// When a grant begins or ends, or the certificate ends: the first moment in which anything can change by time alone.
    next_change_ns: i64,
}

impl Guard {
    pub(super) fn new(
        caller: Caller,
        parts: &SubscriptionsParts,
        generation: watch::Receiver<u64>,
        sight: Sight,
    ) -> Self {
        let mut guard = Self {
            caller,
            access: Arc::clone(&parts.access),
            clock: Arc::clone(&parts.clock),
            draining: parts.draining.clone(),
            generation,
            sight,
            next_change_ns: i64::MIN,
        };
        guard.next_change_ns = guard.first_change_ns(guard.clock.now_ns());
        guard
    }

    /// What the session sees; holds until [`Guard::check`] says otherwise.
    pub(super) const fn sight(&self) -> &Sight {
        &self.sight
    }

    pub(super) fn now_ns(&self) -> i64 {
        self.clock.now_ns()
    }

    /// Whether the session may go on in this moment.
    pub(super) fn check(&mut self) -> Result<(), EndReason> {
        // A node that stops closes its connections too; the stop is the reason then.
        if self.draining.is_cancelled() {
            return Err(EndReason::Draining);
        }
        let now_ns = self.clock.now_ns();
        // Her connection is closed at the same moment, with fewer words.
        if self.caller.certificate_not_after_ns <= now_ns {
            return Err(EndReason::CertificateEnded);
        }
        if self.caller.closing.is_cancelled() {
            return Err(self.closing_reason());
        }
        let replaced = self.generation.has_changed().unwrap_or(true);
        if !replaced && now_ns < self.next_change_ns {
            return Ok(());
        }
        // Marked as seen before the policy is read: a reload in between is noticed at the next check.
        self.generation.mark_unchanged();
        let rights = self.access.policy().rights(&self.caller.id);
        let reads = sight::may_subscribe(&rights, now_ns);
        self.sight = self.sight.under(rights, now_ns).ok_or(if reads {
            EndReason::RightsChanged
        } else {
            EndReason::RightsWithdrawn
        })?;
        self.next_change_ns = self.first_change_ns(now_ns);
        Ok(())
    }

    /// Resolves when the session must end.
    ///
    /// Cancel-safe: all that it changes, it changes in [`Guard::check`], between its waits.
    pub(super) async fn ended(&mut self) -> EndReason {
        loop {
            if let Err(reason) = self.check() {
                return reason;
            }
            let until_change = self.next_change_ns.saturating_sub(self.clock.now_ns());
            let until_change = Duration::from_nanos(u64::try_from(until_change).unwrap_or(0));
            tokio::select! {
                () = self.caller.closing.cancelled() => {}
                () = self.draining.cancelled() => {}
                changed = self.generation.changed() => {
                    changed.expect("the guard holds the policy's owner, which holds the sender");
                    self.generation.mark_changed();
                }
                () = tokio::time::sleep(until_change.min(CLOCK_RECHECK)) => {}
            }
        }
    }

    fn first_change_ns(&self, now_ns: i64) -> i64 {
        let grants = self.sight.next_change_ns(now_ns).unwrap_or(i64::MAX);
        grants.min(self.caller.certificate_not_after_ns)
    }

    fn closing_reason(&self) -> EndReason {
        let reason = self.caller.closing_reason.get().cloned();
        EndReason::ConnectionClosing(reason.unwrap_or_else(|| "it is to end".into()))
    }
}
