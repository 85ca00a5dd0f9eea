//! Appends what a peer brought, however long the log takes: an event that passed the door is waited for, never passed over.

use std::time::Duration;

use crate::{
    domain::{Sequence, SpiffeId},
    federation::{
        FederationParts,
        ended::Ended,
        table::{Direction, LinkState},
    },
    log::{AppendBatch, AppendError, AppendMode, NewEvent, Verdict},
    wire::proto::ReplicationEndReason,
};

/// While the log takes nothing for the moment, it is asked again after this time.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// While the disk is full, it is asked again after this time.
const DISK_RETRY_PAUSE: Duration = Duration::from_secs(5);

/// What became of the events of a batch.
pub(super) struct Appended {
    /// How many were known before.
    pub(super) duplicates: u64,
    /// Where those of them stand that are this node's own.
    pub(super) own: Vec<Sequence>,
    /// What the log refuses: the sequence at the source, and why for programs and people.
    pub(super) refused: Vec<(u64, (&'static str, String))>,
}

/// Appends events that stand at these sequences of the source's log.
pub(super) async fn append(
    parts: &FederationParts,
    peer: &SpiffeId,
    sequences: &[u64],
    events: Vec<NewEvent>,
) -> Result<Appended, Ended> {
    let (mut duplicates, mut own) = (0, Vec::new());
    let mut refused = Vec::new();
    // Parts that are too large together are appended one by one.
    let mut waiting: Vec<(&[u64], Vec<NewEvent>)> = vec![(sequences, events)];
    while let Some((sequences, events)) = waiting.pop() {
        if events.is_empty() {
            continue;
        }
        let appending = AppendBatch { events: events.clone(), mode: AppendMode::Each };
        match parts.log.append(appending).await {
            Ok(verdicts) => {
                for ((sequence, event), verdict) in sequences.iter().zip(&events).zip(verdicts) {
                    match verdict {
                        Verdict::Stored(appended) if appended.duplicate => {
                            duplicates += 1;
                            let is_own = event.origin.as_ref().is_some_and(|origin| origin.node == parts.node);
                            own.extend(is_own.then_some(appended.sequence));
                        }
                        Verdict::Stored(_) => {}
                        Verdict::Refused(refusal) => {
                            refused.push((*sequence, ("REFUSED_BY_LOG", refusal.to_string())));
                        }
                        Verdict::Withheld => unreachable!("each event stands for itself"),
                    }
                }
            }
            Err(AppendError::BatchTooLarge { bytes, bytes_max }) if events.len() == 1 => {
                let detail = format!("takes {bytes} bytes with its routing terms, above the limit of {bytes_max}");
                refused.push((sequences[0], ("EVENT_TOO_LARGE", detail)));
            }
            Err(AppendError::BatchTooLarge { .. }) => {
                let (left, right) = sequences.split_at(sequences.len() / 2);
                let mut first = events;
                let second = first.split_off(left.len());
                // What is popped first goes in first.
                waiting.push((right, second));
                waiting.push((left, first));
            }
            Err(AppendError::Overloaded) => {
                tokio::time::sleep(RETRY_PAUSE).await;
                waiting.push((sequences, events));
            }
            Err(full @ AppendError::DiskFull { .. }) => {
                let detail = format!("waits with what it has received: {full}");
                parts.table.set_state(peer, Direction::Inbound, LinkState::Streaming, &detail);
                tokio::time::sleep(DISK_RETRY_PAUSE).await;
                waiting.push((sequences, events));
            }
            Err(AppendError::Closing) => return Err(Ended::stopping("the log is closing")),
            Err(AppendError::Storage(why)) => {
                tracing::error!(why, "what a peer brought may not be stored");
                return Err(Ended::Here(ReplicationEndReason::Storage, "storage failed".to_owned()));
            }
        }
    }
    Ok(Appended { duplicates, own, refused })
}
