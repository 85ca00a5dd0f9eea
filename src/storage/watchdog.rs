//! Ends the process where a write to the disk hangs. It never interrupts the write and never tries it again: whoever waits for the answer is
//! better served by a node that starts anew, or by another, than by one that says nothing.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::fatal::FatalHook;

/// The thread looks so many times while the longest work may take.
const LOOKS: u32 = 20;

/// Watches the work of one thread. The watching thread ends when this is dropped.
#[derive(Debug)]
pub struct Watchdog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    time_max: Duration,
    hook: FatalHook,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    begun: Option<Begun>,
    is_ended: bool,
}

/// Work that goes on.
#[derive(Debug, Clone, Copy)]
struct Begun {
    what: &'static str,
    since: Instant,
}

impl Watchdog {
    /// Starts the thread that tells the hook where work takes longer than it may.
    ///
    /// # Errors
    /// The operating system starts no further thread.
    pub fn start(time_max: Duration, hook: FatalHook) -> io::Result<(Self, JoinHandle<()>)> {
        let shared = Arc::new(Shared { time_max, hook, state: Mutex::default(), ended: Condvar::new() });
        let watched = Arc::clone(&shared);
        let thread = thread::Builder::new().name("log-watchdog".to_owned()).spawn(move || watched.watch())?;
        Ok((Self { shared }, thread))
    }

    /// Does the work, watched. Work that ends too late is told as well: a look may have missed it.
    pub fn over<T>(&self, what: &'static str, work: impl FnOnce() -> T) -> T {
        self.shared.set(Some(Begun { what, since: Instant::now() }));
        let done = work();
        self.shared.set(None);
        done
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).is_ended = true;
        self.shared.ended.notify_all();
    }
}

impl Shared {
    fn set(&self, begun: Option<Begun>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut state.begun, begun);
        drop(state);
        if begun.is_none() {
            self.judge(before);
        }
    }

    /// True where the work has taken too long, and the hook was told.
    fn judge(&self, begun: Option<Begun>) -> bool {
        let Some(Begun { what, since }) = begun else { return false };
        let taken = since.elapsed();
        if taken <= self.time_max {
            return false;
        }
        self.hook.fail(&format!(
            "{what} has taken {} ms, and may take {} ms: the disk hangs or is far too slow; look at it before the node starts again",
            taken.as_millis(),
            self.time_max.as_millis()
        ));
        true
    }

    fn watch(&self) {
        let pause = (self.time_max / LOOKS).max(Duration::from_millis(1));
        loop {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let (state, _) = self.ended.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner);
            let (begun, is_ended) = (state.begun, state.is_ended);
            drop(state);
            if is_ended || self.judge(begun) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Longer than any of these tests takes on the slowest machine.
    const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

    #[test]
    fn work_that_hangs_is_told_while_it_hangs() {
        let (tell, told) = mpsc::channel();
        let hook = FatalHook::call(move |reason| drop(tell.send(reason.to_owned())));
        let (watchdog, thread) = Watchdog::start(Duration::from_millis(5), hook).unwrap();
        let reason = watchdog.over("a sync", || told.recv_timeout(GIVE_UP_AFTER)).expect("told while the work goes on");
        assert!(reason.starts_with("a sync has taken ") && reason.contains("may take 5 ms"), "{reason}");
        thread.join().unwrap();
    }

    #[test]
    fn work_in_time_is_nothing_to_tell_and_the_thread_ends() {
        let hook = FatalHook::call(|reason| panic!("{reason}"));
        let (watchdog, thread) = Watchdog::start(GIVE_UP_AFTER, hook).unwrap();
        assert_eq!((0..1_000).map(|number| watchdog.over("a sync", || number)).sum::<u32>(), 499_500);
        drop(watchdog);
        thread.join().expect("nobody was told");
    }
}
