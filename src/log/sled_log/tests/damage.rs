//! A matrix of damage: bytes flipped, sectors lost and files cut off at random places of everything that a log keeps, after a stop in order
//! and after a kill. Whatever is damaged, the start refuses, or a read reports it, or everything acknowledged is there as it was.

use std::{collections::BTreeMap, fs, io::Write, panic::AssertUnwindSafe, path::Path};

use futures::FutureExt;

use super::*;
use crate::{
    storage::{
        StorageError,
        journal::FRAME_HEADER_BYTES,
        runs::RunFamily,
        store::{PAGE_CACHE_BYTES, SEGMENT_BYTES, Store},
    },
    store::{Change, Table, suite::put},
};

/// Past the capture of output, like the other tests that draw a seed.
macro_rules! say {
    ($($said:tt)*) => {
        writeln!(std::io::stderr(), $($said)*).unwrap()
    };
}

/// Every file of a data directory.
type Image = BTreeMap<PathBuf, Vec<u8>>;

/// Both halves of the journal are in use, and most events are in sled.
const EVENTS: u64 = 16_200;
/// Entries of promised state.
const PROMISES: u64 = 300;
/// They come in so many lives of the log. Each leaves a run of the index, of which eight are merged, and the others wait for their merge.
const LIVES: u64 = 12;
const INDEX_MEMORY_ENTRIES_MAX: usize = 1_000;
/// Damages of each file of each image.
const DAMAGES_DEFAULT: u64 = 5;
/// Where to find the files with which it failed before.
const IMAGE: &str = "TRADELANE_DAMAGE_IMAGE";
/// What a disk loses at once.
const SECTOR_BYTES: usize = 512;

fn options(case: &Case) -> LogOptions {
    LogOptions { index_memory_entries_max: INDEX_MEMORY_ENTRIES_MAX, ..case.options() }
}

fn opened(case: &Case, fatal: FatalHook) -> Result<OpenedLog, OpenError> {
    open(&LogOptions { fatal, ..options(case) }, Arc::new(SystemClock), |a, b| a == b)
}

/// What was promised last of an entry.
fn promise(number: u64) -> Change {
    put(Table::Cursors, &number.to_be_bytes(), &[number as u8; 200])
}

/// What one life brings: events, and state beside them.
async fn live(opened: &OpenedLog, life: u64) {
    let share = |of: u64| life * of / LIVES..(life + 1) * of / LIVES;
    append(opened, share(EVENTS)).await;
    let promises = share(PROMISES).map(promise).collect();
    opened.state.write(promises).await.unwrap();
}

fn image_of(directory: &Path) -> Image {
    let mut image = Image::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                image.insert(path.strip_prefix(directory).unwrap().to_owned(), bytes);
            }
        }
    }
    image
}

/// What the files hold once the owner of sled has come to rest, while the log is still open: as after a kill.
async fn image_of_killed(directory: &Path) -> Image {
    let mut before = image_of(directory);
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = image_of(directory);
        if now == before {
            return now;
        }
        before = now;
    }
}

async fn images() -> [(&'static str, Image); 2] {
    let case = Case::new();
    let data_dir = case.options().data_dir;
    for life in 0..LIVES - 1 {
        let log = opened(&case, FatalHook::abort()).unwrap();
        live(&log, life).await;
        close(log).await;
    }
    let log = opened(&case, FatalHook::abort()).unwrap();
    live(&log, LIVES - 1).await;
    let killed = image_of_killed(&data_dir).await;
    close(log).await;
    holds_all_kinds(&case);
    [("after a kill", killed), ("after a stop in order", image_of(&data_dir))]
}

/// The image has of each kind of data what a node has that runs for long.
fn holds_all_kinds(case: &Case) {
    let data_dir = case.options().data_dir;
    let (store, _writer) = Store::open(&data_dir, PAGE_CACHE_BYTES).unwrap();
    assert!(2 * SEGMENT_BYTES as u64 <= store.bytes_on_disk(), "sled's file has few segments");
    let index =
        RunFamily::open(&store, recover::IDENTITY_FAMILY, INDEX_MEMORY_ENTRIES_MAX, FatalHook::abort()).unwrap();
    let numbers = index.run_numbers();
    assert!(1 < numbers.len() && 8 <= numbers[0], "no run was merged: {numbers:?}");
    for name in journal::FILE_NAMES {
        let bytes = fs::read(data_dir.join(name)).unwrap();
        assert!(bytes.windows(4).any(|word| word == b"TLFR"), "{name} was never used");
    }
}

/// A data directory with these files.
fn laid_out(image: &Image) -> Case {
    let case = Case::new();
    lay_out(image, &case.options().data_dir);
    case
}

fn lay_out(image: &Image, folder: &Path) {
    for (path, bytes) in image {
        let to = folder.join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    }
}

/// As [`outcome`]. Where it fails the files are kept: no seed brings them again, since where blocks, runs and segments end depends on when
/// things happened.
async fn judged(image: &Image, told: &str) -> &'static str {
    let case = laid_out(image);
    match AssertUnwindSafe(outcome(&case, told)).catch_unwind().await {
        Ok(said) => said,
        Err(failure) => {
            let kept = tempfile::Builder::new().prefix("tradelane-damage-").tempdir().unwrap().keep();
            lay_out(image, &kept);
            say!("{told}: the files are kept; to run it again: {IMAGE}={}", kept.display());
            std::panic::resume_unwind(failure)
        }
    }
}

/// Where what was written ends: of a half of the journal, which holds frames of an earlier turn behind it, the last frame of this turn.
fn end_of(name: &str, bytes: &[u8]) -> usize {
    let used = || bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if !name.starts_with("journal.") {
        return used();
    }
    let frames = |salt: &[u8]| {
        (0..bytes.len() - FRAME_HEADER_BYTES)
            .step_by(8)
            .filter(|at| bytes[*at..].starts_with(b"TLFR") && bytes[*at + 8..].starts_with(salt))
            .collect::<Vec<usize>>()
    };
    let Some(first) = frames(&[]).first().copied() else { return used() };
    let last = *frames(&bytes[first + 8..first + 16]).last().expect("the first is one");
    let payload_bytes = u32::from_le_bytes(bytes[last + 28..last + 32].try_into().unwrap()) as usize;
    last + FRAME_HEADER_BYTES + payload_bytes
}

/// Alters one byte, empties a sector, or cuts the file off, and says so.
fn damage(random: &mut fastrand::Rng, name: &str, bytes: &mut Vec<u8>) -> String {
    let used = end_of(name, bytes);
    // The head, the end of what was written and what lies shortly before it, and anywhere.
    let at = match random.u32(0..4) {
        0 => random.usize(..used.min(4096)),
        1 => random.usize(used.saturating_sub(3_000)..used),
        2 => random.usize(used.saturating_sub(200_000)..used),
        _ => random.usize(..used),
    };
    match random.u32(0..4) {
        0 => {
            bytes.truncate(at);
            format!("cut off at {at} of {used}")
        }
        1 => {
            let begin = at / SECTOR_BYTES * SECTOR_BYTES;
            let end = (begin + SECTOR_BYTES).min(bytes.len());
            bytes[begin..end].fill(0);
            format!("bytes {begin} to {end} of {used} emptied")
        }
        _ => {
            let bit = 1 << random.u32(0..8);
            bytes[at] ^= bit;
            format!("bit {bit:#x} of byte {at} of {used} flipped")
        }
    }
}

/// Reads everything and publishes known events again: what is wrong is reported, and what is given out is right.
async fn outcome(case: &Case, told: &str) -> &'static str {
    let log = match opened(case, FatalHook::call(|_| {})) {
        Ok(log) => log,
        Err(error) => {
            assert!(!error.is_configuration(), "the operator is blamed for damage: {error}; {told}");
            let damaged = match &error {
                OpenError::Storage(StorageError::Damaged(_) | StorageError::Io { .. }) => true,
                OpenError::Storage(StorageError::Sled { what, .. }) => what.contains("is damaged"),
                OpenError::OtherNode { .. } => false,
            };
            assert!(damaged, "refused without its reason: {error:?}; {told}");
            return "refused";
        }
    };
    let said = read_all(&log, told).await;
    let admin = Arc::clone(&log.admin);
    drop(log);
    admin.close(Instant::now() + Duration::from_secs(5)).await;
    said
}

async fn read_all(opened: &OpenedLog, told: &str) -> &'static str {
    let (mut after, mut number) = (Sequence::ZERO, 0);
    loop {
        match opened.log.read(after, 1024 * 1024, None).await {
            Err(_) => return "reported",
            Ok(None) => break,
            Ok(Some(chunk)) => {
                for record in chunk.records.iter() {
                    assert_eq!(record.sequence, Sequence(number + 1), "a gap was given out; {told}");
                    assert_eq!(record.signed, event(number).signed, "event {number} was given out otherwise; {told}");
                    number += 1;
                }
                after = chunk.through;
            }
        }
    }
    for number in 0..PROMISES {
        let Change { table, key, value } = promise(number);
        assert_eq!(opened.state.get(table, &key), value, "promise {number} is not kept, and nothing said so; {told}");
    }
    assert_eq!(number, EVENTS, "acknowledged events are missing, and nothing said so; {told}");
    for known in [0, EVENTS / 3, EVENTS - 1] {
        let again = opened.log.append(batch(AppendMode::AllOrNothing, vec![event(known)]));
        match tokio::time::timeout(Duration::from_secs(30), again)
            .await
            .unwrap_or_else(|_| panic!("event {known} got no answer in 30 s; {told}"))
        {
            Err(_) => return "reported",
            Ok(verdicts) => {
                let first =
                    matches!(verdicts[0], Verdict::Stored(at) if at.duplicate && at.sequence.get() == known + 1);
                assert!(first, "event {known} was stored again: {verdicts:?}; {told}");
            }
        }
    }
    "harmless"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_anywhere_is_reported_or_harmless_and_never_served() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a whole number"));
    if let Some(kept) = std::env::var_os(IMAGE) {
        say!("{}: {}", kept.display(), outcome(&laid_out(&image_of(Path::new(&kept))), "as kept").await);
        return;
    }
    let seed = number("TRADELANE_DAMAGE_SEED").unwrap_or_else(|| fastrand::u64(..));
    let damages = number("TRADELANE_DAMAGE_ROUNDS").unwrap_or(DAMAGES_DEFAULT);
    say!("to run it again: TRADELANE_DAMAGE_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut tally: BTreeMap<(&str, String, &str), u32> = BTreeMap::new();
    for (when, image) in images().await {
        let undamaged = judged(&image, &format!("{when}, nothing is damaged")).await;
        assert_eq!(undamaged, "harmless", "{when}, nothing is damaged");
        let targets = image.keys().filter(|path| !image[*path].is_empty());
        for target in targets.flat_map(|target| vec![target; damages as usize]) {
            let mut damaged = image.clone();
            let name = target.display().to_string();
            let what = damage(&mut random, &name, damaged.get_mut(target).unwrap());
            let told = format!("TRADELANE_DAMAGE_SEED={seed}: {when}: {name} {what}");
            let said = judged(&damaged, &told).await;
            let kind = name.split_inclusive("snap.").next().unwrap_or_default().to_owned();
            *tally.entry((when, kind, said)).or_default() += 1;
        }
    }
    say!("{tally:?}");
    assert!(tally.keys().any(|(_, name, said)| name == "sled/db" && *said != "harmless"), "nothing was noticed");
}
