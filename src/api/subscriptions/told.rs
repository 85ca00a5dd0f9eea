//! Subscriptions and what consumers hear, as the API says them. It never leaves out what a client needs to go on.

use prost_types::Duration;

use crate::{
    api::{
        Origins, Recorder,
        events::subscribing::{caught_up, widened},
        recorded::timestamp,
    },
    domain::Position,
    log::LogError,
    subscribe::durable::{ConsumeMessage, LetterFacts, Mode, OrderingKey, Outcome, Settings, State, SubscriptionFacts},
    wire::{
        filter,
        proto::{self, consume_response::Message},
    },
};

/// One subscription.
pub(in crate::api) fn subscription(facts: &SubscriptionFacts) -> proto::Subscription {
    let definition = &facts.definition;
    proto::Subscription {
        name: definition.name.clone(),
        definition: Some(proto::SubscriptionDefinition {
            filters: definition.filters.iter().map(filter::spec_to_proto).collect(),
            ..settings(&definition.settings)
        }),
        state: state(facts.state).into(),
        acknowledged_position: facts.acknowledged.to_string(),
        lag_events: facts.lag_events,
        outstanding: facts.outstanding as u32,
        dead_letters: facts.dead_letters as u32,
        consumers: facts.consumers as u32,
        create_time: Some(timestamp(definition.create_time_ns)),
        etag: definition.revision.to_string(),
        owner: facts.owner.to_string(),
    }
}

fn settings(settings: &Settings) -> proto::SubscriptionDefinition {
    let mode = match settings.mode {
        Mode::Ordered => proto::SubscriptionMode::Ordered,
        Mode::Shared => proto::SubscriptionMode::Shared,
    };
    let ordering_key = match settings.ordering_key {
        None => proto::OrderingKey::Unspecified,
        Some(OrderingKey::Consignment) => proto::OrderingKey::Consignment,
        Some(OrderingKey::Container) => proto::OrderingKey::Container,
    };
    proto::SubscriptionDefinition {
        filters: Vec::new(),
        mode: mode.into(),
        ordering_key: ordering_key.into(),
        lease: duration(settings.lease),
        outstanding_max: settings.outstanding_max,
        attempts_max: settings.attempts_max,
        backoff_min: duration(settings.backoff_min),
        backoff_max: duration(settings.backoff_max),
        dead_letters_max: settings.dead_letters_max,
    }
}

const fn state(state: State) -> proto::SubscriptionState {
    match state {
        State::Active => proto::SubscriptionState::Active,
        State::Paused => proto::SubscriptionState::Paused,
        State::Stopped => proto::SubscriptionState::Stopped,
        State::Lost => proto::SubscriptionState::Lost,
    }
}

/// One dead letter.
pub(super) fn letter(facts: LetterFacts) -> proto::DeadLetter {
    let (event_id, publisher) =
        facts.event.map(|(event_id, publisher)| (event_id.to_string(), publisher)).unwrap_or_default();
    proto::DeadLetter {
        position: facts.position.to_string(),
        attempts: facts.letter.attempts,
        parked: facts.letter.parked,
        reason: facts.letter.reason,
        time: Some(timestamp(facts.letter.time_ns)),
        replaying: facts.letter.replay.is_some(),
        event_id,
        publisher,
    }
}

/// One message to a consumer.
pub(super) fn message(
    recorder: &Recorder,
    origins: &Origins,
    message: ConsumeMessage,
) -> Result<proto::ConsumeResponse, LogError> {
    let message = match message {
        ConsumeMessage::Started { acknowledged, paused, active, narrowing } => {
            Message::Started(proto::ConsumeStarted {
                acknowledged_position: acknowledged.to_string(),
                paused,
                active,
                narrowed_filters: narrowing.narrowed_filters,
                narrowed: narrowing.narrowed,
                grant_ids: narrowing.grant_ids,
            })
        }
        ConsumeMessage::Deliveries(deliveries) => {
            let deliveries = deliveries.iter().map(|delivered| {
                Ok(proto::Delivery {
                    event: Some(recorder.recorded(&delivered.record)?),
                    delivery_attempt: delivered.attempt,
                    lease_end_time: Some(timestamp(delivered.lease_until_ns)),
                    replayed: delivered.replayed,
                })
            });
            Message::Deliveries(proto::DeliveryBatch { deliveries: deliveries.collect::<Result<_, LogError>>()? })
        }
        ConsumeMessage::Settled { correlation_id, outcomes } => Message::Settled(proto::SettlementAnswer {
            correlation_id,
            outcomes: outcomes.into_iter().map(|one| outcome(one).into()).collect(),
        }),
        ConsumeMessage::Progress { acknowledged, lag_events, active, paused, time_ns } => {
            let acknowledged_position = acknowledged.to_string();
            Message::Progress(proto::ConsumeProgress {
                origins: origins.as_of(acknowledged_position.clone()),
                acknowledged_position,
                lag_events,
                active,
                paused,
                time: Some(timestamp(time_ns)),
            })
        }
        ConsumeMessage::CaughtUp { position } => Message::CaughtUp(caught_up(origins, position)),
        ConsumeMessage::FellBehind { position, lag_events } => {
            Message::FellBehind(proto::FellBehind { position: position.to_string(), lag_events })
        }
        ConsumeMessage::Widened { widened: bindings, through, incomplete } => {
            let at = |sequence| Position { sequence, ..through };
            let widenings = bindings.into_iter().map(|binding| widened(binding.subject, at(binding.sequence)));
            let (widenings, position) = (widenings.collect(), through.to_string());
            Message::VisibilityWidened(proto::VisibilityWidenings { widenings, position, incomplete })
        }
    };
    Ok(proto::ConsumeResponse { message: Some(message) })
}

const fn outcome(outcome: Outcome) -> proto::SettlementOutcome {
    match outcome {
        Outcome::Done => proto::SettlementOutcome::Done,
        Outcome::AlreadySettled => proto::SettlementOutcome::AlreadySettled,
        Outcome::LeaseEnded => proto::SettlementOutcome::LeaseEnded,
        Outcome::TakenOver => proto::SettlementOutcome::TakenOver,
        Outcome::NotDelivered => proto::SettlementOutcome::NotDelivered,
        Outcome::DeadLettersFull => proto::SettlementOutcome::DeadLettersFull,
    }
}

fn duration(duration: std::time::Duration) -> Option<Duration> {
    // Every setting is far below what protobuf's duration can say.
    Duration::try_from(duration).ok()
}
