//! What a comparison with other systems needs of us: the exchange's files, and the story's events with the terms that a node indexes them
//! by, so that all get the same bytes, certificates and indexes. It starts and measures nothing.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use serde_json::json;

use super::{
    SETTINGS,
    exchange::Exchange,
    scenario::{self, Story, Told},
};
use crate::{
    cli::{ExitCode, Failure},
    clock::{Clock, SystemClock},
    domain::{HeaderRef, code_lists::CodeLists},
    telemetry,
    wire::{SignedEvent, door},
};

/// Makes everything in a new directory, and says in its `prepared.json` where it is.
///
/// # Errors
/// The directory is there already, or a file cannot be written.
pub fn prepare(directory: &Path, events: usize) -> Result<(), Failure> {
    let now_ns = SystemClock.now_ns();
    let exchange = Exchange::create(directory, now_ns)?;
    let events_file = exchange.directory.join("events");
    let failed = |error| Failure::file("write", &events_file, &error);
    let mut file = BufWriter::new(File::create(&events_file).map_err(failed)?);
    let mut story = Story::new(scenario::CONTAINERS, now_ns);
    for _ in 0..events {
        file.write_all(&with_terms(&story.tell(), now_ns)?).map_err(failed)?;
    }
    file.flush().map_err(failed)?;
    let prepared = json!({
        "version": telemetry::version(),
        "settings": SETTINGS,
        "files": exchange.files(),
        "events_file": events_file,
    });
    let path = exchange.directory.join("prepared.json");
    std::fs::write(&path, prepared.to_string()).map_err(|error| Failure::file("write", &path, &error))
}

/// `event bytes u32 | event | terms u32 | terms x u64`, little-endian. The identity is no term: everybody keeps it unique in a way of his own.
fn with_terms(told: &Told, now_ns: i64) -> Result<Vec<u8>, Failure> {
    let signed = SignedEvent { event: told.bytes.clone(), signature: None };
    let context = door::ValidationContext { now_ns, lists: &CodeLists::default() };
    let parsed = door::parse_event(&signed, "event", &context)
        .map_err(|faults| Failure::new(ExitCode::Failure, format!("the story breaks a rule: {faults:?}")))?;
    let header = parsed.header.encode();
    let header = HeaderRef::parse(&header).map_err(|error| Failure::new(ExitCode::Failure, error.to_string()))?;
    let mut terms = Vec::new();
    header.for_each_term(&mut |term| terms.push(term));
    terms.sort_unstable();
    terms.dedup();
    let mut bytes = Vec::with_capacity(told.bytes.len() + 8 * terms.len() + 8);
    bytes.extend((told.bytes.len() as u32).to_le_bytes());
    bytes.extend(&told.bytes);
    bytes.extend((terms.len() as u32).to_le_bytes());
    bytes.extend(terms.iter().flat_map(|term| term.0.to_le_bytes()));
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        header::identity_term,
        term::{TermHash, TermKind},
    };

    #[test]
    fn an_event_stands_with_the_terms_that_a_node_finds_it_by() {
        let now_ns = SystemClock.now_ns();
        let told = Story::new(10, now_ns).tell();
        let bytes = with_terms(&told, now_ns).unwrap();
        let (length, rest) = bytes.split_first_chunk::<4>().unwrap();
        let (event, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        assert_eq!(event, told.bytes);
        // A comparison gives each use of an event a fresh id in this place.
        assert_eq!(&event[..2], [0x0a, 36]);
        assert_eq!(&event[2..38], told.event_id.as_bytes());
        let (count, rest) = rest.split_first_chunk::<4>().unwrap();
        let terms: Vec<u64> = rest.chunks_exact(8).map(|term| u64::from_le_bytes(term.try_into().unwrap())).collect();
        assert_eq!(terms.len(), u32::from_le_bytes(*count) as usize);
        let of_the_port = TermHash::of(TermKind::Locode, &[told.port.as_bytes()]);
        assert!(terms.contains(&of_the_port.0));
        let publisher = crate::domain::SpiffeId::parse(scenario::PUBLISHER).unwrap();
        let id = crate::domain::EventId::parse(&told.event_id).unwrap();
        assert!(!terms.contains(&identity_term(publisher.as_str(), &id).0));
    }
}
