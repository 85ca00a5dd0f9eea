//! Grants, the only source of access: deny by default. It never decides by anything but the grants, the audience and the header.

use std::sync::Arc;

use tokio::sync::watch;

use crate::domain::{
    Filter, HeaderRef, SpiffeId,
    filter::{FilterSpec, MatchContext},
};

/// What a grant can allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Publish events that the grant's filters match.
    Publish,
    /// See such events, through whichever door.
    Read,
    /// Bind a party to a consignment by an association.
    Share,
    /// Have such events forwarded (peers).
    Forward,
    /// Operate the node.
    Operate,
    /// Read what concerns access: denials, grants.
    Audit,
}

/// One grant of the policy file.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Its id.
    pub id: String,
    /// Whom it is for.
    pub who: Vec<crate::domain::SpiffePattern>,
    /// What it allows.
    pub actions: Vec<Action>,
    /// About which events, as written.
    pub filters: Vec<FilterSpec>,
    /// About which events, compiled.
    pub compiled: Vec<Filter>,
    /// When it begins, nanoseconds since 1970.
    pub start_time_ns: Option<i64>,
    /// When it ends, nanoseconds since 1970.
    pub expires_time_ns: Option<i64>,
    /// True where events accepted before its start are hidden.
    pub history_from_start: bool,
    /// True where it opens PRIVATE events of others too.
    pub private: bool,
}

/// All grants of one reading of the policy file.
#[derive(Debug)]
pub struct Policy {
    /// Counts successful readings.
    pub generation: u64,
    /// In the order of the file.
    pub grants: Vec<Arc<Grant>>,
}

/// What one identity may do under one generation.
#[derive(Debug, Clone)]
pub struct Rights {
    /// The generation that they belong to.
    pub generation: u64,
    /// Whose they are.
    pub who: SpiffeId,
    /// The grants that concern her.
    pub grants: Vec<Arc<Grant>>,
}

/// What a caller's grants leave of her filters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Narrowing {
    /// Indexes of the filters that no grant covers wholly.
    pub narrowed_filters: Vec<u32>,
    /// True where she sees less than she asks for.
    pub narrowed: bool,
    /// The read grants in force.
    pub grant_ids: Vec<String>,
}

/// What one grant says to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantVerdict {
    /// The grant.
    pub grant_id: String,
    /// Whether it allows.
    pub allows: bool,
    /// Why not, in words; empty where it allows.
    pub explanation: String,
}

impl Policy {
    /// What an identity may do.
    #[must_use]
    pub fn rights(&self, _who: &SpiffeId) -> Rights {
        todo!()
    }
}

impl Rights {
    /// Whether any grant in force allows the action for some event at all.
    #[must_use]
    pub fn may(&self, _action: Action, _now_ns: i64) -> bool {
        todo!()
    }

    /// Whether the action is allowed for this event. For [`Action::Read`] the event's audience decides too, and the publisher always
    /// reads her own.
    #[must_use]
    pub fn permits(&self, _action: Action, _header: &HeaderRef<'_>, _context: &MatchContext<'_>, _now_ns: i64) -> bool {
        todo!()
    }

    /// What each grant of this identity says.
    #[must_use]
    pub fn explain(
        &self,
        _action: Action,
        _event: Option<(&HeaderRef<'_>, &MatchContext<'_>)>,
        _now_ns: i64,
    ) -> Vec<GrantVerdict> {
        todo!()
    }

    /// What the read grants leave of some filters.
    #[must_use]
    pub fn narrowing(&self, _filters: &[Filter], _now_ns: i64) -> Narrowing {
        todo!()
    }

    /// When the next of the grants in force begins or ends: a stream must look again then. Nanoseconds since 1970.
    #[must_use]
    pub fn next_change_ns(&self, _now_ns: i64) -> Option<i64> {
        todo!()
    }
}

/// The policy in force, which a reload replaces.
#[derive(Debug)]
pub struct Access {
    current: arc_swap::ArcSwap<Policy>,
    generation: watch::Sender<u64>,
}

impl Access {
    /// Puts a first policy in force.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let generation = watch::Sender::new(policy.generation);
        Self { current: arc_swap::ArcSwap::from_pointee(policy), generation }
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.current.load_full()
    }

    /// Replaces the policy; running streams notice by [`Access::generation`].
    pub fn replace(&self, policy: Policy) {
        let generation = policy.generation;
        self.current.store(Arc::new(policy));
        self.generation.send_replace(generation);
    }

    /// Watches the generation in force.
    #[must_use]
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}
