//! The events that one clearance is folded from, gathered by subject. It takes in all that is there and notes of each whether the caller
//! may read it; nothing of the others leaves this view but a count.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{
    knowledge::{Knowledge, Sight},
    related::Related,
    shelf::{Filed, Shelf},
};
use crate::{
    domain::{
        Sequence,
        clearance::HoldKey,
        term::{TermHash, TermKind},
    },
    identity::Rights,
    views::{associations::statement::Subject, finder::Finder, timeline::GatherError},
};

/// At most so many subjects and holds are looked at for one clearance: a bill of several hundred containers, each under a hold of its own.
pub const SUBJECTS_MAX: usize = 1_024;
/// At most so many statements make one clearance: they are folded in memory, about 2 KiB each.
pub const STATEMENTS_MAX: usize = 10_000;
/// So many are looked for at once, so that a clearance of too many statements is given up before many more are held.
const TERMS_AT_ONCE: usize = 32;

/// Where events come from, and who asks.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) finder: &'a Finder,
    pub(super) rights: &'a Rights,
    pub(super) now_ns: i64,
    pub(super) through: Sequence,
}

/// The events of one clearance.
#[derive(Debug, Default)]
pub(super) struct Casebook {
    pub(super) filed: BTreeMap<Sequence, Arc<Filed>>,
    /// The values of subjects whose events are all here.
    gathered: HashSet<Box<str>>,
    /// The holds about which every statement is here.
    gathered_holds: HashSet<HoldKey>,
}

impl Casebook {
    /// Gathers all that belongs to a subject as one sight has it; and what the events of that sight say.
    pub(super) async fn gather_related(
        &mut self,
        sources: &Sources<'_>,
        shelf: &mut Shelf,
        sight: Sight,
        subject: &Subject,
    ) -> Result<(Related, Knowledge), GatherError> {
        loop {
            let knowledge = Knowledge::of(self, sight);
            let related = knowledge.related(subject);
            let mut missing: Vec<Box<str>> = related
                .everything()
                .map(|one| Box::from(one.fields().value))
                .filter(|value| !self.gathered.contains(value))
                .collect();
            missing.sort();
            missing.dedup();
            let holds: Vec<HoldKey> =
                related.holds.iter().filter(|hold| !self.gathered_holds.contains(hold)).cloned().collect();
            if missing.is_empty() && holds.is_empty() {
                return Ok((related, knowledge));
            }
            if self.gathered.len() + missing.len() + self.gathered_holds.len() + holds.len() > SUBJECTS_MAX {
                return Err(GatherError::TooManySubjects);
            }
            let values = missing.iter().map(|value| TermHash::of(TermKind::SubjectValue, &[value.as_bytes()]));
            let terms: Vec<TermHash> = values.chain(holds.iter().map(HoldKey::term)).collect();
            for terms in terms.chunks(TERMS_AT_ONCE) {
                self.gather(sources, shelf, terms).await?;
            }
            self.gathered.extend(missing);
            self.gathered_holds.extend(holds);
        }
    }

    /// Whether the caller may read every event here, so that her sight is the node's.
    pub(super) fn is_all_readable(&self) -> bool {
        self.filed.values().all(|filed| filed.readable)
    }

    async fn gather(
        &mut self,
        sources: &Sources<'_>,
        shelf: &mut Shelf,
        terms: &[TermHash],
    ) -> Result<(), GatherError> {
        let mut fresh = self.file(shelf.found_by(sources, terms).await?)?;
        while !fresh.is_empty() {
            fresh = self.file(shelf.revising(sources, &fresh).await?)?;
        }
        Ok(())
    }

    /// Takes in events, and answers which of them are new here.
    fn file(&mut self, found: Vec<Arc<Filed>>) -> Result<Vec<Arc<Filed>>, GatherError> {
        let mut fresh = Vec::new();
        for filed in found {
            let place = filed.decoded.sequence;
            if self.filed.contains_key(&place) {
                continue;
            }
            if self.filed.len() >= STATEMENTS_MAX {
                return Err(GatherError::TooManyEvents);
            }
            self.filed.insert(place, Arc::clone(&filed));
            fresh.push(filed);
        }
        Ok(fresh)
    }
}
