//! Durable subscriptions of a whole node: what owners, consumers and operators can do, what they are told, and that another's subscription is
//! as if it did not exist.

use prost_types::Duration as ProtoDuration;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;
use tradelane::{
    clock::{Clock, SystemClock},
    identity::dev_pki::Issued,
    testing::events::{HOUR_NS, Voyage},
    wire::{
        PublishRequest,
        proto::{
            self, Event, EventFilter, SettlementOutcome, SubscriptionDefinition, SubscriptionMode, SubscriptionState,
            create_subscription_request::Start, subscription_service_client::SubscriptionServiceClient,
        },
    },
};

use crate::{
    consumer::{Consumer, acknowledge, park, position, reject, sequence},
    harness::{Harness, POLICY},
};

mod signals;
mod widening;

type Client = SubscriptionServiceClient<Channel>;

async fn client(harness: &Harness, who: &Issued) -> Client {
    Client::new(harness.connect(who).await.expect("a connection"))
}

async fn consume(harness: &Harness, who: &Issued, name: &str, credit: u32) -> Result<Consumer, Status> {
    Consumer::start(harness.connect(who).await.expect("a connection"), name, credit).await
}

fn definition(mode: SubscriptionMode) -> SubscriptionDefinition {
    let backoff = Some(ProtoDuration { seconds: 0, nanos: 1_000_000 });
    SubscriptionDefinition {
        mode: mode.into(),
        backoff_min: backoff,
        backoff_max: backoff,
        ..SubscriptionDefinition::default()
    }
}

fn creation(name: &str, definition: SubscriptionDefinition) -> proto::CreateSubscriptionRequest {
    let start = Some(Start::StartAt(proto::StartAt::Earliest.into()));
    proto::CreateSubscriptionRequest { name: name.to_owned(), definition: Some(definition), start }
}

async fn create(client: &mut Client, name: &str, definition: SubscriptionDefinition) -> proto::Subscription {
    let created = client.create_subscription(creation(name, definition)).await.expect("created");
    created.into_inner().subscription.expect("always there")
}

async fn get(client: &mut Client, name: &str) -> proto::Subscription {
    let request = proto::GetSubscriptionRequest { name: name.to_owned(), owner: String::new() };
    client.get_subscription(request).await.expect("there is one").into_inner().subscription.expect("always there")
}

/// Publishes as the port, one event of each number.
async fn publish(harness: &Harness, numbers: std::ops::Range<u32>) {
    let events = numbers.map(|number| {
        let discharged = Voyage::new(number, SystemClock.now_ns() - Voyage::LASTS_NS - HOUR_NS).discharged();
        Event { publisher: harness.port.id.to_string(), ..discharged }.with_id().unsigned()
    });
    let request = PublishRequest { events: events.collect(), on_invalid: 0 };
    harness.events(&harness.port).await.publish(request).await.expect("stored");
}

fn reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_details_error_info().map(|info| info.reason).unwrap_or_default())
}

fn check(status: &Status, code: Code, why: &str) {
    assert_eq!(reason(status), (code, why.to_owned()), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_created_once_changed_with_its_etag_and_deleted() {
    let harness = Harness::start_with(POLICY, |config| config.subscriptions.durable_per_participant_max = 2).await;
    let mut customs = client(&harness, &harness.customs).await;
    let created = create(&mut customs, "holds", definition(SubscriptionMode::Shared)).await;
    let told = created.definition.clone().expect("filled in");
    assert_eq!((told.outstanding_max, told.attempts_max, told.lease.map(|lease| lease.seconds)), (1_000, 5, Some(30)));
    assert_eq!((created.state(), created.owner.as_str()), (SubscriptionState::Active, harness.customs.id.as_str()));
    assert_eq!(create(&mut customs, "holds", definition(SubscriptionMode::Shared)).await, created, "asked for again");
    let other = customs.create_subscription(creation("holds", definition(SubscriptionMode::Ordered))).await;
    check(&other.expect_err("another definition"), Code::AlreadyExists, "SUBSCRIPTION_DIFFERS");
    create(&mut customs, "more", SubscriptionDefinition::default()).await;
    let third = customs.create_subscription(creation("third", SubscriptionDefinition::default())).await;
    check(&third.expect_err("one too many"), Code::ResourceExhausted, "SUBSCRIPTION_QUOTA_EXCEEDED");

    let filters = vec![EventFilter { types: vec!["clearance".into()], ..EventFilter::default() }];
    let changed = SubscriptionDefinition { filters, attempts_max: 7, ..definition(SubscriptionMode::Shared) };
    let update = |etag: &str, definition| proto::UpdateSubscriptionRequest {
        name: "holds".into(),
        definition: Some(definition),
        etag: etag.into(),
    };
    let updated = customs.update_subscription(update(&created.etag, changed.clone())).await.expect("changed");
    let updated = updated.into_inner().subscription.expect("always there");
    assert_ne!(updated.etag, created.etag);
    assert_eq!(updated.definition.as_ref().expect("always there").filters, changed.filters);
    let stale = customs.update_subscription(update(&created.etag, changed.clone())).await;
    check(&stale.expect_err("changed since"), Code::Aborted, "ETAG_MISMATCH");
    let mode = customs.update_subscription(update("", definition(SubscriptionMode::Ordered))).await;
    let mode = mode.expect_err("the mode stays");
    check(&mode, Code::InvalidArgument, "INVALID_REQUEST");
    assert!(mode.message().starts_with("definition.mode: "), "{mode:?}");

    let listed = customs.list_subscriptions(proto::ListSubscriptionsRequest {}).await.expect("listed").into_inner();
    let names: Vec<_> = listed.subscriptions.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["holds", "more"]);
    let harness = harness.stop().await.start_again().await;
    let mut customs = client(&harness, &harness.customs).await;
    assert_eq!(get(&mut customs, "holds").await, updated, "as it was before the restart");
    let mut consumer = consume(&harness, &harness.customs, "holds", 1).await.expect("a consumer");
    let delete = proto::DeleteSubscriptionRequest { name: "holds".into(), owner: String::new() };
    customs.delete_subscription(delete.clone()).await.expect("deleted");
    check(&consumer.end().await.expect("a reason"), Code::NotFound, "SUBSCRIPTION_UNKNOWN");
    let again = customs.delete_subscription(delete).await.expect_err("it is gone");
    check(&again, Code::NotFound, "SUBSCRIPTION_UNKNOWN");
    create(&mut customs, "holds", definition(SubscriptionMode::Ordered)).await;
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_request_is_named_with_its_field() {
    let harness = Harness::start().await;
    let mut customs = client(&harness, &harness.customs).await;
    let bad = SubscriptionDefinition {
        filters: vec![EventFilter { types: vec!["rumour".into()], ..EventFilter::default() }],
        mode: 9,
        lease: Some(ProtoDuration { seconds: 5, nanos: 0 }),
        outstanding_max: 5_001,
        backoff_min: Some(ProtoDuration { seconds: -1, nanos: 0 }),
        ..SubscriptionDefinition::default()
    };
    let request = proto::CreateSubscriptionRequest {
        start: Some(Start::AfterPosition("nowhere".into())),
        ..creation("holds", bad)
    };
    let refused = customs.create_subscription(request).await.expect_err("many faults");
    let details = refused.get_error_details();
    let mut fields: Vec<_> =
        details.bad_request().expect("fields").field_violations.iter().map(|one| one.field.clone()).collect();
    fields.sort();
    let expected = [
        "after_position",
        "definition.backoff_min",
        "definition.filters[0].types[0]",
        "definition.lease",
        "definition.mode",
        "definition.outstanding_max",
    ];
    assert_eq!(fields, expected);
    let name = customs.create_subscription(creation("No", SubscriptionDefinition::default())).await;
    assert!(name.expect_err("no name").message().starts_with("name: must be 1 to 64"));
    let seek = proto::SeekSubscriptionRequest { name: "holds".into(), to: None };
    assert!(customs.seek_subscription(seek).await.expect_err("no place").message().starts_with("start_at: "));
    create(&mut customs, "holds", SubscriptionDefinition::default()).await;
    let mut consumer = consume(&harness, &harness.customs, "holds", 1).await.expect("a consumer");
    let nothing = proto::Settlement { correlation_id: 1, deliveries: Vec::new(), verb: None };
    consumer.say(proto::consume_request::Message::Settlement(nothing)).await;
    let end = consumer.end().await.expect("refused");
    check(&end, Code::InvalidArgument, "INVALID_REQUEST");
    let details = end.get_error_details();
    let fields: Vec<_> =
        details.bad_request().expect("fields").field_violations.iter().map(|one| one.field.clone()).collect();
    assert_eq!(fields, ["settlement.deliveries", "settlement.acknowledge"]);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_subscription_is_as_if_it_did_not_exist_but_for_the_operator() {
    let harness = Harness::start().await;
    let mut customs = client(&harness, &harness.customs).await;
    let mut port = client(&harness, &harness.port).await;
    let mut operator = client(&harness, &harness.operator).await;
    create(&mut customs, "holds", definition(SubscriptionMode::Shared)).await;
    publish(&harness, 1..4).await;
    let mut consumer = consume(&harness, &harness.customs, "holds", 10).await.expect("a consumer");
    let deliveries = consumer.deliveries(3).await;
    consumer.settled(&deliveries, park("unreadable"), SettlementOutcome::Done).await;

    let owner = harness.customs.id.to_string();
    let named = |owner: &str| proto::GetSubscriptionRequest { name: "holds".into(), owner: owner.into() };
    let letters = |page_token: &str| proto::ListDeadLettersRequest {
        name: "holds".into(),
        page_size: 2,
        page_token: page_token.into(),
        owner: owner.clone(),
    };
    for owner in ["", owner.as_str()] {
        let refused = port.get_subscription(named(owner)).await.expect_err("not hers");
        check(&refused, Code::NotFound, "SUBSCRIPTION_UNKNOWN");
    }
    let refused = port.list_dead_letters(letters("")).await.expect_err("not hers");
    check(&refused, Code::NotFound, "SUBSCRIPTION_UNKNOWN");
    let drop_all = proto::DropDeadLettersRequest { name: "holds".into(), positions: Vec::new(), owner: owner.clone() };
    let refused = port.drop_dead_letters(drop_all.clone()).await.expect_err("not hers");
    check(&refused, Code::NotFound, "SUBSCRIPTION_UNKNOWN");
    let refused = consume(&harness, &harness.port, "holds", 1).await.err().expect("not hers");
    check(&refused, Code::NotFound, "SUBSCRIPTION_UNKNOWN");

    let seen = operator.get_subscription(named(&owner)).await.expect("an operator sees it").into_inner();
    assert_eq!(seen.subscription.expect("always there").dead_letters, 3);
    let first = operator.list_dead_letters(letters("")).await.expect("an operator's").into_inner();
    let second = operator.list_dead_letters(letters(&first.next_page_token)).await.expect("the rest").into_inner();
    assert_eq!((first.dead_letters.len(), second.dead_letters.len()), (2, 1));
    assert_eq!(second.next_page_token, "");
    let letter = &first.dead_letters[0];
    assert_eq!((letter.reason.as_str(), letter.parked, letter.attempts), ("unreadable", true, 1));
    assert_eq!(letter.publisher, harness.port.id.as_str());
    assert_ne!(letter.event_id, "");
    assert_eq!(operator.drop_dead_letters(drop_all).await.expect("an operator's").into_inner().count, 3);
    let audit = std::fs::read_to_string(&harness.world.config().identity.audit_file).expect("the audit log");
    assert!(audit.contains("DropDeadLetters") && audit.contains("subscription holds of"), "{audit}");

    let everybodys = proto::NodeServiceListSubscriptionsRequest::default();
    let listed = harness.operate().await.list_subscriptions(everybodys).await.expect("listed").into_inner();
    let all: Vec<_> = listed.subscriptions.iter().map(|one| (one.owner.as_str(), one.name.as_str())).collect();
    assert_eq!(all, [(owner.as_str(), "holds")]);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_one_goes_to_one_consumer_and_a_standby_takes_over() {
    let harness = Harness::start().await;
    let mut customs = client(&harness, &harness.customs).await;
    create(&mut customs, "line", definition(SubscriptionMode::Ordered)).await;
    publish(&harness, 1..11).await;
    let mut first = consume(&harness, &harness.customs, "line", 4).await.expect("a consumer");
    let mut standby = consume(&harness, &harness.customs, "line", 100).await.expect("a consumer");
    assert!(first.started.active && !standby.started.active);
    let four = first.deliveries(4).await;
    assert_eq!(four.iter().map(sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
    // An acknowledgement counts for everything before it.
    first.settled(&four[1..2], acknowledge(), SettlementOutcome::Done).await;
    assert!(standby.has_nothing());
    standby.settled(&four[2..3], acknowledge(), SettlementOutcome::TakenOver).await;
    first.leave().await;
    standby.until_active(true).await;
    let rest = standby.deliveries(8).await;
    assert_eq!(rest.iter().map(sequence).collect::<Vec<_>>(), (3..11).collect::<Vec<_>>());
    assert!(rest.iter().all(|delivery| delivery.delivery_attempt == 1), "leaving in order counts no attempt");
    standby.settled(&four[..1], acknowledge(), SettlementOutcome::AlreadySettled).await;
    standby.settled(&rest[7..], acknowledge(), SettlementOutcome::Done).await;
    let seen = get(&mut customs, "line").await;
    assert_eq!(seen.acknowledged_position, position(&rest[7]));
    assert_eq!((seen.outstanding, seen.lag_events, seen.consumers), (0, 0, 1));

    // A rejected one comes first again, and nothing overtakes it.
    publish(&harness, 11..14).await;
    let three = standby.deliveries(3).await;
    standby.settled(&three[..1], reject("busy"), SettlementOutcome::Done).await;
    let mut again = standby.deliveries(1).await;
    // What was handled behind it before all of it went back settles nothing, however late that is said.
    standby.settled(&three[1..], acknowledge(), SettlementOutcome::LeaseEnded).await;
    // What went back comes one by one.
    for _ in 12..=13 {
        standby.settled(&again[again.len() - 1..], acknowledge(), SettlementOutcome::Done).await;
        again.extend(standby.deliveries(1).await);
    }
    assert_eq!(again.iter().map(sequence).collect::<Vec<_>>(), [11, 12, 13]);
    assert_eq!(again.iter().map(|delivery| delivery.delivery_attempt).collect::<Vec<_>>(), [2, 1, 1]);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_one_is_settled_event_by_event_and_dead_letters_are_kept_replayed_and_dropped() {
    let harness = Harness::start().await;
    let mut customs = client(&harness, &harness.customs).await;
    let shared = SubscriptionDefinition { attempts_max: 2, ..definition(SubscriptionMode::Shared) };
    create(&mut customs, "work", shared).await;
    publish(&harness, 1..7).await;
    let mut a = consume(&harness, &harness.customs, "work", 3).await.expect("a consumer");
    let of_a = a.deliveries(3).await;
    let mut b = consume(&harness, &harness.customs, "work", 3).await.expect("a consumer");
    let of_b = b.deliveries(3).await;
    assert_eq!(of_b.iter().map(sequence).collect::<Vec<_>>(), [4, 5, 6]);
    a.settled(&of_b[..1], acknowledge(), SettlementOutcome::LeaseEnded).await;
    b.settled(&of_b, acknowledge(), SettlementOutcome::Done).await;
    assert_eq!(get(&mut customs, "work").await.lag_events, 6, "the position never passes what is not settled");
    a.settled(&of_a[..1], park("unreadable"), SettlementOutcome::Done).await;
    a.settled(&of_a[1..2], reject("no such bill"), SettlementOutcome::Done).await;
    let again = b.delivery().await.expect("it comes again, to whoever has nothing");
    assert_eq!((sequence(&again), again.delivery_attempt), (2, 2));
    b.settled(&[again], reject("still no such bill"), SettlementOutcome::Done).await;
    a.settled(&of_a[2..], acknowledge(), SettlementOutcome::Done).await;
    assert_eq!(get(&mut customs, "work").await.lag_events, 0);

    let list = proto::ListDeadLettersRequest { name: "work".into(), ..proto::ListDeadLettersRequest::default() };
    let letters = customs.list_dead_letters(list.clone()).await.expect("listed").into_inner().dead_letters;
    let told: Vec<_> = letters.iter().map(|one| (one.reason.as_str(), one.parked, one.attempts)).collect();
    assert_eq!(told, [("unreadable", true, 1), ("still no such bill", false, 2)]);
    let replay = proto::ReplayDeadLettersRequest { name: "work".into(), ..proto::ReplayDeadLettersRequest::default() };
    assert_eq!(customs.replay_dead_letters(replay).await.expect("asked again").into_inner().count, 2);
    let replayed = [a.delivery().await.expect("one"), b.delivery().await.expect("the other")];
    assert!(replayed.iter().all(|delivery| delivery.replayed && delivery.delivery_attempt == 1));
    let [of_a, of_b] = replayed;
    let still = customs.list_dead_letters(list.clone()).await.expect("listed").into_inner().dead_letters;
    assert_eq!(still.len(), 2, "a dead letter stays one until it is acknowledged");
    a.settled(&[of_a], acknowledge(), SettlementOutcome::Done).await;
    b.settled(&[of_b], park("unreadable again"), SettlementOutcome::Done).await;
    let left = customs.list_dead_letters(list.clone()).await.expect("listed").into_inner().dead_letters;
    assert_eq!(left.len(), 1);
    let drop = proto::DropDeadLettersRequest {
        name: "work".into(),
        positions: vec![left[0].position.clone()],
        owner: String::new(),
    };
    assert_eq!(customs.drop_dead_letters(drop).await.expect("dropped").into_inner().count, 1);
    assert_eq!(customs.list_dead_letters(list).await.expect("listed").into_inner().dead_letters, []);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_grant_stops_it_before_the_next_event_and_resuming_is_explicit() {
    let harness = Harness::start().await;
    let mut customs = client(&harness, &harness.customs).await;
    create(&mut customs, "line", definition(SubscriptionMode::Ordered)).await;
    publish(&harness, 1..3).await;
    let mut consumer = consume(&harness, &harness.customs, "line", 10).await.expect("a consumer");
    let two = consumer.deliveries(2).await;
    consumer.settled(&two[..1], acknowledge(), SettlementOutcome::Done).await;
    let narrowed = POLICY.replacen(
        "id = \"customs\"\nwho = [\"spiffe://customs.gov.pk/*\"]\nactions = [\"publish\", \"read\", \"share\"]\nall = true",
        "id = \"customs\"\nwho = [\"spiffe://customs.gov.pk/*\"]\nactions = [\"publish\", \"read\", \"share\"]\n\
         filters = [{types = [\"clearance\"]}]",
        1,
    );
    assert_ne!(narrowed, POLICY);
    harness.world.write_policy(&narrowed).expect("written");
    harness.operate().await.reload(proto::ReloadRequest {}).await.expect("good files");
    publish(&harness, 3..4).await;
    let end = consumer.end().await.expect("a reason");
    check(&end, Code::FailedPrecondition, "SUBSCRIPTION_STOPPED");
    let info = end.get_details_error_info().expect("details");
    assert_eq!(info.metadata.get("resume_position").map(String::as_str), Some(position(&two[0])));
    assert!(consumer.has_nothing(), "an event came under grants that are gone");
    let refused = consume(&harness, &harness.customs, "line", 10).await.err().expect("not before she says so");
    check(&refused, Code::FailedPrecondition, "SUBSCRIPTION_STOPPED");
    assert_eq!(get(&mut customs, "line").await.state(), SubscriptionState::Stopped);

    // Over a restart too, and although the policy is as it was again: what she sees has changed twice, and she shall know.
    let harness = harness.stop().await.start_again().await;
    let mut customs = client(&harness, &harness.customs).await;
    let refused = consume(&harness, &harness.customs, "line", 10).await.err().expect("not before she says so");
    check(&refused, Code::FailedPrecondition, "SUBSCRIPTION_STOPPED");
    let resume = proto::ResumeSubscriptionRequest { name: "line".into() };
    let resumed = customs.resume_subscription(resume).await.expect("resumed").into_inner();
    assert_eq!(resumed.subscription.expect("always there").state(), SubscriptionState::Active);
    let mut consumer = consume(&harness, &harness.customs, "line", 10).await.expect("a consumer");
    assert!(consumer.started.narrowed, "{:?}", consumer.started);
    consumer.until_caught_up().await;
    assert!(consumer.has_nothing(), "what the grants do not admit any more is passed over");
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_paused_resumed_and_moved() {
    let harness = Harness::start().await;
    let mut customs = client(&harness, &harness.customs).await;
    create(&mut customs, "line", definition(SubscriptionMode::Ordered)).await;
    publish(&harness, 1..6).await;
    let pause = proto::PauseSubscriptionRequest { name: "line".into() };
    customs.pause_subscription(pause).await.expect("paused");
    let mut consumer = consume(&harness, &harness.customs, "line", 10).await.expect("a consumer");
    assert!(consumer.started.paused);
    let told = consumer.message().await.expect("goes on").expect("goes on");
    assert!(matches!(&told, proto::consume_response::Message::Progress(progress) if progress.paused), "{told:?}");
    customs.resume_subscription(proto::ResumeSubscriptionRequest { name: "line".into() }).await.expect("resumed");
    let five = consumer.deliveries(5).await;
    consumer.settled(&five[4..], acknowledge(), SettlementOutcome::Done).await;

    let seek = |to| proto::SeekSubscriptionRequest { name: "line".into(), to: Some(to) };
    let back = proto::seek_subscription_request::To::AfterPosition(position(&five[1]).to_owned());
    let moved = customs.seek_subscription(seek(back)).await.expect("moved").into_inner().subscription;
    assert_eq!(moved.expect("always there").acknowledged_position, position(&five[1]));
    check(&consumer.end().await.expect("a reason"), Code::Aborted, "SUBSCRIPTION_CHANGED");
    let mut consumer = consume(&harness, &harness.customs, "line", 10).await.expect("a consumer");
    let again = consumer.deliveries(3).await;
    assert_eq!(again.iter().map(sequence).collect::<Vec<_>>(), [3, 4, 5]);
    let time = five[3].event.as_ref().expect("always there").accepted_time;
    let since = proto::seek_subscription_request::To::SinceTime(time.expect("always said"));
    customs.seek_subscription(seek(since)).await.expect("moved to a time");
    let mut consumer = consume(&harness, &harness.customs, "line", 10).await.expect("a consumer");
    let first = sequence(&consumer.delivery().await.expect("one"));
    assert!(first <= 4, "events of the same batch share their time: {first}");
    let end = proto::seek_subscription_request::To::StartAt(proto::StartAt::Latest.into());
    customs.seek_subscription(seek(end)).await.expect("moved to the end");
    publish(&harness, 6..7).await;
    let mut consumer = consume(&harness, &harness.customs, "line", 10).await.expect("a consumer");
    assert_eq!(sequence(&consumer.delivery().await.expect("the new one")), 6);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_filter_is_asked_of_what_is_not_settled() {
    let harness = Harness::start().await;
    let mut customs = client(&harness, &harness.customs).await;
    let of_containers = |numbers: &[u32]| {
        let subjects = numbers.iter().map(|number| Voyage::new(*number, 0).container_subject());
        let filters = vec![EventFilter { subjects: subjects.collect(), ..EventFilter::default() }];
        SubscriptionDefinition { filters, ..definition(SubscriptionMode::Shared) }
    };
    create(&mut customs, "work", of_containers(&[1, 2])).await;
    publish(&harness, 1..5).await;
    let mut consumer = consume(&harness, &harness.customs, "work", 10).await.expect("a consumer");
    let two = consumer.deliveries(2).await;
    assert_eq!(two.iter().map(sequence).collect::<Vec<_>>(), [1, 2]);
    let update = proto::UpdateSubscriptionRequest {
        name: "work".into(),
        definition: Some(of_containers(&[1, 3, 5])),
        etag: String::new(),
    };
    customs.update_subscription(update).await.expect("changed");
    assert_eq!(sequence(&consumer.delivery().await.expect("one that matches now")), 3);
    // What is on its way stays there until it is settled or comes back, and is then judged by the new filter.
    consumer.settled(&two[..1], reject("again"), SettlementOutcome::Done).await;
    let again = consumer.delivery().await.expect("it matches still");
    assert_eq!((sequence(&again), again.delivery_attempt), (1, 2));
    consumer.settled(&two[1..], reject("again"), SettlementOutcome::Done).await;
    consumer.settled(&[again], acknowledge(), SettlementOutcome::Done).await;
    publish(&harness, 5..6).await;
    assert_eq!(sequence(&consumer.delivery().await.expect("the next that matches")), 5, "2 does not match any more");
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_consumers_with_its_reason_and_a_start_goes_on_with_the_attempts() {
    let harness = Harness::start().await;
    let mut customs = client(&harness, &harness.customs).await;
    create(&mut customs, "work", definition(SubscriptionMode::Shared)).await;
    publish(&harness, 1..4).await;
    let mut consumer = consume(&harness, &harness.customs, "work", 10).await.expect("a consumer");
    let three = consumer.deliveries(3).await;
    consumer.settled(&three[..1], acknowledge(), SettlementOutcome::Done).await;
    consumer.settled(&three[1..2], reject("busy"), SettlementOutcome::Done).await;
    let (stopped, end) = tokio::join!(harness.stop(), consumer.end());
    assert_eq!(stopped.report.unfinished, Vec::<&str>::new());
    check(&end.expect("a reason"), Code::Unavailable, "NODE_STOPPING");
    let harness = stopped.start_again().await;
    let mut consumer = consume(&harness, &harness.customs, "work", 10).await.expect("a consumer");
    let mut two = consumer.deliveries(2).await;
    two.sort_by_key(sequence);
    let told: Vec<_> = two.iter().map(|delivery| (sequence(delivery), delivery.delivery_attempt)).collect();
    // Whether the second attempt of 2 had begun when the node stopped or not: it was not counted.
    assert_eq!(told, [(2, 2), (3, 1)], "a stop counts no attempt, and forgets none");
    harness.stop().await;
}
