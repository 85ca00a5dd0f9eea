//! Waiting for views, and rebuilding them while they answer.

use super::*;
use crate::{
    domain::term::{TermHash, TermKind},
    log::contract::TermIndex,
    testing::events::Voyage,
    views::test_node::{NOW_NS, TestNode},
};

#[tokio::test(start_paused = true)]
async fn a_query_waits_for_what_it_needs_and_not_for_ever() {
    let node = TestNode::start();
    let places = node.store(&Voyage::new(1, NOW_NS).events()).await;
    let last = *places.last().expect("events were stored");
    assert_eq!(node.search_view.wait_until(last).await, Ok(last));
    let behind = node.search_view.wait_until(last.next()).await.expect_err("nothing stands there");
    assert_eq!(behind, ViewBehind { view: "search", applied: last, needed: last.next() });
}

#[tokio::test]
async fn a_view_that_starts_late_answers_only_once_it_has_caught_up() {
    let node = TestNode::start();
    let places = node.store(&Voyage::new(1, NOW_NS).events()).await;
    let restarted = TestNode::start_over(Arc::clone(&node.log));
    // Who asks for nothing in particular still gets no answer from a half-filled view.
    assert_eq!(restarted.search_view.wait_until(Sequence::ZERO).await.ok(), places.last().copied());
}

#[tokio::test]
async fn a_search_view_that_catches_up_finds_every_event_of_a_long_stretch() {
    let node = TestNode::start();
    let voyages: Vec<Voyage> = (1..=20).map(|n| Voyage::new(n, NOW_NS)).collect();
    for voyage in &voyages {
        node.store(&voyage.events()).await;
    }
    let restarted = TestNode::start_over(Arc::clone(&node.log));
    restarted.caught_up().await;
    for voyage in &voyages {
        let term = TermHash::of(TermKind::SubjectValue, &[voyage.container_subject().value.as_bytes()]);
        let all_of = async |node: &TestNode| {
            node.index.lookup(term, Sequence::ZERO, Sequence(u64::MAX), false, usize::MAX).await.unwrap()
        };
        let places = all_of(&node).await;
        assert!(places.len() > 1, "the events of a voyage are about its container");
        assert_eq!(all_of(&restarted).await, places);
    }
}

#[tokio::test]
async fn a_rebuilt_search_view_holds_what_it_held() {
    let node = TestNode::start();
    let events = Voyage::new(1, NOW_NS).events();
    node.store(&events).await;
    let terms_of = |node: &TestNode| {
        let header = crate::views::test_node::header_of(&events[2]).encode();
        let mut estimates = Vec::new();
        let header = crate::domain::HeaderRef::parse(&header).expect("a good header");
        header.for_each_term(&mut |term| estimates.push(node.index.estimate(term)));
        estimates
    };
    let before = terms_of(&node);
    let mut rebuild = node.search_view.rebuild().expect("none is under way");
    let end = rebuild.wait_for(|now| now.done || now.failure.is_some()).await.expect("the view runs").clone();
    assert_eq!((end.failure, end.applied), (None, Sequence(events.len() as u64)));
    assert_eq!(terms_of(&node), before);
    assert!(!node.search_view.progress().rebuilding);
    // And it goes on from there.
    let places = node.store(&Voyage::new(2, NOW_NS).events()).await;
    assert_eq!(Some(&node.index.complete_through()), places.last());
}

#[tokio::test]
async fn an_empty_view_is_rebuilt_at_once() {
    let node = TestNode::start();
    node.caught_up().await;
    let mut rebuild = node.search_view.rebuild().expect("none is under way");
    assert!(rebuild.wait_for(|now| now.done).await.is_ok());
}

#[tokio::test]
async fn a_damaged_record_ends_the_view_and_its_answers() {
    let node = TestNode::start();
    let mut event = crate::views::test_node::new_event(&Voyage::new(1, NOW_NS).attached());
    event.signed = bytes::Bytes::from_static(b"no event");
    let batch = crate::log::AppendBatch { events: vec![event], mode: crate::log::AppendMode::Each };
    EventLog::append(&*node.log, batch).await.expect("a log does not open events");
    let view = &node.associations_view;
    assert!(view.wait_until(Sequence(1)).await.is_err());
    assert!(view.wait_until(Sequence::ZERO).await.is_err(), "a stopped view must not answer with what it had");
    assert_eq!(view.rebuild().err(), Some(RebuildRefused::Stopped));
}

/// A view that takes in nothing until it is let.
struct Gated(tokio::sync::Semaphore);

impl View for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn terms(&self) -> Option<Arc<TermPlan>> {
        None
    }

    fn load(&self) -> BoxFuture<'_, Result<Sequence, LogError>> {
        Box::pin(async { Ok(Sequence::ZERO) })
    }

    fn apply<'a>(&'a self, _: &'a Chunk) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(async {
            self.0.acquire().await.expect("never closed").forget();
            Ok(())
        })
    }

    fn open_next(&self) -> BoxFuture<'_, Result<Arc<dyn View>, LogError>> {
        Box::pin(async { Err(LogError::Storage("no room".to_owned())) })
    }

    fn replace_by_next(&self) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_loaded_view_does_not_answer_before_it_is_where_the_log_ended_at_start() {
    let node = TestNode::start();
    let last = *node.store(&Voyage::new(1, NOW_NS).events()).await.last().expect("events were stored");
    let gated = Arc::new(Gated(tokio::sync::Semaphore::new(0)));
    let (runner, handle) = Runner::new(Arc::clone(&gated) as _, Arc::clone(&node.log) as _);
    let stop = CancellationToken::new();
    tokio::spawn(runner.run(stop.clone()));
    let behind = handle.wait_until(Sequence::ZERO).await.expect_err("it has applied nothing yet");
    assert_eq!((behind.applied, behind.needed), (Sequence::ZERO, last));
    gated.0.add_permits(100);
    assert_eq!(handle.wait_until(Sequence::ZERO).await, Ok(last));
    // A rebuild that cannot begin leaves the view as it is, and says why.
    let mut rebuild = handle.rebuild().expect("none is under way");
    let failed = rebuild.wait_for(|now| now.failure.is_some()).await.expect("the view runs").clone();
    assert_eq!((failed.done, failed.failure.as_deref()), (false, Some("storage failed: no room")));
    assert_eq!(handle.wait_until(last).await, Ok(last));
    stop.cancel();
}
