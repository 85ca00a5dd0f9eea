//! Grants, the only source of access: deny by default. It never decides by anything but the grants, the audience and the header.

use std::{collections::BTreeMap, fmt, sync::Arc};

use tokio::sync::watch;

use crate::domain::{Filter, SpiffeId, filter::FilterSpec};

pub mod file;
mod rights;

pub use rights::{AskableBindings, GrantVerdict, Narrowing, ReadRefusal, Rights};

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
    /// True where it opens events whatever their audience: those PRIVATE to others, and those that name others. For authorities and
    /// auditors who have that right by law.
    pub private: bool,
}

/// All grants of one reading of the policy file.
#[derive(Debug, Default)]
pub struct Policy {
    /// Counts successful readings; [`Access::replace`] sets it.
    pub generation: u64,
    /// In the order of the file.
    pub grants: Vec<Arc<Grant>>,
    /// Who goes on where another name stopped.
    pub successors: Successors,
}

/// Participants that were renamed: a successor keeps the rights of her former names over their events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Successors(Arc<BTreeMap<SpiffeId, Vec<SpiffeId>>>);

impl Successors {
    /// From pairs of (new name, former name). A former name's own former names count too.
    #[must_use]
    pub fn new(pairs: &[(SpiffeId, SpiffeId)]) -> Self {
        let mut all = BTreeMap::new();
        for (new, _) in pairs {
            let mut former: Vec<SpiffeId> = Vec::new();
            let mut next = vec![new];
            while let Some(name) = next.pop() {
                for (_, old) in pairs.iter().filter(|(successor, _)| successor == name) {
                    if old != new && !former.contains(old) {
                        former.push(old.clone());
                        next.push(old);
                    }
                }
            }
            all.insert(new.clone(), former);
        }
        Self(Arc::new(all))
    }

    /// The former names of a participant.
    #[must_use]
    pub fn former_names(&self, id: &SpiffeId) -> &[SpiffeId] {
        self.0.get(id).map_or(&[], Vec::as_slice)
    }
}

impl Action {
    /// The words of the policy file and of the API.
    pub const WORDS: [&str; 6] = ["publish", "read", "share", "forward", "operate", "audit"];

    /// The action that a word means.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [Self::Publish, Self::Read, Self::Share, Self::Forward, Self::Operate, Self::Audit];
        all.into_iter().find(|action| action.word() == word)
    }

    /// The action's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Publish => Self::WORDS[0],
            Self::Read => Self::WORDS[1],
            Self::Share => Self::WORDS[2],
            Self::Forward => Self::WORDS[3],
            Self::Operate => Self::WORDS[4],
            Self::Audit => Self::WORDS[5],
        }
    }

    /// True where a grant of it must say which events it means.
    #[must_use]
    pub const fn is_about_events(self) -> bool {
        match self {
            Self::Publish | Self::Read | Self::Share | Self::Forward => true,
            Self::Operate | Self::Audit => false,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Grant {
    /// Whether it counts at a time.
    #[must_use]
    pub fn is_in_force(&self, now_ns: i64) -> bool {
        self.start_time_ns.is_none_or(|start| start <= now_ns) && !self.is_expired(now_ns)
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_expired(&self, now_ns: i64) -> bool {
        self.expires_time_ns.is_some_and(|end| end <= now_ns)
    }
}

impl Policy {
    /// Whether any grant in force allows an identity the action for some event at all; as [`Rights::may`], where nothing else is asked.
    #[must_use]
    pub fn may(&self, who: &SpiffeId, action: Action, now_ns: i64) -> bool {
        let concerns = |grant: &Grant| grant.who.iter().any(|pattern| pattern.matches(who.as_str()));
        self.grants.iter().any(|grant| grant.actions.contains(&action) && grant.is_in_force(now_ns) && concerns(grant))
    }

    /// What an identity may do.
    #[must_use]
    pub fn rights(&self, who: &SpiffeId) -> Rights {
        let concerns = |grant: &&Arc<Grant>| grant.who.iter().any(|pattern| pattern.matches(who.as_str()));
        Rights {
            generation: self.generation,
            who: who.clone(),
            former_names: self.successors.former_names(who).into(),
            grants: self.grants.iter().filter(concerns).cloned().collect(),
        }
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

    /// Puts a policy in force as the next generation, which is returned; running streams notice by [`Access::generation`].
    pub fn replace(&self, mut policy: Policy) -> u64 {
        // The watch is locked while the policy changes, so that two reloads at once take numbers one after the other.
        let mut now = 0;
        self.generation.send_modify(|generation| {
            *generation += 1;
            now = *generation;
            policy.generation = now;
            self.current.store(Arc::new(std::mem::take(&mut policy)));
        });
        now
    }

    /// Watches the generation in force.
    #[must_use]
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

#[cfg(test)]
mod tests;
