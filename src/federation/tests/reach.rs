//! What an operator is told of an event's way to a peer: never that it was sent where it was not, nor that it was withheld where it went.

use super::*;
use crate::federation::{agreement::Withheld, reach::Reach};

#[tokio::test]
async fn what_an_earlier_agreement_decided_is_told_as_it_was() {
    let a = Side::new('a', vec![peer('b')], ALL);
    let b = Side::new('b', vec![peer('a')], ALL);
    let went = discharged('a', 1);
    assert_eq!(a.log.tail().borrow().get(), 0);
    a.publish(std::slice::from_ref(&went)).await;
    assert_eq!(a.reach_of_only_peer(&went).await, Reach::Pending);
    let stream = b.take_from(&a);
    a.acknowledged_by(&b.node, 1).await;
    assert_eq!(a.reach_of_only_peer(&went).await, Reach::Acknowledged);

    // The agreement ends: what went has gone, and its revision follows it; what is new stays.
    set_policy(&a, "");
    let (stays, revision) = (discharged('a', 2), went.corrected(|event| event.utc_offset_minutes = Some(60)));
    let revision_of_what_stays = stays.retracted();
    a.publish(&[stays.clone(), revision.clone(), revision_of_what_stays.clone()]).await;
    a.acknowledged_by(&b.node, 4).await;
    assert_eq!(said(&b.records().await), sent(&[went.clone(), revision.clone()]));
    assert_eq!(a.reach_of_only_peer(&went).await, Reach::Acknowledged);
    assert_eq!(a.reach_of_only_peer(&revision).await, Reach::Acknowledged);
    assert_eq!(a.reach_of_only_peer(&stays).await, Reach::Withheld(Withheld::NotGranted));
    assert_eq!(a.reach_of_only_peer(&revision_of_what_stays).await, Reach::Withheld(Withheld::NotGranted));

    // It is made anew: what was passed meanwhile is not said to have gone, until the link has taken it from the beginning.
    set_policy(&a, ALL);
    let later = discharged('a', 3);
    a.publish(std::slice::from_ref(&later)).await;
    a.acknowledged_by(&b.node, 5).await;
    assert_eq!(a.reach_of_only_peer(&later).await, Reach::Acknowledged);
    assert_eq!(a.reach_of_only_peer(&stays).await, Reach::PassedBefore);
    assert_eq!(said(&b.records().await), sent(&[went, revision, later]));
    b.federation.resume(&a.node, operate::ResumeFrom::Beginning).expect("resumed");
    stream.end().await;
    let _stream = b.take_from(&a);
    b.holds(5).await;
    a.acknowledged_by(&b.node, 5).await;
    assert_eq!(a.reach_of_only_peer(&stays).await, Reach::Acknowledged);
}

#[tokio::test]
async fn what_an_association_binds_only_later_stays_until_the_link_begins_anew() {
    let broker = "spiffe://b.example/broker/1";
    let of_broker = format!(
        "[[grant]]\nid = 'ours'\nwho = ['spiffe://b.example/*']\nactions = ['forward']\nfilters = [{{ parties = [{{ participant = \
         '{broker}' }}] }}]\n"
    );
    let a = Side::new('a', vec![peer('b')], &of_broker);
    let b = Side::new('b', vec![peer('a')], ALL);
    let before = discharged('a', 7);
    let after = Event { utc_offset_minutes: Some(60), ..before.clone() }.with_id();
    assert_ne!(before.event_id, after.event_id);
    a.publish(std::slice::from_ref(&before)).await;
    let stream = b.take_from(&a);
    a.acknowledged_by(&b.node, 1).await;
    assert_eq!(a.reach_of_only_peer(&before).await, Reach::Withheld(Withheld::NotGranted));
    a.bindings.bind(broker, &crate::testing::events::container_number(7), 2);
    a.publish(&[discharged('a', 8), after.clone()]).await;
    b.holds(1).await;
    a.acknowledged_by(&b.node, 3).await;
    assert_eq!(said(&b.records().await), sent(std::slice::from_ref(&after)), "from where the link stands");
    assert_eq!(a.reach_of_only_peer(&after).await, Reach::Acknowledged);
    assert_eq!(a.reach_of_only_peer(&before).await, Reach::PassedBefore);
    b.federation.resume(&a.node, operate::ResumeFrom::Beginning).expect("resumed");
    stream.end().await;
    let _stream = b.take_from(&a);
    assert_eq!(said(&b.holds(2).await), sent(&[after, before]), "from the beginning");
}
