//! The chain's hash at any place: in a block, at its end, in the tail, after a restart, and the same in a log that was restored.

use super::*;
use crate::log::{
    chain_after,
    contract::{CHAIN_START, ChainHash, EventLog},
};

/// The hash after each place, folded over what the log returns.
async fn folded(log: &dyn EventLog) -> Vec<ChainHash> {
    let mut hashes = vec![CHAIN_START];
    let mut after = Sequence::ZERO;
    while let Some(chunk) = log.read(after, 64 * 1024, None).await.unwrap() {
        for record in chunk.records.iter() {
            hashes.push(chain_after(hashes.last().unwrap(), record));
        }
        after = chunk.through;
    }
    hashes
}

async fn check_chain(log: &dyn EventLog, known: &[ChainHash]) {
    let hashes = folded(log).await;
    assert_eq!(&hashes[..known.len()], known, "the chain up to a place never changes");
    let last = hashes.len() as u64 - 1;
    // Every place of some blocks' length at both ends, and a sample between.
    let places = (0..=last).filter(|place| *place < 80 || last - place < 80 || place % 97 == 0);
    for place in places {
        let at = log.chain_at(Sequence(place)).await.unwrap();
        assert_eq!(at, Some(hashes[place as usize]), "at sequence {place} of {last}");
    }
    assert_eq!(log.chain_at(Sequence(last + 1)).await.unwrap(), None);
}

#[tokio::test]
async fn the_chain_is_known_at_every_place_and_survives_a_restart() {
    let case = Case::new();
    let opened = case.open().unwrap();
    check_chain(&*opened.log, &[CHAIN_START]).await;
    append(&opened, 0..3_000).await;
    let before = folded(&*opened.log).await;
    check_chain(&*opened.log, &before).await;
    close(opened).await;
    let opened = case.open().unwrap();
    check_chain(&*opened.log, &before).await;
    append(&opened, 3_000..3_100).await;
    check_chain(&*opened.log, &before).await;
    close(opened).await;
}

#[tokio::test]
async fn the_log_in_memory_has_the_same_chain_rule_and_shows_none_beyond_its_ends() {
    let log = crate::log::MemoryLog::new(Arc::new(crate::clock::TestClock::at_ns(7)), |a, b| a == b);
    let events: Vec<NewEvent> = (0..20).map(event).collect();
    log.append(batch(AppendMode::AllOrNothing, events)).await.unwrap();
    check_chain(&log, &[CHAIN_START]).await;
    log.drop_before(Sequence(5));
    assert_eq!(log.chain_at(Sequence(4)).await.unwrap(), None);
    assert!(log.chain_at(Sequence(5)).await.unwrap().is_some());
    log.skip_sequences(2);
    log.append(batch(AppendMode::AllOrNothing, vec![event(20)])).await.unwrap();
    assert_eq!(log.chain_at(Sequence(21)).await.unwrap(), None, "no event has the place");
    log.hold();
    drop(log.append(batch(AppendMode::AllOrNothing, vec![event(21)])));
    assert_eq!(log.chain_at(Sequence(24)).await.unwrap(), None, "not yet durable");
}
