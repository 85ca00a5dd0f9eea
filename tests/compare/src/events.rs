//! The events that all systems get: those of `tradelane bench`, each use of one with a fresh id in its place. It never changes another byte.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use uuid::Uuid;

/// Where the id stands in an encoded event: the first field, 36 characters long.
const ID: std::ops::Range<usize> = 2..38;

/// One event, ready to be published.
#[derive(Debug, Clone)]
pub struct Event {
    /// Unique.
    pub id: Uuid,
    /// As a participant encodes it.
    pub bytes: Bytes,
    /// What a node indexes it by, its identity left out.
    pub terms: Arc<[i64]>,
}

/// Events without end.
#[derive(Debug)]
pub struct Supply {
    told: Vec<(Vec<u8>, Arc<[i64]>)>,
    next: usize,
}

impl Supply {
    /// Reads what `tradelane bench --prepare` wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let all = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (mut rest, mut told) = (all.as_slice(), Vec::new());
        while !rest.is_empty() {
            let bytes = take_counted(&mut rest, 1)?.to_vec();
            ensure!(bytes.get(..2) == Some(&[0x0a, 36]), "an event does not begin with its id");
            let terms = take_counted(&mut rest, 8)?.chunks_exact(8);
            let terms = terms.map(|term| i64::from_le_bytes(term.try_into().expect("eight bytes"))).collect();
            told.push((bytes, terms));
        }
        ensure!(!told.is_empty(), "{} has no event", path.display());
        Ok(Self { told, next: 0 })
    }

    /// The next event.
    pub fn event(&mut self) -> Event {
        let (bytes, terms) = &self.told[self.next % self.told.len()];
        self.next += 1;
        let id = Uuid::now_v7();
        let mut bytes = bytes.clone();
        id.hyphenated().encode_lower(&mut bytes[ID]);
        Event { id, bytes: bytes.into(), terms: Arc::clone(terms) }
    }

    /// So many requests of so many events.
    pub fn requests(&mut self, count: usize, events: usize) -> Vec<Arc<[Event]>> {
        (0..count).map(|_| (0..events).map(|_| self.event()).collect()).collect()
    }
}

/// The id of an event that came back.
pub fn id_of(event: &[u8]) -> Result<Uuid> {
    let Some(id) = event.get(ID) else { bail!("an event of {} bytes was delivered", event.len()) };
    Ok(Uuid::try_parse_ascii(id)?)
}

/// A count and so many items of so many bytes each.
fn take_counted<'a>(rest: &mut &'a [u8], item_bytes: usize) -> Result<&'a [u8]> {
    let (count, after) = rest.split_first_chunk::<4>().context("the events are cut off")?;
    let bytes = u32::from_le_bytes(*count) as usize * item_bytes;
    let (taken, after) = after.split_at_checked(bytes).context("the events are cut off")?;
    *rest = after;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_use_of_an_event_has_an_id_of_its_own_and_is_the_same_otherwise() {
        let mut event = vec![0x0a, 36];
        event.extend(Uuid::now_v7().hyphenated().to_string().bytes());
        event.extend(b"the rest");
        let mut file = (event.len() as u32).to_le_bytes().to_vec();
        file.extend(&event);
        file.extend(1_u32.to_le_bytes());
        file.extend((-7_i64).to_le_bytes());
        let path = tempfile::NamedTempFile::new().unwrap();
        fs::write(path.path(), &file).unwrap();
        let requests = Supply::read(path.path()).unwrap().requests(2, 1);
        let (one, other) = (&requests[0][0], &requests[1][0]);
        assert_ne!(one.bytes, other.bytes);
        for used in [one, other] {
            assert_eq!(id_of(&used.bytes).unwrap(), used.id);
            assert_eq!((&used.bytes[38..], &*used.terms), (&event[38..], &[-7][..]));
        }
        fs::write(path.path(), &file[..file.len() - 1]).unwrap();
        assert!(Supply::read(path.path()).is_err());
    }
}
