//! What goes over a link: by grant, audience, time and origin; to one that joins late; with revisions behind their originals; and no more
//! than the receiver gives credit for.

use super::*;
use crate::{
    federation::{agreement::Withheld, history::CHAIN_MAX, reach, table::Direction},
    wire::proto::{Audience, Reach},
};

/// `a` forwards to `b`.
fn pair(policy: &str) -> (Side, Side) {
    (Side::new('a', vec![peer('b')], policy), Side::new('b', vec![peer('a')], ALL))
}

#[tokio::test]
async fn a_late_joiner_gets_everything_in_order_and_unchanged_and_then_goes_on_live() {
    let (a, b) = pair(ALL);
    let early: Vec<Event> = (0..1_200).map(|n| discharged('a', n)).collect();
    for some in early.chunks(400) {
        a.publish(some).await;
    }
    let stream = b.take_from(&a);
    assert_eq!(said(&b.holds(1_200).await), sent(&early));
    let late: Vec<Event> = (2_000..2_010).map(|n| discharged('a', n)).collect();
    a.publish(&late).await;
    let records = b.holds(1_210).await;
    assert_eq!(said(&records[1_200..]), sent(&late));
    let origin = records[1_209].origin.as_ref().expect("from elsewhere");
    assert_eq!((&origin.node, origin.sequence, origin.via.len()), (&node('a'), Sequence(1_210), 0));
    a.acknowledged_by(&b.node, 1_210).await;
    assert_eq!(b.federation.table().status(&a.node).inbound.state, LinkState::CaughtUp);
    assert_eq!(a.federation.table().status(&b.node).outbound.state, LinkState::CaughtUp);
    // What comes back over its own way is nothing: it came from there.
    let back = a.take_from(&b);
    b.publish(&[discharged('b', 1)]).await;
    assert_eq!(a.holds(1_211).await.len(), 1_211);
    assert!(stream.is_up() && back.is_up());
    assert!(stream.end().await.acknowledged);
}

#[tokio::test]
async fn only_what_the_grant_matches_goes_and_a_gap_made_by_it_is_covered() {
    let container = crate::testing::events::container_number(7);
    let policy = "[[grant]]\nid = 'some'\nwho = ['spiffe://b.example/*']\nactions = ['forward']\nfilters = [{ subjects = \
                  [{ kind = 'container', value = 'CONTAINER' }] }]\n";
    let (a, b) = pair(&policy.replace("CONTAINER", &container));
    let wanted = discharged('a', 7);
    a.publish(&[discharged('a', 1), wanted.clone(), discharged('a', 2)]).await;
    let _stream = b.take_from(&a);
    b.holds(1).await;
    a.acknowledged_by(&b.node, 3).await;
    assert_eq!(said(&b.records().await), sent(std::slice::from_ref(&wanted)));

    // A grant that is withdrawn counts from the next event on, and a retraction still follows what the filter let through.
    a.publish(&[wanted.retracted(), discharged('a', 3)]).await;
    a.acknowledged_by(&b.node, 5).await;
    let records = b.records().await;
    assert_eq!(said(&records), sent(&[wanted.clone(), wanted.retracted()]));
    narrow(&a);
    a.publish(&[Event { utc_offset_minutes: Some(60), ..wanted.clone() }.with_id()]).await;
    a.acknowledged_by(&b.node, 6).await;
    assert_eq!(b.records().await.len(), 2);
}

#[tokio::test]
async fn a_correction_follows_its_original_whatever_it_says_now() {
    let karachi = "[[grant]]\nid = 'some'\nwho = ['spiffe://b.example/*']\nactions = ['forward']\nfilters = [{ places = \
                   [{ un_locode = 'CNSHA' }] }]\n";
    let (a, b) = pair(karachi);
    let original = discharged('a', 7);
    let correction = original.corrected(|event| event.places.retain(|place| place.un_locode != "CNSHA"));
    let alone = Event { places: correction.places.clone(), ..discharged('a', 8) }.with_id();
    a.publish(&[original.clone(), correction.clone(), alone, original.corrected(|_| {}).retracted()][..3]).await;
    let _stream = b.take_from(&a);
    b.holds(2).await;
    a.acknowledged_by(&b.node, 3).await;
    assert_eq!(said(&b.records().await), sent(&[original, correction]));
}

#[tokio::test]
async fn an_audience_goes_only_where_somebody_named_lives() {
    let (a, b) = pair(ALL);
    let with = |n, reach: Reach, names: &[&str]| {
        let participants = names.iter().map(|name| (*name).to_owned()).collect();
        let audience = Some(Audience { reach: reach.into(), participants });
        Event { audience, ..discharged('a', n) }.with_id()
    };
    let for_b = with(1, Reach::Named, &["spiffe://x.example/agency", "spiffe://b.example/*"]);
    let everybodys = with(2, Reach::Network, &[]);
    let others = with(3, Reach::Named, &["spiffe://a.example/agency", "spiffe://b.example.evil/x"]);
    let private = with(4, Reach::Private, &[]);
    a.publish(&[for_b.clone(), others.clone(), private.clone(), everybodys.clone()]).await;
    let stream = b.take_from(&a);
    a.acknowledged_by(&b.node, 4).await;
    assert_eq!(said(&b.records().await), sent(&[for_b.clone(), everybodys.clone()]));
    let sent_events = a.federation.table().status(&b.node).outbound.event_count;
    assert_eq!(sent_events, 2, "what is for others does not even leave");
    stream.end().await;

    // A standby: a grant for private events there, and the readiness to take them here.
    let standby_of = Side::new('a', vec![peer('b')], &ALL.replace("all = true", "all = true\nprivate = true"));
    let standby = Side::new('b', vec![Peer { private: true, ..peer('a') }], ALL);
    standby_of.publish(&[for_b.clone(), others.clone(), private.clone(), everybodys.clone()]).await;
    let _stream = standby.take_from(&standby_of);
    assert_eq!(said(&standby.holds(4).await), sent(&[for_b, others, private, everybodys]));
}

#[tokio::test]
async fn without_a_grant_or_a_place_in_the_file_nothing_goes() {
    let (a, b) = pair("");
    a.publish(&[discharged('a', 1)]).await;
    let stream = b.take_from(&a);
    a.acknowledged_by(&b.node, 1).await;
    assert!(b.records().await.is_empty());
    // Taken out of the file while the stream lives.
    a.files.send_replace(Arc::new(Peers::default()));
    let received = stream.ended().await;
    assert!(received.ended.in_words().contains("NOT_A_PEER"), "{received:?}");
    assert_eq!(received.ended.state(), LinkState::Backoff);
}

#[tokio::test]
async fn an_operator_pauses_and_resumes_a_link_and_it_goes_on_where_it_stood() {
    let (a, b) = pair(ALL);
    a.publish(&[discharged('a', 1)]).await;
    let stream = b.take_from(&a);
    b.holds(1).await;
    a.acknowledged_by(&b.node, 1).await;
    a.federation.pause(&b.node);
    let received = stream.ended().await;
    assert_eq!(received.ended.state(), LinkState::Paused, "{received:?}");
    a.publish(&[discharged('a', 2)]).await;
    assert_eq!(b.take_from(&a).ended().await.ended.state(), LinkState::Paused);
    a.federation.resume(&b.node, operate::ResumeFrom::Position).expect("resumed");
    let stream = b.take_from(&a);
    assert_eq!(said(&b.holds(2).await), sent(&[discharged('a', 1), discharged('a', 2)]));
    a.acknowledged_by(&b.node, 2).await;
    assert_eq!(b.federation.table().status(&a.node).inbound.event_count, 2, "nothing was sent twice");
    // From the beginning again: absorbed.
    b.federation.resume(&a.node, operate::ResumeFrom::Beginning).expect("resumed");
    let received = stream.end().await;
    assert!(received.acknowledged, "{received:?}");
    let _again = b.take_from(&a);
    a.publish(&[discharged('a', 3)]).await;
    assert_eq!(b.holds(3).await.len(), 3);
    assert_eq!(b.federation.table().status(&a.node).inbound.duplicate_count, 2);
}

#[tokio::test]
async fn a_source_never_sends_beyond_the_credit() {
    let (a, _b) = pair(ALL);
    for start in [0, 400, 800] {
        a.publish(&(start..start + 400).map(|n| discharged('a', n)).collect::<Vec<_>>()).await;
    }
    let (requests, outgoing) = mpsc::channel(64);
    let (responses, mut incoming) = mpsc::channel(64);
    let peer = Arc::new(peer('a'));
    let receiver = Side::new('b', vec![self::peer('a')], ALL);
    let inbox = Inbox::new(receiver.federation.parts().clone(), peer, requests.clone());
    let mut hello = inbox.hello();
    if let Some(crate::wire::proto::replicate_request::Message::Hello(hello)) = &mut hello.message {
        hello.credit_bytes = 1;
    }
    requests.try_send(hello).expect("there is room");
    let federation = a.federation.clone();
    let caller = caller(&receiver.node);
    tokio::spawn(async move {
        federation.serve(caller, Box::pin(ReceiverStream::new(outgoing).map(Ok)), responses).await;
    });
    let mut events = 0;
    let mut batches = 0;
    while let Ok(Some(Ok(response))) = timeout(Duration::from_millis(500), incoming.recv()).await {
        if let Some(crate::wire::proto::replicate_response::Message::Batch(batch)) = response.message {
            events += batch.events.len();
            batches += usize::from(!batch.events.is_empty());
        }
    }
    assert!(batches <= 2 && events < 1_200, "{events} events in {batches} batches on one byte of credit");
}

#[tokio::test]
async fn what_was_accepted_before_the_agreement_begins_stays() {
    let clock = Arc::new(TestClock::at_ns(NOW_NS));
    let log = Arc::new(MemoryLog::new(clock.clone(), content_equal));
    let from = Peer { from_time_ns: Some(NOW_NS + 5), ..peer('b') };
    let a = Side::over('a', log, vec![from], ALL);
    a.publish(&[discharged('a', 1)]).await;
    clock.advance_ns(10);
    a.publish(&[discharged('a', 2)]).await;
    let b = Side::new('b', vec![peer('a')], ALL);
    let _stream = b.take_from(&a);
    assert_eq!(said(&b.holds(1).await), sent(&[discharged('a', 2)]));
}

#[tokio::test]
async fn a_retraction_follows_what_went_under_an_agreement_that_has_ended_since() {
    let (a, b) = pair(ALL);
    let went: Vec<Event> = (0..3).map(|n| discharged('a', n)).collect();
    a.publish(&went).await;
    let stream = b.take_from(&a);
    b.holds(3).await;
    a.acknowledged_by(&b.node, 3).await;
    narrow(&a);
    let stays = discharged('a', 9);
    let correction = went[0].corrected(|event| event.utc_offset_minutes = Some(60));
    a.publish(&[stays.clone(), stays.retracted(), correction.clone(), correction.retracted()]).await;
    a.acknowledged_by(&b.node, 7).await;
    let mut expected = went.clone();
    expected.extend([correction.clone(), correction.retracted()]);
    assert_eq!(said(&b.records().await), sent(&expected), "what never went is not taken back there either");

    // Over a new stream too, whose source has been away.
    stream.end().await;
    a.publish(&[went[1].retracted(), discharged('a', 10)]).await;
    let _stream = b.take_from(&a);
    a.acknowledged_by(&b.node, 9).await;
    expected.push(went[1].retracted());
    assert_eq!(said(&b.records().await), sent(&expected));
    let versions = a.federation.table().progress(&b.node).versions;
    let stretches: Vec<_> = versions.iter().map(|version| (version.after, version.through)).collect();
    assert_eq!(stretches, [(0, Some(3)), (3, None)]);
}

#[tokio::test]
async fn a_revision_that_cannot_be_followed_back_stays_and_the_operator_is_told() {
    let (a, b) = pair(ALL);
    let original = discharged('a', 0);
    a.publish(std::slice::from_ref(&original)).await;
    let _stream = b.take_from(&a);
    a.acknowledged_by(&b.node, 1).await;
    narrow(&a);
    let mut chain = vec![original];
    for minute in 0..CHAIN_MAX as i32 {
        let next = chain.last().expect("never empty").corrected(|event| event.utc_offset_minutes = Some(minute));
        a.publish(std::slice::from_ref(&next)).await;
        chain.push(next);
    }
    let known = chain.len() as u64;
    a.acknowledged_by(&b.node, known).await;
    assert_eq!(said(&b.records().await), sent(&chain), "as far back as it is followed");
    assert_eq!(a.federation.table().progress(&b.node).notices[Direction::Outbound as usize], "");
    assert_eq!(a.reach_of_only_peer(chain.last().expect("never empty")).await, reach::Reach::Acknowledged);

    let stays = chain.last().expect("never empty").retracted();
    a.publish(std::slice::from_ref(&stays)).await;
    let told = async {
        loop {
            let notice = a.federation.table().progress(&b.node).notices[Direction::Outbound as usize].clone();
            if !notice.is_empty() {
                return notice;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let notice = timeout(PATIENCE, told).await.expect("told");
    assert!(notice.contains(&format!("sequence {} was not sent", known + 1)), "{notice}");
    assert_eq!(b.records().await.len() as u64, known);
    assert_eq!(a.reach_of_only_peer(&stays).await, reach::Reach::Untraceable(Withheld::NotGranted));
}
