//! One event at the door: size, parse, publisher, grants, and then its form for the log. Each event is parsed once and its header is
//! encoded once. It never looks at the log.

use bytes::Bytes;
use prost::Message;

use super::{Denial, DoorParts, EventFault, Fate, NewEvent, OnInvalid, PublishError, PublishLimits};
use crate::{
    domain::{HeaderRef, filter::MatchContext, header::HeaderWriter},
    identity::{Action, Rights},
    wire::{
        PublishRequest, SignedEvent,
        door::{ParsedEvent, ValidationContext, parse_event},
        proto,
        violations::Violation,
    },
};

/// After so many events other tasks of the runtime get their turn: a full request takes milliseconds.
const EVENTS_BETWEEN_YIELDS: usize = 32;

/// What the events of one request are admitted by.
pub(super) struct Admission<'a> {
    pub(super) parts: &'a DoorParts,
    pub(super) rights: &'a Rights,
    pub(super) now_ns: i64,
}

/// What can be told of a request without looking into its events.
pub(super) fn check_request(request: &PublishRequest, limits: PublishLimits) -> Result<OnInvalid, PublishError> {
    let mut violations = Vec::new();
    if request.events.is_empty() || limits.events_max < request.events.len() {
        violations.push(Violation {
            field: "events".into(),
            reason: "EVENTS_COUNT",
            description: format!("must hold 1 to {} events, not {}", limits.events_max, request.events.len()),
        });
    }
    let on_invalid = match proto::OnInvalid::try_from(request.on_invalid) {
        Ok(proto::OnInvalid::Unspecified | proto::OnInvalid::RejectBatch) => OnInvalid::RejectBatch,
        Ok(proto::OnInvalid::Skip) => OnInvalid::Skip,
        Err(_) => {
            violations.push(Violation {
                field: "on_invalid".into(),
                reason: "ENUM_UNKNOWN",
                description: "must be ON_INVALID_REJECT_BATCH or ON_INVALID_SKIP".into(),
            });
            OnInvalid::RejectBatch
        }
    };
    if violations.is_empty() { Ok(on_invalid) } else { Err(PublishError::Invalid(violations)) }
}

impl Admission<'_> {
    /// Admits the events of a request one by one: a fate each, and those for the log in their order.
    pub(super) async fn admit_all(&self, signed: Vec<SignedEvent>) -> (Vec<Fate>, Vec<NewEvent>) {
        let mut fates = Vec::with_capacity(signed.len());
        let mut events = Vec::with_capacity(signed.len());
        let mut writer = HeaderWriter::default();
        for (index, signed) in signed.iter().enumerate() {
            if index % EVENTS_BETWEEN_YIELDS == EVENTS_BETWEEN_YIELDS - 1 {
                tokio::task::yield_now().await;
            }
            match self.admit(index, signed, &mut writer) {
                Ok(event) => {
                    fates.push(Fate { event_id: event.event_id.to_string(), fault: None });
                    events.push(event);
                }
                Err(fault) => fates.push(Fate { event_id: peek_event_id(signed), fault: Some(fault) }),
            }
        }
        (fates, events)
    }

    fn admit(&self, index: usize, signed: &SignedEvent, writer: &mut HeaderWriter) -> Result<NewEvent, EventFault> {
        let path = format!("events[{index}]");
        let bytes_max = self.parts.limits.event_bytes_max;
        if bytes_max < signed.event.len() {
            return Err(EventFault::Invalid(vec![Violation {
                field: path,
                reason: "EVENT_TOO_LARGE",
                description: format!("must be at most {bytes_max} bytes long, not {}", signed.event.len()),
            }]));
        }
        let context = ValidationContext { now_ns: self.now_ns, lists: &self.parts.lists };
        let parsed = parse_event(signed, &path, &context).map_err(EventFault::Invalid)?;
        if let Some(warning) = parsed.warnings.first() {
            tracing::debug!(publisher = %parsed.publisher, event_id = %parsed.event_id, field = warning.field,
                warning = warning.description, warnings = parsed.warnings.len(), "an event has codes that no list knows");
        }
        self.authorise(signed, parsed, writer)
    }

    /// Whether the caller may say this, as this publisher.
    fn authorise(
        &self,
        signed: &SignedEvent,
        parsed: ParsedEvent,
        writer: &mut HeaderWriter,
    ) -> Result<NewEvent, EventFault> {
        let own_name = parsed.publisher == self.rights.who || self.rights.former_names.contains(&parsed.publisher);
        if !own_name {
            return Err(EventFault::Denied(Denial::PublisherMismatch));
        }
        // Exactly as long as it is: it stays in memory until its block is stored.
        let header = Bytes::copy_from_slice(parsed.header.encode_in(writer));
        let matched = HeaderRef::parse(&header).expect("a header that was encoded here is well formed");
        let context = MatchContext {
            accepted_time_ns: self.now_ns,
            origin_node: self.parts.node.as_str(),
            caller: self.rights.who.as_str(),
            bindings: &*self.parts.bindings,
        };
        let needed = [Some(Action::Publish), parsed.binds_parties.then_some(Action::Share)];
        for action in needed.into_iter().flatten() {
            if !self.rights.permits(action, &matched, &context, self.now_ns) {
                return Err(EventFault::Denied(Denial::NotGranted(action)));
            }
        }
        let signed = Bytes::from(signed.encode_to_vec());
        Ok(NewEvent { publisher: parsed.publisher, event_id: parsed.event_id, header, signed, origin: None })
    }
}

/// The id that a refused event bears, so that its publisher can tell which one it is; empty where it cannot be read.
fn peek_event_id(signed: &SignedEvent) -> String {
    /// The one field of an `Event` that is wanted.
    #[derive(Clone, PartialEq, Message)]
    struct EventIdOnly {
        #[prost(string, tag = "1")]
        event_id: String,
    }
    let mut event_id = EventIdOnly::decode(signed.event.clone()).unwrap_or_default().event_id;
    // An id that is none may be of any length; nobody needs more of it back than an id has.
    if event_id.len() > 36 {
        event_id.clear();
    }
    event_id
}
