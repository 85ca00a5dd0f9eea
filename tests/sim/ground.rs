//! What a simulated run stands on: one source of randomness, clocks that differ, and the trace that says whether two runs were the same.
//! It never reads the machine's time or randomness.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use tokio::time::Instant;
use tradelane::clock::Clock;
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

/// When every run begins: 2026-11-23T16:00:00Z.
const START_NS: i64 = 1_795_478_400_000_000_000;

/// A lock whose holder never panics half-way: a run that panicked is over.
pub fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that happens in a run, in order, as one hash; each line too where somebody reads it. What happens in the same millisecond
/// happens at once, and is ordered by what it says.
#[derive(Clone)]
pub struct Trace(Arc<Inner>);

struct Inner {
    start: Instant,
    told: Mutex<Told>,
    read_aloud: bool,
}

#[derive(Default)]
struct Told {
    hash: Xxh3,
    count: u64,
    now_ms: u64,
    /// The lines of this millisecond.
    lines: Vec<String>,
}

impl Trace {
    /// A trace that begins now.
    pub fn new(read_aloud: bool) -> Self {
        Self(Arc::new(Inner { start: Instant::now(), told: Mutex::default(), read_aloud }))
    }

    /// Simulated milliseconds since the run began.
    pub fn now_ms(&self) -> u64 {
        self.0.start.elapsed().as_millis() as u64
    }

    /// Notes what has happened.
    pub fn say(&self, what: fmt::Arguments<'_>) {
        let now_ms = self.now_ms();
        let mut told = locked(&self.0.told);
        if told.now_ms != now_ms {
            told.fold(self.0.read_aloud);
            told.now_ms = now_ms;
        }
        told.lines.push(format!("{now_ms:>8} {what}\n"));
    }

    /// The hash of all lines, and how many there are.
    pub fn digest(&self) -> (u128, u64) {
        let mut told = locked(&self.0.told);
        told.fold(self.0.read_aloud);
        (told.hash.digest128(), told.count)
    }
}

impl Told {
    #[allow(clippy::print_stderr, reason = "a failing run is read line by line")]
    fn fold(&mut self, read_aloud: bool) {
        self.lines.sort_unstable();
        for line in self.lines.drain(..) {
            self.hash.update(line.as_bytes());
            self.count += 1;
            if read_aloud {
                eprint!("{line}");
            }
        }
    }
}

/// The clock of one machine: it goes on with simulated time, wrong by as much as it was set wrong.
pub struct SimClock {
    start: Instant,
    wrong_ns: AtomicI64,
    seed: u64,
}

impl SimClock {
    /// A clock that is right.
    pub fn new(seed: u64) -> Self {
        Self { start: Instant::now(), wrong_ns: AtomicI64::new(0), seed }
    }

    /// Sets it forth or back.
    pub fn set_by_ms(&self, by_ms: i64) {
        self.wrong_ns.fetch_add(by_ms * 1_000_000, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now_ns(&self) -> i64 {
        START_NS + self.start.elapsed().as_nanos() as i64 + self.wrong_ns.load(Ordering::SeqCst)
    }

    /// Follows from the time alone, so that it does not matter who asks first.
    fn fresh_uuid(&self) -> Uuid {
        let elapsed_ns = self.start.elapsed().as_nanos() as u64;
        Uuid::from_u128(fastrand::Rng::with_seed(self.seed ^ elapsed_ns).u128(..))
    }
}

impl fmt::Debug for SimClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimClock").field("wrong_ns", &self.wrong_ns).finish_non_exhaustive()
    }
}
