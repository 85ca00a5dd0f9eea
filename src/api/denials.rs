//! Telling the audit log of a refusal for want of rights. It never decides one.

use crate::{
    api::Refused,
    clock::Clock,
    identity::{
        Caller,
        audit::{AuditLog, Denial},
    },
    telemetry,
};

/// Notes a refusal, where it is for want of rights.
pub(super) fn note(audit: &AuditLog, clock: &dyn Clock, caller: &Caller, method: &str, refused: &Refused) {
    if refused.code != tonic::Code::PermissionDenied {
        return;
    }
    metrics::counter!(telemetry::DENIALS_TOTAL, "reason" => refused.reason).increment(1);
    audit.denied(Denial {
        number: 0,
        time_ns: clock.now_ns(),
        participant: Some(caller.id.clone()),
        remote_address: Some(caller.remote_address),
        subject: method.to_owned(),
        reason: refused.reason.to_owned(),
        detail: refused.message.clone(),
    });
}
