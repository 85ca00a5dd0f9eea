//! Logs and metrics: every metric's name, unit and labels in one list. It never decides what is worth saying.
