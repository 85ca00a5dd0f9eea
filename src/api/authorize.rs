//! The layer that asks [`rpc_policy`] before any service is reached: no identity, no entry in the table or no grant for the action, no
//! call. It never looks into a message; which events a caller publishes or sees is decided further in.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    FutureExt,
    future::{BoxFuture, ready},
};
use http::{Request, Response};
use tokio::sync::watch;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::status::Refused;
use crate::{
    clock::Clock,
    identity::{
        Access, Caller, Peers,
        audit::{AuditLog, Denial},
        rpc_policy::{self, CallRefusal},
    },
    telemetry,
};

/// The layer around all services, within the one that counts calls.
#[derive(Clone)]
pub struct AuthorizeLayer(Arc<Inner>);

struct Inner {
    access: Arc<Access>,
    peers: watch::Receiver<Arc<Peers>>,
    audit: Arc<AuditLog>,
    clock: Arc<dyn Clock>,
}

/// A service within the layer.
#[derive(Clone)]
pub struct Authorize<S> {
    service: S,
    rules: Arc<Inner>,
}

impl AuthorizeLayer {
    /// A layer that asks the policy and the peers in force at each call.
    #[must_use]
    pub fn new(
        access: Arc<Access>,
        peers: watch::Receiver<Arc<Peers>>,
        audit: Arc<AuditLog>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self(Arc::new(Inner { access, peers, audit, clock }))
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, service: S) -> Authorize<S> {
        Authorize { service, rules: self.0.clone() }
    }
}

impl<S> Service<Request<Body>> for Authorize<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.rules.check(request.extensions().get::<Caller>(), request.uri().path()) {
            Ok(()) => self.service.call(request).boxed(),
            Err(refused) => ready(Ok(Status::from(refused).into_http())).boxed(),
        }
    }
}

impl Inner {
    fn check(&self, caller: Option<&Caller>, method: &str) -> Result<(), Refused> {
        let Some(caller) = caller else { return Err(Refused::no_identity()) };
        let now_ns = self.clock.now_ns();
        let refused = if let Some(reason) = caller.ending() {
            Refused::new(Code::Unauthenticated, "CONNECTION_ENDING", reason)
        } else {
            let peers = Arc::clone(&self.peers.borrow());
            match rpc_policy::check(&self.access.policy(), &peers, &caller.id, method, now_ns) {
                Ok(()) => return Ok(()),
                // What strangers make up is not worth a line of the audit log each.
                Err(CallRefusal::UnknownMethod) => {
                    return Err(Refused::new(Code::Unimplemented, "METHOD_UNKNOWN", "no such method is served here"));
                }
                Err(CallRefusal::NotGranted(actions)) => {
                    Refused::not_granted(*actions.first().expect("the table names at least one action"))
                }
                Err(CallRefusal::NotAPeer) => {
                    let message = "only nodes that stand in this node's peers file may call this";
                    Refused::new(Code::PermissionDenied, "NOT_A_PEER", message)
                }
                Err(CallRefusal::OnlyReplicates) => {
                    let message = "a node of the peers file may call nothing but PeerService, health and reflection";
                    Refused::new(Code::PermissionDenied, "ONLY_REPLICATES", message)
                }
            }
        };
        metrics::counter!(telemetry::DENIALS_TOTAL, "reason" => refused.reason).increment(1);
        self.audit.denied(Denial {
            number: 0,
            time_ns: now_ns,
            participant: Some(caller.id.clone()),
            remote_address: Some(caller.remote_address),
            subject: method.to_owned(),
            reason: refused.reason.to_owned(),
            detail: refused.message.clone(),
        });
        Err(refused)
    }
}

impl std::fmt::Debug for AuthorizeLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthorizeLayer").field("access", &self.0.access).finish_non_exhaustive()
    }
}

impl<S> std::fmt::Debug for Authorize<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorize").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        api::methods::Methods,
        clock::TestClock,
        identity::{
            Peer,
            policy::{Successors, file},
        },
        testing::pki::{CUSTOMS, OPERATOR, TERMINAL, id},
    };

    const POLICY: &str = "
        [[grant]]
        id = 'operator'
        who = ['spiffe://exchange.gov.pk/operator/*']
        actions = ['operate']
        [[grant]]
        id = 'publisher'
        who = ['spiffe://port.valparaiso.cl/*']
        actions = ['publish']
        all = true
        [[grant]]
        id = 'ended'
        who = ['spiffe://customs.gov.pk/*']
        actions = ['publish', 'read', 'operate', 'audit']
        all = true
        expires_time = '1970-01-01T00:00:00Z'
    ";

    fn rules(directory: &Path) -> Inner {
        let policy = file::parse(POLICY, Path::new("policy.toml"), &Successors::default()).expect("a good policy");
        Inner {
            access: Arc::new(Access::new(policy)),
            peers: watch::Sender::new(Arc::new(peers())).subscribe(),
            audit: Arc::new(AuditLog::open(&directory.join("audit.log")).expect("opened")),
            clock: Arc::new(TestClock::at_ns(1)),
        }
    }

    /// A node whose name falls under the operator's grant too.
    const NEIGHBOUR: &str = "spiffe://exchange.gov.pk/operator/neighbour";

    fn peers() -> Peers {
        let peer = Peer {
            node: id(NEIGHBOUR),
            address: None,
            homes: BTreeSet::new(),
            behind: BTreeSet::new(),
            transit: false,
            from_time_ns: None,
            private: false,
            paused: false,
        };
        Peers { homes: BTreeSet::new(), peers: vec![Arc::new(peer)] }
    }

    #[test]
    fn a_node_may_only_replicate_and_nobody_else_may() {
        let directory = tempfile::tempdir().expect("a directory");
        let rules = rules(directory.path());
        for (method, needs) in rpc_policy::TABLE {
            let reason = |name: &str| rules.check(Some(&caller(name)), method).err().map(|refused| refused.reason);
            let replicates = *needs == rpc_policy::Needs::Peer;
            let open = *needs == rpc_policy::Needs::Identity;
            assert_eq!(reason(NEIGHBOUR), (!replicates && !open).then_some("ONLY_REPLICATES"), "{method}");
            if replicates {
                for name in [OPERATOR, TERMINAL, CUSTOMS] {
                    assert_eq!(reason(name), Some("NOT_A_PEER"), "{name}");
                }
            }
        }
    }

    fn caller(name: &str) -> Caller {
        Caller {
            id: id(name),
            connection_id: 1,
            remote_address: ([127, 0, 0, 1], 1).into(),
            certificate_not_after_ns: i64::MAX,
            closing: CancellationToken::new(),
            closing_reason: Arc::default(),
        }
    }

    #[test]
    fn every_served_method_has_an_entry_and_no_entry_is_of_another() {
        let served: BTreeSet<String> = Methods::served().iter().map(|method| method.path.to_string()).collect();
        let listed: BTreeSet<String> = rpc_policy::TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(served, listed);
        assert_eq!(listed.len(), rpc_policy::TABLE.len(), "an entry stands twice");
    }

    #[test]
    fn a_call_needs_a_grant_in_force_for_its_action() {
        let directory = tempfile::tempdir().expect("a directory");
        let rules = rules(directory.path());
        for (method, needs) in rpc_policy::TABLE.iter().filter(|(_, needs)| *needs != rpc_policy::Needs::Peer) {
            let reason = |name: &str| rules.check(Some(&caller(name)), method).err().map(|refused| refused.reason);
            let open = *needs == rpc_policy::Needs::Identity;
            assert_eq!(rules.check(None, method).expect_err("refused").reason, "NO_IDENTITY", "{method}");
            let of_participants = [".EventService/", ".ClearanceService/", ".SubscriptionService/"];
            let publishes = of_participants.iter().any(|service| method.contains(service));
            assert_eq!(reason(TERMINAL).is_none(), publishes || open, "{method}");
            let of_operators = ["/ExplainEvent", "/GetSubscription", "/DeleteSubscription", "DeadLetters"];
            let operates =
                method.contains(".NodeService/") || of_operators.iter().any(|ending| method.ends_with(ending));
            assert_eq!(reason(OPERATOR).is_none(), operates || open, "{method}");
            assert_eq!(reason(CUSTOMS), (!open).then_some("NOT_GRANTED"), "{method}");
        }
        let unknown = rules.check(Some(&caller(OPERATOR)), "/tradelane.v1.NodeService/Destroy").expect_err("refused");
        assert_eq!(unknown.code, Code::Unimplemented);
        let denials = rules.audit.recent(Some(&id(CUSTOMS)), None, 1_000);
        assert_eq!(denials.len(), rpc_policy::TABLE.len() - 5);
        assert_eq!(denials[0].remote_address, Some(([127, 0, 0, 1], 1).into()));
    }

    #[test]
    fn a_connection_that_is_ending_asks_for_nothing_more() {
        let directory = tempfile::tempdir().expect("a directory");
        let rules = rules(directory.path());
        let caller = caller(OPERATOR);
        let method = "/tradelane.v1.NodeService/GetNode";
        assert_eq!(rules.check(Some(&caller), method), Ok(()));
        caller.closing_reason.set("REVOKED".to_owned()).expect("the first reason");
        caller.closing.cancel();
        assert_eq!(rules.check(Some(&caller), method).expect_err("refused").message, "REVOKED");
    }
}
