//! `Subscribe`: a session's messages as the API says them. It never holds back what the session gives out, nor adds to it.

use std::sync::Arc;

use futures::StreamExt;
use tonic::{Request, Response, Status};

use super::{Answers, EventServiceParts, caller};
use crate::{
    api::{
        Origins, Recorder, Refused,
        live_calls::{LiveCall, Reader},
        recorded::{time_ns, timestamp},
        stream_quota::OpenStream,
    },
    domain::{Position, header::SubjectTerm},
    subscribe::{Asked, SessionMessage, Start},
    telemetry,
    wire::{
        filter,
        proto::{self, subscribe_request, subscribe_response::Message},
        violations::Violation,
    },
};

pub(super) async fn subscribe(
    parts: &Arc<EventServiceParts>,
    request: Request<proto::SubscribeRequest>,
) -> Result<Response<Answers<proto::SubscribeResponse>>, Status> {
    let (caller, call) = (caller(&request)?, LiveCall::of(&request));
    let open = parts.streams.open(&caller.id)?;
    let request = request.into_inner();
    let asked = asked(&request)?;
    let session = match parts.subscriptions.open(caller.clone(), asked).await {
        Ok(session) => session,
        Err(error) => {
            let refused = Refused::from(error);
            parts.note_denial(&caller, "Subscribe", &refused);
            return Err(refused.into());
        }
    };
    call.is_read_by(Reader::Live(Arc::clone(session.info())));
    let live = Live::begin(open);
    let (recorder, origins) = (parts.recorder.clone(), parts.queries.freshness().clone());
    let messages = session.map(move |message| {
        let _counts_while_open = &live;
        let message = message.map_err(Refused::from)?;
        if let SessionMessage::Events(records) = &message {
            call.carried(records.len());
        }
        Ok(proto::SubscribeResponse { message: Some(said(&recorder, &origins, message)) })
    });
    Ok(Response::new(messages.boxed()))
}

/// Counts a live stream while it lasts.
pub(in crate::api) struct Live {
    _open: OpenStream,
}

impl Live {
    pub(in crate::api) fn begin(open: OpenStream) -> Self {
        metrics::gauge!(telemetry::SUBSCRIBERS).increment(1.0);
        Self { _open: open }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        metrics::gauge!(telemetry::SUBSCRIBERS).decrement(1.0);
    }
}

/// Reads a request, with every fault of it at once.
fn asked(request: &proto::SubscribeRequest) -> Result<Asked, Refused> {
    let start = start(request.start.as_ref());
    let filters = filter::compile(&request.filters, "filters");
    match (start, filters) {
        (Ok(start), Ok(filters)) => Ok(Asked { start, filters }),
        (start, filters) => {
            let violations = start.err().into_iter().chain(filters.err().unwrap_or_default());
            Err(Refused::invalid(violations.collect()))
        }
    }
}

/// Where to begin.
pub(in crate::api) fn start(start: Option<&subscribe_request::Start>) -> Result<Start, Violation> {
    let wrong = |field: &str, reason, description: &str| {
        Err(Violation { field: field.into(), reason, description: description.into() })
    };
    match start {
        None => Ok(Start::Latest),
        Some(subscribe_request::Start::StartAt(at)) => match proto::StartAt::try_from(*at) {
            Ok(proto::StartAt::Unspecified | proto::StartAt::Latest) => Ok(Start::Latest),
            Ok(proto::StartAt::Earliest) => Ok(Start::Earliest),
            Err(_) => wrong("start_at", "ENUM_UNKNOWN", "must be START_AT_EARLIEST or START_AT_LATEST"),
        },
        Some(subscribe_request::Start::AfterPosition(text)) => match text.parse::<Position>() {
            Ok(position) => Ok(Start::After(position)),
            Err(malformed) => wrong("after_position", "POSITION_MALFORMED", &malformed.to_string()),
        },
        Some(subscribe_request::Start::SinceTime(time)) => match time_ns(time) {
            Some(time_ns) => Ok(Start::Since(time_ns)),
            None => wrong("since_time", "TIME_OUT_OF_RANGE", "must be a time between the years 1678 and 2261"),
        },
    }
}

/// A session's message as the API says it.
pub(in crate::api) fn said(recorder: &Recorder, origins: &Origins, message: SessionMessage) -> Message {
    match message {
        SessionMessage::Started { after, narrowing } => Message::Started(proto::SubscriptionStarted {
            after_position: after.to_string(),
            narrowed_filters: narrowing.narrowed_filters,
            narrowed: narrowing.narrowed,
            grant_ids: narrowing.grant_ids,
        }),
        SessionMessage::Events(records) => {
            metrics::counter!(telemetry::EVENTS_DELIVERED_TOTAL).increment(records.len() as u64);
            Message::Events(recorder.batch(&records))
        }
        SessionMessage::Progress { position, time_ns } => Message::Progress(progress(origins, position, time_ns)),
        SessionMessage::CaughtUp { position } => Message::CaughtUp(caught_up(origins, position)),
        SessionMessage::FellBehind { position, lag_events } => {
            Message::FellBehind(proto::FellBehind { position: position.to_string(), lag_events })
        }
        SessionMessage::VisibilityWidened { subject, position, incomplete } => {
            Message::VisibilityWidened(proto::VisibilityWidened { incomplete, ..widened(subject, position) })
        }
    }
}

/// The mark of how far a reader is.
pub(in crate::api) fn progress(origins: &Origins, position: Position, time_ns: i64) -> proto::Progress {
    let position = position.to_string();
    proto::Progress { origins: origins.as_of(position.clone()), position, time: Some(timestamp(time_ns)) }
}

/// The mark of a reader who has everything up to a position.
pub(in crate::api) fn caught_up(origins: &Origins, position: Position) -> proto::CaughtUp {
    let position = position.to_string();
    proto::CaughtUp { origins: origins.as_of(position.clone()), position }
}

/// What a reader became a party of, and by which association.
pub(in crate::api) fn widened(subject: SubjectTerm, position: Position) -> proto::VisibilityWidened {
    proto::VisibilityWidened { subject: Some(spoken(subject)), position: position.to_string(), incomplete: false }
}

fn spoken(subject: SubjectTerm) -> proto::Subject {
    proto::Subject {
        kind: subject.kind.into(),
        value: subject.value,
        issuer: subject.issuer,
        date: subject.date,
        role: subject.role.into(),
    }
}
