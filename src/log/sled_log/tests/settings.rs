//! What an operator sets is kept: sizes, memory, and what a change means for a log that is there.

use std::sync::Mutex;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_keeps_the_size_that_it_was_made_with() {
    let case = Case::new();
    let opened = case.open().unwrap();
    append(&opened, 0..50).await;
    close(opened).await;
    let options = LogOptions { journal_half_bytes: 2 * journal::HALF_BYTES_MIN, ..case.options() };
    let opened = open(&options, Arc::new(SystemClock), |a, b| a == b).unwrap();
    append(&opened, 50..60).await;
    check(&opened, 60).await;
    for name in journal::FILE_NAMES {
        assert_eq!(options.data_dir.join(name).metadata().unwrap().len(), journal::HALF_BYTES_MIN);
    }
    close(opened).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_takes_no_more_bytes_than_it_may() {
    let case = Case::new();
    let options = LogOptions { queue_bytes_max: 100, ..case.options() };
    let opened = open(&options, Arc::new(SystemClock), |a, b| a == b).unwrap();
    let refused = opened.log.append(batch(AppendMode::Each, vec![event(0)])).await;
    assert_eq!(refused, Err(AppendError::Overloaded));
    check(&opened, 0).await;
    close(opened).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_tail_makes_commits_wait_and_loses_nothing() {
    let case = Case::new();
    let options = LogOptions { tail_bytes_max: 300 * 1024, index_memory_entries_max: 64, ..case.options() };
    let opened = open(&options, Arc::new(SystemClock), |a, b| a == b).unwrap();
    append(&opened, 0..4_000).await;
    check(&opened, 4_000).await;
    let found = opened.log.find(event(17).publisher, event(17).event_id).await.unwrap();
    assert_eq!(found.map(|record| record.sequence), Some(Sequence(18)));
    close(opened).await;
}

#[tokio::test]
async fn a_commit_that_takes_too_long_ends_the_log() {
    let case = Case::new();
    assert_eq!(LogOptions::new(case.directory.path(), publisher()).commit_time_max, Duration::from_secs(30));
    // No disk is so fast.
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&reasons);
    let fatal = FatalHook::call(move |reason| noted.lock().unwrap().push(reason.to_owned()));
    let options = LogOptions { commit_time_max: Duration::ZERO, fatal, ..case.options() };
    let opened = open(&options, Arc::new(SystemClock), |a, b| a == b).unwrap();
    let failed = opened.admin.failed();
    append(&opened, 0..1).await;
    let reason = tokio::time::timeout(Duration::from_secs(60), failed).await.expect("somebody is told");
    assert!(reason.starts_with("a write to the journal and its sync has taken"), "{reason}");
    // Until the half of the journal is full, and the other is begun.
    let is_told = |what: &str| reasons.lock().unwrap().iter().any(|reason| reason.starts_with(what));
    assert!(!is_told("the change to the journal's other half has taken"));
    let large = event_with(1, journal::HALF_BYTES_MIN as usize / 40, None);
    for number in 1..60 {
        let event = NewEvent { event_id: event(number).event_id, ..large.clone() };
        opened.log.append(batch(AppendMode::Each, vec![event])).await.unwrap();
    }
    assert!(is_told("the change to the journal's other half has taken"));
    close(opened).await;
}
