//! Whether goods may go on: the lifecycle of each declaration, the open holds, the coverage, and what follows from the three (standards,
//! section 6). Folds over statements that are in order already; it never knows where they are stored, nor who may read them.

pub mod holds;
pub mod level;
pub mod lifecycle;
pub mod state;
pub mod verdict;

pub use holds::{HoldKey, HoldStatement, OpenHold, open_holds};
pub use level::Level;
pub use lifecycle::{Anomaly, AnomalyKind, Lifecycle, Standing, Step};
pub use state::State;
pub use verdict::{Coverage, Obstacle, obstacles};

#[cfg(test)]
mod tests;
