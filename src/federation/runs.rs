//! Notices that a peer's data directory was copied and both run: two runs of its process that speak in turns. It never mistakes a restart for
//! that, since a run that has ended does not come back.

use uuid::Uuid;

/// So many runs are remembered: those of two copies, with a restart of each between.
const RUNS_MAX: usize = 4;
/// A run that speaks after a younger one may only have been read late; one after the other doing so twice are both alive.
const RETURNS_MAX: u32 = 2;

/// A node is live twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "two processes with this node's identity speak in turns: its data directory was copied and both run; end one of them, then resume the \
     link at both nodes"
)]
pub struct LiveTwice;

/// The runs of one peer that have spoken, the latest last.
#[derive(Debug, Default)]
pub struct Runs {
    spoken: Vec<Uuid>,
    returns: u32,
}

impl Runs {
    /// Notes that a run has spoken; one that does not say which is not counted.
    ///
    /// # Errors
    /// The node is live twice, now or since it was noticed.
    pub fn met(&mut self, run: Option<Uuid>) -> Result<(), LiveTwice> {
        if let Some(run) = run.filter(|run| self.spoken.last() != Some(run)) {
            if let Some(at) = self.spoken.iter().position(|spoken| *spoken == run) {
                self.spoken.remove(at);
                self.returns += 1;
            } else if self.spoken.len() == RUNS_MAX {
                self.spoken.remove(0);
            }
            self.spoken.push(run);
        }
        if self.returns < RETURNS_MAX { Ok(()) } else { Err(LiveTwice) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_are_no_clone_and_two_that_speak_in_turns_are() {
        let run = |number| Some(Uuid::from_u128(number));
        let mut runs = Runs::default();
        for number in 0..100 {
            assert_eq!(runs.met(run(number)), Ok(()));
            assert_eq!(runs.met(run(number)), Ok(()), "it dials again");
            assert_eq!(runs.met(None), Ok(()));
        }
        // One that was read late.
        assert_eq!(runs.met(run(98)), Ok(()));
        let mut runs = Runs::default();
        let met: Vec<_> = [1, 2, 1, 2, 3].map(|number| runs.met(run(number))).into();
        assert_eq!(met, [Ok(()), Ok(()), Ok(()), Err(LiveTwice), Err(LiveTwice)]);
    }
}
