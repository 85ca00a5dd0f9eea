//! Federation under simulation: three to five nodes with the product's own links, doors, outboxes and HTTP/2, over a network, disks and
//! clocks that a seed decides. One thread, simulated time, nothing random but the seed: the same seed is the same run, byte for byte.
//!
//! What is simulated: delay, reordering across connections, partitions of one or both directions, connections that break in mid-frame,
//! processes that die and machines that vanish, orderly stops, clocks that are set, full disks, second streams of a receiver, sources
//! that lose, repeat or forge, agreements and peers files that change, operators who pause and resume, a disk restored from a backup, a
//! disk that is live twice. What is checked, and what the checker may know, stands in `check.rs`.
//!
//! | variable | |
//! |---|---|
//! | `TRADELANE_SIM_SEEDS` | how many seeds; default 200 |
//! | `TRADELANE_SIM_FIRST` | the first of them; default 1 |
//! | `TRADELANE_SIM_SEED` | one seed alone, told line by line |
//! | `TRADELANE_SIM_TWICE` | how many seeds are run twice and compared; default 10 |

mod check;
mod disk;
mod faulty;
mod ghost;
mod ground;
mod lines;
mod machine;
mod net;
mod people;
mod pipe;
mod plan;
mod statements;
mod world;

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};

use check::Observed;
use ground::Trace;
use plan::Plan;
use world::World;

/// What came of a seed.
struct Outcome {
    /// The hash of everything that happened, and how many things did.
    digest: (u128, u64),
    observed: Observed,
    plan: Plan,
}

thread_local! {
    /// Panics of tasks, which the node survives and a run must not.
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Runs one seed.
fn run(seed: u64, read_aloud: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let plan = Plan::of(seed);
    PANICS.set(0);
    let (mut observed, digest) = runtime.expect("a runtime").block_on(async {
        let trace = Trace::new(read_aloud);
        let observed = World::new(seed, plan.clone(), trace.clone()).run().await;
        (observed, trace.digest())
    });
    if PANICS.get() > 0 {
        observed.faults.push(format!("{} tasks panicked", PANICS.get()));
    }
    Outcome { digest, observed, plan }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

/// Counts panics of tasks; each is still printed.
fn count_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.set(PANICS.get() + 1);
        before(panic);
    }));
}

#[test]
#[allow(clippy::print_stderr, reason = "a failing run is a number, and its slot is TRADELANE_SIM_SEED")]
fn every_seed_ends_as_the_agreements_say() {
    count_panics();
    if let Some(seed) = number("TRADELANE_SIM_SEED") {
        let outcome = run(seed, true);
        let faults = check::faults(&outcome.plan, &outcome.observed);
        assert!(faults.is_empty(), "seed {seed}:\n{}", faults.join("\n"));
        return;
    }
    let first = number("TRADELANE_SIM_FIRST").unwrap_or(1);
    let end = first + number("TRADELANE_SIM_SEEDS").unwrap_or(200);
    let next = AtomicU64::new(first);
    let work = || {
        let mut bad = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if end <= seed {
                return bad;
            }
            let outcome = run(seed, false);
            let faults = check::faults(&outcome.plan, &outcome.observed);
            if !faults.is_empty() {
                eprintln!("TRADELANE_SIM_SEED={seed}\n  {}", faults.join("\n  "));
                bad.push(seed);
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut bad: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("the simulation itself does not panic")).collect()
    });
    bad.sort_unstable();
    assert!(bad.is_empty(), "{} of {} seeds failed: {bad:?}", bad.len(), end - first);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let seeds = 1..=number("TRADELANE_SIM_TWICE").unwrap_or(10);
    let mut digests = std::collections::BTreeSet::new();
    for seed in seeds.clone() {
        let (one, other) = (run(seed, false).digest, run(seed, false).digest);
        assert_eq!(one, other, "two runs of seed {seed} differ");
        assert!(200 < one.1, "only {} things happened in seed {seed}", one.1);
        digests.insert(one);
    }
    assert_eq!(digests.len() as u64, *seeds.end(), "different seeds are different runs");
}
