//! What a release rests on: a node that has part in the goods and is not relied on stands against it, and every answer says how fresh each
//! source is.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    api::queries::tests::queries_beside,
    clock::TestClock,
    federation::{
        Direction, Federation, FederationParts, LinkState, PeerTable, position::LinkPosition, sources::HEARD_WITHIN,
    },
    identity::{Access, Peer, Peers, Policy, peers::PeerAddress},
    views::test_node::{ELSEWHERE, from_elsewhere, spiffe},
};

/// A node with one peer, and the link to it.
struct Linked {
    node: TestNode,
    queries: Arc<Queries>,
    table: Arc<PeerTable>,
    clock: Arc<TestClock>,
}

impl Linked {
    fn start() -> Self {
        let node = TestNode::start();
        let clock = Arc::new(TestClock::at_ns(NOW_NS));
        let table = Arc::new(PeerTable::new(clock.clone(), BTreeMap::new()));
        let peer = Peer {
            node: spiffe(ELSEWHERE),
            address: Some(PeerAddress { host: "kbl.example".to_owned(), port: 7443 }),
            homes: BTreeSet::new(),
            behind: BTreeSet::new(),
            transit: false,
            from_time_ns: None,
            private: false,
            paused: false,
        };
        let peers = Peers { homes: BTreeSet::new(), peers: vec![Arc::new(peer)] };
        let federation = Federation::new(FederationParts {
            log: Arc::clone(&node.log) as _,
            access: Arc::new(Access::new(Policy::default())),
            peers: watch::Sender::new(Arc::new(peers)).subscribe(),
            bindings: Arc::clone(&node.associations) as _,
            clock: clock.clone(),
            node: spiffe(NODE),
            table: table.clone(),
            draining: CancellationToken::new(),
        });
        let queries = Arc::new(queries_beside(&node, federation, clock.clone()));
        Self { node, queries, table, clock }
    }

    /// The peer says whether it sends all, and this node has all that it sent.
    fn hear(&self, is_whole: bool) {
        let peer = spiffe(ELSEWHERE);
        let whole = is_whole.then(|| ELSEWHERE.to_owned()).into_iter().collect();
        let epoch = crate::domain::Epoch(uuid::Uuid::from_u128(7));
        let received = Some(LinkPosition { epoch, sequence: Sequence(9), chain: [0; 32] });
        self.table.remember(&peer, |progress| (progress.whole_origins, progress.received) = (whole, received));
        let now_ns = crate::clock::Clock::now_ns(&*self.clock);
        self.table.change(&peer, Direction::Inbound, |link| (link.head_sequence, link.caught_up_ns) = (9, now_ns));
        self.table.set_state(&peer, Direction::Inbound, LinkState::CaughtUp, "");
    }

    async fn answer(&self, subject: SubjectMessage) -> GetClearanceResponse {
        self.queries.get_clearance(&caller(CUSTOMS), get(subject)).await.expect("an answer")
    }

    async fn obstacles(&self, subject: SubjectMessage) -> Vec<Obstacle> {
        let clearance = self.answer(subject).await.clearance.expect("a clearance");
        assert_eq!(clearance.released, clearance.obstacles.is_empty());
        clearance.obstacles().collect()
    }
}

#[tokio::test]
async fn goods_stay_while_a_node_with_part_in_them_is_not_relied_on() {
    let linked = Linked::start();
    let (ours, shared) = (Voyage::new(1, NOW_NS), Voyage::new(2, NOW_NS));
    linked.node.store(&ours.events()).await;
    linked.node.append(shared.events().iter().map(from_elsewhere).collect()).await;
    let silent = vec![Obstacle::SourceIncomplete];
    // Nothing was heard of it yet: its goods stay. Goods in which it has no part go.
    assert_eq!(linked.obstacles(shared.container_subject()).await, silent);
    assert_eq!(linked.obstacles(ours.container_subject()).await, []);
    linked.hear(true);
    assert_eq!(linked.obstacles(shared.container_subject()).await, []);
    // It has begun to be complete with what the view has not applied yet.
    let view = linked.node.search_view.progress().applied;
    let complete_from =
        |from| linked.table.change(&spiffe(ELSEWHERE), Direction::Inbound, |link| link.complete_from = from);
    complete_from(view.next());
    assert_eq!(linked.obstacles(shared.container_subject()).await, silent);
    complete_from(view);
    assert_eq!(linked.obstacles(shared.container_subject()).await, []);
    // A minute later it has not been heard again, and then it is; the link's state alone decides nothing.
    linked.table.set_state(&spiffe(ELSEWHERE), Direction::Inbound, LinkState::Backoff, "gone");
    linked.clock.advance_ns(HEARD_WITHIN.as_nanos() as i64);
    assert_eq!(linked.obstacles(shared.container_subject()).await, []);
    linked.clock.advance_ns(1);
    assert_eq!(linked.obstacles(shared.container_subject()).await, silent);
    linked.hear(true);
    assert_eq!(linked.obstacles(shared.container_subject()).await, []);
    // It keeps its holds to itself.
    linked.hear(false);
    for subject in [shared.container_subject(), shared.bill_subject(), shared.declaration_subject()] {
        assert_eq!(linked.obstacles(subject).await, silent);
    }
    // What is known to stand against it is said as before.
    linked.node.append(vec![from_elsewhere(&shared.released().retracted())]).await;
    let both = vec![Obstacle::NotReleased, Obstacle::SourceIncomplete];
    assert_eq!(linked.obstacles(shared.container_subject()).await, both);
    let page =
        linked.queries.list_clearances(&caller(CUSTOMS), ListClearancesRequest::default()).await.expect("a page");
    let released: Vec<(String, bool)> =
        page.clearances.iter().map(|row| (row.subject.clone().expect("said").value, row.released)).collect();
    assert_eq!(released, [(shared.declaration.clone(), false), (ours.declaration.clone(), true)]);
    assert_eq!(page.origins.len(), 2);
    // One statement from there about goods of ours makes it a part of them.
    linked
        .node
        .append(vec![from_elsewhere(&ours.released().corrected(|event| event.utc_offset_minutes = Some(60)))])
        .await;
    assert_eq!(linked.obstacles(ours.container_subject()).await, silent);
}

#[tokio::test]
async fn an_answer_says_how_fresh_each_source_is() {
    let linked = Linked::start();
    let voyage = Voyage::new(1, NOW_NS);
    linked.node.store(&voyage.events()).await;
    let origins = linked.answer(voyage.container_subject()).await.origins;
    let [own, other] = origins.as_slice() else { panic!("{origins:?}") };
    assert_eq!((&*own.node, own.link(), own.is_whole), (NODE, OriginLink::Own, true));
    assert_eq!((&*other.node, other.link(), other.is_whole), (ELSEWHERE, OriginLink::Down, false));
    assert_eq!((&*other.complete_through, &other.complete_time), ("", &None), "nothing is claimed of it");
    linked.hear(true);
    linked.table.change(&spiffe(ELSEWHERE), Direction::Inbound, |link| link.head_sequence = 12);
    linked.clock.advance_ns(5_000_000_000);
    let origins = linked.answer(voyage.container_subject()).await.origins;
    let [own, other] = origins.as_slice() else { panic!("{origins:?}") };
    assert_eq!(own.complete_time, Some(timestamp(NOW_NS + 5_000_000_000)));
    assert_eq!((other.link(), other.is_whole, other.lag_events), (OriginLink::Up, true, 3));
    assert_eq!(other.complete_time, Some(timestamp(NOW_NS)));
    assert_eq!(other.complete_through, "00000000000000000000000000000007-9");
}

#[tokio::test]
async fn a_watch_tells_no_release_that_rests_on_a_node_which_is_not_relied_on() {
    let linked = Linked::start();
    let voyage = Voyage::new(1, NOW_NS);
    linked.node.append(voyage.events().iter().map(from_elsewhere).collect()).await;
    let released = |changes: &[ClearanceChanges]| {
        let after = changes.last().and_then(|last| last.changes[0].after.clone()).expect("it stands");
        after.released
    };
    let these = [voyage.container_subject()];
    for these in [&[][..], &these] {
        linked.hear(true);
        assert!(released(&watched(&linked.queries, &linked.node, CUSTOMS, these, 0).await));
        linked.hear(false);
        assert!(!released(&watched(&linked.queries, &linked.node, CUSTOMS, these, 0).await));
    }
}

#[tokio::test]
async fn a_watch_tells_no_release_before_a_hold_that_its_node_kept_back_until_it_was_relied_on() {
    let linked = Linked::start();
    let voyage = Voyage::new(1, NOW_NS);
    // At the beginning the node there kept its holds to itself; once it sends them they come behind the release.
    let told = [voyage.attached(), voyage.lodged(), voyage.released(), voyage.held()];
    linked.node.append(told.iter().map(from_elsewhere).collect()).await;
    linked.hear(true);
    let complete_from = |at: u64| {
        linked.table.change(&spiffe(ELSEWHERE), Direction::Inbound, |link| link.complete_from = Sequence(at));
    };
    let of_goods = [voyage.container_subject()];
    let tells = async |these: &[SubjectMessage]| {
        let changes = watched(&linked.queries, &linked.node, CUSTOMS, these, 0).await;
        let after = changes.iter().filter_map(|changes| changes.changes[0].after.as_ref());
        after.map(|status| status.obstacles().collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    for these in [&[][..], &of_goods] {
        complete_from(0);
        let all_along = tells(these).await;
        assert_eq!(all_along[all_along.len() - 2..], [vec![], vec![Obstacle::HoldOpen]], "it kept nothing back");
        complete_from(4);
        let later = tells(these).await;
        let expected = [vec![Obstacle::SourceIncomplete], vec![Obstacle::HoldOpen]];
        assert_eq!(later[later.len() - 2..], expected, "{} subjects", these.len());
        assert!(later.iter().all(|obstacles| !obstacles.is_empty()), "a release was told: {later:?}");
    }
    // A release that holds there as well is told: what was kept back has been lifted since.
    linked.node.append(vec![from_elsewhere(&voyage.lifted())]).await;
    complete_from(5);
    for these in [&[][..], &of_goods] {
        let lifted = tells(these).await;
        assert_eq!(lifted[lifted.len() - 3..], [vec![], vec![Obstacle::HoldOpen], vec![]]);
    }
}
