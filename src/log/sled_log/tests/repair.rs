//! Damaged indexes: a node serves again without anybody's doing, no event is stored twice, and nothing of what was damaged stays behind.

use std::{
    os::unix::fs::FileExt,
    sync::{Mutex, PoisonError},
};

use super::*;
use crate::{
    domain::term::TermHash,
    log::sled_log::{
        recover::IDENTITY_FAMILY,
        repair::{BESIDE_NAME, MARK_NAME},
    },
    storage::{
        durable::SyncReason,
        keys,
        runs::RunFamily,
        store::{Store, Writer},
    },
};

const EVENTS: u64 = 3_000;
/// The family that the search view begins with.
const SEARCH_FAMILY: u32 = 4;

/// What a storage failure said.
type Told = Arc<Mutex<Vec<String>>>;

fn told(told: &Told) -> Vec<String> {
    told.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Small indexes, so that there are runs of several parts, and a hook that notes instead of ending the tests.
fn options(case: &Case) -> (LogOptions, Told) {
    let said = Told::default();
    let noted = Arc::clone(&said);
    let fatal = FatalHook::call(move |reason| noted.lock().unwrap().push(reason.to_owned()));
    (LogOptions { index_memory_entries_max: 500, fatal, ..case.options() }, said)
}

fn open_small(case: &Case) -> (OpenedLog, Told) {
    let (options, said) = options(case);
    (open(&options, Arc::new(SystemClock), |a, b| a == b).unwrap(), said)
}

/// A term of the search view, as the view would add it.
fn term_of(number: u64) -> TermHash {
    TermHash(number % 7)
}

/// Adds to the search index what it lacks of the log.
async fn search_through(opened: &OpenedLog, last: u64) {
    let after = opened.search_index.complete_through().get();
    for number in after + 1..=last {
        opened.search_index.add(vec![(term_of(number), Sequence(number))], Sequence(number)).await.unwrap();
    }
}

/// A log with blocks, runs of both indexes and a tail, closed in order.
async fn log_with_indexes() -> Case {
    let case = Case::new();
    let (opened, _) = open_small(&case);
    append(&opened, 0..EVENTS).await;
    search_through(&opened, EVENTS).await;
    close(opened).await;
    case
}

fn copy_of(intact: &Case) -> Case {
    let case = Case::new();
    let (from, to) = (intact.options().data_dir, case.options().data_dir);
    std::fs::create_dir_all(to.join("sled/blobs")).unwrap();
    for folder in ["", "sled"] {
        for entry in std::fs::read_dir(from.join(folder)).unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                std::fs::copy(entry.path(), to.join(folder).join(entry.file_name())).unwrap();
            }
        }
    }
    case
}

/// Everything is there, no event is stored a second time, and both indexes answer.
async fn serves(case: &Case, what: &str) {
    let (opened, said) = open_small(case);
    check(&opened, EVENTS).await;
    for first in (0..EVENTS).step_by(200) {
        let known = (first..first + 200).map(event).collect();
        let verdicts = opened.log.append(batch(AppendMode::AllOrNothing, known)).await.unwrap();
        for (verdict, number) in verdicts.iter().zip(first + 1..) {
            let first = matches!(verdict, Verdict::Stored(at) if at.duplicate && at.sequence == Sequence(number));
            assert!(first, "{what}: event {number} was answered {verdict:?}");
        }
    }
    search_through(&opened, EVENTS).await;
    for term in 0..7 {
        let found = opened.search_index.lookup(TermHash(term), Sequence::ZERO, Sequence(u64::MAX), false, 9_999).await;
        let expected: Vec<Sequence> = (1..=EVENTS).filter(|number| number % 7 == term).map(Sequence).collect();
        assert_eq!(found.unwrap(), expected, "{what}");
    }
    assert_eq!(problems(&opened), Vec::<String>::new(), "{what}");
    close(opened).await;
    assert_eq!(told(&said), Vec::<String>::new(), "{what}");
    for left in [MARK_NAME, BESIDE_NAME] {
        assert!(!case.options().data_dir.join(left).exists(), "{what}: {left} is left behind");
    }
    nothing_is_left_over(case, what);
}

fn problems(opened: &OpenedLog) -> Vec<String> {
    let mut problems = Vec::new();
    opened
        .admin
        .verify(Sequence(1), &mut |progress| {
            problems.extend(progress.problems);
            true
        })
        .unwrap();
    problems
}

fn store_of(case: &Case) -> (Store, Writer) {
    Store::open(&case.options().data_dir, PAGE_CACHE_BYTES).unwrap()
}

/// Every key of a part belongs to a run that counts.
fn nothing_is_left_over(case: &Case, what: &str) {
    let (store, mut writer) = store_of(case);
    let mut named = std::collections::BTreeSet::new();
    for family in [IDENTITY_FAMILY, SEARCH_FAMILY] {
        let index = RunFamily::open(&store, family, 500, FatalHook::abort()).unwrap();
        while index.maintain(&mut writer).unwrap() {}
        named.extend(index.stored_keys());
    }
    let stored: std::collections::BTreeSet<Vec<u8>> = store.scan(b"R").map(|entry| entry.unwrap().0).collect();
    let left: Vec<_> = stored.difference(&named).collect();
    assert!(left.is_empty(), "{what}: {} parts belong to no run: {:?}", left.len(), &left[..left.len().min(3)]);
    assert_eq!(named.difference(&stored).count(), 0, "{what}");
}

/// The key and the value of the oldest run's first part.
fn a_part(store: &Store, family: u32) -> ([u8; 17], Vec<u8>) {
    let number = RunFamily::open(store, family, 500, FatalHook::abort()).unwrap().run_numbers()[0];
    let key = keys::run_part(family, number, 0);
    let value = store.get(&key).unwrap().expect("a run has a first part").to_vec();
    (key, value)
}

#[tokio::test]
async fn whatever_of_an_index_is_altered_a_start_builds_it_anew() {
    let harms = [
        (IDENTITY_FAMILY, "part"),
        (IDENTITY_FAMILY, "description"),
        (SEARCH_FAMILY, "lost part"),
        (SEARCH_FAMILY, "manifest"),
    ];
    let intact = log_with_indexes().await;
    for (family, harm) in harms {
        let case = copy_of(&intact);
        {
            let (store, mut writer) = store_of(&case);
            let (key, mut value) = a_part(&store, family);
            let number = u64::from_be_bytes(key[5..13].try_into().unwrap());
            match harm {
                "part" => {
                    let middle = value.len() / 2;
                    value[middle] ^= 1;
                    writer.put(&key, &value).unwrap();
                }
                "lost part" => assert!(writer.delete(&key).unwrap()),
                "description" => writer.put(&keys::run_part(family, number, 0x8000_0000), b"altered").unwrap(),
                _ => writer.put(&keys::manifest(family), b"altered").unwrap(),
            }
            writer.sync(SyncReason::Runs).unwrap();
        }
        serves(&case, &format!("index {family}, {harm}")).await;
    }
}

/// Flips a byte of a value where sled has it on the disk, and says whether it was found there.
fn flip_on_disk(case: &Case, value: &[u8]) -> bool {
    let path = case.options().data_dir.join("sled/db");
    let bytes = std::fs::read(&path).unwrap();
    let sample = &value[8..72];
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let mut found = false;
    for at in 0..bytes.len() - sample.len() {
        // Every copy: sled leaves older ones where it moved a page.
        if bytes[at..].starts_with(sample) {
            file.write_all_at(&[bytes[at + 9] ^ 0x40], at as u64 + 9).unwrap();
            found = true;
        }
    }
    found
}

/// A copy in which one page with a part of an index cannot be read, and sled opens nevertheless. Where sled puts a page, and whether it
/// moves it to the segment that it reads at each start, hangs on its threads: so more is written behind the part until it is elsewhere.
fn harmed_part(intact: &Case, family: u32) -> Case {
    let mut refused = String::new();
    for round in 0..10_u8 {
        let case = copy_of(intact);
        {
            let (_, mut writer) = store_of(&case);
            for number in (0..20 * round).rev() {
                // Beside the others, and far from the parts.
                writer.put(&[b'N', 0, number], &vec![number; 50 * 1024]).unwrap();
                writer.sync(SyncReason::Blocks).unwrap();
            }
        }
        let (key, value) = a_part(&store_of(&case).0, family);
        assert!(flip_on_disk(&case, &value), "the part is not in the file");
        match Store::open(&case.options().data_dir, PAGE_CACHE_BYTES) {
            Ok((store, _writer)) => {
                assert!(store.get(&key).is_err_and(|error| error.is_damage()), "the test harmed nothing");
                return case;
            }
            Err(error) => refused = error.with_cause(),
        }
    }
    panic!("sled opened none of the copies: {refused}");
}

#[tokio::test]
async fn a_page_that_sled_cannot_read_is_left_behind_with_its_database() {
    let intact = log_with_indexes().await;
    {
        // Enough that the parts are no longer in the segment that sled reads at each start, where it refuses any damage as a whole; and
        // between the blocks and the parts, so that they share no page: a block that is lost is nothing that a start could mend.
        let (_, mut writer) = store_of(&intact);
        for number in (0..200_u8).rev() {
            writer.put(&[b'N', number], &vec![number; 50 * 1024]).unwrap();
            writer.sync(SyncReason::Blocks).unwrap();
        }
    }
    for family in [IDENTITY_FAMILY, SEARCH_FAMILY] {
        let case = harmed_part(&intact, family);
        serves(&case, &format!("index {family}")).await;
        serves(&case, &format!("index {family}, once more")).await;
    }
}

#[tokio::test]
async fn damage_met_while_open_ends_the_log_once_and_the_next_start_mends_it() {
    let intact = log_with_indexes().await;
    // By a query, by a publisher's duplicate, and by a merge.
    for meets in ["query", "duplicate", "merge"] {
        let case = copy_of(&intact);
        let family = if meets == "duplicate" { IDENTITY_FAMILY } else { SEARCH_FAMILY };
        {
            let (store, mut writer) = store_of(&case);
            let (key, _) = a_part(&store, family);
            writer.put(&key, b"altered").unwrap();
            writer.sync(SyncReason::Runs).unwrap();
        }
        let (options, said) = options(&case);
        let options = LogOptions { index_parts_checked: 0, ..options };
        let opened = open(&options, Arc::new(SystemClock), |a, b| a == b).unwrap();
        let failed = opened.admin.failed();
        match meets {
            "query" => {
                let all =
                    opened.search_index.lookup(term_of(1), Sequence::ZERO, Sequence(u64::MAX), false, 9_999).await;
                assert!(all.is_err(), "altered entries were given out");
            }
            "duplicate" => {
                let known = (0..200).map(event).collect();
                let answer = opened.log.append(batch(AppendMode::AllOrNothing, known)).await;
                assert!(answer.is_err(), "a duplicate was decided over an altered index: {answer:?}");
            }
            _ => {
                // In bursts with rests, so that many runs are written; until the oldest is merged.
                for burst in 0..400 {
                    if !told(&said).is_empty() {
                        break;
                    }
                    for number in 1..=500 {
                        let place = Sequence(EVENTS + burst * 500 + number);
                        opened.search_index.add(vec![(term_of(number), place)], place).await.unwrap();
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
        let reason = tokio::time::timeout(Duration::from_secs(60), failed).await;
        let reason = reason.unwrap_or_else(|_| panic!("{meets}: the log goes on over damage"));
        assert!(reason.contains("index"), "{meets}: {reason}");
        assert!(options.data_dir.join(MARK_NAME).exists(), "{meets}: the next start does not know");
        assert!(!told(&said).is_empty());
        // As after the end of the process: its threads wait for each other, and whoever is told lets none of them go on.
        let ended = copy_of(&case);
        serves(&ended, meets).await;
    }
}

#[tokio::test]
async fn a_repair_that_was_killed_is_begun_again() {
    let case = log_with_indexes().await;
    {
        let (store, mut writer) = store_of(&case);
        let (key, _) = a_part(&store, IDENTITY_FAMILY);
        writer.put(&key, b"altered").unwrap();
        writer.sync(SyncReason::Runs).unwrap();
        let (_, mut beside) = Store::open(&case.options().data_dir.join(BESIDE_NAME), PAGE_CACHE_BYTES).unwrap();
        beside.put(b"Lhalf", b"written").unwrap();
    }
    crate::log::sled_log::repair::mark(&case.options().data_dir, "as a start before this one found");
    serves(&case, "killed").await;
}

#[tokio::test]
async fn a_repair_loses_no_event_in_silence() {
    let case = log_with_indexes().await;
    let lost = {
        let (store, mut writer) = store_of(&case);
        let (key, _) = a_part(&store, IDENTITY_FAMILY);
        writer.put(&key, b"altered").unwrap();
        let first = keys::block(0);
        let block = store.get(&first).unwrap().unwrap();
        writer.delete(&first).unwrap();
        writer.sync(SyncReason::Runs).unwrap();
        (first, block.to_vec())
    };
    let refused = case.open().map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("from sequence 1 ") && refused.contains("restore this node from a backup"), "{refused}");
    {
        let (_, mut writer) = store_of(&case);
        writer.put(&lost.0, &lost.1).unwrap();
        writer.sync(SyncReason::Blocks).unwrap();
    }
    serves(&case, "with its block again").await;
}

#[tokio::test]
async fn a_verification_leaves_the_mending_to_the_next_start() {
    let case = log_with_indexes().await;
    {
        let (store, mut writer) = store_of(&case);
        let (key, _) = a_part(&store, SEARCH_FAMILY);
        writer.put(&key, b"altered").unwrap();
        writer.sync(SyncReason::Runs).unwrap();
    }
    let (options, said) = options(&case);
    let opened = open(&LogOptions { index_parts_checked: 0, ..options }, Arc::new(SystemClock), |a, b| a == b).unwrap();
    let found = problems(&opened);
    assert!(found.len() == 1 && found[0].contains("the next start builds the index anew"), "{found:?}");
    assert!(case.options().data_dir.join(MARK_NAME).exists());
    assert_eq!(told(&said), Vec::<String>::new(), "a verification ended the log");
    close(opened).await;
    serves(&case, "verified").await;
}
