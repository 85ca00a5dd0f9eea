//! THE LOOKOUT: looks at every new event once for all followers at rest, and wakes those alone whose terms it bears, so that a thousand
//! readers of something else cost a publisher nothing. It never says that an event matches, only that it cannot: whoever is woken reads and
//! judges for itself. It stores nothing, and runs only while somebody rests.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    hash::BuildHasherDefault,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    contract::{Chunk, EventLog, Record},
    follow::{FollowError, Follower},
};
use crate::{
    domain::{
        HeaderRef, Sequence,
        filter::TermPlan,
        header::origin_term,
        term::{AsItIs, TermHash, TermMap},
    },
    tasks::{OnFailure, Tasks},
};

/// The log is looked at in stretches of about so many bytes.
const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// How long it waits after the log could not be read; whoever rested was woken, and meets the same failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// Looks out over one log.
pub struct Lookout {
    log: Arc<dyn EventLog>,
    tasks: Tasks,
    watch: Mutex<Watch>,
}

/// A follower at rest. Dropped, it is looked out for no more.
pub struct Resting {
    lookout: Arc<Lookout>,
    post: u64,
    wake: Arc<Notify>,
}

/// Who rests, found by the terms of events. It takes as much memory as the filters that it stands for, about.
#[derive(Default)]
struct Watch {
    /// Everything up to here was looked at, for everybody who rests.
    through: Sequence,
    running: bool,
    last_post: u64,
    posts: HashMap<u64, Post, BuildHasherDefault<AsItIs>>,
    /// For each filter of a post's plan the terms of one clause, and under each the post and which of its filters that is, in order.
    by_term: TermMap<Vec<(u64, usize)>>,
}

struct Post {
    plan: Arc<TermPlan>,
    /// What it has examined itself.
    after: Sequence,
    /// The last place before the first event that may concern it.
    passed: Option<Sequence>,
    wake: Arc<Notify>,
}

impl Lookout {
    /// Nobody rests yet. What it does it does in a task of these.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, tasks: Tasks) -> Arc<Self> {
        Arc::new(Self { log, tasks, watch: Mutex::default() })
    }

    /// Looks out for events after a place that may meet the plan. None where events after the place were looked at already, or the node
    /// stops: the follower reads them itself.
    #[must_use]
    pub fn rest(self: &Arc<Self>, plan: &Arc<TermPlan>, after: Sequence) -> Option<Resting> {
        if self.tasks.stopping().is_cancelled() {
            return None;
        }
        let mut watch = self.watch();
        if watch.posts.is_empty() {
            watch.through = watch.through.max(after);
        }
        if after < watch.through {
            return None;
        }
        let (post, wake) = watch.enter(Arc::clone(plan), after);
        if !std::mem::replace(&mut watch.running, true) {
            self.tasks.spawn("lookout", OnFailure::StopNode, Arc::clone(self).look_out());
        }
        drop(watch);
        Some(Resting { lookout: Arc::clone(self), post, wake })
    }

    async fn look_out(self: Arc<Self>) -> Result<(), Infallible> {
        let stopping = self.tasks.stopping();
        let mut follower: Option<Follower> = None;
        while let Some(through) = self.goes_on_from() {
            if follower.as_ref().is_none_or(|follower| follower.cursor() != through) {
                follower = Some(Follower::new(Arc::clone(&self.log), through, CHUNK_BYTES_MAX, None));
            }
            let follower = follower.as_mut().expect("it was made just now");
            follower.set_quiet(true);
            let read = tokio::select! {
                () = stopping.cancelled() => Err(FollowError::Closed),
                read = follower.next() => read,
            };
            match read {
                Ok(chunk) => self.look_at(&chunk),
                Err(FollowError::Closed) => {
                    let mut watch = self.watch();
                    watch.wake_all();
                    watch.running = false;
                    return Ok(());
                }
                Err(FollowError::Log(error)) => {
                    tracing::warn!(%error, "the log cannot be read; whoever follows it is told");
                    self.watch().wake_all();
                    tokio::select! {
                        () = stopping.cancelled() => {}
                        () = tokio::time::sleep(FAILURE_PAUSE) => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Where to look on; none where nobody rests, and the task ends.
    fn goes_on_from(&self) -> Option<Sequence> {
        let mut watch = self.watch();
        watch.running = !watch.posts.is_empty();
        watch.running.then_some(watch.through)
    }

    fn look_at(&self, chunk: &Chunk) {
        let mut terms = Vec::new();
        for record in chunk.records.iter() {
            let readable = read_terms(record, &mut terms);
            // One event at a time: whoever comes to rest must not wait for a whole stretch.
            self.watch().look_at(record.sequence, readable.then_some(&terms));
        }
        let mut watch = self.watch();
        watch.through = watch.through.max(chunk.through);
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resting {
    /// Up to here nothing concerns the follower.
    #[must_use]
    pub fn passed(&self) -> Sequence {
        let watch = self.lookout.watch();
        let post = &watch.posts[&self.post];
        post.passed.unwrap_or(watch.through).max(post.after)
    }

    /// Resolves when there may be something, or nobody looks out any more: the follower then reads on behind [`Resting::passed`].
    /// Cancel-safe.
    pub async fn woken(&self) {
        while self.lookout.watch().posts[&self.post].passed.is_none() {
            self.wake.notified().await;
        }
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        self.lookout.watch().leave(self.post);
    }
}

/// The terms of an event, in order; false where its header cannot be read.
fn read_terms(record: &Record, terms: &mut Vec<TermHash>) -> bool {
    terms.clear();
    let Ok(header) = HeaderRef::parse(&record.header) else { return false };
    header.for_each_term(&mut |term| terms.push(term));
    if let Some(origin) = &record.origin {
        terms.push(origin_term(origin.node.as_str()));
    }
    terms.sort_unstable();
    terms.dedup();
    true
}

impl Watch {
    fn enter(&mut self, plan: Arc<TermPlan>, after: Sequence) -> (u64, Arc<Notify>) {
        self.last_post += 1;
        let (post, wake) = (self.last_post, Arc::new(Notify::new()));
        for_each_key(&plan, |term, filter| {
            let entries = self.by_term.entry(term).or_default();
            // Numbers grow, so that each list stays in order. A clause may name a term twice.
            if entries.last() != Some(&(post, filter)) {
                entries.push((post, filter));
            }
        });
        self.posts.insert(post, Post { plan, after, passed: None, wake: Arc::clone(&wake) });
        (post, wake)
    }

    fn leave(&mut self, post: u64) {
        let Some(Post { plan, .. }) = self.posts.remove(&post) else { return };
        for_each_key(&plan, |term, filter| {
            let Some(entries) = self.by_term.get_mut(&term) else { return };
            if let Ok(at) = entries.binary_search(&(post, filter)) {
                entries.remove(at);
            }
            if entries.is_empty() {
                self.by_term.remove(&term);
            }
        });
    }

    /// Wakes whomever an event may concern: where its terms are not known, everybody.
    fn look_at(&mut self, sequence: Sequence, terms: Option<&Vec<TermHash>>) {
        let Some(terms) = terms else {
            self.posts.values_mut().for_each(|post| post.sight(sequence));
            self.through = self.through.max(sequence);
            return;
        };
        for (post, filter) in terms.iter().filter_map(|term| self.by_term.get(term)).flatten() {
            if let Some(post) = self.posts.get_mut(post)
                && post.passed.is_none()
                && post.plan[*filter].iter().all(|any_of| any_of.iter().any(|term| terms.binary_search(term).is_ok()))
            {
                post.sight(sequence);
            }
        }
        self.through = self.through.max(sequence);
    }

    /// Whoever rests goes on by itself from where it was looked out for.
    fn wake_all(&mut self) {
        let next = self.through.next();
        self.posts.values_mut().for_each(|post| post.sight(next.max(post.after.next())));
    }
}

/// The terms under which a plan's filters are found: those of the first clause of each, which is its most selective one.
fn for_each_key(plan: &TermPlan, mut each: impl FnMut(TermHash, usize)) {
    for (filter, clauses) in plan.iter().enumerate() {
        for term in clauses.first().into_iter().flatten() {
            each(*term, filter);
        }
    }
}

impl Post {
    fn sight(&mut self, sequence: Sequence) {
        if self.passed.is_none() && self.after < sequence {
            self.passed = Some(Sequence(sequence.get() - 1));
            self.wake.notify_one();
        }
    }
}

impl fmt::Debug for Lookout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let watch = self.watch();
        f.debug_struct("Lookout")
            .field("through", &watch.through)
            .field("resting", &watch.posts.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Resting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resting").field("passed", &self.passed()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
