//! What belongs to a subject when it is cleared: what is above it, what is below it, and what clears it. It goes up or down, never up and
//! down again: what happens to another container of the same bill is nothing to this one.
//!
//! - Equipment travels under consignments; a consignment under those that name it their child. Declarations cover either.
//! - A declaration that is known only by a consignment above covers the subject too, unless it names goods of the subject's own level,
//!   this one is not among them, and another declaration names this one: of two declarations under one bill each covers the containers
//!   that it names.
//! - A declaration that was rejected, refused or voided (INVALIDATED) stands against its goods like any other that does not let them go.
//!   It does so until somebody says that it is theirs no more: by detaching it, or by naming all declarations of the goods without it.
//!   That a newer declaration is released does not say so: it may cover other goods of the same container.

use std::collections::{BTreeSet, HashMap};

use super::knowledge::{Knowledge, Tied, is_lrn};
use crate::{
    domain::{
        bindings::SubjectKey,
        clearance::{HoldKey, Level},
    },
    views::associations::statement::Subject,
};

/// Subjects, where an empty issuer is that of every subject of the same kind and value.
#[derive(Debug, Clone, Default)]
pub(super) struct SubjectSet(HashMap<(u8, Box<str>), Vec<Subject>>);

/// What clears a subject, or may.
#[derive(Debug, Clone)]
pub(super) struct CoveringUnit {
    /// Its number; of a declaration that of customs, where it is known.
    pub(super) subject: Subject,
    /// All its numbers.
    pub(super) names: Vec<Subject>,
    /// Whether it is a declaration: goods are a unit only where they have steps of their own.
    pub(super) declared: bool,
}

/// What belongs to a subject.
#[derive(Debug, Clone)]
pub(super) struct Related {
    /// The subject's own numbers.
    pub(super) names: Vec<Subject>,
    /// What is above it, declarations left out.
    pub(super) above: Vec<Subject>,
    /// What is below it.
    pub(super) below: Vec<Subject>,
    /// What clears it.
    pub(super) units: Vec<CoveringUnit>,
    /// Declarations that were looked at and clear other goods.
    others: Vec<Subject>,
    /// The holds that were placed on it: who lifts one need name none of its goods.
    pub(super) holds: BTreeSet<HoldKey>,
}

/// Whether two subjects are one; an empty issuer or date on either side fits any.
pub(super) fn fits(left: &SubjectKey<'_>, right: &SubjectKey<'_>) -> bool {
    let agrees = |left: &str, right: &str| left.is_empty() || right.is_empty() || left == right;
    left.kind == right.kind
        && left.value == right.value
        && agrees(left.issuer, right.issuer)
        && agrees(left.date, right.date)
}

impl SubjectSet {
    pub(super) fn contains(&self, subject: &SubjectKey<'_>) -> bool {
        let known = self.0.get(&(subject.kind, Box::from(subject.value)));
        known.is_some_and(|known| known.iter().any(|one| fits(&one.fields(), subject)))
    }

    pub(super) fn extend<'a>(&mut self, subjects: impl IntoIterator<Item = &'a Subject>) {
        for subject in subjects {
            let fields = subject.fields();
            let known = self.0.entry((fields.kind, fields.value.into())).or_default();
            if !known.contains(subject) {
                known.push(subject.clone());
            }
        }
    }
}

impl Related {
    /// Every subject that bears on the answer.
    pub(super) fn everything(&self) -> impl Iterator<Item = &Subject> {
        let units = self.units.iter().flat_map(|unit| &unit.names);
        self.names.iter().chain(&self.above).chain(&self.below).chain(units).chain(&self.others)
    }

    /// On what a hold must be to hold the subject.
    pub(super) fn held_by(&self) -> SubjectSet {
        let mut set = SubjectSet::default();
        set.extend(self.names.iter().chain(&self.above).chain(&self.below));
        set.extend(self.units.iter().flat_map(|unit| &unit.names));
        set
    }
}

impl Knowledge {
    /// What belongs to a subject.
    pub(super) fn related(&self, subject: &Subject) -> Related {
        let related = match Level::of(subject.fields().kind) {
            Some(Level::Declaration) => self.related_to_declaration(subject),
            _ => self.related_to_goods(subject),
        };
        Related { holds: self.holds_on(&related.held_by()), ..related }
    }

    fn related_to_goods(&self, subject: &Subject) -> Related {
        let names = vec![subject.clone()];
        let above = self.reached(&names, |from, tied| {
            tied.level != Level::Declaration && (from < tied.level || (from == tied.level && tied.other_is_parent))
        });
        let below =
            self.reached(&names, |from, tied| tied.level < from || (from == tied.level && !tied.other_is_parent));
        let mut goods = SubjectSet::default();
        goods.extend(names.iter().chain(&below));
        let direct = names.iter().chain(&below).flat_map(|one| self.declarations_of(one));
        let mut declarations: BTreeSet<Subject> = direct.collect();
        let is_named = !declarations.is_empty();
        let mut others = Vec::new();
        for declaration in above.iter().flat_map(|one| self.declarations_of(one)) {
            if is_named && self.names_only_other_goods(&declaration, subject, &goods) {
                others.push(declaration);
            } else {
                declarations.insert(declaration);
            }
        }
        let mut units = self.declared(declarations);
        units.extend(
            names.iter().chain(&above).chain(&below).filter(|one| self.has_steps(one)).map(|one| CoveringUnit {
                subject: one.clone(),
                names: vec![one.clone()],
                declared: false,
            }),
        );
        Related { names, above, below, units, others, holds: BTreeSet::new() }
    }

    fn related_to_declaration(&self, subject: &Subject) -> Related {
        let units = self.declared(BTreeSet::from([subject.clone()]));
        let mut names: Vec<Subject> = units.iter().flat_map(|unit| unit.names.iter().cloned()).collect();
        names.push(subject.clone());
        names.sort();
        names.dedup();
        // Where a declaration names its containers, the others of its bills are none of its goods.
        let own_equipment = names.iter().flat_map(|one| self.tied(one)).any(|tied| tied.level == Level::Equipment);
        let below = self.reached(&names, |from, tied| match from {
            Level::Declaration => tied.level < from,
            Level::Consignment if own_equipment => tied.level == from && !tied.other_is_parent,
            Level::Consignment | Level::Equipment => tied.level < from || (tied.level == from && !tied.other_is_parent),
        });
        Related { names, above: Vec::new(), below, units, others: Vec::new(), holds: BTreeSet::new() }
    }

    /// Whether some step is about the subject by this number.
    pub(super) fn has_steps(&self, subject: &Subject) -> bool {
        !self.steps_of(std::slice::from_ref(subject)).is_empty()
    }

    /// The declarations that are tied to a subject.
    pub(super) fn declarations_of(&self, subject: &Subject) -> Vec<Subject> {
        let tied = self.tied(subject).into_iter().filter(|tied| tied.level == Level::Declaration);
        tied.map(|tied| tied.other).collect()
    }

    /// What is reached from some subjects by ties of which each goes on in the same direction.
    fn reached(&self, from: &[Subject], goes_on: impl Fn(Level, &Tied) -> bool) -> Vec<Subject> {
        let mut seen = SubjectSet::default();
        seen.extend(from);
        let mut reached = Vec::new();
        let mut frontier: Vec<Subject> = from.to_vec();
        while let Some(one) = frontier.pop() {
            let Some(level) = Level::of(one.fields().kind) else { continue };
            for tied in self.tied(&one) {
                if goes_on(level, &tied) && !seen.contains(&tied.other.fields()) {
                    seen.extend([&tied.other]);
                    reached.push(tied.other.clone());
                    frontier.push(tied.other);
                }
            }
        }
        reached.sort();
        reached
    }

    fn names_only_other_goods(&self, declaration: &Subject, subject: &Subject, goods: &SubjectSet) -> bool {
        let level = Level::of(subject.fields().kind);
        let tied = self.tied(declaration);
        let mut alike = tied.iter().filter(|tied| Some(tied.level) == level).peekable();
        // Above a house bill stands its master, which is no other goods.
        let above = |other: &Subject| {
            self.tied(subject).iter().any(|tied| tied.other_is_parent && fits(&tied.other.fields(), &other.fields()))
        };
        alike.peek().is_some() && alike.all(|tied| !goods.contains(&tied.other.fields()) && !above(&tied.other))
    }

    /// Declarations by their numbers: those of the declarant under that of customs, where it is known.
    fn declared(&self, declarations: BTreeSet<Subject>) -> Vec<CoveringUnit> {
        let mut units: Vec<CoveringUnit> = Vec::new();
        for declaration in declarations {
            let other_numbers = |of: &Subject| -> Vec<Subject> {
                self.declarations_of(of).into_iter().filter(|other| is_lrn(other) != is_lrn(of)).collect()
            };
            let official = if is_lrn(&declaration) { other_numbers(&declaration) } else { vec![declaration.clone()] };
            let official = if official.is_empty() { vec![declaration] } else { official };
            for subject in official {
                if units.iter().any(|unit| fits(&unit.subject.fields(), &subject.fields())) {
                    continue;
                }
                let mut names = if is_lrn(&subject) { Vec::new() } else { other_numbers(&subject) };
                names.push(subject.clone());
                names.sort();
                names.dedup();
                units.push(CoveringUnit { subject, names, declared: true });
            }
        }
        units
    }
}
