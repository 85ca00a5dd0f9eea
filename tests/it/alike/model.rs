//! Who may see and publish what, decided anew from the policy's words and the decoded events: without routing headers, compiled filters,
//! indexes or views. Slow and plain on purpose: it is what every door is held against.

use std::collections::{BTreeMap, BTreeSet};

use tradelane::{
    domain::filter::FilterSpec,
    wire::proto::{Association, AssociationStep, Event, Reach, Subject, event::Body},
};

use super::wanted::{self, Asking, pattern};

/// A grant as the policy file says it.
#[derive(Debug, Clone)]
pub struct Grant {
    /// A name, or a prefix that ends in "/*".
    pub who: String,
    pub actions: Vec<&'static str>,
    /// None: everything.
    pub filters: Option<Vec<FilterSpec>>,
    /// Where it begins; only what was accepted since is open.
    pub from_start_ns: Option<i64>,
    pub expired: bool,
    pub private: bool,
}

impl Grant {
    /// Whatever there is to publish, share and read, for nobody yet.
    pub fn of_everything() -> Self {
        let actions = vec!["publish", "share", "read"];
        Self { who: String::new(), actions, filters: None, from_start_ns: None, expired: false, private: false }
    }
}

/// An event that the node stored.
#[derive(Debug, Clone)]
pub struct Stored {
    pub event: Event,
    /// The events that it revises, the original last.
    pub chain: Vec<Event>,
    pub accepted_ns: i64,
}

/// All that the model knows.
#[derive(Debug, Default)]
pub struct World {
    pub grants: Vec<Grant>,
    /// In the order of the log.
    pub events: Vec<Stored>,
    /// What their associations come to: by administration and parent.
    pub groups: BTreeMap<(String, Key), Group>,
    /// (new name, former name).
    pub successor: (String, String),
    pub node: String,
}

/// What one administration says of one parent, each with the statements that say so, by their places among the events.
#[derive(Debug, Default)]
pub struct Group {
    children: BTreeMap<Key, BTreeSet<usize>>,
    parties: BTreeMap<String, BTreeSet<usize>>,
}

/// So many of the statements that tie two subjects are tried for one that the caller may see, the last ones of the log.
const SUPPORTS_MAX: usize = 8;

/// What identifies a subject here.
pub type Key = (i32, String, String);

impl Group {
    fn apply(&mut self, place: usize, association: &Association) {
        let children: BTreeSet<Key> = association.children.iter().map(key).collect();
        let parties = association.parties.iter().map(|party| &party.participant);
        if association.step() == AssociationStep::Detached {
            self.children.retain(|child, _| !children.contains(child));
            parties.for_each(|party| drop(self.parties.remove(party)));
            return;
        }
        let kinds: BTreeSet<i32> = children.iter().map(|(kind, ..)| *kind).collect();
        if association.complete {
            self.children.retain(|child, _| children.contains(child) || !kinds.contains(&child.0));
        }
        for child in children {
            self.children.entry(child).or_default().insert(place);
        }
        for party in parties {
            self.parties.entry(party.clone()).or_default().insert(place);
        }
    }

    /// A party is bound to the parent, and to each child that one statement in force names together with it.
    fn binds(&self, parent: &Key, participant: &str, subject: &Key) -> bool {
        let Some(named) = self.parties.get(participant) else { return false };
        parent == subject || self.children.get(subject).is_some_and(|tied| !tied.is_disjoint(named))
    }
}

impl World {
    /// Adds what the node has stored.
    pub fn store(&mut self, stored: Stored) {
        self.events.push(stored);
        let ns = |time: Option<prost_types::Timestamp>| {
            time.map_or(0, |at| at.seconds * 1_000_000_000 + i64::from(at.nanos))
        };
        let mut statements: Vec<(usize, &Event, &Association)> = Vec::new();
        for (place, stored) in self.events.iter().enumerate() {
            if let Some(Body::Association(association)) = &stored.event.body {
                statements.push((place, &stored.event, association));
            }
        }
        // The order of what was said, whatever the order in which the node came to know it.
        statements.sort_by_key(|(_, event, _)| (ns(event.event_time), ns(event.created_time), event.event_id.clone()));
        let mut groups: BTreeMap<(String, Key), Group> = BTreeMap::new();
        for (place, event, association) in statements {
            let domain = event.publisher.split('/').nth(2).expect("a SPIFFE ID").to_owned();
            let parent = key(association.parent.as_ref().expect("the test gives each one"));
            groups.entry((domain, parent)).or_default().apply(place, association);
        }
        self.groups = groups;
    }

    pub fn names<'a>(&'a self, who: &'a str) -> Vec<&'a str> {
        let former = (self.successor.0 == who).then_some(self.successor.1.as_str());
        std::iter::once(who).chain(former).collect()
    }

    fn in_force<'a>(&'a self, who: &'a str, action: &'a str) -> impl Iterator<Item = &'a Grant> {
        let meant = move |grant: &&Grant| pattern(&grant.who, who) && grant.actions.contains(&action) && !grant.expired;
        self.grants.iter().filter(meant)
    }

    pub fn may(&self, who: &str, action: &str) -> bool {
        self.in_force(who, action).next().is_some()
    }

    pub fn is_own(&self, who: &str, event: &Event) -> bool {
        self.names(who).contains(&event.publisher.as_str())
    }

    pub fn sees(&self, who: &str, stored: &Stored) -> bool {
        let audience = stored.chain.last().unwrap_or(&stored.event).audience.clone().expect("every event has one");
        let names = self.names(who);
        let admitted = match audience.reach() {
            Reach::Network => true,
            Reach::Named => audience.participants.iter().any(|named| names.iter().any(|name| pattern(named, name))),
            Reach::Private | Reach::Unspecified => false,
        };
        self.is_own(who, &stored.event)
            || self.in_force(who, "read").any(|grant| {
                self.grants_event(grant, who, stored)
                    && grant.from_start_ns.is_none_or(|start| start <= stored.accepted_ns)
                    && (admitted || grant.private)
            })
    }

    pub fn may_publish(&self, who: &str, event: &Event, now_ns: i64) -> bool {
        let stored = Stored { event: event.clone(), chain: Vec::new(), accepted_ns: now_ns };
        let granted = |action| self.in_force(who, action).any(|grant| self.grants_event(grant, who, &stored));
        let binds = matches!(&event.body, Some(Body::Association(association)) if !association.parties.is_empty());
        self.is_own(who, event) && granted("publish") && (!binds || granted("share"))
    }

    fn grants_event(&self, grant: &Grant, who: &str, stored: &Stored) -> bool {
        let Some(filters) = &grant.filters else { return true };
        let bound = |participant: &str, subject: &Key| self.is_bound(participant, subject);
        self.names(who).iter().any(|name| filters.iter().any(|filter| self.wanted(filter, stored, name, &bound)))
    }

    /// Whether a caller's own filters ask for an event. Whom an association binds to what she learns of herself alone, unless nothing at
    /// all is hidden from her.
    pub fn asked(&self, who: &str, filters: &[FilterSpec], stored: &Stored) -> bool {
        let everything = |filters: &[FilterSpec]| filters.iter().any(|filter| filter.all);
        let all = |grant: &Grant| {
            grant.filters.as_deref().is_none_or(everything) && grant.private && grant.from_start_ns.is_none()
        };
        let sees_all = self.in_force(who, "read").any(all);
        let names = self.names(who);
        let bound = |participant: &str, subject: &Key| {
            (sees_all || names.contains(&participant)) && self.is_bound(participant, subject)
        };
        filters.is_empty() || filters.iter().any(|filter| self.wanted(filter, stored, who, &bound))
    }

    fn is_bound(&self, participant: &str, subject: &Key) -> bool {
        self.groups.iter().any(|((_, parent), group)| group.binds(parent, participant, subject))
    }

    fn wanted(&self, spec: &FilterSpec, stored: &Stored, caller: &str, bound: &dyn Fn(&str, &Key) -> bool) -> bool {
        wanted::asks_for(spec, stored, &Asking { node: &self.node, caller, bound })
    }

    /// The subjects that associations in force which the caller may see tie to one, within a distance; itself among them. That a tie is
    /// in force no more she learns of whoever said so: the last word counts for everybody.
    pub fn tied(&self, who: &str, subject: &Key, depth: u32) -> BTreeSet<Key> {
        let mut reached = BTreeSet::from([subject.clone()]);
        for _ in 0..depth {
            let mut further = BTreeSet::new();
            for ((_, parent), group) in &self.groups {
                for (child, places) in &group.children {
                    let mut latest = places.iter().rev().take(SUPPORTS_MAX).map(|place| &self.events[*place]);
                    let is_end = reached.contains(parent) || reached.contains(child);
                    if is_end && latest.any(|stored| self.sees(who, stored)) {
                        further.extend([parent.clone(), child.clone()]);
                    }
                }
            }
            reached.extend(further);
        }
        reached
    }
}

pub fn key(subject: &Subject) -> Key {
    (subject.kind, subject.value.clone(), subject.issuer.clone())
}

/// Those of the envelope and those of an association's body.
pub fn subjects(event: &Event) -> Vec<&Subject> {
    let tied = match &event.body {
        Some(Body::Association(association)) => association.parent.iter().chain(&association.children).collect(),
        _ => Vec::new(),
    };
    event.subjects.iter().chain(tied).collect()
}
