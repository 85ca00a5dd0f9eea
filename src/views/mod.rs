//! State derived from the log: search, associations, timelines, port calls, clearances. Deletable and rebuildable; it never holds a truth of its own.

pub mod associations;
pub mod candidates;
pub mod clearance;
pub mod decoded;
pub mod finder;
pub mod fold_order;
pub mod page_token;
pub mod plan;
pub mod port_call;
pub mod revisions;
pub mod runner;
pub mod search;
#[cfg(test)]
pub(crate) mod test_node;
pub mod timeline;

pub use associations::{Associations, AssociationsView};
pub use finder::Finder;
pub use runner::{Progress, RebuildProgress, RebuildRefused, Runner, ViewBehind, ViewFailed, ViewHandle};
pub use search::SearchView;
