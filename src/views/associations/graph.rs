//! All groups together, and what is found by subject and by participant. It never knows who asks: whether a caller may know of a tie is
//! decided by the statements that hold it up.
//!
//! Everything that many statements name stands once and is spoken of by its number, so that a statement with two subjects of its own takes
//! some two hundred and forty bytes in all. What statements come to is found when somebody asks, but for the few groups of many.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    hash::{BuildHasher, RandomState},
};

use hashbrown::HashTable;

use super::{
    few::FewNumbers,
    group::{Fold, Group},
    interner::Interner,
    statement::{Statement, Subject, bytes_of, kind_of},
    statements::{Stated, Statements},
};
use crate::domain::{
    EventId, Sequence,
    bindings::{NewBinding, SubjectKey},
};

/// So many of a participant's latest bindings are kept for announcing. Who was away for longer looks with a query.
pub const ANNOUNCED_MAX: usize = 256;

/// The associations in force. Names are those of administrations, publishers and participants.
#[derive(Debug, Default)]
pub struct Graph {
    names: Interner,
    subjects: Interner,
    /// By subject, the groups in which it is the parent or a tied child.
    groups_of: Vec<FewNumbers>,
    /// The subjects by kind and value alone, for who asks without issuer or date.
    by_value: HashTable<u32>,
    groups: Vec<Group>,
    /// The groups by administration and parent.
    by_parent: HashTable<u32>,
    hasher: RandomState,
    statements: Statements,
    /// What was revised, also where the statement itself is not known yet.
    revised: HashSet<(u32, EventId)>,
    /// The groups in which a participant is named: who is in none is bound to nothing.
    named_in: HashMap<u32, BTreeSet<u32>>,
    announced: HashMap<u32, Announced>,
}

/// What one participant was newly bound to.
#[derive(Debug, Default)]
struct Announced {
    /// The latest, in order.
    bindings: VecDeque<NewBinding>,
    /// The last of those that are not kept.
    forgotten_through: Sequence,
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

/// What a group came to before it was changed, and the place of the last statement that changes it.
struct Touched {
    children: BTreeSet<u32>,
    bound: BTreeMap<u32, BTreeSet<u32>>,
    sequence: Sequence,
}

impl Graph {
    /// Takes in what some events say, in the order of the log.
    pub fn apply(&mut self, statements: Vec<Statement>) {
        let mut touched: HashMap<u32, Touched> = HashMap::new();
        for statement in statements {
            self.take_in(&statement, &mut touched);
        }
        for (group, before) in touched {
            self.groups[group as usize].settle(&self.statements, &self.subjects);
            self.index(group, &before);
        }
    }

    fn take_in(&mut self, statement: &Statement, touched: &mut HashMap<u32, Touched>) {
        let (publisher, _) = self.names.intern(statement.key.publisher.as_bytes());
        if let Some(revised) = statement.revises {
            if let Some(place) = self.statements.find(publisher, &revised) {
                let group = self.statements.at(place).group;
                self.touch(group, statement.sequence, touched);
                self.groups[group as usize].remove(place);
                self.statements.remove(place);
            }
            self.revised.insert((publisher, revised));
        }
        let event_id = statement.key.event_id;
        let Some(says) = &statement.says else { return };
        if self.revised.contains(&(publisher, event_id)) || self.statements.find(publisher, &event_id).is_some() {
            return;
        }
        let (domain, _) = self.names.intern(says.domain.as_bytes());
        let parent = self.subject(&says.parent);
        let group = self.group(domain, parent);
        self.touch(group, statement.sequence, touched);
        let children: Vec<u32> = says.children.iter().map(|child| self.subject(child)).collect();
        let participants: Vec<u32> =
            says.participants.iter().map(|name| self.names.intern(name.as_bytes()).0).collect();
        let said = (&statement.key, statement.sequence, says);
        let place = self.statements.insert(Stated::new(said, (publisher, group), &children, &participants));
        self.groups[group as usize].insert(place, &self.statements, &self.names, &self.subjects);
    }

    /// The number of a subject, which is known from now on.
    fn subject(&mut self, subject: &Subject) -> u32 {
        let (number, is_new) = self.subjects.intern(subject.borrow());
        if is_new {
            self.groups_of.push(FewNumbers::default());
            let Self { by_value, subjects, hasher, .. } = self;
            let hash = |number: &u32| value_hash(hasher, &Subject::fields_of(subjects.get(*number)));
            by_value.insert_unique(hash(&number), number, hash);
        }
        number
    }

    /// The number of a group, which is there from now on.
    fn group(&mut self, domain: u32, parent: u32) -> u32 {
        let Self { groups, by_parent, hasher, .. } = self;
        let key = |group: &Group| (group.domain, group.parent);
        let hash = hasher.hash_one((domain, parent));
        if let Some(number) = by_parent.find(hash, |other| key(&groups[*other as usize]) == (domain, parent)) {
            return *number;
        }
        let number = u32::try_from(groups.len()).expect("there are no more groups than statements");
        groups.push(Group::new(domain, parent));
        by_parent.insert_unique(hash, number, |other| hasher.hash_one(key(&groups[*other as usize])));
        number
    }

    fn fold(&self, group: u32) -> std::borrow::Cow<'_, Fold> {
        self.groups[group as usize].fold(&self.statements, &self.subjects)
    }

    /// Notes what a group came to before its first change, and the place of its latest.
    fn touch(&self, group: u32, sequence: Sequence, touched: &mut HashMap<u32, Touched>) {
        touched.entry(group).or_insert_with(|| Touched::of(&self.fold(group))).sequence = sequence;
    }

    /// Brings what is found by subject and participant up to what the group comes to now.
    fn index(&mut self, number: u32, before: &Touched) {
        let after = Touched::of(&self.fold(number));
        let group = &self.groups[number as usize];
        let parent = group.parent;
        let of_parent = &mut self.groups_of[parent as usize];
        if group.is_empty() {
            of_parent.remove_from_set(number);
        } else {
            of_parent.add_to_set(number);
        }
        for child in before.children.difference(&after.children).filter(|child| **child != parent) {
            self.groups_of[*child as usize].remove_from_set(number);
        }
        for child in after.children.difference(&before.children) {
            self.groups_of[*child as usize].add_to_set(number);
        }
        for participant in before.bound.keys().filter(|participant| !after.bound.contains_key(*participant)) {
            if let Some(groups) = self.named_in.get_mut(participant) {
                groups.remove(&number);
                if groups.is_empty() {
                    self.named_in.remove(participant);
                }
            }
        }
        let subject = self.subject_at(parent);
        for (participant, bound) in &after.bound {
            let was = before.bound.get(participant);
            if was.is_none() {
                self.named_in.entry(*participant).or_default().insert(number);
            }
            if was.is_none_or(|was| !bound.is_subset(was)) {
                self.announce(*participant, NewBinding { sequence: before.sequence, subject: subject.term() });
            }
        }
    }

    fn announce(&mut self, participant: u32, binding: NewBinding) {
        let announced = self.announced.entry(participant).or_default();
        announced.bindings.push_back(binding);
        // Groups of one batch are indexed in no order.
        announced.bindings.make_contiguous().sort_by_key(|binding| binding.sequence);
        if announced.bindings.len() > ANNOUNCED_MAX
            && let Some(forgotten) = announced.bindings.pop_front()
        {
            announced.forgotten_through = announced.forgotten_through.max(forgotten.sequence);
        }
    }

    fn subject_at(&self, number: u32) -> Subject {
        Subject::from_bytes(self.subjects.get(number))
    }

    /// The groups in which a subject is the parent or a tied child, by administration and parent.
    fn groups_of(&self, subject: u32) -> Vec<u32> {
        let mut groups = self.groups_of[subject as usize].as_slice().to_vec();
        groups.sort_by_key(|number| {
            let group = &self.groups[*number as usize];
            (self.names.get(group.domain), self.subjects.get(group.parent))
        });
        groups
    }

    /// Whether an association in force makes the participant a party of the subject.
    #[must_use]
    pub fn is_bound(&self, participant: &str, subject: &SubjectKey<'_>) -> bool {
        let named = self.names.find(participant.as_bytes()).filter(|number| self.named_in.contains_key(number));
        let Some(participant) = named else { return false };
        let Some(subject) = self.subjects.find(&bytes_of(subject)) else { return false };
        self.groups_of[subject as usize].as_slice().iter().any(|number| {
            let group = &self.groups[*number as usize];
            if !group.may_bind(participant, &self.statements) {
                return false;
            }
            let fold = self.fold(*number);
            (group.parent == subject && fold.binds_to_parent(participant)) || fold.binds_to_child(participant, subject)
        })
    }

    /// The subjects of a kind and value that any association names, where issuer and date are empty or as given.
    #[must_use]
    pub fn matching(&self, asked: &SubjectKey<'_>) -> Vec<Subject> {
        let fits = |subject: &Subject| {
            let fields = subject.fields();
            let agrees = |asked: &str, has: &str| asked.is_empty() || asked == has;
            (fields.kind, fields.value) == (asked.kind, asked.value)
                && agrees(asked.issuer, fields.issuer)
                && agrees(asked.date, fields.date)
        };
        let known = self.by_value.iter_hash(value_hash(&self.hasher, asked));
        let tied = known.filter(|number| !self.groups_of[**number as usize].as_slice().is_empty());
        let mut found: Vec<Subject> = tied.map(|number| self.subject_at(*number)).filter(fits).collect();
        found.sort();
        found
    }

    /// Every tie of a subject, to its parents and to its children.
    #[must_use]
    pub fn ties(&self, subject: &Subject) -> Vec<Tie> {
        let Some(subject) = self.subjects.find(subject.borrow()) else { return Vec::new() };
        let mut ties = Vec::new();
        for number in self.groups_of(subject) {
            let (fold, parent) = (self.fold(number), self.groups[number as usize].parent);
            let mut tie = |other: Subject, other_is_parent: bool, child: u32| {
                ties.push(Tie { other, other_is_parent, supports: fold.supports(child).to_vec() });
            };
            if subject == parent {
                let children = fold.children().filter(|child| *child != subject);
                let children: BTreeMap<Subject, u32> = children.map(|child| (self.subject_at(child), child)).collect();
                for (other, child) in children {
                    tie(other, false, child);
                }
            } else {
                tie(self.subject_at(parent), true, subject);
            }
        }
        ties
    }

    /// What administrations say are all the children that a subject has, each kind for itself.
    #[must_use]
    pub fn complete_children(&self, parent: &Subject) -> Vec<AllOfAKind> {
        let Some(parent) = self.subjects.find(parent.borrow()) else { return Vec::new() };
        let mut all = Vec::new();
        for number in self.groups_of(parent).into_iter().filter(|number| self.groups[*number as usize].parent == parent)
        {
            let fold = self.fold(number);
            let is_of = |child: &u32, kind: u8| kind_of(self.subjects.get(*child)) == kind;
            all.extend(fold.complete_kinds().map(|(kind, said_at)| AllOfAKind {
                kind,
                children:
                    fold.children().filter(|child| is_of(child, kind)).map(|child| self.subject_at(child)).collect(),
                said_at,
            }));
        }
        all
    }

    /// All that a participant is bound to; none where that is more than `count_max`.
    #[must_use]
    pub fn bound_subjects(&self, participant: &str, count_max: usize) -> Option<BTreeSet<Subject>> {
        let Some(participant) = self.names.find(participant.as_bytes()) else { return Some(BTreeSet::new()) };
        let mut bound = BTreeSet::new();
        for number in self.named_in.get(&participant).into_iter().flatten() {
            bound.insert(self.groups[*number as usize].parent);
            bound.extend(self.fold(*number).bound_children(participant));
            if bound.len() > count_max {
                return None;
            }
        }
        Some(bound.into_iter().map(|number| self.subject_at(number)).collect())
    }

    /// What the participant was newly bound to after a place.
    #[must_use]
    pub fn newly_bound(&self, participant: &str, after: Sequence) -> Vec<NewBinding> {
        let announced = self.announced_to(participant).into_iter().flat_map(|announced| &announced.bindings);
        announced.filter(|binding| binding.sequence > after).cloned().collect()
    }

    /// Up to where something that the participant was newly bound to is not kept any more.
    #[must_use]
    pub fn forgotten_through(&self, participant: &str) -> Sequence {
        self.announced_to(participant).map_or(Sequence::ZERO, |announced| announced.forgotten_through)
    }

    fn announced_to(&self, participant: &str) -> Option<&Announced> {
        self.announced.get(&self.names.find(participant.as_bytes())?)
    }
}

fn value_hash(hasher: &RandomState, subject: &SubjectKey<'_>) -> u64 {
    hasher.hash_one((subject.kind, subject.value))
}

impl Touched {
    fn of(fold: &Fold) -> Self {
        let bound = fold.participants().map(|participant| (participant, fold.bound_children(participant)));
        Self { children: fold.children().collect(), bound: bound.collect(), sequence: Sequence::ZERO }
    }
}
