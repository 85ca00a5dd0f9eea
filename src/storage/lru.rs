//! What was read, kept while it is asked for and there is room: what was used longest ago goes first. It never holds more than its limit,
//! and never knows whether what it holds still counts: whoever puts something in takes it out, or tells by the key.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// Values by their keys, with a limit of bytes.
#[derive(Debug)]
pub struct Lru<K, V> {
    bytes_max: usize,
    held: HashMap<K, Held<V>>,
    order: BTreeMap<u64, K>,
    uses: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Held<V> {
    used: u64,
    bytes: usize,
    value: V,
}

impl<K: Copy + Eq + Hash, V: Clone> Lru<K, V> {
    /// Nothing yet, and room for so much.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, held: HashMap::new(), order: BTreeMap::new(), uses: 0, bytes: 0 }
    }

    /// What is held under a key, which is used by that.
    pub fn get(&mut self, key: K) -> Option<V> {
        self.uses += 1;
        let held = self.held.get_mut(&key)?;
        self.order.remove(&held.used);
        held.used = self.uses;
        self.order.insert(self.uses, key);
        Some(held.value.clone())
    }

    /// Holds a value of about so many bytes, in the place of what is held under its key.
    pub fn put(&mut self, key: K, value: V, bytes: usize) {
        self.uses += 1;
        if let Some(before) = self.held.insert(key, Held { used: self.uses, bytes, value }) {
            self.order.remove(&before.used);
            self.bytes -= before.bytes;
        }
        self.order.insert(self.uses, key);
        self.bytes += bytes;
        while self.bytes > self.bytes_max
            && let Some((_, oldest)) = self.order.pop_first()
        {
            if let Some(gone) = self.held.remove(&oldest) {
                self.bytes -= gone.bytes;
            }
        }
    }

    /// Lets go of everything.
    pub fn clear(&mut self) {
        self.held.clear();
        self.order.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first_and_the_limit_holds() {
        let mut lru = Lru::new(10);
        for (key, bytes) in [(1, 4), (2, 4)] {
            lru.put(key, key * 100, bytes);
        }
        assert_eq!(lru.get(1), Some(100));
        lru.put(3, 300, 4);
        assert_eq!((lru.get(1), lru.get(2), lru.get(3)), (Some(100), None, Some(300)));
        // In the place of what it was.
        lru.put(3, 301, 6);
        assert_eq!((lru.get(1), lru.get(3)), (Some(100), Some(301)));
        lru.put(4, 400, 11);
        assert_eq!((lru.get(1), lru.get(3), lru.get(4)), (None, None, None));
        lru.put(5, 500, 10);
        assert_eq!(lru.get(5), Some(500));
        lru.clear();
        assert_eq!(lru.get(5), None);
    }
}
