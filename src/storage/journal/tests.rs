//! Torn ends are dropped, damage is reported, halves are freed only when sled has what they hold.

use std::{
    fs::OpenOptions,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{domain::Epoch, storage::CHAIN_START};

const EPOCH: Epoch = Epoch(Uuid::from_u128(7));

fn start() -> HalfStart {
    HalfStart { generation: 1, base: Sequence(1), chain: CHAIN_START, epoch: EPOCH, salt: 100, next_salt: 101 }
}

fn created() -> (tempfile::TempDir, Journal) {
    let directory = tempfile::tempdir().unwrap();
    Journal::create(directory.path(), HALF_BYTES_MIN, &start()).unwrap();
    let journal = replay(directory.path(), EPOCH, None).unwrap().journal;
    (directory, journal)
}

fn facts(journal: &Journal, first: u64, count: u32) -> FrameFacts {
    FrameFacts { salt: journal.salt(), first: Sequence(first), count, state_bytes: 0, chain_before: CHAIN_START }
}

fn commit(journal: &mut Journal, first: u64, count: u32, payload_bytes: usize) {
    let mut frame = vec![0; FRAME_HEADER_BYTES];
    frame.extend((0..payload_bytes).map(|at| (at as u64 ^ first) as u8));
    let facts = facts(journal, first, count);
    seal(&mut frame, &facts);
    journal.write(&frame, facts.last(), None).unwrap();
}

fn stored_through(through: u64) -> Stored {
    Stored { through: Sequence(through), state_frames: 0 }
}

/// A commit of state alone, with this number.
fn commit_state(journal: &mut Journal, next: u64, number: u64, state: &[u8]) {
    let mut frame = vec![0; FRAME_HEADER_BYTES];
    frame.extend(state);
    let facts = FrameFacts { state_bytes: state.len() as u32, ..facts(journal, next, 0) };
    seal(&mut frame, &facts);
    journal.write(&frame, Sequence(next - 1), Some(number)).unwrap();
}

fn alter(directory: &Path, half: usize, offset: u64, bytes: &[u8]) {
    let path: PathBuf = directory.join(FILE_NAMES[half]);
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

#[test]
fn what_was_committed_comes_back_and_writing_goes_on() {
    let (directory, mut journal) = created();
    commit(&mut journal, 1, 3, 500);
    commit(&mut journal, 4, 1, 77);
    drop(journal);
    let mut replayed = replay(directory.path(), EPOCH, None).unwrap();
    let firsts: Vec<u64> = replayed.frames.iter().map(|frame| frame.facts.first.get()).collect();
    assert_eq!((firsts, replayed.through, replayed.torn_bytes), (vec![1, 4], Sequence(4), 0));
    assert_eq!(replayed.frames[1].payload.len(), 77);
    commit(&mut replayed.journal, 5, 2, 10);
    assert_eq!(replay(directory.path(), EPOCH, None).unwrap().through, Sequence(6));
}

#[test]
fn halves_take_turns_and_only_freed_ones_are_overwritten() {
    let (directory, mut journal) = created();
    let mut next = 1;
    for generation in 2..6 {
        while journal.has_room(1024 * 1024) {
            commit(&mut journal, next, 10, 1024 * 1024 - FRAME_HEADER_BYTES);
            next += 10;
        }
        let is_first = generation == 2;
        assert_eq!(
            journal.may_switch(Stored::default()),
            is_first,
            "only the half that was never used is free without sled"
        );
        journal.switch(Sequence(next), CHAIN_START, 100 + generation, stored_through(next - 1)).unwrap();
        let replayed = replay(directory.path(), EPOCH, None).unwrap();
        assert_eq!(replayed.through, Sequence(next - 1));
        assert_eq!(replayed.journal.generation(), generation);
    }
}

#[test]
fn a_torn_end_is_dropped_and_overwritten() {
    let (directory, mut journal) = created();
    commit(&mut journal, 1, 1, 100);
    let end = journal.offset;
    commit(&mut journal, 2, 5, 9000);
    drop(journal);
    // The first page of the last frame reached the disk, the second did not.
    alter(directory.path(), 0, end + 5000, &[0; 2000]);
    let mut replayed = replay(directory.path(), EPOCH, None).unwrap();
    assert_eq!((replayed.through, replayed.torn_bytes), (Sequence(1), 9000 + FRAME_HEADER_BYTES as u64));
    commit(&mut replayed.journal, 2, 1, 50);
    assert_eq!(replay(directory.path(), EPOCH, None).unwrap().through, Sequence(2));
}

#[test]
fn a_settled_mark_turns_a_bad_last_frame_into_damage() {
    let (directory, mut journal) = created();
    commit(&mut journal, 1, 2, 300);
    let next = facts(&journal, 3, 0);
    journal.mark_settled(&next).unwrap();
    assert_eq!(replay(directory.path(), EPOCH, None).unwrap().through, Sequence(2));
    alter(directory.path(), 0, HALF_HEADER_BYTES + 200, &[0xee]);
    let refused = replay(directory.path(), EPOCH, None).unwrap_err().to_string();
    assert!(refused.contains("sequence 1 cannot be read"), "{refused}");
}

/// Whether its end or its beginning is lost, and whether it brings events or state: what a disk loses at once never takes the mark too.
#[test]
fn a_lost_page_of_the_last_frame_is_damage_wherever_the_frame_ends() {
    for (state, bytes) in
        [false, true].into_iter().flat_map(|state| (200..8_600).step_by(700).map(move |bytes| (state, bytes)))
    {
        let (directory, mut journal) = created();
        commit(&mut journal, 1, 1, 100);
        let begin = journal.offset;
        if state {
            commit_state(&mut journal, 2, 1, &vec![7; bytes]);
        } else {
            commit(&mut journal, 2, 1, bytes);
        }
        let (next, end) = (facts(&journal, if state { 2 } else { 3 }, 0), journal.offset);
        journal.mark_settled(&next).unwrap();
        let whole = std::fs::read(directory.path().join(FILE_NAMES[0])).unwrap();
        for page in (begin / 4096)..end.div_ceil(4096) {
            // The frame before stands on the first page too; it must not be what is missed.
            let lost = (page * 4096).max(begin)..(page + 1) * 4096;
            alter(directory.path(), 0, lost.start, &vec![0; (lost.end - lost.start) as usize]);
            let said = replay(directory.path(), EPOCH, None).err().map(|refused| refused.to_string());
            let said = said.unwrap_or_else(|| panic!("{bytes} bytes, {lost:?} lost: nothing is said"));
            assert!(said.contains("a mark says that it was durable"), "{said}");
            alter(directory.path(), 0, lost.start, &whole[lost.start as usize..lost.end as usize]);
        }
        replay(directory.path(), EPOCH, None).unwrap();
    }
}

/// Frames that are too short to reach the mark of an earlier one leave it where it is.
#[test]
fn a_mark_that_frames_have_left_behind_means_nothing() {
    let (directory, mut journal) = created();
    for number in 1..=9 {
        commit(&mut journal, number, 1, 300);
        if number % 4 == 0 {
            let next = facts(&journal, number + 1, 0);
            journal.mark_settled(&next).unwrap();
        }
        let replayed = replay(directory.path(), EPOCH, None).unwrap();
        assert_eq!((replayed.through, replayed.torn_bytes), (Sequence(number), 0));
    }
    // The last one was begun and never finished, though a mark of the one before stands behind it.
    let end = journal.offset;
    let next = facts(&journal, 10, 0);
    journal.mark_settled(&next).unwrap();
    commit(&mut journal, 10, 1, 300);
    alter(directory.path(), 0, end + 200, &[0; 100]);
    let mut replayed = replay(directory.path(), EPOCH, None).unwrap();
    assert_eq!((replayed.through, replayed.torn_bytes), (Sequence(9), 0));
    commit(&mut replayed.journal, 10, 1, 50);
    assert_eq!(replay(directory.path(), EPOCH, None).unwrap().through, Sequence(10));
}

/// As every version before wrote them.
#[test]
fn a_mark_without_a_payload_vouches_for_the_frame_right_before_it() {
    let (directory, mut journal) = created();
    commit(&mut journal, 1, 2, 300);
    let next = facts(&journal, 3, 0);
    let mut mark = [0; FRAME_HEADER_BYTES];
    mark.copy_from_slice(&frame::settled_mark(&next, 0)[..FRAME_HEADER_BYTES]);
    mark[28..32].fill(0);
    let crc = crc32fast::hash(&mark[8..]);
    mark[4..8].copy_from_slice(&crc.to_le_bytes());
    alter(directory.path(), 0, journal.offset, &mark);
    let end = journal.end(Sequence(2));
    assert_eq!(replay(directory.path(), EPOCH, Some(end)).unwrap().through, Sequence(2));
    alter(directory.path(), 0, HALF_HEADER_BYTES + 200, &[0xee]);
    let refused = replay(directory.path(), EPOCH, None).unwrap_err().to_string();
    assert!(refused.contains("sequence 1 cannot be read"), "{refused}");
}

#[test]
fn after_a_clean_stop_nothing_may_be_missing() {
    let (directory, mut journal) = created();
    commit(&mut journal, 1, 2, 300);
    let end = journal.end(Sequence(2));
    assert_eq!(replay(directory.path(), EPOCH, Some(end)).unwrap().through, Sequence(2));
    alter(directory.path(), 0, HALF_HEADER_BYTES + 200, &[0xee]);
    let refused = replay(directory.path(), EPOCH, Some(end)).unwrap_err().to_string();
    assert!(refused.contains("in order through sequence 2"), "{refused}");
}

#[test]
fn a_header_torn_by_a_switch_is_no_damage_and_a_lost_one_is() {
    let (directory, mut journal) = created();
    commit(&mut journal, 1, 2, 300);
    journal.switch(Sequence(3), CHAIN_START, 102, Stored::default()).unwrap();
    alter(directory.path(), 1, 20, &[0xee]);
    let mut replayed = replay(directory.path(), EPOCH, None).unwrap();
    assert_eq!((replayed.through, replayed.journal.generation()), (Sequence(2), 1));
    replayed.journal.switch(Sequence(3), CHAIN_START, 102, Stored::default()).unwrap();
    commit(&mut replayed.journal, 3, 1, 10);
    alter(directory.path(), 1, 20, &[0xee]);
    let refused = replay(directory.path(), EPOCH, None).unwrap_err().to_string();
    assert!(refused.contains("lost its header"), "{refused}");
}

#[test]
fn another_epochs_journal_is_refused() {
    let (directory, _) = created();
    let refused = replay(directory.path(), Epoch(Uuid::from_u128(8)), None).unwrap_err().to_string();
    assert!(refused.contains("belongs to the epoch"), "{refused}");
}

#[test]
fn state_stands_between_events_and_keeps_its_half_until_sled_has_it() {
    let (directory, mut journal) = created();
    commit(&mut journal, 1, 2, 300);
    commit_state(&mut journal, 3, 1, b"one");
    commit(&mut journal, 3, 1, 30);
    commit_state(&mut journal, 4, 2, b"second");
    journal.switch(Sequence(4), CHAIN_START, 102, Stored::default()).unwrap();
    let has = |state_frames| Stored { through: Sequence(3), state_frames };
    assert!(!journal.may_switch(has(1)) && journal.may_switch(has(2)), "state that sled has not would be overwritten");
    commit_state(&mut journal, 4, 3, b"third");
    let replayed = replay(directory.path(), EPOCH, None).unwrap();
    let state: Vec<_> = replayed.frames.iter().filter_map(ReplayedFrame::state).collect();
    assert_eq!(state, [&b"one"[..], b"second", b"third"]);
    assert_eq!((replayed.through, replayed.frames.len()), (Sequence(3), 5));
    assert!(!replayed.journal.may_switch(has(1)) && replayed.journal.may_switch(has(2)));
}

#[test]
fn a_torn_commit_of_state_is_dropped_whole() {
    let (directory, mut journal) = created();
    commit_state(&mut journal, 1, 1, b"kept");
    let end = journal.offset;
    commit_state(&mut journal, 1, 2, &[7; 6000]);
    alter(directory.path(), 0, end + 5000, &[0; 100]);
    let replayed = replay(directory.path(), EPOCH, None).unwrap();
    let state: Vec<_> = replayed.frames.iter().filter_map(ReplayedFrame::state).collect();
    assert_eq!(state, [&b"kept"[..]]);
    assert!(replayed.torn_bytes > 6000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Wherever bytes before the last frame are altered, the start is refused or nothing changes; nothing altered is ever given out.
    #[test]
    fn altered_bytes_are_never_given_out(at in 16_u64..6000, altered in 1_u8..) {
        let (directory, mut journal) = created();
        let mut ends = vec![HALF_HEADER_BYTES];
        for first in 0..4 {
            commit(&mut journal, first + 1, 1, 400);
            ends.push(journal.offset);
        }
        let before: Vec<_> = replay(directory.path(), EPOCH, None).unwrap().frames.into_iter().map(|frame| frame.payload).collect();
        drop(journal);
        let path = directory.path().join(FILE_NAMES[0]);
        let mut byte = [0];
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ altered], at).unwrap();
        match replay(directory.path(), EPOCH, None) {
            Err(StorageError::Damaged(_)) => {}
            Err(other) => prop_assert!(false, "{other}"),
            Ok(replayed) => {
                let in_last = at >= ends[3] && at < ends[4];
                prop_assert_eq!(replayed.frames.len(), if in_last { 3 } else { 4 });
                for (frame, payload) in replayed.frames.iter().zip(before) {
                    prop_assert_eq!(&frame.payload, &payload);
                }
            }
        }
    }
}

#[test]
fn a_half_that_was_cut_off_anywhere_is_damage() {
    for (half, cut_bytes) in
        [(0, 0), (0, 50), (0, 3800), (0, HALF_BYTES_MIN - 1), (1, 0), (1, 4096), (1, HALF_BYTES_MIN - 1)]
    {
        let (directory, mut journal) = created();
        commit(&mut journal, 1, 3, 500);
        drop(journal);
        let path = directory.path().join(FILE_NAMES[half]);
        OpenOptions::new().write(true).open(path).unwrap().set_len(cut_bytes).unwrap();
        let said = replay(directory.path(), EPOCH, None).unwrap_err().to_string();
        let is_named = said.contains(FILE_NAMES[half]) || said.contains("no half whose header is whole");
        assert!(is_named, "half {half} cut at {cut_bytes}: {said}");
    }
    let (directory, journal) = created();
    drop(journal);
    for name in FILE_NAMES {
        OpenOptions::new().write(true).open(directory.path().join(name)).unwrap().set_len(HALF_HEADER_BYTES).unwrap();
    }
    let said = replay(directory.path(), EPOCH, None).unwrap_err().to_string();
    assert!(said.contains("cut off"), "{said}");
}
