//! Checks a whole index while it is in use. It never changes it, and never takes for damage what a merge removed by right.

use std::{collections::BTreeSet, sync::Arc};

use super::{RunFamily, run::Run};
#[cfg(test)]
use super::{keys, run};
use crate::storage::StorageError;

impl RunFamily {
    /// Checks every part of every run. Blocking.
    ///
    /// # Errors
    /// sled cannot read.
    pub fn verify(&self) -> Result<Vec<String>, StorageError> {
        self.verify_beside(|| {})
    }

    /// [`Self::verify`] with what happens beside it, before each part that is read.
    pub(super) fn verify_beside(&self, mut beside: impl FnMut()) -> Result<Vec<String>, StorageError> {
        let mut problems = Vec::new();
        let mut checked = BTreeSet::new();
        // Runs are merged meanwhile: the next to check is always one that counts now.
        while let Some(run) = self.first_unchecked(&checked) {
            checked.insert(run.number);
            for index in 0..run.parts() {
                beside();
                match run.part(&self.store, self.family, index) {
                    Ok(_) => {}
                    // Merged away by right, its parts removed: what took its place is checked in its turn.
                    Err(StorageError::Damaged(_)) if !self.still_counts(std::slice::from_ref(&run)) => break,
                    Err(error) if error.is_damage() => problems.push(error.with_cause()),
                    Err(other) => return Err(other),
                }
            }
        }
        Ok(problems)
    }

    /// The numbers of the runs that count, oldest first.
    #[cfg(test)]
    pub(crate) fn run_numbers(&self) -> Vec<u64> {
        self.read().runs.iter().map(|run| run.number).collect()
    }

    /// Every key that the runs that count have in sled.
    #[cfg(test)]
    pub(crate) fn stored_keys(&self) -> Vec<Vec<u8>> {
        let parts = |run: &Run| (0..run.parts()).chain(run::META_PARTS..run::META_PARTS + run.meta_pieces);
        let keys = |run: &Arc<Run>| {
            let number = run.number;
            parts(run).map(move |part| keys::run_part(self.family, number, part).to_vec())
        };
        self.read().runs.iter().flat_map(keys).collect()
    }

    fn first_unchecked(&self, checked: &BTreeSet<u64>) -> Option<Arc<Run>> {
        self.read().runs.iter().find(|run| !checked.contains(&run.number)).cloned()
    }
}
