//! The index of terms beside a log.

use super::subject::Subject;
use crate::domain::{Sequence, term::TermHash};

const TERM: TermHash = TermHash(7);

fn entries(sequences: impl Iterator<Item = u64>) -> Vec<(TermHash, Sequence)> {
    // Every third place bears the term that is looked for; each bears one of its own.
    let of = |sequence: u64| {
        let own = (TermHash(1_000 + sequence), Sequence(sequence));
        let shared = sequence.is_multiple_of(3).then_some((TERM, Sequence(sequence)));
        shared.into_iter().chain([own])
    };
    sequences.flat_map(of).collect()
}

fn places(sequences: impl Iterator<Item = u64>) -> Vec<Sequence> {
    sequences.map(Sequence).collect()
}

pub async fn what_is_added_is_found_within_bounds_and_in_order(subject: Subject) {
    let index = subject.terms();
    assert_eq!(index.complete_through(), Sequence::ZERO);
    for first in (1..1_000).step_by(9) {
        index.add(entries(first..first + 9), Sequence(first + 8)).await.unwrap();
        let newest = TermHash(1_000 + first);
        let found = index.lookup(newest, Sequence::ZERO, Sequence(u64::MAX), false, 9).await.unwrap();
        assert_eq!(found, [Sequence(first)], "found at once");
    }
    assert_eq!(index.complete_through(), Sequence(999));
    let threes = || (1..=999_u64).filter(|sequence| sequence.is_multiple_of(3));
    for (after, before) in [(0, u64::MAX), (0, 3), (2, 4), (3, 6), (30, 900), (997, 999), (500, 500), (900, 100)] {
        for (descending, limit) in [(false, 1_000), (true, 1_000), (false, 7), (true, 7), (true, 0)] {
            let within = threes().filter(|sequence| *sequence > after && *sequence < before);
            let mut expected: Vec<u64> = within.collect();
            if descending {
                expected.reverse();
            }
            expected.truncate(limit);
            let found = index.lookup(TERM, Sequence(after), Sequence(before), descending, limit).await.unwrap();
            assert_eq!(found, places(expected.into_iter()), "({after}, {before}) {descending} {limit}");
        }
    }
    assert!(index.estimate(TERM) > 0);
    assert!(index.lookup(TermHash(5), Sequence::ZERO, Sequence(u64::MAX), false, 9).await.unwrap().is_empty());
}

pub async fn after_a_restart_the_rest_can_be_added_again(mut subject: Subject) {
    for first in (1..600).step_by(20) {
        subject.terms().add(entries(first..first + 20), Sequence(first + 19)).await.unwrap();
    }
    subject.restart().await;
    let index = subject.terms();
    let known = index.complete_through();
    assert!(known <= Sequence(600), "{known}");
    index.add(entries(known.get() + 1..=700), Sequence(700)).await.unwrap();
    let found = index.lookup(TERM, Sequence::ZERO, Sequence(u64::MAX), false, 1_000).await.unwrap();
    assert_eq!(
        found,
        places((1..=700_u64).filter(|sequence| sequence.is_multiple_of(3))),
        "after a restart at {known}"
    );
}

pub async fn the_next_generation_takes_the_place_at_once(mut subject: Subject) {
    let index = subject.terms();
    assert!(index.replace_by_next().await.is_err(), "there is none yet");
    index.add(entries(1..=300), Sequence(300)).await.unwrap();
    let next = index.open_next().await.unwrap();
    assert_eq!(next.complete_through(), Sequence::ZERO);
    next.add(vec![(TERM, Sequence(2))], Sequence(300)).await.unwrap();
    let all = (Sequence::ZERO, Sequence(u64::MAX));
    assert_eq!(index.lookup(TERM, all.0, all.1, false, 1_000).await.unwrap().len(), 100, "the old one still answers");
    let known = async |before| index.all_places(vec![TERM], Sequence(before), 1_000).await.unwrap().remove(0);
    assert_eq!(known(301).await.map(|places| places.len()), Some(100));
    index.replace_by_next().await.unwrap();
    assert_eq!(index.lookup(TERM, all.0, all.1, false, 1_000).await.unwrap(), [Sequence(2)]);
    assert_eq!(known(301).await, Some(vec![Sequence(2)]), "what was known of the old one counts no more");
    index.add(vec![(TERM, Sequence(301))], Sequence(301)).await.unwrap();
    assert_eq!(known(302).await, Some(vec![Sequence(2), Sequence(301)]));
    assert_eq!(known(301).await, Some(vec![Sequence(2)]), "what came later is not before");
    assert_eq!(index.all_places(vec![TERM, TermHash(8)], Sequence(302), 1).await.unwrap(), [None, Some(Vec::new())]);
    assert_eq!(index.lookup(TERM, all.0, all.1, true, 1).await.unwrap(), [Sequence(301)]);
    assert!(index.replace_by_next().await.is_err());
    drop((index, next));
    subject.restart().await;
    assert!(subject.terms().complete_through() <= Sequence(301));
}
