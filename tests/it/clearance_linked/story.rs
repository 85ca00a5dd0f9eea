//! A story of some goods, made from a seed: steps, holds and associations of three authorities, with times that do not follow the order in
//! which they are said, some known only by the hour or the day, and corrections and retractions of them, also of corrections.

use tradelane::{
    testing::events::{self, HOUR_NS, MINUTE_NS},
    wire::proto::{
        Association, AssociationStep, Clearance, ClearanceStep, Event, Hold, HoldKind, HoldStep, IdentifierKind,
        Revision, Subject, SubjectRole, TimePrecision, event::Body,
    },
};

/// The nodes at which an authority speaks.
pub const AUTHORITIES: [char; 3] = ['a', 'b', 'c'];
/// Everything happens within so many minutes of the beginning, many things at the same.
const MINUTES: i64 = 90;

/// The authority of a node.
pub fn authority(letter: char) -> String {
    format!("spiffe://{letter}.example/terminal/1")
}

/// The node where an event's authority speaks.
pub fn site_of(event: &Event) -> char {
    let prefix = "spiffe://".len();
    event.publisher[prefix..].chars().next().expect("an authority of the story")
}

/// What is said of some goods, in the order in which it is said.
pub struct Story {
    number: u64,
    pub events: Vec<Event>,
}

/// Makes a story.
struct Maker {
    story: Story,
    rng: fastrand::Rng,
    begin_ns: i64,
    /// What nothing has revised yet.
    heads: Vec<usize>,
}

impl Story {
    /// The story of a seed, which began two days ago.
    pub fn of(seed: u64, now_ns: i64) -> Self {
        let begin_ns = now_ns / HOUR_NS * HOUR_NS - 48 * HOUR_NS;
        let story = Self { number: seed, events: Vec::new() };
        let mut maker = Maker { story, rng: fastrand::Rng::with_seed(seed), begin_ns, heads: Vec::new() };
        for _ in 0..maker.rng.usize(18..32) {
            if maker.heads.is_empty() || maker.rng.u8(..4) > 0 {
                maker.say();
            } else {
                maker.revise();
            }
        }
        maker.story
    }

    pub fn declaration(&self, n: usize) -> Subject {
        subject(IdentifierKind::Declaration, &format!("D-{}-{n}", self.number), "PK")
    }

    /// The declarant's own number of the first declaration.
    pub fn lrn(&self) -> Subject {
        subject(IdentifierKind::Lrn, &format!("L-{}", self.number), "PK")
    }

    pub fn bill(&self, n: usize) -> Subject {
        subject(IdentifierKind::BillOfLading, &format!("B{}N{n}", self.number), "MAEU")
    }

    pub fn container(&self, n: usize) -> Subject {
        let number = (self.number * 3 + n as u64) % 1_000_000;
        subject(IdentifierKind::Container, &events::container_number(number as u32), "")
    }

    /// Everything that the story is about.
    pub fn subjects(&self) -> Vec<Subject> {
        let several = (0..3).flat_map(|n| [self.declaration(n), self.container(n)]);
        several.chain([self.lrn(), self.bill(0), self.bill(1)]).collect()
    }

    /// The statements in an order of chance in which a revision follows what it revises: a node takes none of what it does not know.
    pub fn shuffled(&self, rng: &mut fastrand::Rng) -> Vec<Event> {
        let mut rest = self.events.clone();
        rng.shuffle(&mut rest);
        let mut ordered: Vec<Event> = Vec::new();
        while !rest.is_empty() {
            let said = |event: &Event| ordered.iter().any(|other| Some(&other.event_id) == revised(event));
            let (ready, waiting) = rest.into_iter().partition(|event| revised(event).is_none() || said(event));
            ordered.extend::<Vec<Event>>(ready);
            rest = waiting;
        }
        ordered
    }
}

/// What an event revises.
pub fn revised(event: &Event) -> Option<&String> {
    event.revision.as_ref().map(|Revision { event_id, .. }| event_id)
}

impl Maker {
    fn say(&mut self) {
        let letter = *self.rng.choice(&AUTHORITIES).expect("three");
        let event = self.statement(letter);
        self.add(event);
    }

    fn revise(&mut self) {
        let at = self.rng.usize(..self.heads.len());
        let original = self.story.events[self.heads.swap_remove(at)].clone();
        if self.rng.u8(..3) == 0 {
            let retraction = original.retracted();
            self.story.events.push(self.made_now(retraction));
            return;
        }
        let said = self.statement(site_of(&original));
        let correction = original.corrected(|event| *event = Event { revision: event.revision.clone(), ..said });
        self.add(correction);
    }

    fn add(&mut self, event: Event) {
        let event = self.made_now(event);
        self.heads.push(self.story.events.len());
        self.story.events.push(event);
    }

    /// Statements are made one after the other, hours after what they tell of; several within one minute.
    fn made_now(&self, event: Event) -> Event {
        let created_ns = self.begin_ns + 30 * HOUR_NS + self.story.events.len() as i64 / 3 * MINUTE_NS;
        Event { created_time: Some(events::timestamp(created_ns)), ..event }.with_id()
    }

    fn statement(&mut self, letter: char) -> Event {
        let (body, subjects) = match self.rng.u8(..10) {
            0..5 => (self.step(), self.about()),
            5..8 => self.hold(),
            _ => self.association(),
        };
        let time_ns = self.begin_ns + self.rng.i64(0..MINUTES) * MINUTE_NS;
        let precision = match self.rng.u8(..8) {
            0 => TimePrecision::Day,
            1 => TimePrecision::Hour,
            2 => TimePrecision::Minute,
            _ => TimePrecision::Instant,
        };
        let event = events::event(&authority(letter), time_ns, subjects, body);
        Event { places: vec![events::office()], time_precision: precision.into(), ..event }
    }

    fn step(&mut self) -> Body {
        use ClearanceStep::{
            Accepted, Amended, Assessed, Cleared, DocumentsRequired, Exited, InTransit, Invalidated, Lodged, Refused,
            Rejected, ReleaseRevoked, Released, TransitDischarged,
        };
        let steps = [
            Cleared,
            Exited,
            TransitDischarged,
            Accepted,
            Lodged,
            ReleaseRevoked,
            InTransit,
            Rejected,
            Refused,
            Invalidated,
            DocumentsRequired,
            Amended,
            Assessed,
        ];
        // A release is what most depends on the order.
        let step = if self.rng.bool() { Released } else { *self.rng.choice(&steps).expect("some") };
        let goods_items = if self.rng.u8(..4) == 0 { vec![self.rng.u32(1..4)] } else { Vec::new() };
        Body::Clearance(Clearance { step: step.into(), goods_items, ..Clearance::default() })
    }

    /// One of three holds of an authority. The second is on two containers, and a lift of it names one of them; a lift of the third names none
    /// of its goods.
    fn hold(&mut self) -> (Body, Vec<Subject>) {
        let step = if self.rng.u8(..3) == 0 { HoldStep::Placed } else { HoldStep::Lifted };
        let n = self.rng.usize(..3);
        let containers = [self.story.container(0), self.story.container(1)];
        let about = match (n, step) {
            (0, _) => vec![self.story.declaration(0), self.story.container(self.rng.usize(..3))],
            (1, HoldStep::Lifted) => vec![self.rng.choice(&containers).expect("two").clone()],
            (1, _) => containers.to_vec(),
            (_, HoldStep::Lifted) => vec![subject(IdentifierKind::Seal, &format!("S{}", self.story.number), "")],
            (..) => vec![self.story.declaration(2), self.story.bill(0)],
        };
        let hold_id = format!("H-{}-{n}", self.story.number);
        let hold = Hold { step: step.into(), hold_id, kind: HoldKind::Customs.into(), ..Hold::default() };
        (Body::Hold(hold), about)
    }

    fn association(&mut self) -> (Body, Vec<Subject>) {
        let declarations = self.some(Story::declaration);
        let containers = self.some(Story::container);
        let (parent, children) = match self.rng.u8(..6) {
            0 => (self.story.declaration(0), vec![self.story.lrn()]),
            1 => (self.story.container(self.rng.usize(..3)), declarations),
            _ => (self.story.bill(self.rng.usize(..2)), [declarations, containers].concat()),
        };
        let step = if self.rng.u8(..4) > 0 { AssociationStep::Attached } else { AssociationStep::Detached };
        let complete = step == AssociationStep::Attached && self.rng.u8(..3) > 0;
        let about = vec![parent.clone()];
        let parent = Some(parent);
        let association = Association { step: step.into(), parent, children, parties: Vec::new(), complete };
        (Body::Association(association), about)
    }

    /// At least one of three.
    fn some(&mut self, which: impl Fn(&Story, usize) -> Subject) -> Vec<Subject> {
        let chosen = self.rng.u8(1..8);
        (0..3).filter(|n| chosen & (1 << n) != 0).map(|n| which(&self.story, n)).collect()
    }

    /// What a step is about.
    fn about(&mut self) -> Vec<Subject> {
        let n = self.rng.usize(..3);
        let (declaration, container) = (self.story.declaration(n), self.story.container(n));
        match self.rng.u8(..9) {
            0..3 => vec![declaration],
            3..6 => vec![declaration, container],
            6 => vec![container],
            7 => vec![self.story.bill(0)],
            _ => vec![self.story.lrn()],
        }
    }
}

fn subject(kind: IdentifierKind, value: &str, issuer: &str) -> Subject {
    events::subject(kind, value, issuer, SubjectRole::Primary)
}
