//! A Bloom filter over hashes (B. H. Bloom, 1970; the double hashing of Kirsch and Mitzenmacher, 2006): it may say "perhaps" of what is
//! not there, and never says "no" of what is. Runs and blocks of events carry one.

/// Probes a hash. Three with ten bits an entry are wrong about once in sixty, and cost three cache lines.
const PROBES: u64 = 3;
/// Bits an entry.
const BITS_PER_ENTRY: usize = 10;

/// The filter's bits, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bloom {
    bytes: Vec<u8>,
}

impl Bloom {
    /// An empty filter for about so many entries, of `bytes_min` to `bytes_max` bytes (powers of two).
    #[must_use]
    pub fn for_entries(entries: usize, bytes_min: usize, bytes_max: usize) -> Self {
        debug_assert!(bytes_min.is_power_of_two() && bytes_max.is_power_of_two());
        let wanted = entries.saturating_mul(BITS_PER_ENTRY).div_ceil(8).next_power_of_two();
        Self { bytes: vec![0; wanted.clamp(bytes_min, bytes_max)] }
    }

    /// An empty filter for so many entries that takes no more bytes than they need, between two numbers. Its probes cost a multiplication
    /// where their number is no power of two; an earlier program takes such a filter to contain everything, perhaps.
    #[must_use]
    pub fn fitting(entries: usize, bytes_min: usize, bytes_max: usize) -> Self {
        let wanted = entries.saturating_mul(BITS_PER_ENTRY).div_ceil(8);
        Self { bytes: vec![0; wanted.clamp(bytes_min, bytes_max)] }
    }

    /// A filter of so many bytes (a power of two) that contains everything, perhaps.
    #[must_use]
    pub fn full(bytes: usize) -> Self {
        debug_assert!(bytes.is_power_of_two());
        Self { bytes: vec![0xff; bytes] }
    }

    /// The filter of these bytes; none where their number is not a power of two.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        bytes.len().is_power_of_two().then_some(Self { bytes })
    }

    /// The bytes, as stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a hash.
    pub fn add(&mut self, hash: u64) {
        for bit in probes(hash, self.bytes.len()) {
            self.bytes[bit / 8] |= 1 << (bit % 8);
        }
    }

    /// False: the hash was never added.
    #[must_use]
    pub fn may_contain(&self, hash: u64) -> bool {
        may_contain(&self.bytes, hash)
    }
}

/// Gathers what a filter will contain, where nobody knows before the last how much that is: a filter that is sized for more is written,
/// merged and held in memory with all its zeros.
#[derive(Debug)]
pub struct BloomBuilder {
    bytes_min: usize,
    bytes_max: usize,
    hashes: Vec<u64>,
    /// The filter, once it is certain to be one of the largest size.
    largest: Option<Bloom>,
}

impl BloomBuilder {
    /// For a filter of `bytes_min` to `bytes_max` bytes (powers of two).
    #[must_use]
    pub const fn new(bytes_min: usize, bytes_max: usize) -> Self {
        Self { bytes_min, bytes_max, hashes: Vec::new(), largest: None }
    }

    /// Adds a hash that was not added before.
    pub fn add(&mut self, hash: u64) {
        if let Some(bloom) = &mut self.largest {
            bloom.add(hash);
            return;
        }
        self.hashes.push(hash);
        if self.bytes_max / 2 < self.hashes.len() * BITS_PER_ENTRY / 8 {
            self.largest = Some(self.of_hashes());
            self.hashes = Vec::new();
        }
    }

    /// The filter of all that was added. Leaves the builder empty.
    pub fn finish(&mut self) -> Bloom {
        let bloom = self.largest.take().unwrap_or_else(|| self.of_hashes());
        self.hashes.clear();
        bloom
    }

    fn of_hashes(&self) -> Bloom {
        let mut bloom = Bloom::for_entries(self.hashes.len(), self.bytes_min, self.bytes_max);
        for hash in &self.hashes {
            bloom.add(*hash);
        }
        bloom
    }
}

/// [`Bloom::may_contain`] over bytes that are read in place. No bytes contain everything, perhaps.
#[must_use]
pub fn may_contain(bytes: &[u8], hash: u64) -> bool {
    bytes.is_empty() || probes(hash, bytes.len()).all(|bit| bytes[bit / 8] & (1 << (bit % 8)) != 0)
}

fn probes(hash: u64, bytes: usize) -> impl Iterator<Item = usize> {
    let bits = (bytes * 8) as u64;
    // An odd step visits different bits; both halves of the hash take part.
    let step = (hash >> 32) | 1;
    (0..PROBES).map(move |probe| {
        let mixed = hash.wrapping_add(step.wrapping_mul(probe));
        // The lower half as a fraction of the bits, where no mask gives one of them (D. Lemire, 2019). Persisted: neither way changes.
        (if bits.is_power_of_two() { mixed & (bits - 1) } else { ((mixed & 0xffff_ffff) * bits) >> 32 }) as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_always_found_and_the_rest_mostly_not() {
        let mixed = |number: u64| {
            number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9)
        };
        let mut bloom = Bloom::for_entries(10_000, 32, 1 << 20);
        (0..10_000).for_each(|number| bloom.add(mixed(number)));
        assert!((0..10_000).all(|number| bloom.may_contain(mixed(number))));
        let wrong = (10_000..20_000).filter(|number| bloom.may_contain(mixed(*number))).count();
        assert!(wrong < 400, "{wrong} of 10,000 were wrongly perhaps");
    }

    #[test]
    fn a_gathered_filter_is_as_large_as_one_for_so_many_entries() {
        for count in [0, 1, 400, 1_000, 5_000] {
            let mut gathered = BloomBuilder::new(32, 1 << 10);
            let mut known = Bloom::for_entries(count, 32, 1 << 10);
            for hash in (0..count as u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
                gathered.add(hash);
                known.add(hash);
            }
            assert_eq!(gathered.finish(), known, "{count} entries");
        }
    }

    #[test]
    fn a_fitting_filter_finds_what_was_added_and_mostly_nothing_else() {
        let mixed = |number: u64| {
            number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9)
        };
        for count in [1_u64, 100, 205, 250, 819, 10_000] {
            let mut bloom = Bloom::fitting(count as usize, 64, 1_024);
            assert_eq!(bloom.as_bytes().len(), (count as usize * 10).div_ceil(8).clamp(64, 1_024));
            (0..count).for_each(|number| bloom.add(mixed(number)));
            assert!((0..count).all(|number| bloom.may_contain(mixed(number))));
            let wrong = (10_000..20_000).filter(|number| bloom.may_contain(mixed(*number))).count();
            assert!(count > 819 || wrong < 400, "{wrong} of 10,000 were wrongly perhaps among {count}");
        }
    }

    #[test]
    fn the_bits_of_a_hash_are_pinned_since_they_are_kept_for_ever() {
        let hash = 0x0123_4567_89ab_cdef;
        assert_eq!(probes(hash, 256).collect::<Vec<_>>(), [1_519, 854, 189]);
        assert_eq!(probes(hash, 250).collect::<Vec<_>>(), [1_075, 1_084, 1_093]);
    }
}
