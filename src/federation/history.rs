//! What the agreement with a peer was: a revision follows its original under whichever version of the agreement that went, so that nobody
//! keeps a statement that its publisher has taken back. It never widens anything: only revisions are looked at, and only behind what was sent.

use serde::{Deserialize, Serialize};

use super::{agreement::Agreement, position::LinkPosition, table::PeerTable};
use crate::{
    domain::{Filter, HeaderRef, Sequence, SpiffeId, filter::FilterSpec},
    identity::{Action, Rights, policy::Grant},
    log::{EventLog, LogError, Record},
};

/// At most so many versions are remembered of one peer; of more, the oldest are forgotten, and said so.
const VERSIONS_MAX: usize = 32;
/// A chain of revisions is followed back so far: each step is a look-up, and whoever revises one event for ever must not cost the link more
/// with every revision. What lies further back is not known, and said so.
pub const CHAIN_MAX: usize = 64;

/// One version of an agreement, and the stretch of the log that it decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// It decided what follows this sequence.
    pub after: u64,
    /// Up to and including this one; none: it is in force.
    pub through: Option<u64>,
    /// Up to here events may have been sent by it, whether or not that was ever acknowledged; 0: none.
    #[serde(default)]
    pub sent_through: u64,
    /// It was in force when a restore from a backup opened this life: what was said in an earlier one, was lost and came back may have been
    /// sent by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_life: Option<String>,
    /// The grants, each as far as it decides.
    pub grants: Vec<VersionGrant>,
}

/// What one grant of a version let through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionGrant {
    /// About which events.
    pub filters: Vec<FilterSpec>,
    /// Whatever their audience.
    pub private: bool,
    /// Events accepted before were hidden; nanoseconds since 1970.
    pub hidden_before_ns: Option<i64>,
}

impl Version {
    fn decides_nothing_before(&self, end: u64) -> bool {
        end <= self.after && self.sent_through == 0 && self.restored_life.is_none()
    }
}

/// The version that some rights make now.
#[must_use]
pub fn in_force(rights: &Rights, now_ns: i64) -> Vec<VersionGrant> {
    let forwards =
        |grant: &&std::sync::Arc<Grant>| grant.actions.contains(&Action::Forward) && grant.is_in_force(now_ns);
    let version = |grant: &std::sync::Arc<Grant>| VersionGrant {
        filters: grant.filters.clone(),
        private: grant.private,
        hidden_before_ns: grant.start_time_ns.filter(|_| grant.history_from_start),
    };
    rights.grants.iter().filter(forwards).map(version).collect()
}

/// Notes that these grants decide from a place on.
pub fn note(versions: &mut Vec<Version>, grants: Vec<VersionGrant>, from: u64, acknowledged: Option<LinkPosition>) {
    // A link that begins anew from further back was further on before.
    let end = acknowledged.map_or(from, |at| at.sequence.get().max(from));
    // What decided nothing while the link was down leaves no trace.
    while versions.last().is_some_and(|last| last.grants != grants && last.decides_nothing_before(end)) {
        versions.pop();
    }
    if let Some(last) = versions.last_mut() {
        if last.grants == grants {
            (last.after, last.through) = (last.after.min(from), None);
            return;
        }
        last.through = Some(end);
    }
    versions.push(Version { after: from, through: None, sent_through: 0, restored_life: None, grants });
    if VERSIONS_MAX < versions.len() {
        tracing::warn!(
            "the oldest version of an agreement is forgotten: later revisions of what went by it follow the present one"
        );
        versions.remove(0);
    }
}

/// What a revision has to follow to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// Nothing that the peer has.
    Nothing,
    /// The original at this place, which may lie behind the revision's own.
    Original(Sequence),
    /// Nobody can know: the chain of revisions is too long to be followed back.
    Unknown,
}

/// Versions of an agreement, ready to be asked.
#[derive(Debug, Default)]
pub struct History(Vec<(Version, Rights)>);

impl History {
    /// Compiles what is remembered.
    #[must_use]
    pub fn new(versions: &[Version], peer: &SpiffeId) -> Self {
        Self(versions.iter().map(|version| (version.clone(), rights(version, peer))).collect())
    }

    /// Which original of a revision went to the peer, may have gone without the peer ever saying so, or would go by the agreement at its
    /// place.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn sent_original_of(
        &self,
        agreement: &Agreement,
        (log, table): (&dyn EventLog, &PeerTable),
        record: &Record,
        now_ns: i64,
    ) -> Result<Followed, LogError> {
        let mut revision = record.clone();
        for _ in 0..CHAIN_MAX {
            let Some(original) = original_of(log, &revision).await? else { return Ok(Followed::Nothing) };
            if self.went(agreement, table, &original, now_ns)? {
                return Ok(Followed::Original(original.sequence));
            }
            revision = original;
        }
        Ok(Followed::Unknown)
    }

    /// Whether an event went to the peer, may have gone without the peer ever saying so, or would go by the agreement at its place, whatever
    /// its way.
    ///
    /// # Errors
    /// The stored header cannot be read.
    pub fn went(
        &self,
        agreement: &Agreement,
        table: &PeerTable,
        event: &Record,
        now_ns: i64,
    ) -> Result<bool, LogError> {
        Ok(agreement.took_from_here(event)
            || table.has_handed_back(&agreement.peer.node, event.sequence)
            || self.let_through(agreement, event, now_ns)? == Some(true)
            || self.may_have_sent(agreement, event, now_ns)?)
    }

    /// Whether a version that decided an event's place let it go; none where no version is remembered that did.
    ///
    /// # Errors
    /// The stored header cannot be read.
    pub fn let_through(&self, agreement: &Agreement, record: &Record, now_ns: i64) -> Result<Option<bool>, LogError> {
        let place = record.sequence.get();
        let covers =
            |version: &Version| version.after < place && version.through.is_none_or(|through| place <= through);
        let mut decided = None;
        for (_, rights) in self.0.iter().filter(|(version, _)| covers(version)) {
            if agreement.grants(rights, record, now_ns)?.is_none() {
                return Ok(Some(true));
            }
            decided = Some(false);
        }
        Ok(decided)
    }

    /// Whether an event may have been sent by a version of the agreement, even if the link never came to pass it under that version: the
    /// peer may hold it without having said so.
    ///
    /// # Errors
    /// The stored header cannot be read.
    pub fn may_have_sent(&self, agreement: &Agreement, record: &Record, now_ns: i64) -> Result<bool, LogError> {
        let place = record.sequence.get();
        let lost = record.origin.as_deref().filter(|origin| origin.node == agreement.own);
        let reaches = |version: &Version| {
            let may_be_lost =
                |origin| version.restored_life.as_deref().is_some_and(|life| agreement.was_before(origin, life));
            lost.is_some_and(may_be_lost) || (version.after < place && place <= version.sent_through)
        };
        for (_, rights) in self.0.iter().filter(|(version, _)| reaches(version)) {
            if agreement.grants(rights, record, now_ns)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The event that a record revises, where it is a revision of an event that stands in the log.
async fn original_of(log: &dyn EventLog, record: &Record) -> Result<Option<Record>, LogError> {
    let header = HeaderRef::parse(&record.header)
        .map_err(|fault| LogError::Damaged(format!("event at sequence {}: {fault}", record.sequence)))?;
    let publisher = SpiffeId::parse(header.publisher()).ok();
    match (publisher, header.revises()) {
        (Some(publisher), Some(revises)) => log.find(publisher, revises.event_id).await,
        (None, _) | (_, None) => Ok(None),
    }
}

fn rights(version: &Version, peer: &SpiffeId) -> Rights {
    let grant = |grant: &VersionGrant| {
        // A filter that this program can no longer read lets nothing through.
        let compiled = grant.filters.iter().filter_map(|spec| Filter::compile(spec, true).ok()).collect();
        std::sync::Arc::new(Grant {
            id: "earlier agreement".to_owned(),
            who: Vec::new(),
            actions: vec![Action::Forward],
            filters: grant.filters.clone(),
            compiled,
            start_time_ns: grant.hidden_before_ns,
            expires_time_ns: None,
            history_from_start: grant.hidden_before_ns.is_some(),
            private: grant.private,
        })
    };
    let grants = version.grants.iter().map(grant).collect();
    Rights { generation: 0, who: peer.clone(), former_names: std::sync::Arc::new([]), grants }
}
