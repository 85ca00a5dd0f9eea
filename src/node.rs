//! The composition root: opens things in order, names every task, stops them in reverse within a deadline. It never serves a call.
