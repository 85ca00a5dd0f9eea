//! The envelope: identity, times, classifier, revision, audience, sources and extensions. Subjects, places and bodies have files of their
//! own.

use uuid::Uuid;

use super::{
    Checker, Path, SignedEvent,
    text::{CODE_CHARACTERS_MAX, NAME_CHARACTERS_MAX, NOTE_CHARACTERS_MAX, URI_CHARACTERS_MAX, show},
};
use crate::{
    domain::{EventId, SpiffeId, SpiffePattern},
    wire::proto::{
        Audience, Classifier, Event, Procedure, Reach, Revision, RevisionKind, RevisionReason, TimePrecision,
        TransportMode, event::Body,
    },
};

const MINUTE_NS: i64 = 60_000_000_000;
const HOUR_NS: i64 = 60 * MINUTE_NS;
const DAY_NS: i64 = 24 * HOUR_NS;
/// How far clocks of publishers may run ahead.
const CLOCK_SKEW_MAX_NS: i64 = 5 * MINUTE_NS;
/// How far plans may reach into the future.
const PLAN_AHEAD_MAX_NS: i64 = 400 * DAY_NS;
/// Audiences name at most so many.
const AUDIENCE_MAX: usize = 64;
/// An event is derived from at most so many messages.
const SOURCES_MAX: usize = 8;
/// An event has at most so many extensions.
const EXTENSIONS_MAX: usize = 8;
/// The data of all its extensions together.
const EXTENSION_BYTES_MAX: usize = 16 * 1024;
/// A signature's value; the longest in use, of post-quantum schemes, has under 5,000 bytes.
const SIGNATURE_BYTES_MAX: usize = 8 * 1024;

impl Checker<'_> {
    /// Checks the signature's form. Whether it is right is for whoever knows the publisher's keys.
    pub(super) fn signature(&mut self, signed: &SignedEvent, root: &Path<'_>) {
        let Some(signature) = &signed.signature else { return };
        // The signature stands beside the event, not in it.
        let at = &root.field("signature");
        self.required_text(&signature.key_id, URI_CHARACTERS_MAX, &at.field("key_id"));
        self.required_text(&signature.algorithm, NAME_CHARACTERS_MAX, &at.field("algorithm"));
        let length = signature.value.len();
        let fits =
            if signature.algorithm == "ed25519" { length == 64 } else { (1..=SIGNATURE_BYTES_MAX).contains(&length) };
        let description = "must be the signature's bytes: 64 for ed25519, at most 8,192 for others";
        self.report.require(fits, &at.field("value"), "SIGNATURE_MALFORMED", description);
    }

    /// Checks everything but the body; gives the event's identity where that is well formed.
    pub(super) fn envelope(&mut self, event: &Event, root: &Path<'_>) -> Option<(EventId, SpiffeId)> {
        let event_id = self.event_id(event, &root.field("event_id"));
        let publisher = SpiffeId::parse(&event.publisher).map_err(|malformed| {
            self.report.add(&root.field("publisher"), "PUBLISHER_MALFORMED", malformed.to_string());
        });
        self.times(event, root);
        let classifier = &root.field("classifier");
        self.required_enum::<Classifier>(event.classifier, classifier, "Classifier", "CLASSIFIER_MISSING");
        self.subjects(event, root);
        self.places(event, root);
        self.parties(&event.parties, root);
        self.commodity_codes(&event.commodity_codes, root);
        self.optional_enum::<TransportMode>(event.mode, &root.field("mode"), "TransportMode");
        self.optional_enum::<Procedure>(event.procedure, &root.field("procedure"), "Procedure");
        self.revision(event, root);
        self.audience(event.audience.as_ref(), &root.field("audience"));
        self.sources(event, root);
        self.extensions(event, root);
        event_id.zip(publisher.ok())
    }

    fn event_id(&mut self, event: &Event, at: &Path<'_>) -> Option<EventId> {
        let event_id = EventId::parse(&event.event_id)
            .map_err(|malformed| self.report.add(at, "EVENT_ID_MALFORMED", malformed.to_string()))
            .ok()?;
        if let Some(made_ns) = made_ns(event_id.uuid()) {
            let fits = made_ns <= self.context.now_ns.saturating_add(DAY_NS);
            let description = "must not be a version 7 UUID made more than 24 hours ahead of this node's time";
            self.report.require(fits, at, "EVENT_ID_FROM_FUTURE", description);
        }
        Some(event_id)
    }

    fn times(&mut self, event: &Event, root: &Path<'_>) {
        let now_ns = self.context.now_ns;
        self.optional_enum::<TimePrecision>(event.time_precision, &root.field("time_precision"), "TimePrecision");
        let created_at = &root.field("created_time");
        let created_ns = match event.created_time {
            None => {
                self.report.add(created_at, "TIME_MISSING", "must say when the publisher made the statement");
                None
            }
            Some(time) => self.time_ns(time, created_at),
        };
        let in_future = created_ns.is_some_and(|created_ns| now_ns.saturating_add(CLOCK_SKEW_MAX_NS) < created_ns);
        if in_future {
            let description = format!("must be at most 5 minutes ahead of this node's time, {}", show(now_ns));
            self.report.add(created_at, "CREATED_IN_FUTURE", description);
        }
        let happens_at = &root.field("event_time");
        match event.event_time {
            None => self.report.add(happens_at, "TIME_MISSING", "must say when it happened or is to happen"),
            Some(time) => {
                if let Some(event_ns) = self.time_ns(time, happens_at) {
                    self.event_time(event, event_ns, created_ns, happens_at);
                }
            }
        }
        if let Some(offset) = event.utc_offset_minutes
            && !(-840..=840).contains(&offset)
        {
            let description = format!("must lie between -840 and 840 minutes, not be {offset}");
            self.report.add(&root.field("utc_offset_minutes"), "OFFSET_OUT_OF_RANGE", description);
        }
    }

    fn event_time(&mut self, event: &Event, event_ns: i64, created_ns: Option<i64>, at: &Path<'_>) {
        let now_ns = self.context.now_ns;
        if now_ns.saturating_add(PLAN_AHEAD_MAX_NS) < event_ns {
            let description = format!("must be at most 400 days ahead of this node's time, {}", show(now_ns));
            self.report.add(at, "TIME_OUT_OF_RANGE", description);
        }
        // Who knows only the day may write any hour of it.
        let span_ns = match event.time_precision() {
            TimePrecision::Unspecified | TimePrecision::Instant => 0,
            TimePrecision::Minute => MINUTE_NS,
            TimePrecision::Hour => HOUR_NS,
            TimePrecision::Day => DAY_NS,
        };
        let allowed_ns = created_ns.map(|created_ns| created_ns.saturating_add(CLOCK_SKEW_MAX_NS + span_ns));
        if event.classifier() == Classifier::Actual && allowed_ns.is_some_and(|allowed_ns| allowed_ns < event_ns) {
            let description = "of an ACTUAL event must not lie more than 5 minutes after created_time: nothing has happened in the future";
            self.report.add(at, "ACTUAL_IN_FUTURE", description);
        }
    }

    fn revision(&mut self, event: &Event, root: &Path<'_>) {
        let Some(revision) = &event.revision else {
            self.report.require(event.body.is_some(), &root.field("body"), "BODY_MISSING", BODY_MISSING);
            return;
        };
        let at = &root.field("revision");
        let Revision { kind, event_id, reason, note } = revision;
        self.required_enum::<RevisionKind>(*kind, &at.field("kind"), "RevisionKind", "REVISION_KIND_MISSING");
        self.optional_enum::<RevisionReason>(*reason, &at.field("reason"), "RevisionReason");
        self.text(note, NOTE_CHARACTERS_MAX, &at.field("note"));
        let revised = &at.field("event_id");
        if let Err(malformed) = EventId::parse(event_id) {
            self.report.add(revised, "EVENT_ID_MALFORMED", malformed.to_string());
        } else if *event_id == event.event_id {
            self.report.add(
                revised,
                "REVISES_ITSELF",
                "must name an earlier event: a revision has an event_id of its own",
            );
        }
        match (revision.kind(), &event.body) {
            (RevisionKind::Retract, Some(_)) => {
                self.report.add(
                    &root.field("body"),
                    "BODY_NOT_ALLOWED",
                    "must be absent: a retraction says nothing anew",
                );
            }
            (RevisionKind::Correct, None) => self.report.add(&root.field("body"), "BODY_MISSING", BODY_MISSING),
            (RevisionKind::Retract | RevisionKind::Unspecified, None)
            | (RevisionKind::Correct | RevisionKind::Unspecified, Some(_)) => {}
        }
    }

    fn audience(&mut self, audience: Option<&Audience>, at: &Path<'_>) {
        let Some(audience) = audience else {
            self.report.add(at, "AUDIENCE_EMPTY", "must say who may see the event at most");
            return;
        };
        self.required_enum::<Reach>(audience.reach, &at.field("reach"), "Reach", "AUDIENCE_EMPTY");
        let named_at = &at.field("participants");
        match (audience.reach(), audience.participants.is_empty()) {
            (Reach::Named, true) => {
                self.report.add(named_at, "AUDIENCE_EMPTY", "must name participants where reach is NAMED");
            }
            (Reach::Private | Reach::Network, false) => {
                self.report.add(named_at, "AUDIENCE_CONTRADICTS", "must be empty unless reach is NAMED");
            }
            (Reach::Named, false) | (Reach::Private | Reach::Network, true) | (Reach::Unspecified, _) => {}
        }
        if !self.at_most(audience.participants.len(), AUDIENCE_MAX, named_at) {
            return;
        }
        for (index, participant) in audience.participants.iter().enumerate() {
            if let Err(malformed) = SpiffePattern::parse(participant) {
                self.report.add(&at.element("participants", index), "PARTICIPANT_MALFORMED", malformed.to_string());
            }
        }
    }

    fn sources(&mut self, event: &Event, root: &Path<'_>) {
        if !self.at_most(event.sources.len(), SOURCES_MAX, &root.field("sources")) {
            return;
        }
        for (index, source) in event.sources.iter().enumerate() {
            let at = &root.element("sources", index);
            self.required_text(&source.standard, NAME_CHARACTERS_MAX, &at.field("standard"));
            self.text(&source.message_id, NOTE_CHARACTERS_MAX, &at.field("message_id"));
            self.sha256(&source.sha256, &at.field("sha256"));
        }
    }

    fn extensions(&mut self, event: &Event, root: &Path<'_>) {
        let all_at = &root.field("extensions");
        if !self.at_most(event.extensions.len(), EXTENSIONS_MAX, all_at) {
            return;
        }
        let bytes: usize = event.extensions.iter().map(|extension| extension.data.len()).sum();
        if EXTENSION_BYTES_MAX < bytes {
            let description = format!("must have at most {EXTENSION_BYTES_MAX} bytes of data together, not {bytes}");
            self.report.add(all_at, "EXTENSION_TOO_LARGE", description);
        }
        for (index, extension) in event.extensions.iter().enumerate() {
            self.required_text(
                &extension.schema,
                URI_CHARACTERS_MAX,
                &root.element("extensions", index).field("schema"),
            );
        }
    }

    /// A reason's scheme and code, or text.
    pub(super) fn reasons(&mut self, reasons: &[crate::wire::proto::Reason], body: &Path<'_>) {
        if !self.at_most(reasons.len(), 32, &body.field("reasons")) {
            return;
        }
        for (index, reason) in reasons.iter().enumerate() {
            let at = &body.element("reasons", index);
            self.text(&reason.scheme, CODE_CHARACTERS_MAX, &at.field("scheme"));
            self.text(&reason.code, CODE_CHARACTERS_MAX, &at.field("code"));
            self.text(&reason.text, NOTE_CHARACTERS_MAX, &at.field("text"));
            let says = !reason.code.is_empty() || !reason.text.is_empty();
            self.report.require(says, at, "REASON_EMPTY", "must have a code or a text");
            let scoped = reason.code.is_empty() || !reason.scheme.is_empty();
            self.report.require(scoped, &at.field("scheme"), "SCHEME_MISSING", "must say which list the code is of");
        }
    }

    /// Refuses a classifier other than ACTUAL.
    pub(super) fn actual_only(&mut self, event: &Event, root: &Path<'_>, what: &str) {
        // A classifier that is not set, or not known, is told of by itself.
        let fits = matches!(event.classifier(), Classifier::Actual | Classifier::Unspecified);
        if !fits {
            let description = format!("must be CLASSIFIER_ACTUAL: {what} is no plan, estimate or request");
            self.report.add(&root.field("classifier"), "CLASSIFIER_NOT_ALLOWED", description);
        }
    }
}

const BODY_MISSING: &str =
    "must be set: movement, handling, clearance, hold, inspection, document, association, condition or emission";

/// When a version 7 UUID says that it was made (RFC 9562, section 5.7: milliseconds in the first 48 bits).
fn made_ns(uuid: Uuid) -> Option<i64> {
    let millis = (uuid.as_u128() >> 80) as i64;
    (uuid.get_version_num() == 7).then(|| millis.saturating_mul(1_000_000))
}

/// The name of a body's field.
pub(super) const fn body_field(body: &Body) -> &'static str {
    match body {
        Body::Movement(_) => "movement",
        Body::Handling(_) => "handling",
        Body::Clearance(_) => "clearance",
        Body::Hold(_) => "hold",
        Body::Inspection(_) => "inspection",
        Body::Document(_) => "document",
        Body::Association(_) => "association",
        Body::Condition(_) => "condition",
        Body::Emission(_) => "emission",
    }
}
