//! Named tasks with a failure policy, joined at stop within a deadline. It never knows what a task does.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The first pause before a task that failed is started again.
const RESTART_PAUSE_MIN: Duration = Duration::from_millis(200);
/// The longest pause: a task that keeps failing costs one attempt in this time and one line of the log.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);

/// What the failure of a task (an error or a panic) means for the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The node cannot do its work without it: stop in order, and end with an error.
    StopNode,
    /// The failure concerns one connection or one request: say so in the log.
    Log,
}

/// A task whose failure stops the node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task {name:?} failed: {reason}")]
pub struct TaskFailed {
    /// The task's name.
    pub name: &'static str,
    /// What it answered, or that it panicked and with what.
    pub reason: String,
}

/// All background work of one node. Cheap to clone; every clone speaks of the same tasks.
#[derive(Clone, Default)]
pub struct Tasks(Arc<Inner>);

#[derive(Default)]
struct Inner {
    tracker: TaskTracker,
    stopping: CancellationToken,
    failure: OnceLock<TaskFailed>,
    failed: CancellationToken,
    running: Mutex<BTreeMap<&'static str, usize>>,
}

impl Tasks {
    /// No tasks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Resolves when the tasks are asked to end; every loop selects on it.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.0.stopping.clone()
    }

    /// Starts a task. Its future must end soon after [`Tasks::stopping`] resolves, and is not cancelled before the deadline of
    /// [`Tasks::stop`] has passed.
    pub fn spawn<F, E>(&self, name: &'static str, on_failure: OnFailure, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display + 'static,
    {
        let tasks = self.clone();
        self.track(name, async move {
            if let Err(reason) = outcome(future).await {
                match on_failure {
                    OnFailure::Log => tracing::error!(task = name, reason, "a task failed"),
                    OnFailure::StopNode => tasks.fail(TaskFailed { name, reason }),
                }
            }
        });
    }

    /// Starts a task that is started again whenever it fails, after a pause that doubles up to 30 s. `make` gives a fresh future each
    /// time. The task has ended when it answers `Ok`, or when the node stops.
    pub fn spawn_restarting<F, E>(&self, name: &'static str, mut make: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display + 'static,
    {
        let stopping = self.stopping();
        self.track(name, async move {
            let mut pause = RESTART_PAUSE_MIN;
            loop {
                let started = Instant::now();
                let Err(reason) = outcome(make()).await else { return };
                // Who ran for long has recovered: the next failure is a new one.
                if RESTART_PAUSE_MAX < started.elapsed() {
                    pause = RESTART_PAUSE_MIN;
                }
                tracing::error!(task = name, reason, restart_after_ms = pause.as_millis(), "a task failed");
                tokio::select! {
                    () = stopping.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(RESTART_PAUSE_MAX);
            }
        });
    }

    /// Resolves with the first failure that stops the node; pends for ever where there is none.
    pub async fn failed(&self) -> TaskFailed {
        self.0.failed.cancelled().await;
        self.failure().expect("the failure is set before the token is cancelled")
    }

    /// The failure that stops the node, where there was one.
    #[must_use]
    pub fn failure(&self) -> Option<TaskFailed> {
        self.0.failure.get().cloned()
    }

    /// Asks every task to end and waits for them, at most until the deadline. Returns the names of those that were still running then.
    pub async fn stop(&self, deadline: Instant) -> Vec<&'static str> {
        self.0.stopping.cancel();
        self.0.tracker.close();
        match tokio::time::timeout_at(deadline, self.0.tracker.wait()).await {
            Ok(()) => Vec::new(),
            Err(_) => self.running().keys().copied().collect(),
        }
    }

    fn track(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        *self.running().entry(name).or_default() += 1;
        let tasks = self.clone();
        self.0.tracker.spawn(async move {
            future.await;
            let mut running = tasks.running();
            if let Some(count) = running.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    running.remove(name);
                }
            }
        });
    }

    fn fail(&self, failure: TaskFailed) {
        tracing::error!(task = failure.name, reason = failure.reason, "a task that the node needs failed");
        // The first failure is the cause; later ones are mostly its consequences, and are in the log.
        let _ = self.0.failure.set(failure);
        self.0.failed.cancel();
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<&'static str, usize>> {
        // The counts stay right whoever panicked with the lock: each change is one step.
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("running", &*self.running()).finish_non_exhaustive()
    }
}

async fn outcome<E: fmt::Display>(future: impl Future<Output = Result<(), E>>) -> Result<(), String> {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("panicked: {}", panic_text(&*panic))),
    }
}

/// What a panic said, as far as it said anything.
#[must_use]
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test(start_paused = true)]
    async fn a_needed_tasks_failure_stops_the_node_and_another_does_not() {
        let tasks = Tasks::new();
        tasks.spawn("harmless", OnFailure::Log, async { Err("went away") });
        tasks.spawn("needed", OnFailure::StopNode, async {
            assert!(std::hint::black_box(false), "lost {}", "everything");
            Ok::<(), Infallible>(())
        });
        let failure = tokio::time::timeout(Duration::from_secs(1), tasks.failed()).await.expect("a failure");
        assert_eq!(failure, TaskFailed { name: "needed", reason: "panicked: lost everything".into() });
        assert_eq!(tasks.stop(soon()).await, Vec::<&str>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_restarting_task_is_started_again_until_it_succeeds() {
        let tasks = Tasks::new();
        let (attempts, mut seen) = tokio::sync::watch::channel(0);
        tasks.spawn_restarting("follower", move || {
            let attempts = attempts.clone();
            async move {
                attempts.send_modify(|count| *count += 1);
                if *attempts.borrow() < 3 { Err("not yet") } else { Ok(()) }
            }
        });
        seen.wait_for(|count| *count == 3).await.expect("a third attempt");
        assert_eq!(tasks.stop(soon()).await, Vec::<&str>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn stop_waits_for_tasks_and_names_those_that_do_not_end() {
        let tasks = Tasks::new();
        let stopping = tasks.stopping();
        tasks.spawn("good", OnFailure::Log, async move {
            stopping.cancelled().await;
            Ok::<(), Infallible>(())
        });
        tasks.spawn("stubborn", OnFailure::Log, pending::<Result<(), Infallible>>());
        assert_eq!(tasks.stop(soon()).await, ["stubborn"]);
    }
}
