//! Durable subscriptions: named readers whose acknowledged position outlives them. What decides about events here is pure and is given the
//! time; it never reads the log, a clock or the network.

pub mod cursor;
pub mod machine;
pub mod settings;

pub use cursor::{Cursor, DeadLetter, Tried};
pub use machine::{ConsumerId, Delivery, Machine, Outcome, Verb};
pub use settings::{Mode, OrderingKey, Settings};
