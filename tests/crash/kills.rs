//! SIGKILL at random moments of a node under load, and during its start. Nothing that was acknowledged or shown may be gone.

use std::time::Duration;

use fastrand::Rng;

use super::{
    child::{Disks, World},
    life::{Ends, Life, Tally},
    say, seed_and_rounds,
};

/// Kills that a change must survive.
const ROUNDS_DEFAULT: u64 = 50;
/// A data directory lives through so many kills; then a new one begins, so that reading everything after each start stays cheap.
const ROUNDS_A_LIFE: u64 = 10;
/// One in so many kills comes during a start.
const IN_START_ONE_IN: u64 = 5;
/// A machine that is so much slower than usual still proves something.
const SLOWER_MAX: u64 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_or_shown_is_lost_to_a_kill() {
    let (seed, rounds) = seed_and_rounds("kills", ROUNDS_DEFAULT);
    let mut random = Rng::with_seed(seed);
    let world = World::new();
    let (mut tally, mut round) = (Tally::default(), 0);
    let (whole, mut rounds, rounds_max) = (rounds >= ROUNDS_DEFAULT, rounds, rounds * SLOWER_MAX);
    while round < rounds {
        let data_dir = world.folder().join(format!("data-{round}"));
        let mut life = Life::new(&world, &data_dir, random.u64(..));
        for is_in_start in schedule(&mut random, ROUNDS_A_LIFE.min(rounds - round)) {
            if is_in_start {
                tally += &life.begin_to_start(&world, &mut random).await.kill().await;
                round += 1;
                continue;
            }
            let node = life.start_and_check(&world, Disks::AsIs).await;
            let node = node.unwrap_or_else(|what| panic!("round {round}: {what}"));
            let time = Duration::from_millis(random.u64(30..700));
            let said = life.load_and_strike(&world, node, (time, Ends::Struck), async |node| node.kill().await).await;
            tally += &said;
            round += 1;
        }
        stop_in_order(&world, &mut life).await;
        life.count(&mut tally);
        std::fs::remove_dir_all(&data_dir).expect("the directory is ours");
        // A slow machine stores less between two kills: it is killed more often, so that as much is proven there.
        if whole && round == rounds && !has_seen_all(&tally, rounds) {
            rounds = (rounds + ROUNDS_A_LIFE).min(rounds_max);
        }
    }
    say(&format!("kills: {rounds} rounds, 0 lost; {tally:?}"));
    assert!(!whole || has_seen_all(&tally, rounds), "the load was too small to prove anything: {tally:?}");
}

/// Which kills of a life come during a start, drawn anew for each: the first, and one right after another such kill, among them.
fn schedule(random: &mut Rng, kills: u64) -> Vec<bool> {
    let mut schedule: Vec<bool> = (0..kills).map(|kill| kill < kills / IN_START_ONE_IN).collect();
    random.shuffle(&mut schedule);
    schedule
}

/// Whether kills met all that a node does under load, and nodes that start: of the kills meant for these at least half.
const fn has_seen_all(tally: &Tally, rounds: u64) -> bool {
    let stored =
        tally.acknowledged > 1_000 && tally.halves_begun > 0 && tally.runs_written > 0 && tally.merges_done > 0;
    stored && rounds <= 2 * IN_START_ONE_IN * tally.struck_in_start
}

/// A life ends with a stop in order, after which nothing at all may be missing.
async fn stop_in_order(world: &World, life: &mut Life) {
    let node =
        life.start_and_check(world, Disks::AsIs).await.unwrap_or_else(|what| panic!("after the last kill: {what}"));
    let (status, words) = node.stop().await;
    assert!(status.success(), "the stop: {status}\n{words}");
    let node =
        life.start_and_check(world, Disks::AsIs).await.unwrap_or_else(|what| panic!("after a stop in order: {what}"));
    node.kill().await;
}
