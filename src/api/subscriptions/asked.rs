//! What requests of `SubscriptionService` say, with every fault of each at once. It never asks the subscriptions.

use std::time::Duration;

use crate::{
    api::{Refused, events::subscribing::start},
    domain::{Filter, Position, Sequence},
    subscribe::{
        Start,
        durable::{DELAY_MAX, LEASE_LIMITS, Mode, OUTSTANDING_LIMITS, OrderingKey, Settings, Verb},
    },
    wire::{
        filter,
        proto::{
            self, create_subscription_request, seek_subscription_request, settlement, subscribe_request::Start as At,
        },
        violations::Violation,
    },
};

/// Deliveries and dead letters that one request may name.
const NAMES_MAX: usize = 1_000;

/// A definition as it is asked for.
pub(super) type Defined = (Vec<Filter>, Settings);

pub(super) fn create(request: &proto::CreateSubscriptionRequest) -> Result<(Defined, Start), Refused> {
    let mut violations = Vec::new();
    let defined = definition(request.definition.as_ref(), &mut violations);
    let at = request.start.as_ref().map(|start| match start {
        create_subscription_request::Start::StartAt(at) => At::StartAt(*at),
        create_subscription_request::Start::AfterPosition(position) => At::AfterPosition(position.clone()),
        create_subscription_request::Start::SinceTime(time) => At::SinceTime(*time),
    });
    let start = start(at.as_ref()).map_err(|violation| violations.push(violation));
    match (defined, start) {
        (Some(defined), Ok(start)) if violations.is_empty() => Ok((defined, start)),
        _ => Err(Refused::invalid(violations)),
    }
}

pub(super) fn update(request: &proto::UpdateSubscriptionRequest) -> Result<(Defined, Option<u64>), Refused> {
    let mut violations = Vec::new();
    let defined = definition(request.definition.as_ref(), &mut violations);
    let etag = match request.etag.as_str() {
        "" => None,
        // Revisions begin at 1: what is none of ours matches nothing.
        etag => Some(etag.parse().unwrap_or(0)),
    };
    defined.filter(|_| violations.is_empty()).map(|defined| (defined, etag)).ok_or_else(|| Refused::invalid(violations))
}

pub(super) fn seek(request: &proto::SeekSubscriptionRequest) -> Result<Start, Refused> {
    let to = match &request.to {
        Some(seek_subscription_request::To::StartAt(at)) => At::StartAt(*at),
        Some(seek_subscription_request::To::AfterPosition(position)) => At::AfterPosition(position.clone()),
        Some(seek_subscription_request::To::SinceTime(time)) => At::SinceTime(*time),
        None => {
            let description = "or after_position or since_time must be set";
            return Err(Refused::invalid(vec![violation("start_at", "REQUIRED", description)]));
        }
    };
    start(Some(&to)).map_err(|violation| Refused::invalid(vec![violation]))
}

/// Which dead letters; none: all of them.
pub(super) fn letters(positions: &[String]) -> Result<Option<Vec<Position>>, Refused> {
    if positions.is_empty() {
        return Ok(None);
    }
    let mut violations = too_many("positions", positions.len());
    let mut read = Vec::with_capacity(positions.len().min(NAMES_MAX));
    for (index, text) in positions.iter().take(NAMES_MAX).enumerate() {
        read.extend(position(text, &format!("positions[{index}]"), &mut violations));
    }
    if violations.is_empty() { Ok(Some(read)) } else { Err(Refused::invalid(violations)) }
}

/// How many events a consumer may have at once.
pub(super) fn credit(credit: u32, field: &str) -> Result<u32, Vec<Violation>> {
    let most = OUTSTANDING_LIMITS[1];
    if credit <= most {
        return Ok(credit);
    }
    Err(vec![violation(field, "CREDIT_TOO_LARGE", &format!("must be at most {most}, not {credit}"))])
}

/// Deliveries by place and attempt, and what a consumer says of them.
pub(super) type Settled = (Vec<(Position, u32)>, Verb);

/// What a consumer says of deliveries.
pub(super) fn settlement(request: &proto::Settlement) -> Result<Settled, Vec<Violation>> {
    let mut violations = too_many("settlement.deliveries", request.deliveries.len());
    if request.deliveries.is_empty() {
        violations.push(violation("settlement.deliveries", "REQUIRED", "must name at least one delivery"));
    }
    let mut deliveries = Vec::with_capacity(request.deliveries.len().min(NAMES_MAX));
    for (index, name) in request.deliveries.iter().take(NAMES_MAX).enumerate() {
        let field = format!("settlement.deliveries[{index}].position");
        deliveries.extend(position(&name.position, &field, &mut violations).map(|at| (at, name.delivery_attempt)));
    }
    let verb = match &request.verb {
        Some(settlement::Verb::Acknowledge(_)) => Some(Verb::Acknowledge),
        Some(settlement::Verb::Reject(reject)) => {
            let limits = [Duration::ZERO, DELAY_MAX];
            let delay = within(reject.delay.as_ref(), limits, "settlement.reject.delay", &mut violations);
            delay.map(|delay_ns| Verb::Reject { delay_ns, reason: reject.reason.clone() })
        }
        Some(settlement::Verb::Park(park)) => Some(Verb::Park { reason: park.reason.clone() }),
        Some(settlement::Verb::Extend(extend)) => {
            let lease = within(extend.lease.as_ref(), LEASE_LIMITS, "settlement.extend.lease", &mut violations);
            lease.map(|lease_ns| Verb::Extend { lease_ns })
        }
        Some(settlement::Verb::AcknowledgeWidening(_)) => Some(Verb::AcknowledgeWidening),
        None => {
            let description = "or reject, park, extend or acknowledge_widening must be set";
            violations.push(violation("settlement.acknowledge", "REQUIRED", description));
            None
        }
    };
    verb.filter(|_| violations.is_empty()).map(|verb| (deliveries, verb)).ok_or(violations)
}

fn definition(definition: Option<&proto::SubscriptionDefinition>, violations: &mut Vec<Violation>) -> Option<Defined> {
    let unset = proto::SubscriptionDefinition::default();
    let asked = definition.unwrap_or(&unset);
    let known = Settings::default();
    let settings = Settings {
        mode: match proto::SubscriptionMode::try_from(asked.mode) {
            Ok(proto::SubscriptionMode::Unspecified | proto::SubscriptionMode::Ordered) => Mode::Ordered,
            Ok(proto::SubscriptionMode::Shared) => Mode::Shared,
            Err(_) => {
                let description = "must be SUBSCRIPTION_MODE_ORDERED or SUBSCRIPTION_MODE_SHARED";
                violations.push(violation("definition.mode", "ENUM_UNKNOWN", description));
                Mode::Ordered
            }
        },
        ordering_key: match proto::OrderingKey::try_from(asked.ordering_key) {
            Ok(proto::OrderingKey::Unspecified) => None,
            Ok(proto::OrderingKey::Consignment) => Some(OrderingKey::Consignment),
            Ok(proto::OrderingKey::Container) => Some(OrderingKey::Container),
            Err(_) => {
                let description = "must be ORDERING_KEY_CONSIGNMENT or ORDERING_KEY_CONTAINER, or unset";
                violations.push(violation("definition.ordering_key", "ENUM_UNKNOWN", description));
                None
            }
        },
        lease: duration(asked.lease.as_ref(), known.lease, "definition.lease", violations),
        outstanding_max: unless_zero(asked.outstanding_max, known.outstanding_max),
        attempts_max: unless_zero(asked.attempts_max, known.attempts_max),
        backoff_min: duration(asked.backoff_min.as_ref(), known.backoff_min, "definition.backoff_min", violations),
        backoff_max: duration(asked.backoff_max.as_ref(), known.backoff_max, "definition.backoff_max", violations),
        dead_letters_max: unless_zero(asked.dead_letters_max, known.dead_letters_max),
    };
    violations.extend(settings.faults().into_iter().map(|fault| Violation {
        field: format!("definition.{}", fault.field),
        reason: "SETTING_OUT_OF_RANGE",
        description: fault.description,
    }));
    match filter::compile(&asked.filters, "definition.filters") {
        Ok(filters) => Some((filters, settings)),
        Err(found) => {
            violations.extend(found);
            None
        }
    }
}

const fn unless_zero(asked: u32, known: u32) -> u32 {
    if asked == 0 { known } else { asked }
}

fn duration(
    asked: Option<&prost_types::Duration>,
    known: Duration,
    field: &str,
    violations: &mut Vec<Violation>,
) -> Duration {
    let Some(asked) = asked else { return known };
    Duration::try_from(*asked).unwrap_or_else(|_| {
        violations.push(violation(field, "DURATION_MALFORMED", "must not be negative"));
        known
    })
}

/// A time in nanoseconds; zero where it is unset.
fn within(
    asked: Option<&prost_types::Duration>,
    [least, most]: [Duration; 2],
    field: &str,
    violations: &mut Vec<Violation>,
) -> Option<i64> {
    let Some(asked) = asked else { return Some(0) };
    match Duration::try_from(*asked) {
        Ok(asked) if (least..=most).contains(&asked) => i64::try_from(asked.as_nanos()).ok(),
        Ok(_) | Err(_) => {
            let description = format!("must be between {} s and {} s", least.as_secs(), most.as_secs());
            violations.push(violation(field, "DURATION_OUT_OF_RANGE", &description));
            None
        }
    }
}

fn position(text: &str, field: &str, violations: &mut Vec<Violation>) -> Option<Position> {
    match text.parse::<Position>() {
        Ok(position) if position.sequence != Sequence::ZERO => Some(position),
        Ok(_) => {
            violations.push(violation(field, "POSITION_MALFORMED", "names no event: it stands before the first"));
            None
        }
        Err(malformed) => {
            violations.push(violation(field, "POSITION_MALFORMED", &malformed.to_string()));
            None
        }
    }
}

fn too_many(field: &str, count: usize) -> Vec<Violation> {
    let description = format!("must be at most {NAMES_MAX}, not {count}");
    if count <= NAMES_MAX { Vec::new() } else { vec![violation(field, "TOO_MANY_VALUES", &description)] }
}

pub(super) fn violation(field: &str, reason: &'static str, description: &str) -> Violation {
    Violation { field: field.to_owned(), reason, description: description.to_owned() }
}
