//! Durable, and the tail: what `append` promises when it returns.

use super::{
    fixtures::{event, large_event, places, stored},
    subject::Subject,
};
use crate::{
    domain::Sequence,
    log::{AppendBatch, AppendError, AppendMode::Each},
};

pub async fn returned_means_visible_and_the_tail_never_moves_back(subject: Subject) {
    let log = subject.log();
    let mut watched = log.tail();
    let watcher = tokio::spawn(async move {
        let mut last = *watched.borrow_and_update();
        while last < Sequence(40) {
            watched.changed().await.expect("the log is open");
            let now = *watched.borrow_and_update();
            assert!(now >= last, "the tail moved back from {last} to {now}");
            last = now;
        }
    });
    for number in 0..20 {
        let verdicts = subject.append(Each, vec![event(2 * number), event(2 * number + 1)]).await;
        let last = verdicts.iter().filter_map(stored).map(|at| at.sequence).max().expect("stored");
        assert!(*log.tail().borrow() >= last, "acknowledged before the tail showed it");
        let chunk = log.read(Sequence(last.get() - 1), 1, None).await.unwrap().expect("it is visible");
        assert_eq!(chunk.records[0].signed, event(2 * number + 1).signed);
    }
    watcher.await.unwrap();
}

pub async fn a_dropped_append_goes_through(subject: Subject) {
    let log = subject.log();
    drop(log.append(AppendBatch { events: vec![event(1)], mode: Each }));
    let again = subject.append(Each, vec![event(1)]).await;
    assert_eq!(places(&again), [Some((1, true))], "the dropped append was cancelled");
}

pub async fn what_was_acknowledged_is_there_after_a_restart(mut subject: Subject) {
    let mut expected = Vec::new();
    for round in 0..4 {
        for number in round * 100..(round + 1) * 100 {
            let verdicts = subject.append(Each, vec![large_event(number)]).await;
            expected.push((stored(&verdicts[0]).expect("stored").sequence, large_event(number).signed));
        }
        subject.restart().await;
        let (log, mut found, mut after) = (subject.log(), Vec::new(), Sequence::ZERO);
        assert_eq!(*log.tail().borrow(), expected.last().unwrap().0);
        while let Some(chunk) = log.read(after, 64 * 1024, None).await.unwrap() {
            found.extend(chunk.records.iter().map(|record| (record.sequence, record.signed.clone())));
            after = chunk.through;
        }
        assert!(found == expected, "after restart {round} other events are there than were acknowledged");
    }
}

pub async fn a_closing_log_says_so(mut subject: Subject) {
    let log = subject.log();
    subject.append(Each, vec![event(1)]).await;
    subject.close().await;
    let refused = log.append(AppendBatch { events: vec![event(2)], mode: Each }).await;
    assert_eq!(refused, Err(AppendError::Closing));
}

pub async fn a_batch_above_the_limit_is_refused_and_an_empty_one_does_nothing(subject: Subject) {
    let log = subject.log();
    let refused = log.append(AppendBatch { events: (0..1_001).map(event).collect(), mode: Each }).await;
    assert!(matches!(refused, Err(AppendError::BatchTooLarge { .. })), "{refused:?}");
    assert_eq!(subject.append(Each, Vec::new()).await, []);
    assert_eq!(*log.tail().borrow(), Sequence::ZERO);
    let taken = subject.append(Each, (0..1_000).map(event).collect()).await;
    assert!(taken.iter().all(|verdict| stored(verdict).is_some_and(|at| !at.duplicate)));
}
