//! `Consume`: what a consumer says goes to her subscription, and what that says goes to her. It never waits for one settlement before it
//! takes the next.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesOrdered};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Request, Response, Status, Streaming};

use super::{SubscriptionServiceParts, asked, told};
use crate::{
    api::{
        Refused,
        events::{Answers, caller},
        live_calls::{LiveCall, Reader},
    },
    identity::Caller,
    subscribe::durable::{ConsumeEnd, ConsumeMessage, Consumption, Leaving},
    tasks::OnFailure,
    wire::{
        proto::{self, consume_request::Message},
        violations::Violation,
    },
};

/// The API promises that a consumer of whom nothing is heard for so long is taken for gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How many events a consumer may have at once where she says nothing.
const CREDIT_DEFAULT: u32 = 100;
/// Settlements of one consumer that are on their way to the disk: beyond, no more are read.
const SETTLING_MAX: usize = 64;
/// With a connection both directions of a stream go; within so long after one, the other is seen to be gone.
const GONE_WITHIN: Duration = Duration::from_millis(100);
/// The machine's clock may be set while the certificate's end is waited for: it is looked at again at least so often.
const CLOCK_RECHECK: Duration = Duration::from_secs(30);

pub(super) async fn consume(
    parts: &Arc<SubscriptionServiceParts>,
    request: Request<Streaming<proto::ConsumeRequest>>,
) -> Result<Response<Answers<proto::ConsumeResponse>>, Status> {
    let (caller, call) = (caller(&request)?, LiveCall::of(&request));
    let open = parts.streams.open(&caller.id)?;
    let mut requests = request.into_inner();
    let first = tokio::select! {
        first = timeout(SILENCE_MAX, requests.message()) => first.map_err(|_| Refused::from(ConsumeEnd::Silent))??,
        () = parts.draining.cancelled() => return Err(Refused::stopping().into()),
    };
    let Some(Message::Start(start)) = first.and_then(|first| first.message) else {
        let violation = asked::violation("start", "REQUIRED", "must be the first request of the stream");
        return Err(Refused::invalid(vec![violation]).into());
    };
    let credit = if start.credit == 0 { CREDIT_DEFAULT } else { start.credit };
    let credit = asked::credit(credit, "start.credit").map_err(Refused::invalid)?;
    let consuming = parts.durable.consume(&caller.id, &start.name, credit);
    let (consumption, messages) = consuming.map_err(|error| parts.refuse(&caller, "Consume", error.into()))?;
    call.is_read_by(Reader::Durable(consumption.standpoint()));
    let hearing = Hearing { consumption, requests, caller, parts: Arc::clone(parts) };
    parts.tasks.spawn("consumer", OnFailure::Log, async move {
        hearing.run().await;
        Ok::<(), Infallible>(())
    });
    let (recorder, origins) = (parts.recorder.clone(), parts.origins.clone());
    let answers = messages.map(move |message| {
        let _counts_while_open = &open;
        let message = message.map_err(Refused::from)?;
        if let ConsumeMessage::Deliveries(deliveries) = &message {
            call.carried(deliveries.len());
        }
        Ok(told::message(&recorder, &origins, message).map_err(Refused::from)?)
    });
    Ok(Response::new(answers.boxed()))
}

/// Hears one consumer.
struct Hearing {
    consumption: Consumption,
    requests: Streaming<proto::ConsumeRequest>,
    caller: Caller,
    parts: Arc<SubscriptionServiceParts>,
}

type Settling = FuturesOrdered<BoxFuture<'static, Result<(), ConsumeEnd>>>;

impl Hearing {
    async fn run(mut self) {
        let mut settling = Settling::new();
        let (leaving, reason) = self.hear(&mut settling).await;
        if reason == ConsumeEnd::Left {
            // Whoever leaves in order still gets her answers.
            while let Some(Ok(())) = settling.next().await {}
        }
        self.consumption.leave(leaving, reason).await;
    }

    /// Hears her until she leaves or is to be sent away.
    async fn hear(&mut self, settling: &mut Settling) -> (Leaving, ConsumeEnd) {
        let mut silent_at = Instant::now() + SILENCE_MAX;
        loop {
            let certificate_ns = self.caller.certificate_not_after_ns.saturating_sub(self.parts.clock.now_ns());
            if certificate_ns <= 0 {
                return (Leaving::InOrder, ConsumeEnd::CertificateEnded);
            }
            let until_certificate = Duration::from_nanos(certificate_ns.unsigned_abs()).min(CLOCK_RECHECK);
            let heard = tokio::select! {
                biased;
                // What ended it stands there already.
                () = self.consumption.ended() => return (Leaving::InOrder, ConsumeEnd::Broken),
                () = self.caller.closing.cancelled() => {
                    let reason = self.caller.closing_reason.get().cloned();
                    let reason = reason.unwrap_or_else(|| "it is to end".to_owned());
                    return (Leaving::InOrder, ConsumeEnd::ConnectionClosing(reason));
                }
                Some(answered) = settling.next(), if !settling.is_empty() => match answered {
                    Ok(()) => continue,
                    Err(end) => return (Leaving::Broken, end),
                },
                heard = self.requests.message(), if settling.len() < SETTLING_MAX => heard,
                () = self.consumption.reader_gone() => return (Leaving::Broken, ConsumeEnd::Broken),
                () = sleep_until(silent_at) => return (Leaving::Broken, ConsumeEnd::Silent),
                () = tokio::time::sleep(until_certificate) => continue,
            };
            silent_at = Instant::now() + SILENCE_MAX;
            match heard {
                // Where a ping is never answered the transport closes the connection, and the requests end as if by the caller's wish. But
                // whoever leaves in order still reads her answers.
                Ok(None) => match timeout(GONE_WITHIN, self.consumption.reader_gone()).await {
                    Ok(()) => return (Leaving::Broken, ConsumeEnd::Broken),
                    Err(_) => return (Leaving::InOrder, ConsumeEnd::Left),
                },
                Err(status) if status.code() == Code::InvalidArgument => {
                    let violation = asked::violation("", "MESSAGE_MALFORMED", status.message());
                    return (Leaving::Broken, ConsumeEnd::Malformed(vec![violation]));
                }
                Err(_) => return (Leaving::Broken, ConsumeEnd::Broken),
                Ok(Some(request)) => {
                    if let Err(end) = self.said(request, settling) {
                        return (Leaving::Broken, end);
                    }
                }
            }
        }
    }

    fn said(&self, request: proto::ConsumeRequest, settling: &mut Settling) -> Result<(), ConsumeEnd> {
        match request.message {
            Some(Message::Credit(credit)) => {
                let credit = asked::credit(credit.credit, "credit.credit").map_err(ConsumeEnd::Malformed)?;
                self.consumption.set_credit(credit);
            }
            Some(Message::Settlement(settlement)) => {
                let (deliveries, verb) = asked::settlement(&settlement).map_err(ConsumeEnd::Malformed)?;
                let settled = self.consumption.settle(settlement.correlation_id, &deliveries, &verb)?;
                settling.push_back(Box::pin(settled.answered()));
            }
            Some(Message::Heartbeat(_)) => {}
            Some(Message::Start(_)) => return Err(malformed("start", "may only be the first request of the stream")),
            None => return Err(malformed("heartbeat", "or credit or settlement must be set")),
        }
        Ok(())
    }
}

fn malformed(field: &str, description: &str) -> ConsumeEnd {
    let violation: Violation = asked::violation(field, "REQUEST_OUT_OF_PLACE", description);
    ConsumeEnd::Malformed(vec![violation])
}
