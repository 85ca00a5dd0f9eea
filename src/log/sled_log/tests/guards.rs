//! Each check that stands between damage and a reader, looked at by itself: where another check stands behind it, a whole log would not
//! notice that this one is gone.

use std::sync::Arc;

use super::*;
use crate::{
    clock::TestClock,
    domain::{
        header::PlaceTerm,
        term::{TermHash, TermKind},
    },
    log::{
        Companion,
        contract::Record,
        sled_log::{directory::Directory, meant, recover::check_last_blocks, shared},
    },
    storage::{
        CHAIN_START,
        state::DurableState,
        store::{PAGE_CACHE_BYTES, Store},
        watermark::WatermarkFile,
    },
};

fn record(sequence: u64, event: &NewEvent) -> Record {
    let (header, signed) = (event.header.clone(), event.signed.clone());
    Record { sequence: Sequence(sequence), accepted_time_ns: 7, origin: None, header, signed }
}

#[test]
fn a_record_is_believed_by_its_header_and_not_by_its_term() {
    let revises_0 = Some(RevisionTerm { retract: false, event_id: event(0).event_id });
    let correction = record(1, &event_with(1, 10, revises_0));
    let other = SpiffeId::parse("spiffe://port.example/terminal/b").unwrap();
    let (own, revised) = (event(1).event_id, event(0).event_id);
    assert!(meant::is_event(&correction, &publisher(), own).unwrap());
    assert!(!meant::is_event(&correction, &publisher(), revised).unwrap());
    assert!(!meant::is_event(&correction, &other, own).unwrap());
    assert!(meant::revises(&correction, publisher().as_str(), revised).unwrap());
    assert!(!meant::revises(&correction, publisher().as_str(), own).unwrap());
    assert!(!meant::revises(&correction, other.as_str(), revised).unwrap());
    assert!(!meant::revises(&record(2, &event(2)), publisher().as_str(), revised).unwrap());
}

#[test]
fn a_block_with_any_byte_altered_is_refused() {
    let records: Vec<Record> = (1..=4).map(|number| record(number, &event(number))).collect();
    let chain_after = codec::chain_over(CHAIN_START, &records);
    let (facts, bytes) = block::encode(&records, CHAIN_START, chain_after);
    assert_eq!(block::OpenBlock::check(&bytes, Sequence(1)).unwrap().facts, facts);
    assert!(block::OpenBlock::check(&bytes, Sequence(2)).is_err(), "a block was taken for another");
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        assert!(block::OpenBlock::check(&altered, Sequence(1)).is_err(), "byte {at}");
    }
}

#[test]
fn a_block_of_an_earlier_program_is_read_as_it_was_written() {
    let records: Vec<Record> = (1..=20).map(|number| record(number, &event(number))).collect();
    let chain_after = codec::chain_over(CHAIN_START, &records);
    let (facts, bytes) = block::encode(&records, CHAIN_START, chain_after);
    let former = block::encode_former(&records, CHAIN_START, chain_after);
    assert_eq!((former[0], bytes[0]), (1, 2));
    let plan_of = |text: &[u8]| vec![vec![vec![TermHash::of(TermKind::Publisher, &[text])]]];
    for bytes in [bytes, former] {
        let block = block::OpenBlock::check(&bytes, Sequence(1)).unwrap();
        assert_eq!(block.facts, facts);
        assert_eq!(format!("{:?}", block.records().unwrap()), format!("{records:?}"));
        assert!(block.may_match(&plan_of(publisher().as_str().as_bytes())));
        assert!(!block.may_match(&plan_of(b"spiffe://port.example/terminal/b")));
    }
}

#[tokio::test]
async fn the_last_block_must_end_where_the_watermark_says() {
    let case = Case::new();
    let opened = case.open().unwrap();
    append(&opened, 0..4_000).await;
    close(opened).await;
    let (_, mut watermark) = WatermarkFile::open(&case.options().data_dir).unwrap().unwrap();
    let (store, _writer) = Store::open(&case.options().data_dir, PAGE_CACHE_BYTES).unwrap();
    let directory = Directory::load(&store, watermark.first_retained, watermark.stored_through).unwrap();
    assert!(directory.rows().len() > 1, "the test needs blocks in sled");
    check_last_blocks(&store, &directory, &watermark).unwrap();
    watermark.chain[0] ^= 1;
    let refused = check_last_blocks(&store, &directory, &watermark).unwrap_err().to_string();
    assert!(refused.contains("not the one that the watermark promises"), "{refused}");
}

#[tokio::test]
async fn a_kill_after_a_clean_stop_loses_nothing_that_came_between() {
    let case = Case::new();
    let opened = case.open().unwrap();
    append(&opened, 0..10).await;
    close(opened).await;
    let opened = case.open().unwrap();
    append(&opened, 10..30).await;
    // As after a kill: what the files hold while the log is open.
    let killed = Case::new();
    let (from, to) = (case.options().data_dir, killed.options().data_dir);
    std::fs::create_dir_all(to.join("sled")).unwrap();
    for name in ["watermark", "epochs", "journal.0", "journal.1", "sled/db", "sled/conf"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
    close(opened).await;
    let opened = killed.open().unwrap();
    check(&opened, 30).await;
    close(opened).await;
}

#[test]
fn nothing_beyond_the_durable_end_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _writer) = Store::open(directory.path(), PAGE_CACHE_BYTES).unwrap();
    let mut tail = shared::Tail::default();
    tail.extend((1..=5).map(|number| (record(number, &event(number)), CHAIN_START)));
    let epochs = (publisher(), Arc::from([]));
    let places = (Sequence(1), Sequence::ZERO);
    let state = DurableState::default();
    let shared = shared::Shared::new(store, Directory::default(), tail, epochs, places, 1 << 20, state);
    shared.durable.send_replace(Sequence(3));
    let chunk = shared.read(Sequence::ZERO, usize::MAX, None).unwrap().unwrap();
    assert_eq!((chunk.records.len(), chunk.through), (3, Sequence(3)));
    assert!(shared.read(Sequence(3), usize::MAX, None).unwrap().is_none());
    assert!(shared.record(Sequence(4)).unwrap().is_none());
}

#[tokio::test]
async fn blocks_are_skipped_by_their_fingerprints_and_no_match_is_missed() {
    let case = Case::new();
    let opened = case.open().unwrap();
    let place = PlaceTerm {
        role: 1,
        kind: 1,
        un_locode: "PKKHI".into(),
        country_code: "PK".into(),
        facility_scheme: 0,
        facility_code: String::new(),
    };
    append(&opened, 0..2_000).await;
    let plain = event(2_000);
    let mut header = crate::domain::HeaderRef::parse(&plain.header).unwrap().to_header().unwrap();
    header.places = vec![place];
    let marked = NewEvent { header: header.encode().into(), ..plain };
    opened.log.append(batch(AppendMode::Each, vec![marked])).await.unwrap();
    append(&opened, 2_001..8_000).await;
    close(opened).await;
    let opened = case.open().unwrap();
    let plan = Arc::new(vec![vec![vec![TermHash::of(TermKind::Locode, &[b"PKKHI"])]]]);
    let (mut after, mut returned, mut found) = (Sequence::ZERO, 0, false);
    while let Some(chunk) = opened.log.read(after, 64 * 1024, Some(Arc::clone(&plan))).await.unwrap() {
        assert!(chunk.through > after, "a reader of nothing still moves on");
        returned += chunk.records.len();
        found |= chunk.records.iter().any(|record| record.sequence == Sequence(2_001));
        after = chunk.through;
    }
    assert_eq!(after, Sequence(8_000));
    assert!(found, "the one match was skipped");
    assert!(returned < 4_000, "{returned} of 8,000 events were returned for one match");
    close(opened).await;
}

#[tokio::test]
async fn the_first_event_since_a_time_is_found_in_blocks_and_in_the_tail() {
    let case = Case::new();
    let clock = Arc::new(TestClock::at_ns(1_000));
    let opened = open(&case.options(), Arc::clone(&clock) as Arc<_>, |a, b| a == b).unwrap();
    for first in (0..3_000).step_by(100) {
        append(&opened, first..first + 100).await;
        clock.advance_ns(10);
    }
    close(opened).await;
    let (_, watermark) = WatermarkFile::open(&case.options().data_dir).unwrap().unwrap();
    let stored = watermark.stored_through.get();
    assert!(stored > 300 && stored < 3_000, "the test needs events on both sides of the watermark, not {stored}");
    let opened = open(&case.options(), clock, |a, b| a == b).unwrap();
    for hundred in 0..30 {
        let accepted_ns = 1_000 + hundred * 10;
        let first = Sequence(hundred as u64 * 100 + 1);
        assert_eq!(opened.log.first_accepted_since(accepted_ns).await.unwrap(), first);
        assert_eq!(opened.log.first_accepted_since(accepted_ns - 9).await.unwrap(), first);
    }
    assert_eq!(opened.log.first_accepted_since(i64::MAX).await.unwrap(), Sequence(3_001));
    close(opened).await;
}

/// A backup's sections, head and all.
fn sections(file: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut found = Vec::new();
    let mut at = 12;
    while at < file.len() {
        let length = u32::from_le_bytes(file[at + 1..at + 5].try_into().unwrap()) as usize;
        found.push(file[at..at + 9 + length].to_vec());
        at += 9 + length;
    }
    (file[..12].to_vec(), found)
}

/// Larger than one section takes.
fn companions() -> [Companion; 2] {
    let large = (0..700_000_u32).map(|number| (number % 251) as u8).collect();
    [Companion { name: "beside.json", bytes: large }, Companion { name: "second.json", bytes: Vec::new() }]
}

async fn backup_of(content: u8) -> Vec<u8> {
    let case = Case::new();
    let opened = case.open().unwrap();
    for number in 0..300 {
        let same_length = NewEvent { signed: vec![content; 400].into(), ..event(number) };
        opened.log.append(batch(AppendMode::Each, vec![same_length])).await.unwrap();
    }
    let mut file = Vec::new();
    opened
        .admin
        .backup(&companions(), &mut |piece| {
            file.extend_from_slice(&piece.data);
            true
        })
        .unwrap();
    close(opened).await;
    file
}

fn restore_refused(file: &[u8]) -> String {
    let case = Case::new();
    let path = case.directory.path().join("backup");
    std::fs::write(&path, file).unwrap();
    restore(&path, &case.options(), &["beside.json", "second.json"], &SystemClock)
        .expect_err("a backup that is not whole was restored")
        .to_string()
}

#[tokio::test]
async fn a_backup_that_was_tampered_with_restores_nothing() {
    let (head, of_a) = sections(&backup_of(b'a').await);
    let (_, of_b) = sections(&backup_of(b'b').await);
    assert!(of_a.len() > 4 && of_a.len() == of_b.len(), "the test needs several blocks in each");
    // Whole by itself, in its place, and of another log.
    let mut spliced = of_a.clone();
    spliced[2].clone_from(&of_b[2]);
    let refused = restore_refused(&[head.clone(), spliced.concat()].concat());
    assert!(refused.contains("the chain of hashes breaks"), "{refused}");
    let mut flipped = of_a.clone();
    flipped[2][200] ^= 1;
    let refused = restore_refused(&[head.clone(), flipped.concat()].concat());
    assert!(refused.contains("a section is altered"), "{refused}");
    for left_out in [3, of_a.len() - 2, of_a.len() - 3] {
        let mut shorter = of_a.clone();
        shorter.remove(left_out);
        restore_refused(&[head.clone(), shorter.concat()].concat());
    }
}

#[tokio::test]
async fn the_files_beside_the_log_come_back_with_it_and_those_that_are_not_known_are_refused() {
    let backup = backup_of(b'a').await;
    let case = Case::new();
    let path = case.directory.path().join("backup");
    std::fs::write(&path, backup).unwrap();
    let refused = restore(&path, &case.options(), &["beside.json"], &SystemClock).unwrap_err().to_string();
    assert!(refused.contains("that this program does not know"), "{refused}");
    std::fs::remove_dir_all(case.options().data_dir).unwrap();
    restore(&path, &case.options(), &["second.json", "beside.json"], &SystemClock).unwrap();
    for Companion { name, bytes } in companions() {
        assert_eq!(std::fs::read(case.options().data_dir.join(name)).unwrap(), bytes, "{name}");
    }
}
