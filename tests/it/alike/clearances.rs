//! Clearances as each caller is shown them, held against what the model lets her see and against what one is shown who sees everything: no
//! trace of a hidden event, hidden holds are counted and not shown, and nobody is told "released" while the node knows better.

use std::collections::BTreeSet;

use tonic::{Code, transport::Channel};
use tradelane::wire::proto::{
    self, ClearanceStatus, GetClearanceRequest, ListClearancesRequest, Obstacle, StartAt, Subject,
    WatchClearancesRequest, clearance_service_client::ClearanceServiceClient, watch_clearances_request::Start,
    watch_clearances_response::Message as Told,
};

use super::{
    Ids, face, id_of,
    made::subjects,
    model::{self, Stored},
};

pub type Clearances = ClearanceServiceClient<Channel>;

/// What one caller is held against.
pub struct Held<'a> {
    pub name: &'a str,
    /// What she sees, and what she does not.
    pub visible: &'a [&'a Stored],
    pub hidden: &'a Ids,
    /// What is so, for each of the subjects, by their keys.
    pub truth: &'a [(Subject, Option<ClearanceStatus>)],
    /// Whether she lists, and whether she watches: each folds every clearance anew, a watch once an event.
    pub lists: bool,
    pub watches: bool,
}

/// Each subject's clearance as somebody is shown it who sees everything.
pub async fn truth(everything: &mut Clearances) -> Vec<(Subject, Option<ClearanceStatus>)> {
    let mut found = Vec::new();
    for subject in subjects() {
        let request = GetClearanceRequest { subject: Some(subject.clone()) };
        let answer = everything.get_clearance(request).await;
        found.push((subject, answer.ok().map(|answer| answer.into_inner().clearance.expect("always there"))));
    }
    found
}

/// Asks every door of the service. Answers how many holds were counted and not shown.
pub async fn compare(client: &mut Clearances, held: &Held<'_>) -> usize {
    let mut withheld = 0;
    let mut shown: Vec<ClearanceStatus> = Vec::new();
    for (subject, truth) in held.truth {
        if let Some(status) = one(client, subject, held).await {
            let truth = truth.as_ref().expect("who sees everything sees it too");
            holds_count(&status, truth, held.name);
            withheld += status.withheld_holds as usize;
            shown.push(status);
        }
    }
    if held.lists {
        listed(client, &shown, held).await;
    }
    if held.watches {
        watched(client, held).await;
    }
    withheld
}

/// A clearance is there where anything of the subject may be read, and else nothing tells it from a subject that is not there.
async fn one(client: &mut Clearances, subject: &Subject, held: &Held<'_>) -> Option<ClearanceStatus> {
    let key = model::key(subject);
    let is_told =
        held.visible.iter().any(|one| model::subjects(&one.event).into_iter().any(|of| model::key(of) == key));
    let request = |subject: Subject| GetClearanceRequest { subject: Some(subject) };
    match client.get_clearance(request(subject.clone())).await {
        Ok(answer) => {
            assert!(is_told, "GetClearance shows {subject:?} to {}", held.name);
            let status = answer.into_inner().clearance.expect("always there");
            no_trace(&status, "GetClearance", held);
            Some(status)
        }
        Err(refused) => {
            assert!(!is_told && refused.code() == Code::NotFound, "{subject:?} for {}: {refused}", held.name);
            let absent = Subject { value: format!("{}9", subject.value), kind: 20, ..subject.clone() };
            let absent = client.get_clearance(request(absent)).await.expect_err("not there");
            assert_eq!(face(&refused), face(&absent));
            None
        }
    }
}

/// What is withheld is counted, and never makes goods free.
fn holds_count(status: &ClearanceStatus, truth: &ClearanceStatus, name: &str) {
    let keys = |status: &ClearanceStatus| -> BTreeSet<(String, String)> {
        status.open_holds.iter().map(|hold| (hold.authority_domain.clone(), hold.hold_id.clone())).collect()
    };
    let not_shown = keys(truth).difference(&keys(status)).count();
    assert_eq!(status.withheld_holds as usize, not_shown, "holds withheld from {name}: {status:?}, where {truth:?}");
    assert!(truth.released || !status.released, "{name} is told released: {status:?}, where {truth:?}");
    let is_withheld = status.obstacles == [i32::from(Obstacle::Withheld)];
    assert_eq!(status.obstacles.contains(&Obstacle::Withheld.into()), is_withheld, "{status:?}");
    assert!(!is_withheld || !truth.released, "{name} is told that something is withheld: {status:?}, where {truth:?}");
}

/// Each row of a list says what its subject's clearance says by itself, and each declaration that she may know of is there.
async fn listed(client: &mut Clearances, shown: &[ClearanceStatus], held: &Held<'_>) {
    let mut request = ListClearancesRequest { page_size: 3, ..ListClearancesRequest::default() };
    let mut rows: Vec<ClearanceStatus> = Vec::new();
    loop {
        let page = client.list_clearances(request.clone()).await.expect("a page").into_inner();
        rows.extend(page.clearances);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    for row in &rows {
        no_trace(row, "ListClearances", held);
        assert!(shown.contains(row), "a row of {} is not what GetClearance says: {row:?}", held.name);
    }
    let subjects: BTreeSet<model::Key> = rows.iter().filter_map(|row| row.subject.as_ref()).map(model::key).collect();
    assert_eq!(subjects.len(), rows.len(), "a clearance is listed twice for {}", held.name);
    for status in shown {
        let is_own = |unit: &&proto::ClearanceLifecycle| unit.subject == status.subject && !unit.steps.is_empty();
        let key = model::key(status.subject.as_ref().expect("always there"));
        assert!(
            !status.lifecycles.iter().any(|unit| is_own(&unit)) || subjects.contains(&key),
            "{key:?} is not listed for {}",
            held.name
        );
    }
}

/// A watch from the beginning tells of nothing that is hidden, neither by what changed nor by its cause.
async fn watched(client: &mut Clearances, held: &Held<'_>) {
    let start = Some(Start::StartAt(StartAt::Earliest.into()));
    let request = WatchClearancesRequest { start, subjects: Vec::new() };
    let mut stream = client.watch_clearances(request).await.expect("a stream").into_inner();
    loop {
        match stream.message().await.expect("goes on").expect("goes on").message.expect("known") {
            Told::Changes(told) => {
                if let Some(cause) = &told.event {
                    assert!(!held.hidden.contains(&id_of(cause)), "WatchClearances shows {} a cause", held.name);
                }
                for status in told.changes.iter().flat_map(|change| [&change.before, &change.after]).flatten() {
                    no_trace(status, "WatchClearances", held);
                }
            }
            Told::CaughtUp(_) => return,
            _ => {}
        }
    }
}

/// No hidden event is named, wherever in the answer.
fn no_trace(status: &ClearanceStatus, door: &str, held: &Held<'_>) {
    let text = format!("{status:?}");
    let named = held.hidden.iter().find(|hidden| text.contains(hidden.as_str()));
    assert_eq!(named, None, "{door} names {} what she may not see: {text}", held.name);
}
