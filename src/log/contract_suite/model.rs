//! Random histories: whatever is appended, read, asked for and restarted, every log answers as the one in memory does. The seed is printed;
//! `TRADELANE_CONTRACT_SEED` runs one again.

use std::sync::Arc;

use super::{
    fixtures::{event_of, from_peer, header, id, locode, other_publisher, publisher},
    subject::Subject,
};
use crate::{
    domain::{
        HeaderRef, RoutingHeader, Sequence,
        header::RevisionTerm,
        term::{TermHash, TermKind},
    },
    log::{AppendBatch, AppendMode, EventLog, NewEvent, Record},
};

/// So few identities that duplicates, conflicts and chains are common.
const IDENTITIES: u16 = 60;
const STEPS: usize = 160;
const HISTORIES: u64 = 6;

#[allow(clippy::print_stderr, reason = "a failing seed is to be found in the test's output")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sled_answers_as_the_log_in_memory_does() {
    let given = std::env::var("TRADELANE_CONTRACT_SEED").ok();
    let seeds: Vec<u64> = match given {
        Some(seed) => vec![seed.parse().expect("a seed is a number")],
        None => std::iter::repeat_with(|| fastrand::u64(..)).take(HISTORIES as usize).collect(),
    };
    for seed in seeds {
        eprintln!("TRADELANE_CONTRACT_SEED={seed}");
        history(seed, Subject::in_memory(), Subject::on_sled()).await;
    }
}

async fn history(seed: u64, model: Subject, mut real: Subject) {
    let mut random = fastrand::Rng::with_seed(seed);
    for step in 0..STEPS {
        let (of_model, of_real) = (model.log(), real.log());
        match random.u8(0..100) {
            0..55 => {
                let batch = batch(&mut random);
                let answers = (of_model.append(batch.clone()).await, of_real.append(batch).await);
                assert_eq!(answers.0, answers.1, "seed {seed}, step {step}: append");
            }
            55..65 => {
                let by_ns = random.i64(-300..1_000);
                model.clock.advance_ns(by_ns);
                real.clock.advance_ns(by_ns);
            }
            65..75 => {
                let event_id = id(random.u16(0..IDENTITIES + 2));
                let (one, other) =
                    (of_model.find(publisher(), event_id).await, of_real.find(publisher(), event_id).await);
                assert_eq!(shown(one.unwrap()), shown(other.unwrap()), "seed {seed}, step {step}: find");
                let revisions = (
                    of_model.revisions_of(vec![(publisher(), event_id)]).await,
                    of_real.revisions_of(vec![(publisher(), event_id)]).await,
                );
                assert_eq!(revisions.0, revisions.1, "seed {seed}, step {step}: revisions");
                let after = Sequence(random.u64(0..200));
                let Some(chunk) = of_model.read(after, 4_096, None).await.unwrap() else { continue };
                let early =
                    (of_model.revised_before(chunk.records.clone()).await, of_real.revised_before(chunk.records).await);
                assert_eq!(early.0, early.1, "seed {seed}, step {step}: revised before");
            }
            75..82 => {
                let time_ns = random.i64(0..60_000);
                let answers =
                    (of_model.first_accepted_since(time_ns).await, of_real.first_accepted_since(time_ns).await);
                assert_eq!(answers.0, answers.1, "seed {seed}, step {step}: since {time_ns}");
                let place = Sequence(random.u64(0..200));
                let hashes = (of_model.chain_at(place).await, of_real.chain_at(place).await);
                assert_eq!(hashes.0, hashes.1, "seed {seed}, step {step}: chain at {place}");
            }
            82..90 => {
                let mut asked: Vec<Sequence> = (0..9).map(|_| Sequence(random.u64(0..200))).collect();
                asked.sort_unstable();
                asked.dedup();
                let answers = (of_model.get(asked.clone()).await.unwrap(), of_real.get(asked).await.unwrap());
                assert_eq!(shown(answers.0), shown(answers.1), "seed {seed}, step {step}: get");
            }
            90..97 => {
                let (after, bytes_max) = (Sequence(random.u64(0..200)), random.usize(1..200_000));
                let place = random.bool().then(|| locode(random.u16(0..IDENTITIES)));
                let one = all_after(&*of_model, after, bytes_max, place.as_deref()).await;
                let other = all_after(&*of_real, after, bytes_max, place.as_deref()).await;
                assert!(one == other, "seed {seed}, step {step}: read after {after} of {place:?} differs");
            }
            _ => {
                drop((of_model, of_real));
                real.restart().await;
            }
        }
        assert_eq!(*model.log().tail().borrow(), *real.log().tail().borrow(), "seed {seed}, step {step}: tail");
    }
}

fn batch(random: &mut fastrand::Rng) -> AppendBatch {
    let mode = if random.bool() { AppendMode::AllOrNothing } else { AppendMode::Each };
    AppendBatch { events: (0..random.usize(1..6)).map(|_| event(random)).collect(), mode }
}

fn event(random: &mut fastrand::Rng) -> NewEvent {
    let number = random.u16(0..IDENTITIES);
    // Some identities revise another, always the same one, so that a second copy is a duplicate and not another event.
    let revises = (number.is_multiple_of(3))
        .then(|| RevisionTerm { retract: number.is_multiple_of(12), event_id: id(number / 2) });
    let theirs = random.u8(0..8) == 0;
    let publisher = if theirs { other_publisher() } else { publisher() };
    let stamp = ["", "|stamped anew"][random.usize(0..2)];
    let content = if random.u8(0..10) == 0 { "other" } else { "content" };
    let body = "y".repeat(usize::from(number) * 211);
    let event =
        event_of(&RoutingHeader { publisher, revises, ..header(number) }, &format!("{content} {number} {body}{stamp}"));
    if random.u8(0..6) == 0 { from_peer(event, u64::from(number) + 1) } else { event }
}

/// Records as they can be compared.
fn shown(records: impl IntoIterator<Item = Record>) -> Vec<String> {
    records.into_iter().map(|record| format!("{record:?}")).collect()
}

/// Everything after a place, with what terms ruled out in one log and not in the other left out.
async fn all_after(log: &dyn EventLog, after: Sequence, bytes_max: usize, place: Option<&str>) -> Vec<String> {
    let term = place.map(|place| TermHash::of(TermKind::Locode, &[place.as_bytes()]));
    let plan = term.map(|term| Arc::new(vec![vec![vec![term]]]));
    let (mut after, mut found) = (after, Vec::new());
    while let Some(chunk) = log.read(after, bytes_max, plan.clone()).await.unwrap() {
        found.extend(chunk.records.iter().filter(|record| term.is_none_or(|term| bears(record, term))).cloned());
        after = chunk.through;
    }
    shown(found)
}

fn bears(record: &Record, asked: TermHash) -> bool {
    let mut bears = false;
    HeaderRef::parse(&record.header).unwrap().for_each_term(&mut |term| bears |= term == asked);
    bears
}
