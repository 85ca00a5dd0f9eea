//! Durable subscriptions whom nothing of late concerned: they cost no reading, their place moves all the same, and what concerns them comes.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_subscription_at_rest_moves_on_and_reads_only_what_concerns_it() {
    let room = Room::new();
    room.create("work", Settings::default()).await;
    let mut consumer = room.consume("work", 10);
    consumer.hear().await;
    room.publish("CN", 1..=1).await;
    consumer.hear().await;
    let reads = room.log.read_calls();
    for number in 2..=20 {
        room.publish("CN", number..=number).await;
        consumer.hear().await;
    }
    assert_eq!(room.log.read_calls() - reads, 19, "each commit is read once, by the lookout");
    // Longer than the time after which a position that moves by itself is stored.
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(room.low_water("work"), 20);
    let heard = consumer.hear().await;
    let lag = heard.iter().rev().find_map(|message| match message {
        ConsumeMessage::Progress { lag_events, .. } => Some(*lag_events),
        _ => None,
    });
    assert_eq!(lag, Some(0));
    room.publish("PK", 21..=21).await;
    let heard = consumer.hear().await;
    let delivered = heard.iter().find_map(|message| match message {
        ConsumeMessage::Deliveries(deliveries) => deliveries.first().map(|delivered| delivered.record.sequence),
        _ => None,
    });
    assert_eq!(delivered, Some(Sequence(21)));
}

#[tokio::test(start_paused = true)]
async fn another_filter_finds_what_was_published_while_the_first_was_at_rest() {
    let room = Room::new();
    room.create("work", Settings::default()).await;
    let mut consumer = room.consume("work", 10);
    consumer.hear().await;
    room.publish("CN", 1..=1).await;
    consumer.hear().await;
    room.publish("CN", 2..=3).await;
    consumer.hear().await;
    let other = vec![in_country("CN"), in_country("PK")];
    room.durable.update(&id(CUSTOMS), "work", (other, Settings::default()), None).await.expect("updated");
    room.publish("PK", 4..=4).await;
    let heard = consumer.hear().await;
    let delivered: Vec<u64> = heard
        .iter()
        .filter_map(|message| match message {
            ConsumeMessage::Deliveries(deliveries) => Some(deliveries),
            _ => None,
        })
        .flatten()
        .map(|delivered| delivered.record.sequence.get())
        .collect();
    let examined_before = room.low_water("work");
    assert_eq!(delivered, (examined_before + 1..=4).collect::<Vec<_>>(), "all behind the acknowledged position");
    assert!(delivered.contains(&4));
}
