//! One connection of a consumer: what is under way on it, and what is said on it. It never decides what becomes of an event.

use std::collections::HashMap;

use futures::{future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::mpsc;

use super::exec;
use crate::{
    cli::terminal::{note, printable},
    wire::proto::{ConsumeCredit, ConsumeRequest, DeliveryName, consume_request, settlement::Verb},
};

/// What is said of an answer that is about no event: what was told of a wider view is dealt with.
pub(super) const WIDENING_TOLD: &str = "told";

/// What is under way on one connection.
pub(super) struct Line {
    /// Dropped when everything is settled, which tells the node that we leave.
    pub(super) requests: Option<mpsc::Sender<ConsumeRequest>>,
    pub(super) running: FuturesUnordered<BoxFuture<'static, (DeliveryName, Verb)>>,
    /// The settlements that the node has not answered, with their verbs in words.
    pub(super) unanswered: HashMap<u64, (Vec<DeliveryName>, &'static str)>,
    last_id: u64,
    /// How many events were taken and are not known to be settled.
    pub(super) in_hand: u64,
    /// No more is taken.
    pub(super) leaving: bool,
}

impl Line {
    pub(super) fn new(requests: mpsc::Sender<ConsumeRequest>) -> Self {
        Self {
            requests: Some(requests),
            running: FuturesUnordered::new(),
            unanswered: HashMap::new(),
            last_id: 0,
            in_hand: 0,
            leaving: false,
        }
    }

    pub(super) async fn say(&mut self, message: consume_request::Message) {
        if let Some(requests) = &self.requests {
            // A stream that has ended says so itself, with its reason.
            let _ = requests.send(ConsumeRequest { message: Some(message) }).await;
        }
    }

    pub(super) async fn settle(&mut self, deliveries: Vec<DeliveryName>, verb: Verb) {
        self.last_id += 1;
        let word = match &verb {
            Verb::Acknowledge(_) => "acknowledged",
            Verb::Reject(reject) => {
                for one in &deliveries {
                    note(&format!("{}: {}", one.position, printable(&reject.reason)));
                }
                "rejected"
            }
            Verb::Park(_) => "parked",
            Verb::Extend(_) => "extended",
            Verb::AcknowledgeWidening(_) => WIDENING_TOLD,
        };
        self.unanswered.insert(self.last_id, (deliveries.clone(), word));
        if let Some(requests) = &self.requests {
            let _ = requests.send(exec::settlement(self.last_id, deliveries, verb)).await;
        }
    }

    /// Takes no more.
    pub(super) async fn leave(&mut self) {
        self.leaving = true;
        self.say(consume_request::Message::Credit(ConsumeCredit { credit: 0 })).await;
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.unanswered.is_empty()
    }
}
