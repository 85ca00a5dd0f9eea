//! What some events say of clearances, holds and associations, with corrections applied, in the order of statements. It knows one sight:
//! only what the caller may read, or all.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    Held,
    casebook::Casebook,
    related::{SubjectSet, fits},
    shelf::Filed,
};
use crate::{
    domain::{
        EventId, Sequence,
        bindings::SubjectKey,
        clearance::{HoldKey, HoldStatement, Level, Step, open_holds},
        codes::kind,
    },
    views::{
        associations::{
            graph::Graph,
            statement::{Says, Statement, Subject},
        },
        decoded::{Decoded, canonical, key},
        fold_order::FoldKey,
        revisions::Revisions,
    },
    wire::proto::{self, event::Body},
};

/// Which events count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Those that the caller may read.
    Caller,
    /// All.
    All,
}

/// One step of a clearance, or one statement about a hold: an event that has [`Words`].
#[derive(Debug)]
pub(super) struct Said {
    pub(super) filed: Arc<Filed>,
}

/// What an event says of a clearance or a hold.
#[derive(Debug)]
pub(super) struct Words {
    /// Everything that goods are cleared by and that it is about.
    names: Vec<Subject>,
    /// Those of them that it is about first of all.
    keys: Vec<Subject>,
    /// The hold that it places or lifts.
    hold: Option<HoldStatement>,
}

/// What the events of one sight say.
#[derive(Debug)]
pub(super) struct Knowledge {
    /// Steps and holds in force, in the order of statements.
    pub(super) said: Vec<Said>,
    /// Steps and holds that were corrected or retracted, with what did it.
    pub(super) revised: Vec<(Said, EventId)>,
    /// The associations in force.
    pub(super) graph: Graph,
    /// The events with associations, by their places.
    pub(super) associations: BTreeMap<Sequence, Arc<Filed>>,
    /// Which of `said` name a value.
    by_value: HashMap<(u8, Box<str>), Vec<usize>>,
    /// The words in force that detach, each with its place in the order.
    detached: Vec<(FoldKey, Says)>,
}

/// What is tied to a subject, and whether it is above it among its equals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tied {
    pub(super) other: Subject,
    pub(super) level: Level,
    pub(super) other_is_parent: bool,
}

impl Knowledge {
    pub(super) fn of(casebook: &Casebook, sight: Sight) -> Self {
        let counts = |filed: &&Arc<Filed>| sight == Sight::All || filed.readable;
        let mut revisions = Revisions::default();
        casebook.filed.values().filter(counts).for_each(|filed| revisions.note(&filed.decoded));
        let mut graph = Graph::default();
        let associations = casebook.filed.values().filter(counts).filter_map(|filed| filed.statement.clone());
        graph.apply(associations.collect());
        let mut knowledge = Self {
            said: Vec::new(),
            revised: Vec::new(),
            graph,
            associations: BTreeMap::new(),
            by_value: HashMap::new(),
            detached: Vec::new(),
        };
        for filed in casebook.filed.values().filter(counts) {
            if matches!(filed.decoded.event.body, Some(Body::Association(_))) {
                knowledge.associations.insert(filed.decoded.sequence, Arc::clone(filed));
                if revisions.of(&filed.decoded).is_none()
                    && let Some(Statement { key, says: Some(says), .. }) = &filed.statement
                    && !says.attached
                {
                    knowledge.detached.push((key.clone(), says.clone()));
                }
            }
            let Some(said) = Said::of(filed) else { continue };
            match revisions.of(&filed.decoded) {
                None => knowledge.said.push(said),
                Some(by) => knowledge.revised.push((said, by)),
            }
        }
        knowledge.said.sort_by(|left, right| left.filed.key.cmp(&right.filed.key));
        knowledge.revised.sort_by(|(left, _), (right, _)| left.filed.key.cmp(&right.filed.key));
        for (index, said) in knowledge.said.iter().enumerate() {
            for name in said.names() {
                let SubjectKey { kind, value, .. } = name.fields();
                knowledge.by_value.entry((kind, value.into())).or_default().push(index);
            }
        }
        knowledge
    }

    /// Whether anything here names the subject.
    pub(super) fn names(&self, subject: &Subject) -> bool {
        !self.said_of(subject).is_empty()
            || !self.associated(subject).is_empty()
            || self
                .revised
                .iter()
                .any(|(said, _)| said.names().iter().any(|name| fits(&name.fields(), &subject.fields())))
    }

    /// The subjects that associations name and that are this one; an empty issuer on either side fits.
    pub(super) fn associated(&self, subject: &Subject) -> Vec<Subject> {
        let fields = subject.fields();
        let mut found = self.graph.matching(&SubjectKey { issuer: "", ..fields });
        found.retain(|one| fits(&one.fields(), &fields));
        found
    }

    /// Everything that is tied to a subject by an association, or by a step or hold that names both and whose authority has not detached
    /// one from the other since: without that a declaration that was voided would stand against its goods for ever.
    pub(super) fn tied(&self, subject: &Subject) -> Vec<Tied> {
        let fields = subject.fields();
        let Some(own_level) = Level::of(fields.kind) else { return Vec::new() };
        let mut tied = Vec::new();
        for one in self.associated(subject) {
            for tie in self.graph.ties(&one) {
                if let Some(level) = Level::of(tie.other.fields().kind) {
                    tied.push(Tied { other: tie.other, level, other_is_parent: tie.other_is_parent });
                }
            }
        }
        for said in self.said_of(subject) {
            for name in said.names() {
                let Some(level) = Level::of(name.fields().kind) else { continue };
                // Two of one level are two things, but for the two numbers of a declaration.
                let two_things = level != own_level || (level == Level::Declaration && is_lrn(name) != is_lrn(subject));
                if two_things && !self.is_detached(said, subject, name) {
                    tied.push(Tied { other: name.clone(), level, other_is_parent: false });
                }
            }
        }
        tied.sort_by(|left, right| (&left.other, left.other_is_parent).cmp(&(&right.other, right.other_is_parent)));
        tied.dedup();
        tied
    }

    /// Whether the administration that named both in a step or hold has said since that they belong together no more.
    fn is_detached(&self, said: &Said, one: &Subject, other: &Subject) -> bool {
        let domain = said.filed.decoded.publisher.trust_domain();
        let parts = |says: &Says, parent: &Subject, child: &Subject| {
            let everything = says.children.is_empty() && says.participants.is_empty();
            let names_child = || says.children.iter().any(|named| fits(&named.fields(), &child.fields()));
            fits(&says.parent.fields(), &parent.fields()) && (everything || names_child())
        };
        self.detached.iter().any(|(key, says)| {
            *says.domain == *domain && said.filed.key < *key && (parts(says, one, other) || parts(says, other, one))
        })
    }

    /// The steps about one of some numbers, in order.
    pub(super) fn steps_of(&self, names: &[Subject]) -> Vec<(Arc<Filed>, Step)> {
        let about = self.said.iter().filter(|said| said.is_about(names));
        about.filter_map(|said| Some((Arc::clone(&said.filed), said.step()?))).collect()
    }

    /// The open holds on any of some subjects.
    pub(super) fn open_holds(&self, on: &SubjectSet) -> Vec<Held> {
        let (said, statements): (Vec<&Said>, Vec<HoldStatement>) =
            self.said.iter().filter_map(|said| Some((said, said.hold()?.clone()))).unzip();
        let mut open = Vec::new();
        for (key, hold) in open_holds(&statements) {
            let placed_by: Vec<&Said> = hold.placed_by.iter().map(|index| said[*index]).collect();
            if placed_by.iter().any(|said| said.names().iter().any(|name| on.contains(&name.fields()))) {
                open.push(Held { key, placed_by: placed_by.iter().map(|said| Arc::clone(&said.filed)).collect() });
            }
        }
        open
    }

    /// The holds that were placed on some subjects, open or not.
    pub(super) fn holds_on(&self, on: &SubjectSet) -> BTreeSet<HoldKey> {
        let is_on = |said: &&Said| said.names().iter().any(|name| on.contains(&name.fields()));
        self.said
            .iter()
            .filter(is_on)
            .filter_map(Said::hold)
            .filter(|hold| hold.placed)
            .map(|hold| hold.key.clone())
            .collect()
    }

    fn said_of(&self, subject: &Subject) -> Vec<&Said> {
        let fields = subject.fields();
        let indexes = self.by_value.get(&(fields.kind, Box::from(fields.value)));
        let said = indexes.into_iter().flatten().map(|index| &self.said[*index]);
        said.filter(|said| said.names().iter().any(|name| fits(&name.fields(), &fields))).collect()
    }
}

impl Words {
    /// What an event says; none where it is neither a step nor a statement about a hold.
    pub(super) fn of(decoded: &Decoded) -> Option<Self> {
        if !matches!(decoded.event.body, Some(Body::Clearance(_) | Body::Hold(_))) {
            return None;
        }
        let names = primary_names(decoded);
        let keys = keys(names.clone());
        Some(Self { names, keys, hold: hold_statement(decoded) })
    }
}

impl Said {
    fn of(filed: &Arc<Filed>) -> Option<Self> {
        filed.words.as_ref()?;
        Some(Self { filed: Arc::clone(filed) })
    }

    fn words(&self) -> &Words {
        self.filed.words.as_ref().expect("only an event that has words becomes what was said")
    }

    /// Everything that goods are cleared by and that it is about.
    pub(super) fn names(&self) -> &[Subject] {
        &self.words().names
    }

    /// Whether it is first of all about one of some numbers.
    pub(super) fn is_about(&self, names: &[Subject]) -> bool {
        self.words().keys.iter().any(|key| names.iter().any(|name| fits(&key.fields(), &name.fields())))
    }

    /// Whether it names one of some numbers.
    pub(super) fn touches(&self, names: &[Subject]) -> bool {
        self.names().iter().any(|one| names.iter().any(|name| fits(&one.fields(), &name.fields())))
    }

    fn step(&self) -> Option<Step> {
        let Some(Body::Clearance(clearance)) = &self.filed.decoded.event.body else { return None };
        Some(Step {
            // Numbers beyond a byte stand in no model that the door admits, and mean nothing that is known here.
            step: u8::try_from(clearance.step).unwrap_or(0),
            authority: self.filed.decoded.publisher.clone(),
            goods_items: clearance.goods_items.clone(),
        })
    }

    fn hold(&self) -> Option<&HoldStatement> {
        self.words().hold.as_ref()
    }
}

fn hold_statement(decoded: &Decoded) -> Option<HoldStatement> {
    let Some(Body::Hold(hold)) = &decoded.event.body else { return None };
    let placed = match hold.step() {
        proto::HoldStep::Placed => true,
        proto::HoldStep::Lifted => false,
        // A step of a newer model: what it would lift is not lifted here.
        proto::HoldStep::Unspecified => return None,
    };
    Some(HoldStatement { key: hold_of(decoded)?, placed })
}

/// The hold that a statement is about, by whoever may place and lift it.
#[must_use]
pub fn hold_of(decoded: &Decoded) -> Option<HoldKey> {
    let Some(Body::Hold(hold)) = &decoded.event.body else { return None };
    Some(HoldKey { domain: decoded.publisher.trust_domain().into(), hold_id: hold.hold_id.as_str().into() })
}

/// What a step or hold is about: the primary subjects by which goods are cleared.
#[must_use]
pub fn primary_names(decoded: &Decoded) -> Vec<Subject> {
    let primary = |subject: &&proto::Subject| {
        matches!(subject.role(), proto::SubjectRole::Primary | proto::SubjectRole::Unspecified)
    };
    let terms = decoded.event.subjects.iter().filter(primary).map(canonical);
    let mut names: Vec<Subject> =
        terms.filter(|term| Level::of(term.kind).is_some()).map(|term| Subject::of(&key(&term))).collect();
    names.sort();
    names.dedup();
    names
}

/// What it is about first of all, of all that it names: the declarations, by the number of customs before the declarant's own; without
/// any the goods, by the narrowest that it names.
pub(super) fn keys(mut names: Vec<Subject>) -> Vec<Subject> {
    let levels = || names.iter().filter_map(|name| Level::of(name.fields().kind));
    // A release of one container that names its bill too is none of the bill's other containers.
    let about = if levels().any(|level| level == Level::Declaration) { levels().max() } else { levels().min() };
    names.retain(|name| Level::of(name.fields().kind) == about);
    if names.iter().any(|name| !is_lrn(name)) {
        names.retain(|name| !is_lrn(name));
    }
    names
}

/// Whether it is the declarant's own number, which customs' number takes the place of.
pub(super) fn is_lrn(subject: &Subject) -> bool {
    subject.fields().kind == kind::LRN
}
