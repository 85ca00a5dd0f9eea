//! Where a source goes on for a receiver: at the position that it shows where this log continues it, at the fork where this log was
//! restored from a backup since, and nowhere where the two do not fit. It never guesses.

use uuid::Uuid;

use super::{
    ended::{Ended, cannot_read},
    lives,
    position::{LinkPosition, read_epoch},
};
use crate::{
    domain::{Epoch, Sequence, SpiffeId},
    log::{EventLog, contract::ChainHash},
    wire::proto::{ReceiverHello, ReplicationEndReason},
};

/// The oldest version of the protocol that this program speaks.
pub const VERSION_MIN: u32 = 1;
/// The newest version of the protocol that this program speaks.
pub const VERSION_MAX: u32 = 2;
/// From this version on a receiver takes revisions that stand before their originals in the source's log, behind these.
pub const EARLY_REVISIONS_SINCE: u32 = 2;
/// A receiver names at most so many lives of its log.
const EPOCHS_MAX: usize = 64;

/// What a receiver's hello says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The newest version of the protocol that both speak.
    pub version: u32,
    /// The lives of its log and what it kept of each, the present one first.
    pub epochs: Vec<(Epoch, Sequence)>,
    /// Where it stands; none: it has taken nothing yet.
    pub position: Option<LinkPosition>,
    /// The run of its process; none: it does not say.
    pub run: Option<Uuid>,
}

/// Where the source goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// After this place.
    pub position: LinkPosition,
    /// True where it lies before what the receiver showed, since this log was restored from a backup made before the receiver came there.
    pub forked: bool,
}

/// Reads a hello.
///
/// # Errors
/// It is not one of the caller's that this program can answer.
pub fn read_hello(hello: &ReceiverHello, caller: &SpiffeId) -> Result<Hello, Ended> {
    if hello.node != caller.as_str() {
        return Err(Ended::protocol(format!("the hello is of {}, the certificate of {caller}", hello.node)));
    }
    let (min, max) = (hello.version_min, hello.version_max);
    let version = max.min(VERSION_MAX);
    if version < min.max(VERSION_MIN) {
        let detail =
            format!("this node speaks versions {VERSION_MIN} to {VERSION_MAX}, and the receiver {min} to {max}");
        return Err(Ended::Here(ReplicationEndReason::Version, detail));
    }
    let epochs = hello.epochs.iter().take(EPOCHS_MAX);
    let epochs: Option<Vec<_>> =
        epochs.map(|life| Some((read_epoch(&life.epoch)?, Sequence(life.kept_sequence)))).collect();
    let epochs = epochs.filter(|epochs| !epochs.is_empty());
    let epochs = epochs.ok_or_else(|| Ended::protocol("the hello names no life of its log, or a malformed one"))?;
    let read = |position| LinkPosition::read(position).ok_or_else(|| Ended::protocol("the position is malformed"));
    let run = if hello.run.is_empty() { None } else { Some(Uuid::try_parse(&hello.run)) };
    let run = run.transpose().map_err(|_| Ended::protocol("the hello's run must be a UUID"))?;
    Ok(Hello { version, epochs, position: hello.position.as_ref().map(read).transpose()?, run })
}

/// Where to go on for a receiver that is known to have come to a place. One that shows a position in an earlier life goes on from where the
/// backup knew it, if it came further since: by which agreement that went nobody remembers, so it goes once more, by the one in force.
///
/// # Errors
/// The position is of another log, of the same life live twice, or no longer retained.
pub async fn start(
    log: &dyn EventLog,
    shown: Option<LinkPosition>,
    known: Option<LinkPosition>,
    from_time_ns: Option<i64>,
) -> Result<Start, Ended> {
    let epochs = log.epochs();
    let present = epochs.first().expect("a log has at least its present epoch").epoch;
    let begin = Sequence(log.first_retained().get() - 1);
    let Some(shown) = shown else {
        let from = agreed_begin(log, begin, from_time_ns).await?;
        // The hash before the first that is retained is nowhere any more: such a position is only ever compared with itself.
        let chain = hash_at(log, from).await?.unwrap_or_default();
        return Ok(Start { position: LinkPosition { epoch: present, sequence: from, chain }, forked: false });
    };
    let tail = *log.tail().borrow();
    let Some(at) = epochs.iter().position(|life| life.epoch == shown.epoch) else {
        let detail = format!("the receiver stands at {shown}, in a life that this log never had");
        return Err(Ended::Here(ReplicationEndReason::Diverged, detail));
    };
    let kept = if at == 0 { tail } else { lives::kept(&epochs, at) };
    if shown.sequence > kept && at == 0 {
        let detail = format!(
            "the receiver stands at {shown}, beyond this log's end, {tail}: this log has lost its end, or is a copy of one that went on"
        );
        return Err(Ended::Here(ReplicationEndReason::Diverged, detail));
    }
    let sequence = shown.sequence.min(kept);
    if sequence < begin {
        let detail =
            format!("the receiver stands at {shown}, and the first event that is retained is {}", begin.next());
        return Err(Ended::Here(ReplicationEndReason::Lapsed, detail));
    }
    let sequence = match known {
        _ if at == 0 => sequence,
        Some(known) => sequence.min(known.sequence.max(begin)),
        None => sequence.min(agreed_begin(log, begin, from_time_ns).await?),
    };
    let forked = sequence < shown.sequence;
    let chain = match hash_at(log, sequence).await? {
        Some(chain) => chain,
        // Exactly before the first that is retained: what follows is whole, and there is nothing left to compare.
        None if sequence == begin => {
            if forked {
                ChainHash::default()
            } else {
                shown.chain
            }
        }
        None => return Err(Ended::Here(ReplicationEndReason::Diverged, format!("no event has the place {sequence}"))),
    };
    if !forked && chain != shown.chain {
        let detail = format!("the receiver stands at {shown} with another hash: this life of the log is live twice");
        return Err(Ended::Here(ReplicationEndReason::Cloned, detail));
    }
    Ok(Start { position: LinkPosition { epoch: present, sequence, chain }, forked })
}

/// Before the first event that a receiver gets which has taken nothing yet.
async fn agreed_begin(log: &dyn EventLog, begin: Sequence, from_time_ns: Option<i64>) -> Result<Sequence, Ended> {
    let Some(time_ns) = from_time_ns else { return Ok(begin) };
    let first = log.first_accepted_since(time_ns).await.map_err(|error| cannot_read(&error))?;
    Ok(Sequence(first.get() - 1).max(begin))
}

async fn hash_at(log: &dyn EventLog, sequence: Sequence) -> Result<Option<ChainHash>, Ended> {
    log.chain_at(sequence).await.map_err(|error| cannot_read(&error))
}
