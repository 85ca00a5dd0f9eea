//! Whether an event passes a filter, decided over its stored header alone. It never allocates and never opens protobuf.

use super::{
    Filter, MatchContext, NumberSet, Participant, PartyPattern, PlacePattern, SubjectPattern, TimeRange, TypePattern,
};
use crate::domain::{
    HeaderRef, SpiffePattern,
    header::{PartyRef, PlaceRef, SubjectRef, TypeStep},
};

impl Filter {
    /// Whether the event passes: every field that is set has at least one value that the header meets. Of a revision, whose header is
    /// the union with its predecessors', any of the united values may meet it.
    #[must_use]
    pub fn matches(&self, header: &HeaderRef<'_>, context: &MatchContext<'_>) -> bool {
        // In the order of cost: the cheap ones refuse most events before the texts are looked at.
        self.accepted_time.includes(context.accepted_time_ns)
            && self.classifiers.meets(header.classifiers())
            && self.procedures.meets(header.procedures())
            && self.modes.meets(header.modes())
            && (self.types.is_empty() || header.types().any(|one| self.types.iter().any(|wanted| wanted.meets(one))))
            && (self.event_time.is_all() || header.event_times_ns().any(|time_ns| self.event_time.includes(time_ns)))
            && names_include(&self.publishers, header.publisher())
            && names_include(&self.origins, context.origin_node)
            && (self.places.is_empty()
                || header.places().any(|one| self.places.iter().any(|wanted| wanted.meets(&one))))
            && (self.subjects.is_empty()
                || header.subjects().any(|one| self.subjects.iter().any(|wanted| wanted.meets(&one))))
            && (self.commodity_prefixes.is_empty()
                || header
                    .commodity_codes()
                    .any(|code| self.commodity_prefixes.iter().any(|wanted| code.starts_with(wanted))))
            && (self.parties.is_empty() || self.parties.iter().any(|wanted| wanted.meets(header, context)))
    }
}

fn names_include(patterns: &[SpiffePattern], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(name))
}

/// Whether a text that was asked for is the one found; an empty one was not asked for.
fn text_meets(wanted: &str, found: &str) -> bool {
    wanted.is_empty() || wanted == found
}

fn number_meets(wanted: Option<u8>, found: u8) -> bool {
    wanted.is_none_or(|wanted| wanted == found)
}

impl NumberSet {
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn numbers(self) -> impl Iterator<Item = u8> {
        (0..64).filter(move |number| self.0 >> number & 1 == 1)
    }

    fn meets(self, found: &[u8]) -> bool {
        self.is_empty() || found.iter().any(|number| *number < 64 && self.0 >> number & 1 == 1)
    }
}

impl TypePattern {
    fn meets(self, found: TypeStep) -> bool {
        self.body == found.body && number_meets(self.step, found.step)
    }
}

impl TimeRange {
    /// Every time.
    pub(super) const ALL: Self = Self { from_ns: i64::MIN, to_ns: i64::MAX };

    pub(super) fn is_all(self) -> bool {
        self == Self::ALL
    }

    fn includes(self, time_ns: i64) -> bool {
        self.is_all() || (self.from_ns <= time_ns && time_ns < self.to_ns)
    }
}

impl SubjectPattern {
    fn meets(&self, found: &SubjectRef<'_>) -> bool {
        number_meets(self.kind, found.kind)
            && number_meets(self.role, found.role)
            && (self.values.is_empty() || self.values.iter().any(|value| value == found.value))
            && text_meets(&self.issuer, found.issuer)
            && text_meets(&self.date, found.date)
    }
}

impl PlacePattern {
    fn meets(&self, found: &PlaceRef<'_>) -> bool {
        number_meets(self.role, found.role)
            && number_meets(self.kind, found.kind)
            && text_meets(&self.country_code, found.country_code)
            && text_meets(&self.un_locode, found.un_locode)
            && number_meets(self.facility_scheme, found.facility_scheme)
            && text_meets(&self.facility_code, found.facility_code)
    }
}

impl PartyPattern {
    fn meets(&self, header: &HeaderRef<'_>, context: &MatchContext<'_>) -> bool {
        let participant = match &self.participant {
            Participant::Any => "",
            Participant::Caller => context.caller,
            Participant::Named(name) => name,
        };
        // A caller without a name would turn "$caller" into "anybody".
        if participant.is_empty() && self.participant != Participant::Any {
            return false;
        }
        let said = |found: PartyRef<'_>| {
            number_meets(self.role, found.role)
                && text_meets(participant, found.participant)
                && text_meets(&self.scheme, found.scheme)
                && text_meets(&self.id, found.id)
        };
        header.parties().any(said)
            || (self.reaches_through_associations()
                && header.subjects().any(|one| context.bindings.is_bound(participant, &one.key())))
    }

    /// An association says who is bound to what, not as what: so it counts where nothing but the participant was asked for.
    pub(super) fn reaches_through_associations(&self) -> bool {
        self.participant != Participant::Any && self.role.is_none() && self.scheme.is_empty() && self.id.is_empty()
    }
}
