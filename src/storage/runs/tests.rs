//! An index against a sorted list: whatever was written, merged, removed or reopened, it answers the same.

use std::{collections::BTreeSet, sync::atomic::AtomicUsize};

use super::*;
use crate::storage::store::{PAGE_CACHE_BYTES, SLICE_BYTES_MAX, Store};

const FAMILY: u32 = 7;

struct Case {
    _directory: tempfile::TempDir,
    store: Store,
    writer: Writer,
    index: Arc<RunFamily>,
    model: BTreeSet<Entry>,
    through: u64,
}

impl Case {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (store, writer) = Store::open(directory.path(), PAGE_CACHE_BYTES).unwrap();
        let index = RunFamily::open(&store, FAMILY, 64, FatalHook::abort()).unwrap();
        Self { _directory: directory, store, writer, index, model: BTreeSet::default(), through: 0 }
    }

    fn add(&mut self, terms: &[u64]) {
        self.through += 1;
        let entries: Vec<Entry> = terms.iter().map(|term| (TermHash(*term), Sequence(self.through))).collect();
        self.index.add(&entries, Sequence(self.through));
        self.model.extend(entries);
    }

    fn maintain(&mut self) {
        while self.index.maintain(&mut self.writer).unwrap() {}
    }

    fn reopen(&mut self) {
        self.index.freeze();
        self.maintain();
        self.index = RunFamily::open(&self.store, FAMILY, 64, FatalHook::abort()).unwrap();
        assert_eq!(self.index.complete_through(), Sequence(self.through));
    }

    fn check(&self) {
        for term in 0..12 {
            // Fewer before more: what was cut off is not taken for all that there is.
            let half = self.through / 2;
            for (before, count_max) in
                [(u64::MAX, 20), (300, 20), (half, 20), (10, 20), (u64::MAX, 40), (u64::MAX, 1_000_000)]
            {
                let (before, term) = (Sequence(before), TermHash(term));
                let within = self.model.iter().filter(|(of, at)| *of == term && *at < before);
                let all: Vec<Sequence> = within.map(|(_, at)| *at).collect();
                let found = self.index.all_places(term, before, count_max).unwrap();
                assert_eq!(found, Some(all).filter(|all| all.len() <= count_max), "{before} {count_max}");
            }
            let narrow = (0..self.through).step_by(97).map(|after| (after, after + 30));
            for (after, before) in [(0, u64::MAX), (10, 300), (half, self.through)].into_iter().chain(narrow) {
                for limit in [1, 7, usize::MAX] {
                    let (after, before, term) = (Sequence(after), Sequence(before), TermHash(term));
                    let within = self.model.iter().filter(|(of, at)| *of == term && *at > after && *at < before);
                    let all: Vec<Sequence> = within.map(|(_, at)| *at).collect();
                    let ascending: Vec<_> = all.iter().copied().take(limit).collect();
                    let descending: Vec<_> = all.iter().rev().copied().take(limit).collect();
                    assert_eq!(self.index.lookup(term, after, before, false, limit).unwrap(), ascending);
                    assert_eq!(self.index.lookup(term, after, before, true, limit).unwrap(), descending);
                }
            }
        }
    }
}

#[test]
fn an_index_answers_the_same_whatever_work_was_done() {
    let seed = 20_261_123;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut case = Case::new();
    for round in 0..1_500 {
        let terms: Vec<u64> = (0..random.u64(0..4)).map(|_| random.u64(0..10)).collect();
        case.add(&terms);
        match random.u8(..) {
            0..60 => drop(case.index.maintain(&mut case.writer).unwrap()),
            60..62 => case.maintain(),
            62 => case.reopen(),
            _ => {}
        }
        if round % 250 == 0 {
            case.check();
        }
    }
    case.check();
    case.reopen();
    case.check();
    assert_eq!(case.index.verify().unwrap(), Vec::<String>::new());
    assert!(case.index.estimate(TermHash(3)) > 0, "seed {seed}");
    assert_eq!(case.index.estimate(TermHash(99)), 0);
}

/// A hook that counts how often it was told.
fn counting() -> (FatalHook, Arc<AtomicUsize>) {
    let told = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&told);
    let count = move |_: &str| {
        counted.fetch_add(1, Ordering::Relaxed);
    };
    (FatalHook::call(count), told)
}

#[test]
fn a_damaged_part_is_an_error_and_never_absence() {
    let mut case = Case::new();
    (0..200).for_each(|_| case.add(&[1, 2, 3]));
    case.reopen();
    let run = case.index.read().runs[0].number;
    case.writer.put(&keys::run_part(FAMILY, run, 0), b"altered").unwrap();
    let (hook, told) = counting();
    let index = RunFamily::open(&case.store, FAMILY, 64, hook).unwrap();
    let refused = index.lookup(TermHash(1), Sequence::ZERO, Sequence(u64::MAX), false, 9).unwrap_err();
    assert!(refused.to_string().contains("altered part"), "{refused}");
    assert_eq!(told.load(Ordering::Relaxed), 1, "whoever can end the process must be told");
    assert_eq!(index.verify().unwrap().len(), 1);
}

#[test]
fn what_is_examined_is_sound_up_to_the_first_damage() {
    let mut case = Case::new();
    // Nine runs: eight that were merged into one, and one beside it.
    for _ in 0..9 {
        (0..60).for_each(|_| case.add(&[1, 2, 3]));
        case.reopen();
    }
    let runs = case.index.read().runs.clone();
    assert_eq!(runs.len(), 2, "the test needs two runs");
    let whole = examine(&case.store, FAMILY, u64::MAX).unwrap();
    assert_eq!((whole.damage, whole.sound.len()), (None, 2));
    let harms: [(&str, &[u8]); 2] = [("altered part", b"altered"), ("another's place", &foreign_part())];
    for (words, harm) in harms {
        for (run, sound) in [(&runs[1], 1), (&runs[0], 0)] {
            let key = keys::run_part(FAMILY, run.number, 0);
            let before = case.store.get(&key).unwrap().unwrap();
            case.writer.put(&key, harm).unwrap();
            let found = examine(&case.store, FAMILY, u64::MAX).unwrap();
            assert!(found.damage.as_deref().is_some_and(|said| said.contains(words)), "{:?}", found.damage);
            assert_eq!(found.sound.len(), sound, "{words}");
            case.writer.put(&key, &before).unwrap();
        }
    }
    // Each run has one part: so few are looked at that the older run is passed over.
    case.writer.put(&keys::run_part(FAMILY, runs[0].number, 0), b"altered").unwrap();
    assert_eq!(examine(&case.store, FAMILY, 1).unwrap().damage, None);
    case.writer.put(&keys::run_part(FAMILY, runs[1].number, run::META_PARTS), b"altered").unwrap();
    let found = examine(&case.store, FAMILY, 0).unwrap();
    assert!(found.damage.is_some_and(|said| said.contains("altered description")));
    assert_eq!(found.sound.len(), 1);
}

/// A part that is whole, and not of any run here.
fn foreign_part() -> Vec<u8> {
    let mut builder = part::PartBuilder::default();
    builder.add((TermHash(9), Sequence(9)));
    builder.finish().unwrap().2
}

#[test]
fn sound_runs_go_to_another_database_and_the_rest_is_added_again() {
    let mut case = Case::new();
    for _ in 0..9 {
        (0..60).for_each(|_| case.add(&[1, 2, 3]));
        case.reopen();
    }
    let runs = case.index.read().runs.clone();
    case.writer.delete(&keys::run_part(FAMILY, runs[1].number, 0)).unwrap();
    let other = tempfile::tempdir().unwrap();
    let (store, mut writer) = Store::open(other.path(), PAGE_CACHE_BYTES).unwrap();
    let found = examine(&case.store, FAMILY, u64::MAX).unwrap();
    assert!(found.damage.as_deref().is_some_and(|said| said.contains("lost a part")), "{:?}", found.damage);
    found.copy(&case.store, &mut writer).unwrap();
    case.index = RunFamily::open(&store, FAMILY, 64, FatalHook::abort()).unwrap();
    (case.store, case.writer) = (store, writer);
    assert_eq!(case.index.complete_through(), runs[0].through);
    for number in runs[0].through.get() + 1..=case.through {
        let entries: Vec<Entry> = [1, 2, 3].map(|term| (TermHash(term), Sequence(number))).into();
        case.index.add(&entries, Sequence(number));
    }
    case.check();
    case.reopen();
    case.check();
    assert_eq!(case.index.verify().unwrap(), Vec::<String>::new());
}

#[test]
fn a_damaged_manifest_is_no_empty_index() {
    let mut case = Case::new();
    (0..200).for_each(|_| case.add(&[1]));
    case.reopen();
    case.writer.put(&keys::manifest(FAMILY), b"altered").unwrap();
    let refused = RunFamily::open(&case.store, FAMILY, 64, FatalHook::abort()).unwrap_err();
    assert!(refused.is_damage(), "{refused}");
    let found = examine(&case.store, FAMILY, 0).unwrap();
    assert!(found.damage.is_some() && found.sound.is_empty(), "{:?}", found.damage);
}

#[test]
fn an_emptied_index_is_empty_and_fills_again() {
    let mut case = Case::new();
    (0..200).for_each(|_| case.add(&[1, 2]));
    case.maintain();
    case.check();
    case.index.clear(&mut case.writer).unwrap();
    case.model.clear();
    case.through = 0;
    case.check();
    (0..100).for_each(|_| case.add(&[1, 2]));
    case.maintain();
    case.check();
}

#[test]
fn a_verification_beside_a_merge_finds_no_damage() {
    let mut case = Case::new();
    for _ in 0..8 {
        (0..60).for_each(|_| case.add(&[1, 2, 3]));
        // One run, and no merge yet.
        case.index.freeze();
        case.index.maintain(&mut case.writer).unwrap();
    }
    let before = case.index.run_numbers();
    assert_eq!(before.len(), 8, "the test needs runs that wait for their merge");
    // Before the first part is read all runs are merged into one and their parts are removed.
    let (index, writer) = (Arc::clone(&case.index), &mut case.writer);
    let problems = index.verify_beside(|| while index.maintain(writer).unwrap() {}).unwrap();
    assert_eq!(problems, Vec::<String>::new());
    assert!(case.index.run_numbers().iter().all(|number| !before.contains(number)), "nothing was merged beside it");
    case.check();
}

#[test]
fn work_is_synced_in_slices() {
    let mut case = Case::new();
    case.index = RunFamily::open(&case.store, FAMILY, 1 << 20, FatalHook::abort()).unwrap();
    // Terms that nothing is common to, as those of events are: runs that merged take more than two slices.
    let mut random = fastrand::Rng::with_seed(20_261_127);
    for _ in 0..8 {
        case.through += 1;
        let at = Sequence(case.through);
        let entries: Vec<Entry> = (0..24_000).map(|_| (TermHash(random.u64(..)), at)).collect();
        case.index.add(&entries, at);
        case.index.freeze();
        case.index.maintain(&mut case.writer).unwrap();
        assert_eq!(case.writer.unsynced_bytes(), 0);
    }
    let before = case.index.run_numbers();
    assert_eq!(before.len(), 8, "the test needs runs that wait for their merge");
    // The writer sees to it that no slice grows beyond its limit; here each must end synced, in step after step.
    let mut steps = 0;
    while case.index.run_numbers() == before {
        assert!(case.index.maintain(&mut case.writer).unwrap());
        assert_eq!(case.writer.unsynced_bytes(), 0, "after step {steps}");
        steps += 1;
    }
    assert!(2 < steps, "the test needs a merge of several slices");
    // What was merged goes, and at last the large run itself.
    case.index.clear(&mut case.writer).unwrap();
    for _ in 0..9 {
        assert!(case.index.remove_dead(&mut case.writer).unwrap());
        assert_eq!(case.writer.unsynced_bytes(), 0);
    }
    assert!(!case.index.remove_dead(&mut case.writer).unwrap());
    assert_eq!(case.store.scan(b"").count(), 1, "nothing is left but the manifest");
}

#[test]
fn the_description_of_a_large_run_is_synced_in_slices() {
    let mut case = Case::new();
    // So many terms need the largest filter: twice what a slice may hold.
    let terms = 900_000;
    let mut output = run::RunWriter::new(FAMILY, 1, 0, Sequence(1));
    for term in 1..=terms {
        output.add((TermHash(term), Sequence(1)), &mut case.writer).unwrap();
        if case.writer.slice_is_full() {
            case.writer.sync(SyncReason::Runs).unwrap();
        }
    }
    let run = output.finish(&mut case.writer).unwrap();
    assert!(case.writer.unsynced_bytes() <= SLICE_BYTES_MAX);
    case.writer.sync(SyncReason::Runs).unwrap();
    let opened = Run::open(&case.store, FAMILY, 1, 0, run.meta_pieces).unwrap();
    assert_eq!((opened.entries, opened.through), (terms, Sequence(1)));
    assert!(SLICE_BYTES_MAX < opened.filter_bytes(), "the test needs a filter that no slice can hold");
}

#[test]
fn a_filter_takes_room_for_the_terms_of_a_run_and_not_for_its_entries() {
    let mut case = Case::new();
    let mut output = run::RunWriter::new(FAMILY, 1, 0, Sequence(100_000));
    for (term, place) in (0..10).flat_map(|term| (1..=10_000).map(move |place| (term, place))) {
        output.add((TermHash(term), Sequence(place)), &mut case.writer).unwrap();
    }
    let run = output.finish(&mut case.writer).unwrap();
    assert_eq!(run.filter_bytes(), 1_024, "the smallest filter has room for ten terms");
}

#[test]
fn a_merge_waits_for_room_and_runs_are_written_all_the_same() {
    let mut case = Case::new();
    case.store.keep_free(u64::MAX);
    for _ in 0..9 {
        (0..60).for_each(|_| case.add(&[1, 2, 3]));
        case.reopen();
    }
    assert_eq!(case.index.run_numbers().len(), 9, "runs were merged on a full disk, or not written");
    case.check();
    case.store.keep_free(0);
    case.maintain();
    assert_eq!(case.index.run_numbers().len(), 2, "runs are not merged though there is room");
    case.check();
}
