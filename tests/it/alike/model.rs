//! Who may see and publish what, decided anew from the policy's words and the decoded events: without routing headers, compiled filters,
//! indexes or views. Slow and plain on purpose: it is what every door is held against.

use std::collections::{BTreeMap, BTreeSet};

use tradelane::{
    domain::filter::FilterSpec,
    wire::proto::{
        Association, AssociationStep, Classifier, ClearanceStep, Event, HandlingStep, HoldStep, IdentifierKind,
        InspectionStep, MovementStep, Party, PartyRole, PlaceRole, Procedure, Reach, Subject, SubjectRole,
        TransportMode, event::Body,
    },
};

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
        self.names(who).iter().any(|name| filters.iter().any(|filter| self.matches(filter, stored, name, &bound)))
    }

    /// Whether a caller's own filters ask for an event. Whom an association binds to what she learns of herself alone, unless nothing at
    /// all is hidden from her.
    pub fn asked(&self, who: &str, filters: &[FilterSpec], stored: &Stored) -> bool {
        let all = |grant: &Grant| grant.filters.is_none() && grant.private && grant.from_start_ns.is_none();
        let sees_all = self.in_force(who, "read").any(all);
        let names = self.names(who);
        let bound = |participant: &str, subject: &Key| {
            (sees_all || names.contains(&participant)) && self.is_bound(participant, subject)
        };
        filters.is_empty() || filters.iter().any(|filter| self.matches(filter, stored, who, &bound))
    }

    fn is_bound(&self, participant: &str, subject: &Key) -> bool {
        self.groups.iter().any(|((_, parent), group)| group.binds(parent, participant, subject))
    }

    fn matches(&self, spec: &FilterSpec, stored: &Stored, caller: &str, bound: &dyn Fn(&str, &Key) -> bool) -> bool {
        // A revision is also found by what it revises.
        let said: Vec<&Event> = std::iter::once(&stored.event).chain(&stored.chain).collect();
        let any = |test: &dyn Fn(&Event) -> bool| said.iter().any(|event| test(event));
        let named = |wanted: &[String], name: &str| wanted.is_empty() || wanted.iter().any(|one| pattern(one, name));
        let has = |wanted: &[String], of: &dyn Fn(&Event) -> String| {
            wanted.is_empty() || any(&|event| wanted.contains(&of(event)))
        };
        let types = spec.types.is_empty()
            || any(&|event| {
                let (body, step) = type_of(event);
                spec.types.iter().any(|wanted| *wanted == body || *wanted == format!("{body}.{step}"))
            });
        let about = spec.subjects.is_empty()
            || any(&|event| {
                let wanted = |subject: &&Subject| {
                    spec.subjects.iter().any(|wanted| {
                        let kind = IdentifierKind::try_from(subject.kind).expect("known").as_str_name();
                        let role = match subject.role() {
                            SubjectRole::Unspecified => SubjectRole::Primary,
                            role => role,
                        };
                        fits(&wanted.kind, &word(kind, "IDENTIFIER_KIND_"))
                            && fits(&wanted.role, &word(role.as_str_name(), "SUBJECT_ROLE_"))
                            && fits(&wanted.value, &subject.value)
                            && fits(&wanted.issuer, &subject.issuer)
                    })
                };
                subjects(event).iter().any(wanted)
            });
        let at = spec.places.is_empty()
            || any(&|event| {
                event.places.iter().any(|place| {
                    let country = place.un_locode.get(..2).unwrap_or(&place.country_code);
                    let role = PlaceRole::try_from(place.role).expect("known").as_str_name();
                    spec.places.iter().any(|wanted| {
                        fits(&wanted.role, &word(role, "PLACE_ROLE_"))
                            && fits(&wanted.un_locode, &place.un_locode)
                            && fits(&wanted.country_code, country)
                    })
                })
            });
        let with = spec.parties.is_empty()
            || spec.parties.iter().any(|wanted| {
                let participant = if wanted.participant == "$caller" { caller } else { &wanted.participant };
                let says = |party: &&Party| {
                    let role = PartyRole::try_from(party.role).expect("known").as_str_name();
                    fits(&wanted.role, &word(role, "PARTY_ROLE_")) && fits(participant, &party.participant)
                };
                let through = !participant.is_empty() && wanted.role.is_empty();
                any(&|event| parties(event).iter().any(says))
                    || (through && any(&|event| subjects(event).iter().any(|one| bound(participant, &key(one)))))
            });
        let commodities = spec.commodity_prefixes.is_empty()
            || any(&|event| {
                event
                    .commodity_codes
                    .iter()
                    .any(|code| spec.commodity_prefixes.iter().any(|prefix| code.starts_with(prefix.as_str())))
            });
        let within = |range: &Option<tradelane::domain::filter::TimeRangeSpec>, time_ns: i64| {
            range.as_ref().is_none_or(|range| {
                let ns = |time: &chrono::DateTime<chrono::Utc>| time.timestamp_nanos_opt().expect("in range");
                range.start_time.as_ref().is_none_or(|start| ns(start) <= time_ns)
                    && range.end_time.as_ref().is_none_or(|end| time_ns < ns(end))
            })
        };
        let event_ns = |event: &Event| event.event_time.map_or(0, |time| time.seconds * 1_000_000_000);
        let classifier = |event: &Event| word(Classifier::as_str_name(&event.classifier()), "CLASSIFIER_");
        let procedure = |event: &Event| word(Procedure::as_str_name(&event.procedure()), "PROCEDURE_");
        let mode = |event: &Event| word(TransportMode::as_str_name(&event.mode()), "TRANSPORT_MODE_");
        types
            && has(&spec.classifiers, &classifier)
            && has(&spec.procedures, &procedure)
            && has(&spec.modes, &mode)
            && about
            && at
            && with
            && commodities
            && named(&spec.publishers, &stored.event.publisher)
            && named(&spec.origins, &self.node)
            && any(&|event| within(&spec.event_time, event_ns(event)))
            && within(&spec.accepted_time, stored.accepted_ns)
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

/// An empty wish is none.
fn fits(wanted: &str, found: &str) -> bool {
    wanted.is_empty() || wanted == found
}

fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).expect("the prefix of its enum").to_lowercase()
}

fn pattern(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
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

fn parties(event: &Event) -> Vec<&Party> {
    let tied = match &event.body {
        Some(Body::Association(association)) => association.parties.iter().collect(),
        _ => Vec::new(),
    };
    event.parties.iter().chain(tied).collect()
}

fn type_of(event: &Event) -> (&'static str, String) {
    match &event.body {
        Some(Body::Movement(body)) => ("movement", word(MovementStep::as_str_name(&body.step()), "MOVEMENT_STEP_")),
        Some(Body::Handling(body)) => ("handling", word(HandlingStep::as_str_name(&body.step()), "HANDLING_STEP_")),
        Some(Body::Clearance(body)) => ("clearance", word(ClearanceStep::as_str_name(&body.step()), "CLEARANCE_STEP_")),
        Some(Body::Hold(body)) => ("hold", word(HoldStep::as_str_name(&body.step()), "HOLD_STEP_")),
        Some(Body::Inspection(body)) => {
            ("inspection", word(InspectionStep::as_str_name(&body.step()), "INSPECTION_STEP_"))
        }
        Some(Body::Association(body)) => {
            ("association", word(AssociationStep::as_str_name(&body.step()), "ASSOCIATION_STEP_"))
        }
        Some(_) => unreachable!("the test makes no other"),
        None => ("", String::new()),
    }
}
