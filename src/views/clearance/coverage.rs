//! Whether all declarations are known that cover some goods. It believes only who says so: that no other declaration is known here proves
//! nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    knowledge::Knowledge,
    related::{Related, fits},
    shelf::Filed,
};
use crate::{
    domain::{
        Sequence,
        clearance::{Coverage, Level},
    },
    views::associations::{graph::AllOfAKind, statement::Subject},
};

/// A coverage, and which associations make it complete.
#[derive(Debug)]
pub(super) struct CoverageFound {
    pub(super) coverage: Coverage,
    pub(super) said_by: Vec<Arc<Filed>>,
}

/// Which subjects are covered, by what, as far as that was asked.
type Answers = BTreeMap<Subject, Option<BTreeSet<Sequence>>>;

impl Knowledge {
    /// The coverage of a subject; `cleared` says whether any of what clears it has a step.
    ///
    /// - A declaration covers what it declares.
    /// - Goods with steps of their own are covered by these: the authority spoke of exactly them.
    /// - An association that names all declarations of its parent covers that, unless another declaration is tied to it all the same.
    /// - What travels under consignments is covered where each of them is.
    /// - A consignment is covered where all its containers, or all its house bills, are named and each is covered by itself.
    pub(super) fn coverage(&self, related: &Related, cleared: bool) -> CoverageFound {
        let subject = related.names.first().expect("a subject has a number");
        if Level::of(subject.fields().kind) == Some(Level::Declaration) {
            return CoverageFound { coverage: Coverage::Complete, said_by: Vec::new() };
        }
        match self.covered(subject, &mut Answers::new()) {
            Some(places) => CoverageFound { coverage: Coverage::Complete, said_by: self.filed_at(&places) },
            None if cleared || related.units.iter().any(|unit| unit.declared) => {
                CoverageFound { coverage: Coverage::Partial, said_by: Vec::new() }
            }
            None => CoverageFound { coverage: Coverage::Unknown, said_by: Vec::new() },
        }
    }

    /// The places of the associations by which a subject is covered; none where it is not.
    fn covered(&self, subject: &Subject, asked: &mut Answers) -> Option<BTreeSet<Sequence>> {
        if let Some(known) = asked.get(subject) {
            return known.clone();
        }
        // Whoever stands on a circle of ties covers nobody.
        asked.insert(subject.clone(), None);
        let covered = self
            .covered_by_itself(subject)
            .or_else(|| self.covered_from_above(subject, asked))
            .or_else(|| self.covered_from_below(subject));
        asked.insert(subject.clone(), covered.clone());
        covered
    }

    fn covered_by_itself(&self, subject: &Subject) -> Option<BTreeSet<Sequence>> {
        if self.has_steps(subject) {
            return Some(BTreeSet::new());
        }
        let tied = self.declarations_of(subject);
        let names_all = |all: &AllOfAKind| {
            tied.iter().all(|declaration| {
                let numbers = std::iter::once(declaration.clone()).chain(self.declarations_of(declaration));
                numbers
                    .into_iter()
                    .any(|number| all.children.iter().any(|child| fits(&child.fields(), &number.fields())))
            })
        };
        self.complete(subject, Level::Declaration).find(names_all).map(|all| BTreeSet::from([all.said_at]))
    }

    fn covered_from_above(&self, subject: &Subject, asked: &mut Answers) -> Option<BTreeSet<Sequence>> {
        let own_level = Level::of(subject.fields().kind)?;
        let mut places = BTreeSet::new();
        let mut any = false;
        for tied in self.tied(subject) {
            let above = own_level < tied.level || (own_level == tied.level && tied.other_is_parent);
            if above && tied.level != Level::Declaration {
                any = true;
                places.extend(self.covered(&tied.other, asked)?);
            }
        }
        any.then_some(places)
    }

    fn covered_from_below(&self, subject: &Subject) -> Option<BTreeSet<Sequence>> {
        if Level::of(subject.fields().kind) != Some(Level::Consignment) {
            return None;
        }
        [Level::Equipment, Level::Consignment].into_iter().find_map(|level| {
            let below = |tied: &super::knowledge::Tied| tied.level == level && !tied.other_is_parent;
            let all: Vec<AllOfAKind> = self.complete(subject, level).collect();
            let claimed = |child: &Subject| {
                all.iter().any(|all| all.children.iter().any(|one| fits(&one.fields(), &child.fields())))
            };
            let children: Vec<Subject> = self.tied(subject).into_iter().filter(below).map(|tied| tied.other).collect();
            if all.is_empty() || !children.iter().all(claimed) {
                return None;
            }
            let mut places: BTreeSet<Sequence> = all.iter().map(|all| all.said_at).collect();
            for child in children {
                places.extend(self.covered_by_itself(&child)?);
            }
            Some(places)
        })
    }

    /// What associations say are all of a subject's children at one level.
    fn complete(&self, subject: &Subject, level: Level) -> impl Iterator<Item = AllOfAKind> {
        let all = self.associated(subject).into_iter().flat_map(|one| self.graph.complete_children(&one));
        let mut all: Vec<AllOfAKind> = all.filter(|all| Level::of(all.kind) == Some(level)).collect();
        // Administrations are in order already; the kinds of each are not, and the first that names all is the one that is shown.
        all.sort_by_key(|all| all.kind);
        all.into_iter()
    }

    /// The associations at some places, in the order of statements: that of places is another at each node.
    fn filed_at(&self, places: &BTreeSet<Sequence>) -> Vec<Arc<Filed>> {
        let mut filed: Vec<Arc<Filed>> =
            places.iter().filter_map(|place| self.associations.get(place).cloned()).collect();
        filed.sort_by(|left, right| left.key.cmp(&right.key));
        filed
    }
}
