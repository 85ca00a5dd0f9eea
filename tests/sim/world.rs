//! Runs a plan: machines, network and people together, fault after fault, then quiet until everything rests. What was seen goes to the
//! checker, which knows nothing of how it came about.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use tradelane::{
    domain::{Epoch, Sequence},
    federation::{Direction, LinkState, operate::ResumeFrom},
    log::{AppendError, EventLog, MemoryLog, contract::EpochFacts},
};
use uuid::Uuid;

use crate::{
    check::{Held, Observed, Restored},
    disk::Remembered,
    ghost,
    ground::{Trace, locked},
    machine::{CLONE_SITE, Machine, Neighbour, Room, letter, node_id},
    net::{Net, Site},
    people::{Offered, People},
    plan::{Action, Plan},
    statements::{Writer, id_of},
};

/// How often it is looked at how the links are.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// After the last fault everything rests within this time.
const REST_MAX: Duration = Duration::from_secs(400);

/// What `tradelane backup` writes.
struct Backup {
    /// What was remembered of the peers, taken before the log's end.
    remembered: Remembered,
    log: MemoryLog,
    through: Sequence,
    made_ms: u64,
}

/// A run in progress.
pub struct World {
    plan: Plan,
    room: Room,
    machines: BTreeMap<Site, Machine>,
    people: BTreeMap<Site, People>,
    writers: BTreeMap<Site, Writer>,
    observed: Arc<Mutex<Observed>>,
    backup: Option<Backup>,
    random: fastrand::Rng,
}

impl World {
    /// The world of a plan, with every machine running.
    pub fn new(seed: u64, plan: Plan, trace: Trace) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5EED);
        let room = Room {
            net: Net::new(random.u64(..), plan.pace_ms, trace.clone()),
            trace,
            commit_ms: plan.commit_ms,
            faults: Arc::default(),
            stubborn: Arc::default(),
        };
        let observed = Arc::new(Mutex::new(Observed::of(&plan)));
        let mut world = Self {
            room,
            machines: BTreeMap::new(),
            people: BTreeMap::new(),
            writers: BTreeMap::new(),
            observed,
            backup: None,
            random,
            plan,
        };
        for (node, neighbours) in world.plan.nodes.clone().into_iter().enumerate() {
            world.settle(node, node, neighbours, 0);
            world.start(node);
        }
        world
    }

    /// Runs the plan to its end.
    pub async fn run(mut self) -> Observed {
        let start = Instant::now();
        let mut look = start + LOOK_INTERVAL;
        for (at_ms, action) in std::mem::take(&mut self.plan.actions) {
            let at = start + Duration::from_millis(at_ms);
            while look < at {
                tokio::time::sleep_until(look).await;
                self.look();
                look += LOOK_INTERVAL;
            }
            tokio::time::sleep_until(at).await;
            self.room.trace.say(format_args!("{action:?}"));
            self.act(action);
        }
        self.look();
        self.note_held(true);
        self.mend();
        let resting = tokio::time::timeout(REST_MAX, self.come_to_rest()).await;
        if resting.is_err() {
            let how = self.how_links_are();
            locked(&self.observed).faults.push(format!("does not come to rest within {REST_MAX:?}: {how}"));
        }
        self.look();
        self.note_held(false);
        let stubborn = locked(&self.room.stubborn)
            .drain(..)
            .map(|task| format!("did not end when asked to: {task}"))
            .collect::<Vec<_>>();
        let mut observed = std::mem::take(&mut *locked(&self.observed));
        observed.faults.extend(stubborn);
        observed
    }

    /// Puts a machine into its place, without a process.
    fn settle(&mut self, site: Site, node: usize, neighbours: BTreeMap<usize, Neighbour>, first: u32) {
        let (seed, writing) = (self.random.u64(..), self.random.u64(..));
        let machine = Machine::new(site, node, self.plan.transit, neighbours, self.room.clone(), seed);
        self.machines.insert(site, machine);
        self.people.insert(site, People::around(site, &self.observed, &self.room.trace));
        let number = first + 10_000 * node as u32;
        self.writers.insert(site, Writer::new(site, node, self.plan.nodes.len(), number, writing));
    }

    fn start(&mut self, site: Site) {
        let Some(machine) = self.machines.get_mut(&site).filter(|machine| machine.process.is_none()) else { return };
        machine.start();
        let door = machine
            .process
            .as_ref()
            .map(|process| Offered { log: process.log.clone(), closed: process.federation.closed() });
        self.people[&site].show(&door);
    }

    fn end(&mut self, site: Site, how: impl FnOnce(&mut Machine)) {
        let Some(machine) = self.machines.get_mut(&site) else { return };
        self.people[&site].show(&None);
        how(machine);
    }

    fn publish(&mut self, site: Site, count: usize) {
        let now_ms = self.room.trace.now_ms();
        if let (Some(writer), Some(people)) = (self.writers.get_mut(&site), self.people.get(&site)) {
            people.publish(writer.say(count, now_ms));
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Publish { node, count } => self.publish(node, count),
            Action::PublishAtClone { count } => self.publish(CLONE_SITE, count),
            Action::Cut { from, to } => self.room.net.cut(from, to),
            Action::Heal { from, to } => self.room.net.heal(from, to),
            Action::Break { one, other } => self.room.net.break_one(one, other),
            Action::Die { node, silent } => self.end(node, |machine| machine.die(silent)),
            Action::Stop { node } => self.end(node, Machine::stop),
            Action::Start { node } => self.start(node),
            Action::Clock { node, by_ms } => self.machines[&node].clock.set_by_ms(by_ms),
            Action::Agree { source, receiver, classes } => {
                locked(&self.observed).agree(source, receiver, classes.clone(), self.room.trace.now_ms());
                self.reload(source, receiver, |neighbour| neighbour.classes.clone_from(&classes));
            }
            Action::Pause { node, peer, paused } => self.reload(node, peer, |neighbour| neighbour.paused = paused),
            Action::OrderPause { node, peer } => {
                self.order(node, |federation| federation.pause(&node_id(peer)));
            }
            Action::OrderResume { node, peer } => self.resume(node, peer, ResumeFrom::Position),
            Action::OrderAgain { node, peer } => self.resume(node, peer, ResumeFrom::Beginning),
            Action::Ghost { receiver, source } => {
                let life = self.machines[&receiver].log.epochs()[0].epoch;
                tokio::spawn(ghost::haunt(self.room.net.clone(), receiver, source, life));
            }
            Action::Faulty { receiver, source, fault } => {
                locked(&self.room.faults).insert((receiver, source), fault);
            }
            Action::DiskFull { node, full } => {
                let failing = AppendError::DiskFull { free_bytes: 1, limit_bytes: 2 };
                self.machines[&node].log.fail_with(full.then_some(failing));
            }
            Action::Backup => {
                let first = &self.machines[&0];
                let remembered = match &first.process {
                    Some(process) => process.federation.table().all_progress(),
                    None => locked(&first.remembered).clone(),
                };
                let through = *first.log.tail().borrow();
                let log = first.log.reopened(first.clock.clone(), through, first.log.epochs().to_vec());
                self.backup = Some(Backup { remembered, log, through, made_ms: self.room.trace.now_ms() });
            }
            Action::Restore => self.restore(),
            Action::Clone => self.clone_first(),
            Action::PointBack => self.machines[&0].listen(),
        }
    }

    fn reload(&mut self, node: usize, peer: usize, change: impl Fn(&mut Neighbour)) {
        for machine in self.machines.values_mut().filter(|machine| machine.node == node) {
            if let Some(neighbour) = machine.neighbours.get_mut(&peer) {
                change(neighbour);
            }
            machine.reload();
        }
    }

    fn order(&self, site: Site, order: impl FnOnce(&tradelane::federation::Federation)) {
        if let Some(process) = self.machines.get(&site).and_then(|machine| machine.process.as_ref()) {
            order(&process.federation);
        }
    }

    fn resume(&self, site: Site, peer: usize, from: ResumeFrom) {
        if from == ResumeFrom::Beginning {
            let receiver = self.machines[&site].node;
            locked(&self.observed).rewound.insert((receiver, peer));
        }
        // A link that the file pauses stays paused, as the operator is told.
        self.order(site, |federation| {
            let _ = federation.resume(&node_id(peer), from);
        });
    }

    /// As `tradelane restore` leaves it: the backup's events, a new life of the log, and what the backup remembers of the peers.
    fn restore(&mut self) {
        let Some(Backup { remembered, log: backup, through, made_ms }) = self.backup.take() else { return };
        self.note_held(false);
        self.end(0, |machine| machine.die(false));
        let machine = self.machines.get_mut(&0).expect("the first machine");
        let life = |machine: &Machine| EpochFacts {
            epoch: Epoch(Uuid::from_u128(0xB0 + u128::from(through.get()))),
            parent: machine.log.epochs().first().map(|life| life.epoch),
            fork: through,
            open_time_ns: 0,
        };
        let epochs = std::iter::once(life(machine)).chain(backup.epochs().iter().cloned()).collect();
        machine.log = Arc::new(backup.reopened(machine.clock.clone(), through, epochs));
        *locked(&machine.remembered) = remembered;
        let restored = Restored { node: 0, kept: through, backup_ms: made_ms, ms: self.room.trace.now_ms() };
        locked(&self.observed).restored.push(restored);
        self.start(0);
    }

    /// The first machine's disk is copied while it runs, and the copy runs on another machine that takes the name.
    fn clone_first(&mut self) {
        let neighbours = self.machines[&0].neighbours.clone();
        self.settle(CLONE_SITE, 0, neighbours, 500_000);
        let (first, through) = (&self.machines[&0], *self.machines[&0].log.tail().borrow());
        let log = Arc::new(first.log.reopened(first.clock.clone(), through, first.log.epochs().to_vec()));
        let remembered = locked(&first.remembered).clone();
        let clone = self.machines.get_mut(&CLONE_SITE).expect("put there above");
        clone.log = log;
        *locked(&clone.remembered) = remembered;
        locked(&self.observed).cloned_at = Some((through, self.room.trace.now_ms()));
        self.start(CLONE_SITE);
    }

    /// All faults end: whatever was cut is whole, whoever was away is back, and the clone is gone.
    fn mend(&mut self) {
        self.end(CLONE_SITE, |machine| machine.die(false));
        locked(&self.room.faults).clear();
        let count = self.plan.nodes.len();
        for node in 0..count {
            for other in 0..count {
                self.room.net.heal(node, other);
                self.room.net.heal(CLONE_SITE, other);
                self.room.net.heal(node, CLONE_SITE);
            }
            let machine = self.machines.get_mut(&node).expect("a machine of the plan");
            machine.log.fail_with(None);
            for neighbour in machine.neighbours.values_mut() {
                neighbour.paused = false;
            }
            self.start(node);
            self.machines[&node].reload();
        }
        self.machines[&0].listen();
        for (receiver, source) in self.links() {
            self.resume(receiver, source, ResumeFrom::Position);
            self.resume(source, receiver, ResumeFrom::Position);
        }
    }

    /// Who takes from whom.
    fn links(&self) -> Vec<(usize, usize)> {
        let nodes = self.plan.nodes.iter().enumerate();
        nodes
            .flat_map(|(node, others)| {
                others.iter().filter(|(_, other)| other.dialled).map(move |(other, _)| (node, *other))
            })
            .collect()
    }

    /// Waits until nothing moves any more. Links that stand still are resumed as an operator would.
    async fn come_to_rest(&self) {
        let mut rested = 0;
        while rested < 2 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.look();
            for (receiver, source) in self.links() {
                match self.state(receiver, source) {
                    Some(LinkState::Refused | LinkState::Paused) => self.resume(receiver, source, ResumeFrom::Position),
                    Some(LinkState::Diverged | LinkState::Cloned | LinkState::Lapsed) => {
                        self.resume(receiver, source, ResumeFrom::Beginning);
                    }
                    Some(_) | None => {}
                }
            }
            rested = if self.rests() { rested + 1 } else { 0 };
        }
    }

    fn rests(&self) -> bool {
        let tail = |node: usize| *self.machines[&node].log.tail().borrow();
        let at_rest = (0..self.plan.nodes.len()).all(|node| self.people[&node].rest_at(tail(node)));
        at_rest
            && self.links().into_iter().all(|(receiver, source)| {
                let Some(process) = &self.machines[&receiver].process else { return false };
                let status = process.federation.table().status(&node_id(source));
                let life = self.machines[&source].log.epochs()[0].epoch;
                let covered =
                    status.progress.received.is_some_and(|at| at.epoch == life && at.sequence == tail(source));
                status.inbound.state == LinkState::CaughtUp && covered
            })
    }

    fn state(&self, receiver: usize, source: usize) -> Option<LinkState> {
        let process = self.machines[&receiver].process.as_ref()?;
        Some(process.federation.table().status(&node_id(source)).inbound.state)
    }

    /// Notes how every link is.
    fn look(&self) {
        let mut observed = locked(&self.observed);
        for (receiver, source) in self.links() {
            let Some(process) = &self.machines[&receiver].process else { continue };
            let status = process.federation.table().status(&node_id(source));
            let word = status.inbound.state.word();
            if observed.states.entry((receiver, source)).or_default().insert(word) {
                self.room.trace.say(format_args!("{receiver} from {source}: {word} {}", status.inbound.detail));
            }
            if status.notice(Direction::Inbound).contains("was restored from a backup") {
                observed.noticed.insert((receiver, source));
            }
            for event in &status.progress.quarantine {
                let quarantined = (receiver, source, event.event_id.clone(), event.reason.clone());
                observed.quarantined.insert(quarantined);
            }
        }
    }

    /// Notes what each log holds, before something is lost or at the end.
    fn note_held(&self, before_mending: bool) {
        let mut held = BTreeMap::new();
        for (site, machine) in &self.machines {
            let tail = *machine.log.tail().borrow();
            let reopened = machine.log.reopened(machine.clock.clone(), tail, machine.log.epochs().to_vec());
            held.insert(*site, records_of(&reopened));
        }
        let mut observed = locked(&self.observed);
        if before_mending {
            observed.held_before_mending = held;
        } else {
            observed.held = held;
            let held = observed.held.clone();
            observed.ever_held.push(held);
        }
    }

    fn how_links_are(&self) -> String {
        let mut words = String::new();
        for (receiver, source) in self.links() {
            let Some(process) = &self.machines[&receiver].process else { continue };
            let status = process.federation.table().status(&node_id(source));
            let (covered, tail) = (status.progress.received, *self.machines[&source].log.tail().borrow());
            let covered = covered.map_or(0, |at| at.sequence.get());
            if status.inbound.state != LinkState::CaughtUp || covered != tail.get() {
                let (word, detail) = (status.inbound.state.word(), &status.inbound.last_error);
                let names = (letter(receiver), letter(source));
                words.extend([format!("{}←{} {word} {covered}/{tail} {detail}; ", names.0, names.1)]);
            }
        }
        words
    }
}

fn records_of(log: &MemoryLog) -> Vec<Held> {
    use futures::FutureExt;
    let mut held = Vec::new();
    let mut after = Sequence::ZERO;
    // The log in memory answers at once.
    while let Some(chunk) = log.read(after, usize::MAX, None).now_or_never().expect("at once").expect("readable") {
        held.extend(chunk.records.iter().map(|record| Held {
            sequence: record.sequence,
            id: id_of(&record.signed),
            bytes: record.signed.clone(),
            origin: record.origin.as_deref().cloned(),
        }));
        after = chunk.through;
    }
    held
}
