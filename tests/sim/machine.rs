//! One machine: its disk, its clock, the files of its operator, and the process that runs there for a while: the product's own log
//! follower, links, doors and HTTP/2, over a simulated network and disk. Who calls is injected where mutual TLS would say it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tradelane::{
    api::PeerApi,
    domain::{
        Sequence, SpiffeId, TrustDomain,
        bindings::{BindingsFeed, NewBinding, PartyBindings, SubjectKey},
    },
    federation::{Federation, FederationParts, PeerTable},
    identity::{
        Access, Peer, Peers,
        peers::PeerAddress,
        policy::{Policy, Successors, file},
    },
    log::{EventLog, MemoryLog},
    tasks::Tasks,
    wire::{content_equal, proto::peer_service_server::PeerServiceServer},
};

use crate::{
    disk::{Disk, Remembered},
    faulty::Fault,
    ground::{SimClock, Trace, locked},
    lines::{SimDial, caller, serve},
    net::{Net, Site},
    statements::CLASSES,
};

/// A process that is asked to stop has ended by then.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// The node of a number: 0 is `spiffe://a.example/node/1`.
pub fn node_id(node: usize) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://{}.example/node/1", letter(node))).expect("a good name")
}

/// The letter of a number.
pub fn letter(node: usize) -> char {
    char::from(b'a' + node as u8)
}

/// What the operator wrote about another node.
#[derive(Debug, Clone)]
pub struct Neighbour {
    /// Whether events are taken from it.
    pub dialled: bool,
    /// The nodes behind it.
    pub behind: BTreeSet<usize>,
    /// The classes of events that are forwarded to it.
    pub classes: BTreeSet<usize>,
    /// Whether the file pauses it.
    pub paused: bool,
}

/// What every machine of a run shares.
#[derive(Clone)]
pub struct Room {
    pub net: Net,
    pub trace: Trace,
    /// The shortest and longest time that a commit takes.
    pub commit_ms: (u64, u64),
    /// The fault that the next connection of a receiver to a source has: (receiver, source).
    pub faults: Arc<Mutex<BTreeMap<(usize, usize), Fault>>>,
    /// Tasks that did not end when they were asked to.
    pub stubborn: Arc<Mutex<Vec<String>>>,
}

/// One machine. A clone of a node is another machine with the same node.
pub struct Machine {
    pub site: Site,
    pub node: usize,
    pub transit: bool,
    pub clock: Arc<SimClock>,
    pub log: Arc<MemoryLog>,
    pub remembered: Arc<Mutex<Remembered>>,
    pub neighbours: BTreeMap<usize, Neighbour>,
    pub process: Option<Process>,
    /// A process that was asked to stop, as long as it may still run.
    stopping: Option<Ending>,
    room: Room,
    random: fastrand::Rng,
}

/// A process that runs.
pub struct Process {
    pub log: Arc<dyn EventLog>,
    pub federation: Arc<Federation>,
    files: watch::Sender<Arc<Peers>>,
    access: Arc<Access>,
    tasks: Tasks,
    draining: CancellationToken,
    ending: Ending,
}

/// How a process ends: from one moment on it has no effect on disk and network any more.
#[derive(Clone, Default)]
struct Ending {
    /// For its disk.
    dead: CancellationToken,
    /// For its ends of connections.
    without_effect: Arc<AtomicBool>,
}

impl Ending {
    fn end(&self, net: &Net, site: Site, silent: bool) {
        if self.without_effect.swap(true, Ordering::SeqCst) {
            return;
        }
        self.dead.cancel();
        net.died(site, silent);
    }
}

impl Machine {
    /// A machine with an empty log that is not running.
    pub fn new(
        site: Site,
        node: usize,
        transit: bool,
        neighbours: BTreeMap<usize, Neighbour>,
        room: Room,
        seed: u64,
    ) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let clock = Arc::new(SimClock::new(random.u64(..)));
        let log = Arc::new(MemoryLog::new(clock.clone(), content_equal));
        Self {
            site,
            node,
            transit,
            clock,
            log,
            remembered: Arc::default(),
            neighbours,
            process: None,
            stopping: None,
            room,
            random,
        }
    }

    /// Starts a process from what is on the disk.
    pub fn start(&mut self) {
        if let Some(stopping) = self.stopping.take() {
            // Who takes too long to stop is killed.
            stopping.end(&self.room.net, self.site, false);
        }
        self.room.net.returned(self.site);
        let (log, room) = (&self.log, &self.room);
        let durable = *log.tail().borrow();
        self.log = Arc::new(log.reopened(self.clock.clone(), durable, log.epochs().to_vec()));
        let ending = Ending::default();
        let disk = Disk::open(
            letter(self.node),
            self.log.clone(),
            self.remembered.clone(),
            (self.random.u64(..), room.commit_ms),
            ending.dead.clone(),
            room.trace.clone(),
        );
        let access = Arc::new(Access::new(self.policy()));
        let files = watch::Sender::new(Arc::new(self.peers()));
        let (tasks, draining) = (Tasks::new(), CancellationToken::new());
        let log: Arc<dyn EventLog> = Arc::new(disk.clone());
        let federation = Arc::new(Federation::new(FederationParts {
            log: log.clone(),
            access: access.clone(),
            peers: files.subscribe(),
            bindings: Arc::new(Unbound(watch::Sender::new(Sequence(u64::MAX)))),
            clock: self.clock.clone(),
            node: node_id(self.node),
            table: Arc::new(PeerTable::new(self.clock.clone(), locked(&self.remembered).clone())),
            draining: draining.clone(),
        }));
        let dead = ending.without_effect.clone();
        let dial = SimDial { room: room.clone(), site: self.site, node: self.node, dead };
        federation.start(Arc::new(dial), Arc::new(disk), &tasks);
        let process = Process { log, federation, files, access, tasks, draining, ending };
        self.process = Some(process);
        self.listen();
        room.trace.say(format_args!("{} starts with {durable} events", letter(self.node)));
    }

    /// Takes the name of its node on the network, wherever that pointed before.
    pub fn listen(&self) {
        let Some(process) = &self.process else { return };
        let mut incoming = self.room.net.listen(&letter(self.node).to_string(), self.site);
        let service = PeerServiceServer::new(PeerApi::new(process.federation.clone(), process.tasks.clone()));
        let (closing, dead) = (process.draining.clone(), process.ending.without_effect.clone());
        tokio::spawn(async move {
            while let Some((from, mut end)) = incoming.recv().await {
                end.belongs_to(&dead);
                // A clone has the number of its node plus ten.
                let caller = caller(node_id(from % CLONE_SITE), &closing);
                tokio::spawn(serve(end, caller, service.clone()));
            }
        });
    }

    /// The process dies in the middle of whatever it does.
    pub fn die(&mut self, silent: bool) {
        let Some(process) = self.process.take() else { return };
        self.room.trace.say(format_args!("{} dies, silent {silent}", letter(self.node)));
        process.ending.end(&self.room.net, self.site, silent);
        self.bury(process);
    }

    /// The process stops in order.
    pub fn stop(&mut self) {
        let Some(process) = self.process.take() else { return };
        self.room.trace.say(format_args!("{} stops", letter(self.node)));
        self.stopping = Some(process.ending.clone());
        self.bury(process);
    }

    /// Ends the tasks of a process; those that do not end are a fault, whatever it died of.
    fn bury(&self, process: Process) {
        let (stubborn, net, site) = (self.room.stubborn.clone(), self.room.net.clone(), self.site);
        let name = letter(self.node);
        process.draining.cancel();
        tokio::spawn(async move {
            for task in process.tasks.stop(Instant::now() + STOP_TIMEOUT).await {
                locked(&stubborn).push(format!("{task} of {name}"));
            }
            if let Some(failure) = process.tasks.failure() {
                locked(&stubborn).push(format!("{failure} of {name}"));
            }
            process.ending.end(&net, site, false);
        });
    }

    /// Puts the operator's files in force, where a process runs.
    pub fn reload(&self) {
        if let Some(process) = &self.process {
            process.access.replace(self.policy());
            let peers = self.peers();
            process.files.send_if_modified(|now| {
                let changed = **now != peers;
                *now = Arc::new(peers);
                changed
            });
        }
    }

    fn peers(&self) -> Peers {
        let peer = |(node, neighbour): (&usize, &Neighbour)| {
            Arc::new(Peer {
                node: node_id(*node),
                address: neighbour.dialled.then(|| PeerAddress { host: letter(*node).to_string(), port: 7443 }),
                homes: BTreeSet::from([home(*node)]),
                behind: neighbour.behind.iter().map(|node| node_id(*node)).collect(),
                transit: self.transit,
                from_time_ns: None,
                private: false,
                paused: neighbour.paused,
            })
        };
        Peers { homes: BTreeSet::from([home(self.node)]), peers: self.neighbours.iter().map(peer).collect() }
    }

    fn policy(&self) -> Policy {
        let mut text = String::new();
        for (node, neighbour) in self.neighbours.iter().filter(|(_, neighbour)| !neighbour.classes.is_empty()) {
            let place = |class: &usize| format!("{{ places = [{{ un_locode = '{}' }}] }}", CLASSES[*class]);
            let filters = neighbour.classes.iter().map(place).collect::<Vec<_>>().join(", ");
            let what = if neighbour.classes.len() == CLASSES.len() {
                "all = true".to_owned()
            } else {
                format!("filters = [{filters}]")
            };
            let letter = letter(*node);
            text.extend([format!(
                "[[grant]]\nid = '{letter}'\nwho = ['spiffe://{letter}.example/*']\nactions = ['forward']\n{what}\n"
            )]);
        }
        file::parse(&text, Path::new("policy.toml"), &Successors::default()).expect("a good policy")
    }
}

/// The number of the first machine that is a clone: of node 0.
pub const CLONE_SITE: Site = 10;

fn home(node: usize) -> TrustDomain {
    TrustDomain::parse(&format!("{}.example", letter(node))).expect("a good name")
}

/// Nothing is bound, and everything is applied.
struct Unbound(watch::Sender<Sequence>);

impl PartyBindings for Unbound {
    fn is_bound(&self, _: &str, _: &SubjectKey<'_>) -> bool {
        false
    }
}

impl BindingsFeed for Unbound {
    fn progress(&self) -> watch::Receiver<Sequence> {
        self.0.subscribe()
    }

    fn newly_bound(&self, _: &str, _: Sequence) -> Vec<NewBinding> {
        Vec::new()
    }

    fn forgotten_through(&self, _: &str) -> Sequence {
        Sequence::ZERO
    }
}
