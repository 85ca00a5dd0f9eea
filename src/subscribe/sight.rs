//! What one session sees: what the caller's filters and the caller's rights both admit, event by event. It never decides by anything but the
//! event's header and place, and holds still: other rights are another sight.

use std::sync::Arc;

use crate::{
    domain::{
        Filter, HeaderRef, Sequence, SpiffeId,
        bindings::{BindingsFeed, NewBinding},
        codes::body,
        filter::{FilterSpec, MatchContext, TermPlan},
        header::origin_term,
        term::{TermHash, TermKind},
    },
    identity::{Action, Rights, policy::Grant},
    log::{LogError, Record},
};

/// Grants with more filters than this are judged event by event: an index of so many would cost more than it saves.
const PLAN_FILTERS_MAX: usize = 64;

/// What a session sees.
pub(super) struct Sight {
    rights: Rights,
    filters: Arc<[Filter]>,
    bindings: Arc<dyn BindingsFeed>,
    node: SpiffeId,
    /// The read grants that were in force when it was made, and whether the caller could subscribe at all.
    in_force: Vec<Arc<Grant>>,
    may_subscribe: bool,
    needs_bindings: bool,
    judges: Judges,
}

/// What a session judges by the caller's rights before it hands it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judges {
    /// Every event.
    Events,
    /// Nothing: whoever opened it judges what comes of the events.
    Nothing,
}

impl Sight {
    pub(super) fn new(
        rights: Rights,
        filters: Arc<[Filter]>,
        bindings: Arc<dyn BindingsFeed>,
        node: SpiffeId,
        now_ns: i64,
    ) -> Self {
        let in_force = reading(&rights, now_ns);
        let granted = in_force.iter().flat_map(|grant| &grant.filters);
        let needs_bindings = granted.chain(filters.iter().map(Filter::spec)).any(names_a_participant);
        let may_subscribe = may_subscribe(&rights, now_ns);
        Self { rights, filters, bindings, node, in_force, may_subscribe, needs_bindings, judges: Judges::Events }
    }

    /// The same sight, judging otherwise.
    pub(super) fn judging(self, judges: Judges) -> Self {
        Self { judges, ..self }
    }

    /// Whether the caller is to see the event.
    pub(super) fn admits(&self, record: &Record, now_ns: i64) -> Result<bool, LogError> {
        let header = HeaderRef::parse(&record.header)
            .map_err(|fault| LogError::Damaged(format!("event at sequence {}: {fault}", record.sequence)))?;
        let context = MatchContext {
            accepted_time_ns: record.accepted_time_ns,
            origin_node: record.origin.as_ref().map_or(self.node.as_str(), |origin| origin.node.as_str()),
            caller: self.rights.who.as_str(),
            bindings: &*self.bindings,
        };
        let askable = self.rights.askable(&*self.bindings, now_ns);
        let asking = MatchContext { bindings: &askable, ..context };
        let asked_for = self.filters.is_empty() || self.filters.iter().any(|filter| filter.matches(&header, &asking));
        Ok(asked_for
            && (self.judges == Judges::Nothing || self.rights.permits(Action::Read, &header, &context, now_ns)))
    }

    /// Whether the caller may see the event, whatever her filters say.
    pub(super) fn admits_whatever_was_asked(&self, record: &Record, now_ns: i64) -> Result<bool, LogError> {
        let header = HeaderRef::parse(&record.header)
            .map_err(|fault| LogError::Damaged(format!("event at sequence {}: {fault}", record.sequence)))?;
        let context = MatchContext {
            accepted_time_ns: record.accepted_time_ns,
            origin_node: record.origin.as_ref().map_or(self.node.as_str(), |origin| origin.node.as_str()),
            caller: self.rights.who.as_str(),
            bindings: &*self.bindings,
        };
        Ok(self.rights.permits(Action::Read, &header, &context, now_ns))
    }

    /// What rules out events that are not to be seen: by the filters, or where there are none by the grants in force. None where these say
    /// nothing that an index knows, or too much.
    pub(super) fn term_plan(&self) -> Option<Arc<TermPlan>> {
        let mut plan = TermPlan::new();
        if !self.filters.is_empty() {
            plan.extend(self.filters.iter().map(|filter| self.terms_of(filter, &self.rights.who)));
        } else if self.judges == Judges::Events {
            for name in self.names() {
                // Her own events she reads without a grant.
                plan.push(vec![vec![TermHash::of(TermKind::Publisher, &[name.as_str().as_bytes()])]]);
                let granted = self.in_force.iter().flat_map(|grant| &grant.compiled);
                plan.extend(granted.map(|filter| self.terms_of(filter, name)));
            }
        }
        if plan.is_empty() || plan.iter().any(Vec::is_empty) || PLAN_FILTERS_MAX < plan.len() {
            return None;
        }
        if self.needs_bindings {
            // What widens her view she is told of when it comes.
            plan.push(vec![vec![TermHash::of(TermKind::BodyType, &[&[body::ASSOCIATION]])]]);
        }
        Some(Arc::new(plan))
    }

    /// What an event that a filter matches must have. Events of this node's own do not bear its name as a term.
    fn terms_of(&self, filter: &Filter, caller: &SpiffeId) -> Vec<Vec<TermHash>> {
        let own = origin_term(self.node.as_str());
        filter.term_plan(caller).into_iter().filter(|any_of| !any_of.contains(&own)).collect()
    }

    fn names(&self) -> impl Iterator<Item = &SpiffeId> {
        std::iter::once(&self.rights.who).chain(self.rights.former_names.iter())
    }

    /// True where associations decide what is seen: events are then judged only when the associations before them are applied.
    pub(super) const fn needs_bindings(&self) -> bool {
        self.needs_bindings
    }

    /// What the caller was newly bound to, under any of her names, by associations that stand after a place and not after another, in
    /// order.
    pub(super) fn newly_bound(&self, after: Sequence, through: Sequence) -> Vec<NewBinding> {
        let mut bound: Vec<NewBinding> = Vec::new();
        for binding in self.names().flat_map(|name| self.bindings.newly_bound(name.as_str(), after)) {
            if binding.sequence <= through && !bound.contains(&binding) {
                bound.push(binding);
            }
        }
        bound.sort_by_key(|binding| binding.sequence);
        bound
    }

    /// Whether some of what the caller was bound to by associations that stand after a place is not kept any more.
    pub(super) fn has_forgotten_bindings(&self, after: Sequence) -> bool {
        self.names().any(|name| after < self.bindings.forgotten_through(name.as_str()))
    }

    /// When the next grant begins or ends.
    pub(super) fn next_change_ns(&self, now_ns: i64) -> Option<i64> {
        self.rights.next_change_ns(now_ns)
    }

    /// The same sight under rights read anew, or none where these let the caller see otherwise.
    pub(super) fn under(&self, rights: Rights, now_ns: i64) -> Option<Self> {
        let in_force = reading(&rights, now_ns);
        let may_subscribe = may_subscribe(&rights, now_ns);
        let alike = may_subscribe == self.may_subscribe
            && rights.former_names == self.rights.former_names
            && in_force.len() == self.in_force.len()
            && in_force.iter().zip(&self.in_force).all(|(new, old)| reads_alike(new, old));
        alike.then(|| Self {
            rights,
            filters: Arc::clone(&self.filters),
            bindings: Arc::clone(&self.bindings),
            node: self.node.clone(),
            in_force,
            may_subscribe,
            needs_bindings: self.needs_bindings,
            judges: self.judges,
        })
    }
}

/// Whether there can be anything to see: what grants open to her, or what she publishes herself.
pub(super) fn may_subscribe(rights: &Rights, now_ns: i64) -> bool {
    rights.may(Action::Read, now_ns) || rights.may(Action::Publish, now_ns)
}

/// The read grants in force, in the order of the policy.
fn reading(rights: &Rights, now_ns: i64) -> Vec<Arc<Grant>> {
    let reads = |grant: &&Arc<Grant>| grant.actions.contains(&Action::Read) && grant.is_in_force(now_ns);
    rights.grants.iter().filter(reads).cloned().collect()
}

/// Whether two grants let their holder see the same. The id belongs to it, since the session has named it.
fn reads_alike(a: &Grant, b: &Grant) -> bool {
    let shown = |grant: &Grant| (grant.history_from_start.then_some(grant.start_time_ns), grant.private);
    a.id == b.id && a.filters == b.filters && shown(a) == shown(b)
}

fn names_a_participant(spec: &FilterSpec) -> bool {
    spec.parties.iter().any(|party| !party.participant.is_empty())
}
