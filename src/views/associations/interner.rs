//! Strings of bytes by number, each held once and without a heap block of its own: what a million subjects take is their bytes and
//! sixteen more each. It never forgets one.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

/// The strings.
#[derive(Debug, Default)]
pub struct Interner {
    bytes: Vec<u8>,
    /// Where each ends in `bytes`.
    ends: Vec<u64>,
    numbers: HashTable<u32>,
    hasher: RandomState,
}

impl Interner {
    /// The number of a string; none where it is not held.
    #[must_use]
    pub fn find(&self, bytes: &[u8]) -> Option<u32> {
        self.numbers.find(self.hasher.hash_one(bytes), |number| self.get(*number) == bytes).copied()
    }

    /// The number of a string, which is held from now on. True where it was not before: numbers count up from zero.
    pub fn intern(&mut self, bytes: &[u8]) -> (u32, bool) {
        if let Some(number) = self.find(bytes) {
            return (number, false);
        }
        let number = u32::try_from(self.ends.len()).expect("memory ends long before four thousand million strings");
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len() as u64);
        let Self { bytes: all, ends, numbers, hasher } = self;
        numbers.insert_unique(hasher.hash_one(bytes), number, |other| hasher.hash_one(slice(all, ends, *other)));
        (number, true)
    }

    /// The string of a number.
    #[must_use]
    pub fn get(&self, number: u32) -> &[u8] {
        slice(&self.bytes, &self.ends, number)
    }
}

fn slice<'a>(bytes: &'a [u8], ends: &[u64], number: u32) -> &'a [u8] {
    let start = number.checked_sub(1).map_or(0, |before| ends[before as usize]);
    &bytes[start as usize..ends[number as usize] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn each_string_has_one_number_and_comes_back(strings: Vec<Vec<u8>>) {
            let mut interner = Interner::default();
            let mut known: Vec<Vec<u8>> = Vec::new();
            for string in strings {
                let is_new = !known.contains(&string);
                proptest::prop_assert_eq!(interner.find(&string).is_none(), is_new);
                if is_new {
                    known.push(string.clone());
                }
                let expected = known.iter().position(|other| *other == string).unwrap() as u32;
                proptest::prop_assert_eq!(interner.intern(&string), (expected, is_new));
            }
            for (number, string) in known.iter().enumerate() {
                proptest::prop_assert_eq!(interner.get(number as u32), &string[..]);
            }
        }
    }
}
