//! Which action each method needs: the first of two questions at every door. What it answers is whether a caller may ask at all; which
//! events she then publishes or sees is decided for each event by her grants. A method that is not in the table is refused.

use super::{Action, Peers, Policy};
use crate::domain::SpiffeId;

/// What a method asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// A certificate that was believed, and no grant.
    Identity,
    /// A grant in force for one of these actions. Never enough for a node of the peers file, whatever its name's grants say: a node asks in
    /// nobody's name.
    AnyOf(&'static [Action]),
    /// To be a node of the peers file.
    Peer,
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallRefusal {
    /// No such method is served, or nobody has said what it needs.
    UnknownMethod,
    /// No grant in force allows the caller any of these actions; the first is the one to ask for.
    NotGranted(&'static [Action]),
    /// Only nodes of the peers file may call it.
    NotAPeer,
    /// The caller is a node of the peers file, which may only replicate.
    OnlyReplicates,
}

const PUBLISH: Needs = Needs::AnyOf(&[Action::Publish]);
/// Who may only publish reads her own events.
const READ: Needs = Needs::AnyOf(&[Action::Read, Action::Publish]);
/// One's own durable subscriptions; another's are for operators, which the call decides.
const READ_OR_OPERATE: Needs = Needs::AnyOf(&[Action::Read, Action::Publish, Action::Operate]);
const OPERATE: Needs = Needs::AnyOf(&[Action::Operate]);
const OPERATE_OR_AUDIT: Needs = Needs::AnyOf(&[Action::Operate, Action::Audit]);
/// The operator, or the event's publisher: which of them she is, the call decides.
const EXPLAIN: Needs = Needs::AnyOf(&[Action::Operate, Action::Publish]);

/// Every method that is served, with what it needs. A test holds it against the descriptors.
pub const TABLE: &[(&str, Needs)] = &[
    ("/tradelane.v1.EventService/Publish", PUBLISH),
    ("/tradelane.v1.EventService/PublishStream", PUBLISH),
    ("/tradelane.v1.EventService/Subscribe", READ),
    ("/tradelane.v1.EventService/GetEvent", READ),
    ("/tradelane.v1.EventService/ListEvents", READ),
    ("/tradelane.v1.EventService/GetTimeline", READ),
    ("/tradelane.v1.EventService/GetPortCall", READ),
    ("/tradelane.v1.EventService/ExplainEvent", EXPLAIN),
    ("/tradelane.v1.ClearanceService/GetClearance", READ),
    ("/tradelane.v1.ClearanceService/ListClearances", READ),
    ("/tradelane.v1.ClearanceService/WatchClearances", READ),
    ("/tradelane.v1.SubscriptionService/CreateSubscription", READ),
    ("/tradelane.v1.SubscriptionService/GetSubscription", READ_OR_OPERATE),
    ("/tradelane.v1.SubscriptionService/ListSubscriptions", READ),
    ("/tradelane.v1.SubscriptionService/UpdateSubscription", READ),
    ("/tradelane.v1.SubscriptionService/DeleteSubscription", READ_OR_OPERATE),
    ("/tradelane.v1.SubscriptionService/Consume", READ),
    ("/tradelane.v1.SubscriptionService/SeekSubscription", READ),
    ("/tradelane.v1.SubscriptionService/PauseSubscription", READ),
    ("/tradelane.v1.SubscriptionService/ResumeSubscription", READ),
    ("/tradelane.v1.SubscriptionService/ListDeadLetters", READ_OR_OPERATE),
    ("/tradelane.v1.SubscriptionService/ReplayDeadLetters", READ_OR_OPERATE),
    ("/tradelane.v1.SubscriptionService/DropDeadLetters", READ_OR_OPERATE),
    ("/tradelane.v1.NodeService/GetNode", OPERATE),
    ("/tradelane.v1.NodeService/ListConnections", OPERATE),
    ("/tradelane.v1.NodeService/ListParticipants", OPERATE),
    ("/tradelane.v1.NodeService/ListGrants", OPERATE_OR_AUDIT),
    ("/tradelane.v1.NodeService/ListDenials", OPERATE_OR_AUDIT),
    ("/tradelane.v1.NodeService/ListTrust", OPERATE),
    ("/tradelane.v1.NodeService/CheckAccess", OPERATE),
    ("/tradelane.v1.NodeService/Reload", OPERATE),
    ("/tradelane.v1.NodeService/VerifyLog", OPERATE),
    ("/tradelane.v1.NodeService/RebuildView", OPERATE),
    ("/tradelane.v1.NodeService/CreateBackup", OPERATE),
    ("/tradelane.v1.NodeService/ListPeers", OPERATE),
    ("/tradelane.v1.NodeService/PausePeer", OPERATE),
    ("/tradelane.v1.NodeService/ResumePeer", OPERATE),
    ("/tradelane.v1.NodeService/ListQuarantine", OPERATE),
    ("/tradelane.v1.NodeService/ListSubscriptions", OPERATE),
    ("/tradelane.v1.PeerService/Replicate", Needs::Peer),
    ("/grpc.health.v1.Health/Check", Needs::Identity),
    ("/grpc.health.v1.Health/Watch", Needs::Identity),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Needs::Identity),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Needs::Identity),
];

/// What a method needs, by its full path.
#[must_use]
pub fn needs(method: &str) -> Option<Needs> {
    TABLE.iter().find(|(path, _)| *path == method).map(|(_, needs)| *needs)
}

/// Whether a caller may ask for a method at all.
///
/// # Errors
/// Why she may not.
pub fn check(policy: &Policy, peers: &Peers, caller: &SpiffeId, method: &str, now_ns: i64) -> Result<(), CallRefusal> {
    match needs(method) {
        None => Err(CallRefusal::UnknownMethod),
        Some(Needs::Identity) => Ok(()),
        Some(Needs::Peer) if peers.is_peer(caller) => Ok(()),
        Some(Needs::Peer) => Err(CallRefusal::NotAPeer),
        Some(Needs::AnyOf(_)) if peers.is_peer(caller) => Err(CallRefusal::OnlyReplicates),
        Some(Needs::AnyOf(actions)) if actions.iter().any(|action| policy.may(caller, *action, now_ns)) => Ok(()),
        Some(Needs::AnyOf(actions)) => Err(CallRefusal::NotGranted(actions)),
    }
}
