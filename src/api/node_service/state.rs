//! What the node is: `GetNode`. It never waits for anything but the file system.

use super::{NodeApi, timestamp};
use crate::{
    api::Refused,
    domain::{Position, Sequence},
    log::contract::EpochFacts,
    telemetry,
    views::ViewHandle,
    wire::proto,
};

impl NodeApi {
    pub(super) async fn node_state(&self) -> Result<proto::GetNodeResponse, Refused> {
        let parts = &self.0;
        let admin = parts.admin.clone();
        let disk = tokio::task::spawn_blocking(move || admin.disk()).await.map_err(|_| {
            Refused::new(tonic::Code::Internal, "DISK_STATE_FAILED", "the state of the disk cannot be read")
        })?;
        let head = *parts.log.tail().borrow();
        let epochs = parts.log.epochs();
        let (now, before) = epochs.split_first().map_or((None, &[][..]), |(now, before)| (Some(now), before));
        let position = |epoch: &EpochFacts| Position { epoch: epoch.epoch, sequence: head }.to_string();
        Ok(proto::GetNodeResponse {
            node_id: parts.identity.own_id().to_string(),
            version: telemetry::version().to_owned(),
            epoch: now.map(epoch_message),
            previous_epochs: before.iter().map(epoch_message).collect(),
            head_position: now.filter(|_| head != Sequence::ZERO).map_or_else(String::new, position),
            head_sequence: head.get(),
            first_sequence: parts.log.first_retained().get(),
            start_time: Some(timestamp(parts.start_time_ns)),
            disk: Some(proto::DiskState {
                path: parts.data_dir.display().to_string(),
                used_bytes: disk.used_bytes,
                free_bytes: disk.free_bytes,
                refuse_below_bytes: disk.refuse_below_bytes,
            }),
            views: parts.views.iter().map(|view| view_message(view, head)).collect(),
            connection_count: count(parts.identity.connections().live_count()),
            subscriber_count: count(parts.sessions.count()),
            policy_generation: parts.identity.access().policy().generation,
            restored: parts.federation.restored(),
        })
    }
}

fn epoch_message(epoch: &EpochFacts) -> proto::LogEpoch {
    proto::LogEpoch {
        epoch: epoch.epoch.to_string(),
        parent_epoch: epoch.parent.map_or_else(String::new, |parent| parent.to_string()),
        fork_sequence: epoch.fork.get(),
        open_time: Some(timestamp(epoch.open_time_ns)),
    }
}

fn view_message(view: &ViewHandle, head: Sequence) -> proto::ViewState {
    let progress = view.progress();
    proto::ViewState {
        view: view.name().to_owned(),
        applied_sequence: progress.applied.get(),
        lag_events: head.get().saturating_sub(progress.applied.get()),
        rebuilding: progress.rebuilding,
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
