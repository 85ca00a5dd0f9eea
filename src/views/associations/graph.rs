//! All groups together, and what is found by subject and by participant. It never knows who asks: whether a caller may know of a tie is
//! decided by the statements that hold it up.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use super::{
    group::Group,
    statement::{Statement, Subject, bytes_of},
};
use crate::{
    domain::{
        EventId, Sequence,
        bindings::{NewBinding, SubjectKey},
    },
    views::{few::FewSet, fold_order::FoldKey},
};

/// So many of a participant's latest bindings are kept for announcing. Who was away for longer looks with a query.
pub const ANNOUNCED_MAX: usize = 256;

/// Which group: the administration that speaks, and the parent.
type GroupKey = (Arc<str>, Subject);

/// The associations in force.
#[derive(Debug, Default)]
pub struct Graph {
    groups: HashMap<GroupKey, Group>,
    /// The groups in which a subject is the parent or a tied child.
    groups_of: HashMap<Subject, FewSet<GroupKey>>,
    /// The known subjects of one kind and value, for who asks without issuer or date.
    by_value: HashMap<(u8, Box<str>), FewSet<Subject>>,
    /// Where a statement stands, for when it is revised.
    statements: HashMap<(Arc<str>, EventId), (GroupKey, FoldKey)>,
    /// What was revised, also where the statement itself is not known yet.
    revised: HashSet<(Arc<str>, EventId)>,
    /// The groups in which a participant is named: who is in none is bound to nothing.
    named_in: HashMap<Box<str>, BTreeSet<GroupKey>>,
    announced: HashMap<Box<str>, VecDeque<NewBinding>>,
}

/// One tie of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tie {
    /// The subject at the other end.
    pub other: Subject,
    /// Whether that one is the parent of the two.
    pub other_is_parent: bool,
    /// The places of the statements that hold it up, of one administration.
    pub supports: Vec<Sequence>,
}

/// What one administration says are all the children of one kind that a parent has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllOfAKind {
    /// Their `IdentifierKind`.
    pub kind: u8,
    /// The children.
    pub children: BTreeSet<Subject>,
    /// The place of the statement that says so.
    pub said_at: Sequence,
}

/// What a group came to before it was changed.
struct Before {
    children: BTreeSet<Subject>,
    bound: BTreeMap<Box<str>, BTreeSet<Subject>>,
}

impl Graph {
    /// Takes in what some events say, in the order of the log, and folds each group that they touch once.
    pub fn apply(&mut self, statements: Vec<Statement>) {
        let mut touched: HashMap<GroupKey, (Before, bool, Sequence)> = HashMap::new();
        for statement in statements {
            self.take_in(&statement, &mut touched);
        }
        for (key, (before, refold, sequence)) in touched {
            if let Some(group) = self.groups.get_mut(&key).filter(|_| refold) {
                group.refold();
            }
            self.index(&key, &before, sequence);
        }
    }

    fn take_in(&mut self, statement: &Statement, touched: &mut HashMap<GroupKey, (Before, bool, Sequence)>) {
        let publisher = statement.key.publisher.clone();
        if let Some(revised) = statement.revises {
            let id = (publisher.clone(), revised);
            if let Some((group, key)) = self.statements.remove(&id) {
                let (_, refold, sequence) = self.touch(&group, touched);
                (*refold, *sequence) = (true, statement.sequence);
                self.groups.entry(group).or_default().remove(&key);
            }
            self.revised.insert(id);
        }
        let id = (publisher, statement.key.event_id);
        let Some(says) = statement.says.clone() else { return };
        if self.revised.contains(&id) || self.statements.contains_key(&id) {
            return;
        }
        let group = (says.domain.clone(), says.parent.clone());
        let (_, refold, sequence) = self.touch(&group, touched);
        *sequence = statement.sequence;
        self.statements.insert(id, (group.clone(), statement.key.clone()));
        let in_order = self.groups.entry(group).or_default().insert(statement, says);
        *refold |= !in_order;
    }

    /// Notes what a group came to before its first change.
    fn touch<'a>(
        &self,
        key: &GroupKey,
        touched: &'a mut HashMap<GroupKey, (Before, bool, Sequence)>,
    ) -> &'a mut (Before, bool, Sequence) {
        touched.entry(key.clone()).or_insert_with(|| (Before::of(self.groups.get(key)), false, Sequence::ZERO))
    }

    /// Brings what is found by subject and participant up to what the group comes to now.
    fn index(&mut self, key: &GroupKey, before: &Before, sequence: Sequence) {
        let after = Before::of(self.groups.get(key));
        let parent = &key.1;
        if self.groups.get(key).is_some_and(Group::is_empty) {
            self.groups.remove(key);
            self.forget(parent, key);
        } else {
            self.remember(parent, key);
        }
        before
            .children
            .difference(&after.children)
            .filter(|child| *child != parent)
            .for_each(|child| self.forget(child, key));
        after.children.difference(&before.children).for_each(|child| self.remember(child, key));
        for participant in before.bound.keys().filter(|participant| !after.bound.contains_key(*participant)) {
            if let Some(groups) = self.named_in.get_mut(participant) {
                groups.remove(key);
                if groups.is_empty() {
                    self.named_in.remove(participant);
                }
            }
        }
        for (participant, bound) in &after.bound {
            let was = before.bound.get(participant);
            if was.is_none() {
                self.named_in.entry(participant.clone()).or_default().insert(key.clone());
            }
            if was.is_none_or(|was| !bound.is_subset(was)) {
                self.announce(participant, NewBinding { sequence, subject: parent.term() });
            }
        }
    }

    fn announce(&mut self, participant: &str, binding: NewBinding) {
        let announced = self.announced.entry(participant.into()).or_default();
        announced.push_back(binding);
        // Groups of one batch are indexed in no order.
        announced.make_contiguous().sort_by_key(|binding| binding.sequence);
        if announced.len() > ANNOUNCED_MAX {
            announced.pop_front();
        }
    }

    fn remember(&mut self, subject: &Subject, key: &GroupKey) {
        let fields = subject.fields();
        self.by_value.entry((fields.kind, fields.value.into())).or_default().insert(subject.clone());
        self.groups_of.entry(subject.clone()).or_default().insert(key.clone());
    }

    fn forget(&mut self, subject: &Subject, key: &GroupKey) {
        let Some(groups) = self.groups_of.get_mut(subject) else { return };
        groups.remove(key);
        if !groups.is_empty() {
            return;
        }
        self.groups_of.remove(subject);
        let fields = subject.fields();
        let by_value = (fields.kind, Box::from(fields.value));
        if let Some(subjects) = self.by_value.get_mut(&by_value) {
            subjects.remove(subject);
            if subjects.is_empty() {
                self.by_value.remove(&by_value);
            }
        }
    }

    /// Whether an association in force makes the participant a party of the subject.
    #[must_use]
    pub fn is_bound(&self, participant: &str, subject: &SubjectKey<'_>) -> bool {
        if !self.named_in.contains_key(participant) {
            return false;
        }
        let bytes = bytes_of(subject);
        let Some(groups) = self.groups_of.get(&*bytes) else { return false };
        groups.iter().filter_map(|key| Some((key, self.groups.get(key)?))).any(|((_, parent), group)| {
            let is_parent = Borrow::<[u8]>::borrow(parent) == &*bytes;
            (is_parent && group.binds_to_parent(participant)) || group.binds_to_child(participant, &bytes)
        })
    }

    /// The subjects of a kind and value that any association names, where issuer and date are empty or as given.
    #[must_use]
    pub fn matching(&self, asked: &SubjectKey<'_>) -> Vec<Subject> {
        let known = self.by_value.get(&(asked.kind, Box::from(asked.value)));
        let fits = |subject: &&Subject| {
            let fields = subject.fields();
            let agrees = |asked: &str, has: &str| asked.is_empty() || asked == has;
            agrees(asked.issuer, fields.issuer) && agrees(asked.date, fields.date)
        };
        known.into_iter().flat_map(FewSet::iter).filter(fits).cloned().collect()
    }

    /// Every tie of a subject, to its parents and to its children.
    #[must_use]
    pub fn ties(&self, subject: &Subject) -> Vec<Tie> {
        let mut ties = Vec::new();
        for key in self.groups_of.get(subject).into_iter().flat_map(FewSet::iter) {
            let Some(group) = self.groups.get(key) else { continue };
            let mut tie = |other: &Subject, child: &Subject| {
                let supports = group.supports(child.borrow()).to_vec();
                ties.push(Tie { other: other.clone(), other_is_parent: other == &key.1, supports });
            };
            if *subject == key.1 {
                let children: BTreeSet<&Subject> = group.children().filter(|child| *child != subject).collect();
                for child in children {
                    tie(child, child);
                }
            } else {
                tie(&key.1, subject);
            }
        }
        ties
    }

    /// What administrations say are all the children that a subject has, each kind for itself.
    #[must_use]
    pub fn complete_children(&self, parent: &Subject) -> Vec<AllOfAKind> {
        let mut all = Vec::new();
        let groups = self.groups_of.get(parent).into_iter().flat_map(FewSet::iter);
        for key in groups.filter(|key| key.1 == *parent) {
            let Some(group) = self.groups.get(key) else { continue };
            all.extend(group.complete_kinds().map(|(kind, said_at)| AllOfAKind {
                kind,
                children: group.children().filter(|child| child.fields().kind == kind).cloned().collect(),
                said_at,
            }));
        }
        all
    }

    /// All that a participant is bound to; none where that is more than `count_max`.
    #[must_use]
    pub fn bound_subjects(&self, participant: &str, count_max: usize) -> Option<BTreeSet<Subject>> {
        let mut bound = BTreeSet::new();
        for key in self.named_in.get(participant).into_iter().flatten() {
            bound.insert(key.1.clone());
            bound.extend(self.groups.get(key).map(|group| group.bound_children(participant)).unwrap_or_default());
            if bound.len() > count_max {
                return None;
            }
        }
        Some(bound)
    }

    /// What the participant was newly bound to after a place.
    #[must_use]
    pub fn newly_bound(&self, participant: &str, after: Sequence) -> Vec<NewBinding> {
        let announced = self.announced.get(participant).into_iter().flatten();
        announced.filter(|binding| binding.sequence > after).cloned().collect()
    }
}

impl Before {
    fn of(group: Option<&Group>) -> Self {
        let Some(group) = group else { return Self { children: BTreeSet::new(), bound: BTreeMap::new() } };
        let bound = group.participants().map(|participant| (participant.into(), group.bound_children(participant)));
        Self { children: group.children().cloned().collect(), bound: bound.collect() }
    }
}
