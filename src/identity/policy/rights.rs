//! What one identity may do: the union of her grants, narrowed by each event's audience. Asked for every event at every door; it
//! allocates nothing where it answers yes or no.

use std::sync::Arc;

use super::{Action, Grant};
use crate::domain::{
    Filter, HeaderRef, SpiffeId,
    bindings::{PartyBindings, SubjectKey},
    filter::{FilterSpec, MatchContext},
    header::AudienceRef,
};

/// What one identity may do under one generation.
#[derive(Debug, Clone)]
pub struct Rights {
    /// The generation that they belong to.
    pub generation: u64,
    /// Whose they are.
    pub who: SpiffeId,
    /// The names that she had before: their events are hers.
    pub former_names: Arc<[SpiffeId]>,
    /// The grants that concern her.
    pub grants: Vec<Arc<Grant>>,
}

/// What a caller's grants leave of her filters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Narrowing {
    /// Indexes of the filters that no grant covers wholly.
    pub narrowed_filters: Vec<u32>,
    /// True where she sees less than she asks for.
    pub narrowed: bool,
    /// The read grants in force.
    pub grant_ids: Vec<String>,
}

/// What associations bind, as filters of the caller's own may ask for it: whom they bind to what is not hers to learn. With a filter for
/// another's name she would be told that an event which she may see belongs to that other's consignment, though the association that
/// says so may be hidden from her. She asks for what she is bound to herself; who may see everything asks for everybody's.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations, reason = "the bindings have none, and nobody prints them")]
pub struct AskableBindings<'a> {
    rights: &'a Rights,
    bindings: &'a dyn PartyBindings,
    now_ns: i64,
}

/// What one grant says to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantVerdict {
    /// The grant.
    pub grant_id: String,
    /// Whether it allows.
    pub allows: bool,
    /// Why not, in words; empty where it allows.
    pub explanation: String,
}

/// Why an event may not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadRefusal {
    /// No grant in force matches it.
    NotGranted,
    /// Only grants match it that begin with later events.
    BeforeGrantStart,
    /// A grant matches it, but its audience leaves her out.
    NotInAudience,
}

/// What one grant says to one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    Allows,
    OtherAction,
    NotBegun,
    Ended,
    OtherEvents,
    BeforeStart,
    Audience,
}

impl Rights {
    /// Whether any grant in force allows the action for some event at all.
    #[must_use]
    pub fn may(&self, action: Action, now_ns: i64) -> bool {
        self.grants.iter().any(|grant| grant.actions.contains(&action) && grant.is_in_force(now_ns))
    }

    /// Whether the action is allowed for this event. For [`Action::Read`] the event's audience decides too, and the publisher always
    /// reads her own. That a publisher speaks only for herself is the publish door's to check.
    #[must_use]
    pub fn permits(&self, action: Action, header: &HeaderRef<'_>, context: &MatchContext<'_>, now_ns: i64) -> bool {
        (action == Action::Read && self.is_own(header))
            || self.grants.iter().any(|grant| self.judge(grant, action, header, context, now_ns) == Match::Allows)
    }

    /// What bindings her own filters may ask for.
    #[must_use]
    pub fn askable<'a>(&'a self, bindings: &'a dyn PartyBindings, now_ns: i64) -> AskableBindings<'a> {
        AskableBindings { rights: self, bindings, now_ns }
    }

    /// Whether one grant opens every event to her, whatever its audience and however old.
    fn reads_everything(&self, now_ns: i64) -> bool {
        let everything = |grant: &Arc<Grant>| {
            grant.private && !grant.history_from_start && grant.compiled.iter().any(|filter| filter.spec().all)
        };
        let reads = |grant: &Arc<Grant>| grant.actions.contains(&Action::Read) && grant.is_in_force(now_ns);
        self.grants.iter().any(|grant| everything(grant) && reads(grant))
    }

    /// Why the agreement with a node does not let an event be forwarded to it; none where it does. `is_reached` says of a trust domain
    /// whether its participants are reached through that node: an event for named participants goes nowhere else.
    #[must_use]
    pub fn forward_refusal(
        &self,
        header: &HeaderRef<'_>,
        context: &MatchContext<'_>,
        now_ns: i64,
        is_reached: &dyn Fn(&str) -> bool,
    ) -> Option<ReadRefusal> {
        let admitted = match header.audience() {
            AudienceRef::Network => true,
            AudienceRef::Private => false,
            AudienceRef::Named(mut patterns) => patterns.any(|pattern| is_reached(domain_of(pattern))),
        };
        let mut refusal = ReadRefusal::NotGranted;
        for grant in &self.grants {
            let hidden = |start: i64| grant.history_from_start && context.accepted_time_ns < start;
            match self.judge(grant, Action::Forward, header, context, now_ns) {
                Match::Allows if grant.start_time_ns.is_some_and(hidden) => {
                    if refusal == ReadRefusal::NotGranted {
                        refusal = ReadRefusal::BeforeGrantStart;
                    }
                }
                Match::Allows if admitted || grant.private => return None,
                Match::Allows => refusal = ReadRefusal::NotInAudience,
                Match::OtherAction
                | Match::NotBegun
                | Match::Ended
                | Match::OtherEvents
                | Match::BeforeStart
                | Match::Audience => {}
            }
        }
        Some(refusal)
    }

    /// Whether the event was published by her, under whichever of her names.
    #[must_use]
    pub fn is_own(&self, header: &HeaderRef<'_>) -> bool {
        self.names().any(|name| name == header.publisher())
    }

    /// Why she may not read the event; none where she may.
    #[must_use]
    pub fn read_refusal(&self, header: &HeaderRef<'_>, context: &MatchContext<'_>, now_ns: i64) -> Option<ReadRefusal> {
        if self.is_own(header) {
            return None;
        }
        let mut refusal = ReadRefusal::NotGranted;
        for grant in &self.grants {
            match self.judge(grant, Action::Read, header, context, now_ns) {
                Match::Allows => return None,
                Match::Audience => refusal = ReadRefusal::NotInAudience,
                Match::BeforeStart if refusal == ReadRefusal::NotGranted => refusal = ReadRefusal::BeforeGrantStart,
                Match::BeforeStart | Match::OtherAction | Match::NotBegun | Match::Ended | Match::OtherEvents => {}
            }
        }
        Some(refusal)
    }

    /// What each grant of this identity says; without an event, whether it allows the action for some event at all.
    #[must_use]
    pub fn explain(
        &self,
        action: Action,
        event: Option<(&HeaderRef<'_>, &MatchContext<'_>)>,
        now_ns: i64,
    ) -> Vec<GrantVerdict> {
        let verdict = |grant: &Arc<Grant>| {
            let found = match event {
                Some((header, context)) => self.judge(grant, action, header, context, now_ns),
                None => judge_time(grant, action, now_ns).unwrap_or(Match::Allows),
            };
            let explanation = found.in_words(grant, action);
            GrantVerdict { grant_id: grant.id.clone(), allows: found == Match::Allows, explanation }
        };
        self.grants.iter().map(verdict).collect()
    }

    /// What the read grants leave of some filters; of none, of everything.
    #[must_use]
    pub fn narrowing(&self, filters: &[Filter], now_ns: i64) -> Narrowing {
        let readable: Vec<&Arc<Grant>> = self
            .grants
            .iter()
            .filter(|grant| grant.actions.contains(&Action::Read) && grant.is_in_force(now_ns))
            .collect();
        // A grant that hides history covers no filter wholly, as a filter may reach back.
        let wide = || readable.iter().filter(|grant| !grant.history_from_start).flat_map(|grant| &grant.compiled);
        let covered = |filter: &Filter| wide().any(|wider| filter.is_covered_by(wider));
        let narrowed_filters: Vec<u32> =
            filters.iter().enumerate().filter(|(_, filter)| !covered(filter)).map(|(index, _)| index as u32).collect();
        let narrowed = if filters.is_empty() {
            !wide().any(|wider| wider.spec() == &FilterSpec { all: true, ..FilterSpec::default() })
        } else {
            !narrowed_filters.is_empty()
        };
        let grant_ids = readable.iter().map(|grant| grant.id.clone()).collect();
        Narrowing { narrowed_filters, narrowed, grant_ids }
    }

    /// When the next of her grants begins or ends: a stream must look again then. Nanoseconds since 1970.
    #[must_use]
    pub fn next_change_ns(&self, now_ns: i64) -> Option<i64> {
        let changes = self.grants.iter().flat_map(|grant| [grant.start_time_ns, grant.expires_time_ns]);
        changes.flatten().filter(|change| *change > now_ns).min()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.who.as_str()).chain(self.former_names.iter().map(SpiffeId::as_str))
    }

    fn judge(
        &self,
        grant: &Grant,
        action: Action,
        header: &HeaderRef<'_>,
        context: &MatchContext<'_>,
        now_ns: i64,
    ) -> Match {
        if let Some(refusal) = judge_time(grant, action, now_ns) {
            return refusal;
        }
        if action.is_about_events() && !self.any_filter_matches(grant, header, context) {
            return Match::OtherEvents;
        }
        if action != Action::Read {
            return Match::Allows;
        }
        let hidden = |start: i64| grant.history_from_start && context.accepted_time_ns < start;
        if grant.start_time_ns.is_some_and(hidden) {
            return Match::BeforeStart;
        }
        let admitted = match header.audience() {
            AudienceRef::Network => true,
            AudienceRef::Private => false,
            named @ AudienceRef::Named(_) => self.names().any(|name| named.names(name)),
        };
        if admitted || grant.private { Match::Allows } else { Match::Audience }
    }

    /// "$caller" means each of her names.
    fn any_filter_matches(&self, grant: &Grant, header: &HeaderRef<'_>, context: &MatchContext<'_>) -> bool {
        self.names().any(|name| {
            let context = MatchContext { caller: name, ..*context };
            grant.compiled.iter().any(|filter| filter.matches(header, &context))
        })
    }
}

impl PartyBindings for AskableBindings<'_> {
    fn is_bound(&self, participant: &str, subject: &SubjectKey<'_>) -> bool {
        let hers = self.rights.names().any(|name| name == participant);
        (hers || self.rights.reads_everything(self.now_ns)) && self.bindings.is_bound(participant, subject)
    }
}

/// The trust domain of a SPIFFE ID or of a prefix of one, as a stored header has them.
fn domain_of(pattern: &str) -> &str {
    pattern.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next()).unwrap_or_default()
}

/// Why a grant says nothing to an action now, whatever the event; none where it does.
fn judge_time(grant: &Grant, action: Action, now_ns: i64) -> Option<Match> {
    if !grant.actions.contains(&action) {
        Some(Match::OtherAction)
    } else if grant.is_expired(now_ns) {
        Some(Match::Ended)
    } else if grant.is_in_force(now_ns) {
        None
    } else {
        Some(Match::NotBegun)
    }
}

impl Match {
    fn in_words(self, grant: &Grant, action: Action) -> String {
        let time = |time_ns: Option<i64>| {
            chrono::DateTime::from_timestamp_nanos(time_ns.unwrap_or_default())
                .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
        };
        match self {
            Self::Allows => String::new(),
            Self::OtherAction => format!("it does not have the action {action}"),
            Self::NotBegun => format!("it begins at {}", time(grant.start_time_ns)),
            Self::Ended => format!("it ended at {}", time(grant.expires_time_ns)),
            Self::OtherEvents => "none of its filters matches the event".to_owned(),
            Self::BeforeStart => {
                format!("it opens only events accepted since {}", time(grant.start_time_ns))
            }
            Self::Audience => "it matches the event, but the event's audience leaves this identity out".to_owned(),
        }
    }
}
