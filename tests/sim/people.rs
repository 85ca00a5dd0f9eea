//! Who stands around a machine: the publisher, who hands over the same events until they are acknowledged, and the subscriber, who reads
//! from where she stood. Both outlive the processes that serve them, and write down what they were told.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use tradelane::{
    domain::{Epoch, Sequence},
    federation::{lives, taking_back::Closed},
    log::{AppendBatch, AppendMode, EventLog, Follower, Verdict},
};

use crate::{
    check::{Acknowledged, Delivered, Observed},
    ground::{Trace, locked},
    net::Site,
    statements::{Statement, id_of},
};

/// A publisher who is refused tries again after this time.
const ASKED_AGAIN: Duration = Duration::from_millis(150);

/// What a process offers; none while none runs.
pub type Door = Option<Offered>;

/// The doors of a process.
#[derive(Clone)]
pub struct Offered {
    pub log: Arc<dyn EventLog>,
    /// Why publishing is closed for now: a restored node takes back first what it lost.
    pub closed: watch::Receiver<Closed>,
}

/// The people of one machine.
pub struct People {
    /// One for the publisher and one for the subscriber: who waits at the same watch is woken in any order.
    doors: [watch::Sender<Door>; 2],
    hands: mpsc::UnboundedSender<Vec<Statement>>,
    /// Batches that are not acknowledged yet.
    waiting: Arc<AtomicUsize>,
    /// How far the subscriber has read.
    cursor: watch::Receiver<Sequence>,
}

impl People {
    /// Begins to publish and to read.
    pub fn around(site: Site, observed: &Arc<Mutex<Observed>>, trace: &Trace) -> Self {
        let (doors, hands) = ([watch::Sender::new(None), watch::Sender::new(None)], mpsc::unbounded_channel());
        let waiting = Arc::new(AtomicUsize::new(0));
        let publisher = Publisher { site, waiting: waiting.clone(), observed: observed.clone(), trace: trace.clone() };
        tokio::spawn(publisher.run(hands.1, doors[0].subscribe()));
        let (moving, cursor) = watch::channel(Sequence::ZERO);
        tokio::spawn(subscribe(site, doors[1].subscribe(), moving, observed.clone()));
        Self { doors, hands: hands.0, waiting, cursor }
    }

    /// What the process offers from now on.
    pub fn show(&self, door: &Door) {
        for watched in &self.doors {
            watched.send_replace(door.clone());
        }
    }

    /// Has statements published.
    pub fn publish(&self, statements: Vec<Statement>) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // The publisher lives as long as the run.
        let _ = self.hands.send(statements);
    }

    /// Whether all is acknowledged, and everything is read up to a place.
    pub fn rest_at(&self, tail: Sequence) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0 && *self.cursor.borrow() == tail
    }
}

struct Publisher {
    site: Site,
    waiting: Arc<AtomicUsize>,
    observed: Arc<Mutex<Observed>>,
    trace: Trace,
}

impl Publisher {
    async fn run(self, mut batches: mpsc::UnboundedReceiver<Vec<Statement>>, mut door: watch::Receiver<Door>) {
        while let Some(statements) = batches.recv().await {
            {
                let mut observed = locked(&self.observed);
                for statement in &statements {
                    observed.statements.insert(statement.id.clone(), statement.clone());
                }
            }
            loop {
                let Ok(open) = door.wait_for(Option::is_some).await.map(|open| open.clone()) else { return };
                let Offered { log, closed } = open.expect("waited for");
                if closed.borrow().is_some() {
                    tokio::time::sleep(ASKED_AGAIN).await;
                    continue;
                }
                let events = statements.iter().map(Statement::new_event).collect();
                match log.append(AppendBatch { events, mode: AppendMode::Each }).await {
                    Ok(verdicts) => {
                        self.acknowledged(&statements, verdicts);
                        break;
                    }
                    Err(_) => tokio::time::sleep(ASKED_AGAIN).await,
                }
            }
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn acknowledged(&self, statements: &[Statement], verdicts: Vec<Verdict>) {
        for (statement, verdict) in statements.iter().zip(verdicts) {
            match verdict {
                Verdict::Stored(at) => {
                    let said = Acknowledged { site: self.site, sequence: at.sequence, id: statement.id.clone() };
                    self.trace.say(format_args!("acknowledged {} at {} {}", said.id, self.site, at.sequence));
                    locked(&self.observed).acknowledged.push(said);
                }
                // What was lost with a disk cannot be corrected until it is back.
                Verdict::Refused(_) | Verdict::Withheld => {
                    self.trace.say(format_args!("refused {}", statement.id));
                }
            }
        }
    }
}

async fn subscribe(
    site: Site,
    mut door: watch::Receiver<Door>,
    moving: watch::Sender<Sequence>,
    observed: Arc<Mutex<Observed>>,
) {
    let mut position: Option<Epoch> = None;
    loop {
        let Ok(open) = door.wait_for(Option::is_some).await.map(|open| open.clone()) else { return };
        let log = open.expect("waited for").log;
        let epochs = log.epochs();
        let mut cursor = *moving.borrow();
        if let Some(at) =
            position.and_then(|known| epochs.iter().position(|life| life.epoch == known)).filter(|at| *at > 0)
        {
            // The log has left the life that was read: the reader is told the fork, and goes on from there.
            cursor = cursor.min(lives::kept(&epochs, at));
            locked(&observed).delivered.entry(site).or_default().retain(|delivered| delivered.sequence <= cursor);
        }
        position = Some(epochs[0].epoch);
        moving.send_replace(cursor);
        let mut follower = Follower::new(log, cursor, 16 * 1024, None);
        loop {
            let chunk = tokio::select! {
                biased;
                _ = door.changed() => break,
                chunk = follower.next() => chunk.expect("the log in memory can be read"),
            };
            let mut observed = locked(&observed);
            let delivered = observed.delivered.entry(site).or_default();
            delivered.extend(chunk.records.iter().map(|record| Delivered {
                sequence: record.sequence,
                id: id_of(&record.signed),
                bytes: record.signed.clone(),
            }));
            moving.send_replace(chunk.through);
        }
    }
}
