//! A consumer of a durable subscription, for tests: it says what a test tells it and hears everything. It never settles by itself.

use std::collections::VecDeque;

use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};
use tradelane::wire::proto::{
    self, Delivery, DeliveryName, Settlement, SettlementOutcome, consume_request, consume_response::Message,
    settlement, subscription_service_client::SubscriptionServiceClient,
};

use crate::harness::PATIENCE;

/// A connected consumer.
pub struct Consumer {
    say: mpsc::Sender<proto::ConsumeRequest>,
    heard: Streaming<proto::ConsumeResponse>,
    /// Delivered and not yet asked for by the test.
    waiting: VecDeque<Delivery>,
    /// What the first message said.
    pub started: proto::ConsumeStarted,
    correlation_id: u64,
}

impl Consumer {
    /// Connects.
    pub async fn start(channel: Channel, name: &str, credit: u32) -> Result<Self, Status> {
        let (say, said) = mpsc::channel(64);
        let start = proto::ConsumeStart { name: name.to_owned(), credit };
        let first = proto::ConsumeRequest { message: Some(consume_request::Message::Start(start)) };
        say.send(first).await.expect("there is room");
        let mut client = SubscriptionServiceClient::new(channel);
        let consuming = client.consume(ReceiverStream::new(said));
        let mut heard = timeout(PATIENCE, consuming).await.expect("an answer")?.into_inner();
        let first = timeout(PATIENCE, heard.message()).await.expect("a first message")?.expect("a first message");
        let Some(Message::Started(started)) = first.message else { panic!("not a start: {first:?}") };
        Ok(Self { say, heard, waiting: VecDeque::new(), started, correlation_id: 0 })
    }

    /// The next message, whatever it is.
    pub async fn message(&mut self) -> Result<Option<Message>, Status> {
        let message = timeout(PATIENCE, self.heard.message()).await.expect("a word within the patience of the test")?;
        Ok(message.map(|message| message.message.expect("known")))
    }

    /// The next delivery.
    pub async fn delivery(&mut self) -> Result<Delivery, Status> {
        let until_then = async {
            while self.waiting.is_empty() {
                match self.message().await? {
                    Some(Message::Deliveries(batch)) => self.waiting.extend(batch.deliveries),
                    Some(_) => {}
                    None => return Err(Status::ok("the stream ended in order")),
                }
            }
            Ok(self.waiting.pop_front().expect("there is one"))
        };
        timeout(PATIENCE, until_then).await.expect("a delivery within the patience of the test")
    }

    /// A delivery that is there, or one more message heard; says then that it is there itself.
    pub async fn delivery_or_word(&mut self) -> Result<Option<Delivery>, Status> {
        if self.waiting.is_empty() {
            match self.message().await? {
                Some(Message::Deliveries(batch)) => self.waiting.extend(batch.deliveries),
                Some(_) => self.say(consume_request::Message::Heartbeat(proto::ConsumerHeartbeat {})).await,
                None => return Err(Status::ok("the stream ended in order")),
            }
        }
        Ok(self.waiting.pop_front())
    }

    /// So many deliveries.
    pub async fn deliveries(&mut self, count: usize) -> Vec<Delivery> {
        let mut deliveries = Vec::with_capacity(count);
        for _ in 0..count {
            deliveries.push(self.delivery().await.expect("a delivery"));
        }
        deliveries
    }

    /// Whether nothing waits for this consumer that it has not asked for, as far as it has heard.
    pub fn has_nothing(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Hears on until the subscription is said to have caught up.
    pub async fn until_caught_up(&mut self) {
        loop {
            match self.message().await.expect("goes on").expect("goes on") {
                Message::CaughtUp(_) => return,
                Message::Deliveries(batch) => self.waiting.extend(batch.deliveries),
                _ => {}
            }
        }
    }

    /// Hears on until its progress says that it is, or is not, the one that receives events.
    pub async fn until_active(&mut self, active: bool) {
        loop {
            match self.message().await.expect("goes on").expect("goes on") {
                Message::Progress(progress) if progress.active == active => return,
                Message::Deliveries(batch) => self.waiting.extend(batch.deliveries),
                _ => {}
            }
        }
    }

    /// Says something.
    pub async fn say(&self, message: consume_request::Message) {
        // Where the stream has ended nobody hears it.
        let _ = self.say.send(proto::ConsumeRequest { message: Some(message) }).await;
    }

    /// Settles and waits for the answer.
    pub async fn settle(
        &mut self,
        deliveries: &[Delivery],
        verb: settlement::Verb,
    ) -> Result<Vec<SettlementOutcome>, Status> {
        let names = deliveries.iter().map(|delivery| DeliveryName {
            position: position(delivery).to_owned(),
            delivery_attempt: delivery.delivery_attempt,
        });
        self.correlation_id += 1;
        let correlation_id = self.correlation_id;
        let settlement = Settlement { correlation_id, deliveries: names.collect(), verb: Some(verb) };
        self.say(consume_request::Message::Settlement(settlement)).await;
        loop {
            match self.message().await? {
                Some(Message::Settled(answer)) => {
                    assert_eq!(answer.correlation_id, correlation_id, "answers come in order");
                    return Ok(answer.outcomes().collect());
                }
                Some(Message::Deliveries(batch)) => self.waiting.extend(batch.deliveries),
                Some(_) => {}
                None => return Err(Status::ok("the stream ended in order")),
            }
        }
    }

    /// Settles and expects the same outcome for each.
    pub async fn settled(&mut self, deliveries: &[Delivery], verb: settlement::Verb, outcome: SettlementOutcome) {
        let outcomes = self.settle(deliveries, verb).await.expect("an answer");
        assert_eq!(outcomes, vec![outcome; deliveries.len()]);
    }

    /// The status with which the stream ends; none where it ends in order.
    pub async fn end(&mut self) -> Option<Status> {
        let until_its_end = async {
            loop {
                match self.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                    Err(status) => return Some(status),
                }
            }
        };
        timeout(PATIENCE, until_its_end).await.expect("an end within the patience of the test")
    }

    /// Leaves in order: says nothing more, and hears on to the end.
    pub async fn leave(mut self) {
        let (nobody, _) = mpsc::channel(1);
        self.say = nobody;
        assert!(self.end().await.is_none(), "whoever leaves in order is not refused");
    }
}

/// Where a delivery's event stands.
pub fn position(delivery: &Delivery) -> &str {
    &delivery.event.as_ref().expect("always there").position
}

/// The event's sequence.
pub fn sequence(delivery: &Delivery) -> u64 {
    position(delivery).parse::<tradelane::domain::Position>().expect("a position").sequence.get()
}

/// They are done.
pub fn acknowledge() -> settlement::Verb {
    settlement::Verb::Acknowledge(proto::Acknowledge {})
}

/// They failed.
pub fn reject(reason: &str) -> settlement::Verb {
    settlement::Verb::Reject(proto::Reject { delay: None, reason: reason.to_owned() })
}

/// They cannot be processed.
pub fn park(reason: &str) -> settlement::Verb {
    settlement::Verb::Park(proto::Park { reason: reason.to_owned() })
}
