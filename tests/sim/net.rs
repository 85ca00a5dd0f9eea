//! A network in memory, with what networks do: delay, reordering across connections, partitions of one or both directions, connections
//! that break in the middle of a frame, machines that vanish without a word. Bytes of one connection keep their order, as TCP's do.
//!
//! Whatever arrives in the same millisecond arrives in the order of its connections' names, and each connection draws its own delays: so
//! a run does not depend on the order in which a machine's tasks were woken, which tokio's watch channels leave to chance.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    ground::{Trace, locked},
    pipe::{End, Name, Pipe},
};

/// The number of a machine.
pub type Site = usize;

/// How long a dial waits for an answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The network. Cheap to clone.
#[derive(Clone)]
pub struct Net {
    inner: Arc<Mutex<Inner>>,
    /// Something was put on its way.
    scheduled: Arc<Notify>,
    pub trace: Trace,
}

struct Inner {
    seed: u64,
    /// Decides which connection breaks.
    random: fastrand::Rng,
    /// Directions in which nothing passes.
    cut: BTreeSet<(Site, Site)>,
    /// The shortest and the longest delay of a piece, milliseconds.
    pace_ms: (u64, u64),
    listeners: BTreeMap<String, Listener>,
    /// All connections that may still be in use.
    pipes: BTreeMap<Name, Weak<Mutex<Pipe>>>,
    /// How many connections and dials there were between two machines.
    counts: BTreeMap<(Site, Site), u64>,
    /// What is on its way, in order of arrival.
    coming: BTreeMap<(Instant, Name), Coming>,
}

/// What arrives.
enum Coming {
    /// The next piece of a pipe.
    Piece(Weak<Mutex<Pipe>>),
    /// A dial has come through.
    Dial(oneshot::Sender<()>),
}

struct Listener {
    site: Site,
    incoming: mpsc::UnboundedSender<(Site, End)>,
}

impl Net {
    /// A network without machines.
    pub fn new(seed: u64, pace_ms: (u64, u64), trace: Trace) -> Self {
        let inner = Inner {
            seed,
            random: fastrand::Rng::with_seed(seed),
            cut: BTreeSet::new(),
            pace_ms,
            listeners: BTreeMap::new(),
            pipes: BTreeMap::new(),
            counts: BTreeMap::new(),
            coming: BTreeMap::new(),
        };
        let net = Self { inner: Arc::new(Mutex::new(inner)), scheduled: Arc::default(), trace };
        tokio::spawn(net.clone().deliver());
        net
    }

    /// Listens at a name; who listened there before does no longer.
    pub fn listen(&self, name: &str, site: Site) -> mpsc::UnboundedReceiver<(Site, End)> {
        let (incoming, accepted) = mpsc::unbounded_channel();
        locked(&self.inner).listeners.insert(name.to_owned(), Listener { site, incoming });
        accepted
    }

    /// Connects a machine to a name; the error says why there is no connection.
    pub async fn dial(&self, from: Site, name: &str) -> Result<End, String> {
        let answer = {
            let mut inner = locked(&self.inner);
            let to = inner.listeners.get(name).map(|listener| listener.site);
            let to = to.filter(|to| !inner.is_cut(from, *to) && !inner.is_cut(*to, from));
            to.map(|to| (to, inner.dial(from, to)))
        };
        let Some((to, answered)) = answer else {
            tokio::time::sleep(DIAL_TIMEOUT).await;
            return Err(format!("cannot connect: no answer within {DIAL_TIMEOUT:?}"));
        };
        self.scheduled.notify_one();
        let refused = || "cannot connect: connection refused".to_owned();
        answered.await.map_err(|_| refused())?;
        let mut inner = locked(&self.inner);
        let incoming = inner.listeners.get(name).filter(|listener| listener.site == to).map(|at| at.incoming.clone());
        let incoming = incoming.ok_or_else(refused)?;
        let (near, far) = inner.connect(self, from, to);
        self.trace.say(format_args!("{} is open", near.name()));
        incoming.send((from, far)).map_err(|_| refused())?;
        Ok(near)
    }

    /// Connects two machines that need no name.
    pub fn connect(&self, from: Site, to: Site) -> (End, End) {
        locked(&self.inner).connect(self, from, to)
    }

    /// Lets nothing pass in a direction any more.
    pub fn cut(&self, from: Site, to: Site) {
        locked(&self.inner).cut.insert((from, to));
    }

    /// Lets everything pass again that was held back.
    pub fn heal(&self, from: Site, to: Site) {
        if locked(&self.inner).cut.remove(&(from, to)) {
            for pipe in self.pipes(|name| (name.from, name.to) == (from, to)) {
                self.expect(&pipe);
            }
        }
    }

    /// Breaks a connection between two machines in the middle of what is on its way, if there is one.
    pub fn break_one(&self, one: Site, other: Site) {
        let pipes = self.pipes(|name| name.is_between(one, other));
        let usable: Vec<Name> =
            pipes.iter().map(|pipe| locked(pipe)).filter(|pipe| !pipe.is_over()).map(|pipe| pipe.name).collect();
        if usable.is_empty() {
            return;
        }
        let chosen = usable[locked(&self.inner).random.usize(..usable.len())];
        for pipe in self.pipes(|name| name.is_same_connection(&chosen)) {
            locked(&pipe).break_in_the_middle();
        }
    }

    /// A process has died. Its machine resets its connections, or has vanished with it and says nothing.
    pub fn died(&self, site: Site, silent: bool) {
        locked(&self.inner).listeners.retain(|_, listener| listener.site != site);
        for pipe in self.pipes(|name| name.touches(site)) {
            let mut pipe = locked(&pipe);
            if silent { pipe.vanish() } else { pipe.break_whole() }
        }
    }

    /// A machine is there again, and knows nothing of the connections that it had.
    pub fn returned(&self, site: Site) {
        for pipe in self.pipes(|name| name.touches(site)) {
            let mut pipe = locked(&pipe);
            if pipe.is_void() {
                pipe.break_whole();
            }
        }
    }

    /// Puts the next piece of a pipe on its way, unless it is already, or nothing passes.
    pub fn expect(&self, shared: &Arc<Mutex<Pipe>>) {
        let mut pipe = locked(shared);
        let mut inner = locked(&self.inner);
        if !inner.is_cut(pipe.name.from, pipe.name.to)
            && let Some(due) = pipe.next_due()
        {
            inner.coming.insert((due.max(Instant::now()), pipe.name), Coming::Piece(Arc::downgrade(shared)));
            self.scheduled.notify_one();
        }
    }

    /// The delay of a piece of a pipe.
    pub fn delay(&self, random: &mut fastrand::Rng) -> Duration {
        locked(&self.inner).delay(random)
    }

    /// The pipes whose names are asked for, in the order of their names.
    fn pipes(&self, asked: impl Fn(&Name) -> bool) -> Vec<Arc<Mutex<Pipe>>> {
        let mut inner = locked(&self.inner);
        inner.pipes.retain(|_, pipe| pipe.strong_count() > 0);
        inner.pipes.iter().filter(|(name, _)| asked(name)).filter_map(|(_, pipe)| pipe.upgrade()).collect()
    }

    /// Brings everything when it is due.
    async fn deliver(self) {
        loop {
            let next = locked(&self.inner).coming.first_key_value().map(|((due, _), _)| *due);
            let Some(due) = next else {
                self.scheduled.notified().await;
                continue;
            };
            tokio::select! {
                biased;
                () = self.scheduled.notified() => continue,
                () = tokio::time::sleep_until(due) => {}
            }
            let Some(((_, name), coming)) = locked(&self.inner).coming.pop_first() else { continue };
            match coming {
                Coming::Dial(dial) => drop(dial.send(())),
                Coming::Piece(pipe) => {
                    let Some(pipe) = pipe.upgrade() else { continue };
                    let cut = locked(&self.inner).is_cut(name.from, name.to);
                    let arrived = locked(&pipe).arrive(cut);
                    if let Some(length) = arrived {
                        self.trace.say(format_args!("{name} brings {length}"));
                    }
                    self.expect(&pipe);
                }
            }
        }
    }
}

impl Inner {
    fn is_cut(&self, from: Site, to: Site) -> bool {
        self.cut.contains(&(from, to))
    }

    fn delay(&self, random: &mut fastrand::Rng) -> Duration {
        let (shortest, longest) = self.pace_ms;
        Duration::from_millis(random.u64(shortest..=longest))
    }

    /// A name that nothing else between two machines has, and what it draws.
    fn name(&mut self, from: Site, to: Site) -> (Name, fastrand::Rng) {
        let count = self.counts.entry((from, to)).or_default();
        *count += 1;
        let name = Name { from, to, dialled: from, number: *count };
        (name, fastrand::Rng::with_seed(xxh3_64_with_seed(name.to_string().as_bytes(), self.seed)))
    }

    /// Puts a dial on its way: TCP and TLS take a few round trips.
    fn dial(&mut self, from: Site, to: Site) -> oneshot::Receiver<()> {
        let (name, mut random) = self.name(from, to);
        let due = Instant::now() + self.delay(&mut random) * 4;
        let (answer, answered) = oneshot::channel();
        self.coming.insert((due, name), Coming::Dial(answer));
        answered
    }

    fn connect(&mut self, net: &Net, from: Site, to: Site) -> (End, End) {
        let (name, mut random) = self.name(from, to);
        let back = Name { from: to, to: from, ..name };
        let mut pipe = |name: Name| {
            let pipe = Arc::new(Mutex::new(Pipe::new(name, random.fork())));
            self.pipes.insert(name, Arc::downgrade(&pipe));
            pipe
        };
        let (there, back) = (pipe(name), pipe(back));
        (End::new(net.clone(), back.clone(), there.clone()), End::new(net.clone(), there, back))
    }
}
