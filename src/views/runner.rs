//! Drives one view along the log: follow, apply, note how far. It never knows what a view keeps, and never answers a query.
//!
//! A rebuild fills the view's next generation from the beginning of the log while the present one goes on, and puts it in place once it
//! has come as far: a view that is rebuilt never answers with less than it knew.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Sequence, filter::TermPlan},
    log::{
        Chunk, EventLog, LogError,
        follow::{FollowError, Follower},
    },
};

/// How much of the log one step applies, in bytes of events.
const STEP_BYTES_MAX: usize = 1024 * 1024;
/// How long a query waits for a view to come as far as it must.
pub const QUERY_WAIT_MAX: Duration = Duration::from_secs(2);

/// State derived from the log. Applying an event twice must leave what applying it once left.
pub trait View: Send + Sync + 'static {
    /// The view's name in the API.
    fn name(&self) -> &'static str;

    /// Which events concern the view, so that blocks without any are skipped; none where all do.
    fn terms(&self) -> Option<Arc<TermPlan>>;

    /// Makes what was kept ready, and answers through which place it is complete.
    fn load(&self) -> BoxFuture<'_, Result<Sequence, LogError>>;

    /// Takes in a stretch of the log, with its end as the new checkpoint.
    fn apply<'a>(&'a self, chunk: &'a Chunk) -> BoxFuture<'a, Result<(), LogError>>;

    /// Opens an empty next generation beside this one; one that was never put in place is dropped.
    fn open_next(&self) -> BoxFuture<'_, Result<Arc<dyn View>, LogError>>;

    /// Puts the next generation's state in the place of this one's.
    fn replace_by_next(&self) -> BoxFuture<'_, Result<(), LogError>>;
}

/// How far a view is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The last place applied.
    pub applied: Sequence,
    /// Where the view must be before it answers at all: the log's end when the process started.
    pub answers_from: Sequence,
    /// True once the view was made ready.
    pub loaded: bool,
    /// True while a next generation is being filled.
    pub rebuilding: bool,
}

/// How far a rebuild is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RebuildProgress {
    /// The last place applied to the next generation.
    pub applied: Sequence,
    /// The end of the log.
    pub head: Sequence,
    /// True once the next generation answers.
    pub done: bool,
    /// Why it was given up, where it was; the present generation answers as before.
    pub failure: Option<String>,
}

/// The view has not come as far as an answer needs, within [`QUERY_WAIT_MAX`], or has stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {view} view is at sequence {applied}, and the answer needs {needed}")]
pub struct ViewBehind {
    /// The view.
    pub view: &'static str,
    /// Where it is.
    pub applied: Sequence,
    /// Where it must be.
    pub needed: Sequence,
}

/// Why a rebuild cannot begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RebuildRefused {
    /// One is under way.
    #[error("the view is being rebuilt already")]
    UnderWay,
    /// The view's runner has ended.
    #[error("the view has stopped")]
    Stopped,
}

/// Why a view's runner ended.
#[derive(Debug, thiserror::Error)]
#[error("the {view} view cannot go on after sequence {applied}")]
pub struct ViewFailed {
    /// The view.
    pub view: &'static str,
    /// The last place applied.
    pub applied: Sequence,
    /// Why.
    #[source]
    pub source: LogError,
}

/// Watches and commands one view. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ViewHandle {
    name: &'static str,
    progress: watch::Receiver<Progress>,
    rebuilds: mpsc::Sender<watch::Sender<RebuildProgress>>,
}

/// Drives one view.
pub struct Runner {
    view: Arc<dyn View>,
    log: Arc<dyn EventLog>,
    progress: watch::Sender<Progress>,
    rebuilds: mpsc::Receiver<watch::Sender<RebuildProgress>>,
}

/// A rebuild under way.
struct Rebuild {
    view: Arc<dyn View>,
    follower: Follower,
    report: watch::Sender<RebuildProgress>,
}

/// What happened next.
enum Next {
    Stop,
    Rebuild(watch::Sender<RebuildProgress>),
    Chunk(Result<Chunk, FollowError>),
    Rebuilt(Result<Chunk, FollowError>),
}

impl ViewHandle {
    /// The view's name in the API.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// How far the view is now.
    #[must_use]
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Waits until the view has applied a place, at most [`QUERY_WAIT_MAX`], and answers how far it is then.
    ///
    /// # Errors
    /// It does not come so far, or has stopped.
    pub async fn wait_until(&self, sequence: Sequence) -> Result<Sequence, ViewBehind> {
        let mut progress = self.progress.clone();
        let reached = |now: &Progress| now.loaded && now.applied >= sequence.max(now.answers_from);
        let waited = tokio::time::timeout(QUERY_WAIT_MAX, progress.wait_for(reached)).await;
        match waited {
            // A stopped view would answer with ever older state.
            Ok(Ok(now)) if self.progress.has_changed().is_ok() => Ok(now.applied),
            Ok(Ok(_) | Err(_)) | Err(_) => {
                let now = self.progress();
                Err(ViewBehind { view: self.name, applied: now.applied, needed: sequence.max(now.answers_from) })
            }
        }
    }

    /// Begins to fill the view anew, and watches how far that is.
    ///
    /// # Errors
    /// A rebuild is under way, or the view has stopped.
    pub fn rebuild(&self) -> Result<watch::Receiver<RebuildProgress>, RebuildRefused> {
        if self.progress.borrow().rebuilding {
            return Err(RebuildRefused::UnderWay);
        }
        let (report, watched) = watch::channel(RebuildProgress::default());
        self.rebuilds.try_send(report).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => RebuildRefused::UnderWay,
            mpsc::error::TrySendError::Closed(_) => RebuildRefused::Stopped,
        })?;
        Ok(watched)
    }
}

impl Runner {
    /// A runner and its handle; nothing happens before [`Runner::run`].
    #[must_use]
    pub fn new(view: Arc<dyn View>, log: Arc<dyn EventLog>) -> (Self, ViewHandle) {
        let (progress, watched) = watch::channel(Progress::default());
        // One rebuild may wait for the runner to notice it.
        let (commands, rebuilds) = mpsc::channel(1);
        let handle = ViewHandle { name: view.name(), progress: watched, rebuilds: commands };
        (Self { view, log, progress, rebuilds }, handle)
    }

    /// Follows the log until told to stop, or until the log is closed.
    ///
    /// # Errors
    /// The log or the view's store cannot be read or written: the view answers no more.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), ViewFailed> {
        self.follow(&stop).await.map_err(|source| ViewFailed {
            view: self.view.name(),
            applied: self.progress.borrow().applied,
            source,
        })
    }

    async fn follow(&mut self, stop: &CancellationToken) -> Result<(), LogError> {
        let answers_from = *self.log.tail().borrow();
        self.progress.send_modify(|now| now.answers_from = answers_from);
        let applied = self.view.load().await?;
        self.progress.send_modify(|now| (now.applied, now.loaded) = (applied, true));
        tracing::info!(view = self.view.name(), applied = applied.get(), head = answers_from.get(), "view loaded");

        let mut follower = self.follower(&*self.view, applied);
        let mut rebuild: Option<Rebuild> = None;
        loop {
            match next(stop, &mut self.rebuilds, &mut follower, rebuild.as_mut()).await {
                Next::Stop | Next::Chunk(Err(FollowError::Closed)) => return Ok(()),
                Next::Rebuild(report) => rebuild = self.begin(report, &mut follower).await?,
                Next::Chunk(Ok(chunk)) => {
                    self.view.apply(&chunk).await?;
                    self.note(chunk.through);
                }
                Next::Chunk(Err(FollowError::Log(error))) => return Err(error),
                Next::Rebuilt(step) => {
                    let Some(under_way) = rebuild.take() else { continue };
                    rebuild = self.advance(under_way, step, &mut follower).await?;
                }
            }
        }
    }

    async fn begin(
        &self,
        report: watch::Sender<RebuildProgress>,
        follower: &mut Follower,
    ) -> Result<Option<Rebuild>, LogError> {
        match self.view.open_next().await {
            Ok(view) => {
                self.progress.send_modify(|now| now.rebuilding = true);
                let before_first = Sequence(self.log.first_retained().get().saturating_sub(1));
                let next_follower = self.follower(&*view, before_first);
                self.settle(Rebuild { view, follower: next_follower, report }, before_first, follower).await
            }
            Err(error) => {
                report.send_modify(|progress| progress.failure = Some(error.to_string()));
                Ok(None)
            }
        }
    }

    /// Applies a step to the next generation.
    async fn advance(
        &self,
        rebuild: Rebuild,
        step: Result<Chunk, FollowError>,
        follower: &mut Follower,
    ) -> Result<Option<Rebuild>, LogError> {
        let applied = match step {
            Ok(chunk) => rebuild.view.apply(&chunk).await.map(|()| chunk.through),
            Err(FollowError::Closed) => Err(LogError::Storage("the log was closed".to_owned())),
            Err(FollowError::Log(error)) => Err(error),
        };
        match applied {
            Ok(applied) => self.settle(rebuild, applied, follower).await,
            Err(error) => {
                tracing::error!(view = self.view.name(), %error, "rebuild given up; the present generation goes on");
                rebuild.report.send_modify(|progress| progress.failure = Some(error.to_string()));
                self.progress.send_modify(|now| now.rebuilding = false);
                Ok(None)
            }
        }
    }

    /// Puts the next generation in place once it has come as far as the present one.
    async fn settle(
        &self,
        rebuild: Rebuild,
        applied: Sequence,
        follower: &mut Follower,
    ) -> Result<Option<Rebuild>, LogError> {
        let done = applied >= self.progress.borrow().applied;
        if done {
            self.view.replace_by_next().await?;
            *follower = self.follower(&*self.view, applied);
            self.note(applied);
            self.progress.send_modify(|now| now.rebuilding = false);
            tracing::info!(view = self.view.name(), applied = applied.get(), "view rebuilt");
        }
        let head = follower.tail();
        rebuild.report.send_modify(|progress| {
            (progress.applied, progress.head, progress.done) = (applied, head, done);
        });
        Ok((!done).then_some(rebuild))
    }

    fn follower(&self, view: &dyn View, after: Sequence) -> Follower {
        Follower::new(Arc::clone(&self.log), after, STEP_BYTES_MAX, view.terms())
    }

    fn note(&self, applied: Sequence) {
        self.progress.send_modify(|now| now.applied = now.applied.max(applied));
    }
}

/// Waits for what comes next. A rebuild goes on beside the present generation, a step of each in turn where both can go on.
async fn next(
    stop: &CancellationToken,
    rebuilds: &mut mpsc::Receiver<watch::Sender<RebuildProgress>>,
    follower: &mut Follower,
    rebuild: Option<&mut Rebuild>,
) -> Next {
    let may_rebuild = rebuild.is_none();
    let next_generation = async {
        match rebuild {
            Some(rebuild) => rebuild.follower.next().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop.cancelled() => Next::Stop,
        Some(report) = rebuilds.recv(), if may_rebuild => Next::Rebuild(report),
        chunk = follower.next() => Next::Chunk(chunk),
        chunk = next_generation => Next::Rebuilt(chunk),
    }
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("view", &self.view.name()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
