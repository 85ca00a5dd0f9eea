//! Once: what becomes of an identity that comes again, alone, in a batch and at the same time.

use super::{
    fixtures::{event, event_of, header, large_event, other_publisher, places, revision, stored},
    subject::Subject,
};
use crate::{
    domain::{RoutingHeader, Sequence},
    log::{
        AppendBatch,
        AppendMode::{AllOrNothing, Each},
        Refusal, Verdict,
    },
};

pub async fn order_is_kept_and_sequences_strictly_increase(subject: Subject) {
    let mut last = 0;
    for batch in 0..5 {
        let verdicts = subject.append(AllOrNothing, (batch * 30..(batch + 1) * 30).map(event).collect()).await;
        for (number, verdict) in (batch * 30..).zip(&verdicts) {
            let at = stored(verdict).expect("stored");
            assert!(at.sequence.get() > last && !at.duplicate);
            last = at.sequence.get();
            let records = subject.log().get(vec![at.sequence]).await.unwrap();
            assert_eq!(records[0].signed, event(number).signed);
        }
    }
}

pub async fn an_identity_is_stored_once_and_content_decides_over_bytes(subject: Subject) {
    let verdicts = subject.append(Each, vec![event(1), event(1)]).await;
    assert_eq!(places(&verdicts), [Some((1, false)), Some((1, true))], "a duplicate within one batch");
    subject.clock.advance_ns(500);
    let stamped = event_of(&header(1), "content 1|stamped anew");
    let other = event_of(&header(1), "other content");
    let verdicts = subject.append(Each, vec![stamped, other, event(2)]).await;
    assert_eq!(places(&verdicts), [Some((1, true)), None, Some((2, false))]);
    assert_eq!(verdicts[1], Verdict::Refused(Refusal::EventIdConflict { first: Sequence(1) }));
    assert_eq!(stored(&verdicts[0]).unwrap().accepted_time_ns, 1_000, "a duplicate bears the first time");
    let record = &subject.log().get(vec![Sequence(1)]).await.unwrap()[0];
    assert_eq!(record.signed, event(1).signed, "the bytes that came first are kept");
    // The identity is the publisher's: another's same id is another event.
    let theirs = event_of(&RoutingHeader { publisher: other_publisher(), ..header(1) }, "theirs");
    assert_eq!(places(&subject.append(Each, vec![theirs]).await), [Some((3, false))]);
}

pub async fn concurrent_duplicates_take_one_place_and_wait_for_it(subject: Subject) {
    let log = subject.log();
    for round in 0..20_u16 {
        let appends = (0..8).map(|_| {
            let log = subject.log();
            tokio::spawn(async move {
                let events = (round * 10..round * 10 + 10).map(event).collect();
                let verdicts = log.append(AppendBatch { events, mode: Each }).await.unwrap();
                let last = verdicts.iter().filter_map(stored).map(|at| at.sequence).max().unwrap();
                assert!(*log.tail().borrow() >= last, "a duplicate was acknowledged before its first was durable");
                places(&verdicts)
            })
        });
        let answers = futures::future::join_all(appends).await;
        let mut first = 0;
        for answer in &answers {
            let answer = answer.as_ref().unwrap();
            let sequences: Vec<u64> = answer.iter().map(|at| at.unwrap().0).collect();
            let begin = u64::from(round) * 10 + 1;
            assert_eq!(sequences, (begin..begin + 10).collect::<Vec<_>>());
            first += usize::from(answer.iter().all(|at| !at.unwrap().1));
        }
        assert_eq!(first, 1, "exactly one append was the first");
    }
    assert_eq!(*log.tail().borrow(), Sequence(200));
}

pub async fn an_identity_is_known_for_ever(mut subject: Subject) {
    for number in 0..600 {
        subject.append(Each, vec![large_event(number)]).await;
    }
    for restarted in [false, true] {
        for number in (0..600).step_by(37) {
            let again = subject.append(Each, vec![large_event(number)]).await;
            assert_eq!(places(&again), [Some((u64::from(number) + 1, true))], "restarted: {restarted}");
        }
        subject.restart().await;
    }
}

pub async fn one_refusal_withholds_the_whole_batch_and_leaves_nothing(subject: Subject) {
    subject.append(Each, vec![event(1)]).await;
    let conflict = event_of(&header(1), "other content");
    let events = vec![event(2), conflict, event(1), revision(3, 2, false), event(2)];
    let verdicts = subject.append(AllOrNothing, events).await;
    let refused = Verdict::Refused(Refusal::EventIdConflict { first: Sequence(1) });
    assert_eq!(verdicts, [Verdict::Withheld, refused, Verdict::Withheld, Verdict::Withheld, Verdict::Withheld]);
    assert_eq!(*subject.log().tail().borrow(), Sequence(1));
    assert!(subject.log().find(event(2).publisher, event(2).event_id).await.unwrap().is_none());
    assert!(subject.log().revisions_of(vec![(event(2).publisher, event(2).event_id)]).await.unwrap().is_empty());
    let verdicts = subject.append(AllOrNothing, vec![event(2), revision(3, 2, false), event(2)]).await;
    assert_eq!(places(&verdicts), [Some((2, false)), Some((3, false)), Some((2, true))], "something was left behind");
}

pub async fn each_event_can_stand_for_itself(subject: Subject) {
    subject.append(Each, vec![event(1)]).await;
    let conflict = event_of(&header(1), "other content");
    let verdicts = subject.append(Each, vec![event(2), conflict, event(3)]).await;
    assert_eq!(places(&verdicts), [Some((2, false)), None, Some((3, false))]);
    let none = subject.append(Each, vec![event_of(&header(1), "third content")]).await;
    assert_eq!(places(&none), [None]);
    assert_eq!(*subject.log().tail().borrow(), Sequence(3));
}

pub async fn accepted_times_never_run_backwards(mut subject: Subject) {
    subject.append(Each, vec![event(1)]).await;
    subject.clock.advance_ns(-500);
    subject.restart().await;
    let verdicts = subject.append(Each, vec![event(2)]).await;
    assert_eq!(stored(&verdicts[0]).unwrap().accepted_time_ns, 1_000);
    subject.clock.advance_ns(2_000);
    subject.append(Each, vec![event(3)]).await;
    let log = subject.log();
    assert_eq!(log.first_accepted_since(i64::MIN).await, Ok(Sequence(1)));
    assert_eq!(log.first_accepted_since(1_000).await, Ok(Sequence(1)));
    assert_eq!(log.first_accepted_since(1_001).await, Ok(Sequence(3)));
    assert_eq!(log.first_accepted_since(9_999).await, Ok(Sequence(4)), "the tail's successor where none was");
}
