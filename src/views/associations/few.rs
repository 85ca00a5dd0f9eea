//! A short list of numbers that takes sixteen bytes while it has no more than three: of a million subjects nearly each stands in one group
//! or two, and nearly each group has one statement. It keeps whatever order its owner gives it.

/// So many stand in the list itself.
const WITHIN_MAX: usize = 3;

/// The list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FewNumbers {
    /// The first `count` of `numbers`.
    Within {
        /// How many there are.
        count: u8,
        /// Those beyond the count mean nothing.
        numbers: [u32; WITHIN_MAX],
    },
    /// More than [`WITHIN_MAX`], or as many as were once. Boxed: a vector itself would make every list twice as large.
    #[allow(clippy::box_collection)]
    Beyond(Box<Vec<u32>>),
}

const _: () = assert!(size_of::<FewNumbers>() == 16, "what it is for");

impl Default for FewNumbers {
    fn default() -> Self {
        Self::Within { count: 0, numbers: [0; WITHIN_MAX] }
    }
}

impl FewNumbers {
    /// The numbers in their order.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Self::Within { count, numbers } => &numbers[..usize::from(*count)],
            Self::Beyond(numbers) => numbers,
        }
    }

    /// Puts a number before the one at an index, or last.
    pub fn insert(&mut self, at: usize, number: u32) {
        match self {
            Self::Within { count, numbers } if usize::from(*count) < WITHIN_MAX => {
                numbers.copy_within(at..usize::from(*count), at + 1);
                numbers[at] = number;
                *count += 1;
            }
            Self::Within { numbers, .. } => {
                let mut more = numbers.to_vec();
                more.insert(at, number);
                *self = Self::Beyond(Box::new(more));
            }
            Self::Beyond(numbers) => numbers.insert(at, number),
        }
    }

    /// Removes the number at an index.
    pub fn remove(&mut self, at: usize) {
        match self {
            Self::Within { count, numbers } => {
                numbers.copy_within(at + 1..usize::from(*count), at);
                *count -= 1;
            }
            Self::Beyond(numbers) => drop(numbers.remove(at)),
        }
    }

    /// Adds a number to a list in ascending order, where it is not there yet.
    pub fn add_to_set(&mut self, number: u32) {
        if let Err(at) = self.as_slice().binary_search(&number) {
            self.insert(at, number);
        }
    }

    /// Removes a number from a list in ascending order, where it is there.
    pub fn remove_from_set(&mut self, number: u32) {
        if let Ok(at) = self.as_slice().binary_search(&number) {
            self.remove(at);
        }
    }
}

impl FromIterator<u32> for FewNumbers {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut list = Self::default();
        for number in numbers {
            list.insert(list.as_slice().len(), number);
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn it_holds_what_a_tree_holds(changes: Vec<(bool, u8)>) {
            let (mut set, mut tree) = (FewNumbers::default(), std::collections::BTreeSet::new());
            for (adds, number) in changes {
                let number = u32::from(number % 8);
                if adds {
                    set.add_to_set(number);
                    tree.insert(number);
                } else {
                    set.remove_from_set(number);
                    tree.remove(&number);
                }
                proptest::prop_assert!(set.as_slice().iter().eq(tree.iter()));
            }
        }

        #[test]
        fn it_keeps_the_order_that_it_is_given(changes: Vec<(bool, u8, u32)>) {
            let (mut list, mut vector) = (FewNumbers::default(), Vec::new());
            for (adds, at, number) in changes {
                let at = usize::from(at) % (vector.len() + 1);
                if adds || vector.is_empty() {
                    list.insert(at, number);
                    vector.insert(at, number);
                } else {
                    let at = at.min(vector.len() - 1);
                    list.remove(at);
                    vector.remove(at);
                }
                proptest::prop_assert_eq!(list.as_slice(), &vector[..]);
            }
            let anew: FewNumbers = vector.iter().copied().collect();
            proptest::prop_assert_eq!(anew.as_slice(), &vector[..]);
        }
    }
}
