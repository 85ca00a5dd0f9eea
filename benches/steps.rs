//! What each hot step of a node costs by itself: the door's reading of an event, blocks, filters, sorted runs. It compares nothing and keeps
//! no figures; `tradelane bench` measures a node as a whole.
//!
//! `cargo bench` measures, `cargo bench -- filter` only what has that in its name, and `cargo test --bench steps` runs each step once.

use std::sync::Arc;

use bytes::Bytes;
use divan::{Bencher, black_box, counter::ItemsCount};
use prost::Message;
use tradelane::{
    domain::{
        Filter, HeaderRef, Sequence, SpiffeId,
        code_lists::CodeLists,
        filter::{FilterSpec, MatchContext, NoBindings},
        term::TermHash,
    },
    log::{
        Record,
        sled_log::{
            block::{self, BlockFacts, OpenBlock},
            codec::chain_over,
        },
    },
    storage::{
        CHAIN_START,
        fatal::FatalHook,
        runs::{Entry, RunFamily},
        store::{PAGE_CACHE_BYTES, Store, Writer},
    },
    testing::events::{HOUR_NS, Voyage},
    wire::{SignedEvent, door},
};

/// When the measured voyages begin: any time will do, as long as it is always the same.
const START_NS: i64 = 1_795_000_000_000_000_000;
/// When the door reads them.
const NOW_NS: i64 = START_NS + 2 * Voyage::LASTS_NS;
/// Who asks.
const CALLER: &str = "spiffe://customs.gov.pk/agency/karachi";
/// Voyages whose events are measured, ten each: more than one block, and few enough to stay in a processor's cache, as fresh events do.
const VOYAGES: u32 = 20;

fn main() {
    divan::main();
}

/// Reading one event at the door: decoding, every rule of the event model, and the routing header that is stored beside it.
#[divan::bench]
fn parse_and_validate(bencher: Bencher<'_, '_>) {
    let events = events();
    let lists = CodeLists::default();
    let context = door::ValidationContext { now_ns: NOW_NS, lists: &lists };
    bencher.counter(ItemsCount::new(events.len())).bench(|| {
        for signed in &events {
            let parsed = door::parse_event(black_box(signed), "event", &context).expect("a valid event");
            black_box(parsed.header.encode());
        }
    });
}

/// Packing one block: its fingerprint, lz4.
#[divan::bench]
fn block_encode(bencher: Bencher<'_, '_>) {
    let records = one_block();
    let chain_after = chain_over(CHAIN_START, &records);
    let encode = || block::encode(black_box(&records), CHAIN_START, chain_after);
    bencher.counter(ItemsCount::new(records.len())).bench(encode);
}

/// Reading one block: its checksum, lz4, its records.
#[divan::bench]
fn block_decode(bencher: Bencher<'_, '_>) {
    let records = one_block();
    let (facts, bytes) = encoded(&records);
    bencher.counter(ItemsCount::new(records.len())).bench(|| {
        let block = OpenBlock::check(black_box(&bytes), facts.first).expect("a good block");
        block.records().expect("its records")
    });
}

/// Passing over one block by its fingerprint: its checksum, and the terms of a filter that none of its events pass.
#[divan::bench]
fn block_pass_over(bencher: Bencher<'_, '_>) {
    let (facts, bytes) = encoded(&one_block());
    let caller = SpiffeId::parse(CALLER).expect("a name");
    let plan = vec![filter("commodity_prefixes = [\"999999\"]").term_plan(&caller)];
    bencher.counter(ItemsCount::new(facts.count)).bench(|| {
        let block = OpenBlock::check(black_box(&bytes), facts.first).expect("a good block");
        assert!(!block.may_match(black_box(&plan)), "no event has this commodity");
    });
}

/// Matching events by their stored headers, which are read each time, as when a chunk of the log is filtered.
#[divan::bench(args = [
    "all = true",
    "types = [\"handling.discharged\"]",
    "subjects = [{ kind = \"container\", value = \"TLNU0000072\" }]",
    "places = [{ un_locode = \"PKKHI\", role = \"event\" }]",
    "commodity_prefixes = [\"8703\"]",
    "publishers = [\"spiffe://customs.gov.pk/*\"]",
])]
fn filter_match(bencher: Bencher<'_, '_>, written: &str) {
    let (filter, records) = (filter(written), records());
    let context = MatchContext {
        accepted_time_ns: NOW_NS,
        origin_node: "spiffe://exchange.gov.pk/node/khi-1",
        caller: CALLER,
        bindings: &NoBindings,
    };
    bencher.counter(ItemsCount::new(records.len())).bench(|| {
        let matches = |record: &&Record| {
            let header = HeaderRef::parse(&record.header).expect("a good header");
            black_box(&filter).matches(&header, &context)
        };
        records.iter().filter(matches).count()
    });
}

/// Merging four runs into one and removing them, with the syncs that this takes: what it costs is the disk's matter too.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn run_merge(bencher: Bencher<'_, '_>) {
    const RUNS: u64 = 4;
    const ENTRIES: u64 = 32_768;
    bencher
        .counter(ItemsCount::new(RUNS * ENTRIES))
        .with_inputs(|| {
            let mut index = Index::new(ENTRIES as usize);
            for run in 0..RUNS {
                index.add(run * ENTRIES..(run + 1) * ENTRIES);
                if run + 1 < RUNS {
                    index.settle();
                }
            }
            // One step writes the fourth run, which is smaller than a slice; the merge that it makes due waits.
            index.step();
            index
        })
        .bench_local_values(|mut index| {
            index.settle();
            index
        });
}

/// Looking a term up in an index of several runs.
#[divan::bench(args = ["absent", "rare", "frequent, the last 100"])]
fn run_look_up(bencher: Bencher<'_, '_>, term: &str) {
    const ENTRIES: u64 = 200_000;
    let mut index = Index::new(16_384);
    for from in (0..ENTRIES).step_by(8_192) {
        index.add(from..from + 8_192);
        index.settle();
    }
    let term = match term {
        "absent" => TermHash(u64::MAX),
        "rare" => rare_term(ENTRIES / 2),
        _ => FREQUENT_TERM,
    };
    bencher.bench(|| {
        index.runs.lookup(black_box(term), Sequence::ZERO, Sequence(u64::MAX), true, 100).expect("an answer")
    });
}

/// A term that one in ten events has.
const FREQUENT_TERM: TermHash = TermHash(7);

/// A term that some eight events have, far from each other in the order of terms.
fn rare_term(event: u64) -> TermHash {
    TermHash((event / 8 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// An index in a database of its own, which goes with it.
struct Index {
    runs: Arc<RunFamily>,
    writer: Writer,
    _directory: tempfile::TempDir,
}

impl Index {
    fn new(memory_entries_max: usize) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (store, writer) = Store::open(directory.path(), PAGE_CACHE_BYTES).expect("a database");
        let runs = RunFamily::open(&store, 1, memory_entries_max, FatalHook::abort()).expect("an index");
        Self { runs, writer, _directory: directory }
    }

    /// Adds an entry for each of these events.
    fn add(&self, events: std::ops::Range<u64>) {
        let term = |event: u64| if event.is_multiple_of(10) { FREQUENT_TERM } else { rare_term(event) };
        let through = Sequence(events.end);
        let entries: Vec<Entry> = events.map(|event| (term(event), Sequence(event + 1))).collect();
        self.runs.add(&entries, through);
    }

    fn step(&mut self) -> bool {
        self.runs.maintain(&mut self.writer).expect("a step")
    }

    /// Writes, merges and removes until nothing waits.
    fn settle(&mut self) {
        while self.step() {}
    }
}

/// A filter as an operator writes it.
fn filter(written: &str) -> Filter {
    let spec: FilterSpec = toml::from_str(written).expect("a filter");
    Filter::compile(&spec, true).expect("a good filter")
}

/// Voyages side by side, an hour apart, as signed events.
fn events() -> Vec<SignedEvent> {
    let voyages = (0..VOYAGES).map(|number| Voyage::new(number, START_NS + i64::from(number) * HOUR_NS / 60));
    voyages.flat_map(|voyage| voyage.events()).map(|event| event.unsigned()).collect()
}

/// The same events as the log has them.
fn records() -> Vec<Record> {
    let lists = CodeLists::default();
    let context = door::ValidationContext { now_ns: NOW_NS, lists: &lists };
    let record = |(number, signed): (u64, SignedEvent)| {
        let parsed = door::parse_event(&signed, "event", &context).expect("a valid event");
        Record {
            sequence: Sequence(number),
            accepted_time_ns: NOW_NS,
            origin: None,
            header: Bytes::from(parsed.header.encode()),
            signed: Bytes::from(signed.encode_to_vec()),
        }
    };
    (1..).zip(events()).map(record).collect()
}

fn encoded(records: &[Record]) -> (BlockFacts, Vec<u8>) {
    block::encode(records, CHAIN_START, chain_over(CHAIN_START, records))
}

/// As many of them as the packer puts in one block.
fn one_block() -> Vec<Record> {
    let mut bytes = 0;
    let fits = |record: &Record| {
        bytes += record.header.len() + record.signed.len();
        bytes <= block::RAW_BYTES_TARGET
    };
    records().into_iter().take_while(fits).collect()
}
