//! Promised state on the log's journal: durable beside events, kept by a kill, by reused halves, by a backup, and never lost in silence.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::{
    storage::{
        fatal::FatalHook,
        state::WRITE_BYTES_MAX,
        store::{PAGE_CACHE_BYTES, Store},
    },
    store::{
        Change, StateStore, Table, WriteError,
        suite::{self, put, removed},
    },
};

/// What the files hold while the log is open: as after a kill.
fn killed(case: &Case) -> Case {
    let copy = Case::new();
    let (from, to) = (case.options().data_dir, copy.options().data_dir);
    std::fs::create_dir_all(to.join("sled")).unwrap();
    for name in ["watermark", "epochs", "journal.0", "journal.1", "sled/db", "sled/conf"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
    copy
}

fn number(store: &dyn StateStore, key: &[u8]) -> Option<u64> {
    store.get(Table::Cursors, key).map(|value| u64::from_le_bytes(value[..8].try_into().unwrap()))
}

/// An entry whose value takes a kilobyte and bears a number.
fn numbered(key: u8, number: u64) -> Change {
    let mut value = number.to_le_bytes().to_vec();
    value.resize(1024, key);
    put(Table::Cursors, &[key], &value)
}

#[tokio::test]
async fn the_store_on_the_journal_keeps_the_contract() {
    let case = Case::new();
    let opened = case.open().unwrap();
    suite::keeps_the_contract(Arc::clone(&opened.state)).await;
    close(opened).await;
}

#[tokio::test]
async fn state_outlives_kills_and_clean_stops_however_far_sled_had_come() {
    let case = Case::new();
    let opened = case.open().unwrap();
    append(&opened, 0..10).await;
    opened.state.write(vec![numbered(1, 1), numbered(2, 1)]).await.unwrap();
    append(&opened, 10..20).await;
    opened.state.write(vec![numbered(1, 2), removed(Table::Cursors, &[2]), numbered(3, 3)]).await.unwrap();
    let copy = killed(&case);
    close(opened).await;
    for case in [&copy, &case] {
        let opened = case.open().unwrap();
        check(&opened, 20).await;
        let found = [1, 2, 3].map(|key| number(&*opened.state, &[key]));
        assert_eq!(found, [Some(2), None, Some(3)]);
        close(opened).await;
    }
}

#[tokio::test]
async fn halves_are_reused_only_once_sled_holds_their_state() {
    let case = Case::new();
    let opened = case.open().unwrap();
    append(&opened, 0..5).await;
    opened.state.write(vec![numbered(0, 7)]).await.unwrap();
    // Four times what both halves hold, of events and state in turn; the entry 0 was written once, in the first half.
    let mut events = 5;
    for round in 0..320_u64 {
        let writes: Vec<_> = (1..100).map(|key| opened.state.write(vec![numbered(key, round)])).collect();
        append(&opened, events..events + 5).await;
        events += 5;
        for write in writes {
            write.await.unwrap();
        }
    }
    let copy = killed(&case);
    close(opened).await;
    for case in [&copy, &case] {
        let opened = case.open().unwrap();
        check(&opened, events).await;
        assert_eq!(number(&*opened.state, &[0]), Some(7), "a half was reused though sled had not its state");
        for key in 1..100 {
            assert_eq!(number(&*opened.state, &[key]), Some(319));
        }
        let mut verdict = None;
        opened
            .admin
            .verify(Sequence(1), &mut |progress| {
                verdict = Some(progress);
                true
            })
            .unwrap();
        assert_eq!(verdict.unwrap().problems, Vec::<String>::new());
        close(opened).await;
    }
}

#[tokio::test]
async fn state_is_known_to_be_whole_when_the_journal_holds_nothing_of_it_any_more() {
    let case = Case::new();
    let opened = case.open().unwrap();
    opened.state.write(vec![numbered(0, 7)]).await.unwrap();
    // More events than both halves hold.
    append(&opened, 0..18_000).await;
    let copy = killed(&case);
    close(opened).await;
    for case in [&copy, &case] {
        let opened = case.open().unwrap();
        assert_eq!(number(&*opened.state, &[0]), Some(7));
        close(opened).await;
    }
}

#[tokio::test]
async fn a_write_that_a_kill_tore_is_dropped_whole() {
    let case = Case::new();
    let opened = case.open().unwrap();
    opened.state.write(vec![numbered(1, 1), numbered(2, 1)]).await.unwrap();
    opened.state.write(vec![numbered(1, 2), numbered(2, 2)]).await.unwrap();
    let copy = killed(&case);
    close(opened).await;
    let path = copy.options().data_dir.join("journal.0");
    let journal = std::fs::read(&path).unwrap();
    let frames: Vec<usize> = (0..journal.len() - 4).step_by(8).filter(|at| journal[*at..*at + 4] == *b"TLFR").collect();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    // The last commit's end did not reach the disk, nor any mark after it.
    let last = frames[1];
    file.write_all_at(&vec![0; 64 * 1024], last as u64 + 1500).unwrap();
    let opened = copy.open().unwrap();
    assert_eq!([1, 2].map(|key| number(&*opened.state, &[key])), [Some(1), Some(1)]);
    close(opened).await;
}

#[tokio::test]
async fn state_that_sled_lost_or_altered_stops_the_start_and_is_found_by_the_check() {
    for alteration in [None, Some(&b"altered"[..]), Some(&[0x0a, 0, 0, 0][..])] {
        let case = Case::new();
        let opened = case.open().unwrap();
        // Enough that neither half holds a commit of the entry 0 any more.
        opened.state.write(vec![numbered(0, 7)]).await.unwrap();
        for round in 0..100_u64 {
            let writes: Vec<_> = (1..100).map(|key| opened.state.write(vec![numbered(key, round)])).collect();
            futures::future::try_join_all(writes).await.unwrap();
        }
        let whole = verdict_of(&opened);
        assert_eq!(whole, Vec::<String>::new());
        close(opened).await;
        let (_, mut writer) = Store::open(&case.options().data_dir, PAGE_CACHE_BYTES).unwrap();
        let key = crate::storage::keys::state(&[Table::Cursors as u8, 0]);
        match alteration {
            None => assert!(writer.delete(&key).unwrap()),
            Some(value) => writer.put(&key, value).unwrap(),
        }
        writer.sync(crate::storage::durable::SyncReason::Blocks).unwrap();
        drop(writer);
        let refused = case.open().unwrap_err().to_string();
        assert!(refused.contains("acknowledged positions"), "{refused}");
    }
}

fn verdict_of(opened: &OpenedLog) -> Vec<String> {
    let mut problems = Vec::new();
    opened
        .admin
        .verify(Sequence(1), &mut |progress| {
            problems = progress.problems;
            true
        })
        .unwrap();
    problems
}

#[tokio::test]
async fn a_backup_holds_the_state_and_a_cut_one_restores_nothing() {
    let case = Case::new();
    let opened = case.open().unwrap();
    append(&opened, 0..50).await;
    for key in 0..200_u8 {
        opened.state.write(vec![put(Table::DeadLetters, &[key], &vec![key; 4000])]).await.unwrap();
    }
    let expected: Vec<(Bytes, Bytes)> = opened.state.load(Table::DeadLetters, b"");
    let mut file = Vec::new();
    opened
        .admin
        .backup(&[], &mut |piece| {
            assert!(piece.data.len() <= 1024 * 1024);
            file.extend_from_slice(&piece.data);
            true
        })
        .unwrap();
    close(opened).await;
    let to = Case::new();
    let path = to.directory.path().join("backup");
    // Without one of its sections of state the rest is a whole sequence of sections, and no whole backup.
    let at = (12..file.len() - 9).find(|at| file[*at] == b'S' && section_end(&file, *at).is_some()).unwrap();
    let without = [&file[..at], &file[section_end(&file, at).unwrap()..]].concat();
    std::fs::write(&path, without).unwrap();
    let refused = restore(&path, &to.options(), &[], &SystemClock).unwrap_err();
    assert!(matches!(refused, RestoreError::NotWhole(_)), "{refused}");
    std::fs::remove_dir_all(to.options().data_dir).unwrap();
    std::fs::write(&path, &file).unwrap();
    restore(&path, &to.options(), &[], &SystemClock).unwrap();
    let opened = to.open().unwrap();
    check(&opened, 50).await;
    assert_eq!(opened.state.load(Table::DeadLetters, b""), expected);
    assert_eq!(verdict_of(&opened), Vec::<String>::new());
    close(opened).await;
}

/// Where the section that begins here ends, if one does.
fn section_end(file: &[u8], at: usize) -> Option<usize> {
    let length = u32::from_le_bytes(file[at + 1..at + 5].try_into().unwrap()) as usize;
    let body = file.get(at + 9..at.checked_add(9 + length)?)?;
    let crc = crc32fast::hash(&[&file[at..at + 5], body].concat());
    (file[at + 5..at + 9] == crc.to_le_bytes()).then_some(at + 9 + length)
}

#[tokio::test]
async fn a_closing_log_takes_no_state() {
    let case = Case::new();
    let opened = case.open().unwrap();
    let state = Arc::clone(&opened.state);
    close(opened).await;
    assert_eq!(state.write(vec![numbered(1, 1)]).await, Err(WriteError::Closing));
}

#[tokio::test]
async fn acknowledgements_pass_where_events_no_longer_do() {
    for (share, expected) in [(2, Ok(())), (16, Err(WriteError::DiskFull))] {
        let case = Case::new();
        std::fs::create_dir_all(case.options().data_dir).unwrap();
        let free_bytes = free_bytes(&case.options().data_dir).unwrap();
        let options = LogOptions { refuse_below_bytes: free_bytes.saturating_mul(share), ..case.options() };
        let opened = open(&options, Arc::new(SystemClock), |a, b| a == b).unwrap();
        let refused = opened.log.append(batch(AppendMode::Each, vec![event(1)])).await;
        assert!(matches!(refused, Err(AppendError::DiskFull { .. })), "{refused:?}");
        assert_eq!(opened.state.write(vec![numbered(1, 1)]).await, expected);
        close(opened).await;
    }
}

#[tokio::test]
async fn large_values_that_take_the_place_of_large_ones_are_stored_in_slices() {
    let case = Case::new();
    let told = Arc::new(std::sync::Mutex::new(None));
    let tell = Arc::clone(&told);
    let fatal = FatalHook::call(move |reason| drop(tell.lock().unwrap().replace(reason.to_owned())));
    for round in 0..3 {
        let options = LogOptions { fatal: fatal.clone(), ..case.options() };
        let opened = open(&options, Arc::new(SystemClock), |a, b| a == b).unwrap();
        // As much as one write may take: from the second round on as much goes as comes, more than a slice together.
        let value = vec![round; WRITE_BYTES_MAX / 4 - 1024];
        opened.state.write((0..4).map(|key| put(Table::Cursors, &[key], &value)).collect()).await.unwrap();
        close(opened).await;
        assert_eq!(*told.lock().unwrap(), None, "in round {round}");
    }
}
