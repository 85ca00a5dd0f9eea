//! The checker: it sees what was said and acknowledged, what each log holds and its readers were shown, what the agreements allowed when,
//! and how links looked to operators. It has its own idea of what follows from that, and asks no code of the product.
//!
//! - What was acknowledged is in the log that acknowledged it, where that was not restored from an older backup; and there too where a
//!   neighbour still had it.
//! - A log holds an event once, with the bytes that were said; a reader was shown exactly the log.
//! - Nothing is held that no agreement in force since it was said allowed, or that its audience forbids; nothing that ran in a circle.
//! - In the end everything is held that every agreement in force since it was said allowed; and every revision of what is held.
//! - Events of one origin keep their order where no agreement changed and no link began anew.
//! - A restored source is announced, a life that is live twice stops the link, and nothing is put into quarantine.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tradelane::{domain::Sequence, log::OriginFacts};

use crate::{
    machine::{CLONE_SITE, node_id},
    net::Site,
    plan::{Action, Plan},
    statements::{For, Statement},
};

/// A publisher was told that her event is stored.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    pub site: Site,
    pub sequence: Sequence,
    pub id: String,
}

/// A reader was shown an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    pub sequence: Sequence,
    pub id: String,
    pub bytes: Bytes,
}

/// An event that a log holds.
#[derive(Debug, Clone)]
pub struct Held {
    pub sequence: Sequence,
    pub id: String,
    pub bytes: Bytes,
    pub origin: Option<OriginFacts>,
}

/// A log was restored from a backup that ended there.
#[derive(Debug, Clone, Copy)]
pub struct Restored {
    pub node: usize,
    pub kept: Sequence,
    /// When the backup was made, and when the log was restored from it: simulated milliseconds.
    pub backup_ms: u64,
    pub ms: u64,
}

/// From when (simulated milliseconds) which classes were forwarded.
pub type Versions = Vec<(u64, BTreeSet<usize>)>;

/// What each log holds.
pub type Logs = BTreeMap<Site, Vec<Held>>;

/// Everything that the checker may know of a run.
#[derive(Debug, Default)]
pub struct Observed {
    pub statements: BTreeMap<String, Statement>,
    pub acknowledged: Vec<Acknowledged>,
    pub delivered: BTreeMap<Site, Vec<Delivered>>,
    /// Of a source with a receiver.
    pub agreements: BTreeMap<(usize, usize), Versions>,
    /// The states that a receiver's link to a source was seen in.
    pub states: BTreeMap<(usize, usize), BTreeSet<&'static str>>,
    /// Receivers whose operators were told that a source was restored.
    pub noticed: BTreeSet<(usize, usize)>,
    /// Receiver, source, event, reason.
    pub quarantined: BTreeSet<(usize, usize, String, String)>,
    /// Links over which an operator had everything sent again.
    pub rewound: BTreeSet<(usize, usize)>,
    pub restored: Vec<Restored>,
    /// The end of the first node's log when it was copied.
    pub cloned_at: Option<(Sequence, u64)>,
    pub held: Logs,
    pub held_before_mending: Logs,
    /// As it was before something was lost, and at the end.
    pub ever_held: Vec<Logs>,
    /// What went wrong whatever was held.
    pub faults: Vec<String>,
}

impl Observed {
    /// Nothing was seen yet.
    pub fn of(plan: &Plan) -> Self {
        let mut observed = Self::default();
        for (source, others) in plan.nodes.iter().enumerate() {
            for (receiver, neighbour) in others {
                observed.agree(source, *receiver, neighbour.classes.clone(), 0);
            }
        }
        observed
    }

    /// Notes what is forwarded from now on.
    pub fn agree(&mut self, source: usize, receiver: usize, classes: BTreeSet<usize>, now_ms: u64) {
        self.agreements.entry((source, receiver)).or_default().push((now_ms, classes));
    }
}

/// At most so many faults are told of a run: one is enough.
const FAULTS_TOLD_MAX: usize = 12;

/// What is wrong with a run.
pub fn faults(plan: &Plan, observed: &Observed) -> Vec<String> {
    let mut check = Check { plan, observed, faults: observed.faults.clone() };
    for logs in &observed.ever_held {
        for (site, held) in logs.iter().filter(|(site, _)| **site < CLONE_SITE) {
            check.log(*site, held);
        }
    }
    check.acknowledged();
    check.delivered();
    check.complete();
    check.order();
    check.restored();
    check.cloned();
    for (receiver, source, id, reason) in &observed.quarantined {
        check.faults.push(format!("{receiver} put {id} of {source} into quarantine: {reason}"));
    }
    check.faults.truncate(FAULTS_TOLD_MAX);
    check.faults
}

struct Check<'a> {
    plan: &'a Plan,
    observed: &'a Observed,
    faults: Vec<String>,
}

impl Check<'_> {
    fn fault(&mut self, what: String) {
        self.faults.push(what);
    }

    fn has(&self, site: Site, id: &str) -> bool {
        self.observed.held.get(&site).is_some_and(|held| held.iter().any(|held| held.id == id))
    }

    fn takes_from(&self, receiver: usize, source: usize) -> bool {
        self.plan.nodes[receiver].get(&source).is_some_and(|neighbour| neighbour.dialled)
    }

    fn is_restored(&self, node: usize) -> bool {
        self.observed.restored.iter().any(|restored| restored.node == node)
    }

    /// What one log may hold.
    fn log(&mut self, site: Site, held: &[Held]) {
        let mut seen = BTreeSet::new();
        let mut last = Sequence::ZERO;
        for event in held {
            let id = &event.id;
            if !seen.insert(id) {
                self.fault(format!("{site} holds {id} twice"));
            }
            if event.sequence <= last {
                self.fault(format!("{site} holds {id} at {} after {last}", event.sequence));
            }
            last = event.sequence;
            let Some(said) = self.observed.statements.get(id) else {
                self.fault(format!("{site} holds {id}, which nobody said"));
                continue;
            };
            if said.bytes != event.bytes {
                self.fault(format!("{site} holds {id} with other bytes"));
            }
            match &event.origin {
                None if said.node != site => self.fault(format!("{site} calls {id} of {} its own", said.node)),
                None => {}
                Some(origin) => {
                    if origin.node != node_id(said.node) {
                        self.fault(format!("{site} holds {id} of {} as of {}", said.node, origin.node));
                    }
                    let circled =
                        if said.node == site { !self.is_restored(site) } else { origin.via.contains(&node_id(site)) };
                    if circled {
                        self.fault(format!("{site} holds {id}, which ran in a circle: {origin:?}"));
                    }
                    if said.node != site && !self.may_hold(site, said) {
                        self.fault(format!("{site} holds {id} of {} against every agreement", said.node));
                    }
                }
            }
        }
    }

    /// What was acknowledged is there.
    fn acknowledged(&mut self) {
        let observed = self.observed;
        for said in observed.acknowledged.iter().filter(|said| said.site < CLONE_SITE) {
            let site = said.site;
            let at_place = observed.held[&site].iter().any(|held| held.sequence == said.sequence && held.id == said.id);
            let lost = observed.restored.iter().find(|restored| restored.node == site && restored.kept < said.sequence);
            let somewhere = self.has(site, &said.id);
            match lost {
                None if !at_place => {
                    self.fault(format!("{site} acknowledged {} at {} and lost it", said.id, said.sequence));
                }
                Some(_) if !at_place && !somewhere => {
                    let neighbours = (0..self.plan.nodes.len()).filter(|other| self.takes_from(site, *other));
                    let holders: Vec<usize> = neighbours.filter(|other| self.has(*other, &said.id)).collect();
                    if !holders.is_empty() {
                        self.fault(format!(
                            "{site} lost {} with its disk, and did not take it back from {holders:?}",
                            said.id
                        ));
                    }
                }
                None | Some(_) => {}
            }
        }
    }

    /// A reader was shown exactly the log.
    fn delivered(&mut self) {
        for site in 0..self.plan.nodes.len() {
            let shown = self.observed.delivered.get(&site).cloned().unwrap_or_default();
            let held = self.observed.held[&site].iter();
            let held: Vec<Delivered> = held
                .map(|held| Delivered { sequence: held.sequence, id: held.id.clone(), bytes: held.bytes.clone() })
                .collect();
            if shown != held {
                let at = shown.iter().zip(&held).take_while(|(one, other)| one == other).count();
                self.fault(format!("a reader at {site} was shown something else than the log from event {at} on"));
            }
        }
    }

    /// What must be held in the end is.
    fn complete(&mut self) {
        let nodes = self.plan.nodes.len();
        for said in self.observed.statements.values().filter(|said| said.site < CLONE_SITE) {
            if !self.has(said.node, &said.id) {
                continue;
            }
            for receiver in (0..nodes).filter(|receiver| *receiver != said.node) {
                if self.has(receiver, &said.id) {
                    continue;
                }
                if self.must_hold(receiver, said) {
                    self.fault(format!(
                        "{receiver} does not hold {} of {}, which every agreement allows",
                        said.id, said.node
                    ));
                }
                let remembers = !self.has_forgotten(said.node, receiver);
                let original = said.revises.as_ref().filter(|id| remembers && self.has(receiver, id));
                if let Some(original) = original.filter(|_| self.takes_from(receiver, said.node)) {
                    self.fault(format!(
                        "{receiver} holds {original} of {}, and not its revision {}",
                        said.node, said.id
                    ));
                }
            }
        }
    }

    /// Whether a source was restored from a backup, and had an agreement with the receiver that ended between the backup and the restore, and
    /// began after the backup, or with a receiver that it takes nothing from, which could hand back what it holds: nothing remembers what
    /// went by that. Nor does a node know what a copy of it sent by an agreement that has ended since.
    fn has_forgotten(&self, source: usize, receiver: usize) -> bool {
        let versions = &self.observed.agreements[&(source, receiver)];
        let lasted =
            versions.iter().zip(versions.iter().skip(1)).map(|((begin_ms, _), (end_ms, _))| (begin_ms, end_ms));
        let copied_ms = self.observed.cloned_at.filter(|_| source == 0).map(|(_, copied_ms)| copied_ms);
        if copied_ms.is_some_and(|copied_ms| lasted.clone().any(|(_, end_ms)| copied_ms <= *end_ms)) {
            return true;
        }
        let restored = self.observed.restored.iter().filter(|restored| restored.node == source);
        let hands_back = self.takes_from(source, receiver);
        restored.into_iter().any(|restored| {
            let lost = restored.backup_ms..=restored.ms;
            lasted
                .clone()
                .any(|(begin_ms, end_ms)| lost.contains(end_ms) && (!hands_back || restored.backup_ms <= *begin_ms))
        })
    }

    fn must_hold(&self, receiver: usize, said: &Statement) -> bool {
        if !admits(said, receiver) {
            return false;
        }
        let classes = self.classes(said, |id| self.has(said.node, id));
        self.plan.transit
            || (self.takes_from(receiver, said.node)
                && self.in_force_since(receiver, said).all(|agreed| !agreed.is_disjoint(&classes)))
    }

    fn may_hold(&self, receiver: usize, said: &Statement) -> bool {
        if self.plan.transit {
            return said.audience != For::Nobody;
        }
        let classes = self.classes(said, |_| true);
        let allowed = self.in_force_since(receiver, said).any(|agreed| !agreed.is_disjoint(&classes));
        let original = said.revises.as_ref().and_then(|id| self.observed.statements.get(id));
        self.takes_from(receiver, said.node)
            && admits(said, receiver)
            && (allowed || original.is_some_and(|original| self.may_hold(receiver, original)))
    }

    /// The classes of a statement and of all that it revises, as far as they are known: where one of them goes, it goes. What was lost with
    /// a disk, and nobody could hand back, is not known to the node that lost it.
    fn classes(&self, said: &Statement, is_known: impl Fn(&str) -> bool) -> BTreeSet<usize> {
        let mut classes = BTreeSet::new();
        let mut next = Some(said);
        while let Some(said) = next {
            classes.insert(said.class);
            let original = said.revises.as_ref().filter(|id| is_known(id));
            next = original.and_then(|id| self.observed.statements.get(id));
        }
        classes
    }

    /// The agreements of its node with a receiver that were in force at some time since it was said.
    fn in_force_since(&self, receiver: usize, said: &Statement) -> impl Iterator<Item = &BTreeSet<usize>> + use<'_> {
        let versions = &self.observed.agreements[&(said.node, receiver)];
        let ends = versions.iter().skip(1).map(|(from_ms, _)| *from_ms).chain([u64::MAX]);
        let said_ms = said.said_ms;
        versions.iter().zip(ends).filter(move |(_, end_ms)| said_ms <= *end_ms).map(|((_, classes), _)| classes)
    }

    /// Events of one origin keep their order.
    fn order(&mut self) {
        let observed = self.observed;
        let unchanged = |source: usize, receiver: usize| {
            observed.agreements[&(source, receiver)].len() == 1
                && !observed.rewound.contains(&(receiver, source))
                && observed.restored.is_empty()
                && observed.cloned_at.is_none()
        };
        for receiver in (0..self.plan.nodes.len()).filter(|_| !self.plan.transit) {
            let mut last: BTreeMap<usize, Sequence> = BTreeMap::new();
            for held in &observed.held[&receiver] {
                let (Some(origin), Some(said)) = (&held.origin, observed.statements.get(&held.id)) else { continue };
                if said.node == receiver {
                    continue;
                }
                let before = last.insert(said.node, origin.sequence).unwrap_or(Sequence::ZERO);
                if unchanged(said.node, receiver) && origin.sequence <= before {
                    self.fault(format!("{receiver} holds {} of {} after {before}", origin.sequence, said.node));
                }
            }
        }
    }

    /// Who knew more of a restored source than it still had was told so.
    fn restored(&mut self) {
        let (Some(restored), Some(before)) = (self.observed.restored.first(), self.observed.ever_held.first()) else {
            return;
        };
        let receivers: Vec<usize> =
            (0..self.plan.nodes.len()).filter(|receiver| self.takes_from(*receiver, restored.node)).collect();
        for receiver in receivers {
            // A link that ended in the middle of an append may have forgotten how far it was, and an operator's word takes the notice away.
            // Every change of the receiver's peers file begins its links anew.
            let undisturbed = !self.plan.actions.iter().any(|(_, action)| match action {
                Action::Die { node, .. } | Action::Stop { node } | Action::Pause { node, .. } => *node == receiver,
                Action::OrderPause { node, peer }
                | Action::OrderResume { node, peer }
                | Action::OrderAgain { node, peer } => (*node, *peer) == (receiver, restored.node),
                _ => false,
            });
            let knew_more = before[&receiver].iter().filter_map(|held| held.origin.as_ref()).any(|origin| {
                origin.node == node_id(restored.node) && origin.via.is_empty() && restored.kept < origin.sequence
            });
            if undisturbed && knew_more && !self.observed.noticed.contains(&(receiver, restored.node)) {
                self.fault(format!("{receiver} was not told that {} was restored from a backup", restored.node));
            }
        }
    }

    /// Nobody takes from both of two logs with the same life, and who took from the clone has noticed.
    fn cloned(&mut self) {
        let Some((copied, _)) = self.observed.cloned_at else { return };
        for receiver in (1..self.plan.nodes.len()).filter(|receiver| !self.observed.rewound.contains(&(*receiver, 0))) {
            let mut from = BTreeSet::new();
            for held in &self.observed.held_before_mending[&receiver] {
                let (Some(origin), Some(said)) = (&held.origin, self.observed.statements.get(&held.id)) else {
                    continue;
                };
                if said.node == 0 && copied < origin.sequence {
                    from.insert(said.site);
                }
            }
            if from.len() > 1 {
                self.fault(format!("{receiver} took from the first node and from its clone"));
            }
            let stopped = |states: &BTreeSet<&str>| states.contains("cloned") || states.contains("diverged");
            if from.contains(&CLONE_SITE) && !self.observed.states.get(&(receiver, 0)).is_some_and(stopped) {
                self.fault(format!("{receiver} took from the clone, and nobody was told"));
            }
        }
    }
}

fn admits(said: &Statement, receiver: usize) -> bool {
    match &said.audience {
        For::Everybody => true,
        For::Nodes(nodes) => nodes.contains(&receiver),
        For::Nobody => false,
    }
}
