//! What the node has promised so far, and whether a log keeps it. Pure: it never talks to a node, so that its own tests can show it every
//! kind of broken log.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use uuid::Uuid;

/// SHA-256 of an event's bytes as they travelled.
pub type Digest = [u8; 32];

/// What names an event for ever.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The publisher's SPIFFE ID.
    pub publisher: String,
    /// The event's id.
    pub event_id: Uuid,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} of {}", self.event_id, self.publisher)
    }
}

/// An event at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its sequence.
    pub sequence: u64,
    /// Which event.
    pub identity: Identity,
    /// Its bytes.
    pub digest: Digest,
}

/// Who knows that an event stands at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Witness {
    /// Its publisher: it was acknowledged.
    Publisher,
    /// A reader: it was delivered.
    Reader,
}

/// How a log breaks what was promised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An acknowledged event is gone.
    #[error("acknowledged and gone: {0} at sequence {1}")]
    Lost(Identity, u64),
    /// An event that a reader was shown is gone.
    #[error("shown to a reader and gone: {0} at sequence {1}")]
    Vanished(Identity, u64),
    /// An event's bytes are not those that its publisher sent.
    #[error("altered: {0} at sequence {1}")]
    Altered(Identity, u64),
    /// An event stands in the log more than once.
    #[error("stored more than once: {0}, at sequence {1} and at {2}")]
    Doubled(Identity, u64, u64),
    /// An event stands at another place than the promised one.
    #[error("moved: {0} was promised at sequence {1} and is at {2}")]
    Moved(Identity, u64, u64),
    /// Sequences do not rise.
    #[error("out of order: sequence {1} follows {0}")]
    OutOfOrder(u64, u64),
    /// An event that nobody sent.
    #[error("nobody sent it: {0} at sequence {1}")]
    Foreign(Identity, u64),
    /// A batch is there in part, or with others between its events.
    #[error("a batch of {0} events is torn: {1} of them are stored, from sequence {2} through {3}")]
    Torn(usize, usize, u64, u64),
}

/// Everything that publishers sent, and what they and the readers were told.
#[derive(Debug, Default)]
pub struct Promises {
    sent: HashMap<Identity, Digest>,
    /// New events that were sent together, all or nothing.
    batches: Vec<Vec<Identity>>,
    /// By sequence.
    promised: BTreeMap<u64, (Identity, Witness)>,
    places: HashMap<Identity, u64>,
    acknowledged: u64,
    read: u64,
}

impl Promises {
    /// Notes new events before they are sent together.
    pub fn sends(&mut self, batch: &[(Identity, Digest)]) {
        self.sent.extend(batch.iter().cloned());
        self.batches.push(batch.iter().map(|(identity, _)| identity.clone()).collect());
    }

    /// Notes what a publisher or a reader was told.
    ///
    /// # Errors
    /// It contradicts what somebody was told before.
    pub fn told(&mut self, entry: &Entry, witness: Witness) -> Result<(), Fault> {
        let Entry { sequence, identity, digest } = entry;
        match self.sent.get(identity) {
            None => return Err(Fault::Foreign(identity.clone(), *sequence)),
            Some(sent) if sent != digest => return Err(Fault::Altered(identity.clone(), *sequence)),
            Some(_) => {}
        }
        if let Some(before) = self.places.get(identity).filter(|before| *before != sequence) {
            return Err(Fault::Moved(identity.clone(), *before, *sequence));
        }
        match self.promised.get(sequence) {
            Some((other, Witness::Publisher)) if other != identity => {
                return Err(Fault::Lost(other.clone(), *sequence));
            }
            Some((other, Witness::Reader)) if other != identity => {
                return Err(Fault::Vanished(other.clone(), *sequence));
            }
            // Once acknowledged, a reader's word adds nothing.
            Some((_, Witness::Publisher)) => return Ok(()),
            Some((_, Witness::Reader)) if witness == Witness::Reader => return Ok(()),
            Some(_) | None => {}
        }
        match witness {
            Witness::Publisher => self.acknowledged += 1,
            Witness::Reader => self.read += 1,
        }
        self.places.insert(identity.clone(), *sequence);
        self.promised.insert(*sequence, (identity.clone(), witness));
        Ok(())
    }

    /// How many events were acknowledged.
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// How many events readers saw before, or without, their acknowledgement.
    pub const fn read(&self) -> u64 {
        self.read
    }

    /// Compares a whole log, as it was read, with every promise.
    pub fn check(&self, log: &[Entry]) -> Vec<Fault> {
        let mut faults = Vec::new();
        faults.extend(
            log.windows(2)
                .filter(|pair| pair[1].sequence <= pair[0].sequence)
                .map(|pair| Fault::OutOfOrder(pair[0].sequence, pair[1].sequence)),
        );
        let mut found: HashMap<&Identity, u64> = HashMap::with_capacity(log.len());
        for Entry { sequence, identity, digest } in log {
            match self.sent.get(identity) {
                None => faults.push(Fault::Foreign(identity.clone(), *sequence)),
                Some(sent) if sent != digest => faults.push(Fault::Altered(identity.clone(), *sequence)),
                Some(_) => {}
            }
            if let Some(first) = found.insert(identity, *sequence) {
                faults.push(Fault::Doubled(identity.clone(), first, *sequence));
            }
        }
        for (sequence, (identity, witness)) in &self.promised {
            match (found.get(identity), witness) {
                (Some(at), _) if at == sequence => {}
                (Some(at), _) => faults.push(Fault::Moved(identity.clone(), *sequence, *at)),
                (None, Witness::Publisher) => faults.push(Fault::Lost(identity.clone(), *sequence)),
                (None, Witness::Reader) => faults.push(Fault::Vanished(identity.clone(), *sequence)),
            }
        }
        faults.extend(self.batches.iter().filter_map(|batch| torn(batch, &found)));
        faults
    }
}

/// A batch is stored whole, in its order and with nothing between, or not at all.
fn torn(batch: &[Identity], found: &HashMap<&Identity, u64>) -> Option<Fault> {
    let places: Vec<u64> = batch.iter().filter_map(|identity| found.get(identity).copied()).collect();
    let (first, last) = (*places.first()?, *places.last()?);
    let whole = places.len() == batch.len() && places.windows(2).all(|pair| pair[1] == pair[0] + 1);
    let distinct = batch.iter().collect::<HashSet<_>>().len() == batch.len();
    assert!(distinct, "a batch's new events are different ones");
    (!whole).then_some(Fault::Torn(batch.len(), places.len(), first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(number: u64) -> Identity {
        Identity { publisher: "spiffe://port.example/a".to_owned(), event_id: Uuid::from_u128(number.into()) }
    }

    fn entry(sequence: u64) -> Entry {
        Entry { sequence, identity: identity(sequence), digest: [sequence as u8; 32] }
    }

    /// Ten events in batches of two; the first six acknowledged, the seventh and eighth seen by a reader, the last two only sent.
    fn promises() -> Promises {
        let mut promises = Promises::default();
        for first in (1..=9).step_by(2) {
            let batch = [first, first + 1].map(|sequence| (identity(sequence), entry(sequence).digest));
            promises.sends(&batch);
        }
        for sequence in 1..=8 {
            let witness = if sequence <= 6 { Witness::Publisher } else { Witness::Reader };
            promises.told(&entry(sequence), witness).unwrap();
        }
        promises
    }

    fn log() -> Vec<Entry> {
        (1..=8).map(entry).collect()
    }

    #[test]
    fn a_log_that_keeps_every_promise_has_no_fault() {
        assert_eq!(promises().check(&log()), []);
        let with_what_was_only_sent: Vec<Entry> = (1..=10).map(entry).collect();
        assert_eq!(promises().check(&with_what_was_only_sent), []);
        assert_eq!((promises().acknowledged(), promises().read()), (6, 2));
    }

    #[test]
    fn a_lost_event_is_noticed_in_the_middle_and_at_the_end() {
        let mut log = log();
        log.drain(4..6);
        assert_eq!(promises().check(&log), [Fault::Lost(identity(5), 5), Fault::Lost(identity(6), 6)]);
        log.truncate(2);
        assert_eq!(promises().check(&log).len(), 6);
        assert_eq!(promises().check(&[]).len(), 8);
    }

    #[test]
    fn an_event_that_only_a_reader_saw_may_not_vanish() {
        let mut log = log();
        log.truncate(6);
        assert_eq!(promises().check(&log), [Fault::Vanished(identity(7), 7), Fault::Vanished(identity(8), 8)]);
    }

    #[test]
    fn an_altered_byte_is_noticed() {
        let mut log = log();
        log[2].digest[9] ^= 1;
        assert_eq!(promises().check(&log), [Fault::Altered(identity(3), 3)]);
    }

    #[test]
    fn a_doubled_event_is_noticed() {
        let mut log = log();
        log.push(Entry { sequence: 9, ..entry(2) });
        let faults = promises().check(&log);
        assert!(faults.contains(&Fault::Doubled(identity(2), 2, 9)), "{faults:?}");
    }

    #[test]
    fn another_order_is_noticed() {
        let mut swapped = log();
        swapped.swap(0, 1);
        assert_eq!(promises().check(&swapped), [Fault::OutOfOrder(2, 1)]);
        let mut renumbered = log();
        (renumbered[0].sequence, renumbered[1].sequence) = (2, 1);
        renumbered.swap(0, 1);
        let faults = promises().check(&renumbered);
        assert!(faults.contains(&Fault::Moved(identity(1), 1, 2)), "{faults:?}");
    }

    #[test]
    fn half_a_batch_is_noticed_even_where_nobody_was_told_of_it() {
        let mut log = log();
        log.push(entry(9));
        assert_eq!(promises().check(&log), [Fault::Torn(2, 1, 9, 9)]);
        log.push(Entry { sequence: 11, ..entry(10) });
        assert_eq!(promises().check(&log), [Fault::Torn(2, 2, 9, 11)]);
    }

    #[test]
    fn an_event_that_nobody_sent_is_noticed() {
        let mut log = log();
        log.push(entry(77));
        assert_eq!(promises().check(&log), [Fault::Foreign(identity(77), 77)]);
    }

    #[test]
    fn what_is_told_twice_must_be_told_alike() {
        let mut promises = promises();
        promises.told(&entry(8), Witness::Publisher).unwrap();
        assert_eq!((promises.acknowledged(), promises.read()), (7, 2));
        let moved = promises.told(&Entry { sequence: 9, ..entry(2) }, Witness::Publisher);
        assert_eq!(moved, Err(Fault::Moved(identity(2), 2, 9)));
        let taken = promises.told(&Entry { sequence: 2, ..entry(10) }, Witness::Reader);
        assert_eq!(taken, Err(Fault::Lost(identity(2), 2)));
        let altered = promises.told(&Entry { digest: [0; 32], ..entry(3) }, Witness::Reader);
        assert_eq!(altered, Err(Fault::Altered(identity(3), 3)));
    }
}
