//! The commands of the program: client commands, development PKI, demo. It never opens a node's data but by the rooms that own it.

pub mod connect;
