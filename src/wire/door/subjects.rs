//! Subjects and parties: kinds, canonical values, check digits, issuers, dates, roles, and no subject twice.

use std::collections::HashSet;

use super::{Checker, Path, text::CODE_CHARACTERS_MAX};
use crate::{
    domain::{
        SpiffeId,
        freight::{self, IssuerRule},
    },
    wire::proto::{Event, IdentifierKind, Party, PartyRole, Subject, SubjectRole},
};

/// The most subjects of an event, and children of an association: a train of 100 wagons with two containers each, and room.
pub(super) const SUBJECTS_MAX: usize = 512;
/// The most parties.
const PARTIES_MAX: usize = 64;

impl Checker<'_> {
    pub(super) fn subjects(&mut self, event: &Event, root: &Path<'_>) {
        let at = &root.field("subjects");
        self.report.require(!event.subjects.is_empty(), at, "SUBJECT_MISSING", "must say what the event is about");
        if self.at_most(event.subjects.len(), SUBJECTS_MAX, at) {
            self.subject_list(&event.subjects, "subjects", root);
        }
    }

    /// Checks each of a list of subjects, and that none stands there twice.
    pub(super) fn subject_list(&mut self, subjects: &[Subject], field: &'static str, parent: &Path<'_>) {
        let mut seen = HashSet::with_capacity(if subjects.len() < 2 { 0 } else { subjects.len() });
        for (index, subject) in subjects.iter().enumerate() {
            let at = &parent.element(field, index);
            self.subject(subject, at);
            let key = (subject.kind, subject.role, &subject.value, &subject.issuer, &subject.date);
            if 1 < subjects.len() && !seen.insert(key) {
                self.report.add(at, "SUBJECT_DUPLICATE", "must not stand there twice");
            }
        }
    }

    pub(super) fn subject(&mut self, subject: &Subject, at: &Path<'_>) {
        self.optional_enum::<SubjectRole>(subject.role, &at.field("role"), "SubjectRole");
        let kind_at = &at.field("kind");
        self.required_enum::<IdentifierKind>(subject.kind, kind_at, "IdentifierKind", "KIND_MISSING");
        let kind = match subject.kind() {
            // Not set, or not known: told of above, and nothing can be said of the value.
            IdentifierKind::Unspecified => return,
            kind => kind as i32 as u8,
        };
        let value_at = &at.field("value");
        let canonical = freight::canonical(kind, &subject.value);
        if canonical != subject.value {
            let description =
                format!("must be in the canonical form of its kind: {canonical:?}, not {:?}", subject.value);
            self.report.add(value_at, "VALUE_NOT_CANONICAL", description);
        }
        if let Err(fault) = freight::check(kind, &canonical) {
            self.report.add(value_at, fault.reason, fault.description);
        }
        self.issuer(freight::issuer_rule(kind, &canonical), &subject.issuer, &at.field("issuer"));
        self.date(freight::repeats_daily(kind), &subject.date, &at.field("date"));
    }

    fn issuer(&mut self, rule: IssuerRule, issuer: &str, at: &Path<'_>) {
        let canonical = freight::canonical_issuer(issuer);
        if canonical != issuer {
            self.report.add(at, "VALUE_NOT_CANONICAL", format!("must be written {canonical:?}, not {issuer:?}"));
        }
        self.text(issuer, CODE_CHARACTERS_MAX, at);
        let (missing, malformed) = match rule {
            IssuerRule::None => {
                (None, (!issuer.is_empty()).then_some("must be empty: numbers of this kind are unique without one"))
            }
            IssuerRule::Optional => (None, None),
            IssuerRule::Required => (Some("must say whose number this is: without it the number means nothing"), None),
            IssuerRule::RequiredCountry | IssuerRule::OptionalCountry => (
                (rule == IssuerRule::RequiredCountry).then_some("must be the country whose number this is, such as PK"),
                (!issuer.is_empty() && !freight::is_country(&canonical))
                    .then_some("must be a country of ISO 3166-1, such as PK"),
            ),
            IssuerRule::RequiredLocode => (
                Some("must be the UN/LOCODE of the port, such as PKKHI"),
                (!issuer.is_empty() && !freight::is_locode(&canonical))
                    .then_some("must be the UN/LOCODE of the port, such as PKKHI"),
            ),
        };
        if let Some(description) = missing
            && issuer.is_empty()
        {
            self.report.add(at, "ISSUER_MISSING", description);
        }
        if let Some(description) = malformed {
            self.report.add(at, "ISSUER_MALFORMED", description);
        }
    }

    fn date(&mut self, repeats_daily: bool, date: &str, at: &Path<'_>) {
        if !repeats_daily {
            self.report.require(
                date.is_empty(),
                at,
                "DATE_NOT_ALLOWED",
                "must be empty: numbers of this kind do not repeat daily",
            );
        } else if date.len() != 10 || date.parse::<chrono::NaiveDate>().is_err() {
            self.report.add(
                at,
                "DATE_MISSING",
                "must be the day of departure as YYYY-MM-DD: numbers of this kind repeat daily",
            );
        }
    }

    pub(super) fn parties(&mut self, parties: &[Party], parent: &Path<'_>) {
        if !self.at_most(parties.len(), PARTIES_MAX, &parent.field("parties")) {
            return;
        }
        for (index, party) in parties.iter().enumerate() {
            let at = &parent.element("parties", index);
            self.required_enum::<PartyRole>(party.role, &at.field("role"), "PartyRole", "ROLE_MISSING");
            self.text(&party.scheme, CODE_CHARACTERS_MAX, &at.field("scheme"));
            self.text(&party.id, CODE_CHARACTERS_MAX, &at.field("id"));
            if !party.participant.is_empty()
                && let Err(malformed) = SpiffeId::check(&party.participant)
            {
                self.report.add(&at.field("participant"), "PARTICIPANT_MALFORMED", malformed.to_string());
            }
            let named = !party.participant.is_empty() || !party.id.is_empty();
            self.report.require(named, at, "PARTY_EMPTY", "must name a participant, or an identifier with its scheme");
            let paired = party.scheme.is_empty() == party.id.is_empty();
            self.report.require(paired, at, "PARTY_INCOMPLETE", "must have scheme and id together, or neither");
        }
    }
}
