//! The systems that are compared, one file each.

pub mod etcd;
pub mod nats;
pub mod postgres;
pub mod tradelane;
