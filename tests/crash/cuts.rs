//! Power cuts of a node under load, while it merges index runs, while its publishers rest, after a kill, and while it starts. Nothing that
//! was acknowledged or shown may be gone; and a program that leaves a sync out must be caught at it.

use std::{panic::AssertUnwindSafe, time::Duration};

use fastrand::Rng;
use futures::FutureExt;
use tokio::time::timeout;

use super::{
    child::{Disks, Node, Said, World},
    disk::Disk,
    life::{Ends, Life, Tally},
    reader, say, seed_and_rounds,
};

/// Cuts that a change must survive.
const ROUNDS_DEFAULT: u64 = 20;
/// A program that leaves a sync out ends with the first cut that shows it, most often after a few. On a busy machine a loss is rarer, as
/// writes reach the disk by themselves before the cut: of a hundred and twenty cuts one shows it all the same.
const ROUNDS_OF_MUTANTS: u64 = 120;
/// A disk lives through so many cuts.
const ROUNDS_A_LIFE: u64 = 10;

/// When the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Under load.
    Load,
    /// Under load, and in the middle of a merge of index runs.
    Merge,
    /// After the publishers have come to rest, while the node may still work behind.
    Idle,
    /// After the publishers have come to rest, while the search view is built anew.
    Rebuild,
    /// Under load, after the process was killed.
    AfterKill,
    /// While the node starts over what the cut before has left: over nothing where it is the first of a disk.
    Start,
    /// While the node starts after it was killed under load.
    StartAfterKill,
    /// After a kill, while a start writes sled anew because its indexes are in doubt.
    StartAnew,
    /// After a kill between a write and its sync, once the next start has shown what it read back, and before anything else was written.
    Shown,
}

/// What a node must survive, in turn. As a disk lives for ten cuts, another one of them begins each disk.
const MOMENTS: [Moment; 11] = [
    Moment::Load,
    Moment::Start,
    Moment::Merge,
    Moment::Idle,
    Moment::Shown,
    Moment::Rebuild,
    Moment::StartAnew,
    Moment::Merge,
    Moment::AfterKill,
    Moment::StartAfterKill,
    Moment::Start,
];
/// What shows a sync that is left out soonest. Before an acknowledgement: any cut. After a slice of a run: only where much is written to
/// runs and nothing else has the file synced, until sled has overwritten a segment whose content it moved to where the file has grown. At
/// a start: where a write was not synced before it, and nothing has written after it.
const MOMENTS_OF_MUTANTS: [Moment; 3] = [Moment::Load, Moment::Rebuild, Moment::Shown];

/// One disk and the life on it.
struct Round<'a> {
    world: &'a World,
    disk: &'a Disk,
    life: &'a mut Life,
    random: &'a mut Rng,
}

impl Round<'_> {
    /// Has the power cut at a moment, and answers what the node had said then.
    ///
    /// # Errors
    /// What a start showed.
    async fn run(&mut self, moment: Moment) -> Result<Said, String> {
        let Self { world, disk, life, random } = self;
        let disks = if moment == Moment::Shown { Disks::Slow } else { Disks::AsIs };
        if moment != Moment::Start {
            let node = life.start_and_check(world, disks).await?;
            let ends = if matches!(moment, Moment::Idle | Moment::Rebuild) { Ends::Idle } else { Ends::Struck };
            let time = Duration::from_millis(random.u64(300..2_000));
            let strike = async |node| strike(world, disk, node, moment, random).await;
            if let Some(said) = life.load_and_strike(world, node, (time, ends), strike).await {
                return Ok(said);
            }
        }
        let node = match moment {
            Moment::Shown => life.start_and_check(world, Disks::AsIs).await?,
            Moment::StartAnew => life.begin_to_write_anew(world, random).await,
            _ => life.begin_to_start(world, random).await,
        };
        let said = node.said.borrow().clone();
        disk.cut().await;
        node.kill().await;
        Ok(said)
    }
}

/// Strikes a node under load: cuts the power and answers what the node had said then, or kills it only, where the power is to go later.
async fn strike(world: &World, disk: &Disk, mut node: Node, moment: Moment, random: &mut Rng) -> Option<Said> {
    match moment {
        Moment::Load => {}
        Moment::Idle => tokio::time::sleep(Duration::from_millis(random.u64(0..400))).await,
        Moment::Merge => {
            // Merges come and go; where none comes in time it is a cut like any other, and the tally shows it.
            let _ = timeout(Duration::from_secs(3), node.said.wait_for(Said::is_merging)).await;
        }
        Moment::Rebuild => {
            let time = Duration::from_millis(random.u64(500..4_000));
            let _ = timeout(time, reader::rebuild_for_ever(world, node.address())).await;
        }
        Moment::AfterKill => {
            let said = node.kill().await;
            disk.cut().await;
            return Some(said);
        }
        Moment::Start | Moment::StartAfterKill | Moment::StartAnew | Moment::Shown => {
            node.kill().await;
            return None;
        }
    }
    disk.cut().await;
    Some(node.kill().await)
}

async fn lives(
    world: &World,
    moments: &[Moment],
    random: &mut Rng,
    rounds: u64,
    tally: &mut Tally,
) -> Result<(), String> {
    let mut round = 0;
    while round < rounds {
        let mut disk = Disk::create().expect("this machine lets us mount: it was tried");
        let mut life = Life::new(world, &disk.path().join("data"), random.u64(..));
        for _ in 0..ROUNDS_A_LIFE.min(rounds - round) {
            let moment = moments[(round % moments.len() as u64) as usize];
            let (disk_now, life_now) = (&disk, &mut life);
            let struck = Round { world, disk: disk_now, life: life_now, random }.run(moment).await;
            *tally += &struck.map_err(|what| after(moments, round, &what))?;
            disk.mount_again().await;
            round += 1;
        }
        let node = life.start_and_check(world, Disks::AsIs).await.map_err(|what| after(moments, round, &what))?;
        node.kill().await;
        life.count(tally);
    }
    Ok(())
}

/// What the start after a cut showed; cuts count from one.
fn after(moments: &[Moment], cuts: u64, what: &str) -> String {
    let at = |cut: u64| moments[(cut % moments.len() as u64) as usize];
    format!("after cut {cuts}, {:?}, on the way to {:?}: {what}", cuts.checked_sub(1).map(at), at(cuts))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the right to mount: .ci/run powercuts runs it"]
async fn nothing_acknowledged_or_shown_is_lost_to_a_power_cut() {
    let (seed, rounds) = seed_and_rounds("power cuts", ROUNDS_DEFAULT);
    let mut tally = Tally::default();
    let outcome = lives(&World::new(), &MOMENTS, &mut Rng::with_seed(seed), rounds, &mut tally).await;
    say(&format!("power cuts: {rounds}; {tally:?}"));
    outcome.unwrap_or_else(|what| panic!("{what}"));
    if rounds >= ROUNDS_DEFAULT {
        assert!(tally.struck_in_merge > 0 && tally.halves_begun > 0, "{tally:?}");
        assert!(tally.struck_in_start > 0 && tally.struck_in_anew > 0, "{tally:?}");
    }
}

/// The program named by the environment leaves a sync out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the right to mount and a program that loses data: .ci/run powercuts runs it"]
async fn a_program_that_leaves_a_sync_out_is_caught() {
    let (seed, rounds) = seed_and_rounds("power cuts of a program that loses data", ROUNDS_OF_MUTANTS);
    let mut tally = Tally::default();
    let world = World::new();
    let mut random = Rng::with_seed(seed);
    let outcome =
        AssertUnwindSafe(lives(&world, &MOMENTS_OF_MUTANTS, &mut random, rounds, &mut tally)).catch_unwind().await;
    say(&format!("{tally:?}"));
    match outcome {
        Ok(Ok(())) => panic!("{} lost nothing in {rounds} power cuts", world.program.display()),
        Ok(Err(what)) => say(&format!("caught: {what}")),
        Err(_) => say("caught by what a publisher or a reader was told, see above"),
    }
}
