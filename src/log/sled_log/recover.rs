//! A start: compares what sled and the journal hold with what was promised, and only then lets anyone in. It never goes on over a gap: a
//! durable event that is missing or altered stops the start with what is missing and what to do.

use std::{
    fs,
    path::Path,
    sync::{Arc, PoisonError, atomic::AtomicUsize, mpsc},
};

use tokio::sync::watch;

use super::{
    LogOptions, OpenError, OpenedLog,
    admin::SledAdmin,
    admission::ContentEqual,
    block::OpenBlock,
    codec,
    committer::Committer,
    directory::Directory,
    handle::{QueueLimits, SledLog},
    index::{self, SearchIndex},
    meant::header_of,
    packer::Packer,
    promised, repair,
    shared::{Shared, Tail},
};
use crate::{
    clock::Clock,
    domain::{
        Epoch, Sequence,
        header::{identity_term, revises_term},
    },
    log::contract::{EpochFacts, EventLog, TermIndex},
    storage::{
        CHAIN_START, ChainHash, RESTORE_ADVICE, StorageError,
        directory_lock::DirectoryLock,
        epochs::{EpochRow, Epochs},
        fatal::{self, FatalHook},
        journal::{self, HalfStart, Journal, Replayed, ReplayedFrame},
        keys,
        runs::RunFamily,
        slots::Slots,
        state::{self, StateDigest},
        store::{self, Store, Writer},
        watchdog::Watchdog,
        watermark::{Watermark, WatermarkFile},
    },
    store::StateStore,
};

/// Batches that may wait for their commit; each commit empties the queue as far as it may.
const QUEUE_BATCHES_MAX: usize = 4096;
/// Requests to the owner of sled that may wait.
const COMMANDS_MAX: usize = 64;
/// So many of the last blocks are read whole at each start: more than a start after a power cut could ever find lost, since every slice
/// was synced before the watermark moved; older ones are `log verify`'s.
const BLOCKS_CHECKED: usize = 512;
/// The identity index is completed from the log in stretches of about so many bytes.
const REBUILD_READ_BYTES: usize = 1024 * 1024;
/// The identity index.
pub(super) const IDENTITY_FAMILY: u32 = 1;
/// The commit thread gives the other thread so much of the journal's half to hold a frame.
const COMMIT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Opens the log of a data directory, or creates it. Blocking.
///
/// # Errors
/// The directory is in use, belongs to another node, cannot be used, or something durable is missing or altered.
pub fn open(options: &LogOptions, clock: Arc<dyn Clock>, content_equal: ContentEqual) -> Result<OpenedLog, OpenError> {
    let data_dir = &options.data_dir;
    fs::create_dir_all(data_dir).map_err(StorageError::io(format!("cannot create {}", data_dir.display())))?;
    let lock = DirectoryLock::take(data_dir)?;
    let (epochs, mut watermark_file, mut watermark) = read_promises(options, &*clock)?;
    let (store, mut writer, directory) = repair::open_sound(options, &watermark)?;
    store.keep_free(options.refuse_below_bytes);
    let replayed = journal::replay(data_dir, watermark.epoch, watermark.clean)?;
    let (tail, chain, accepted_time_ns) = read_tail(&replayed, &watermark)?;
    tell(&replayed, options.journal_half_bytes);
    let sections = replayed.frames.iter().filter_map(ReplayedFrame::state);
    let state = state::recover(promised::read_sled(&store)?, sections, watermark.state)?;
    replayed.journal.sync().map_err(StorageError::io("cannot sync the journal"))?;
    // From here on the journal grows: what a clean stop noted is true no longer.
    watermark.clean = None;
    watermark_file.write(&watermark).map_err(StorageError::io("cannot write the watermark"))?;

    let facts: Arc<[EpochFacts]> = epochs.rows.iter().map(epoch_facts).collect();
    let shared = Arc::new(Shared::new(
        store.clone(),
        directory,
        tail,
        (options.node.clone(), facts),
        (watermark.first_retained, watermark.stored_through),
        options.block_cache_bytes_max,
        state,
    ));
    let memory_entries_max = options.index_memory_entries_max;
    let (fatal, failure) = noted(options.fatal.clone());
    let damaged = repair::marking(data_dir, fatal.clone());
    let identities = RunFamily::open(&store, IDENTITY_FAMILY, memory_entries_max, damaged.clone())?;
    complete_identities(&shared, &identities, &mut writer)?;
    let opening = index::Opening { store: store.clone(), memory_entries_max, damaged: damaged.clone() };
    index::remove_former(&opening, &mut writer)?;
    let search_family = index::family_in_use(&store)?;
    let search = RunFamily::open(&store, search_family, memory_entries_max, damaged.clone())?;

    let (queue, waiting) = mpsc::sync_channel(QUEUE_BATCHES_MAX);
    let (commands, asked) = mpsc::sync_channel(COMMANDS_MAX);
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let commit_bytes_max = (replayed.journal.frame_bytes_max() as usize / 2).min(COMMIT_BYTES_MAX);
    let (watchdog, watching) = Watchdog::start(options.commit_time_max, fatal.clone())
        .map_err(StorageError::io("cannot start a storage thread"))?;
    let committer = Committer {
        watchdog,
        shared: Arc::clone(&shared),
        identities: Arc::clone(&identities),
        queue: waiting,
        queued_bytes: Arc::clone(&queued_bytes),
        journal: replayed.journal,
        chain,
        accepted_time_ns,
        clock,
        content_equal,
        data_dir: data_dir.clone(),
        refuse_below_bytes: options.refuse_below_bytes,
        tail_bytes_max: options.tail_bytes_max,
        commit_bytes_max,
        free_seen: None,
        frame: Vec::new(),
    };
    let packer = Packer {
        slots: Slots::from(shared.directory.read().unwrap_or_else(PoisonError::into_inner).rows().len() as u32),
        shared: Arc::clone(&shared),
        writer,
        watermark_file,
        chain: watermark.chain,
        watermark,
        families: vec![Arc::clone(&identities), Arc::clone(&search)],
        commands: asked,
    };
    let io = || StorageError::io("cannot start a storage thread");
    let marked =
        |run: Result<(), StorageError>, data_dir: &Path| run.inspect_err(|error| repair::mark_damage(data_dir, error));
    let [of_commits, of_sled] = [data_dir.clone(), data_dir.clone()];
    let commit_thread =
        fatal::spawn("log-commit", fatal.clone(), move || marked(committer.run(), &of_commits)).map_err(io())?;
    let sled_thread = fatal::spawn("log-sled", fatal, move || marked(packer.run(), &of_sled)).map_err(io())?;
    let limits = QueueLimits { batch_bytes_max: commit_bytes_max, queue_bytes_max: options.queue_bytes_max };
    let log = Arc::new(SledLog::new(Arc::clone(&shared), queue, queued_bytes, limits, Arc::clone(&identities)));
    let search = (search_family, search);
    let search_index = Arc::new(SearchIndex::new(Arc::clone(&shared), opening, commands, search));
    let admin = Arc::new(SledAdmin::new(
        options,
        shared,
        Arc::clone(&log),
        identities,
        Arc::clone(&search_index),
        failure,
        (vec![commit_thread, sled_thread, watching], lock),
    ));
    let state = Arc::clone(&log) as Arc<dyn StateStore>;
    Ok(OpenedLog { log: log as Arc<dyn EventLog>, search_index: search_index as Arc<dyn TermIndex>, state, admin })
}

/// Reads the small files that say whose log it is and what it must hold; where there is none yet, an empty log is created.
fn read_promises(options: &LogOptions, clock: &dyn Clock) -> Result<(Epochs, WatermarkFile, Watermark), OpenError> {
    let data_dir = &options.data_dir;
    if WatermarkFile::open(data_dir)?.is_none() {
        // A creation writes the watermark before sled's first file: where sled has one, events may stand that nothing vouches for.
        if data_dir.join(store::DIRECTORY_NAME).exists() {
            return Err(StorageError::Damaged(format!(
                "{} holds events and no watermark says which; the watermark was removed or a restore did not finish: {RESTORE_ADVICE}",
                data_dir.display()
            ))
            .into());
        }
        create(options, clock)?;
    }
    let epochs = Epochs::read(data_dir)?.ok_or_else(|| {
        StorageError::Damaged(format!(
            "{} has lost its file of epochs ({}): {RESTORE_ADVICE}",
            data_dir.display(),
            crate::storage::epochs::FILE_NAME
        ))
    })?;
    if epochs.node != options.node {
        let (found, expected) = (epochs.node, options.node.clone());
        return Err(OpenError::OtherNode { data_dir: data_dir.clone(), found, expected });
    }
    let Some((watermark_file, watermark)) = WatermarkFile::open(data_dir)? else {
        return Err(StorageError::Damaged(format!("the watermark of {} has vanished", data_dir.display())).into());
    };
    Ok((epochs, watermark_file, watermark))
}

/// Says what an operator may wonder about.
fn tell(replayed: &Replayed, configured_bytes: u64) {
    let half_bytes = replayed.journal.half_bytes();
    if half_bytes != configured_bytes {
        tracing::warn!(
            half_bytes,
            configured_bytes,
            "the journal keeps the size that it was made with; the setting counts for a new data directory"
        );
    }
    if replayed.torn_bytes > 0 {
        tracing::info!(bytes = replayed.torn_bytes, "dropped a commit that was never finished and never acknowledged");
    }
}

/// The hook, and what it was told.
fn noted(hook: FatalHook) -> (FatalHook, watch::Receiver<Option<String>>) {
    let (told, failure) = watch::channel(None);
    let noting = FatalHook::call(move |reason| {
        told.send_replace(Some(reason.to_owned()));
        hook.fail(reason);
    });
    (noting, failure)
}

/// Makes an empty log. The watermark comes last: until it is there, a start begins anew.
fn create(options: &LogOptions, clock: &dyn Clock) -> Result<(), StorageError> {
    let data_dir = &options.data_dir;
    let epoch = Epoch(clock.fresh_uuid());
    let row = EpochRow { epoch, parent: None, fork: Sequence::ZERO, open_time_ns: clock.now_ns() };
    let epochs = Epochs { node: options.node.clone(), rows: vec![row] };
    lay_out(options, &epochs, (Sequence::ZERO, CHAIN_START), clock)?;
    WatermarkFile::create(data_dir, &empty_watermark(epoch))
}

/// What an empty log has promised.
pub(super) const fn empty_watermark(epoch: Epoch) -> Watermark {
    Watermark {
        stored_through: Sequence::ZERO,
        chain: CHAIN_START,
        accepted_time_ns: 0,
        first_retained: Sequence(1),
        epoch,
        state: StateDigest { entries: 0, hash: 0 },
        clean: None,
    }
}

/// Writes the small files and an empty journal that continues after a place.
pub(super) fn lay_out(
    options: &LogOptions,
    epochs: &Epochs,
    (after, chain): (Sequence, ChainHash),
    clock: &dyn Clock,
) -> Result<(), StorageError> {
    epochs.write(&options.data_dir)?;
    let salts = [clock.fresh_uuid(), clock.fresh_uuid()].map(|uuid| uuid.as_u64_pair().0 ^ uuid.as_u64_pair().1);
    let start = HalfStart {
        generation: 1,
        base: after.next(),
        chain,
        epoch: epochs.rows[0].epoch,
        salt: salts[0],
        next_salt: salts[1],
    };
    Journal::create(&options.data_dir, options.journal_half_bytes, &start)
}

pub(super) fn check_last_blocks(
    store: &Store,
    directory: &Directory,
    watermark: &Watermark,
) -> Result<(), StorageError> {
    let rows = directory.rows();
    let mut chain = None;
    for row in &rows[rows.len().saturating_sub(BLOCKS_CHECKED)..] {
        let lost = |how: &str| missing((row.first, row.last()), how, watermark);
        let bytes = match store.get(&keys::block(row.number)) {
            Err(error) if error.is_damage() => return Err(lost(&format!("cannot be read: {}", error.with_cause()))),
            read => read?.ok_or_else(|| lost("are missing from sled"))?,
        };
        let facts = OpenBlock::check(&bytes, row.first)?.facts;
        if facts.last() != row.last() || chain.is_some_and(|chain| chain != facts.chain_before) {
            return Err(StorageError::Damaged(format!(
                "the block of events that begins at sequence {} does not continue the one before it; {RESTORE_ADVICE}",
                row.first
            )));
        }
        chain = Some(facts.chain_after);
    }
    if chain.is_some_and(|chain| chain != watermark.chain) {
        return Err(StorageError::Damaged(format!(
            "the log in sled through sequence {} is not the one that the watermark promises; {RESTORE_ADVICE}",
            watermark.stored_through
        )));
    }
    Ok(())
}

fn missing((first, last): (Sequence, Sequence), how: &str, watermark: &Watermark) -> StorageError {
    StorageError::Damaged(format!(
        "events from sequence {first} through {last} {how}, though everything through {} was stored durably; {RESTORE_ADVICE}",
        watermark.stored_through
    ))
}

/// The records that the journal holds beyond the watermark, with the chain hash and accepted time at their end.
fn read_tail(replayed: &Replayed, watermark: &Watermark) -> Result<(Tail, [u8; 32], i64), StorageError> {
    let stored = watermark.stored_through;
    if replayed.base > stored {
        return Err(StorageError::Damaged(format!(
            "events from sequence {} through {} were acknowledged, and neither sled nor the journal holds them; {RESTORE_ADVICE}",
            stored.next(),
            replayed.base
        )));
    }
    if replayed.through < stored {
        return Err(StorageError::Damaged(format!(
            "the journal has lost its end: it holds no event after sequence {}, and sled holds those through {stored}; what was \
             acknowledged after them may be missing: {RESTORE_ADVICE}",
            replayed.through
        )));
    }
    let mut tail = Tail::default();
    let mut chain = replayed.base_chain;
    let mut accepted_time_ns = watermark.accepted_time_ns;
    let broken = |at: Sequence| {
        StorageError::Damaged(format!(
            "the journal does not continue the log at sequence {at}: its chain of hashes is broken; {RESTORE_ADVICE}"
        ))
    };
    if replayed.base == stored && chain != watermark.chain {
        return Err(broken(stored.next()));
    }
    for frame in &replayed.frames {
        if frame.facts.chain_before != chain {
            return Err(broken(frame.facts.first));
        }
        let records = codec::read_records(&frame.records(), frame.facts.first, frame.facts.count)
            .map_err(|fault| StorageError::Damaged(format!("a commit in the journal cannot be read: {fault}")))?;
        for record in records {
            chain = codec::chain_after(&chain, &record);
            if record.sequence == stored && chain != watermark.chain {
                return Err(broken(stored));
            }
            if record.sequence > stored {
                accepted_time_ns = record.accepted_time_ns;
                tail.extend(std::iter::once((record, chain)));
            }
        }
    }
    Ok((tail, chain, accepted_time_ns))
}

/// Adds to the identity index what the log holds beyond it.
fn complete_identities(shared: &Shared, identities: &RunFamily, writer: &mut Writer) -> Result<(), StorageError> {
    let mut after = identities.complete_through();
    if after > shared.last() {
        return Err(StorageError::Damaged(format!(
            "the identity index knows sequence {after}, and the log ends at {}: acknowledged events are missing; {RESTORE_ADVICE}",
            shared.last()
        )));
    }
    while let Some(chunk) = shared.read(after, REBUILD_READ_BYTES, None)? {
        let mut entries = Vec::with_capacity(chunk.records.len());
        for record in chunk.records.iter() {
            let header = header_of(&record.header)?;
            entries.push((identity_term(header.publisher(), &header.event_id()), record.sequence));
            if let Some(revises) = header.revises() {
                entries.push((revises_term(header.publisher(), &revises.event_id), record.sequence));
            }
        }
        identities.add(&entries, chunk.through);
        after = chunk.through;
        while identities.is_backlogged() && identities.maintain(writer)? {}
    }
    Ok(())
}

fn epoch_facts(row: &EpochRow) -> EpochFacts {
    EpochFacts { epoch: row.epoch, parent: row.parent, fork: row.fork, open_time_ns: row.open_time_ns }
}
