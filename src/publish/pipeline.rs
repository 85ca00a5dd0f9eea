//! A publishing stream: requests are submitted as they are read, and answered in order as they become durable, so that many small
//! requests in flight share the log's commits. It never answers out of order, and a refused request never ends it.

use std::{fmt, future::Future, sync::Arc};

use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Door, EventOutcome, PublishError};
use crate::{identity::Caller, wire::PublishRequest};

/// At most so many requests of one stream are unanswered; beyond, nothing more is read.
pub const PIPELINED_REQUESTS_MAX: usize = 1_024;

/// At most about so many bytes of events of one stream are unanswered: two full requests, and a thousand of usual size. Beyond, nothing
/// more is read.
pub const PIPELINED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The answer to one request.
#[derive(Debug)]
pub struct Answer {
    /// The number that the request bore.
    pub correlation_id: u64,
    /// What became of its events, or why nothing of it is stored.
    pub result: Result<Vec<EventOutcome>, PublishError>,
}

/// Answers a stream of requests in order. Ends when the requests end or fail, or when `until` resolves: then nothing more is read, and
/// what was read is answered. Dropping it cancels no append.
///
/// `requests` gives (correlation id, request) until its first error, which comes out after the answers to everything before it.
pub fn pipeline<E: fmt::Debug + Send + 'static>(
    door: Arc<Door>,
    caller: Caller,
    requests: impl Stream<Item = Result<(u64, PublishRequest), E>> + Send + 'static,
    until: impl Future<Output = ()> + Send + 'static,
) -> impl Stream<Item = Result<Answer, E>> + Send + 'static {
    let rights = door.rights(&caller);
    let reader = Reader { door, caller, rights, bytes: Arc::new(Semaphore::new(PIPELINED_BYTES_MAX)) };
    let requests = requests.take_until(until);
    let submitted = futures::stream::unfold((reader, Box::pin(requests)), |(mut reader, mut requests)| async move {
        let request = requests.next().await?;
        let pending = reader.submit(request).await;
        Some((pending, (reader, requests)))
    });
    submitted.buffered(PIPELINED_REQUESTS_MAX)
}

struct Reader {
    door: Arc<Door>,
    caller: Caller,
    rights: crate::identity::Rights,
    bytes: Arc<Semaphore>,
}

impl Reader {
    /// Submits one request and returns the wait for its answer. Waits while too many bytes are unanswered.
    async fn submit<E: Send + 'static>(
        &mut self,
        request: Result<(u64, PublishRequest), E>,
    ) -> impl Future<Output = Result<Answer, E>> + Send + 'static + use<E> {
        let submitted = match request {
            Err(error) => Err(error),
            Ok((correlation_id, request)) => {
                let room = self.room_for(&request).await;
                if !self.door.is_current(&self.rights) {
                    self.rights = self.door.rights(&self.caller);
                }
                let submitted = self.door.submit(&self.caller, &self.rights, request).await;
                Ok((correlation_id, submitted, room))
            }
        };
        async move {
            let (correlation_id, submitted, room) = submitted?;
            let result = match submitted {
                Ok(submitted) => submitted.outcome().await,
                Err(error) => Err(error),
            };
            drop(room);
            Ok(Answer { correlation_id, result })
        }
    }

    async fn room_for(&self, request: &PublishRequest) -> OwnedSemaphorePermit {
        let bytes: usize = request.events.iter().map(|signed| signed.event.len()).sum();
        // One request alone always passes, whatever its size: what it may be is limited elsewhere.
        let permits = u32::try_from(bytes.clamp(1, PIPELINED_BYTES_MAX)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.bytes).acquire_many_owned(permits).await;
        room.expect("the semaphore is never closed")
    }
}
