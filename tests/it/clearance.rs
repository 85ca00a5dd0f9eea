//! Clearances of a whole node over mutual TLS: one, a list, and a watch that goes on after a restart without missing or doubling a change.

use prost::Message;
use tonic::{Code, Streaming, transport::Channel};
use tonic_types::StatusExt;
use tradelane::{
    clock::{Clock, SystemClock},
    identity::dev_pki::Issued,
    testing::{
        events::{HOUR_NS, Voyage},
        pki::{CUSTOMS, TERMINAL},
    },
    wire::{
        PublishRequest,
        proto::{
            self, ClearanceChanges, ClearanceStep, Event, GetClearanceRequest, ListClearancesRequest, StartAt,
            WatchClearancesRequest, WatchClearancesResponse, clearance_service_client::ClearanceServiceClient,
            watch_clearances_request::Start, watch_clearances_response::Message as Told,
        },
    },
};

use crate::harness::Harness;

/// The port sees everything; customs only steps of clearances and what ties goods together, so that holds are withheld from them.
const POLICY: &str = r#"
[[grant]]
id = "port"
who = ["spiffe://port.valparaiso.cl/*"]
actions = ["publish", "read", "share"]
all = true

[[grant]]
id = "customs"
who = ["spiffe://customs.gov.pk/*"]
actions = ["read"]
filters = [{ types = ["clearance", "association"], subjects = [{ kind = "declaration" }] }]

[[grant]]
id = "operators"
who = ["spiffe://exchange.gov.pk/operator/*"]
actions = ["operate"]
all = true
"#;

type Clearances = ClearanceServiceClient<Channel>;

/// A voyage that ended an hour ago, as the terminal publishes all of it.
fn voyage(n: u32) -> (Voyage, Vec<Event>) {
    let voyage = Voyage::new(n, SystemClock.now_ns() - Voyage::LASTS_NS - HOUR_NS);
    let events = voyage.events().into_iter().map(|event| Event { publisher: TERMINAL.into(), ..event }.with_id());
    let events = events.collect();
    (voyage, events)
}

async fn publish(harness: &Harness, events: &[Event]) {
    let events = events.iter().map(Event::unsigned).collect();
    let request = PublishRequest { events, ..PublishRequest::default() };
    harness.events(&harness.port).await.publish(request).await.expect("published");
}

async fn clearances(harness: &Harness, who: &Issued) -> Clearances {
    ClearanceServiceClient::new(harness.connect(who).await.expect("a connection"))
}

async fn watch(
    client: &mut Clearances,
    start: Start,
    subjects: Vec<proto::Subject>,
) -> Streaming<WatchClearancesResponse> {
    let request = WatchClearancesRequest { start: Some(start), subjects };
    client.watch_clearances(request).await.expect("it begins").into_inner()
}

/// The changes until the node says that all is told.
async fn until_caught_up(stream: &mut Streaming<WatchClearancesResponse>) -> Vec<ClearanceChanges> {
    let mut told = Vec::new();
    loop {
        match stream.message().await.expect("it goes on").expect("it goes on").message {
            Some(Told::Changes(changes)) => told.push(changes),
            Some(Told::CaughtUp(_)) => return told,
            _ => {}
        }
    }
}

fn cause(changes: &ClearanceChanges) -> Option<String> {
    let signed = changes.event.clone()?.signed.expect("an event");
    Some(Event::decode(signed.event).expect("a good event").event_id)
}

#[tokio::test]
async fn a_watch_goes_on_after_a_restart_without_missing_or_doubling_a_change() {
    let harness = Harness::start_with(POLICY, |_| {}).await;
    let (first, first_events) = voyage(1);
    let (_, second_events) = voyage(2);
    publish(&harness, &first_events).await;
    let mut client = clearances(&harness, &harness.port).await;
    let earliest = Start::StartAt(StartAt::Earliest.into());
    let mut stream = watch(&mut client, earliest.clone(), Vec::new()).await;
    let before = until_caught_up(&mut stream).await;
    let expected = |events: &[Event]| [3, 4, 7, 8].map(|index| Some(events[index].event_id.clone()));
    assert_eq!(before.iter().map(cause).collect::<Vec<_>>(), expected(&first_events));
    // She has taken in two of them when the node goes.
    let taken = before[1].position.clone();
    publish(&harness, &second_events).await;
    let live = stream.message().await.expect("it goes on");
    assert!(live.is_some());
    drop((stream, client));
    let harness = Box::pin(harness.stop().await.start_again()).await;
    let mut client = clearances(&harness, &harness.port).await;
    let mut stream = watch(&mut client, Start::AfterPosition(taken), Vec::new()).await;
    let after = until_caught_up(&mut stream).await;
    let causes: Vec<_> = after.iter().map(cause).collect();
    assert_eq!(causes, [expected(&first_events)[2..].to_vec(), expected(&second_events).to_vec()].concat());
    assert_eq!(after[..2], before[2..]);
    // The whole again, and after a rebuild of the views that it stands on, is the same.
    let whole = until_caught_up(&mut watch(&mut client, earliest.clone(), Vec::new()).await).await;
    assert_eq!(whole, [before[..2].to_vec(), after].concat());
    for view in ["search", "associations"] {
        let request = proto::RebuildViewRequest { view: view.to_owned() };
        let mut progress = harness.operate().await.rebuild_view(request).await.expect("begun").into_inner();
        while progress.message().await.expect("a step").is_some() {}
    }
    let mut stream = watch(&mut client, earliest, Vec::new()).await;
    assert_eq!(until_caught_up(&mut stream).await, whole);
    // A container, live: a revocation takes its release back.
    let mut stream = watch(&mut client, Start::StartAt(StartAt::Latest.into()), vec![first.container_subject()]).await;
    assert_eq!(until_caught_up(&mut stream).await, []);
    let mut revoked = first_events[8].clone();
    revoked.event_time = first_events[9].event_time;
    revoked.created_time = first_events[9].created_time;
    let clearance = proto::Clearance { step: ClearanceStep::ReleaseRevoked.into(), ..proto::Clearance::default() };
    revoked.body = Some(proto::event::Body::Clearance(clearance));
    publish(&harness, &[revoked.with_id()]).await;
    let change = loop {
        let next = stream.message().await.expect("it goes on").expect("it goes on");
        if let Some(Told::Changes(mut changes)) = next.message {
            break changes.changes.pop().expect("a change");
        }
    };
    let standing =
        |status: Option<proto::ClearanceStatus>| status.map(|status| (status.released, status.lifecycles[0].state()));
    assert_eq!(standing(change.before), Some((true, ClearanceStep::Released)));
    assert_eq!(standing(change.after), Some((false, ClearanceStep::ReleaseRevoked)));
    harness.stop().await;
}

#[tokio::test]
async fn rights_hold_on_all_three_ways_and_a_withheld_hold_is_counted() {
    let harness = Harness::start_with(POLICY, |_| {}).await;
    let (held, events) = voyage(1);
    publish(&harness, &events[..7]).await;
    let (mut port, mut customs) =
        (clearances(&harness, &harness.port).await, clearances(&harness, &harness.customs).await);
    let get = |subject: proto::Subject| GetClearanceRequest { subject: Some(subject) };
    let of_port = port.get_clearance(get(held.declaration_subject())).await.expect("an answer").into_inner();
    let of_port = of_port.clearance.expect("a clearance");
    assert_eq!((of_port.open_holds.len(), of_port.withheld_holds), (1, 0));
    let of_customs = customs.get_clearance(get(held.declaration_subject())).await.expect("an answer").into_inner();
    let of_customs = of_customs.clearance.expect("a clearance");
    assert_eq!((of_customs.open_holds.len(), of_customs.withheld_holds), (0, 1));
    assert_eq!((of_customs.released, &of_customs.lifecycles), (false, &of_port.lifecycles));
    let page = customs.list_clearances(ListClearancesRequest::default()).await.expect("a page").into_inner();
    assert_eq!(page.clearances, std::slice::from_ref(&of_customs));
    let earliest = || Start::StartAt(StartAt::Earliest.into());
    let told = until_caught_up(&mut watch(&mut customs, earliest(), Vec::new()).await).await;
    let [lodged, placed] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((cause(lodged), cause(placed)), (Some(events[3].event_id.clone()), None));
    assert_eq!(placed.changes[0].after.as_ref().map(|after| after.withheld_holds), Some(1));

    // Of what she may read nothing it is as if it were not there; without a grant she does not even get so far.
    let container = proto::Subject { value: "TLNU0000205".into(), ..held.container_subject() };
    let absent = customs.get_clearance(get(container)).await.expect_err("not there");
    let (_, mut other) = voyage(2);
    other[3].audience = Some(proto::Audience { reach: proto::Reach::Private.into(), participants: Vec::new() });
    publish(&harness, &[other[3].clone().with_id()]).await;
    let hidden = customs.get_clearance(get(voyage(2).0.declaration_subject())).await.expect_err("not hers");
    assert_eq!(
        (hidden.code(), hidden.message(), hidden.details()),
        (absent.code(), absent.message(), absent.details())
    );
    assert_eq!(hidden.code(), Code::NotFound);
    let mut operator = clearances(&harness, &harness.operator).await;
    let request = WatchClearancesRequest::default();
    let refusals = [
        operator.get_clearance(get(held.declaration_subject())).await.err(),
        operator.list_clearances(ListClearancesRequest::default()).await.err(),
        operator.watch_clearances(request).await.err(),
    ];
    assert!(refusals.iter().all(|refusal| refusal.as_ref().is_some_and(|one| one.code() == Code::PermissionDenied)));

    let wrong = WatchClearancesRequest {
        start: Some(Start::AfterPosition("here".into())),
        subjects: vec![held.container_subject(), proto::Subject::default()],
    };
    let refused = port.watch_clearances(wrong).await.expect_err("nonsense");
    let fields: Vec<String> = refused
        .get_details_bad_request()
        .expect("details")
        .field_violations
        .into_iter()
        .map(|violation| violation.field)
        .collect();
    assert_eq!(fields, ["after_position", "subjects[1].kind", "subjects[1].value"]);

    // A grant that is withdrawn ends the watch before the next change, with the place to go on from.
    let mut stream = watch(&mut customs, earliest(), Vec::new()).await;
    until_caught_up(&mut stream).await;
    harness
        .world
        .write_policy(
            &POLICY.replace(CUSTOMS, "spiffe://nobody.example/a").replace("customs.gov.pk/*", "nobody.example/*"),
        )
        .expect("written");
    let mut operator = harness.operate().await;
    operator.reload(proto::ReloadRequest::default()).await.expect("reloaded");
    publish(&harness, &events[7..9]).await;
    let ended = loop {
        match stream.message().await {
            Ok(Some(message)) => assert!(!matches!(message.message, Some(Told::Changes(_))), "{message:?}"),
            Ok(None) => panic!("it ends with a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::PermissionDenied);
    assert!(ended.get_details_error_info().expect("details").metadata.contains_key("resume_position"));
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_ends_every_watch_with_its_reason_and_where_to_go_on() {
    let harness = Harness::start_with(POLICY, |_| {}).await;
    publish(&harness, &voyage(1).1).await;
    let mut client = clearances(&harness, &harness.port).await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        let mut stream = watch(&mut client, Start::StartAt(StartAt::Earliest.into()), Vec::new()).await;
        until_caught_up(&mut stream).await;
        streams.push(stream);
    }
    let (_, late) = voyage(2);
    publish(&harness, &late).await;
    let stopping = tokio::spawn(harness.stop());
    let mut ends = Vec::new();
    for mut stream in streams {
        let mut told = 0;
        let ended = loop {
            match stream.message().await {
                Ok(Some(message)) => told += usize::from(matches!(message.message, Some(Told::Changes(_)))),
                Ok(None) => panic!("it ends with its reason"),
                Err(status) => break status,
            }
        };
        let info = ended.get_details_error_info().unwrap_or_else(|| panic!("no details: {ended:?}"));
        assert_eq!((ended.code(), info.reason.as_str()), (Code::Unavailable, "NODE_STOPPING"), "{ended:?}");
        let resume = info.metadata.get("resume_position").unwrap_or_else(|| panic!("no place to go on: {ended:?}"));
        ends.push((told, resume.clone()));
    }
    let stopped = stopping.await.expect("it stops");
    assert_eq!((&stopped.report.failure, stopped.report.unfinished.len()), (&None, 0));
    // Whatever each was told before the end, the rest comes after its place, and nothing twice.
    let harness = Box::pin(stopped.start_again()).await;
    let mut client = clearances(&harness, &harness.port).await;
    for (told, resume) in ends {
        let rest = until_caught_up(&mut watch(&mut client, Start::AfterPosition(resume), Vec::new()).await).await;
        assert_eq!(told + rest.len(), 4, "{rest:?}");
    }
    harness.stop().await;
}
