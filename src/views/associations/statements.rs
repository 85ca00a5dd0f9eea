//! The statements in force, each in a place of eighty bytes, and found by who said it. It never knows what they come to.

use std::{
    cmp::Ordering,
    hash::{BuildHasher, RandomState},
};

use hashbrown::HashTable;

use super::{few::FewNumbers, interner::Interner, statement::Says};
use crate::{
    domain::{EventId, Sequence},
    views::fold_order::FoldKey,
};

/// One statement. Names and subjects stand as their numbers.
#[derive(Debug, Clone)]
pub struct Stated {
    span_end_ns: i64,
    created_ns: i64,
    event_id: EventId,
    /// Its place in the log.
    pub sequence: Sequence,
    publisher: u32,
    /// The group that it belongs to.
    pub group: u32,
    /// How many of `named` are children.
    children: u32,
    coarseness: u8,
    /// True where the others are attached, false where they are detached.
    pub attached: bool,
    /// True where these are all the children of their kinds.
    pub complete: bool,
    /// The children, then the participants.
    named: FewNumbers,
}

const _: () = assert!(size_of::<Stated>() <= 80, "a million of them must be few bytes");

/// All statements in force.
#[derive(Debug, Default)]
pub struct Statements {
    places: Vec<Stated>,
    /// Places whose statement was taken out.
    free: Vec<u32>,
    by_id: HashTable<u32>,
    hasher: RandomState,
}

impl Stated {
    /// A statement of a publisher in a group.
    #[must_use]
    pub fn new(
        statement: (&FoldKey, Sequence, &Says),
        (publisher, group): (u32, u32),
        children: &[u32],
        participants: &[u32],
    ) -> Self {
        let (key, sequence, says) = statement;
        Self {
            span_end_ns: key.span_end_ns,
            created_ns: key.created_ns,
            event_id: key.event_id,
            sequence,
            publisher,
            group,
            children: children.len() as u32,
            coarseness: key.coarseness,
            attached: says.attached,
            complete: says.complete,
            named: children.iter().chain(participants).copied().collect(),
        }
    }

    /// What it says belongs to the parent, or no longer does.
    #[must_use]
    pub fn children(&self) -> &[u32] {
        &self.named.as_slice()[..self.children as usize]
    }

    /// Which participants it names.
    #[must_use]
    pub fn participants(&self) -> &[u32] {
        &self.named.as_slice()[self.children as usize..]
    }

    /// The order of the fold: that of [`FoldKey`].
    #[must_use]
    pub fn order(&self, other: &Self, names: &Interner) -> Ordering {
        let key = |stated: &Self| (stated.span_end_ns, stated.coarseness, stated.created_ns, stated.event_id);
        let publishers = || names.get(self.publisher).cmp(names.get(other.publisher));
        key(self).cmp(&key(other)).then_with(publishers)
    }
}

impl Statements {
    /// The statement at a place.
    #[must_use]
    pub fn at(&self, place: u32) -> &Stated {
        &self.places[place as usize]
    }

    /// Where the statement of this id stands.
    #[must_use]
    pub fn find(&self, publisher: u32, event_id: &EventId) -> Option<u32> {
        let is_it = |place: &u32| {
            let stated = self.at(*place);
            stated.publisher == publisher && stated.event_id == *event_id
        };
        self.by_id.find(self.hasher.hash_one((publisher, event_id)), is_it).copied()
    }

    /// Takes in a statement whose id none has, and answers where it stands.
    pub fn insert(&mut self, stated: Stated) -> u32 {
        let hash = self.hasher.hash_one((stated.publisher, stated.event_id));
        let place = if let Some(place) = self.free.pop() {
            self.places[place as usize] = stated;
            place
        } else {
            self.places.push(stated);
            u32::try_from(self.places.len() - 1).expect("memory ends long before four thousand million statements")
        };
        let Self { places, by_id, hasher, .. } = self;
        by_id.insert_unique(hash, place, |other| {
            let other = &places[*other as usize];
            hasher.hash_one((other.publisher, other.event_id))
        });
        place
    }

    /// Takes the statement at a place out; another may stand there next.
    pub fn remove(&mut self, place: u32) {
        let stated = self.at(place);
        let hash = self.hasher.hash_one((stated.publisher, stated.event_id));
        if let Ok(entry) = self.by_id.find_entry(hash, |other| *other == place) {
            entry.remove();
        }
        self.places[place as usize].named = FewNumbers::default();
        self.places[place as usize].children = 0;
        self.free.push(place);
    }
}
