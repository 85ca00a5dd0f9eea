//! One request at a time: what is admitted, what is refused and how it is said, and what then is or is not stored.

use prost::Message;

use super::*;

#[tokio::test]
async fn what_is_admitted_is_stored_in_order_and_noted_as_acknowledged() {
    let room = Room::new();
    let events = [voyage(1).discharged(), voyage(2).discharged(), voyage(1).gated_out()];
    let outcomes = room.publish(TERMINAL, request(&events)).await.expect("all are admitted");
    assert_eq!(places(&outcomes), [Some((1, false)), Some((2, false)), Some((3, false))]);
    let ids: Vec<_> = events.iter().map(|event| event.event_id.clone()).collect();
    assert_eq!(outcomes.iter().map(|outcome| outcome.event_id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(room.stored().await, ids);
    assert_eq!(room.acknowledged.of(&id(TERMINAL)), Sequence(3));
}

#[tokio::test]
async fn a_closed_door_takes_nothing_and_says_why_until_it_is_opened() {
    let room = Room::new();
    let why: Arc<str> = "waits for a peer".into();
    room.closed.send_replace(Some(why.clone()));
    let refused = room.publish(TERMINAL, request(&[voyage(1).discharged()])).await;
    assert_eq!(refused, Err(PublishError::Closed(why)));
    assert!(room.stored().await.is_empty());
    room.closed.send_replace(None);
    room.publish(TERMINAL, request(&[voyage(1).discharged()])).await.expect("open");
}

#[tokio::test]
async fn the_stored_bytes_are_the_publishers() {
    let room = Room::new();
    let mut signed = voyage(1).discharged().unsigned();
    // A field that this node doesn't know: number 1,000, of a newer publisher.
    let mut bytes = signed.event.to_vec();
    bytes.extend([0xc2, 0x3e, 0x02, b'h', b'i']);
    signed.event = bytes.into();
    let request = PublishRequest { events: vec![signed.clone()], on_invalid: 0 };
    room.publish(TERMINAL, request).await.expect("an unknown field is no fault");
    let chunk = room.log.read(Sequence::ZERO, usize::MAX, None).await.expect("readable").expect("one event");
    let stored = SignedEvent::decode(chunk.records[0].signed.clone()).expect("a signed event");
    assert_eq!(stored.event, signed.event);
}

#[tokio::test]
async fn an_event_is_stored_once_however_its_publisher_serialises_it() {
    let room = Room::new();
    let event = voyage(1).discharged();
    room.publish(TERMINAL, request(std::slice::from_ref(&event))).await.expect("stored");
    // The same fields in another order: protobuf promises none.
    let mut parts = event.clone();
    let subjects = std::mem::take(&mut parts.subjects);
    let mut bytes = Event { subjects, ..Event::default() }.encode_to_vec();
    bytes.extend(parts.encode_to_vec());
    assert_ne!(bytes, event.encode_to_vec());
    let reordered = SignedEvent { event: bytes.into(), signature: None };
    let restamped = Event { created_time: event.event_time, ..event.clone() }.unsigned();
    for same in [reordered, restamped] {
        let request = PublishRequest { events: vec![same], on_invalid: 0 };
        let outcomes = room.publish(TERMINAL, request).await.expect("a duplicate is no error");
        assert_eq!(places(&outcomes), [Some((1, true))]);
    }
    let other = Event { classifier: 1, ..event };
    let refused = rejected(room.publish(TERMINAL, request(&[other])).await);
    assert_eq!(refused[0].fault, EventFault::Refused(Refusal::EventIdConflict { first: Sequence(1) }));
}

#[tokio::test]
async fn one_bad_event_leaves_nothing_and_every_violation_is_told() {
    let room = Room::new();
    let events = [voyage(1).discharged(), invalid(2), Event { event_id: "no".into(), ..invalid(3) }];
    let refused = rejected(room.publish(TERMINAL, request(&events)).await);
    assert_eq!(refused.iter().map(|event| event.index).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(refused[0].event_id, events[1].event_id);
    let fields = |event: &RejectedEvent| match &event.fault {
        EventFault::Invalid(violations) => violations.iter().map(|one| one.field.clone()).collect::<Vec<_>>(),
        other => panic!("not invalid: {other:?}"),
    };
    assert!(fields(&refused[0]).contains(&"events[1].subjects".to_owned()), "{refused:?}");
    assert!(fields(&refused[1]).contains(&"events[2].event_id".to_owned()), "{refused:?}");
    assert!(fields(&refused[1]).contains(&"events[2].subjects".to_owned()), "{refused:?}");
    assert_eq!(room.log.append_calls(), 0);
}

#[tokio::test]
async fn skip_stores_the_good_ones_and_says_of_each_bad_one_why() {
    let room = Room::new();
    let stranger = Event { publisher: CUSTOMS.into(), ..voyage(4).discharged() };
    let events = [
        voyage(1).discharged(),
        invalid(2),
        voyage(3).discharged(),
        stranger,
        voyage(9).discharged().corrected(|event| event.utc_offset_minutes = Some(0)),
    ];
    let outcomes = room.publish(TERMINAL, skipping(&events)).await.expect("the call answers OK");
    assert_eq!(places(&outcomes), [Some((1, false)), None, Some((2, false)), None, None]);
    assert!(matches!(fault(&outcomes[1]), EventFault::Invalid(_)));
    assert_eq!(fault(&outcomes[3]), &EventFault::Denied(Denial::PublisherMismatch));
    assert_eq!(fault(&outcomes[4]), &EventFault::Refused(Refusal::RevisedEventUnknown));
    let outcomes =
        room.publish(TERMINAL, skipping(&[invalid(5)])).await.expect("none is stored, and that is an answer");
    assert_eq!(places(&outcomes), [None]);
}

#[tokio::test]
async fn a_participant_speaks_only_for_itself_and_only_of_what_it_is_granted() {
    let room = Room::new();
    let refused = rejected(room.publish(TERMINAL, request(&[voyage(1).lodged()])).await);
    assert_eq!(refused[0].fault, EventFault::Denied(Denial::PublisherMismatch));

    let mut abroad = voyage(1).discharged();
    for place in &mut abroad.places {
        place.un_locode = "CNSHA".into();
        place.facility = None;
    }
    let refused = rejected(room.publish(TERMINAL, request(&[abroad.with_id()])).await);
    assert_eq!(refused[0].fault, EventFault::Denied(Denial::NotGranted(Action::Publish)));

    // The carrier may publish everything, but binding a party needs a grant of its own.
    let refused = rejected(room.publish(CARRIER, request(&[voyage(1).attached()])).await);
    assert_eq!(refused[0].fault, EventFault::Denied(Denial::NotGranted(Action::Share)));
    room.access.replace(policy(&POLICY.replace(r#""publish"]"#, r#""publish", "share"]"#)));
    room.publish(CARRIER, request(&[voyage(1).attached()])).await.expect("with the grant it may");

    let result = room.publish(CUSTOMS, request(&[voyage(1).lodged()])).await;
    assert_eq!(result, Err(PublishError::NoPublishGrant));
}

#[tokio::test]
async fn a_renamed_participant_speaks_for_its_former_name_too() {
    let room = Room::new();
    let renamed = "spiffe://port.karachi.pk/terminal/south";
    let successors = Successors::new(&[(id(renamed), id(TERMINAL))]);
    let renaming = file::parse(POLICY, Path::new("policy.toml"), &successors).expect("a good policy");
    room.access.replace(renaming);
    let original = voyage(1).discharged();
    room.publish(TERMINAL, request(std::slice::from_ref(&original))).await.expect("stored");
    let correction = original.corrected(|event| event.utc_offset_minutes = Some(0));
    room.publish(renamed, request(&[correction])).await.expect("its own event of before");
}

#[tokio::test]
async fn limits_are_answered_before_the_work() {
    let room = Room::new();
    let many: Vec<Event> = (0..1_001).map(|number| voyage(number).discharged()).collect();
    let unknown = PublishRequest { on_invalid: 9, ..request(&many[..1]) };
    for (request, field) in
        [(request(&[]), "events"), (request(&many), "events"), (skipping(&many), "events"), (unknown, "on_invalid")]
    {
        match room.publish(TERMINAL, request).await {
            Err(PublishError::Invalid(violations)) => assert_eq!(violations[0].field, field),
            other => panic!("not refused: {other:?}"),
        }
    }
    let mut large = voyage(1).discharged().unsigned();
    large.event = vec![0; 64 * 1024 + 1].into();
    let refused = rejected(room.publish(TERMINAL, PublishRequest { events: vec![large], on_invalid: 0 }).await);
    assert!(matches!(&refused[0].fault, EventFault::Invalid(violations) if violations[0].reason == "EVENT_TOO_LARGE"));
    assert_eq!(room.log.append_calls(), 0);
    let outcomes = room.publish(TERMINAL, request(&many[..1_000])).await.expect("a full request passes");
    assert_eq!(outcomes.len(), 1_000);
}

#[tokio::test]
async fn an_original_and_its_correction_may_share_a_request() {
    let room = Room::new();
    let original = voyage(1).discharged();
    let correction = original.corrected(|event| event.utc_offset_minutes = Some(0));
    let second = original.corrected(|event| event.utc_offset_minutes = Some(60));
    let outcomes = room.publish(TERMINAL, request(&[original.clone(), correction.clone()])).await.expect("admitted");
    assert_eq!(places(&outcomes), [Some((1, false)), Some((2, false))]);
    let refused = rejected(room.publish(TERMINAL, request(&[second, voyage(2).discharged()])).await);
    let head = crate::domain::EventId::parse(&correction.event_id).expect("an id");
    assert_eq!(refused[0].fault, EventFault::Refused(Refusal::RevisionConflict { head }));
    assert_eq!(room.stored().await, [original.event_id, correction.event_id], "all or nothing");
}

#[tokio::test]
async fn a_caller_who_hangs_up_cancels_nothing() {
    let room = Room::new();
    room.log.hold();
    let caller = caller(TERMINAL);
    let rights = room.door.rights(&caller);
    let submitted = room.door.submit(&caller, &rights, request(&[voyage(1).discharged()])).await.expect("admitted");
    assert!(submitted.outcome().now_or_never().is_none(), "not durable, so not answered; and now dropped");
    assert_eq!(room.acknowledged.of(&id(TERMINAL)), Sequence::ZERO);
    room.log.release();
    assert_eq!(room.stored().await.len(), 1);
}

#[tokio::test]
async fn quotas_and_the_logs_own_limits_refuse_the_whole_request() {
    let room = Room::with_quota(EventQuota::new(10, 1_000));
    let many: Vec<Event> = (0..1_000).map(|number| voyage(number).discharged()).collect();
    room.publish(TERMINAL, request(&many)).await.expect("the burst passes");
    let refused = room.publish(TERMINAL, request(&[voyage(1_001).discharged()])).await;
    assert!(matches!(refused, Err(PublishError::Quota(exceeded)) if exceeded.retry_after.as_millis() == 100));
    room.clock.advance_ns(100_000_000);
    room.publish(TERMINAL, request(&[voyage(1_001).discharged()])).await.expect("after the time that was told");

    for failure in
        [AppendError::Overloaded, AppendError::Closing, AppendError::DiskFull { free_bytes: 1, limit_bytes: 2 }]
    {
        room.log.fail_with(Some(failure.clone()));
        let result =
            room.publish(CARRIER, request(&[Event { publisher: CARRIER.into(), ..voyage(1).discharged() }])).await;
        assert_eq!(result, Err(PublishError::NotAppended(failure)));
    }
}
