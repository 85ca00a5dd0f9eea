//! One life of a data directory: its publishers and readers, what they were told, and the check after each start. It never decides when
//! to strike.

use std::{
    ops::AddAssign,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use fastrand::Rng;
use futures::future::{join, join_all};
use tokio::{sync::watch, time::timeout};

use super::{
    child::{Disks, Node, Said, World},
    load::{Publisher, Shared, Way},
    promises::{Promises, Witness},
    reader::{self, Reader},
};

/// What tells a start that stored data is in doubt: it leaves its indexes behind and writes sled anew.
const IN_DOUBT: &str = "sled-in-doubt";
/// A start is taken to last no longer, however busy the machine was at the one that was measured: later strikes would mostly miss it.
const START_TAKES_MAX: Duration = Duration::from_secs(2);
/// A start comes to write sled anew within this, or something is wrong.
const START_ANEW_MAX: Duration = Duration::from_secs(60);

/// A data directory with everybody who uses it.
pub struct Life {
    /// What everybody was told.
    pub promises: Shared,
    data_dir: PathBuf,
    /// How long the last start took until the node listened.
    start_takes: Duration,
    publishers: Vec<Publisher>,
    readers: Vec<Reader>,
}

/// How a load ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Publishers go on until the node is gone.
    Struck,
    /// Publishers stop, and everything is answered before the strike.
    Idle,
}

/// What a test has seen, for its report and for its proof that it tested something.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// Events acknowledged.
    pub acknowledged: u64,
    /// Events that a reader saw and that were not acknowledged, or not yet.
    pub read_first: u64,
    /// Halves of the journal begun.
    pub halves_begun: u64,
    /// Index runs written.
    pub runs_written: u64,
    /// Merges that were finished.
    pub merges_done: u64,
    /// Strikes between the first slice of a merge and its last.
    pub struck_in_merge: u64,
    /// Strikes before the node listened.
    pub struck_in_start: u64,
    /// Strikes while a start wrote sled anew.
    pub struck_in_anew: u64,
}

impl AddAssign<&Said> for Tally {
    fn add_assign(&mut self, said: &Said) {
        self.halves_begun += said.halves_begun;
        self.runs_written += said.runs_written;
        self.merges_done += said.merges_done;
        self.struck_in_merge += u64::from(said.is_merging());
        self.struck_in_start += u64::from(said.is_starting());
        self.struck_in_anew += u64::from(said.is_writing_anew());
    }
}

impl Life {
    /// A life that has not begun: nothing stands in its data directory.
    pub fn new(world: &World, data_dir: &Path, seed: u64) -> Self {
        let promises = Arc::new(Mutex::new(Promises::default()));
        let ways = [Way::Unary, Way::Unary, Way::Pipelined, Way::Pipelined];
        let publishers = ways.iter().zip(1..).map(|(way, number)| {
            let who = if number % 2 == 0 { &world.port } else { &world.customs };
            Publisher::new(who, *way, seed.wrapping_add(number), &promises)
        });
        let publishers = publishers.collect();
        let readers = (0..2).map(|_| Reader::new(&promises)).collect();
        let start_takes = Duration::from_millis(500);
        Self { promises, data_dir: data_dir.to_owned(), start_takes, publishers, readers }
    }

    /// Starts the node, does not wait for it, and comes back at a random moment of the start.
    pub async fn begin_to_start(&self, world: &World, random: &mut Rng) -> Node {
        let mut node = world.spawn(&self.data_dir, Disks::AsIs);
        let moment = self.start_takes.mul_f64(random.f64());
        // A start that is over sooner than the last one is struck as it ends.
        let _ = timeout(moment, node.said.wait_for(|said| !said.is_starting())).await;
        node
    }

    /// Leaves word that stored data is in doubt, starts the node, and comes back at a random moment of its writing sled anew.
    pub async fn begin_to_write_anew(&self, world: &World, random: &mut Rng) -> Node {
        std::fs::write(self.data_dir.join(IN_DOUBT), "a test says so").expect("the data directory is there");
        let mut node = world.spawn(&self.data_dir, Disks::AsIs);
        let begun = timeout(START_ANEW_MAX, node.said.wait_for(|said| said.anew_begun));
        begun.await.expect("a start over data in doubt says what it does").expect("the node does not end by itself");
        // It takes about as long as a whole start; mostly early, and now and then when the new one has just taken its place.
        tokio::time::sleep(self.start_takes.mul_f64(random.f64().powi(2))).await;
        node
    }

    /// Starts the node and proves that it holds what it promised, by what it gives out and by its own verification.
    ///
    /// # Errors
    /// It does not start, or something is missing or altered: what, one on a line.
    pub async fn start_and_check(&mut self, world: &World, disks: Disks) -> Result<Node, String> {
        let begins = Instant::now();
        let mut node = world
            .start(&self.data_dir, disks)
            .await
            .map_err(|refused| format!("the node did not start: exit code {:?}\n{}", refused.code, refused.words))?;
        self.start_takes = begins.elapsed().min(START_TAKES_MAX);
        match self.check(world, &node).await {
            Ok(()) => Ok(node),
            Err(what) => Err(format!("{what}\nthe node's last words:\n{}", node.words().await)),
        }
    }

    async fn check(&mut self, world: &World, node: &Node) -> Result<(), String> {
        let address = node.address();
        let log = reader::whole_log(world, address).await?;
        let faults = {
            let mut promises = self.promises.lock().unwrap_or_else(PoisonError::into_inner);
            let mut faults = promises.check(&log);
            // What a start shows is promised from now on, whether its publisher ever heard of it or not.
            faults.extend(log.iter().filter_map(|entry| promises.told(entry, Witness::Reader).err()));
            faults
        };
        if !faults.is_empty() {
            let lines: Vec<String> = faults.iter().take(20).map(ToString::to_string).collect();
            return Err(format!("{} faults in {} events:\n{}", faults.len(), log.len(), lines.join("\n")));
        }
        for publisher in &mut self.publishers {
            publisher.send_again(world, address).await;
        }
        let problems = reader::verify(world, address).await?;
        if problems.is_empty() { Ok(()) } else { Err(format!("the verification found: {}", problems.join("\n"))) }
    }

    /// Loads the node, then strikes it. `strike` is called after the load has run for its time and, where asked for, has come to rest.
    pub async fn load_and_strike<T>(
        &mut self,
        world: &World,
        node: Node,
        (time, ends): (Duration, Ends),
        strike: impl AsyncFnOnce(Node) -> T,
    ) -> T {
        let address = node.address();
        let (stop, stopped) = watch::channel(false);
        let (rests, mut resting) = watch::channel(false);
        let publishing = async {
            join_all(self.publishers.iter_mut().map(|publisher| publisher.publish(world, address, &stopped))).await;
            rests.send_replace(true);
        };
        let reading = join_all(self.readers.iter_mut().map(|reader| reader.read(world, address)));
        let striking = async {
            tokio::time::sleep(time).await;
            if ends == Ends::Idle {
                stop.send_replace(true);
                resting.wait_for(|rests| *rests).await.expect("the load outlives the strike");
            }
            strike(node).await
        };
        join(join(publishing, reading), striking).await.1
    }

    /// Adds what was promised in this life.
    pub fn count(&self, tally: &mut Tally) {
        let promises = self.promises.lock().unwrap_or_else(PoisonError::into_inner);
        tally.acknowledged += promises.acknowledged();
        tally.read_first += promises.read();
    }
}
