//! Whether an event has reached each peer, as far as this node knows: what the link has passed was decided by the agreement of its time,
//! what it has not passed by the one in force. It never asks a peer.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    Federation,
    agreement::{Agreement, Withheld},
    history::{Followed, History},
};
use crate::{
    domain::{
        Sequence, SpiffeId,
        bindings::{BindingsFeed, NewBinding, PartyBindings, SubjectKey},
    },
    identity::{Peer, Peers},
    log::{LogError, Record},
};

/// Whether an event has reached a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The peer has acknowledged it.
    Acknowledged,
    /// It is on its way, or waits until the peer comes; or it was sent by an earlier agreement, and the peer never said that it has it.
    Pending,
    /// It is not for that peer.
    Withheld(Withheld),
    /// It is not for that peer by itself, and stayed: it revises so many events in turn that nobody can know whether its original went.
    Untraceable(Withheld),
    /// It is for that peer now, and was not when the link passed it: a wider agreement, and an association that binds a party, count from
    /// where the link stands.
    PassedBefore,
    /// The peer has told that it did not take it.
    RefusedThere,
}

impl Federation {
    /// Whether an event of this log has reached each peer of the file.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn reach(&self, record: &Record) -> Result<Vec<(SpiffeId, Reach)>, LogError> {
        let peers = Arc::clone(&self.parts().peers.borrow());
        let mut all = Vec::with_capacity(peers.peers.len());
        for peer in &peers.peers {
            all.push((peer.node.clone(), self.reach_of(&peers, peer, record).await?));
        }
        Ok(all)
    }

    async fn reach_of(&self, peers: &Arc<Peers>, peer: &Arc<Peer>, record: &Record) -> Result<Reach, LogError> {
        let parts = self.parts();
        let now_ns = parts.clock.now_ns();
        let status = self.table().status(&peer.node);
        let history = History::new(&status.progress.versions, &peer.node);
        let with = |bindings: Arc<dyn BindingsFeed>| Agreement {
            own: parts.node.clone(),
            epochs: parts.log.epochs(),
            rights: parts.access.policy().rights(&peer.node),
            peers: peers.clone(),
            peer: peer.clone(),
            peer_epochs: Vec::new(),
            bindings,
        };
        let agreement = with(parts.bindings.clone());
        let judged = agreement.judge(record, now_ns)?;
        if let Err(why) = judged
            && !why.may_follow_its_original()
        {
            return Ok(Reach::Withheld(why));
        }
        let sequence = record.sequence;
        let acknowledged = status.progress.acknowledged;
        let passed = acknowledged.is_some_and(|position| sequence <= position.sequence);
        let mut goes = judged.is_ok();
        let then = with(Arc::new(BoundUpTo { bindings: parts.bindings.clone(), through: sequence }));
        if passed {
            goes = history.let_through(&then, record, now_ns)?.unwrap_or(goes);
        }
        let known = (&*parts.log, &**self.table());
        let followed = if goes {
            Followed::Original(sequence)
        } else {
            history.sent_original_of(&agreement, known, record, now_ns).await?
        };
        // What stands before its original goes behind that.
        let goes_at = if let Followed::Original(place) = followed { Some(place.max(sequence)) } else { None };
        let goes = goes_at.is_some();
        let passed = acknowledged.is_some_and(|position| goes_at.unwrap_or(sequence) <= position.sequence);
        let refused = status.refused_there.iter().any(|event| event.source_sequence == sequence.get());
        Ok(match judged {
            _ if goes && refused => Reach::RefusedThere,
            _ if goes && passed => Reach::Acknowledged,
            _ if goes || history.may_have_sent(&then, record, now_ns)? => Reach::Pending,
            Ok(()) => Reach::PassedBefore,
            Err(why) if followed == Followed::Unknown => Reach::Untraceable(why),
            Err(why) => Reach::Withheld(why),
        })
    }
}

/// What associations bind that stand at a place or before it.
struct BoundUpTo {
    bindings: Arc<dyn BindingsFeed>,
    through: Sequence,
}

impl PartyBindings for BoundUpTo {
    fn is_bound(&self, participant: &str, subject: &SubjectKey<'_>) -> bool {
        let is = |bound: &NewBinding| {
            let later = &bound.subject;
            (later.kind, later.value.as_str(), later.issuer.as_str(), later.date.as_str())
                == (subject.kind, subject.value, subject.issuer, subject.date)
        };
        self.bindings.is_bound(participant, subject)
            && !self.bindings.newly_bound(participant, self.through).iter().any(is)
    }
}

impl BindingsFeed for BoundUpTo {
    fn progress(&self) -> watch::Receiver<Sequence> {
        self.bindings.progress()
    }

    fn newly_bound(&self, participant: &str, after: Sequence) -> Vec<NewBinding> {
        let all = self.bindings.newly_bound(participant, after);
        all.into_iter().filter(|bound| bound.sequence <= self.through).collect()
    }

    fn forgotten_through(&self, participant: &str) -> Sequence {
        self.bindings.forgotten_through(participant)
    }
}
