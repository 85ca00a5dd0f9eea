//! A source restored from a backup: what the backup remembers of its peers, and what it does about what nobody remembers. Revisions follow
//! what may have gone, nothing else goes, and a receiver has everything again by the agreement in force.

use super::*;
use crate::federation::{progress, taking_back};

/// What `tradelane backup` writes of a node.
struct Backup {
    remembered: BTreeMap<SpiffeId, PeerProgress>,
    through: Sequence,
}

impl Backup {
    fn of(side: &Side) -> Self {
        Self { remembered: side.federation.table().all_progress(), through: *side.log.tail().borrow() }
    }

    /// The node as `tradelane restore` leaves it, with the policy that lies there then.
    fn restored(self, side: &Side, peers: Vec<Peer>, policy: &str) -> Side {
        let lives = vec![life(2, Some(1), self.through.get()), life(1, None, 0)];
        let log = side.log.reopened(Arc::new(TestClock::at_ns(NOW_NS)), self.through, lives);
        Side::remembering('a', Arc::new(log), peers, policy, self.remembered)
    }
}

fn a_with(peers: Vec<Peer>, policy: &str) -> Side {
    let log = MemoryLog::with_epochs(Arc::new(TestClock::at_ns(NOW_NS)), content_equal, vec![life(1, None, 0)]);
    Side::over('a', Arc::new(log), peers, policy)
}

fn b() -> Side {
    Side::new('b', vec![peer('a')], ALL)
}

/// `b` takes everything that `a` has, and the stream ends.
async fn brought(a: &Side, b: &Side) {
    let stream = b.take_from(a);
    a.acknowledged_by(&b.node, a.log.tail().borrow().get()).await;
    stream.end().await;
}

#[tokio::test]
async fn an_agreement_that_had_ended_before_the_backup_is_remembered() {
    let (a, b) = (a_with(vec![peer('b')], ALL), b());
    let went = discharged('a', 1);
    a.publish(std::slice::from_ref(&went)).await;
    brought(&a, &b).await;
    narrow(&a);
    let stays = discharged('a', 2);
    a.publish(std::slice::from_ref(&stays)).await;
    brought(&a, &b).await;

    let a = Backup::of(&a).restored(&a, vec![peer('b')], "");
    a.publish(&[stays.retracted(), went.retracted()]).await;
    brought(&a, &b).await;
    assert_eq!(said(&b.records().await), sent(&[went.clone(), went.retracted()]));
}

#[tokio::test]
async fn what_the_backup_holds_may_have_gone_after_it_by_the_agreement_of_that_time() {
    let (a, b) = (a_with(vec![peer('b')], ALL), b());
    a.publish(&[discharged('a', 1)]).await;
    brought(&a, &b).await;
    let went = discharged('a', 2);
    a.publish(std::slice::from_ref(&went)).await;
    let backup = Backup::of(&a);
    brought(&a, &b).await;
    assert_eq!(b.records().await.len(), 2, "the premise");

    // By the time of the restore the agreement had ended.
    let restored = backup.restored(&a, vec![peer('b')], "");
    restored.publish(&[went.retracted()]).await;
    brought(&restored, &b).await;
    assert_eq!(said(&b.records().await)[2..], sent(&[went.retracted()]));
}

#[tokio::test]
async fn what_was_said_after_the_backup_did_not_go_by_an_agreement_that_may_have_ended_before() {
    let peers = || vec![peer('b'), peer('c')];
    let only_c = ALL.replace("'spiffe://b.example/*', ", "");
    let (a, b, c) = (a_with(peers(), ALL), b(), Side::new('c', vec![peer('a')], ALL));
    a.publish(&[discharged('a', 1)]).await;
    brought(&a, &b).await;
    let backup = Backup::of(&a);
    set_policy(&a, &only_c);
    let hidden = discharged('a', 2);
    a.publish(std::slice::from_ref(&hidden)).await;
    for receiver in [&b, &c] {
        brought(&a, receiver).await;
    }
    assert_eq!((b.records().await.len(), c.records().await.len()), (1, 2), "the premise");

    let a = backup.restored(&a, peers(), &only_c);
    let back = a.take_from(&c);
    a.holds(2).await;
    a.publish(&[hidden.retracted()]).await;
    brought(&a, &b).await;
    assert_eq!(b.records().await.len(), 1, "it never had what is taken back");
    back.end().await;
}

#[tokio::test]
async fn the_operator_is_told_where_the_agreement_has_changed_since_the_backup_and_nothing_comes_back() {
    let notice =
        |side: &Side| side.federation.table().progress(&node('b')).notices[Direction::Outbound as usize].clone();
    let dialled = || Peer { address: Some(address()), ..peer('b') };
    for (peer_then, policy, is_told) in [(peer('b'), "", true), (peer('b'), ALL, false), (dialled(), "", false)] {
        let (a, b) = (a_with(vec![peer('b')], ALL), b());
        a.publish(&[discharged('a', 1)]).await;
        brought(&a, &b).await;
        let restored = Backup::of(&a).restored(&a, vec![peer_then], policy);
        let notice = notice(&restored);
        assert_eq!(notice.contains("has changed since the backup was made"), is_told, "{notice}");
    }
}

#[tokio::test]
async fn what_came_back_may_have_gone_by_the_agreement_that_was_in_force_at_the_restore() {
    let peers = || vec![peer('b'), peer('c')];
    let (a, b, c) = (a_with(peers(), ALL), b(), Side::new('c', vec![peer('a')], ALL));
    a.publish(&[discharged('a', 1)]).await;
    let backup = Backup::of(&a);
    let went = discharged('a', 2);
    a.publish(std::slice::from_ref(&went)).await;
    for receiver in [&b, &c] {
        brought(&a, receiver).await;
    }

    // It comes back from the other one, and the agreement ends before the first one calls.
    let a = backup.restored(&a, peers(), ALL);
    let _back = a.take_from(&c);
    a.holds(2).await;
    narrow(&a);
    a.publish(&[went.retracted()]).await;
    brought(&a, &b).await;
    assert_eq!(said(&b.records().await)[2..], sent(&[went.retracted()]));
}

#[tokio::test]
async fn what_a_peer_took_from_here_and_gave_back_is_known_to_have_gone() {
    let (a, b) = (a_with(vec![peer('b')], ""), b());
    brought(&a, &b).await;
    let backup = Backup::of(&a);
    // An agreement that begins after the backup and ends before the restore.
    set_policy(&a, ALL);
    let went = discharged('a', 1);
    a.publish(std::slice::from_ref(&went)).await;
    brought(&a, &b).await;

    let a = backup.restored(&a, vec![peer('b')], "");
    let _back = a.take_from(&b);
    a.holds(1).await;
    a.publish(&[went.retracted()]).await;
    brought(&a, &b).await;
    assert_eq!(said(&b.records().await), sent(&[went.clone(), went.retracted()]));
}

#[tokio::test]
async fn a_receiver_that_came_further_has_everything_since_the_backup_by_the_agreement_in_force() {
    let (a, b) = (a_with(vec![peer('b')], ALL), b());
    a.publish(&[discharged('a', 1)]).await;
    brought(&a, &b).await;
    let kept_back = discharged('a', 2);
    a.publish(std::slice::from_ref(&kept_back)).await;
    let backup = Backup::of(&a);
    // For a while, which nobody remembers afterwards, nothing is forwarded.
    narrow(&a);
    brought(&a, &b).await;
    assert_eq!(b.records().await.len(), 1, "the premise");

    let restored = backup.restored(&a, vec![peer('b')], ALL);
    let stream = b.take_from(&restored);
    assert_eq!(said(&b.holds(2).await)[1..], sent(&[kept_back]));
    restored.acknowledged_by(&b.node, 2).await;
    assert!(stream.is_up());
    let status = b.federation.table().status(&restored.node);
    assert!(status.progress.whole_origins.contains(restored.node.as_str()), "it has everything");
    let notice = status.notice(Direction::Inbound);
    assert!(notice.contains("was restored from a backup"), "{notice}");
}

#[tokio::test]
async fn a_pause_and_a_position_are_in_the_backup_as_the_file_reads_them() {
    let (a, b) = (a_with(vec![peer('b')], ALL), b());
    b.publish(&[discharged('b', 1)]).await;
    let stream = a.take_from(&b);
    a.holds(1).await;
    b.acknowledged_by(&a.node, 1).await;
    stream.end().await;
    a.federation.pause(&b.node);
    let remembered = a.federation.table().all_progress();
    let companion = progress::companion(&remembered).expect("in the file's words");
    let directory = tempfile::tempdir().expect("a folder");
    std::fs::write(directory.path().join(companion.name), companion.bytes).expect("written");
    let read = ProgressFile::in_dir(directory.path()).load().expect("readable");
    assert_eq!(read, remembered);
    assert!(read[&b.node].paused && read[&b.node].received.is_some_and(|at| at.sequence.get() == 1));
}

#[tokio::test]
async fn a_start_in_the_middle_of_taking_back_doubts_nothing_that_was_noted_since() {
    let dialled = || Peer { address: Some(address()), ..peer('b') };
    let (a, b) = (a_with(vec![peer('b')], ALL), b());
    a.publish(&[discharged('a', 1)]).await;
    brought(&a, &b).await;
    let backup = Backup::of(&a);
    let a = backup.restored(&a, vec![dialled()], ALL);
    assert!(a.federation.closed().borrow().is_some(), "it waits for b");
    narrow(&a);
    brought(&a, &b).await;
    let before = a.federation.table().progress(&b.node).versions;
    assert_eq!(before.len(), 2);

    let again = Side::remembering('a', a.log.clone(), vec![dialled()], "", a.federation.table().all_progress());
    assert_eq!(again.federation.table().progress(&b.node).versions, before);
    let stopping = CancellationToken::new();
    stopping.cancel();
    let waiting = taking_back::run(again.federation.parts().clone(), again.federation.closed.clone(), stopping);
    waiting.await.expect("no failure");
}

/// Waits until the present version of what `a` remembers of `b` lets nothing go.
async fn noted_that_nothing_goes(a: &Side, b: &Side) {
    let is_noted = |kept: &PeerProgress| kept.versions.last().is_some_and(|version| version.grants.is_empty());
    remembers(a, &b.node, "that nothing goes, though nobody is connected", is_noted).await;
}

#[tokio::test]
async fn what_was_said_while_the_link_was_down_did_not_go_by_the_agreement_before() {
    let (a, b) = (a_with(vec![peer('b')], ALL), b());
    a.publish(&[discharged('a', 1)]).await;
    brought(&a, &b).await;
    narrow(&a);
    noted_that_nothing_goes(&a, &b).await;
    let hidden = discharged('a', 2);
    a.publish(std::slice::from_ref(&hidden)).await;

    let a = Backup::of(&a).restored(&a, vec![peer('b')], "");
    a.publish(&[hidden.retracted()]).await;
    brought(&a, &b).await;
    assert_eq!(b.records().await.len(), 1, "it never had what is taken back");
}

#[tokio::test]
async fn an_agreement_that_changed_while_the_node_was_down_is_noted_as_it_starts() {
    let (a, b) = (a_with(vec![peer('b')], ALL), b());
    a.publish(&[discharged('a', 1)]).await;
    brought(&a, &b).await;
    let a = Side::remembering('a', a.log.clone(), vec![peer('b')], "", a.federation.table().all_progress());
    // Before any task of it has run.
    let versions = a.federation.table().progress(&b.node).versions;
    assert!(versions.last().is_some_and(|version| version.grants.is_empty()), "{versions:?}");
    let hidden = discharged('a', 2);
    a.publish(std::slice::from_ref(&hidden)).await;

    let a = Backup::of(&a).restored(&a, vec![peer('b')], "");
    a.publish(&[hidden.retracted()]).await;
    brought(&a, &b).await;
    assert_eq!(b.records().await.len(), 1, "it never had what is taken back");
}

#[tokio::test]
async fn an_agreement_that_changed_and_changed_back_while_the_link_was_down_leaves_no_trace() {
    let (a, b) = (a_with(vec![peer('b')], ALL), b());
    a.publish(&[discharged('a', 1)]).await;
    brought(&a, &b).await;
    let before = a.federation.table().progress(&b.node).versions;
    narrow(&a);
    noted_that_nothing_goes(&a, &b).await;
    set_policy(&a, ALL);
    let stream = b.take_from(&a);
    a.publish(&[discharged('a', 2)]).await;
    b.holds(2).await;
    stream.end().await;
    let after = a.federation.table().progress(&b.node).versions;
    assert_eq!((after.len(), after[0].after, after[0].through), (1, before[0].after, None), "{after:?}");
}

#[tokio::test]
async fn what_a_peer_gave_back_after_another_is_known_to_have_gone() {
    let peers = || vec![peer('b'), peer('c')];
    let (a, b, c) = (a_with(peers(), ALL), b(), Side::new('c', vec![peer('a')], ALL));
    a.publish(&[discharged('a', 1)]).await;
    brought(&a, &b).await;
    let backup = Backup::of(&a);
    let went = discharged('a', 2);
    a.publish(std::slice::from_ref(&went)).await;
    for receiver in [&b, &c] {
        brought(&a, receiver).await;
    }

    // The agreement that it went by had ended at the restore. It comes back from `c`, and then from `b`, which is a duplicate.
    let a = backup.restored(&a, peers(), &ALL.replace("'spiffe://b.example/*', ", ""));
    let _first = a.take_from(&c);
    let came_back = a.holds(2).await[1].clone();
    assert!(!a.federation.table().has_handed_back(&b.node, came_back.sequence), "the premise");
    let second = a.take_from(&b);
    remembers(&a, &b.node, "what it handed back", |kept| kept.handed_back.contains(came_back.sequence)).await;
    second.end().await;
    a.publish(&[went.retracted()]).await;
    brought(&a, &b).await;
    assert_eq!(said(&b.records().await)[2..], sent(&[went.retracted()]));
}

#[tokio::test]
async fn the_first_stream_may_have_begun_after_the_backup() {
    let (a, b) = (a_with(vec![peer('b')], ALL), b());
    let went = discharged('a', 1);
    a.publish(std::slice::from_ref(&went)).await;
    let backup = Backup::of(&a);
    brought(&a, &b).await;

    // By the time of the restore the agreement had ended.
    let restored = backup.restored(&a, vec![peer('b')], "");
    restored.publish(&[went.retracted()]).await;
    brought(&restored, &b).await;
    assert_eq!(said(&b.records().await)[1..], sent(&[went.retracted()]));
}

#[tokio::test]
async fn what_was_agreed_before_the_first_stream_decided_nothing() {
    let (a, b) = (a_with(vec![peer('b')], ""), b());
    let hidden = discharged('a', 1);
    a.publish(std::slice::from_ref(&hidden)).await;
    // In force for a while, and nobody was there.
    set_policy(&a, ALL);
    let is_noted = |kept: &PeerProgress| kept.versions.iter().any(|version| !version.grants.is_empty());
    remembers(&a, &b.node, "what was agreed", is_noted).await;
    a.publish(&[discharged('a', 2)]).await;
    narrow(&a);
    noted_that_nothing_goes(&a, &b).await;
    a.publish(&[hidden.retracted(), discharged('a', 2).retracted()]).await;
    brought(&a, &b).await;
    assert_eq!(b.records().await.len(), 0, "it never had what is taken back");
}
