//! `Publish` and `PublishStream`: messages in, the write door's answers out. The stream answers each request by the same rules as the unary
//! call. It never waits for one request before it takes the next.

use std::sync::{Arc, OnceLock};

use futures::{StreamExt, future, stream};
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Answers, EventServiceParts, caller};
use crate::{
    api::{Recorder, Refused, live_calls::LiveCall, recorded::timestamp},
    identity::Caller,
    publish::{EventOutcome, PublishError, RejectedEvent, pipeline},
    telemetry,
    wire::{
        PublishRequest,
        proto::{self, publish_stream_response},
    },
};

pub(super) async fn publish(
    parts: &EventServiceParts,
    request: Request<PublishRequest>,
) -> Result<Response<proto::PublishResponse>, Status> {
    let (caller, call) = (caller(&request)?, LiveCall::of(&request));
    let result = parts.door.publish(&caller, request.into_inner()).await;
    match answer(parts, (&caller, &call), "Publish", result) {
        Ok(response) => Ok(Response::new(response)),
        Err(refused) => Err(refused.into()),
    }
}

pub(super) fn publish_stream(
    parts: &Arc<EventServiceParts>,
    request: Request<Streaming<proto::PublishStreamRequest>>,
) -> Result<Response<Answers<proto::PublishStreamResponse>>, Status> {
    let (caller, call) = (caller(&request)?, LiveCall::of(&request));
    let open = parts.streams.open(&caller.id)?;
    let requests = request.into_inner().map(|message| {
        // A request without `publish` is one without events, and is refused as such.
        message.map(|message| (message.correlation_id, message.publish.unwrap_or_default()))
    });

    let ended: Arc<OnceLock<Refused>> = Arc::default();
    let until = {
        let (parts, caller, ended) = (Arc::clone(parts), caller.clone(), Arc::clone(&ended));
        async move {
            let reason = stream_end(&parts, &caller).await;
            // The stream asks once, when everything that was read is answered.
            let _ = ended.set(reason);
        }
    };
    let answers = pipeline(Arc::clone(&parts.door), caller.clone(), requests, until);
    let parts = Arc::clone(parts);
    let answers = answers.map(move |answer| {
        let _counts_while_open = &open;
        let answer = answer?;
        let said = match self::answer(&parts, (&caller, &call), "PublishStream", answer.result) {
            Ok(response) => publish_stream_response::Answer::Response(response),
            Err(refused) => publish_stream_response::Answer::Error(refused.into_rpc()),
        };
        Ok(proto::PublishStreamResponse { correlation_id: answer.correlation_id, answer: Some(said) })
    });
    let last_word = stream::once(async move { ended.get().cloned() })
        .filter_map(|ended| future::ready(ended.map(|refused| Err(Status::from(refused)))));
    Ok(Response::new(answers.chain(last_word).boxed()))
}

/// Resolves when a publishing stream is to read no more, with the reason.
async fn stream_end(parts: &EventServiceParts, caller: &Caller) -> Refused {
    tokio::select! {
        biased;
        () = parts.draining.cancelled() => Refused::stopping(),
        () = caller.closing.cancelled() => {
            let reason = caller.closing_reason.get().cloned().unwrap_or_else(|| "the connection is to end".into());
            Refused::new(Code::Unauthenticated, "CONNECTION_ENDING", reason)
        }
    }
}

/// What a request is told, and what the node counts of it.
fn answer(
    parts: &EventServiceParts,
    (caller, call): (&Caller, &LiveCall),
    method: &str,
    result: Result<Vec<EventOutcome>, PublishError>,
) -> Result<proto::PublishResponse, Refused> {
    match result {
        Ok(outcomes) => {
            let (mut fresh, mut again) = (0, 0);
            let results = outcomes.into_iter().enumerate().map(|(index, EventOutcome { event_id, fate })| match fate {
                Ok(appended) => {
                    *(if appended.duplicate { &mut again } else { &mut fresh }) += 1;
                    stored(&parts.recorder, event_id, appended)
                }
                Err(fault) => refused(parts, caller, method, RejectedEvent { index, event_id, fault }),
            });
            let response = proto::PublishResponse { results: results.collect() };
            // Once a request and not once an event: each looks into a table that all callers share.
            count_stored(parts, caller, fresh, again);
            call.carried((fresh + again) as usize);
            Ok(response)
        }
        Err(error) => {
            let refused = Refused::from(error);
            metrics::counter!(telemetry::EVENTS_REJECTED_TOTAL, "reason" => refused.reason).increment(1);
            parts.note_denial(caller, method, &refused);
            Err(refused)
        }
    }
}

fn count_stored(parts: &EventServiceParts, caller: &Caller, fresh: u64, again: u64) {
    for (counter, events) in [(telemetry::EVENTS_PUBLISHED_TOTAL, fresh), (telemetry::EVENTS_DUPLICATE_TOTAL, again)] {
        if events > 0 {
            metrics::counter!(counter).increment(events);
        }
    }
    if fresh + again > 0 {
        parts.published.note(&caller.id, fresh, again);
    }
}

/// One event whose neighbours are stored is told what a request would be told that held no other fault.
fn refused(parts: &EventServiceParts, caller: &Caller, method: &str, event: RejectedEvent) -> proto::PublishResult {
    let event_id = event.event_id.clone();
    let refused = Refused::from(PublishError::Rejected(vec![event]));
    metrics::counter!(telemetry::EVENTS_REJECTED_TOTAL, "reason" => refused.reason).increment(1);
    parts.note_denial(caller, method, &refused);
    proto::PublishResult { event_id, error: Some(refused.into_rpc()), ..proto::PublishResult::default() }
}

fn stored(recorder: &Recorder, event_id: String, appended: crate::log::Appended) -> proto::PublishResult {
    proto::PublishResult {
        event_id,
        position: recorder.position(appended.sequence).to_string(),
        duplicate: appended.duplicate,
        accepted_time: Some(timestamp(appended.accepted_time_ns)),
        error: None,
    }
}
