//! What follows from lifecycles, holds and coverage: whether the goods may leave, and what stands against it. It never says "released" of
//! what is not known wholly.

/// Whether all declarations are known that cover the goods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Coverage {
    /// No declaration of theirs is known.
    Unknown,
    /// Some are known, and nobody says that these are all.
    Partial,
    /// All are known.
    Complete,
}

/// What stands against a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Obstacle {
    /// No step of a clearance is known.
    NoClearance,
    /// A declaration, or an item of one, is in a state that does not let the goods go.
    NotReleased,
    /// A hold is open.
    HoldOpen,
    /// Not all declarations are known that cover the goods.
    CoverageIncomplete,
}

/// What stands against a release; nothing: the goods may leave. `let_go` says of each covering lifecycle whether it lets them go.
#[must_use]
pub fn obstacles(let_go: impl IntoIterator<Item = bool>, any_hold_open: bool, coverage: Coverage) -> Vec<Obstacle> {
    let let_go: Vec<bool> = let_go.into_iter().collect();
    let found = [
        (let_go.is_empty(), Obstacle::NoClearance),
        (let_go.contains(&false), Obstacle::NotReleased),
        (any_hold_open, Obstacle::HoldOpen),
        (coverage != Coverage::Complete, Obstacle::CoverageIncomplete),
    ];
    found.into_iter().filter_map(|(stands, obstacle)| stands.then_some(obstacle)).collect()
}
