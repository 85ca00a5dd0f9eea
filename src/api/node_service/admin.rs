//! What an operator does to a node: reload, verify, rebuild, back up. Long work runs in named tasks beside the call, tells its progress
//! over a bounded channel, and ends when the caller goes away. It never changes an event.

use std::{fmt::Display, sync::Arc};

use futures::{StreamExt, stream::BoxStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tonic::{Code, Status};

use super::{NodeApi, page::invalid};
use crate::{
    api::Refused,
    domain::Sequence,
    federation::progress,
    identity::{Caller, reload::ReloadCause},
    log::{BackupPiece, LogAdmin, LogError, VerifyProgress},
    tasks::OnFailure,
    views::{RebuildProgress, RebuildRefused},
    wire::proto,
};

/// Pieces of a backup, or messages of progress, that wait for a slow caller: of a backup at most 4 MiB.
const WAITING_MAX: usize = 4;

impl NodeApi {
    pub(super) async fn reloaded(&self, caller: &Caller) -> Result<proto::ReloadResponse, Refused> {
        // The audit log has both outcomes: whoever reloads writes them.
        let cause = ReloadCause::Operator(caller.id.clone());
        let outcome = self.0.identity.reload(&cause).await.map_err(|faults| {
            let message = format!("everything stays as it was: {faults}");
            Refused::new(Code::FailedPrecondition, "RELOAD_REFUSED", message)
        })?;
        Ok(proto::ReloadResponse {
            policy_generation: outcome.policy_generation,
            changes: outcome.changes,
            closed_connection_count: u32::try_from(outcome.closed_connection_count).unwrap_or(u32::MAX),
        })
    }

    pub(super) fn verification(
        &self,
        caller: &Caller,
        request: proto::VerifyLogRequest,
    ) -> Result<BoxStream<'static, Result<proto::VerifyLogResponse, Status>>, Refused> {
        let (from, head) = (Sequence(request.from_sequence.max(1)), *self.0.log.tail().borrow());
        // Else "whole" would be said of a log of which nothing was read.
        if Sequence(1).max(head) < from {
            let description = format!("must be at most the last sequence, {head}, not {from}");
            return Err(invalid("from_sequence", "OUT_OF_RANGE", description));
        }
        self.note_change(caller, "VerifyLog", &format!("from sequence {from}"));
        let message = |progress: VerifyProgress| proto::VerifyLogResponse {
            verified_sequence: progress.verified.get(),
            head_sequence: progress.head.get(),
            done: progress.done,
            problems: progress.problems,
        };
        Ok(self.beside("verify log", move |admin, told| {
            admin.verify(from, &mut |progress| told.blocking_send(Ok(message(progress))).is_ok())
        }))
    }

    pub(super) fn backup(&self, caller: &Caller) -> BoxStream<'static, Result<proto::CreateBackupResponse, Status>> {
        self.note_change(caller, "CreateBackup", "a copy of the whole log is handed out");
        let message = |piece: BackupPiece| proto::CreateBackupResponse {
            data: piece.data,
            sequence: piece.through.get(),
            head_sequence: piece.head.get(),
        };
        let table = self.0.federation.table().clone();
        self.beside("create backup", move |admin, told| {
            let peers =
                progress::companion(&table.all_progress()).map_err(|error| LogError::Damaged(error.with_cause()))?;
            admin.backup(&[peers], &mut |piece| told.blocking_send(Ok(message(piece))).is_ok())
        })
    }

    pub(super) fn rebuild(
        &self,
        caller: &Caller,
        request: &proto::RebuildViewRequest,
    ) -> Result<BoxStream<'static, Result<proto::RebuildViewResponse, Status>>, Refused> {
        let view = self.0.views.iter().find(|view| view.name() == request.view).ok_or_else(|| {
            let names: Vec<_> = self.0.views.iter().map(|view| format!("\"{}\"", view.name())).collect();
            invalid("view", "VIEW_UNKNOWN", format!("must be one of {}", names.join(", ")))
        })?;
        let progress = view.rebuild().map_err(|refused| match refused {
            RebuildRefused::UnderWay => {
                Refused::new(Code::FailedPrecondition, "REBUILD_UNDER_WAY", "the view is being rebuilt already")
            }
            RebuildRefused::Stopped => Refused::new(Code::Unavailable, "VIEW_STOPPED", "the view has stopped"),
        })?;
        self.note_change(caller, "RebuildView", &request.view);
        // The last progress says that it is done or was given up, and ends the stream.
        let messages = WatchStream::new(progress).scan(false, |ended, now: RebuildProgress| {
            let go_on = !std::mem::replace(ended, now.done || now.failure.is_some());
            std::future::ready(go_on.then(|| rebuild_message(now)))
        });
        Ok(messages.boxed())
    }

    /// Runs blocking work in a task of its own; what it tells is the stream.
    fn beside<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(Arc<dyn LogAdmin>, &mpsc::Sender<Result<T, Status>>) -> Result<(), LogError> + Send + 'static,
    ) -> BoxStream<'static, Result<T, Status>> {
        let (told, messages) = mpsc::channel(WAITING_MAX);
        let admin = self.0.admin.clone();
        self.0.tasks.spawn(name, OnFailure::Log, async move {
            let failed = told.clone();
            let outcome = tokio::task::spawn_blocking(move || work(admin, &told)).await;
            let refused = match outcome {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => Refused::from(error),
                Err(panic) => return Err(tell_panic(&failed, &panic).await),
            };
            // Nobody listens where the caller went away.
            let _ = failed.send(Err(refused.into())).await;
            Ok::<(), String>(())
        });
        ReceiverStream::new(messages).boxed()
    }
}

async fn tell_panic<T>(told: &mpsc::Sender<Result<T, Status>>, panic: &impl Display) -> String {
    let _ = told.send(Err(Status::internal("the node failed on this call; its log has the reason"))).await;
    panic.to_string()
}

fn rebuild_message(progress: RebuildProgress) -> Result<proto::RebuildViewResponse, Status> {
    match progress.failure {
        Some(reason) => {
            let message = format!("the rebuild was given up, the view answers as before: {reason}");
            Err(Refused::new(Code::Unavailable, "REBUILD_FAILED", message).into())
        }
        None => Ok(proto::RebuildViewResponse {
            applied_sequence: progress.applied.get(),
            head_sequence: progress.head.get(),
            done: progress.done,
        }),
    }
}
