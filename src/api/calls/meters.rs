//! What is counted of calls, by method: how long they took and how they ended. A metric's handle is looked up once and not at every call,
//! since the table of them all is shared by all. It never knows what a call says.

use std::{
    array,
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use metrics::{Counter, Histogram};
use tonic::Code;

use super::{Method, Methods};
use crate::telemetry;

/// Status codes are the numbers from 0 to 16 (grpc/grpc, doc/statuscodes.md).
const CODES: usize = 17;

/// The meters of every method that is served, and of all other paths together: strangers cannot make the list of labels grow.
pub(super) struct Meters {
    by_path: HashMap<Arc<str>, Arc<MethodMeters>>,
    others: Arc<MethodMeters>,
}

/// The meters of one method.
pub(super) struct MethodMeters {
    /// None for paths that are not served.
    pub(super) method: Option<Method>,
    seconds: OnceLock<Histogram>,
    handled: [OnceLock<Counter>; CODES],
}

impl Meters {
    /// Nothing is registered before it is counted.
    pub(super) fn new(methods: &Methods) -> Self {
        let meters = |method: &Method| (method.path.clone(), Arc::new(MethodMeters::new(Some(method.clone()))));
        Self { by_path: methods.iter().map(meters).collect(), others: Arc::new(MethodMeters::new(None)) }
    }

    /// The meters of a request's path.
    pub(super) fn of(&self, path: &str) -> &Arc<MethodMeters> {
        self.by_path.get(path).unwrap_or(&self.others)
    }
}

impl MethodMeters {
    fn new(method: Option<Method>) -> Self {
        Self { method, seconds: OnceLock::new(), handled: array::from_fn(|_| OnceLock::new()) }
    }

    /// The method's name.
    pub(super) fn name(&self) -> &str {
        self.method.as_ref().map_or("unknown", |method| &method.name)
    }

    /// Counts a call that has ended.
    pub(super) fn ended(&self, seconds: f64, code: Code) {
        let service = || self.method.as_ref().map_or_else(|| "unknown".into(), |method| method.service.clone());
        let method = || Arc::<str>::from(self.name());
        self.seconds
            .get_or_init(|| {
                let (service, method) = (service(), method());
                metrics::histogram!(telemetry::GRPC_HANDLING_SECONDS, "grpc_service" => service, "grpc_method" => method)
            })
            .record(seconds);
        self.handled[code as usize]
            .get_or_init(|| {
                metrics::counter!(
                    telemetry::GRPC_HANDLED_TOTAL,
                    "grpc_service" => service(), "grpc_method" => method(), "grpc_code" => code_name(code)
                )
            })
            .increment(1);
    }
}

/// The names of status codes that gRPC's other metrics use.
pub(super) const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}
