//! Plans a query: which term lists to walk. The caller's filters and her grants are planned alike, so that a caller whose grant names her
//! country does not walk everybody's events to find her own. It never decides access: every candidate is still judged.

use std::sync::Arc;

use super::{associations::Associations, candidates::Candidates};
use crate::{
    domain::{
        Filter, SpiffeId,
        filter::PartySpec,
        term::{TermHash, TermKind},
    },
    identity::{Action, Rights},
    log::contract::TermIndex,
};

/// A list that only narrows another may be this much longer than it: looking up one place costs about as much as fetching one event.
const LONGER_BY_MAX: u64 = 16;
/// Lists shorter than this are not worth narrowing.
const NARROWED_MIN: u64 = 64;
/// At most so many lists narrow one other.
const NARROWING_MAX: usize = 4;
/// A field of so many values at the most narrows another list.
const NARROWING_TERMS_MAX: usize = 64;
/// Grants of more terms than this together are not planned with.
const GRANT_TERMS_MAX: usize = 512;
/// Of a participant bound to more subjects than this, the subjects are not planned with.
const BOUND_SUBJECTS_MAX: usize = 512;

/// Any of some terms.
type Clause = Vec<TermHash>;

/// What a plan is made from.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations, reason = "the index has none, and nobody prints it")]
pub struct Planner<'a> {
    /// Tells how long lists are.
    pub index: &'a dyn TermIndex,
    /// Tells what participants are bound to.
    pub associations: &'a Associations,
    /// How many events the log holds at the most.
    pub events: u64,
}

/// A list of candidates and about how long it is.
struct Part {
    length: u64,
    terms: usize,
    candidates: Candidates,
}

impl Planner<'_> {
    /// The places that may hold events which match one of the filters (or any event, without filters) and which the caller may read.
    #[must_use]
    pub fn plan(&self, filters: &[Filter], rights: &Rights, now_ns: i64) -> Candidates {
        let caller = &rights.who;
        let conjunctions: Vec<Vec<Clause>> = match filters {
            [] => vec![Vec::new()],
            filters => filters.iter().map(|filter| self.clauses(filter, caller)).collect(),
        };
        let mut branches = Vec::with_capacity(conjunctions.len());
        for clauses in conjunctions {
            let mut parts: Vec<Part> = clauses.iter().map(|clause| self.part(clause)).collect();
            // A list that is short already is not worth the look at the grants.
            if parts.iter().all(|part| part.length >= NARROWED_MIN) {
                parts.extend(self.granted(rights, now_ns));
            }
            match self.intersect(parts) {
                Some(branch) => branches.push(branch),
                // One filter without terms makes every place a candidate.
                None => return Candidates::Every,
            }
        }
        if branches.len() == 1 { branches.remove(0) } else { Candidates::Any(branches) }
    }

    /// The shortest list, narrowed by those that are worth it.
    fn intersect(&self, mut parts: Vec<Part>) -> Option<Candidates> {
        parts.sort_by_key(|part| part.length);
        let leading = parts.first()?.length;
        // A list of nearly everything is a detour.
        if leading >= self.events.saturating_sub(self.events / 4).max(NARROWED_MIN) {
            return None;
        }
        let worth = |part: &Part| {
            leading >= NARROWED_MIN
                && part.length <= leading.saturating_mul(LONGER_BY_MAX)
                && part.length <= self.events / 2
                && part.terms <= NARROWING_TERMS_MAX
        };
        let mut parts = parts.into_iter();
        let first = parts.next()?.candidates;
        let mut chosen = vec![first];
        chosen.extend(parts.filter(worth).take(NARROWING_MAX).map(|part| part.candidates));
        Some(if chosen.len() == 1 { chosen.remove(0) } else { Candidates::All(chosen) })
    }

    /// What the read grants admit, as one list; none where some grant has no terms.
    fn granted(&self, rights: &Rights, now_ns: i64) -> Option<Part> {
        let mut granted = Part { length: 0, terms: 0, candidates: Candidates::Any(Vec::new()) };
        let mut branches = Vec::new();
        let mut add = |part: Part| {
            granted.length = granted.length.saturating_add(part.length);
            granted.terms += part.terms;
            branches.push(part.candidates);
        };
        // Her own events she reads without a grant.
        let names: Vec<&SpiffeId> = std::iter::once(&rights.who).chain(rights.former_names.iter()).collect();
        for name in &names {
            add(self.part(&[TermHash::of(TermKind::Publisher, &[name.as_str().as_bytes()])]));
        }
        let reads = |grant: &&Arc<crate::identity::policy::Grant>| {
            grant.actions.contains(&Action::Read) && grant.is_in_force(now_ns)
        };
        for filter in rights.grants.iter().filter(reads).flat_map(|grant| &grant.compiled) {
            // "$caller" means each of her names; a filter that does not say it is planned once.
            let says_caller = filter.spec().parties.iter().any(|party| party.participant == "$caller");
            for name in &names[..if says_caller { names.len() } else { 1 }] {
                let clauses = self.clauses(filter, name);
                add(clauses.iter().map(|clause| self.part(clause)).min_by_key(|part| part.length)?);
            }
        }
        granted.candidates = Candidates::Any(branches);
        (granted.terms <= GRANT_TERMS_MAX).then_some(granted)
    }

    /// What every event that matches a filter must have.
    fn clauses(&self, filter: &Filter, caller: &SpiffeId) -> Vec<Clause> {
        let mut clauses = filter.term_plan(caller);
        let parties = &filter.spec().parties;
        let reached: Option<Vec<Clause>> = parties.iter().map(|party| self.party(party, caller)).collect();
        clauses.extend(reached.map(|lists| lists.concat()).filter(|clause| !clause.is_empty()));
        clauses
    }

    /// The terms of a party that associations may bind: her name, and the values of what she is bound to now.
    fn party(&self, party: &PartySpec, caller: &SpiffeId) -> Option<Clause> {
        let participant = match party.participant.as_str() {
            "" => return None,
            "$caller" => caller.as_str(),
            named => named,
        };
        let mut clause = vec![TermHash::of(TermKind::PartyParticipant, &[participant.as_bytes()])];
        for subject in self.associations.bound_subjects(participant, BOUND_SUBJECTS_MAX)? {
            clause.push(TermHash::of(TermKind::SubjectValue, &[subject.fields().value.as_bytes()]));
        }
        clause.sort_unstable();
        clause.dedup();
        Some(clause)
    }

    fn part(&self, clause: &[TermHash]) -> Part {
        let length = clause.iter().fold(0, |sum: u64, term| sum.saturating_add(self.index.estimate(*term)));
        Part { length, terms: clause.len(), candidates: Candidates::any_term(clause) }
    }
}
