//! Where a session begins. A place that this log cannot honour is refused with the place to restart: it never begins elsewhere in silence.

use crate::{
    domain::{Epoch, Position, Sequence},
    log::{EventLog, LogError, contract::EpochFacts},
};

/// Where a caller wants to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first event that is retained.
    Earliest,
    /// At the end of the log.
    Latest,
    /// After a place.
    After(Position),
    /// At the first event that was accepted at or after a time, nanoseconds since 1970.
    Since(i64),
}

/// Why a start cannot be honoured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The position belongs to no life of this log.
    #[error(
        "the position is of an epoch that this node has never had: it was given by another node, or before its log was lost; begin anew, from \
         the earliest event or a time"
    )]
    EpochUnknown,
    /// The position belongs to a former life of this log, and stands after what was taken over from there.
    #[error(
        "the position is after the fork at which this node's log was restored from a backup: what came after was lost here; the last \
         common position is {fork}"
    )]
    EpochChanged {
        /// The last place that both lives share.
        fork: Position,
    },
    /// What follows the position is not retained any more.
    #[error("events after the position are not retained any more; the earliest position to restart from is {restart}")]
    NotRetained {
        /// The place before the first event that is retained.
        restart: Position,
    },
    /// The position is after the end of the log.
    #[error("the position is after the end of this node's log, {tail}")]
    BeyondTail {
        /// The end of the log.
        tail: Position,
    },
    /// The log could not be asked.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// The place after which a session reads.
pub(super) async fn resolve(log: &dyn EventLog, start: Start) -> Result<Position, StartError> {
    let epochs = log.epochs();
    let epoch = current(&epochs);
    let at = |sequence| Position { epoch, sequence };
    let before_first = Sequence(log.first_retained().get().saturating_sub(1));
    let tail = *log.tail().borrow();
    match start {
        Start::Earliest => Ok(at(before_first)),
        Start::Latest => Ok(at(tail)),
        Start::Since(time_ns) => {
            let first = log.first_accepted_since(time_ns).await?;
            Ok(at(Sequence(first.get().saturating_sub(1)).max(before_first)))
        }
        Start::After(position) => {
            let sequence = in_this_life(&epochs, position)?;
            if sequence < before_first {
                return Err(StartError::NotRetained { restart: at(before_first) });
            }
            if tail < sequence {
                return Err(StartError::BeyondTail { tail: at(tail) });
            }
            Ok(at(sequence))
        }
    }
}

/// The present life of a log.
pub(super) fn current(epochs: &[EpochFacts]) -> Epoch {
    epochs.first().expect("a log has at least its present epoch").epoch
}

/// The sequence of a position, where the present life has the same events up to there.
pub(super) fn in_this_life(epochs: &[EpochFacts], position: Position) -> Result<Sequence, StartError> {
    let mut shared_through: Option<Sequence> = None;
    for life in epochs {
        if life.epoch == position.epoch {
            return match shared_through {
                Some(fork) if fork < position.sequence => {
                    Err(StartError::EpochChanged { fork: Position { epoch: current(epochs), sequence: fork } })
                }
                Some(_) | None => Ok(position.sequence),
            };
        }
        // Each younger life took over no more than up to its own fork.
        shared_through = Some(shared_through.map_or(life.fork, |fork| fork.min(life.fork)));
    }
    Err(StartError::EpochUnknown)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::{clock::TestClock, log::MemoryLog};

    fn epoch(number: u128) -> Epoch {
        Epoch(Uuid::from_u128(number))
    }

    fn lives() -> Vec<EpochFacts> {
        let life =
            |number, parent, fork| EpochFacts { epoch: epoch(number), parent, fork: Sequence(fork), open_time_ns: 0 };
        // The third life was restored from an older backup than the second.
        vec![life(3, Some(epoch(2)), 50), life(2, Some(epoch(1)), 80), life(1, None, 0)]
    }

    fn log_with_tail(tail: u64) -> MemoryLog {
        let log = MemoryLog::with_epochs(Arc::new(TestClock::at_ns(0)), |a, b| a == b, lives());
        log.skip_sequences(tail);
        log.release();
        log
    }

    fn at(number: u128, sequence: u64) -> Position {
        Position { epoch: epoch(number), sequence: Sequence(sequence) }
    }

    #[tokio::test]
    async fn a_position_of_a_former_life_holds_up_to_the_lowest_fork_since() {
        let log = log_with_tail(100);
        for (asked, expected) in [
            (at(3, 100), Ok(at(3, 100))),
            (at(3, 0), Ok(at(3, 0))),
            (at(3, 101), Err(StartError::BeyondTail { tail: at(3, 100) })),
            (at(2, 50), Ok(at(3, 50))),
            (at(2, 51), Err(StartError::EpochChanged { fork: at(3, 50) })),
            (at(1, 50), Ok(at(3, 50))),
            (at(1, 51), Err(StartError::EpochChanged { fork: at(3, 50) })),
            (at(1, 81), Err(StartError::EpochChanged { fork: at(3, 50) })),
            (at(9, 1), Err(StartError::EpochUnknown)),
        ] {
            assert_eq!(resolve(&log, Start::After(asked)).await, expected, "{asked}");
        }
    }

    #[tokio::test]
    async fn what_is_not_retained_is_refused_with_the_place_to_restart() {
        let log = log_with_tail(100);
        log.drop_before(Sequence(41));
        assert_eq!(resolve(&log, Start::Earliest).await, Ok(at(3, 40)));
        assert_eq!(resolve(&log, Start::After(at(3, 40))).await, Ok(at(3, 40)));
        let refused = resolve(&log, Start::After(at(3, 39))).await;
        assert_eq!(refused, Err(StartError::NotRetained { restart: at(3, 40) }));
        assert_eq!(resolve(&log, Start::Latest).await, Ok(at(3, 100)));
        assert_eq!(resolve(&log, Start::Since(1)).await, Ok(at(3, 100)), "nothing was accepted since");
    }
}
