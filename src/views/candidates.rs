//! Walks the search index for places that may hold matching events: unions and intersections of term lists, lazily and in order, from
//! either end of the log. It never decides that an event matches: every candidate is checked against its header.
//!
//! The walk itself is plain code over buffered stretches of the lists; only filling a buffer waits for the index.

use crate::{
    domain::{Sequence, term::TermHash},
    log::{LogError, contract::TermIndex},
};

/// How many places the first look into a term's list fetches: most lists are short, and a look reads whole parts of it in any case.
const FETCH_FIRST: usize = 128;
/// How many places a later look fetches at the most: 2 KiB a term, so that a filter of a thousand terms holds 2 MiB.
const FETCH_MAX: usize = 256;

/// Which stretch of the log is walked, and from which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Exclusive lower end.
    pub after: Sequence,
    /// Exclusive upper end.
    pub before: Sequence,
    /// From the upper end down.
    pub descending: bool,
}

impl Bounds {
    /// The first place in walking order, or none where the stretch is empty.
    #[must_use]
    pub fn first(&self) -> Option<Sequence> {
        let first = if self.descending { Sequence(self.before.get().saturating_sub(1)) } else { self.after.next() };
        self.contains(first).then_some(first)
    }

    /// The place that follows in walking order, or none at the end of the stretch.
    #[must_use]
    pub fn following(&self, place: Sequence) -> Option<Sequence> {
        let next = if self.descending { Sequence(place.get().checked_sub(1)?) } else { place.next() };
        self.contains(next).then_some(next)
    }

    /// Whether `left` comes before `right` in walking order.
    #[must_use]
    pub fn precedes(&self, left: Sequence, right: Sequence) -> bool {
        if self.descending { left > right } else { left < right }
    }

    fn contains(&self, place: Sequence) -> bool {
        self.after < place && place < self.before
    }
}

/// A set of candidate places, walked in order.
#[derive(Debug)]
pub enum Candidates {
    /// Every place of the stretch: there is no usable term.
    Every,
    /// The places of one term.
    Term(TermList),
    /// The places of any of these.
    Any(Vec<Candidates>),
    /// The places of all of these. The first is the shortest: it leads, the others are looked up by its places.
    All(Vec<Candidates>),
}

/// The list of one term, of which a stretch is held.
#[derive(Debug)]
pub struct TermList {
    term: TermHash,
    held: Vec<Sequence>,
    at: usize,
    /// True once nothing follows what is held.
    ended: bool,
    /// From where on more is needed.
    wanted: Option<Sequence>,
    fetch: usize,
    /// How many of those held were answers: tells a list that is walked from one that is jumped over.
    served: usize,
}

/// The outcome of a step that does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    At(Sequence),
    End,
    Starved,
}

impl Candidates {
    /// The candidates of one term.
    #[must_use]
    pub fn term(term: TermHash) -> Self {
        Self::Term(TermList {
            term,
            held: Vec::new(),
            at: 0,
            ended: false,
            wanted: None,
            fetch: FETCH_FIRST,
            served: 0,
        })
    }

    /// The candidates of any of some terms.
    #[must_use]
    pub fn any_term(terms: &[TermHash]) -> Self {
        match terms {
            [term] => Self::term(*term),
            terms => Self::Any(terms.iter().copied().map(Self::term).collect()),
        }
    }

    /// The first candidate at or beyond a place, in walking order. Places asked for may not go back. One call looks at no more than
    /// `skips_max` places of the leading list in vain, and gives the place reached then as [`Walk::Through`].
    ///
    /// # Errors
    /// The index could not be read.
    pub async fn seek(
        &mut self,
        index: &dyn TermIndex,
        bounds: &Bounds,
        place: Sequence,
        skips_max: &mut usize,
    ) -> Result<Walk, LogError> {
        let mut place = place;
        loop {
            match self.step(bounds, &mut place, skips_max) {
                Step::At(found) => return Ok(Walk::At(found)),
                Step::End => return Ok(Walk::End),
                Step::Starved if *skips_max == 0 => return Ok(Walk::Through(place)),
                Step::Starved => {
                    *skips_max -= 1;
                    self.fill(index, bounds).await?;
                }
            }
        }
    }

    /// Moves on as far as buffers allow. `place` is moved along, so that the work of a starved step is not done again.
    fn step(&mut self, bounds: &Bounds, place: &mut Sequence, skips_max: &mut usize) -> Step {
        match self {
            Self::Every => Step::At(*place),
            Self::Term(list) => list.step(bounds, *place),
            Self::Any(branches) => {
                // Every branch is asked even where one is starved, so that one filling serves them all.
                let (mut nearest, mut starved) = (None, false);
                for branch in branches {
                    let mut reached = *place;
                    match branch.step(bounds, &mut reached, skips_max) {
                        Step::At(found) => reached = found,
                        Step::Starved => starved = true,
                        Step::End => continue,
                    }
                    if nearest.is_none_or(|nearest| bounds.precedes(reached, nearest)) {
                        nearest = Some(reached);
                    }
                }
                match nearest {
                    None => Step::End,
                    Some(nearest) if starved => {
                        // Nothing before the nearest place that any branch has reached is a candidate.
                        *place = nearest;
                        Step::Starved
                    }
                    Some(nearest) => Step::At(nearest),
                }
            }
            Self::All(branches) => loop {
                let mut agreed = *place;
                let mut moved = false;
                for branch in branches.iter_mut() {
                    let mut own = agreed;
                    match branch.step(bounds, &mut own, skips_max) {
                        Step::At(found) if found == agreed => {}
                        Step::At(found) => {
                            agreed = found;
                            moved = true;
                        }
                        Step::End => return Step::End,
                        Step::Starved => {
                            // What was ruled out stays ruled out.
                            *place = own;
                            return Step::Starved;
                        }
                    }
                }
                *place = agreed;
                if !moved {
                    return Step::At(agreed);
                }
                if *skips_max == 0 {
                    return Step::Starved;
                }
                *skips_max -= 1;
            },
        }
    }

    /// Fills the buffers of all lists that want more.
    async fn fill(&mut self, index: &dyn TermIndex, bounds: &Bounds) -> Result<(), LogError> {
        let mut starved = Vec::new();
        self.starved(&mut starved);
        for list in starved {
            list.fill(index, bounds).await?;
        }
        Ok(())
    }

    fn starved<'a>(&'a mut self, into: &mut Vec<&'a mut TermList>) {
        match self {
            Self::Every => {}
            Self::Term(list) => {
                if list.wanted.is_some() {
                    into.push(list);
                }
            }
            Self::Any(branches) | Self::All(branches) => branches.iter_mut().for_each(|branch| branch.starved(into)),
        }
    }
}

/// Where a walk has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// A candidate.
    At(Sequence),
    /// The allowance is used up: nothing before this place, in walking order, is a candidate.
    Through(Sequence),
    /// There is no further candidate.
    End,
}

impl TermList {
    fn step(&mut self, bounds: &Bounds, place: Sequence) -> Step {
        let rest = &self.held[self.at..];
        self.at += rest.partition_point(|held| bounds.precedes(*held, place));
        if let Some(found) = self.held.get(self.at) {
            self.served += 1;
            return Step::At(*found);
        }
        if self.ended {
            return Step::End;
        }
        self.wanted = Some(place);
        Step::Starved
    }

    async fn fill(&mut self, index: &dyn TermIndex, bounds: &Bounds) -> Result<(), LogError> {
        let Some(place) = self.wanted.take() else { return Ok(()) };
        let (after, before) = if bounds.descending {
            (bounds.after, place.next())
        } else {
            (Sequence(place.get().saturating_sub(1)), bounds.before)
        };
        // A list that is jumped over is not worth fetching far ahead.
        if !self.held.is_empty() {
            let walked = self.served * 2 >= self.held.len();
            self.fetch = if walked { (self.fetch * 2).min(FETCH_MAX) } else { FETCH_FIRST };
        }
        self.held = index.lookup(self.term, after, before, bounds.descending, self.fetch).await?;
        self.at = 0;
        self.served = 0;
        self.ended = self.held.len() < self.fetch;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
