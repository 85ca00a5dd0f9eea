//! Who rests is woken by what may concern it and by nothing else, and is never left alone with a log that cannot be read.

use super::*;
use crate::{
    clock::TestClock,
    domain::{EventId, RoutingHeader, SpiffeId, header::TypeStep, term::TermKind},
    log::{
        MemoryLog,
        contract::{AppendBatch, AppendMode, NewEvent},
    },
};

/// Longer than the lookout lets commits gather.
const A_WHILE: Duration = Duration::from_millis(50);

struct Scene {
    log: Arc<MemoryLog>,
    tasks: Tasks,
    lookout: Arc<Lookout>,
    events: u32,
}

impl Scene {
    fn new() -> Self {
        let log = Arc::new(MemoryLog::new(Arc::new(TestClock::at_ns(1)), |a, b| a == b));
        let tasks = Tasks::new();
        let lookout = Lookout::new(Arc::clone(&log) as _, tasks.clone());
        Self { log, tasks, lookout, events: 0 }
    }

    fn rest(&self, plan: TermPlan, after: u64) -> Option<Resting> {
        self.lookout.rest(&Arc::new(plan), Sequence(after))
    }

    fn follow(&self, plan: TermPlan) -> Follower {
        let log = Arc::clone(&self.log) as _;
        let mut follower = Follower::new(log, Sequence::ZERO, 1 << 20, Some(Arc::new(plan))).resting_at(&self.lookout);
        follower.set_quiet(true);
        follower
    }

    /// Events with these bodies, each with a step of its number, and time for the lookout to look at them.
    async fn append(&mut self, bodies: &[u8]) {
        for body in bodies {
            self.events += 1;
            let header = header(self.events, *body).encode().into();
            self.append_with(header).await;
        }
        tokio::time::sleep(A_WHILE).await;
    }

    async fn append_with(&self, header: bytes::Bytes) {
        let publisher = publisher();
        let event_id = EventId::from_bytes(u128::from(self.events).to_be_bytes());
        let event = NewEvent { publisher, event_id, header, signed: "content".into(), origin: None };
        let batch = AppendBatch { events: vec![event], mode: AppendMode::AllOrNothing };
        self.log.append(batch).await.expect("the log takes it");
    }
}

fn publisher() -> SpiffeId {
    SpiffeId::parse("spiffe://port.example/terminal/a").expect("a good name")
}

fn header(number: u32, body: u8) -> RoutingHeader {
    RoutingHeader {
        types: vec![TypeStep { body, step: 1 }],
        classifiers: vec![body],
        ..RoutingHeader::bare(publisher(), EventId::from_bytes(u128::from(number).to_be_bytes()))
    }
}

fn body(body: u8) -> TermHash {
    TermHash::of(TermKind::BodyType, &[&[body]])
}

fn classifier(number: u8) -> TermHash {
    TermHash::of(TermKind::Classifier, &[&[number]])
}

#[tokio::test(start_paused = true)]
async fn only_what_may_concern_it_wakes_who_rests() {
    let mut scene = Scene::new();
    let first = scene.rest(vec![vec![vec![body(20), body(21)]]], 0).expect("looked out for");
    let other = scene.rest(vec![vec![vec![body(22)], vec![classifier(23)]], vec![vec![body(24)]]], 0).expect("too");
    scene.append(&[25, 22, 23]).await;
    assert_eq!((first.passed(), other.passed()), (Sequence(3), Sequence(3)), "no event has all that a filter asks for");
    assert!(tokio::time::timeout(A_WHILE, first.woken()).await.is_err());
    scene.append(&[21, 20, 24]).await;
    for resting in [&first, &other] {
        tokio::time::timeout(A_WHILE, resting.woken()).await.expect("woken");
    }
    assert_eq!((first.passed(), other.passed()), (Sequence(3), Sequence(5)), "each stands before the first");
}

#[tokio::test(start_paused = true)]
async fn who_is_behind_reads_itself_and_who_is_ahead_is_not_woken_by_what_it_has() {
    let mut scene = Scene::new();
    scene.append(&[20, 20]).await;
    let _one = scene.rest(vec![vec![vec![body(21)]]], 1).expect("looked out for");
    assert!(scene.rest(vec![vec![vec![body(20)]]], 0).is_none(), "the event at 1 was not looked at for it");
    let ahead = scene.rest(vec![vec![vec![body(20)]]], 2).expect("looked out for");
    scene.append(&[21]).await;
    assert_eq!(ahead.passed(), Sequence(3), "the event at 2 it had read");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_read_wakes_everybody() {
    let mut scene = Scene::new();
    let resting = scene.rest(vec![vec![vec![body(21)]]], 0).expect("looked out for");
    scene.append(&[20]).await;
    let whole = header(2, 20).encode();
    let cut = whole[..whole.len() - 1].to_vec().into();
    let record = Record { sequence: Sequence(2), accepted_time_ns: 1, origin: None, header: cut, signed: "".into() };
    scene.lookout.look_at(&Chunk { records: Arc::new([record]), through: Sequence(2) });
    tokio::time::timeout(A_WHILE, resting.woken()).await.expect("woken");
    assert_eq!(resting.passed(), Sequence(1));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_shows_itself_to_its_followers() {
    let mut scene = Scene::new();
    let mut follower = scene.follow(vec![vec![vec![body(21)]]]);
    scene.append(&[20]).await;
    scene.log.drop_before(Sequence(2));
    let read = tokio::time::timeout(Duration::from_secs(5), follower.next()).await.expect("it is told");
    assert!(matches!(read, Err(FollowError::Log(_))), "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn when_the_node_stops_nobody_is_left_at_rest() {
    let scene = Scene::new();
    let resting = scene.rest(vec![vec![vec![body(21)]]], 0).expect("looked out for");
    let running = scene.tasks.stop(tokio::time::Instant::now() + Duration::from_secs(1)).await;
    assert_eq!(running, Vec::<&str>::new());
    tokio::time::timeout(A_WHILE, resting.woken()).await.expect("woken");
    assert!(scene.rest(vec![vec![vec![body(21)]]], 0).is_none());
}

#[tokio::test(start_paused = true)]
async fn who_left_costs_nothing_any_more() {
    let mut scene = Scene::new();
    let plan = || vec![vec![vec![body(21), body(22), body(21)]], vec![vec![body(21)]]];
    let (one, other) = (scene.rest(plan(), 0), scene.rest(plan(), 0));
    drop(one);
    assert_eq!(scene.lookout.watch().by_term.len(), 2);
    drop(other);
    assert!(scene.lookout.watch().by_term.is_empty());
    scene.append(&[20, 21]).await;
    let reads = scene.log.read_calls();
    scene.append(&[20, 21]).await;
    assert_eq!(scene.log.read_calls(), reads, "nobody rests, so nothing is looked at");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_follower_reads_nothing_but_what_may_concern_it() {
    let mut scene = Scene::new();
    let mut follower = scene.follow(vec![vec![vec![body(21)]]]);
    assert!(tokio::time::timeout(A_WHILE, follower.next()).await.is_err());
    scene.append(&[20; 30]).await;
    assert_eq!(follower.cursor(), Sequence::ZERO);
    assert_eq!(follower.pass_over(), Sequence(30), "what was passed over is examined");
    let waiting = tokio::spawn(async move {
        let chunk = follower.next().await.expect("a chunk");
        (chunk, follower)
    });
    scene.append(&[20, 20, 21]).await;
    let (chunk, mut follower) = tokio::time::timeout(A_WHILE, waiting).await.expect("woken").expect("no panic");
    let places: Vec<u64> = chunk.records.iter().map(|record| record.sequence.get()).collect();
    assert_eq!((places, chunk.through), (vec![33], Sequence(33)));
    // It looks for itself until it is quiet again.
    scene.append(&[20]).await;
    assert_eq!(follower.next().await.expect("a chunk").through, Sequence(34));
}
