//! The log on sled as its users and its operator meet it: durable across restarts, exact about identities and revisions, and never silent
//! about damage.

use std::{os::unix::fs::FileExt, path::Path, time::Duration};

use tokio::time::Instant;

use super::*;
use crate::{
    clock::SystemClock,
    domain::{EventId, RoutingHeader, Sequence, header::RevisionTerm},
    log::contract::{AppendBatch, AppendError, AppendMode, NewEvent, Refusal, Verdict},
};

mod chain;
mod damage;
mod former;
mod guards;
mod promises;
mod repair;
mod settings;

struct Case {
    directory: tempfile::TempDir,
}

fn publisher() -> SpiffeId {
    SpiffeId::parse("spiffe://port.example/terminal/a").unwrap()
}

fn event_with(number: u64, body_bytes: usize, revises: Option<RevisionTerm>) -> NewEvent {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    let header = RoutingHeader {
        classifiers: vec![4],
        event_times_ns: vec![number as i64],
        revises,
        ..RoutingHeader::bare(publisher(), EventId::from_bytes(id))
    };
    let mut random = fastrand::Rng::with_seed(number);
    let signed: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(body_bytes).collect();
    NewEvent {
        publisher: publisher(),
        event_id: header.event_id,
        header: header.encode().into(),
        signed: signed.into(),
        origin: None,
    }
}

fn event(number: u64) -> NewEvent {
    event_with(number, 300 + (number % 400) as usize, None)
}

fn batch(mode: AppendMode, events: Vec<NewEvent>) -> AppendBatch {
    AppendBatch { events, mode }
}

impl Case {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn options(&self) -> LogOptions {
        LogOptions {
            journal_half_bytes: journal::HALF_BYTES_MIN,
            refuse_below_bytes: 0,
            ..LogOptions::new(self.directory.path().join("data"), SpiffeId::parse("spiffe://x.example/node/n").unwrap())
        }
    }

    fn open(&self) -> Result<OpenedLog, OpenError> {
        open(&self.options(), Arc::new(SystemClock), |a, b| a == b)
    }
}

async fn close(opened: OpenedLog) {
    let admin = Arc::clone(&opened.admin);
    drop(opened);
    admin.close(Instant::now() + Duration::from_secs(30)).await;
}

async fn append(opened: &OpenedLog, numbers: std::ops::Range<u64>) {
    for chunk in numbers.collect::<Vec<_>>().chunks(200) {
        let events = chunk.iter().copied().map(event).collect();
        let verdicts = opened.log.append(batch(AppendMode::AllOrNothing, events)).await.unwrap();
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Stored(at) if !at.duplicate)));
    }
}

async fn check(opened: &OpenedLog, count: u64) {
    let mut after = Sequence::ZERO;
    let mut number = 0;
    while let Some(chunk) = opened.log.read(after, 64 * 1024, None).await.unwrap() {
        for record in chunk.records.iter() {
            assert_eq!(record.sequence, Sequence(number + 1));
            assert_eq!(record.signed, event(number).signed, "event {number} came back otherwise");
            number += 1;
        }
        after = chunk.through;
    }
    assert_eq!(number, count);
    assert_eq!(*opened.log.tail().borrow(), Sequence(count));
}

#[tokio::test]
async fn events_outlive_clean_stops_and_kills_whatever_is_where() {
    let case = Case::new();
    // More than both halves of the journal hold, so that blocks, halves and the tail all take part.
    for round in 0..3 {
        let opened = case.open().unwrap();
        check(&opened, round * 8_000).await;
        append(&opened, round * 8_000..(round + 1) * 8_000).await;
        check(&opened, (round + 1) * 8_000).await;
        close(opened).await;
    }
    let opened = case.open().unwrap();
    check(&opened, 24_000).await;
    let known = event(77);
    let found = opened.log.find(known.publisher.clone(), known.event_id).await.unwrap().unwrap();
    assert_eq!(found.sequence, Sequence(78));
    let again = opened.log.append(batch(AppendMode::AllOrNothing, vec![known])).await.unwrap();
    assert!(matches!(again[0], Verdict::Stored(at) if at.duplicate && at.sequence == Sequence(78)));
    let mut verdict = None;
    opened
        .admin
        .verify(Sequence(1), &mut |progress| {
            verdict = Some(progress);
            true
        })
        .unwrap();
    let verdict = verdict.unwrap();
    assert!(verdict.done && verdict.problems.is_empty(), "{verdict:?}");
    close(opened).await;
}

#[tokio::test]
async fn a_second_process_and_another_node_are_refused() {
    let case = Case::new();
    let opened = case.open().unwrap();
    let refused = case.open().unwrap_err();
    assert!(refused.to_string().contains("another process uses"), "{refused}");
    close(opened).await;
    let other = LogOptions { node: SpiffeId::parse("spiffe://x.example/node/other").unwrap(), ..case.options() };
    let refused = open(&other, Arc::new(SystemClock), |a, b| a == b).unwrap_err();
    assert!(matches!(refused, OpenError::OtherNode { .. }), "{refused}");
}

#[tokio::test]
async fn a_lost_watermark_never_opens_as_an_empty_log() {
    let case = Case::new();
    let opened = case.open().unwrap();
    append(&opened, 0..40).await;
    close(opened).await;
    std::fs::remove_file(case.options().data_dir.join("watermark")).unwrap();
    let refused = case.open().unwrap_err().to_string();
    assert!(refused.contains("no watermark"), "{refused}");
}

#[tokio::test]
async fn too_large_and_too_late_are_refused_before_anything_is_done() {
    let case = Case::new();
    let opened = case.open().unwrap();
    let large = event_with(1, RECORD_BYTES_MAX, None);
    let refused = opened.log.append(batch(AppendMode::Each, vec![large])).await.unwrap_err();
    assert!(matches!(refused, AppendError::BatchTooLarge { .. }), "{refused}");
    let log = Arc::clone(&opened.log);
    close(opened).await;
    assert_eq!(log.append(batch(AppendMode::Each, vec![event(1)])).await, Err(AppendError::Closing));
}

#[tokio::test]
async fn a_full_disk_is_refused_and_nothing_is_stored() {
    let case = Case::new();
    let options = LogOptions { refuse_below_bytes: u64::MAX, ..case.options() };
    let opened = open(&options, Arc::new(SystemClock), |a, b| a == b).unwrap();
    let refused = opened.log.append(batch(AppendMode::Each, vec![event(1)])).await.unwrap_err();
    assert!(matches!(refused, AppendError::DiskFull { limit_bytes: u64::MAX, .. }), "{refused}");
    check(&opened, 0).await;
    close(opened).await;
}

#[tokio::test]
async fn the_largest_incompressible_events_never_become_blobs() {
    let case = Case::new();
    let opened = case.open().unwrap();
    for number in 0..80 {
        let large = event_with(number, 140 * 1024, None);
        opened.log.append(batch(AppendMode::Each, vec![large])).await.unwrap();
    }
    close(opened).await;
    let blobs = std::fs::read_dir(case.options().data_dir.join("sled/blobs")).unwrap().count();
    assert_eq!(blobs, 0);
    let opened = case.open().unwrap();
    let chunk = opened.log.read(Sequence(70), 1, None).await.unwrap().unwrap();
    assert_eq!(chunk.records[0].signed, event_with(70, 140 * 1024, None).signed);
    close(opened).await;
}

#[tokio::test]
async fn a_flipped_byte_in_the_journal_stops_the_start_and_says_so() {
    let case = Case::new();
    let opened = case.open().unwrap();
    append(&opened, 0..40).await;
    close(opened).await;
    let path = case.options().data_dir.join("journal.0");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    for at in [5_000, 9_000, 12_345] {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        let refused = case.open().unwrap_err().to_string();
        assert!(refused.contains("journal"), "{refused}");
        file.write_all_at(&byte, at).unwrap();
    }
    let opened = case.open().unwrap();
    check(&opened, 40).await;
    close(opened).await;
}

#[tokio::test]
async fn a_flipped_byte_in_the_last_commit_after_a_kill_is_damage_and_no_torn_end() {
    let case = Case::new();
    let opened = case.open().unwrap();
    append(&opened, 0..1).await;
    append(&opened, 1..2).await;
    let copy = case.directory.path().join("copy");
    let data = case.options().data_dir;
    std::fs::create_dir_all(copy.join("sled")).unwrap();
    let options = LogOptions { data_dir: copy.clone(), ..case.options() };
    // The mark that says so is written when the commit thread runs idle, right after the answer: looked for until it is there.
    let deadline = Instant::now() + Duration::from_secs(10);
    let frames = loop {
        let journal = std::fs::read(data.join("journal.0")).unwrap();
        let frames: Vec<usize> =
            (0..journal.len() - 4).step_by(8).filter(|at| journal[*at..*at + 4] == *b"TLFR").collect();
        if frames.len() == 3 || Instant::now() > deadline {
            break frames;
        }
        tokio::task::yield_now().await;
    };
    // As after a kill: what the files hold while the log is open and idle.
    for name in ["watermark", "epochs", "journal.0", "journal.1", "sled/db", "sled/conf"] {
        std::fs::copy(data.join(name), copy.join(name)).unwrap();
    }
    let file = std::fs::OpenOptions::new().read(true).write(true).open(copy.join("journal.0")).unwrap();
    let at = frames[1] as u64 + 100;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    let refused = open(&options, Arc::new(SystemClock), |a, b| a == b).map(|opened| *opened.log.tail().borrow());
    let refused = refused.expect_err("an acknowledged event was dropped as if it were a torn end").to_string();
    assert!(refused.contains("journal"), "{refused}");
    close(opened).await;
}

/// An event whose routing header takes about 56 KiB, which its revisions take over.
fn event_with_large_header(number: u64) -> NewEvent {
    let plain = event(number);
    let mut header = crate::domain::HeaderRef::parse(&plain.header).unwrap().to_header().unwrap();
    header.event_times_ns = (0..7_000).collect();
    NewEvent { header: header.encode().into(), ..plain }
}

#[tokio::test]
async fn revisions_that_grow_beyond_a_commit_are_refused_and_the_log_goes_on() {
    let case = Case::new();
    let failures = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&failures);
    let fatal = FatalHook::call(move |reason| noted.lock().unwrap().push(reason.to_owned()));
    let options = LogOptions { fatal, ..case.options() };
    let opened = open(&options, Arc::new(SystemClock), |a, b| a == b).unwrap();
    for number in 0..100 {
        let verdicts = opened.log.append(batch(AppendMode::Each, vec![event_with_large_header(number)])).await.unwrap();
        assert!(matches!(verdicts[0], Verdict::Stored(_)));
    }
    let of = |number: u64| Some(RevisionTerm { retract: false, event_id: event(number).event_id });
    let revisions: Vec<NewEvent> = (0..100).map(|number| event_with(1_000 + number, 100, of(number))).collect();
    let refused = opened.log.append(batch(AppendMode::AllOrNothing, revisions.clone())).await;
    assert!(matches!(refused, Err(AppendError::BatchTooLarge { .. })), "{refused:?}");
    assert_eq!(*opened.log.tail().borrow(), Sequence(100), "a refused batch left something behind");
    // The same revisions in smaller batches are taken, which shows that the refused ones left no trace among the identities either.
    for few in revisions.chunks(10) {
        let verdicts = opened.log.append(batch(AppendMode::AllOrNothing, few.to_vec())).await.unwrap();
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Stored(at) if !at.duplicate)), "{verdicts:?}");
    }
    // A revision whose event leaves no room for its predecessor's terms is refused by itself.
    let revises = Some(RevisionTerm { retract: false, event_id: event_with(1_000, 0, None).event_id });
    let large = event_with(2_000, RECORD_BYTES_MAX - 20 * 1024, revises);
    let verdicts = opened.log.append(batch(AppendMode::Each, vec![large])).await.unwrap();
    assert!(matches!(verdicts[0], Verdict::Refused(Refusal::RevisionTooLarge { .. })), "{verdicts:?}");
    close(opened).await;
    assert_eq!(*failures.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn damage_in_sled_is_reported_and_never_served() {
    let case = Case::new();
    let opened = case.open().unwrap();
    append(&opened, 0..20_000).await;
    close(opened).await;
    let path = case.options().data_dir.join("sled/db");
    let whole = std::fs::read(&path).unwrap();
    let mut noticed = 0;
    for round in 0..12 {
        let mut altered = whole.clone();
        let at = whole.len() / 13 * (round + 1);
        altered[at..at + 64].iter_mut().for_each(|byte| *byte ^= 0xa5);
        std::fs::write(&path, &altered).unwrap();
        match case.open() {
            Err(refused) => {
                assert!(!refused.to_string().is_empty());
                noticed += 1;
            }
            Ok(opened) => {
                if read_whole_or_error(&opened, 20_000).await {
                    noticed += 1;
                }
                // Dropped without a clean stop: a log that found damage is not closed in order either.
                close(opened).await;
            }
        }
        restore_directory(&case, &path, &whole);
    }
    assert!(noticed > 0, "no altered byte was noticed: the test altered nothing that counts");
}

/// True where damage was reported; what was served before that must be right.
async fn read_whole_or_error(opened: &OpenedLog, count: u64) -> bool {
    let mut after = Sequence::ZERO;
    loop {
        match opened.log.read(after, 64 * 1024, None).await {
            Err(_) => return true,
            Ok(None) => break,
            Ok(Some(chunk)) => {
                for record in chunk.records.iter() {
                    assert_eq!(record.signed, event(record.sequence.get() - 1).signed, "altered bytes were served");
                }
                after = chunk.through;
            }
        }
    }
    assert_eq!(after, Sequence(count), "events are missing and nothing was reported");
    false
}

fn restore_directory(case: &Case, path: &Path, whole: &[u8]) {
    // sled's snapshot belongs to the file it was made from: without it sled reads the whole file.
    for entry in std::fs::read_dir(case.options().data_dir.join("sled")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    std::fs::write(path, whole).unwrap();
}

#[tokio::test]
async fn a_backup_restores_to_the_same_events_in_a_new_epoch() {
    let case = Case::new();
    let opened = case.open().unwrap();
    append(&opened, 0..9_000).await;
    let mut file = Vec::new();
    opened
        .admin
        .backup(&[], &mut |piece| {
            file.extend_from_slice(&piece.data);
            true
        })
        .unwrap();
    let parent = opened.log.epochs()[0].epoch;
    close(opened).await;

    let to = Case::new();
    let path = to.directory.path().join("backup");
    std::fs::write(&path, &file[..file.len() - 1]).unwrap();
    let cut = restore(&path, &to.options(), &[], &SystemClock).unwrap_err();
    assert!(matches!(cut, RestoreError::NotWhole(_)), "{cut}");
    let again = restore(&path, &to.options(), &[], &SystemClock).unwrap_err();
    assert!(matches!(again, RestoreError::NotEmpty(_)), "{again}");

    std::fs::remove_dir_all(to.options().data_dir).unwrap();
    std::fs::write(&path, &file).unwrap();
    assert_eq!(restore(&path, &to.options(), &[], &SystemClock).unwrap(), Sequence(9_000));
    let opened = to.open().unwrap();
    check(&opened, 9_000).await;
    let epochs = opened.log.epochs();
    assert_eq!((epochs[0].parent, epochs[0].fork), (Some(parent), Sequence(9_000)));
    let again = opened.log.append(batch(AppendMode::Each, vec![event(5)])).await.unwrap();
    assert!(matches!(again[0], Verdict::Stored(at) if at.duplicate && at.sequence == Sequence(6)));
    append(&opened, 9_000..9_100).await;
    close(opened).await;
    let opened = to.open().unwrap();
    check(&opened, 9_100).await;
    close(opened).await;
}
