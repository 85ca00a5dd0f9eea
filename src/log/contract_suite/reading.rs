//! Reading: stretches, terms, places, identities, lives and the chain.

use std::sync::Arc;

use super::{
    fixtures::{event, id, large_event, locode, other_publisher, publisher, stored},
    subject::Subject,
};
use crate::{
    domain::{
        Sequence,
        term::{TermHash, TermKind},
    },
    log::{AppendMode::Each, chain_after, contract::CHAIN_START},
};

pub async fn reads_go_on_where_they_ended(mut subject: Subject) {
    for number in (0..400).step_by(10) {
        subject.append(Each, (number..number + 10).map(large_event).collect()).await;
    }
    for restarted in [false, true] {
        let log = subject.log();
        for bytes_max in [1, 10_000, 1_000_000] {
            let (mut after, mut number) = (Sequence::ZERO, 0);
            while let Some(chunk) = log.read(after, bytes_max, None).await.unwrap() {
                let bytes: usize = chunk.records.iter().map(|record| record.signed.len()).sum();
                assert!(!chunk.records.is_empty(), "at least one event where there is one");
                assert!(bytes <= bytes_max + 64 * 1024, "{bytes} bytes where about {bytes_max} were asked for");
                assert_eq!(chunk.records.last().unwrap().sequence, chunk.through);
                for record in chunk.records.iter() {
                    assert!(record.sequence > after, "an event came twice or out of order");
                    after = record.sequence;
                    assert_eq!(record.signed, large_event(number).signed);
                    number += 1;
                }
            }
            assert_eq!(number, 400, "restarted: {restarted}");
        }
        let tail = *log.tail().borrow();
        assert!(log.read(tail, 1_000, None).await.unwrap().is_none(), "nothing is behind the tail");
        assert!(log.read(Sequence(tail.get() + 1_000), 1_000, None).await.unwrap().is_none());
        drop(log);
        subject.restart().await;
    }
}

pub async fn terms_skip_and_never_miss_a_match(mut subject: Subject) {
    for number in (0..400).step_by(20) {
        subject.append(Each, (number..number + 20).map(large_event).collect()).await;
    }
    subject.restart().await;
    let log = subject.log();
    let terms = [17, 399].map(|number| TermHash::of(TermKind::Locode, &[locode(number).as_bytes()]));
    let absent = TermHash::of(TermKind::Locode, &[b"XXNON"]);
    // Any of two places; a place and one that nobody names; a filter without terms, which asks for all.
    let plans = [
        (vec![vec![terms.to_vec()]], vec![18, 400]),
        (vec![vec![vec![terms[0]], vec![absent]]], vec![]),
        (vec![vec![vec![terms[0]]], vec![vec![absent]]], vec![18]),
        (vec![vec![]], (1..=400).collect()),
    ];
    for (plan, wanted) in plans {
        let plan = Arc::new(plan);
        let (mut after, mut seen) = (Sequence::ZERO, Vec::new());
        while let Some(chunk) = log.read(after, 64 * 1024, Some(Arc::clone(&plan))).await.unwrap() {
            assert!(chunk.through > after, "a reader of nothing still moves on");
            seen.extend(chunk.records.iter().map(|record| record.sequence.get()));
            after = chunk.through;
        }
        assert_eq!(after, Sequence(400));
        assert!(seen.is_sorted_by(|one, next| one < next));
        for sequence in wanted {
            assert!(seen.contains(&sequence), "{plan:?} missed {sequence}");
        }
    }
}

pub async fn places_that_are_not_there_are_left_out(subject: Subject) {
    subject.append(Each, (1..=5).map(event).collect()).await;
    let asked = [0, 2, 3, 5, 6, 900].map(Sequence).to_vec();
    let found: Vec<_> =
        subject.log().get(asked).await.unwrap().iter().map(|one| (one.sequence.get(), one.signed.clone())).collect();
    assert_eq!(found, [2, 3, 5].map(|number| (u64::from(number), event(number).signed)));
    assert!(subject.log().get(Vec::new()).await.unwrap().is_empty());
    assert_eq!(subject.log().first_retained(), Sequence(1));
}

pub async fn an_event_is_found_by_its_identity_alone(mut subject: Subject) {
    for number in 0..300 {
        subject.append(Each, vec![large_event(number)]).await;
    }
    for _ in 0..2 {
        let log = subject.log();
        for number in (0..300).step_by(23) {
            let found = log.find(publisher(), id(number)).await.unwrap().expect("stored");
            assert_eq!((found.sequence.get(), found.signed), (u64::from(number) + 1, large_event(number).signed));
        }
        assert!(log.find(publisher(), id(300)).await.unwrap().is_none());
        assert!(log.find(other_publisher(), id(1)).await.unwrap().is_none(), "another's event was found");
        drop(log);
        subject.restart().await;
    }
}

pub async fn epochs_outlive_a_restart(mut subject: Subject) {
    let epochs = subject.log().epochs();
    assert_eq!((epochs.len(), epochs[0].parent, epochs[0].fork), (1, None, Sequence::ZERO));
    subject.append(Each, vec![event(1)]).await;
    subject.restart().await;
    assert_eq!(subject.log().epochs(), epochs);
}

pub async fn the_chain_stands_for_every_record(mut subject: Subject) {
    let mut chain = vec![CHAIN_START];
    for number in 0..300 {
        let at = stored(&subject.append(Each, vec![large_event(number)]).await[0]).unwrap().sequence;
        let record = &subject.log().get(vec![at]).await.unwrap()[0];
        chain.push(chain_after(chain.last().unwrap(), record));
    }
    for _ in 0..2 {
        let log = subject.log();
        for sequence in [0, 1, 2, 77, 150, 299, 300] {
            assert_eq!(log.chain_at(Sequence(sequence)).await, Ok(Some(chain[sequence as usize])), "at {sequence}");
        }
        assert_eq!(log.chain_at(Sequence(301)).await, Ok(None));
        drop(log);
        subject.restart().await;
    }
}
