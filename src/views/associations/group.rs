//! The fold of one group: all that one administration says of one parent. The last word in the order of statements counts, and another
//! administration's words neither undo these nor are undone by them. It never looks beyond its group.
//!
//! - ATTACHED ties the children that it names to the parent. Where it is `complete`, other children of the same kinds are untied.
//! - DETACHED unties the children that it names, and ends the ties of the parties that it names; where it names neither, all of both.
//! - A participant is bound to a subject (the parent, or a tied child) where one ATTACHED statement names both of them and neither was
//!   detached since. Only that: a party of a bill is not bound to whatever somebody else attaches to the bill, since attaching needs no
//!   right to share.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::statement::{Says, Statement, Subject};
use crate::{domain::Sequence, views::fold_order::FoldKey};

/// One administration's statements about one parent, and what they come to.
#[derive(Debug, Default)]
pub struct Group {
    /// In the order of the fold; most groups have one.
    statements: Vec<(FoldKey, Sequence, Says)>,
    state: State,
}

/// What the statements come to. Each tie is kept with the places of the statements that hold it up.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct State {
    children: HashMap<Subject, Vec<Sequence>>,
    participants: HashMap<Box<str>, HashSet<Sequence>>,
    /// The kinds of which all children are named, each with the place of the statement that says so.
    complete: HashMap<u8, Sequence>,
}

impl Group {
    /// Takes a statement in. Answers false where the whole group must be folded anew ([`Group::refold`]), since the statement does not
    /// come last.
    pub fn insert(&mut self, statement: &Statement, says: Says) -> bool {
        let last = self.statements.last().is_none_or(|(last, ..)| *last < statement.key);
        if last {
            self.state.apply(statement.sequence, &says);
        }
        if self.statements.is_empty() {
            // What a vector takes at once would be four places.
            self.statements.reserve_exact(1);
        }
        let entry = (statement.key.clone(), statement.sequence, says);
        match self.place_of(&statement.key) {
            Ok(at) => self.statements[at] = entry,
            Err(at) => self.statements.insert(at, entry),
        }
        last
    }

    /// Takes a statement out; the group must be folded anew then.
    pub fn remove(&mut self, key: &FoldKey) {
        if let Ok(at) = self.place_of(key) {
            self.statements.remove(at);
        }
    }

    fn place_of(&self, key: &FoldKey) -> Result<usize, usize> {
        self.statements.binary_search_by(|(other, ..)| other.cmp(key))
    }

    /// Folds all statements anew.
    pub fn refold(&mut self) {
        self.state = State::default();
        for (_, sequence, says) in &self.statements {
            self.state.apply(*sequence, says);
        }
    }

    /// Whether no statement is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// The children that are tied to the parent now.
    pub fn children(&self) -> impl Iterator<Item = &Subject> {
        self.state.children.keys()
    }

    /// The kinds of children of which all are tied that there are, each with the place of the statement that says so.
    pub fn complete_kinds(&self) -> impl Iterator<Item = (u8, Sequence)> {
        self.state.complete.iter().map(|(kind, place)| (*kind, *place))
    }

    /// The participants that are named and not detached.
    pub fn participants(&self) -> impl Iterator<Item = &str> {
        self.state.participants.keys().map(|participant| &**participant)
    }

    /// The places of the statements that tie the child to the parent.
    #[must_use]
    pub fn supports(&self, child: &[u8]) -> &[Sequence] {
        self.state.children.get(child).map_or(&[], Vec::as_slice)
    }

    /// Whether the participant is bound to the parent.
    #[must_use]
    pub fn binds_to_parent(&self, participant: &str) -> bool {
        self.state.participants.contains_key(participant)
    }

    /// Whether the participant is bound to a child.
    #[must_use]
    pub fn binds_to_child(&self, participant: &str, child: &[u8]) -> bool {
        let Some(named) = self.state.participants.get(participant) else { return false };
        self.supports(child).iter().any(|place| named.contains(place))
    }

    /// All that the participant is bound to, the parent left out.
    #[must_use]
    pub fn bound_children(&self, participant: &str) -> BTreeSet<Subject> {
        self.children()
            .filter(|child| self.binds_to_child(participant, std::borrow::Borrow::borrow(*child)))
            .cloned()
            .collect()
    }
}

impl State {
    fn apply(&mut self, sequence: Sequence, says: &Says) {
        if says.attached {
            self.attach(sequence, says);
        } else if says.children.is_empty() && says.participants.is_empty() {
            *self = Self::default();
        } else {
            says.children.iter().for_each(|child| drop(self.children.remove(child)));
            says.participants.iter().for_each(|participant| drop(self.participants.remove(participant)));
        }
    }

    fn attach(&mut self, sequence: Sequence, says: &Says) {
        if says.complete {
            let kinds: BTreeSet<u8> = says.children.iter().map(|child| child.fields().kind).collect();
            let named: BTreeSet<&Subject> = says.children.iter().collect();
            self.children.retain(|child, _| !kinds.contains(&child.fields().kind) || named.contains(child));
            self.complete.extend(kinds.into_iter().map(|kind| (kind, sequence)));
        } else {
            // Who names another child later, without saying that these are all, takes back that those before were all.
            for child in says.children.iter().filter(|child| !self.children.contains_key(*child)) {
                self.complete.remove(&child.fields().kind);
            }
        }
        for child in &says.children {
            let places = self.children.entry(child.clone()).or_default();
            // A child named twice in one statement is held up by it once.
            if places.last() != Some(&sequence) {
                places.push(sequence);
            }
        }
        for participant in &says.participants {
            self.participants.entry(participant.clone()).or_default().insert(sequence);
        }
    }
}
