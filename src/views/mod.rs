//! State derived from the log: search, associations, timelines, port calls. Deletable and rebuildable; it never holds a truth of its own.

pub mod candidates;
#[cfg(test)]
pub mod memory_terms;
pub mod page_token;
