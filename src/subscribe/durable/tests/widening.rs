//! What a durable subscription says of associations that widen its owner's view: at least once, until it is acknowledged, over new streams and
//! new starts; and to nobody else.

use super::*;
use crate::{
    domain::{bindings::NewBinding, header::SubjectTerm},
    subscribe::tests::event_of,
};

const NAMED: &str = r#"
    [[grant]]
    id = "where-i-am-named"
    who = ["spiffe://customs.gov.pk/*"]
    actions = ["read"]
    filters = [{ parties = [{ participant = "$caller" }] }]
"#;

fn consignment(number: u32) -> SubjectTerm {
    SubjectTerm { kind: 20, role: 1, value: format!("UCR-{number}"), issuer: String::new(), date: String::new() }
}

fn named_room() -> Room {
    let clock = Arc::new(TestClock::at_ns(START_NS));
    let log = Arc::new(MemoryLog::new(Arc::clone(&clock), |a, b| a == b));
    Room::under(NAMED, (log, clock, Arc::default()), Arc::default())
}

impl Room {
    /// Binds somebody to a consignment by an association at a place, and says that all up to there is applied.
    fn bind(&self, who: &'static str, number: u32, sequence: u64) {
        let binding = NewBinding { sequence: Sequence(sequence), subject: consignment(number) };
        self.bindings.bound.lock().expect("no panic").push((who, binding));
        self.bindings.progress.send_replace(Sequence(sequence));
    }

    async fn about(&self, number: u32, numbered: u32) {
        let header = crate::subscribe::tests::header("PK", numbered);
        let header = crate::domain::RoutingHeader { subjects: vec![consignment(number)], ..header };
        append(&self.log, vec![event_of(&header)]).await;
    }

    async fn create_for_all(&self, name: &str, settings: Settings) {
        self.durable.create(&id(CUSTOMS), name, (Vec::new(), settings), Start::Earliest).await.expect("created");
    }

    /// A new start of the node over what is stored.
    fn started_again(&self) -> Self {
        let stood_on = (Arc::clone(&self.log), Arc::clone(&self.clock), Arc::clone(&self.store));
        Self::under(NAMED, stood_on, Arc::clone(&self.bindings))
    }
}

/// What is said of a wider view: the places of the associations, how far all is told, and whether some are not named.
type Told = (Vec<u64>, u64, bool);

impl Consumer {
    async fn told(&mut self) -> Vec<Told> {
        // Longer than the node takes to tell what nothing else made it look at.
        tokio::time::sleep(Duration::from_secs(11)).await;
        let heard = self.hear().await.into_iter();
        let told = heard.filter_map(|message| match message {
            ConsumeMessage::Widened { widened, through, incomplete } => {
                let places = widened.iter().map(|binding| binding.sequence.get()).collect();
                Some((places, through.sequence.get(), incomplete))
            }
            _ => None,
        });
        told.collect()
    }

    async fn has_dealt_with(&mut self, through: u64) -> Outcome {
        let position = Position { epoch: self.epoch, sequence: Sequence(through) };
        let settling = self.consumption.settle(9, &[(position, 0)], &Verb::AcknowledgeWidening).expect("connected");
        settling.answered().await.expect("stored");
        let answers = self.hear().await.into_iter().find_map(|message| match message {
            ConsumeMessage::Settled { correlation_id: 9, outcomes } => Some(outcomes),
            _ => None,
        });
        answers.expect("an answer")[0]
    }
}

fn ordered() -> Settings {
    Settings { backoff_min: Duration::ZERO, ..Settings::default() }
}

#[tokio::test(start_paused = true)]
async fn it_is_told_before_what_it_opens_and_until_it_is_acknowledged_over_streams_and_starts() {
    let room = named_room();
    room.create_for_all("work", ordered()).await;
    // Withheld, and passed over: the position goes on without it.
    room.about(1, 1).await;
    room.bindings.progress.send_replace(Sequence(1));
    let mut consumer = room.consume("work", 10);
    assert_eq!((consumer.told().await, room.low_water("work")), (vec![], 1));

    // The association stands at 2; another about the same follows.
    room.publish("PK", 2..=2).await;
    room.about(1, 3).await;
    room.bind(CUSTOMS, 1, 2);
    room.bind("spiffe://customs.gov.pk/agency/other", 2, 3);
    let heard = consumer.hear().await;
    let words: Vec<_> = heard
        .iter()
        .filter_map(|message| match message {
            ConsumeMessage::Widened { widened, through, incomplete } => {
                assert_eq!((widened[0].subject.clone(), *incomplete), (consignment(1), false));
                Some(format!("{} told through {}", widened.len(), through.sequence))
            }
            ConsumeMessage::Deliveries(events) => Some(format!("{:?}", places(events))),
            _ => None,
        })
        .collect();
    assert_eq!(words, ["1 told through 3", "[3]"], "told first; what was passed over does not come");
    assert_eq!(consumer.told().await, [], "once in a stream");

    // Not acknowledged: told in the next stream again, and after a start.
    drop(consumer);
    let mut consumer = room.consume("work", 10);
    assert_eq!(consumer.told().await, [(vec![2], 3, false)]);
    drop(consumer);
    let room = room.started_again();
    let mut consumer = room.consume("work", 10);
    assert_eq!(consumer.told().await, [(vec![2], 3, false)]);
    assert_eq!(consumer.has_dealt_with(4).await, Outcome::NotDelivered, "beyond what was told");
    assert_eq!(consumer.has_dealt_with(3).await, Outcome::Done);
    assert_eq!(consumer.has_dealt_with(3).await, Outcome::AlreadySettled);
    drop(consumer);
    let room = room.started_again();
    let mut consumer = room.consume("work", 10);
    assert_eq!(consumer.told().await, [], "an acknowledgement that was answered is never forgotten");
    room.bind(CUSTOMS, 3, 4);
    assert_eq!(consumer.told().await, [(vec![4], 4, false)], "only what is new");
}

#[tokio::test(start_paused = true)]
async fn one_consumer_is_told_and_the_next_where_that_one_leaves_without_an_acknowledgement() {
    for settings in [ordered(), shared()] {
        let room = named_room();
        room.create_for_all("work", settings).await;
        let mut first = room.consume("work", 10);
        let mut second = room.consume("work", 10);
        room.bind(CUSTOMS, 1, 1);
        assert_eq!((first.told().await, second.told().await), (vec![(vec![1], 1, false)], vec![]));
        room.bind(CUSTOMS, 2, 2);
        assert_eq!((first.told().await, second.told().await), (vec![(vec![2], 2, false)], vec![]));
        assert_eq!(second.has_dealt_with(2).await, Outcome::NotDelivered, "it was not told");
        assert_eq!(first.has_dealt_with(1).await, Outcome::Done);
        drop(first);
        assert_eq!(second.told().await, [(vec![2], 2, false)]);
        assert_eq!(second.has_dealt_with(2).await, Outcome::Done);
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_bound_before_it_was_created_or_sees_by_no_party_is_told_nothing() {
    let room = named_room();
    room.bind(CUSTOMS, 1, 1);
    room.create_for_all("work", ordered()).await;
    assert_eq!(room.consume("work", 10).told().await, []);
    let room = Room::new();
    room.create_for_all("work", ordered()).await;
    let mut consumer = room.consume("work", 10);
    room.bind(CUSTOMS, 1, 1);
    assert_eq!(consumer.told().await, [], "she saw all of it before");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_named_any_more_is_said_to_be_missing() {
    let room = named_room();
    room.create_for_all("work", ordered()).await;
    for place in 1..=300 {
        room.bind(CUSTOMS, 1, place);
    }
    let told = room.consume("work", 10).told().await;
    assert_eq!(told, [((45..=300).collect(), 300, true)], "as many as one message names");
    room.create_for_all("more", ordered()).await;
    room.bind(CUSTOMS, 2, 301);
    *room.bindings.forgotten_through.lock().expect("no panic") = Sequence(300);
    assert_eq!(room.consume("more", 10).told().await, [(vec![301], 301, false)], "what was forgotten was told before");
    room.bind(CUSTOMS, 2, 302);
    *room.bindings.forgotten_through.lock().expect("no panic") = Sequence(301);
    assert_eq!(room.consume("more", 10).told().await, [(vec![301, 302], 302, true)]);
    // All that is still named stands beyond what is applied: it is said with these.
    room.create_for_all("much", ordered()).await;
    room.bind(CUSTOMS, 2, 305);
    *room.bindings.forgotten_through.lock().expect("no panic") = Sequence(303);
    room.bindings.progress.send_replace(Sequence(303));
    let mut consumer = room.consume("much", 10);
    assert_eq!(consumer.told().await, []);
    room.bindings.progress.send_replace(Sequence(305));
    assert_eq!(consumer.told().await, [(vec![305], 305, true)]);
}
