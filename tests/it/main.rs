//! Whole nodes over real connections, in one test binary, one module a subject.

mod events;
mod harness;
mod node;
