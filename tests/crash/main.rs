//! What a whole node keeps when it is killed, when its disk loses what was not synced, and when its disk fills up: real processes of the
//! built program under load, through the public API. It never looks inside the node.
//!
//! | environment | what it sets |
//! |---|---|
//! | `TRADELANE_CRASH_ROUNDS` | kills, or cuts, of one test; the default is what a change must pass |
//! | `TRADELANE_CRASH_SEED` | the seed of a run that failed, as it was printed |
//! | `TRADELANE_CRASH_PROGRAM` | the program to test instead of the one built with the tests |

mod child;
mod cuts;
mod disk;
mod full;
mod kills;
mod life;
mod load;
mod promises;
mod reader;

use std::io::{self, Write};

/// Reports figures and seeds, past the capture of output: whoever reads a run's log needs them where it passed, too.
fn say(line: &str) {
    writeln!(io::stderr(), "{line}").expect("whoever runs the tests reads what they say");
}

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number, not {text:?}")))
}

/// The seed of this run, and how often to strike.
fn seed_and_rounds(what: &str, rounds_default: u64) -> (u64, u64) {
    let seed = setting("TRADELANE_CRASH_SEED").unwrap_or_else(|| fastrand::u64(..));
    let rounds = setting("TRADELANE_CRASH_ROUNDS").unwrap_or(rounds_default);
    say(&format!("{what}: {rounds} rounds; to run them again: TRADELANE_CRASH_SEED={seed}"));
    (seed, rounds)
}
