//! What happens in a run, drawn from its seed before it begins: who is linked with whom, what is published when, and which faults come.

use std::collections::{BTreeMap, BTreeSet};

use crate::{faulty::Fault, machine::Neighbour, statements::CLASSES};

/// Something that happens.
#[derive(Debug, Clone)]
pub enum Action {
    /// Events are handed to a node.
    Publish { node: usize, count: usize },
    /// Events are handed to the clone of the first node.
    PublishAtClone { count: usize },
    /// Nothing passes any more.
    Cut { from: usize, to: usize },
    /// Everything passes again.
    Heal { from: usize, to: usize },
    /// A connection breaks in mid-frame.
    Break { one: usize, other: usize },
    /// The process is killed, or its machine vanishes.
    Die { node: usize, silent: bool },
    /// The process is asked to stop.
    Stop { node: usize },
    /// The machine comes back, if it is not there.
    Start { node: usize },
    /// The clock is set.
    Clock { node: usize, by_ms: i64 },
    /// The operator of a source changes what goes to a receiver.
    Agree { source: usize, receiver: usize, classes: BTreeSet<usize> },
    /// The peers file is written anew, with a peer paused or not.
    Pause { node: usize, peer: usize, paused: bool },
    /// An operator pauses a link.
    OrderPause { node: usize, peer: usize },
    /// An operator resumes a link.
    OrderResume { node: usize, peer: usize },
    /// An operator has everything sent again.
    OrderAgain { node: usize, peer: usize },
    /// Somebody with the receiver's certificate opens a stream beside the receiver's own.
    Ghost { receiver: usize, source: usize },
    /// The next connection of the receiver is to a source with a fault.
    Faulty { receiver: usize, source: usize, fault: Fault },
    /// The disk is full.
    DiskFull { node: usize, full: bool },
    /// A backup of the first node is made.
    Backup,
    /// The first node's disk is lost, and it goes on from the backup.
    Restore,
    /// A copy of the first node's disk begins to run elsewhere and takes its name on the network.
    Clone,
    /// The name points to the first machine again; the clone runs on.
    PointBack,
}

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub transit: bool,
    /// What each node's operator wrote about the others.
    pub nodes: Vec<BTreeMap<usize, Neighbour>>,
    /// The shortest and longest delay on the network.
    pub pace_ms: (u64, u64),
    /// The shortest and longest time that a commit takes.
    pub commit_ms: (u64, u64),
    /// In order of time, milliseconds.
    pub actions: Vec<(u64, Action)>,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = random.usize(3..=5);
        let transit = random.u8(..3) == 0;
        let nodes = if transit { transit_nodes(count, &mut random) } else { direct_nodes(count, &mut random) };
        let end_ms = if random.u8(..6) == 0 { 100_000 } else { random.u64(12_000..30_000) };
        let pace_ms = *random.choice([(1, 3), (1, 60), (20, 150), (1, 700)].iter()).expect("some");
        let commit_ms = *random.choice([(1, 5), (1, 40), (20, 1_500)].iter()).expect("some");
        let mut drawing = Drawing { random, nodes, transit, end_ms, actions: Vec::new() };
        drawing.publishes();
        drawing.faults();
        match drawing.random.u8(..6) {
            0 | 1 => drawing.restore(),
            2 if !transit => drawing.clone_of_first(),
            _ => {}
        }
        let Drawing { nodes, mut actions, .. } = drawing;
        actions.sort_by_key(|(at_ms, _)| *at_ms);
        Self { transit, nodes, pace_ms, commit_ms, actions }
    }
}

struct Drawing {
    random: fastrand::Rng,
    nodes: Vec<BTreeMap<usize, Neighbour>>,
    transit: bool,
    end_ms: u64,
    actions: Vec<(u64, Action)>,
}

impl Drawing {
    fn at(&mut self, at_ms: u64, action: Action) {
        self.actions.push((at_ms, action));
    }

    fn some_time(&mut self) -> u64 {
        self.random.u64(200..self.end_ms)
    }

    fn some_node(&mut self) -> usize {
        self.random.usize(..self.nodes.len())
    }

    /// A node that takes from this one. The first two are always linked.
    fn some_receiver(&mut self, source: usize) -> usize {
        loop {
            let (receiver, from) = self.some_link();
            if from == source {
                return receiver;
            }
        }
    }

    /// Two nodes of which the first takes from the second.
    fn some_link(&mut self) -> (usize, usize) {
        loop {
            let (receiver, source) = (self.some_node(), self.some_node());
            if self.nodes[receiver].get(&source).is_some_and(|neighbour| neighbour.dialled) {
                return (receiver, source);
            }
        }
    }

    fn publishes(&mut self) {
        for _ in 0..self.random.u32(15..40) {
            let (at_ms, node, count) = (self.some_time(), self.some_node(), self.random.usize(1..=4));
            self.at(at_ms, Action::Publish { node, count });
        }
    }

    fn faults(&mut self) {
        for _ in 0..self.random.u32(4..16) {
            let (at_ms, (receiver, source)) = (self.some_time(), self.some_link());
            let short_ms = at_ms + self.random.u64(100..6_000);
            let long_ms = at_ms + self.random.u64(100..50_000);
            match self.random.u8(..16) {
                0 | 1 => {
                    self.at(at_ms, Action::Cut { from: source, to: receiver });
                    self.at(long_ms, Action::Heal { from: source, to: receiver });
                    if self.random.bool() {
                        self.at(at_ms, Action::Cut { from: receiver, to: source });
                        self.at(long_ms, Action::Heal { from: receiver, to: source });
                    }
                }
                2 | 3 => self.at(at_ms, Action::Break { one: receiver, other: source }),
                4..=6 => {
                    let silent = self.random.bool();
                    self.at(at_ms, Action::Die { node: receiver, silent });
                    self.at(short_ms, Action::Start { node: receiver });
                }
                7 => {
                    self.at(at_ms, Action::Stop { node: source });
                    self.at(short_ms, Action::Start { node: source });
                }
                8 => {
                    let by_ms = self.random.i64(-60_000..60_000);
                    self.at(at_ms, Action::Clock { node: source, by_ms });
                }
                9 | 10 if !self.transit => {
                    let classes = some_classes(&mut self.random);
                    self.at(at_ms, Action::Agree { source, receiver, classes });
                }
                11 => {
                    let (node, peer) = if self.random.bool() { (source, receiver) } else { (receiver, source) };
                    if self.random.bool() {
                        self.at(at_ms, Action::Pause { node, peer, paused: true });
                        self.at(short_ms, Action::Pause { node, peer, paused: false });
                    } else {
                        self.at(at_ms, Action::OrderPause { node, peer });
                        self.at(short_ms, Action::OrderResume { node, peer });
                    }
                }
                12 => self.at(at_ms, Action::Ghost { receiver, source }),
                13 | 14 => {
                    let fault = self.random.choice(Fault::ALL).expect("some");
                    self.at(at_ms, Action::Faulty { receiver, source, fault });
                    self.at(at_ms + 1, Action::Break { one: receiver, other: source });
                    self.at(at_ms + 2_500, Action::Publish { node: source, count: 2 });
                    self.at(at_ms + 4_000, Action::Publish { node: source, count: 2 });
                    self.at(at_ms + 5_500, Action::Publish { node: source, count: 2 });
                }
                15 if self.random.bool() => self.at(at_ms, Action::OrderAgain { node: receiver, peer: source }),
                _ => {
                    self.at(at_ms, Action::DiskFull { node: receiver, full: true });
                    self.at(short_ms, Action::DiskFull { node: receiver, full: false });
                }
            }
        }
    }

    fn restore(&mut self) {
        let at_ms = self.random.u64(self.end_ms / 3..self.end_ms);
        let backup_ms = self.random.u64(..at_ms);
        self.at(backup_ms, Action::Backup);
        self.at(at_ms, Action::Restore);
        // What went by an agreement that ended before the backup, since, or only after the restore is revised all the same.
        for _ in 0..if self.transit { 0 } else { self.random.u32(..4) } {
            let receiver = self.some_receiver(0);
            let from_ms = [0, backup_ms, at_ms][self.random.usize(..3)];
            let change_ms = from_ms + self.random.u64(100..4_000);
            let classes = some_classes(&mut self.random);
            self.at(change_ms, Action::Agree { source: 0, receiver, classes });
            let (before_ms, after_ms) = (change_ms - self.random.u64(..100), at_ms + self.random.u64(1_000..8_000));
            self.at(before_ms, Action::Publish { node: 0, count: 3 });
            self.at(after_ms, Action::Publish { node: 0, count: 3 });
        }
    }

    fn clone_of_first(&mut self) {
        let at_ms = self.random.u64(self.end_ms / 4..self.end_ms);
        self.at(at_ms, Action::Clone);
        let back_ms = at_ms + self.random.u64(500..10_000);
        for _ in 0..3 {
            let (one, other) = (self.random.u64(at_ms..back_ms + 3_000), self.random.u64(at_ms..back_ms + 3_000));
            self.at(one, Action::PublishAtClone { count: 2 });
            self.at(other, Action::Publish { node: 0, count: 2 });
        }
        self.at(back_ms, Action::PointBack);
    }
}

fn some_classes(random: &mut fastrand::Rng) -> BTreeSet<usize> {
    (0..CLASSES.len()).filter(|_| random.bool()).collect()
}

/// Each node forwards its own events only, by class.
fn direct_nodes(count: usize, random: &mut fastrand::Rng) -> Vec<BTreeMap<usize, Neighbour>> {
    let full = random.u8(..3) > 0;
    let mut nodes = Vec::new();
    for node in 0..count {
        let mut others = BTreeMap::new();
        for other in (0..count).filter(|other| *other != node) {
            let all = random.u8(..3) > 0;
            let classes = if all { (0..CLASSES.len()).collect() } else { some_classes(random) };
            // The first two are always linked, so that there is a link at all.
            let dialled = full || random.u8(..4) > 0 || node + other == 1;
            others.insert(other, Neighbour { dialled, behind: BTreeSet::new(), classes, paused: false });
        }
        nodes.push(others);
    }
    nodes
}

/// A ring, a mesh, a line or a star, in which everything is passed on.
fn transit_nodes(count: usize, random: &mut fastrand::Rng) -> Vec<BTreeMap<usize, Neighbour>> {
    let shape = random.u8(..4);
    let linked = |one: usize, other: usize| match shape {
        0 => (one + 1) % count == other || (other + 1) % count == one,
        1 => true,
        2 => one.abs_diff(other) == 1,
        _ => one == 0 || other == 0,
    };
    let reached = |from: usize, without: usize| {
        let mut seen = BTreeSet::from([from]);
        loop {
            let more: Vec<usize> = (0..count)
                .filter(|next| *next != without && !seen.contains(next) && seen.iter().any(|at| linked(*at, *next)))
                .collect();
            if more.is_empty() {
                return seen;
            }
            seen.extend(more);
        }
    };
    let all: BTreeSet<usize> = (0..CLASSES.len()).collect();
    let node = |node: usize| {
        let others = (0..count).filter(|other| *other != node).map(|other| {
            let neighbour = if linked(node, other) {
                let behind = reached(other, node).into_iter().filter(|at| *at != other).collect();
                Neighbour { dialled: true, behind, classes: all.clone(), paused: false }
            } else {
                Neighbour { dialled: false, behind: BTreeSet::new(), classes: BTreeSet::new(), paused: false }
            };
            (other, neighbour)
        });
        others.collect()
    };
    (0..count).map(node).collect()
}
