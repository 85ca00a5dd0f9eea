//! Corrections and retractions: which are taken, what they take over, and what another node's may do that our own publishers' may not.

use super::{
    fixtures::{event, event_of, from_peer, header, header_of, id, locode, places, publisher, revision, stored},
    subject::Subject,
};
use crate::{
    domain::{
        RoutingHeader, Sequence,
        header::{AudienceTerm, HEADER_BYTES_MAX, RevisionTerm},
    },
    log::{
        AppendMode::{AllOrNothing, Each},
        EarlyRevisions, REVISIONS_FOLLOWED_MAX, Refusal, UNRESOLVED_REVISIONS_MAX, Verdict,
    },
};

pub async fn a_revision_takes_over_its_chains_terms_and_audience(mut subject: Subject) {
    let original = RoutingHeader { audience: AudienceTerm::Private, ..header(1) };
    subject.append(Each, vec![event_of(&original, "content 1")]).await;
    subject.restart().await;
    subject.append(Each, vec![revision(2, 1, false)]).await;
    subject.append(Each, vec![revision(3, 2, true)]).await;
    let record = subject.log().find(publisher(), id(3)).await.unwrap().expect("stored");
    let united = header_of(&record);
    assert_eq!(united.audience, AudienceTerm::Private, "a revision is visible to whom its original was");
    let named: Vec<String> = united.places.iter().map(|place| place.un_locode.clone()).collect();
    assert_eq!(named, [locode(3), locode(2), locode(1)], "its own terms, then its predecessors'");
    assert!(!united.revision_unresolved);
    assert_eq!(record.signed, revision(3, 2, true).signed, "the event's own bytes are untouched");
}

pub async fn only_the_head_of_a_known_chain_is_revised(mut subject: Subject) {
    subject.append(Each, vec![event(1), revision(2, 1, false)]).await;
    subject.restart().await;
    let unknown = subject.append(Each, vec![revision(3, 99, false)]).await;
    assert_eq!(unknown, [Verdict::Refused(Refusal::RevisedEventUnknown)]);
    let late = subject.append(Each, vec![revision(3, 1, false)]).await;
    assert_eq!(late, [Verdict::Refused(Refusal::RevisionConflict { head: id(2) })]);
    let retracted = subject.append(Each, vec![revision(4, 2, true)]).await;
    assert_eq!(places(&retracted), [Some((3, false))]);
    for of in [1, 2, 4] {
        let ended = subject.append(Each, vec![revision(5, of, false)]).await;
        assert_eq!(ended, [Verdict::Refused(Refusal::AlreadyRetracted { by: id(4) })], "revising {of}");
    }
    // What was taken before is a duplicate, and no conflict with itself.
    assert_eq!(places(&subject.append(Each, vec![revision(2, 1, false)]).await), [Some((2, true))]);
    assert_eq!(subject.log().revisions_of(vec![(publisher(), id(1))]).await, Ok(vec![Sequence(2)]));
    assert_eq!(subject.log().revisions_of(vec![(publisher(), id(4))]).await, Ok(vec![]));
    // Of several at once, in the order of their places.
    let several = [4, 2, 1, 2].map(|number| (publisher(), id(number)));
    assert_eq!(subject.log().revisions_of(several.into()).await, Ok(vec![Sequence(2), Sequence(3)]));
}

pub async fn a_chain_may_be_long_and_is_followed_only_so_far(mut subject: Subject) {
    // The original, then one revision of each revision.
    let length = 3 * REVISIONS_FOLLOWED_MAX as u16;
    subject.append(Each, vec![event(1)]).await;
    for number in 2..=length {
        assert_eq!(places(&subject.append(Each, vec![revision(number, number - 1, false)]).await).len(), 1);
        if number == length / 2 {
            subject.restart().await;
        }
    }
    let late = |of| subject.append(Each, vec![revision(1_000, of, false)]);
    let nearest = length - REVISIONS_FOLLOWED_MAX as u16;
    assert_eq!(late(nearest).await, [Verdict::Refused(Refusal::RevisionConflict { head: id(length) })]);
    let later = id(nearest - 1 + REVISIONS_FOLLOWED_MAX as u16);
    assert_eq!(late(nearest - 1).await, [Verdict::Refused(Refusal::RevisedOften { later })]);
    assert_eq!(stored(&late(length).await[0]).map(|at| at.duplicate), Some(false), "its head is revised as ever");
}

pub async fn terms_that_grow_beyond_a_header_are_refused(subject: Subject) {
    let with_times = |header: RoutingHeader, times: std::ops::Range<i64>| {
        let header = RoutingHeader { event_times_ns: times.collect(), ..header };
        event_of(&header, "content")
    };
    let revises = Some(RevisionTerm { retract: false, event_id: id(1) });
    let of_first = || RoutingHeader { revises, ..header(2) };
    subject.append(Each, vec![with_times(header(1), 0..5_000)]).await;
    let verdicts = subject.append(Each, vec![with_times(of_first(), 5_000..10_000)]).await;
    let [Verdict::Refused(Refusal::RevisionTooLarge { bytes, bytes_max })] = verdicts[..] else {
        panic!("{verdicts:?}")
    };
    assert!(bytes_max == HEADER_BYTES_MAX && bytes_max < bytes, "{bytes} {bytes_max}");
    // What the chain has said already costs nothing again.
    let verdicts = subject.append(Each, vec![with_times(of_first(), 0..5_000)]).await;
    assert_eq!(places(&verdicts), [Some((2, false))]);
}

pub async fn an_original_and_its_revisions_share_a_batch(subject: Subject) {
    let events = vec![event(1), revision(2, 1, false), revision(3, 2, true), revision(4, 3, false)];
    let verdicts = subject.append(Each, events).await;
    assert_eq!(places(&verdicts), [Some((1, false)), Some((2, false)), Some((3, false)), None]);
    assert_eq!(verdicts[3], Verdict::Refused(Refusal::AlreadyRetracted { by: id(3) }));
    let wrong_order = subject.append(Each, vec![revision(6, 5, false), event(5)]).await;
    assert_eq!(wrong_order[0], Verdict::Refused(Refusal::RevisedEventUnknown));
}

pub async fn a_refused_original_takes_its_revision_along(subject: Subject) {
    subject.append(Each, vec![event(1), revision(2, 1, false)]).await;
    let events = vec![revision(3, 1, false), revision(4, 3, false)];
    let verdicts = subject.append(AllOrNothing, events).await;
    assert_eq!(
        verdicts,
        [Verdict::Refused(Refusal::RevisionConflict { head: id(2) }), Verdict::Refused(Refusal::RevisedEventUnknown)]
    );
}

pub async fn a_peers_revision_may_come_before_its_original(mut subject: Subject) {
    let early = from_peer(revision(2, 1, false), 6);
    assert_eq!(places(&subject.append(Each, vec![early]).await), [Some((1, false))]);
    let record = subject.log().find(publisher(), id(2)).await.unwrap().expect("kept");
    assert!(header_of(&record).revision_unresolved, "it is flagged");
    assert_eq!(record.origin.as_deref().map(|origin| origin.sequence), Some(Sequence(6)));
    subject.restart().await;
    assert_eq!(places(&subject.append(Each, vec![from_peer(event(1), 5)]).await), [Some((2, false))]);
    assert_eq!(subject.log().revisions_of(vec![(publisher(), id(1))]).await, Ok(vec![Sequence(1)]));
    // Of a stretch of the log, what came after revisions of it is found.
    let all = subject.log().read(Sequence::ZERO, 65_536, None).await.unwrap().expect("two events").records;
    let early = subject.log().revised_before(all.clone()).await;
    assert_eq!(early, Ok(vec![EarlyRevisions { original: Sequence(2), revisions: vec![Sequence(1)] }]));
    // What was never resolved ends no chain: the original is still its head.
    assert_eq!(places(&subject.append(Each, vec![revision(3, 1, false)]).await), [Some((3, false))]);
    assert_eq!(subject.log().revisions_of(vec![(publisher(), id(1))]).await, Ok(vec![Sequence(1), Sequence(3)]));
    assert_eq!(subject.log().revised_before(all).await, early, "a later revision is none that came before");
}

pub async fn a_peers_conflicting_revision_is_kept_and_ends_no_chain(subject: Subject) {
    subject.append(Each, vec![event(1), revision(2, 1, false)]).await;
    let theirs = from_peer(revision(3, 1, true), 8);
    assert_eq!(places(&subject.append(AllOrNothing, vec![theirs]).await), [Some((3, false))]);
    let record = subject.log().find(publisher(), id(3)).await.unwrap().expect("kept");
    assert!(header_of(&record).revision_unresolved);
    assert_eq!(places(&subject.append(Each, vec![revision(4, 2, false)]).await), [Some((4, false))]);
}

pub async fn a_peer_brings_only_so_many_revisions_that_fit_nowhere(mut subject: Subject) {
    let unfit = |number: u16| from_peer(revision(number, 1, false), number.into());
    let end = 2 + UNRESOLVED_REVISIONS_MAX as u16;
    let verdicts = subject.append(Each, (2..end).map(unfit).collect()).await;
    assert!(verdicts.iter().all(|verdict| stored(verdict).is_some()), "{verdicts:?}");
    subject.restart().await;
    // One more is refused, whatever else the batch holds, and what was kept is still known.
    let verdicts = subject.append(Each, vec![unfit(end), unfit(2), from_peer(event(1), 1)]).await;
    assert_eq!(verdicts[0], Verdict::Refused(Refusal::TooManyUnresolved));
    let last = UNRESOLVED_REVISIONS_MAX as u64;
    assert_eq!(places(&verdicts[1..]), [Some((1, true)), Some((last + 1, false))]);
    // They end no chain, and those that fit are not counted with them.
    let fitting = vec![from_peer(revision(100, 1, false), 100), from_peer(revision(101, 100, false), 101)];
    assert_eq!(places(&subject.append(Each, fitting).await), [Some((last + 2, false)), Some((last + 3, false))]);
    let elsewhere = from_peer(revision(102, 100, false), 102);
    assert_eq!(places(&subject.append(Each, vec![elsewhere]).await), [Some((last + 4, false))]);
}
