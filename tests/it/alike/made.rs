//! Policies and events made from a seed. Few values in each field, so that they meet often. It never decides who may see what.

use fastrand::Rng;
use tradelane::{
    testing::events::{HOUR_NS, Voyage},
    wire::proto::{
        AssociationStep, Audience, Classifier, Event, Party, PartyRole, Place, PlaceRole, Reach, Subject, event::Body,
    },
};

use super::model::{Grant, Stored};

pub struct Maker {
    pub rng: Rng,
    pub now_ns: i64,
    pub callers: Vec<String>,
    pub node: String,
    /// When events happened and were accepted that were made or stored: ranges of times begin and end there too.
    pub event_times_ns: Vec<i64>,
    pub accepted_times_ns: Vec<i64>,
    /// Tells events apart that say the same.
    count: i64,
}

impl Maker {
    pub fn new(seed: u64, now_ns: i64, callers: Vec<String>, node: String) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            now_ns,
            callers,
            node,
            event_times_ns: Vec::new(),
            accepted_times_ns: Vec::new(),
            count: 0,
        }
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(..from.len())].clone()
    }

    pub fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(..n) == 0
    }

    pub fn caller(&mut self) -> String {
        let callers = self.callers.clone();
        self.pick(&callers)
    }

    pub fn who(&mut self) -> String {
        let name = self.caller();
        if self.one_in(2) { name } else { format!("{}/*", name.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")) }
    }

    /// One to six grants; `starts` are moments since which they may open the log.
    pub fn grants(&mut self, starts: &[i64]) -> Vec<Grant> {
        let count = self.rng.usize(1..=6);
        (0..count)
            .map(|_| {
                let mut actions: Vec<&'static str> =
                    ["read", "publish", "share"].into_iter().filter(|_| self.one_in(2)).collect();
                if actions.is_empty() {
                    actions.push("read");
                }
                let filters = if self.one_in(4) {
                    None
                } else {
                    Some((0..self.rng.usize(1..=2)).map(|_| self.filter(true)).collect())
                };
                let from_start_ns = if self.one_in(4) && !starts.is_empty() { Some(self.pick(starts)) } else { None };
                let (expired, private) = (from_start_ns.is_none() && self.one_in(8), self.one_in(5));
                Grant { who: self.who(), actions, filters, from_start_ns, expired, private }
            })
            .collect()
    }

    fn audience(&mut self) -> Audience {
        match self.rng.u32(..6) {
            0 => Audience { reach: Reach::Private.into(), participants: Vec::new() },
            1 | 2 => Audience { reach: Reach::Named.into(), participants: vec![self.who()] },
            _ => Audience { reach: Reach::Network.into(), participants: Vec::new() },
        }
    }

    /// An event, or the revision of one that was stored.
    pub fn event(&mut self, stored: &[Stored]) -> Event {
        self.count += 1;
        let revisable: Vec<&Stored> = stored
            .iter()
            .filter(|one| {
                let is_head = !stored
                    .iter()
                    .any(|other| other.chain.first().is_some_and(|first| first.event_id == one.event.event_id));
                is_head && one.event.body.is_some() && !matches!(one.event.body, Some(Body::Association(_)))
            })
            .collect();
        if self.one_in(5) && !revisable.is_empty() {
            let original = self.pick(&revisable).event.clone();
            if self.one_in(3) {
                return original.retracted();
            }
            let (place, audience, party) = (self.place(), self.audience(), self.party());
            return original.corrected(|event| {
                move_to(event, place);
                event.audience = Some(audience);
                event.parties = vec![party];
                self.vary(event);
            });
        }
        let voyage = Voyage::new(self.rng.u32(..3), self.now_ns - 72 * HOUR_NS + self.count * 1_000_000_000);
        let mut event = if self.one_in(6) { voyage.attached() } else { self.pick(&voyage.events()) };
        event.publisher = self.caller();
        event.audience = Some(self.audience());
        if self.one_in(3) {
            event.parties.push(self.party());
        }
        if self.one_in(2) {
            move_to(&mut event, self.place());
        }
        match &mut event.body {
            Some(Body::Association(association)) => {
                // Of two statements the later one may come first: some speak of a minute before or after.
                let aside_s = self.rng.i64(-60..=60);
                for time in [&mut event.event_time, &mut event.created_time].into_iter().flatten() {
                    time.seconds += aside_s;
                }
                association.complete = self.one_in(3);
                if self.one_in(3) {
                    association.step = AssociationStep::Detached.into();
                }
                association.parties.clear();
                if self.rng.bool() {
                    association.parties.push(Party {
                        role: PartyRole::Declarant.into(),
                        participant: self.caller(),
                        ..Party::default()
                    });
                }
                if self.rng.bool() {
                    association.children.truncate(1);
                }
                if self.rng.bool() {
                    let another = Voyage::new(self.rng.u32(..3), 0).container_subject();
                    association.children.retain(|child| *child != another);
                    association.children.push(another);
                }
                if self.one_in(6) && !association.parties.is_empty() {
                    association.children.clear();
                }
            }
            Some(Body::Movement(_)) => {
                use Classifier::{Actual, Estimated, Planned, Requested};
                event.classifier = self.pick(&[Actual, Actual, Estimated, Planned, Requested]).into();
            }
            Some(Body::Handling(_)) if self.one_in(3) => event.body = Some(self.other_body()),
            _ => {}
        }
        self.vary(&mut event);
        let event = event.with_id();
        self.event_times_ns.extend(event.event_time.map(|time| time.seconds * 1_000_000_000 + i64::from(time.nanos)));
        event
    }

    /// Goods that everybody hears of, and a hold on them that its publisher keeps to herself: another than those that were made up before.
    pub fn goods_under_a_private_hold(&self, by: [&str; 2]) -> [Event; 2] {
        let voyage = Voyage::new(0, self.now_ns - 8 * HOUR_NS);
        let [mut goods, mut hold] = [voyage.discharged(), voyage.held()];
        for (event, reach, publisher) in [(&mut goods, Reach::Network, by[0]), (&mut hold, Reach::Private, by[1])] {
            publisher.clone_into(&mut event.publisher);
            event.audience = Some(Audience { reach: reach.into(), participants: Vec::new() });
        }
        if let Some(Body::Hold(hold)) = &mut hold.body {
            "H-KEPT-BACK".clone_into(&mut hold.hold_id);
        }
        [goods.with_id(), hold.with_id()]
    }
}

/// Lets an event happen elsewhere; the office stays, since an authority speaks only with one.
fn move_to(event: &mut Event, place: Place) {
    event.places.retain(|known| known.role() == PlaceRole::Office);
    event.places.push(place);
}

/// Every subject that the events speak of.
pub fn subjects() -> Vec<Subject> {
    (0..3)
        .map(|n| Voyage::new(n, 0))
        .flat_map(|voyage| [voyage.container_subject(), voyage.bill_subject(), voyage.declaration_subject()])
        .collect()
}

/// The policy file, with grants for the operator.
pub fn policy_text(grants: &[Grant]) -> String {
    let mut file = toml::Table::new();
    let time = |ns: i64| toml::Value::String(chrono::DateTime::from_timestamp_nanos(ns).to_rfc3339());
    let mut tables: Vec<toml::Value> = grants
        .iter()
        .zip(0..)
        .map(|(grant, index)| {
            let mut table = toml::Table::new();
            table.insert("id".into(), format!("grant-{index}").into());
            table.insert("who".into(), vec![grant.who.clone()].into());
            table.insert("actions".into(), grant.actions.clone().into());
            match &grant.filters {
                None => drop(table.insert("all".into(), true.into())),
                Some(filters) => {
                    let filters: Vec<toml::Value> =
                        filters.iter().map(|filter| lean(toml::Value::try_from(filter).expect("TOML"))).collect();
                    table.insert("filters".into(), filters.into());
                }
            }
            if let Some(start_ns) = grant.from_start_ns {
                table.insert("history".into(), "from_start".into());
                table.insert("start_time".into(), time(start_ns));
            }
            if grant.expired {
                table.insert("expires_time".into(), time(1_700_000_000_000_000_000));
            }
            table.insert("private".into(), grant.private.into());
            table.into()
        })
        .collect();
    // Whoever is no caller of the test sees everything: what callers are shown is held against what is so.
    for grant in [
        "id = 'operators'\nwho = ['spiffe://exchange.gov.pk/operator/*']\nactions = ['operate']",
        "id = 'everything'\nwho = ['spiffe://exchange.gov.pk/operator/*']\nactions = ['read']\nall = true\nprivate = true",
    ] {
        tables.push(grant.parse::<toml::Table>().expect("TOML").into());
    }
    file.insert("grant".into(), tables.into());
    file.to_string()
}

/// Leaves out what says nothing, as somebody who writes a policy does.
fn lean(value: toml::Value) -> toml::Value {
    match value {
        toml::Value::Table(table) => {
            let says = |value: &toml::Value| match value {
                toml::Value::String(text) => !text.is_empty(),
                toml::Value::Array(items) => !items.is_empty(),
                toml::Value::Boolean(flag) => *flag,
                _ => true,
            };
            table
                .into_iter()
                .map(|(key, value)| (key, lean(value)))
                .filter(|(_, value)| says(value))
                .collect::<toml::Table>()
                .into()
        }
        toml::Value::Array(items) => items.into_iter().map(lean).collect::<Vec<_>>().into(),
        other => other,
    }
}
