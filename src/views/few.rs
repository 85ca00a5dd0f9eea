//! A sorted set that is small almost always: of a million subjects nearly each stands in one group or two, for which a tree's node of
//! eleven places would be most of a view's memory. It never holds a value twice.

use std::collections::BTreeSet;

/// Beyond so many a tree is the better form.
const FEW_MAX: usize = 16;

/// The set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FewSet<T> {
    /// In ascending order.
    Few(Vec<T>),
    /// More than [`FEW_MAX`]; it stays a tree until it is empty.
    Many(BTreeSet<T>),
}

impl<T> Default for FewSet<T> {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl<T: Ord> FewSet<T> {
    /// Adds a value, where it is not there yet.
    pub fn insert(&mut self, value: T) {
        match self {
            Self::Few(few) => {
                let Err(at) = few.binary_search(&value) else { return };
                // What a vector takes at once would be four places.
                if few.len() < 3 {
                    few.reserve_exact(1);
                }
                few.insert(at, value);
                if few.len() > FEW_MAX {
                    *self = Self::Many(std::mem::take(few).into_iter().collect());
                }
            }
            Self::Many(many) => drop(many.insert(value)),
        }
    }

    /// Removes a value, where it is there.
    pub fn remove(&mut self, value: &T) {
        match self {
            Self::Few(few) => {
                if let Ok(at) = few.binary_search(value) {
                    few.remove(at);
                }
            }
            Self::Many(many) => drop(many.remove(value)),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
    }

    /// All values, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let (few, many) = match self {
            Self::Few(few) => (Some(few), None),
            Self::Many(many) => (None, Some(many)),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn it_holds_what_a_tree_holds(changes: Vec<(bool, u8)>) {
            let (mut set, mut tree) = (FewSet::default(), BTreeSet::new());
            for (adds, value) in changes {
                let value = value % 40;
                if adds {
                    set.insert(value);
                    tree.insert(value);
                } else {
                    set.remove(&value);
                    tree.remove(&value);
                }
                proptest::prop_assert!(set.iter().eq(tree.iter()));
                proptest::prop_assert_eq!(set.is_empty(), tree.is_empty());
            }
        }
    }
}
