//! `WatchClearances`: a session's events, and of each what it changed. All changes of one event go out in one message, whose position is
//! the event's: so whoever goes on from there misses none and gets none twice. It never hands out an event that the caller may not read.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use tokio::time::Instant;
use tonic::Status;

use super::ClearanceServiceParts;
use crate::{
    api::{
        Origins, Recorder, Refused,
        events::{
            Answers,
            subscribing::{Live, progress, said, start},
        },
        live_calls::{LiveCall, Reader},
        queries::{QueryError, Watched, Watching, cleared_subject},
    },
    clock::Clock,
    domain::{Filter, Position, Sequence, filter::FilterSpec},
    identity::Caller,
    log::Record,
    subscribe::{Asked, SessionMessage, SessionStream, Start},
    wire::{
        proto::{
            WatchClearancesRequest, WatchClearancesResponse, subscribe_request, subscribe_response,
            watch_clearances_request, watch_clearances_response::Message,
        },
        violations::Violation,
    },
};

/// A watch names so many subjects at the most: how each stood last is kept while it lasts.
const SUBJECTS_MAX: usize = 64;
/// While a long batch changes nothing the reader is told so often how far it is. The API promises 10 s.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// So often in a row the search view may be found behind an event (each time after two seconds) before the watch ends.
const BEHIND_MAX: u32 = 15;

/// Opens a watch.
pub(super) async fn watch(
    parts: &ClearanceServiceParts,
    (caller, call): (&Caller, Arc<LiveCall>),
    request: WatchClearancesRequest,
) -> Result<Answers<WatchClearancesResponse>, Refused> {
    let open = parts.streams.open(&caller.id)?;
    let (start, watched) = asked(&request)?;
    let spec =
        FilterSpec { types: ["clearance", "hold", "association"].map(str::to_owned).to_vec(), ..FilterSpec::default() };
    let filter = Filter::compile(&spec, false).expect("these are bodies of the model");
    let asked = Asked { start, filters: vec![filter] };
    // The state is one for all, so every event is looked at; what the caller is shown of it is judged by the fold.
    let session = parts.subscriptions.open_unjudged(caller.clone(), asked).await?;
    call.is_read_by(Reader::Live(Arc::clone(session.info())));
    let watch = Watch {
        session,
        call,
        watching: Watching::new(Arc::clone(&parts.queries), caller.clone(), watched),
        recorder: parts.recorder.clone(),
        origins: parts.queries.freshness().clone(),
        clock: Arc::clone(&parts.clock),
        batch: VecDeque::new(),
        behind: 0,
        told_at: Instant::now(),
        ended: false,
        _live: Live::begin(open),
    };
    let messages = stream::unfold(watch, |mut watch| async move {
        let next = watch.next().await?;
        Some((next.map(|message| WatchClearancesResponse { message: Some(message) }), watch))
    });
    Ok(messages.boxed())
}

/// One watch.
struct Watch {
    session: SessionStream,
    call: Arc<LiveCall>,
    watching: Watching,
    recorder: Recorder,
    origins: Origins,
    clock: Arc<dyn Clock>,
    /// Events that the session has handed out and that were not looked at yet.
    batch: VecDeque<Record>,
    behind: u32,
    told_at: Instant,
    ended: bool,
    /// Counts while the watch lasts.
    _live: Live,
}

impl Watch {
    async fn next(&mut self) -> Option<Result<Message, Status>> {
        let next = self.step().await;
        self.told_at = Instant::now();
        self.ended |= next.as_ref().is_none_or(Result::is_err);
        next
    }

    async fn step(&mut self) -> Option<Result<Message, Status>> {
        while !self.ended {
            if let Some(record) = self.batch.pop_front() {
                if let Some(told) = self.look(record).await {
                    return Some(told);
                }
                continue;
            }
            match self.session.next().await? {
                Ok(SessionMessage::Events(records)) => self.batch = records.into(),
                Ok(other) => {
                    if let Some(message) = own_words(said(&self.recorder, &self.origins, other)) {
                        return Some(Ok(message));
                    }
                }
                Err(end) => return Some(Err(Refused::from(end).into())),
            }
        }
        None
    }

    /// Looks at one event; answers what is to be told.
    async fn look(&mut self, record: Record) -> Option<Result<Message, Status>> {
        let sequence = record.sequence;
        match self.watching.look(&record).await {
            Ok(changes) => {
                self.behind = 0;
                self.call.carried(usize::from(changes.as_ref().is_some_and(|changes| changes.event.is_some())));
                let late = PROGRESS_INTERVAL <= self.told_at.elapsed();
                changes
                    .map(|changes| Ok(Message::Changes(changes)))
                    .or_else(|| late.then(|| Ok(self.progress(sequence))))
            }
            Err(QueryError::Behind(_)) if self.behind < BEHIND_MAX => {
                self.behind += 1;
                self.batch.push_front(record);
                Some(Ok(self.progress(before(sequence))))
            }
            Err(error) => {
                let resume = self.position(before(sequence)).to_string();
                Some(Err(Refused::from(error).with("resume_position", resume).into()))
            }
        }
    }

    fn progress(&self, through: Sequence) -> Message {
        Message::Progress(progress(&self.origins, self.position(through), self.clock.now_ns()))
    }

    fn position(&self, sequence: Sequence) -> Position {
        self.recorder.position(sequence)
    }
}

/// A message of a session as a watch says it.
fn own_words(message: subscribe_response::Message) -> Option<Message> {
    match message {
        subscribe_response::Message::Started(started) => Some(Message::Started(started)),
        subscribe_response::Message::Progress(progress) => Some(Message::Progress(progress)),
        subscribe_response::Message::CaughtUp(caught_up) => Some(Message::CaughtUp(caught_up)),
        subscribe_response::Message::FellBehind(behind) => Some(Message::FellBehind(behind)),
        subscribe_response::Message::VisibilityWidened(widened) => Some(Message::VisibilityWidened(widened)),
        // Events are looked at, and never handed out as they are.
        subscribe_response::Message::Events(_) => None,
    }
}

/// Reads a request, with every fault of it at once.
fn asked(request: &WatchClearancesRequest) -> Result<(Start, Watched), Refused> {
    let mut violations = Vec::new();
    let at = request.start.as_ref().map(|start| match start {
        watch_clearances_request::Start::StartAt(at) => subscribe_request::Start::StartAt(*at),
        watch_clearances_request::Start::AfterPosition(position) => {
            subscribe_request::Start::AfterPosition(position.clone())
        }
        watch_clearances_request::Start::SinceTime(time) => subscribe_request::Start::SinceTime(*time),
    });
    let at = start(at.as_ref()).map_err(|violation| violations.push(violation));
    if request.subjects.len() > SUBJECTS_MAX {
        let description = format!("must be at most {SUBJECTS_MAX} subjects, not {}", request.subjects.len());
        violations.push(Violation { field: "subjects".into(), reason: "TOO_MANY_VALUES", description });
    }
    let mut subjects = Vec::new();
    for (index, subject) in request.subjects.iter().take(SUBJECTS_MAX).enumerate() {
        match cleared_subject(Some(subject)) {
            Ok(subject) => subjects.push(subject),
            Err(QueryError::Invalid(found)) => violations.extend(found.into_iter().map(|violation| Violation {
                field: violation.field.replacen("subject", &format!("subjects[{index}]"), 1),
                ..violation
            })),
            Err(error) => return Err(error.into()),
        }
    }
    match at {
        Ok(at) if violations.is_empty() => {
            Ok((at, if subjects.is_empty() { Watched::Each } else { Watched::These(subjects) }))
        }
        Ok(_) | Err(()) => Err(Refused::invalid(violations)),
    }
}

fn before(sequence: Sequence) -> Sequence {
    Sequence(sequence.get().saturating_sub(1))
}
