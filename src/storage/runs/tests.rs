//! An index against a sorted list: whatever was written, merged, removed or reopened, it answers the same.

use super::*;
use crate::storage::store::{PAGE_CACHE_BYTES, Store};

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
        let index = RunFamily::open(&store, FAMILY, 64).unwrap();
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
        self.index = RunFamily::open(&self.store, FAMILY, 64).unwrap();
        assert_eq!(self.index.complete_through(), Sequence(self.through));
    }

    fn check(&self) {
        for term in 0..12 {
            for (after, before) in [(0, u64::MAX), (10, 300), (self.through / 2, self.through)] {
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

#[test]
fn a_damaged_part_is_an_error_and_never_absence() {
    let mut case = Case::new();
    (0..200).for_each(|_| case.add(&[1, 2, 3]));
    case.reopen();
    let run = case.index.read().runs[0].number;
    case.writer.put(&keys::run_part(FAMILY, run, 0), b"altered").unwrap();
    let refused = case.index.lookup(TermHash(1), Sequence::ZERO, Sequence(u64::MAX), false, 9).unwrap_err();
    assert!(refused.to_string().contains("altered part"), "{refused}");
    assert_eq!(case.index.verify().unwrap().len(), 1);
}

#[test]
fn a_damaged_manifest_opens_empty_to_be_built_anew() {
    let mut case = Case::new();
    (0..200).for_each(|_| case.add(&[1]));
    case.reopen();
    case.writer.put(&keys::manifest(FAMILY), b"altered").unwrap();
    let index = RunFamily::open(&case.store, FAMILY, 64).unwrap();
    assert_eq!(index.complete_through(), Sequence::ZERO);
}

#[test]
fn an_emptied_index_is_empty_and_fills_again() {
    let mut case = Case::new();
    (0..200).for_each(|_| case.add(&[1, 2]));
    case.maintain();
    case.index.clear(&mut case.writer).unwrap();
    case.model.clear();
    case.through = 0;
    case.check();
    (0..100).for_each(|_| case.add(&[1, 2]));
    case.maintain();
    case.check();
}
