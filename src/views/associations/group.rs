//! The fold of one group: all that one administration says of one parent. The last word in the order of statements counts, and another
//! administration's words neither undo these nor are undone by them. It never looks beyond its group.
//!
//! - ATTACHED ties the children that it names to the parent. Where it is `complete`, other children of the same kinds are untied.
//! - DETACHED unties the children that it names, and ends the ties of the parties that it names; where it names neither, all of both.
//! - A participant is bound to a subject (the parent, or a tied child) where one ATTACHED statement names both of them and neither was
//!   detached since. Only that: a party of a bill is not bound to whatever somebody else attaches to the bill, since attaching needs no
//!   right to share.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet},
};

use super::{
    few::FewNumbers,
    interner::Interner,
    statement::kind_of,
    statements::{Stated, Statements},
};
use crate::domain::Sequence;

/// Of a group of so many statements what they come to is found each time that somebody asks: most groups have one, and to keep what a
/// million of them come to would take several times what they say. Of more it is kept.
const FOLDED_WHEN_ASKED_MAX: usize = 4;

/// One administration's statements about one parent, by their places among all statements.
#[derive(Debug, Default)]
pub struct Group {
    /// The administration, as the number of its name.
    pub domain: u32,
    /// The parent, as the number of its subject.
    pub parent: u32,
    /// In the order of the fold.
    statements: FewNumbers,
    kept: Option<Box<Fold>>,
}

/// What the statements come to. Each tie is kept with the places of the statements that hold it up.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Fold {
    children: HashMap<u32, Vec<Sequence>>,
    participants: HashMap<u32, HashSet<Sequence>>,
    /// The kinds of which all children are named, each with the place of the statement that says so.
    complete: HashMap<u8, Sequence>,
}

impl Group {
    /// A group that nobody has said anything of.
    #[must_use]
    pub fn new(domain: u32, parent: u32) -> Self {
        Self { domain, parent, ..Self::default() }
    }

    /// Takes in the statement at a place. [`Group::settle`] comes after the last of several.
    pub fn insert(&mut self, place: u32, statements: &Statements, names: &Interner, subjects: &Interner) {
        let stated = statements.at(place);
        let earlier = |other: &u32| statements.at(*other).order(stated, names).is_lt();
        let at = self.statements.as_slice().partition_point(earlier);
        let is_last = at == self.statements.as_slice().len();
        self.statements.insert(at, place);
        match &mut self.kept {
            Some(fold) if is_last => fold.apply(stated, subjects),
            _ => self.kept = None,
        }
    }

    /// Takes out the statement at a place. [`Group::settle`] comes after the last of several.
    pub fn remove(&mut self, place: u32) {
        if let Some(at) = self.statements.as_slice().iter().position(|other| *other == place) {
            self.statements.remove(at);
            self.kept = None;
        }
    }

    /// Keeps what the statements come to, where they are many.
    pub fn settle(&mut self, statements: &Statements, subjects: &Interner) {
        if self.statements.as_slice().len() <= FOLDED_WHEN_ASKED_MAX {
            self.kept = None;
        } else if self.kept.is_none() {
            self.kept = Some(Box::new(self.folded(statements, subjects)));
        }
    }

    /// What the statements come to.
    #[must_use]
    pub fn fold(&self, statements: &Statements, subjects: &Interner) -> Cow<'_, Fold> {
        match &self.kept {
            Some(fold) => Cow::Borrowed(fold),
            None => Cow::Owned(self.folded(statements, subjects)),
        }
    }

    fn folded(&self, statements: &Statements, subjects: &Interner) -> Fold {
        let mut fold = Fold::default();
        for place in self.statements.as_slice() {
            fold.apply(statements.at(*place), subjects);
        }
        fold
    }

    /// False: no statement names the participant, whatever they come to.
    #[must_use]
    pub fn may_bind(&self, participant: u32, statements: &Statements) -> bool {
        self.kept.is_some()
            || self
                .statements
                .as_slice()
                .iter()
                .any(|place| statements.at(*place).participants().contains(&participant))
    }

    /// Whether no statement is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.statements.as_slice().is_empty()
    }
}

impl Fold {
    /// The children that are tied to the parent now.
    pub fn children(&self) -> impl Iterator<Item = u32> {
        self.children.keys().copied()
    }

    /// The kinds of children of which all are tied that there are, each with the place of the statement that says so.
    pub fn complete_kinds(&self) -> impl Iterator<Item = (u8, Sequence)> {
        self.complete.iter().map(|(kind, place)| (*kind, *place))
    }

    /// The participants that are named and not detached.
    pub fn participants(&self) -> impl Iterator<Item = u32> {
        self.participants.keys().copied()
    }

    /// The places of the statements that tie the child to the parent.
    #[must_use]
    pub fn supports(&self, child: u32) -> &[Sequence] {
        self.children.get(&child).map_or(&[], Vec::as_slice)
    }

    /// Whether the participant is bound to the parent.
    #[must_use]
    pub fn binds_to_parent(&self, participant: u32) -> bool {
        self.participants.contains_key(&participant)
    }

    /// Whether the participant is bound to a child.
    #[must_use]
    pub fn binds_to_child(&self, participant: u32, child: u32) -> bool {
        let Some(named) = self.participants.get(&participant) else { return false };
        self.supports(child).iter().any(|place| named.contains(place))
    }

    /// All that the participant is bound to, the parent left out.
    #[must_use]
    pub fn bound_children(&self, participant: u32) -> BTreeSet<u32> {
        self.children().filter(|child| self.binds_to_child(participant, *child)).collect()
    }

    fn apply(&mut self, stated: &Stated, subjects: &Interner) {
        let (children, participants) = (stated.children(), stated.participants());
        if stated.attached {
            self.attach(stated, subjects);
        } else if children.is_empty() && participants.is_empty() {
            *self = Self::default();
        } else {
            for child in children {
                self.children.remove(child);
            }
            for participant in participants {
                self.participants.remove(participant);
            }
        }
    }

    fn attach(&mut self, stated: &Stated, subjects: &Interner) {
        let (children, sequence) = (stated.children(), stated.sequence);
        let kind = |child: &u32| kind_of(subjects.get(*child));
        if stated.complete {
            let kinds: BTreeSet<u8> = children.iter().map(kind).collect();
            let named: BTreeSet<u32> = children.iter().copied().collect();
            self.children.retain(|child, _| !kinds.contains(&kind(child)) || named.contains(child));
            self.complete.extend(kinds.into_iter().map(|kind| (kind, sequence)));
        } else {
            // Who names another child later, without saying that these are all, takes back that those before were all.
            for child in children.iter().filter(|child| !self.children.contains_key(*child)) {
                self.complete.remove(&kind(child));
            }
        }
        for child in children {
            let places = self.children.entry(*child).or_default();
            // A child named twice in one statement is held up by it once.
            if places.last() != Some(&sequence) {
                places.push(sequence);
            }
        }
        for participant in stated.participants() {
            self.participants.entry(*participant).or_default().insert(sequence);
        }
    }
}
